package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"github.com/wilco-iot/wilco/internal/store/sqlite"
)

// instance is a random name that this server keeps for ever, so that its session
// at an external broker is its own.
func instance(ctx context.Context, db *sqlite.Store) (string, error) {
	id, err := db.Meta(ctx, metaInstance)
	if err != nil || id != nil {
		return string(id), err
	}
	var b [6]byte
	rand.Read(b[:])
	id = []byte(hex.EncodeToString(b[:]))
	return string(id), db.SetMeta(ctx, metaInstance, id, nil)
}

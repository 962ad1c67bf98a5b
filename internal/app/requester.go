package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/service"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
)

// requester is the engine as the service wants it.
type requester struct{ *engine.Engine }

// Create implements service.Engine.
func (r requester) Create(ctx context.Context, reqs []service.Request) ([]service.Created, error) {
	in := make([]engine.Request, len(reqs))
	for i, q := range reqs {
		in[i] = engine.Request(q)
	}
	made, err := r.Engine.Create(ctx, in)
	if err != nil {
		return nil, err
	}
	out := make([]service.Created, len(made))
	for i, c := range made {
		out[i] = service.Created(c)
	}
	return out, nil
}

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

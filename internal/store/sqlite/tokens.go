package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"time"
)

// oldToken is a token as a document has it, of what the table of tokens knew. Stored;
// never change.
type oldToken struct {
	ID      string     `json:"id"`
	Hash    []byte     `json:"hash"`
	Name    string     `json:"name"`
	Grants  []oldGrant `json:"grants"`
	Created time.Time  `json:"created"`
	Expires time.Time  `json:"expires,omitzero"`
}

type oldGrant struct {
	Role   string   `json:"role"`
	Groups []string `json:"groups,omitempty"`
}

// moveTokens makes documents of the rows that the first versions kept tokens in. Those
// that have one already keep it: they were moved by a version that left the table.
func moveTokens(c *conn) error {
	var old []oldToken
	err := c.query(context.Background(), func(v []driver.Value) error {
		t := oldToken{ID: v[0].(string), Name: v[2].(string), Grants: []oldGrant{{Role: v[3].(string)}}, Created: instant(v[5]), Expires: instant(v[6])}
		t.Hash, _ = v[1].([]byte)
		if group := v[4].(string); group != "" {
			t.Grants[0].Groups = []string{group}
		}
		old = append(old, t)
		return nil
	}, "SELECT id, hash, name, role, grp, created, expires FROM tokens")
	for i := range old {
		body, failed := json.Marshal(&old[i])
		if failed == nil {
			_, failed = c.exec("INSERT INTO documents (kind, key, version, body) VALUES ('token', ?, 1, ?) ON CONFLICT DO NOTHING", []byte(old[i].ID), body)
		}
		err = errors.Join(err, failed)
	}
	return err
}

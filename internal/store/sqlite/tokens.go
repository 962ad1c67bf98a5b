package sqlite

import (
	"bytes"
	"context"
	"database/sql/driver"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
)

const tokenColumns = "id, hash, name, role, grp, created, expires"

// PutToken keeps a new token. Its ID must be new: Exists.
func (s *Store) PutToken(ctx context.Context, x store.Token) error {
	x.Hash = bytes.Clone(x.Hash)
	_, err := s.submit(ctx, change(func(t *tx) error {
		n, err := t.exec("INSERT INTO tokens ("+tokenColumns+") VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
			x.ID, x.Hash, x.Name, x.Role, x.Group, millis(x.Created), millis(x.Expires))
		if err == nil && n == 0 {
			err = refusal{fault.New(fault.Exists, "a token with this ID exists already")}
		}
		return err
	}))
	return err
}

// Token gives the token with that ID, or NotFound.
func (s *Store) Token(ctx context.Context, id string) (x store.Token, err error) {
	var found bool
	err = s.read(ctx, func(c *conn) error {
		found, err = c.one(ctx, func(v []driver.Value) error {
			x = scanToken(v)
			return nil
		}, "SELECT "+tokenColumns+" FROM tokens WHERE id = ?", id)
		return err
	})
	if err == nil && !found {
		err = fault.New(fault.NotFound, "there is no such token")
	}
	return x, err
}

// Tokens gives all tokens, the oldest first.
func (s *Store) Tokens(ctx context.Context) (list []store.Token, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.query(ctx, func(v []driver.Value) error {
			list = append(list, scanToken(v))
			return nil
		}, "SELECT "+tokenColumns+" FROM tokens ORDER BY created, id")
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// RemoveToken forgets a token, or answers NotFound.
func (s *Store) RemoveToken(ctx context.Context, id string) error {
	_, err := s.submit(ctx, change(func(t *tx) error {
		n, err := t.exec("DELETE FROM tokens WHERE id = ?", id)
		if err == nil && n == 0 {
			err = refusal{fault.New(fault.NotFound, "there is no such token")}
		}
		return err
	}))
	return err
}

func scanToken(v []driver.Value) store.Token {
	hash, _ := v[1].([]byte)
	return store.Token{ID: v[0].(string), Hash: hash, Name: v[2].(string), Role: v[3].(string), Group: v[4].(string),
		Created: instant(v[5]), Expires: instant(v[6])}
}

// Meta gives the value under a key; nil, without an error, when there is none.
// A value that is there is never nil.
func (s *Store) Meta(ctx context.Context, key string) (value []byte, err error) {
	err = s.read(ctx, func(c *conn) error {
		value, err = meta(ctx, c, key)
		return err
	})
	return value, err
}

func meta(ctx context.Context, c *conn, key string) (value []byte, err error) {
	_, err = c.one(ctx, func(v []driver.Value) error {
		value = []byte{} // the driver gives nil for a blob of no bytes
		if b, ok := v[0].([]byte); ok && b != nil {
			value = b
		}
		return nil
	}, "SELECT value FROM meta WHERE key = ?", key)
	return value, err
}

// SetMeta puts value under key in place of was; a nil was means that there must
// be none, a nil value takes it away. Another value than was is a Conflict.
func (s *Store) SetMeta(ctx context.Context, key string, value, was []byte) error {
	value = bytes.Clone(value) // the caller may have stopped waiting and use its slice again
	was = bytes.Clone(was)
	_, err := s.submit(ctx, change(func(t *tx) error {
		now, err := meta(context.Background(), t.conn, key)
		if err != nil {
			return err
		}
		if (now == nil) != (was == nil) || !bytes.Equal(now, was) {
			return refusal{fault.New(fault.Conflict, "the value of %s has been changed meanwhile", key)}
		}
		if value == nil {
			_, err = t.exec("DELETE FROM meta WHERE key = ?", key)
			return err
		}
		_, err = t.exec("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", key, value)
		return err
	}))
	return err
}

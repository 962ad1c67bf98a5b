package sqlite

import (
	"bytes"
	"context"
	"database/sql/driver"

	"github.com/wilco-iot/wilco/internal/fault"
)

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

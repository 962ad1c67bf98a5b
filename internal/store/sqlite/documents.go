package sqlite

import (
	"context"
	"database/sql/driver"
	"slices"

	codes "modernc.org/sqlite/lib"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
)

// Document gives the document of that name, or NotFound.
func (s *Store) Document(ctx context.Context, id store.DocumentID) (d store.Document, err error) {
	var found bool
	err = s.read(ctx, func(c *conn) error {
		found, err = c.one(ctx, func(v []driver.Value) error {
			d = document(id.Kind, v)
			return nil
		}, "SELECT key, version, body FROM documents WHERE kind = ? AND key = ?", string(id.Kind), []byte(id.Key))
		return err
	})
	if err == nil && !found {
		err = fault.New(fault.NotFound, "there is no %s", id)
	}
	return d, err
}

// Documents gives up to limit documents of a kind whose keys begin with prefix
// and stand after the key after, in the order of their keys. Limit is 1 to 1000;
// 0 means 100.
func (s *Store) Documents(ctx context.Context, kind store.Kind, prefix, after string, limit int) (list []store.Document, err error) {
	limit, err = pageLimit(limit)
	if err != nil {
		return nil, err
	}
	sql := "SELECT key, version, body FROM documents WHERE kind = ? AND key >= ? AND key > ?"
	args := []driver.Value{string(kind), []byte(prefix), []byte(after)}
	if end, bounded := prefixEnd(prefix); bounded {
		sql += " AND key < ?"
		args = append(args, []byte(end))
	}
	err = s.read(ctx, func(c *conn) error {
		return c.query(ctx, func(v []driver.Value) error {
			list = append(list, document(kind, v))
			return nil
		}, sql+" ORDER BY key LIMIT ?", append(args, int64(limit))...)
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func document(kind store.Kind, v []driver.Value) store.Document {
	body, _ := v[2].([]byte)
	if body == nil {
		body = []byte{} // the driver gives nil for a blob of no bytes
	}
	return store.Document{DocumentID: store.DocumentID{Kind: kind, Key: string(v[0].([]byte))}, Version: v[1].(int64), Body: body}
}

// prefixEnd is the first key after all those that begin with prefix; there is none
// for an empty one, nor for one of bytes 0xff alone.
func prefixEnd(prefix string) (end string, bounded bool) {
	b := []byte(prefix)
	for len(b) > 0 && b[len(b)-1] == 0xff {
		b = b[:len(b)-1]
	}
	if len(b) == 0 {
		return "", false
	}
	b[len(b)-1]++
	return string(b), true
}

// putDocument writes one document in place of the version that it expects.
func (t *tx) putDocument(w *store.DocumentWrite) error {
	kind, key := string(w.Kind), []byte(w.Key)
	var n int64
	var err error
	switch {
	case w.Body == nil && w.Was == 0:
		if !t.careful {
			return errSurprise
		}
		return nil // it must not be there, and is not: compare has seen to that
	case w.Body == nil:
		n, err = t.exec("DELETE FROM documents WHERE kind = ? AND key = ? AND version = ?", kind, key, w.Was)
	case w.Was == 0:
		n, err = t.exec("INSERT INTO documents (kind, key, version, body) VALUES (?, ?, 1, ?)", kind, key, w.Body)
		if isCode(err, codes.SQLITE_CONSTRAINT) && !t.careful {
			return errSurprise
		}
	default:
		n, err = t.exec("UPDATE documents SET version = version + 1, body = ? WHERE kind = ? AND key = ? AND version = ?", w.Body, kind, key, w.Was)
	}
	if err == nil && n == 0 {
		err = errSurprise
	}
	return err
}

// compareDocuments gives those that are not at the version that the batch
// expects. A write sees what those before it in the batch will have written.
func (b *batch) compareDocuments(t *tx) (culprits []store.DocumentID, err error) {
	versions := make(map[store.DocumentID]int64, len(b.documents))
	for i := range b.documents {
		w := &b.documents[i]
		version, known := versions[w.DocumentID]
		if !known {
			version, err = t.number(context.Background(), "SELECT version FROM documents WHERE kind = ? AND key = ?", string(w.Kind), []byte(w.Key))
			if err != nil {
				return nil, err
			}
		}
		switch {
		case version != w.Was:
			if !slices.Contains(culprits, w.DocumentID) {
				culprits = append(culprits, w.DocumentID)
			}
		case w.Body == nil:
			version = 0
		default:
			version++
		}
		versions[w.DocumentID] = version
	}
	return culprits, nil
}

// copyDocuments makes the writes independent of their caller, and refuses keys
// that cannot be.
func copyDocuments(list []store.DocumentWrite) ([]store.DocumentWrite, error) {
	list = slices.Clone(list)
	for i := range list {
		w := &list[i]
		if n := len(w.Key); n == 0 || n > store.MaxKey {
			return nil, fault.Field("key", "of a %s must be 1 to %d bytes", w.Kind, store.MaxKey)
		}
		if w.Body != nil {
			w.Body = append([]byte{}, w.Body...)
		}
	}
	return list, nil
}

package pebblestore

import (
	"encoding/binary"
	"io"

	"github.com/cockroachdb/pebble/v2"
)

// The values under keyMessage: a message with the number of entries that need
// it, or how many have gone since. Stored; never change.
const (
	refsMessage = 1
	refsGone    = 2
	refsHead    = 5 // kind, and the number in four bytes
)

func appendRefs(b []byte, kind byte, n int) []byte {
	return binary.BigEndian.AppendUint32(append(b, kind), uint32(n))
}

// merger takes what has gone off the number of a message, and lets Pebble drop
// the message at zero. Stored by name; never change.
var merger = &pebble.Merger{
	Name: "wilco.refs.1",
	Merge: func(_, value []byte) (pebble.ValueMerger, error) {
		m := &refs{}
		return m, m.add(value)
	},
}

// refs is the merge of some values of one key. The order does not matter.
type refs struct {
	message []byte
	has     bool
	needed  int64
	gone    int64
}

func (m *refs) add(v []byte) error {
	if len(v) < refsHead {
		return errMalformed
	}
	n := int64(binary.BigEndian.Uint32(v[1:]))
	switch v[0] {
	case refsMessage:
		m.has, m.needed = true, n
		m.message = append(m.message[:0], v[refsHead:]...)
	case refsGone:
		m.gone += n
	default:
		return errMalformed
	}
	return nil
}

func (m *refs) MergeNewer(v []byte) error { return m.add(v) }
func (m *refs) MergeOlder(v []byte) error { return m.add(v) }

func (m *refs) Finish(bool) ([]byte, io.Closer, error) {
	if !m.has {
		return appendRefs(nil, refsGone, int(m.gone)), nil, nil
	}
	b := make([]byte, 0, refsHead+len(m.message))
	b = appendRefs(b, refsMessage, int(max(0, m.needed-m.gone)))
	return append(b, m.message...), nil, nil
}

// DeletableFinish is Finish where the value may go: nobody needs it.
func (m *refs) DeletableFinish(includesBase bool) ([]byte, bool, io.Closer, error) {
	if includesBase && (!m.has || m.gone >= m.needed) {
		return nil, true, nil, nil
	}
	v, c, err := m.Finish(includesBase)
	return v, false, c, err
}

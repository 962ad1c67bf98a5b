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

// merger takes what has gone off the number of a message, and drops the message
// at zero. Stored by name; never change.
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

// Finish leaves of a message that nobody needs only the mark. It does not ask
// for the key to be dropped, which Pebble could do, were it not for
// https://github.com/cockroachdb/pebble/issues/6168: its compactions panic. What
// is left goes with the messages that are older than all queues.
func (m *refs) Finish(bool) ([]byte, io.Closer, error) {
	if !m.has || m.gone >= m.needed {
		return appendRefs(nil, refsGone, int(m.gone)), nil, nil
	}
	b := make([]byte, 0, refsHead+len(m.message))
	b = appendRefs(b, refsMessage, int(m.needed-m.gone))
	return append(b, m.message...), nil, nil
}

package sparkplug

// Header is what can be known of a payload without reading its metrics.
type Header struct {
	Timestamp    uint64 // milliseconds since 1970, UTC
	Seq          uint64
	HasTimestamp bool
	HasSeq       bool
	Compressed   bool // Timestamp and Seq may be within the body only: see Inflater
}

// Peek reads the fields of b that stand beside the metrics, which it passes
// over unread. A message that Peek accepts may still be refused by Decode. It
// does not allocate. The errors are of Code Malformed and Truncated.
func Peek(b []byte) (Header, error) {
	var h Header
	var d decoder
	for i := 0; i < len(b); {
		var tag uint64
		var uuid []byte
		tag, i = d.uvarint(b, i)
		switch tag {
		case 1<<3 | varint:
			h.Timestamp, i = d.uvarint(b, i)
			h.HasTimestamp = true
		case 2<<3 | block:
			_, i = d.bytes(b, i)
		case 3<<3 | varint:
			h.Seq, i = d.uvarint(b, i)
			h.HasSeq = true
		case 4<<3 | block:
			uuid, i = d.bytes(b, i)
			h.Compressed = string(uuid) == CompressedUUID
		default:
			i = d.skip(tag, b, i)
		}
		if d.err != nil {
			return Header{}, d.err
		}
	}
	return h, nil
}

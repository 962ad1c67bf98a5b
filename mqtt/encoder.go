package mqtt

import (
	"encoding/binary"
	"slices"
)

// maxRemaining is the largest Remaining Length that four bytes can say.
const maxRemaining = 268_435_455

// encoder runs over a packet's fields twice with the same code: first it
// checks and counts them, then, after begin, it writes into a buffer that has
// grown once to the exact size.
type encoder struct {
	v       Version
	writing bool
	dst     []byte
	n       int    // bytes counted
	mark    int    // n where the open property list began
	sizes   [2]int // lengths of the property lists, in their order
	list    int    // the next property list
	err     *Error
}

func (e *encoder) fail(err *Error) {
	if e.err == nil {
		e.err = err
	}
}

// begin ends the counting and writes the fixed header. It says false when the
// packet is refused; then dst is as it was.
func (e *encoder) begin(dst []byte, t Type, flags byte) bool {
	e.dst = dst
	if e.v != V5 && e.v != V311 {
		e.fail(&Error{UnsupportedProtocolVersion, "protocol version not known"})
	}
	if e.n > maxRemaining {
		e.fail(&Error{PacketTooLarge, "packet longer than the protocol allows"})
	}
	if e.err != nil {
		return false
	}
	e.writing = true
	e.list = 0
	e.dst = slices.Grow(dst, 1+varintSize(e.n)+e.n)
	e.dst = append(e.dst, byte(t)<<4|flags)
	e.dst = appendVarint(e.dst, e.n)
	return true
}

// result is what Append returns.
func (e *encoder) result() ([]byte, error) {
	if e.err != nil {
		return e.dst, e.err
	}
	return e.dst, nil
}

func (e *encoder) u8(v byte) {
	if !e.writing {
		e.n++
		return
	}
	e.dst = append(e.dst, v)
}

func (e *encoder) u16(v uint16) {
	if !e.writing {
		e.n += 2
		return
	}
	e.dst = binary.BigEndian.AppendUint16(e.dst, v)
}

func (e *encoder) u32(v uint32) {
	if !e.writing {
		e.n += 4
		return
	}
	e.dst = binary.BigEndian.AppendUint32(e.dst, v)
}

func (e *encoder) varint(v int) {
	if !e.writing {
		e.n += varintSize(v)
		return
	}
	e.dst = appendVarint(e.dst, v)
}

// packetID writes a packet identifier, which is never zero [MQTT-2.2.1-3]
// [MQTT-2.2.1-4] [MQTT-2.3.1-1 v3.1.1].
func (e *encoder) packetID(id uint16) {
	if id == 0 {
		e.fail(protocolError("packet identifier 0"))
	}
	e.u16(id)
}

func (e *encoder) bytes(what string, b []byte) {
	if !e.writing {
		e.n += 2 + len(b)
		if len(b) > maxText {
			e.fail(malformed(what + ": longer than 65,535 bytes"))
		}
		return
	}
	e.dst = binary.BigEndian.AppendUint16(e.dst, uint16(len(b)))
	e.dst = append(e.dst, b...)
}

func (e *encoder) string(what, s string) {
	if !e.writing {
		e.n += 2 + len(s)
		if len(s) > maxText {
			e.fail(malformed(what + ": longer than 65,535 bytes"))
		} else if !validText([]byte(s)) {
			e.fail(malformed(what + ": not UTF-8 without NUL"))
		}
		return
	}
	e.dst = binary.BigEndian.AppendUint16(e.dst, uint16(len(s)))
	e.dst = append(e.dst, s...)
}

// reason writes a code that packets of type t list.
func (e *encoder) reason(t Type, code ReasonCode) {
	if !code.ListedIn(t) {
		e.fail(protocolError("reason code not listed for this packet"))
	}
	e.u8(byte(code))
}

// openProperties and closeProperties enclose a property list. An empty one is
// announced too [MQTT-2.2.2-1]. 3.1.1 has none, and refuses what is in it.
func (e *encoder) openProperties() {
	if !e.writing {
		e.mark = e.n
		return
	}
	if e.v == V5 {
		e.dst = appendVarint(e.dst, e.sizes[e.list])
		e.list++
	}
}

func (e *encoder) closeProperties() {
	if e.writing {
		return
	}
	size := e.n - e.mark
	if e.v != V5 {
		if size != 0 {
			e.fail(protocolError("MQTT 3.1.1 has no properties"))
		}
		return
	}
	e.sizes[e.list] = size
	e.list++
	e.n += varintSize(size)
}

func (e *encoder) property8(id propertyID, v byte) {
	e.u8(byte(id))
	e.u8(v)
}

func (e *encoder) property16(id propertyID, v uint16) {
	e.u8(byte(id))
	e.u16(v)
}

func (e *encoder) property32(id propertyID, v uint32) {
	e.u8(byte(id))
	e.u32(v)
}

// propertyString leaves out an empty string: that means absent.
func (e *encoder) propertyString(id propertyID, what, s string) {
	if s != "" {
		e.u8(byte(id))
		e.string(what, s)
	}
}

// propertyBytes leaves out nil; an empty slice is a property of no bytes.
func (e *encoder) propertyBytes(id propertyID, what string, b []byte) {
	if b != nil {
		e.u8(byte(id))
		e.bytes(what, b)
	}
}

func (e *encoder) user(list []UserProperty) {
	if len(list) > MaxUserProperties {
		e.fail(&Error{QuotaExceeded, "too many user properties"})
		return
	}
	for _, p := range list {
		e.u8(byte(propUser))
		e.string("user property name", p.Key)
		e.string("user property value", p.Value)
	}
}

// varintSize is the number of bytes of v as variable byte integer.
func varintSize(v int) int {
	switch {
	case v < 1<<7:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<21:
		return 3
	}
	return 4
}

// appendVarint writes v in its shortest form [MQTT-1.5.5-1].
func appendVarint(dst []byte, v int) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

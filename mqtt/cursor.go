package mqtt

import "encoding/binary"

// cursor reads fields off the front of b. The first failure is kept, and
// empties b, so that a decoder may read on and look at err once.
type cursor struct {
	b   []byte
	err *Error
}

func (c *cursor) fail(err *Error) {
	if c.err == nil {
		c.err = err
	}
	c.b = nil
}

func (c *cursor) short(what string) { c.fail(malformed(what + ": packet ends early")) }

// end refuses trailing bytes and gives the outcome as an error value.
func (c *cursor) end() error {
	if c.err == nil && len(c.b) != 0 {
		c.fail(malformed("bytes after the end of the packet"))
	}
	if c.err != nil {
		return c.err
	}
	return nil
}

func (c *cursor) u8(what string) byte {
	if len(c.b) < 1 {
		c.short(what)
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cursor) u16(what string) uint16 {
	if len(c.b) < 2 {
		c.short(what)
		return 0
	}
	v := binary.BigEndian.Uint16(c.b)
	c.b = c.b[2:]
	return v
}

func (c *cursor) u32(what string) uint32 {
	if len(c.b) < 4 {
		c.short(what)
		return 0
	}
	v := binary.BigEndian.Uint32(c.b)
	c.b = c.b[4:]
	return v
}

// packetID reads a packet identifier, which is never zero [MQTT-2.2.1-3]
// [MQTT-2.2.1-4] [MQTT-2.3.1-1 v3.1.1].
func (c *cursor) packetID() uint16 {
	id := c.u16("packet identifier")
	if id == 0 && c.err == nil {
		c.fail(protocolError("packet identifier 0"))
	}
	return id
}

// varint reads a variable byte integer in its shortest form [MQTT-1.5.5-1].
func (c *cursor) varint(what string) int {
	v, n, err := parseVarint(c.b)
	if err != nil {
		c.fail(malformed(what + ": " + err.Text))
		return 0
	}
	if n == 0 {
		c.short(what)
		return 0
	}
	c.b = c.b[n:]
	return v
}

// bytes reads binary data: two bytes of length and that many bytes, borrowed.
func (c *cursor) bytes(what string) []byte {
	if len(c.b) < 2 {
		c.short(what)
		return nil
	}
	end := 2 + int(binary.BigEndian.Uint16(c.b))
	if len(c.b) < end {
		c.short(what)
		return nil
	}
	v := c.b[2:end:end]
	c.b = c.b[end:]
	return v
}

// text reads a UTF-8 string, borrowed.
func (c *cursor) text(what string) []byte {
	v := c.bytes(what)
	if !validText(v) {
		c.fail(malformed(what + ": not UTF-8 without NUL"))
		return nil
	}
	return v
}

func (c *cursor) string(what string) string { return string(c.text(what)) }

// parseVarint decodes the variable byte integer at the start of b. It returns
// 0, 0, nil when b ends before the integer does. A fourth byte that announces
// a fifth is refused at once, and so is any form that is not the shortest
// [MQTT-1.5.5-1]; 3.1.1 leaves the latter open, and one rule serves both.
func parseVarint(b []byte) (v, n int, err *Error) {
	for n < len(b) {
		d := b[n]
		v |= int(d&0x7F) << (7 * n)
		n++
		if d < 0x80 {
			if d == 0 && n > 1 {
				return 0, 0, malformed("variable byte integer not in its shortest form")
			}
			return v, n, nil
		}
		if n == 4 {
			return 0, 0, malformed("variable byte integer longer than 4 bytes")
		}
	}
	return 0, 0, nil
}

package mqtt

// maxHeader is the longest fixed header: a byte and four of length.
const maxHeader = 5

// MaxPacket is the size of the largest packet the protocol can carry, fixed
// header included.
const MaxPacket = maxHeader + maxRemaining

// ParseHeader reads the fixed header at the start of b. n is its size; 0 with
// a nil error means that b ends before the header does. The body follows with
// h.Length bytes, whether b has them or not.
//
// max is the largest packet allowed in bytes, fixed header included, as in
// Maximum Packet Size; 0 means MaxPacket. A larger one is refused with
// PacketTooLarge. Everything else that is refused is MalformedPacket: a length
// of five bytes or not in its shortest form, type 0 and wrong flags, these as
// soon as the first byte is there.
func ParseHeader(b []byte, max int) (h Header, n int, err error) {
	if len(b) == 0 {
		return Header{}, 0, nil
	}
	h.Type, h.Flags = Type(b[0]>>4), b[0]&0x0F
	if err := checkHeader(h.Type, h.Flags); err != nil {
		return Header{}, 0, err
	}
	if len(b) > 1 && b[1] < 0x80 {
		h.Length, n = int(b[1]), 1
	} else {
		length, size, err := parseVarint(b[1:])
		if err != nil {
			return Header{}, 0, &Error{err.Code, "remaining length: " + err.Text}
		}
		if size == 0 {
			return Header{}, 0, nil
		}
		h.Length, n = length, size
	}
	n++
	if max > 0 && n+h.Length > max { // [MQTT-3.1.2-24] [MQTT-3.2.2-15]
		return Header{}, 0, &Error{PacketTooLarge, "packet larger than allowed"}
	}
	return h, n, nil
}

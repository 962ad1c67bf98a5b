package mqtt

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// maxText is the longest string or binary field that two length bytes can
// announce [MQTT-4.7.3-3].
const maxText = 65535

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// validText tells whether b is UTF-8 without surrogates and overlong forms
// [MQTT-1.5.4-1] and without NUL [MQTT-1.5.4-2]. Every other character is
// taken as it is: U+FEFF is kept [MQTT-1.5.4-3], and so are control characters
// and non-characters, in all fields alike.
func validText(b []byte) bool {
	for len(b) >= 8 {
		// Eight ASCII bytes at a time. A byte is suspect when its high bit is
		// set or when subtracting one borrows, which for ASCII means zero.
		w := binary.LittleEndian.Uint64(b)
		if (w|(w-lowBits))&highBits != 0 {
			return validTextSlow(b)
		}
		b = b[8:]
	}
	for i, c := range b {
		if c >= utf8.RuneSelf {
			return validTextSlow(b[i:])
		}
		if c == 0 {
			return false
		}
	}
	return true
}

func validTextSlow(b []byte) bool {
	return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0
}

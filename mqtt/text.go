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
// [MQTT-1.5.4-1] [MQTT-1.5.3-1 v3.1.1] and without NUL [MQTT-1.5.4-2]
// [MQTT-1.5.3-2 v3.1.1]. Every other character is
// taken as it is: U+FEFF is kept [MQTT-1.5.4-3] [MQTT-1.5.3-3 v3.1.1],
// and so are control characters
// and non-characters, in all fields alike.
func validText(b []byte) bool {
	if len(b) < 8 {
		for _, c := range b {
			if c == 0 || c >= utf8.RuneSelf {
				return validTextSlow(b)
			}
		}
		return true
	}
	// Eight ASCII bytes at a time, the last eight perhaps partly again. A byte
	// is suspect when its high bit is set, or when subtracting one borrows,
	// which in ASCII only NUL does.
	for i := 0; ; i += 8 {
		i = min(i, len(b)-8)
		w := binary.LittleEndian.Uint64(b[i:])
		if (w|(w-lowBits))&highBits != 0 {
			return validTextSlow(b)
		}
		if i == len(b)-8 {
			return true
		}
	}
}

func validTextSlow(b []byte) bool {
	return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0
}

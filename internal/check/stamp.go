package check

import (
	"hash/crc32"
	"strconv"
	"strings"
)

// stampStart begins every payload of the tester.
const stampStart = "wilco-check "

// appendStamp writes the payload of a message: who sent it in which run, its
// number, padding, and a checksum over all of it and the topic.
func appendStamp(dst []byte, run string, k Key, topic string, pad int) []byte {
	start := len(dst)
	dst = append(dst, stampStart...)
	dst = append(dst, run...)
	dst = append(dst, ' ')
	dst = append(dst, k.Pub...)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(k.N), 10)
	dst = append(dst, ' ')
	for range pad {
		dst = append(dst, '.')
	}
	dst = append(dst, ' ')
	sum := crc32.Update(crc32.ChecksumIEEE(dst[start:]), crc32.IEEETable, []byte(topic))
	return strconv.AppendUint(dst, uint64(sum), 16)
}

// parseStamp reads a payload. foreign: not a message of this run; corrupt: one
// that was changed.
func parseStamp(payload []byte, run, topic string) (k Key, foreign, corrupt bool) {
	s := string(payload)
	end := strings.LastIndexByte(s, ' ')
	fields := strings.Split(s, " ")
	if len(fields) != 6 || !strings.HasPrefix(s, stampStart) {
		return Key{}, false, true
	}
	sum := crc32.Update(crc32.ChecksumIEEE(payload[:end+1]), crc32.IEEETable, []byte(topic))
	n, err := strconv.Atoi(fields[3])
	if err != nil || fields[5] != strconv.FormatUint(uint64(sum), 16) {
		return Key{}, false, true
	}
	if fields[1] != run {
		return Key{}, true, false
	}
	return Key{fields[2], n}, false, false
}

package device

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// A journal file is the magic line and then frames, one for each Append:
//
//	length  uint32, little endian, of the payload
//	crc     uint32, little endian, CRC-32C of the length and the payload
//	payload records, each after its length as uvarint
//
// and then zeros that were allocated ahead. A frame is one Append, so a crash
// leaves it whole or not at all; and a frame is written only when the one before
// it is durable, so a broken frame that is followed by a whole one cannot come
// from a crash: the medium has changed it.
const (
	magic      = "wilco journal 1\n"
	headerSize = 8
	maxPayload = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendFrame appends the frame of some records.
func appendFrame(dst []byte, records [][]byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, headerSize)...)
	for _, r := range records {
		dst = binary.AppendUvarint(dst, uint64(len(r)))
		dst = append(dst, r...)
	}
	header, payload := dst[start:start+headerSize], dst[start+headerSize:]
	binary.LittleEndian.PutUint32(header, uint32(len(payload)))
	binary.LittleEndian.PutUint32(header[4:], checksum(header[:4], payload))
	return dst
}

func checksum(length, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(length, castagnoli), castagnoli, payload)
}

// frameAt returns the payload of the frame that b begins with, if it is whole.
func frameAt(b []byte) (payload []byte, ok bool) {
	if len(b) < headerSize {
		return nil, false
	}
	n := int64(binary.LittleEndian.Uint32(b))
	if n == 0 || n > maxPayload || n > int64(len(b)-headerSize) {
		return nil, false
	}
	payload = b[headerSize : headerSize+n]
	return payload, checksum(b[:4], payload) == binary.LittleEndian.Uint32(b[4:])
}

// splitPayload takes the records of a payload apart.
func splitPayload(payload []byte) (records [][]byte, ok bool) {
	for len(payload) > 0 {
		n, used := binary.Uvarint(payload)
		if used <= 0 || n > uint64(len(payload)-used) {
			return nil, false
		}
		records = append(records, payload[used:used+int(n)])
		payload = payload[used+int(n):]
	}
	return records, true
}

// scanned is what is found in a journal file.
type scanned struct {
	records [][]byte
	end     int // where the next frame belongs
	// damage is set when whole frames were lost: the offset of the first byte
	// that is not as it was written, and what was seen there.
	damaged bool
	offset  int
	text    string
}

// scanFile reads a journal file. With salvage it goes on behind damage, where
// the next whole frame begins.
func scanFile(b []byte, salvage bool) scanned {
	var s scanned
	if len(b) < len(magic) || string(b[:len(magic)]) != magic {
		s.damage(0, "it does not begin like a journal")
		if !salvage {
			return s
		}
	}
	s.end = min(len(magic), len(b))
	for s.end < len(b) {
		payload, ok := frameAt(b[s.end:])
		if ok {
			var records [][]byte
			if records, ok = splitPayload(payload); ok {
				s.records = append(s.records, records...)
				s.end += headerSize + len(payload)
				continue
			}
		}
		rest := b[s.end:]
		next := nextFrame(rest)
		switch {
		case next > 0:
			s.damage(s.end, "a broken frame is followed by a whole one")
		case flipped(rest):
			s.damage(s.end, "one bit of the last frame has changed")
			return s
		default: // nothing, zeros allocated ahead, or a write that a crash cut short
			return s
		}
		if !salvage {
			return s
		}
		s.end += next
	}
	return s
}

func (s *scanned) damage(offset int, text string) {
	if !s.damaged {
		s.damaged, s.offset, s.text = true, offset, text
	}
}

// nextFrame returns where in b, after its first byte, a whole frame begins, or
// 0. It cannot be deceived by what is in a record: a record is JSON, whose bytes
// are all above 31, and a length of such bytes is above maxPayload.
func nextFrame(b []byte) int {
	for i := 1; i+headerSize < len(b); i++ {
		if _, ok := frameAt(b[i:]); ok {
			return i
		}
	}
	return 0
}

// flipped tells whether b would begin with a whole frame if one bit of it were
// another. A crash does not do that, so the frame was whole, and may have been
// acted upon.
func flipped(b []byte) bool {
	if len(b) < headerSize {
		return false
	}
	var header [headerSize]byte
	copy(header[:], b)
	length := binary.LittleEndian.Uint32(header[:])
	for k := range 32 { // in the length
		n := int64(length ^ 1<<k)
		if n == 0 || n > maxPayload || n > int64(len(b)-headerSize) {
			continue
		}
		binary.LittleEndian.PutUint32(header[:], uint32(n))
		if checksum(header[:4], b[headerSize:headerSize+n]) == binary.LittleEndian.Uint32(header[4:]) {
			return true
		}
	}
	n := int64(length)
	if n == 0 || n > maxPayload || n > int64(len(b)-headerSize) {
		return false
	}
	difference := checksum(b[:4], b[headerSize:headerSize+n]) ^ binary.LittleEndian.Uint32(b[4:])
	return bits.OnesCount32(difference) == 1 || flippedIn(int(n), difference)
}

// flippedIn tells whether a payload of n bytes in which one bit changed would
// have its checksum changed by difference. CRC is linear, so the change depends
// only on the place: it is the remainder of that bit, shifted by the bytes after
// it.
func flippedIn(n int, difference uint32) bool {
	var effect [8]uint32 // of each bit in the byte looked at, from the last to the first
	for j := range effect {
		effect[j] = castagnoli[1<<j]
	}
	for range n {
		for j, e := range effect {
			if e == difference {
				return true
			}
			effect[j] = castagnoli[byte(e)] ^ e>>8
		}
	}
	return false
}

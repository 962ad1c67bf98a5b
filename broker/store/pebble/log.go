package pebblestore

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// Pebble's log, as far as it has to be known here: chunks in blocks, none
// across two, each with checksum, length, kind, the number of the log, and the
// offset up to which the log was synced when the chunk was written.
const (
	blockSize   = 32 << 10
	headerSize  = 19
	endSize     = 11 // of the mark of a clean end: checksum, length, kind, number of the log and one
	chunkOld    = 5  // kinds: the first and last of the format without offsets
	chunkOldEnd = 8
	chunkFull   = 9 // of a record in one chunk; first, middle and last of one in several
	chunkFirst  = 10
	chunkMiddle = 11
	chunkLast   = 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// logContent is what can be read of a log.
type logContent struct {
	records []logRecord
	holes   []hole
	clean   bool // it was brought to an end in good order
	// From torn on, where nothing is known to have been synced, tornSize bytes
	// look like a write that never came to its end; 0 when nothing does.
	torn, tornSize int
}

// logRecord is one batch, in Pebble's own form, with its place.
type logRecord struct {
	from, to int
	batch    []byte
}

// hole is a place that was whole once, and is not: what was in it is lost.
type hole struct {
	from, to int
	before   int // records before it
}

// piece is a chunk, or with kind 0 what is not one.
type piece struct {
	from, to int
	kind     byte
}

// readLog reads a log in which parts may be damaged. closed says that a younger
// log exists, so that this one had come to a clean end.
//
// Chunks that are not valid are passed over, by their length when something
// valid follows there, and to the next block otherwise: what a length cannot
// vouch for is never searched for chunks, since a payload may look like one.
// Whether that is damage, or only where the machine died while writing, shows
// by what was written later: chunks say how far the log was synced, and a record
// begins only when the one before is. Nothing is acknowledged before that.
func readLog(b []byte, number uint32, closed bool) logContent {
	var c logContent
	pieces, synced := c.walk(b, number)
	if c.clean || closed {
		for _, p := range pieces {
			if p.kind != 0 {
				synced = max(synced, p.to)
			}
		}
		if c.clean && len(pieces) > 0 {
			synced = max(synced, pieces[len(pieces)-1].to)
		}
	}
	kept := len(pieces)
	for i, p := range pieces {
		if p.kind == 0 && p.from >= synced {
			kept = i
			break
		}
	}
	c.assemble(b, pieces[:kept], c.clean || closed)
	if kept < len(pieces) {
		c.tear(b, pieces[kept:], number, closed)
	}
	return c
}

// walk divides a log into pieces, up to its clean end or that of the file.
// synced is how far the log says that it was synced.
func (c *logContent) walk(b []byte, number uint32) (pieces []piece, synced int) {
	for at := 0; at < len(b); {
		left := min(blockSize-at%blockSize, len(b)-at)
		if left < headerSize && at+left < len(b) {
			at += left // too little for a chunk
			continue
		}
		if isEnd(b[at:], number) {
			c.clean = true
			return pieces, synced
		}
		if n, promised, ok := chunk(b, at, number); ok {
			pieces = append(pieces, piece{at, at + n, b[at+6]})
			synced = max(synced, int(min(promised, uint64(len(b)))))
			if b[at+6] == chunkFull || b[at+6] == chunkFirst {
				synced = max(synced, at) // the committer waits for one sync before the next record
			}
			at += n
			continue
		}
		next := at + left
		if n := headerSize + lengthAt(b, at); n < left {
			if _, _, ok := chunk(b, at+n, number); ok || isEnd(b[at+n:], number) {
				next = at + n
			}
		}
		if next == at+left && bytes.Contains(b[at:next], endMark(number)) {
			c.clean = true
			return append(pieces, piece{from: at, to: next}), synced
		}
		pieces = append(pieces, piece{from: at, to: next})
		at = next
	}
	return pieces, synced
}

// assemble makes records of pieces. A record of which a chunk is not there is
// part of the hole; the last one may be torn, unless the log has ended.
func (c *logContent) assemble(b []byte, pieces []piece, ended bool) {
	var record []byte
	from, open := 0, false
	for _, p := range pieces {
		first, last := p.kind == chunkFull || p.kind == chunkFirst, p.kind == chunkFull || p.kind == chunkLast
		if open && (p.kind == 0 || first) { // the rest of the record is not there
			c.lose(from, p.from)
			open = false
		}
		switch {
		case p.kind == 0, !first && !open:
			c.lose(p.from, p.to)
			continue
		case first:
			record, from, open = nil, p.from, true
		}
		if part := b[p.from+headerSize : p.to]; p.kind == chunkFull {
			record = part
		} else {
			record = append(record, part...)
		}
		if last {
			c.records = append(c.records, logRecord{from, p.to, record})
			open = false
		}
	}
	switch {
	case open && ended:
		c.lose(from, pieces[len(pieces)-1].to)
	case open:
		c.torn, c.tornSize = from, pieces[len(pieces)-1].to-from
	}
}

// lose makes a hole, or the last one larger when no record is between.
func (c *logContent) lose(from, to int) {
	if n := len(c.holes); n > 0 && c.holes[n-1].before == len(c.records) {
		c.holes[n-1].to = to
		return
	}
	c.holes = append(c.holes, hole{from, to, len(c.records)})
}

// tear looks at what follows the last that is known to be synced. Where the log
// just ends there are zeros, or what an older log has left in a file that is
// used again.
func (c *logContent) tear(b []byte, pieces []piece, number uint32, closed bool) {
	at, end := pieces[0].from, 0
	for _, p := range pieces {
		if p.kind != 0 {
			end = p.to
		}
	}
	head := b[at:min(at+headerSize, len(b))]
	ours := len(head) >= endSize && binary.LittleEndian.Uint32(head[7:]) == number && head[6] >= chunkFull && head[6] <= chunkLast
	cut := len(head) < headerSize && len(bytes.Trim(head, "\x00")) > 0
	if ours || cut {
		end = max(end, min(at+headerSize+lengthAt(b, at), len(b)))
	}
	switch {
	case closed && (ours || cut): // its end was whole once
		c.lose(at, end)
	case end > 0 && c.tornSize > 0:
		c.tornSize = end - c.torn
	case end > 0:
		c.torn, c.tornSize = at, end-at
	}
}

// chunk reads the chunk at a place: its length, and what it says is synced.
func chunk(b []byte, at int, number uint32) (n int, synced uint64, ok bool) {
	if at+headerSize > len(b) {
		return 0, 0, false
	}
	if kind := b[at+6]; kind < chunkFull || kind > chunkLast || binary.LittleEndian.Uint32(b[at+7:]) != number {
		return 0, 0, false
	}
	n = headerSize + lengthAt(b, at)
	if at+n > len(b) || at%blockSize+n > blockSize {
		return 0, 0, false
	}
	return n, binary.LittleEndian.Uint64(b[at+11:]), checksum(b[at+6:at+n]) == binary.LittleEndian.Uint32(b[at:])
}

// lengthAt is what the chunk at a place says of its length, without its header.
func lengthAt(b []byte, at int) int {
	if at+6 > len(b) {
		return 0
	}
	return int(binary.LittleEndian.Uint16(b[at+4:]))
}

func checksum(b []byte) uint32 {
	sum := crc32.Checksum(b, castagnoli)
	return (sum>>15 | sum<<17) + 0xa282ead8
}

// endMark is what a log ends with in good order.
func endMark(number uint32) []byte {
	b := make([]byte, endSize)
	b[6] = chunkOld
	binary.LittleEndian.PutUint32(b[7:], number+1)
	return b
}

func isEnd(b []byte, number uint32) bool {
	return bytes.HasPrefix(b, endMark(number))
}

// isOld tells whether a log is of the format without offsets: the very first
// one of a directory is, see load.
func isOld(b []byte) bool {
	if len(b) < endSize || b[6] < chunkOld || b[6] > chunkOldEnd {
		return false
	}
	n := endSize + lengthAt(b, 0)
	return n <= min(len(b), blockSize) && checksum(b[6:n]) == binary.LittleEndian.Uint32(b)
}

// writeLog makes a log of records, with a clean end.
func writeLog(records []logRecord, number uint32) []byte {
	var b []byte
	for _, r := range records {
		for rest, first := r.batch, true; first || len(rest) > 0; first = false {
			n := min(len(rest), blockSize-len(b)%blockSize-headerSize)
			kind := byte(chunkMiddle)
			switch last := n == len(rest); {
			case first && last:
				kind = chunkFull
			case first:
				kind = chunkFirst
			case last:
				kind = chunkLast
			}
			b = appendChunk(b, kind, number, rest[:n])
			rest = rest[n:]
		}
	}
	return append(b, endMark(number)...)
}

// appendChunk writes one chunk, and fills up a block that has no room for
// another. All before it counts as synced: the log is used when all of it is.
func appendChunk(b []byte, kind byte, number uint32, part []byte) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(part)))
	b = binary.LittleEndian.AppendUint32(append(b, kind), number)
	b = binary.LittleEndian.AppendUint64(b, uint64(at))
	b = append(b, part...)
	binary.LittleEndian.PutUint32(b[at:], checksum(b[at+6:]))
	if left := blockSize - len(b)%blockSize; left < headerSize {
		b = append(b, make([]byte, left)...)
	}
	return b
}

package pebblestore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble's log, as far as it has to be known here: chunks in blocks, none
// across two, each with checksum, length, kind, the number of the log, and the
// offset up to which the log was synced when the chunk was written.
const (
	blockSize  = 32 << 10
	headerSize = 19
	chunkFirst = 9 // kinds
	chunkLast  = 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkLogs looks for damage in the logs that a crash has left. Pebble ends a
// log at the first chunk that is not valid. That is right for a torn end, but
// would silently lose what comes after a damaged one; Pebble itself sees that
// only when it is not in the last block. The difference is whether a later chunk
// says that the log was synced up to beyond that place.
func checkLogs(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return nil // there is none: the store is to be made
	}
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, ".log")
		number, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil {
			continue
		}
		path := filepath.Join(dir, name)
		b, err := readAll(fs, path)
		if err != nil {
			return fmt.Errorf("open broker store: %w", err)
		}
		if at, damaged := checkLog(b, uint32(number)); damaged {
			return fmt.Errorf("%w: %s at byte %d; move this file away to go on without the newest changes, which are in it, or restore %s from a backup",
				ErrDamaged, path, at, dir)
		}
	}
	return nil
}

func readAll(fs vfs.FS, path string) (b []byte, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	b, err = io.ReadAll(f)
	if e := f.Close(); err == nil {
		err = e
	}
	return b, err
}

// checkLog returns where a log that was synced is not valid.
func checkLog(b []byte, number uint32) (at int, damaged bool) {
	for at+headerSize <= len(b) {
		if left := blockSize - at%blockSize; left < headerSize {
			at += left
			continue
		}
		if binary.LittleEndian.Uint32(b[at+7:]) == number+1 {
			return 0, false // the mark of a clean end
		}
		n, _, ok := chunk(b, at, number)
		if !ok {
			break
		}
		at += n
	}
	for later := at + 1; later+headerSize <= len(b); later++ {
		if _, synced, ok := chunk(b, later, number); ok && synced > uint64(at) {
			return at, true
		}
	}
	return 0, false
}

// chunk reads the chunk at a place: its length, and what it says is synced.
func chunk(b []byte, at int, number uint32) (n int, synced uint64, ok bool) {
	if kind := b[at+6]; kind < chunkFirst || kind > chunkLast || binary.LittleEndian.Uint32(b[at+7:]) != number {
		return 0, 0, false
	}
	n = headerSize + int(binary.LittleEndian.Uint16(b[at+4:]))
	if at+n > len(b) || at%blockSize+n > blockSize {
		return 0, 0, false
	}
	sum := crc32.Checksum(b[at+6:at+n], castagnoli)
	sum = (sum>>15 | sum<<17) + 0xa282ead8
	return n, binary.LittleEndian.Uint64(b[at+11:]), sum == binary.LittleEndian.Uint32(b[at:])
}

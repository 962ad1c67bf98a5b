package pebblestore

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
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
	endSize    = 11 // of the mark of a clean end: checksum, length, kind, number of the log and one
	chunkFirst = 9  // kinds
	chunkLast  = 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkLogs looks for damage in the logs that a crash has left. Pebble ends a
// log at the first chunk that is not valid. That is right for a torn end, but
// would silently lose what comes after a damaged one; Pebble itself sees that
// only when it is not in the last block. The difference is whether a later chunk
// says that the log was synced up to beyond that place.
func (s *Store) checkLogs(fs vfs.FS) error {
	logs, err := logsOf(fs, s.dir)
	if err != nil {
		return nil // there is none: the store is to be made
	}
	for _, l := range logs {
		b, err := readAll(fs, l.path)
		if err != nil {
			return fmt.Errorf("open broker store: %w", err)
		}
		if at, _, damaged := checkLog(b, l.number); damaged {
			return fmt.Errorf("%w: %s at byte %d; move this file away to go on without the newest changes, which are in it, or restore %s from a backup",
				ErrDamaged, l.path, at, s.dir)
		}
	}
	return nil
}

// mendLogs is for logs that were never synced, of which a machine that dies
// leaves any part. It takes away all that comes after the first hole, so that
// what is left is how things once were. A log that has a younger one was brought
// to a clean end, or it is from before dropLogs: then the younger one has
// nothing that was said to be done.
func (s *Store) mendLogs(fs vfs.FS) error {
	logs, err := logsOf(fs, s.dir)
	if err != nil {
		return nil // there is none: the store is to be made
	}
	for i, l := range logs {
		b, err := readAll(fs, l.path)
		if err != nil {
			return fmt.Errorf("open broker store: %w", err)
		}
		if len(b) > 6 && b[6] > 0 && b[6] < chunkFirst {
			continue // the very first one, see load
		}
		if at, clean, damaged := checkLog(b, l.number); damaged || !clean && i < len(logs)-1 {
			s.log.Warn("broker store: the machine died, and took the newest changes with it", "file", l.path, "from", at, "of", len(b))
			return cutLogs(fs, logs[i:], b[:at])
		}
	}
	return nil
}

// logFile is one log in the store's directory.
type logFile struct {
	path   string
	number uint32
}

// logsOf lists the logs in dir, oldest first.
func logsOf(fs vfs.FS, dir string) (logs []logFile, err error) {
	names, err := fs.List(dir)
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, ".log")
		if number, err := strconv.ParseUint(digits, 10, 32); ok && err == nil {
			logs = append(logs, logFile{filepath.Join(dir, name), uint32(number)})
		}
	}
	slices.SortFunc(logs, func(a, b logFile) int { return cmp.Compare(a.number, b.number) })
	return logs, err
}

// dropLogs removes the logs that Pebble has just read: what was in them is in
// tables by now. It would do so itself, at some later time.
func (s *Store) dropLogs(fs vfs.FS) error {
	logs, err := logsOf(fs, s.dir)
	if err != nil {
		return err
	}
	for _, l := range logs[:max(len(logs)-1, 0)] {
		if err := fs.Remove(l.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// cutLogs leaves of the first log only what is given, and of the others nothing.
func cutLogs(fs vfs.FS, logs []logFile, whole []byte) error {
	for _, l := range slices.Backward(logs[1:]) {
		if err := fs.Remove(l.path); err != nil {
			return fmt.Errorf("open broker store: %w", err)
		}
	}
	short := logs[0].path + ".short" // so that a crash leaves the one or the other
	f, err := fs.Create(short, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(whole)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err == nil {
		err = fs.Rename(short, logs[0].path)
	}
	if err != nil {
		return fmt.Errorf("open broker store: %w", err)
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

// checkLog returns how far a log is whole, whether it was brought to a clean end
// there, and if not, whether what follows says that it was synced once.
func checkLog(b []byte, number uint32) (at int, clean, damaged bool) {
	for at+endSize <= len(b) {
		if left := blockSize - at%blockSize; left < headerSize {
			at += left
			continue
		}
		if binary.LittleEndian.Uint32(b[at+7:]) == number+1 {
			return at, true, false
		}
		if at+headerSize > len(b) {
			break
		}
		n, _, ok := chunk(b, at, number)
		if !ok {
			break
		}
		at += n
	}
	at = min(at, len(b))
	for later := at + 1; later+headerSize <= len(b); later++ {
		if _, synced, ok := chunk(b, later, number); ok && synced > uint64(at) {
			return at, false, true
		}
	}
	return at, false, false
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

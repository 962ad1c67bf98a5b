package pebblestore

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

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
		if isOld(b) {
			continue
		}
		if at, clean, damaged := checkLog(b, l.number); damaged || !clean && i < len(logs)-1 {
			s.log.Warn("broker store: the machine died, and took the newest changes with it", "file", l.path, "from", at, "of", len(b))
			return cutLogs(fs, logs[i:], b[:at])
		}
	}
	return nil
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

// checkLog returns how far a log is whole, whether it was brought to a clean end
// there, and if not, whether what follows says that it was synced once.
func checkLog(b []byte, number uint32) (at int, clean, damaged bool) {
	for at+endSize <= len(b) {
		if left := blockSize - at%blockSize; left < headerSize {
			at += left
			continue
		}
		if isEnd(b[at:], number) {
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

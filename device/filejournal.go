package device

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	journalName = "commands.journal" // stored; never change
	newName     = "commands.journal.new"
	lockName    = "lock"

	// ahead is how many bytes of zeros are written ahead at a time. An append
	// into them changes no metadata, and its fdatasync costs a fraction.
	ahead = 64 << 10
	// perFrame bounds the frames that Replace writes.
	perFrame = 1 << 20
)

// ErrLocked says that another process, or another Run, has the journal open.
var ErrLocked = errors.New("another device has it open")

// CorruptError says that a journal was changed by something else than this
// package: what happened there cannot be known, and the device refuses to start
// because it might execute a command twice. [Salvage] keeps what is whole.
type CorruptError struct {
	File   string
	Offset int64 // of the first frame that is not as it was written
	Text   string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d: %s; Salvage keeps what is whole", e.File, e.Offset, e.Text)
}

// FileJournal is a Journal in a file. It is not safe for concurrent use; a lock
// file keeps other processes out (on Unix).
type FileJournal struct {
	dir       string
	fs        fileSystem
	lock      *os.File
	f         file
	end       int64 // the next frame goes here
	allocated int64 // bytes of the file, zeros from end on
	buf       []byte
	err       error // the first failed write; nothing is written after it
}

// OpenJournal opens the journal in a directory, and makes both if need be. A
// write that a crash cut short is dropped: nothing was done on account of it.
// Damage of any other kind is a [*CorruptError]; ErrLocked says that it is in
// use.
func OpenJournal(dir string) (*FileJournal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockDir(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	j, err := openJournal(dir, disk{})
	if err != nil {
		lock.Close()
		return nil, err
	}
	j.lock = lock
	return j, nil
}

func openJournal(dir string, system fileSystem) (*FileJournal, error) {
	j := &FileJournal{dir: dir, fs: system}
	if err := system.Remove(j.name(newName)); err != nil {
		return nil, err
	}
	b, err := system.Read(j.name(journalName))
	if errors.Is(err, fs.ErrNotExist) {
		return j, j.Replace(nil)
	}
	if err != nil {
		return nil, err
	}
	s := scanFile(b, false)
	if s.damaged {
		return nil, j.corrupt(s)
	}
	if j.f, err = system.Open(j.name(journalName)); err != nil {
		return nil, err
	}
	// What follows the last frame is zeros at best; cut it off, so that no
	// remains of a torn write are ever found behind a later frame.
	j.end, j.allocated = int64(s.end), int64(s.end)
	if err := errors.Join(j.f.Truncate(j.end), j.f.Sync()); err != nil {
		j.f.Close()
		return nil, err
	}
	return j, nil
}

func (j *FileJournal) name(base string) string { return filepath.Join(j.dir, base) }

func (j *FileJournal) corrupt(s scanned) error {
	return &CorruptError{File: j.name(journalName), Offset: int64(s.offset), Text: s.text}
}

// Load reads the file.
func (j *FileJournal) Load() ([][]byte, error) {
	b, err := j.fs.Read(j.name(journalName))
	if err != nil {
		return nil, err
	}
	s := scanFile(b, false)
	if s.damaged {
		return nil, j.corrupt(s)
	}
	return s.records, nil
}

// Append writes the records as one frame and syncs it: after a crash, all of
// them are there or none. After an error, every further call returns it: what
// the file holds is not known until it is opened anew.
func (j *FileJournal) Append(records ...[]byte) error {
	if j.err == nil {
		j.err = j.append(records)
	}
	return j.err
}

func (j *FileJournal) append(records [][]byte) error {
	frame := appendFrame(j.buf[:0], records)
	j.buf = frame[:0]
	if len(frame)-headerSize > maxPayload {
		return fmt.Errorf("%d bytes at once are more than %d", len(frame), maxPayload)
	}
	end := j.end + int64(len(frame))
	if end > j.allocated {
		size := end + ahead
		zeros := make([]byte, size-j.allocated)
		if _, err := j.f.WriteAt(zeros, j.allocated); err != nil {
			return err
		}
		j.allocated = size
	}
	if _, err := j.f.WriteAt(frame, j.end); err != nil {
		return err
	}
	if err := j.f.Sync(); err != nil {
		return err
	}
	j.end = end
	return nil
}

// Replace writes a new file beside the old one and gives it its name.
func (j *FileJournal) Replace(records [][]byte) error {
	if j.err == nil {
		j.err = j.replace(records)
	}
	return j.err
}

func (j *FileJournal) replace(records [][]byte) error {
	b := []byte(magic)
	for len(records) > 0 {
		n, size := 0, 0
		for n < len(records) && size < perFrame {
			size += len(records[n])
			n++
		}
		b = appendFrame(b, records[:n])
		records = records[n:]
	}
	f, err := j.fs.Create(j.name(newName))
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = j.fs.Rename(j.name(newName), j.name(journalName))
	}
	if err == nil {
		err = j.fs.SyncDir(j.dir)
	}
	if err != nil {
		f.Close()
		return err
	}
	if j.f != nil {
		j.f.Close() // its name is gone, and with it all that could be lost
	}
	j.f, j.end, j.allocated = f, int64(len(b)), int64(len(b))
	return nil
}

// Close closes the file and gives back the lock. Everything appended is durable
// already.
func (j *FileJournal) Close() error {
	if j.err == nil {
		j.err = os.ErrClosed
	}
	err := j.f.Close()
	if j.lock != nil {
		err = errors.Join(err, j.lock.Close())
	}
	return err
}

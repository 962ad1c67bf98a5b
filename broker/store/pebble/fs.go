package pebblestore

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// files is the file system as the store uses it: what it makes is for its
// owner only, and with lazy, the log is handed to the operating system without
// being synced.
type files struct {
	vfs.FS
	lazy bool
	real bool // on a disk, with modes

	mu   sync.Mutex
	read map[string]bool // names of files that were opened since watch; nil for none
}

// watch begins to take down which files are opened.
func (f *files) watch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read = make(map[string]bool)
}

// watched ends that, and says which.
func (f *files) watched() map[string]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	read := f.read
	f.read = nil
	return read
}

func (f *files) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	f.mu.Lock()
	if f.read != nil {
		f.read[filepath.Base(name)] = true
	}
	f.mu.Unlock()
	return f.FS.Open(name, o...)
}

// own gives a new file to its owner only.
func (f *files) own(name string, file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	if f.real {
		if err := os.Chmod(name, 0o600); err != nil {
			_ = file.Close()
			return nil, err
		}
	}
	if f.lazy && strings.HasSuffix(name, ".log") {
		return lazyFile{file}, nil
	}
	return file, nil
}

func (f *files) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	return f.own(name, file, err)
}

func (f *files) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, c, o...)
	return f.own(name, file, err)
}

func (f *files) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(old, name, c)
	return f.own(name, file, err)
}

func (f *files) Lock(name string) (io.Closer, error) {
	c, err := f.FS.Lock(name)
	if err == nil && f.real {
		if err = os.Chmod(name, 0o600); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, err
}

func (f *files) MkdirAll(dir string, _ os.FileMode) error { return f.FS.MkdirAll(dir, 0o700) }

func (f *files) Unwrap() vfs.FS { return f.FS }

// lazyFile leaves it to the operating system when to write to the disk.
type lazyFile struct{ vfs.File }

func (lazyFile) Sync() error                { return nil }
func (lazyFile) SyncData() error            { return nil }
func (lazyFile) SyncTo(int64) (bool, error) { return false, nil }

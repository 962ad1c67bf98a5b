package device

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// fileSystem is what a file journal asks of the system; tests let it fail.
type fileSystem interface {
	// Read returns a file's bytes; fs.ErrNotExist if there is none.
	Read(name string) ([]byte, error)
	// Create opens a new empty file for writing, Open one that exists.
	Create(name string) (file, error)
	Open(name string) (file, error)
	Rename(from, to string) error
	Remove(name string) error // no error if there is none
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
}

type file interface {
	io.WriterAt
	Truncate(size int64) error
	Sync() error // data, and what is needed to read it back
	Close() error
}

// disk is the real thing.
type disk struct{}

func (disk) Read(name string) ([]byte, error) { return os.ReadFile(name) }

func (disk) Create(name string) (file, error) {
	return openFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

func (disk) Open(name string) (file, error) { return openFile(name, os.O_RDWR) }

func openFile(name string, flags int) (file, error) {
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (disk) Rename(from, to string) error { return os.Rename(from, to) }

func (disk) Remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (disk) SyncDir(dir string) error {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	defer d.Close() // it was only read
	return d.Sync()
}

type diskFile struct{ *os.File }

func (f diskFile) Sync() error { return syncData(f.File) }

package edge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// counter numbers the CONNECTs of a node, 0 to 255 and from 0 again, and
// outlives the process.
type counter struct {
	path string
	next uint8
}

// openCounter reads what the last process wrote. A file that cannot be read, or
// holds no number, is an error: to begin again at 0 could repeat the number of a
// Will that is still to come.
func openCounter(path string) (*counter, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &counter{path: path}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("bdSeq: %w", err)
	}
	last, err := strconv.ParseUint(strings.TrimSuffix(string(b), "\n"), 10, 8)
	if err != nil {
		return nil, fmt.Errorf("bdSeq: %s holds no number from 0 to 255", path)
	}
	return &counter{path: path, next: uint8(last) + 1}, nil
}

// take is the number for the next CONNECT, on disk when it returns. A number
// that could not be written down is not used.
//
// [tck-id-topics-nbirth-bdseq-increment]
func (c *counter) take() (uint8, error) {
	if err := writeFile(c.path, strconv.Itoa(int(c.next))+"\n"); err != nil {
		return 0, fmt.Errorf("bdSeq: %w", err)
	}
	c.next++
	return c.next - 1, nil
}

// writeFile replaces the file in one step, and returns when that is durable.
func writeFile(path, text string) error {
	next := path + ".next"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

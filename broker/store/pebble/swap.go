package pebblestore

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Names in the directory of a store that is made anew; see rebuilding.
const (
	rebuildDir = "rebuild"
	swapFile   = "REBUILT"
	asideDir   = "damaged-"
)

// swap is what REBUILT says.
type swap struct {
	Aside string `json:"aside"` // where the old files go
	Up    bool   `json:"up"`    // they are there
}

// finishSwap puts a store that was made anew in the place of the old one, if there is
// one that is whole.
func (s *Store) finishSwap(fs *files) error {
	made := filepath.Join(s.dir, rebuildDir)
	b, err := readAll(fs, filepath.Join(s.dir, swapFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var x swap
	if err == nil {
		err = fromJSON(swapFile, b, &x)
	}
	if err != nil {
		return err
	}
	if aside := filepath.Join(s.dir, x.Aside); !x.Up {
		if err := fs.MkdirAll(aside, 0); err != nil {
			return err
		}
		if err := moveAll(fs, s.dir, aside, isPebbles); err != nil {
			return err
		}
		x.Up = true
		if err := writeJSON(fs, s.dir, swapFile, x); err != nil {
			return err
		}
	}
	if err := moveAll(fs, made, s.dir, func(string) bool { return true }); err != nil {
		return err
	}
	if err := errors.Join(fs.RemoveAll(made), pruneAside(fs, s.dir, x.Aside)); err != nil {
		return err
	}
	return fs.Remove(filepath.Join(s.dir, swapFile))
}

// isPebbles tells files of the store from what else is in its directory, which may be
// another's. It leaves the lock and the logs that were put aside.
func isPebbles(name string) bool {
	for _, prefix := range []string{"MANIFEST-", "OPTIONS-", "marker.", "temporary.", salvageFile} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	for _, kind := range []string{".log", ".sst", ".short", ".new"} {
		if digits, _, _ := strings.Cut(name, "."); strings.HasSuffix(name, kind) && strings.Trim(digits, "0123456789") == "" {
			return true
		}
	}
	return false
}

// moveAll moves the files that are meant, durably.
func moveAll(fs vfs.FS, from, to string, meant func(string) bool) error {
	names, err := fs.List(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, name := range names {
		if err == nil && meant(name) {
			err = fs.Rename(filepath.Join(from, name), filepath.Join(to, name))
		}
	}
	if err != nil {
		return err
	}
	return errors.Join(syncDir(fs, to), syncDir(fs, from))
}

// nextAside is a name for the old files.
func nextAside(fs vfs.FS, dir string) (string, error) {
	names, err := fs.List(dir)
	n := 1
	for _, name := range names {
		var have int
		if _, err := fmt.Sscanf(name, asideDir+"%d", &have); err == nil {
			n = max(n, have+1)
		}
	}
	return fmt.Sprintf("%s%06d", asideDir, n), err
}

// pruneAside removes what was put aside before: a copy of everything is enough.
func pruneAside(fs vfs.FS, dir, keep string) error {
	names, err := fs.List(dir)
	for _, name := range names {
		if strings.HasPrefix(name, asideDir) && name != keep {
			err = errors.Join(err, fs.RemoveAll(filepath.Join(dir, name)))
		}
	}
	return err
}

// fromJSON reads what writeJSON wrote.
func fromJSON(name string, b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %s: %w", errMalformed, name, err)
	}
	return nil
}

func writeJSON(fs vfs.FS, dir, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeFile(fs, dir, name, b)
}

package pebblestore

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// filesOf reads all files of a directory but the lock.
func filesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, path := range glob(t, dir, "*") {
		if b, err := os.ReadFile(path); err == nil && filepath.Base(path) != "LOCK" {
			all[filepath.Base(path)] = string(b)
		}
	}
	return all
}

// strange puts files of somebody else into a directory. whole says what is wrong with
// them later.
func strange(t *testing.T, dir string) (whole func() error) {
	t.Helper()
	notes, page := filepath.Join(dir, "notes.txt"), filepath.Join(dir, rebuildDir, "page")
	err := os.MkdirAll(filepath.Dir(page), 0o700)
	if err = errors.Join(err, os.WriteFile(notes, []byte("x"), 0o600), os.WriteFile(page, []byte("y"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return func() error {
		_, err := os.Stat(notes)
		_, err2 := os.Stat(page)
		return errors.Join(err, err2)
	}
}

// A database of another program over Pebble is not made anew, and nothing of it moves.
func TestAnotherProgramsPebble(t *testing.T) {
	for name, o := range map[string]*pebble.Options{
		"merger": {}, "same merger": {Merger: merger},
	} {
		dir := t.TempDir()
		db, err := pebble.Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(db.Set([]byte("a"), []byte("b"), pebble.Sync), db.Flush(), db.Close())
		if err != nil {
			t.Fatal(err)
		}
		if name == "same merger" { // so that it would be made anew
			for _, file := range glob(t, dir, "MANIFEST-*") {
				flip(t, file, 0.5)
			}
		}
		before := filesOf(t, dir)
		if s, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "store of wilco") {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				_ = s.Close()
			}
		}
		if after := filesOf(t, dir); !maps.Equal(before, after) {
			t.Errorf("%s: there were %d files, and are %d", name, len(before), len(after))
		}
	}
}

// What others have in the directory stays where it is when the store is made, and when
// it is made anew.
func TestFilesOfOthers(t *testing.T) {
	dir := t.TempDir()
	whole := strange(t, dir)
	if err := mustOpen(t, dir, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	if err := whole(); err != nil {
		t.Error(err)
	}
	l := live(t)
	notes := filepath.Join(l.dir, "notes.txt")
	for _, file := range append(glob(t, l.dir, "MANIFEST-*"), notes) {
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if missing, back, _, _ := l.check(t, l.dir); missing+back > 0 {
		t.Errorf("%d are missing, %d back", missing, back)
	}
	if _, err := os.Stat(notes); err != nil {
		t.Error(err)
	}
}

// unlistedMem is a store in memory without its list of tables, and what it has.
func unlistedMem(t *testing.T) (fs *vfs.MemFS, want string) {
	t.Helper()
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	commit(t, s, putSession("a", false), appendOp(1, message("t", "1"), "a"))
	want = inShort(t, s)
	if err := errors.Join(s.db.Flush(), s.Close()); err != nil {
		t.Fatal(err)
	}
	for _, file := range glob(t, dir, "MANIFEST-*") {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	fs = vfs.NewCrashableMem()
	if ok, err := vfs.Clone(vfs.Default, fs, dir, "data", vfs.CloneSync); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := syncDir(fs, ""); err != nil {
		t.Fatal(err)
	}
	return fs, want
}

// A start that makes the store anew ends when the disk becomes full, and the next one
// does it.
func TestFullWhileRebuilding(t *testing.T) {
	for _, kind := range []string{".sst", "OPTIONS", salvageFile, swapFile} {
		fs, want := unlistedMem(t)
		var full, hit atomic.Bool
		full.Store(true)
		faulty := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			made := strings.Contains(op.Path, rebuildDir) || strings.Contains(op.Path, swapFile)
			if full.Load() && made && strings.Contains(op.Path, kind) && op.Kind.ReadOrWrite() == errorfs.OpIsWrite &&
				op.Kind != errorfs.OpRemove && op.Kind != errorfs.OpRemoveAll {
				hit.Store(true)
				return syscall.ENOSPC
			}
			return nil
		}))
		if _, err := Open("data", Options{Reserve: -1, fs: faulty}); !errors.Is(err, syscall.ENOSPC) || !hit.Load() {
			t.Fatalf("%s: %v", kind, err)
		}
		after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0})
		full.Store(false) // lets Pebble end
		s := mustOpen(t, "data", Options{Reserve: -1, fs: after})
		if got := inShort(t, s); got != want {
			t.Errorf("%s: %q, not %q", kind, got, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A disk without room for another copy is said before anything is written.
func TestNoRoomToRebuild(t *testing.T) {
	fs, want := unlistedMem(t)
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 100})
	before, err := fs.List("data")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open("data", Options{Reserve: -1, fs: fs}); err == nil || !strings.Contains(err.Error(), "make room") {
		t.Fatal(err)
	}
	slices.Sort(before)
	if after, err := fs.List("data"); err != nil || !slices.Equal(slices.Sorted(slices.Values(after)), before) {
		t.Error(before, after, err)
	}
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 30})
	s := mustOpen(t, "data", Options{Reserve: -1, fs: fs})
	if got := inShort(t, s); got != want {
		t.Errorf("%q, not %q", got, want)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// What a start has written down for the next one may be damaged too: that is said,
// with its name, and nothing is touched.
func TestDamagedNotes(t *testing.T) {
	for _, name := range []string{salvageFile, swapFile} {
		dir := t.TempDir()
		if err := mustOpen(t, dir, Options{}).Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(`{"los`), 0o600); err != nil {
			t.Fatal(err)
		}
		before := filesOf(t, dir)
		if _, err := Open(dir, Options{}); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if after := filesOf(t, dir); !maps.Equal(before, after) {
			t.Errorf("%s: files have changed", name)
		}
	}
}

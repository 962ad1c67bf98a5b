package sqlite

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/internal/fault"
)

// refused opens what must be refused, and looks for words in the error.
func refused(t *testing.T, path string, words ...string) {
	t.Helper()
	s, err := Open(path, Options{})
	if err == nil {
		s.Close()
		t.Fatal("it was opened")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("no %q in: %v", w, err)
		}
	}
}

func TestModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "wilco.db")
	s := open(t, path)
	b, _ := fresh(t)
	if _, err := s.Commit(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600, path + ".lock": 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %04o", name, info.Mode().Perm())
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Run("readable by others", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "wilco.db")
		open(t, path).Close()
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		refused(t, path, path, "0644", "chmod 600")
	})
	t.Run("symbolic link", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "wilco.db")
		if err := os.Symlink(filepath.Join(dir, "elsewhere"), path); err != nil {
			t.Fatal(err)
		}
		refused(t, path, path, "regular file")
		if _, err := os.Stat(filepath.Join(dir, "elsewhere")); err == nil {
			t.Error("the link was followed")
		}
	})
	t.Run("symbolic link as lock", func(t *testing.T) {
		dir := t.TempDir()
		target := filepath.Join(dir, "precious")
		if err := os.WriteFile(target, []byte("keep"), 0o600); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "wilco.db")
		if err := os.Symlink(target, path+".lock"); err != nil {
			t.Fatal(err)
		}
		refused(t, path, ".lock")
		if b, _ := os.ReadFile(target); string(b) != "keep" {
			t.Error("the link's target was written to")
		}
	})
	t.Run("directory of everybody", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "open")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o777); err != nil { // past the umask
			t.Fatal(err)
		}
		refused(t, filepath.Join(dir, "wilco.db"), dir, "chmod o-w")
	})
	t.Run("directory of somebody else", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chown(dir, 12345, -1); err != nil {
			t.Skipf("needs the right to give a directory away: %v", err)
		}
		refused(t, filepath.Join(dir, "wilco.db"), dir, "12345", "chown")
	})
	t.Run("not a database", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "wilco.db")
		if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, path, path, "not an SQLite database", "move it away")
	})
	t.Run("another program's database", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "wilco.db")
		c, err := dial(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.once("CREATE TABLE bookmarks (url TEXT)"); err != nil {
			t.Fatal(err)
		}
		if err := c.close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, path, path, "another program")
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Error("the file was changed")
		}
	})
	t.Run("newer schema", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "wilco.db")
		open(t, path).Close()
		c, err := dial(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.once("PRAGMA user_version = 99"); err != nil {
			t.Fatal(err)
		}
		if err := c.close(); err != nil {
			t.Fatal(err)
		}
		refused(t, path, path, "version 99", fmt.Sprint(len(migrations)), "newer wilco")
	})
	t.Run("in use", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "wilco.db")
		s := open(t, path)
		refused(t, path, path, fmt.Sprintf("in use by process %d", os.Getpid()))
		b, _ := fresh(t)
		if _, err := s.Commit(t.Context(), &b); err != nil {
			t.Errorf("the first one suffered: %v", err)
		}
		s.Close()
		open(t, path)
	})
}

// TestMigrations: each version is brought forward, and one that fails half way
// leaves the file as it was.
func TestMigrations(t *testing.T) {
	all := migrations
	t.Cleanup(func() { migrations = all })
	path := filepath.Join(t.TempDir(), "wilco.db")
	s := open(t, path)
	if err := s.SetMeta(t.Context(), "k", []byte("v"), nil); err != nil {
		t.Fatal(err)
	}
	s.Close()
	migrations = append(all[:len(all):len(all)], statements("CREATE TABLE extra (x INTEGER)", "CREATE TABLE meta (x INTEGER)"))
	refused(t, path, path, fmt.Sprintf("version %d", len(migrations)), "already exists")
	migrations[len(all)] = statements("CREATE TABLE extra (x INTEGER)", "INSERT INTO extra VALUES (42)")
	for range 2 {
		s = open(t, path)
		if v, err := s.Meta(t.Context(), "k"); err != nil || string(v) != "v" {
			t.Errorf("%q, %v", v, err)
		}
		err := s.read(t.Context(), func(c *conn) error {
			n, err := c.number(t.Context(), "SELECT sum(x) FROM extra")
			if n != 42 {
				t.Errorf("extra is %d", n)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		s.Close()
	}
}

// TestStrangeNames: a path is a name, not an instruction.
func TestStrangeNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wilco?mode=memory&x=%41#y é.db")
	s := open(t, path)
	if err := s.SetMeta(t.Context(), "k", []byte("v"), nil); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Fatalf("not where it was asked for: %v", err)
	}
	if v, err := open(t, path).Meta(t.Context(), "k"); err != nil || string(v) != "v" {
		t.Error(err)
	}
}

// TestOldTokensBecomeDocuments: those of the table that the first versions had, but for
// one that has been moved already.
func TestOldTokensBecomeDocuments(t *testing.T) {
	all := migrations
	t.Cleanup(func() { migrations = all })
	path := filepath.Join(t.TempDir(), "wilco.db")
	migrations = all[:6]
	open(t, path).Close()
	c, err := dial(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`INSERT INTO tokens VALUES ('aa', x'010203', 'all', 'admin', '', 1700000000000, 0)`,
		`INSERT INTO tokens VALUES ('bb', x'04', 'one', 'operator', 'site', 1700000000000, 1700003600000)`,
		`INSERT INTO tokens VALUES ('cc', x'05', 'moved', 'viewer', '', 1700000000000, 0)`,
		`INSERT INTO documents VALUES ('token', CAST('cc' AS BLOB), 1, x'7b7d')`,
	} {
		if err := c.once(sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	migrations = all
	for range 2 {
		s := open(t, path)
		list, err := s.Documents(t.Context(), "token", "", "", 10)
		if err != nil || len(list) != 3 {
			t.Fatal(list, err)
		}
		for i, want := range []string{
			`{"id":"aa","hash":"AQID","name":"all","grants":[{"role":"admin"}],"created":"2023-11-14T22:13:20Z"}`,
			`{"id":"bb","hash":"BA==","name":"one","grants":[{"role":"operator","groups":["site"]}],"created":"2023-11-14T22:13:20Z","expires":"2023-11-14T23:13:20Z"}`,
			`{}`,
		} {
			if d := list[i]; string(d.Body) != want || d.Version != 1 {
				t.Errorf("%s at %d: %s", d.Key, d.Version, d.Body)
			}
		}
		s.Close()
	}
}

// TestReadersCannotWrite: a mistake in a query does not change anything.
func TestReadersCannotWrite(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "wilco.db"))
	err := s.read(t.Context(), func(c *conn) error {
		_, err := c.exec("DELETE FROM meta")
		return err
	})
	if err == nil || fault.CodeOf(err) != fault.Internal {
		t.Errorf("got %v", err)
	}
}

package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/wilco-iot/wilco/internal/store/storetest"
)

var _ storetest.Store = (*Store)(nil)

func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestVersion: WAL resets of older versions can corrupt the file.
func TestVersion(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "wilco.db"))
	var version string
	var major, minor, patch int
	err := s.read(context.Background(), func(c *conn) error {
		_, err := c.one(context.Background(), func(v []driver.Value) error {
			version = v[0].(string)
			_, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch)
			return err
		}, "SELECT sqlite_version()")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if major*1e6+minor*1e3+patch < 3051003 {
		t.Fatalf("SQLite is %s, and must be 3.51.3 or newer", version)
	}
}

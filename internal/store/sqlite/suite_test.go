package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/wilco-iot/wilco/internal/store/storetest"
)

func TestSuite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Opener {
		path := filepath.Join(t.TempDir(), "wilco.db")
		return func() storetest.Store {
			s, err := Open(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	})
}

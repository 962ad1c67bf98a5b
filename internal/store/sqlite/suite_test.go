package sqlite

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/wilco-iot/wilco/internal/store/storetest"
)

// TestSuite: also when commands are listed by device soon, so that the suite sees
// them on every step of their way into the list.
func TestSuite(t *testing.T) {
	for _, every := range []int{0, 3} {
		t.Run(fmt.Sprintf("list every %d", every), func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Opener {
				path := filepath.Join(t.TempDir(), "wilco.db")
				return func() storetest.Store {
					s, err := Open(path, Options{listEvery: every})
					if err != nil {
						t.Fatal(err)
					}
					return s
				}
			})
		})
	}
}

package pebblestore

import (
	"testing"

	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/broker/store/storetest"
)

func TestStore(t *testing.T) {
	for _, d := range []Durability{Fsync, OS} {
		t.Run(d.String(), func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) (store.Store, func() store.Store) {
				dir := t.TempDir()
				s := mustOpen(t, dir, Options{Durability: d})
				return s, func() store.Store {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					s = mustOpen(t, dir, Options{Durability: d})
					return s
				}
			})
		})
	}
}

func mustOpen(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

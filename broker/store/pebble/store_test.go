package pebblestore

import (
	"bytes"
	"os"
	"testing"

	"github.com/wilco-iot/wilco/broker/session"
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

// TestOldValues reads what was written before sessions had an overflow policy and
// losses; what has none is written the same today.
func TestOldValues(t *testing.T) {
	totals, err := decodeTotals([]byte{1, 3, 9, 2, 30, 1})
	if err != nil || totals.lost != nil || totals.count != 2 || totals.shared != 1 {
		t.Error(totals, err)
	}
	if b := totals.append(nil); !bytes.Equal(b, []byte{1, 3, 9, 2, 30, 1}) {
		t.Error(b)
	}
	old := []byte{1, 0, 5, 60, 1, 'o'}
	sid, r, err := decodeRecord("c", old)
	if err != nil || sid != 5 || r.Owner != "o" || r.ExpirySeconds != 60 || r.Overflow != session.Refuse {
		t.Error(sid, r, err)
	}
	if b := appendRecord(nil, sid, &r); !bytes.Equal(b, old) {
		t.Error(b)
	}
}

// soak is the environment variable that makes tests large; scripts/soak.sh sets it.
const soak = "WILCO_SOAK"

// often is how many times a test does what it does at random: n, a few in a short run,
// and ten times as many in a soak.
func often(n int) int {
	switch {
	case os.Getenv(soak) != "":
		return 10 * n
	case testing.Short() && raceEnabled:
		return max(n/10, 2)
	case testing.Short():
		return max(n/4, 2)
	}
	return n
}

// some leaves out most of the places at which a test disturbs something, in a short run.
func some[T any](places []T) []T {
	if !testing.Short() {
		return places
	}
	var few []T
	for i := 0; i < len(places); i += 5 {
		few = append(few, places[i])
	}
	return few
}

func mustOpen(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

package sqlite

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// firstPage gives the TIDs of the newest commands of a device.
func firstPage(t *testing.T, s *Store, a wire.Address) (tids []command.TID) {
	page, _, err := s.List(t.Context(), store.Query{Group: a.Group, Device: a.Device, Limit: 1000})
	if err != nil {
		t.Error(err)
	}
	for _, c := range page {
		tids = append(tids, c.TID)
	}
	return tids
}

// soundList looks for commands that are neither listed nor in the backlog, and
// for listed ones that do not exist.
func soundList(t *testing.T, s *Store) (listed int64) {
	t.Helper()
	err := s.read(t.Context(), func(c *conn) (err error) {
		for sql, what := range map[string]string{
			"SELECT count(*) FROM listed LEFT JOIN commands USING (tid) WHERE commands.tid IS NULL": "listed commands do not exist",
			"SELECT count(*) FROM commands WHERE tid < (SELECT value FROM meta WHERE key = '" + listedKey + "')" +
				" AND NOT EXISTS (SELECT 1 FROM listed WHERE listed.device = commands.device AND listed.tid = commands.tid)": "commands below the mark are not listed",
		} {
			n, err := c.number(t.Context(), sql)
			if err != nil {
				return err
			}
			if n != 0 {
				t.Errorf("%d %s", n, what)
			}
		}
		listed, err = c.number(t.Context(), "SELECT count(*) FROM listed")
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return listed
}

// TestListed: whoever lists a device's commands finds each from the moment that
// it was acknowledged, in order and once, while callers commit and the list moves.
func TestListed(t *testing.T) {
	const every, callers, rounds = 7, 4, 60
	path := filepath.Join(t.TempDir(), "wilco.db")
	s, err := Open(path, Options{listEvery: every})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	made := map[wire.Address][]command.TID{}
	now := time.Now()
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(caller)))
			for range rounds {
				a := wire.Address{Group: "site", Device: fmt.Sprintf("pump-%d", rnd.IntN(5))}
				stages, _ := life(t, a, now)
				c := stages[0]
				if rnd.IntN(4) == 0 {
					copy(c.TID[:], make([]byte, 5)) // by a clock far behind
				}
				if _, err := s.Commit(t.Context(), &store.Batch{Commands: []store.CommandWrite{{Command: c}}}); err != nil {
					t.Error(err)
					return
				}
				page := firstPage(t, s, a)
				if !slices.Contains(page, c.TID) {
					t.Errorf("%s is acknowledged and not found", c.TID)
				}
				if !slices.IsSortedFunc(page, func(a, b command.TID) int { return compareTIDs(b, a) }) || len(slices.Compact(slices.Clone(page))) != len(page) {
					t.Errorf("not in order, or one twice: %v", page)
				}
				mu.Lock()
				made[a] = append(made[a], c.TID)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for range 2 {
		for a, want := range made {
			slices.SortFunc(want, func(a, b command.TID) int { return compareTIDs(b, a) })
			if got := firstPage(t, s, a); !slices.Equal(got, want) {
				t.Errorf("%s: got %v, want %v", a, got, want)
			}
		}
		listed := soundList(t, s)
		b := &s.backlog
		if left := len(b.fresh) + len(b.leaving) - b.gone; listed+int64(left) < callers*rounds || left > 3*every {
			t.Errorf("%d listed, %d are not", listed, left)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = Open(path, Options{listEvery: every}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
	}
}

// TestListedAndPurged: what is forgotten on its way into the list does not turn
// up there.
func TestListedAndPurged(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "wilco.db"), Options{listEvery: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for n := range 40 {
		stages, _ := life(t, pump, time.Now())
		last := stages[len(stages)-1]
		if _, err := s.Commit(t.Context(), &store.Batch{Commands: []store.CommandWrite{{Command: last}}}); err != nil {
			t.Fatal(err)
		}
		if n%3 == 0 {
			if _, err := s.Purge(t.Context(), time.Now().Add(time.Hour), 2); err != nil {
				t.Fatal(err)
			}
		}
		soundList(t, s)
	}
	if n := soundList(t, s); n == 0 {
		t.Error("nothing was listed")
	}
}

// TestListedOfVersion1 brings a file forward in which an index knew the
// devices' commands.
func TestListedOfVersion1(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wilco.db")
	all := migrations
	t.Cleanup(func() { migrations = all })
	migrations = all[:1]
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := dial(path, "journal_mode = WAL")
	if err != nil {
		t.Fatal(err)
	}
	if err := migrate(c, path); err != nil {
		t.Fatal(err)
	}
	var want []command.TID
	for n := range 20 {
		stages, _ := life(t, wire.Address{Group: "site", Device: fmt.Sprintf("pump-%d", n%2)}, time.Now())
		var r commandRow
		if err := r.encode(&store.CommandWrite{Command: stages[0]}); err != nil {
			t.Fatal(err)
		}
		// As version 1 did: without a list.
		_, err := c.exec(`INSERT INTO commands (tid, device, name, requested_by, created, version, open, state, wake, ended, doc)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			r.tid[:], r.device, r.name, r.requestedBy, r.created, r.version, int64(1), string(r.state), r.wake, r.ended, r.doc)
		if err != nil {
			t.Fatal(err)
		}
		if n%2 == 0 {
			want = append(want, r.tid)
		}
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	migrations = all
	s := open(t, path)
	slices.Reverse(want)
	if got := firstPage(t, s, wire.Address{Group: "site", Device: "pump-0"}); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if n := soundList(t, s); n != 20 || len(s.backlog.fresh) > 1 {
		t.Errorf("%d are listed, %d are read into memory", n, len(s.backlog.fresh))
	}
}

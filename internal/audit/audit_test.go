package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/audit"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
)

func open(t *testing.T, path string) (*sqlite.Store, *audit.Log) {
	t.Helper()
	db, err := sqlite.Open(path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // some tests have closed it
	l, err := audit.Open(t.Context(), db, nil)
	if err != nil {
		t.Fatal(err)
	}
	return db, l
}

// filled is a log of n entries.
func filled(t *testing.T, n int) (*sqlite.Store, *audit.Log) {
	t.Helper()
	db, l := open(t, filepath.Join(t.TempDir(), "w.db"))
	for i := range n {
		if err := l.Record(t.Context(), audit.Entry{Who: "ops", Role: "admin", Act: "device.add", Target: fmt.Sprintf("plant/%d", i), Outcome: audit.OK}); err != nil {
			t.Fatal(err)
		}
	}
	return db, l
}

// verify reads the whole chain, in small pages.
func verify(t *testing.T, l *audit.Log, heads ...audit.Head) []string {
	t.Helper()
	v := audit.Verifier{Heads: heads}
	var found []string
	add := func(ps []audit.Problem) {
		for _, p := range ps {
			found = append(found, p.String())
		}
	}
	for after := ""; ; {
		page, err := l.Page(t.Context(), after, 7)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for i := range page {
			add(v.Next(&page[i]))
		}
		after = page[len(page)-1].Key
	}
	add(v.End())
	if len(found) == 0 && v.Head() != l.Head() {
		t.Errorf("the verifier ends with %s, the log with %s", v.Head(), l.Head())
	}
	return found
}

func TestTheChainGoesOnAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.db")
	for n := range 20 {
		db, l := open(t, path)
		if l.Head().Seq != int64(n) {
			t.Fatalf("opened with the head %s after %d entries", l.Head(), n)
		}
		if err := l.Record(t.Context(), audit.Entry{Who: "ops", Act: "token.create", Outcome: audit.OK}); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, l := open(t, path)
	if found := verify(t, l); len(found) > 0 {
		t.Error(found)
	}
}

func TestEntriesOfManyAreOneChain(t *testing.T) {
	_, l := filled(t, 0)
	var wg sync.WaitGroup
	for who := range 8 {
		wg.Go(func() {
			for i := range 50 {
				e := audit.Entry{Who: fmt.Sprint(who), Act: "command.create", Outcome: audit.OK, Count: i, Detail: strings.Repeat("é\xff", 300)}
				if err := l.Record(context.Background(), e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if found := verify(t, l); len(found) > 0 || l.Head().Seq != 400 {
		t.Error(l.Head(), found)
	}
	next := map[string]int{}
	page, err := l.Page(t.Context(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page {
		if e.Count != next[e.Who] {
			t.Fatalf("%s has %d where %d comes next", e.Who, e.Count, next[e.Who])
		}
		next[e.Who]++
	}
}

// Whatever is done to the stored entries is found, and named by its place.
func TestVerifyFindsWhatWasDone(t *testing.T) {
	at := func(seq int64) store.DocumentID { return store.DocumentID{Kind: "audit", Key: audit.KeyOf(seq)} }
	type edit = map[store.DocumentID][]byte // nil takes away
	for name, c := range map[string]struct {
		do   func(body func(int64) []byte) edit
		want []string
	}{
		"changed": {func(body func(int64) []byte) edit {
			return edit{at(5): bytes.Replace(body(5), []byte("ops"), []byte("eve"), 1)}
		}, []string{"entry 0000000000000005: changed"}},
		"changed and sealed anew": {func(body func(int64) []byte) edit {
			return edit{at(5): reseal(body(5), []byte("ops"), []byte("eve"))}
		}, []string{"entry 0000000000000006: does not follow"}},
		"not JSON": {func(func(int64) []byte) edit { return edit{at(5): []byte("{")} },
			[]string{"entry 0000000000000005: changed", "entry 0000000000000006: does not follow"}},
		"a field more": {func(body func(int64) []byte) edit {
			return edit{at(5): bytes.Replace(body(5), []byte(`{`), []byte(`{"x":1,`), 1)}
		}, []string{"entry 0000000000000005: changed", "entry 0000000000000006: does not follow"}},
		"removed":      {func(func(int64) []byte) edit { return edit{at(5): nil} }, []string{"entry 0000000000000005: removed"}},
		"two removed":  {func(func(int64) []byte) edit { return edit{at(5): nil, at(6): nil} }, []string{"entry 0000000000000005: removed, with all up to 0000000000000006"}},
		"first gone":   {func(func(int64) []byte) edit { return edit{at(1): nil} }, []string{"entry 0000000000000001: removed"}},
		"last removed": {func(func(int64) []byte) edit { return edit{at(20): nil} }, []string{"entry 0000000000000014: removed"}},
		"reordered": {func(body func(int64) []byte) edit { return edit{at(5): body(6), at(6): body(5)} },
			[]string{"entry 0000000000000005: moved: it was written as entry 0000000000000006", "entry 0000000000000006: moved", "entry 0000000000000007: does not follow"}},
		"inserted between": {func(body func(int64) []byte) edit {
			return edit{{Kind: "audit", Key: audit.KeyOf(5) + "a"}: body(5)}
		}, []string{"entry 0000000000000005a: inserted"}},
		"inserted, the rest pushed on": {func(body func(int64) []byte) edit {
			e := edit{}
			for i := int64(11); i <= 21; i++ {
				e[at(i)] = body(i - 1)
			}
			return e
		}, []string{"entry 000000000000000b: moved"}},
	} {
		t.Run(name, func(t *testing.T) {
			db, l := filled(t, 20)
			before := l.Head()
			var b store.Batch
			e := c.do(func(seq int64) []byte {
				d, err := db.Document(t.Context(), at(seq))
				if err != nil {
					t.Fatal(err)
				}
				return d.Body
			})
			for _, id := range slices.SortedFunc(maps.Keys(e), func(a, b store.DocumentID) int { return strings.Compare(a.Key, b.Key) }) {
				was := int64(1)
				if _, err := db.Document(t.Context(), id); fault.CodeOf(err) == fault.NotFound {
					was = 0
				}
				b.Documents = append(b.Documents, store.DocumentWrite{DocumentID: id, Was: was, Body: e[id]})
			}
			if _, err := db.Commit(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
			l, err := audit.Open(t.Context(), db, nil)
			if err != nil {
				t.Fatal(err)
			}
			found := verify(t, l, before)
			if len(found) < len(c.want) {
				t.Fatalf("found %q, want %q", found, c.want)
			}
			for i, want := range c.want {
				if !strings.HasPrefix(found[i], want) {
					t.Errorf("found %q, want %q", found[i], want)
				}
			}
			// The server goes on, whatever was done to its log.
			if err := l.Record(t.Context(), audit.Entry{Who: "ops", Act: "device.add", Outcome: audit.OK}); err != nil {
				t.Error(err)
			}
		})
	}
}

// reseal changes an entry and gives it a hash that fits.
func reseal(body, from, to []byte) []byte {
	body = bytes.Replace(body, from, to, 1)
	e := audit.Decode(store.Document{DocumentID: store.DocumentID{Key: audit.KeyOf(1)}, Body: body})
	return bytes.Replace(body, []byte(e.Hash), []byte(e.Sum()), 1)
}

// Only a head that was kept elsewhere tells that everything was computed anew.
func TestAHeadTellsAChainThatWasComputedAnew(t *testing.T) {
	_, l := filled(t, 20)
	kept := l.Head()
	_, other := filled(t, 25)
	if found := verify(t, other); len(found) > 0 {
		t.Errorf("a chain by itself: %q", found)
	}
	if found := verify(t, other, kept); len(found) != 1 || !strings.Contains(found[0], "0000000000000014: is not the one") {
		t.Errorf("found %q", found)
	}
	if found := verify(t, l, kept, audit.Head{Seq: 22, Hash: kept.Hash}); len(found) != 1 || !strings.Contains(found[0], "0000000000000015: removed") {
		t.Errorf("found %q", found)
	}
}

func TestCommitKeepsBothOrNeither(t *testing.T) {
	db, l := filled(t, 3)
	id := store.DocumentID{Kind: "hook", Key: "h"}
	add := []store.DocumentWrite{{DocumentID: id, Body: []byte("x")}}
	if err := l.Commit(t.Context(), audit.Entry{Act: "hook.add"}, add); err != nil {
		t.Fatal(err)
	}
	var conflict *store.ConflictError
	if err := l.Commit(t.Context(), audit.Entry{Act: "hook.add"}, add); !errors.As(err, &conflict) {
		t.Errorf("the same again: %v", err)
	}
	if found := verify(t, l); len(found) > 0 || l.Head().Seq != 4 {
		t.Error(l.Head(), found)
	}
	if d, err := db.Document(t.Context(), id); err != nil || d.Version != 1 {
		t.Error(d, err)
	}
}

// fails is a store whose commits fail while err is set.
type fails struct {
	*sqlite.Store
	err error
}

func (f *fails) Commit(ctx context.Context, b *store.Batch) (int64, error) {
	if f.err != nil {
		return 0, f.err
	}
	return f.Store.Commit(ctx, b)
}

func TestAnEntryThatIsNotKeptIsNoPartOfTheChain(t *testing.T) {
	db, _ := open(t, filepath.Join(t.TempDir(), "w.db"))
	f := &fails{Store: db}
	l, err := audit.Open(t.Context(), f, func() time.Time { return time.Unix(1, 5) })
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		f.err = nil
		if i%2 == 1 {
			f.err = fault.New(fault.StorageFull, "full")
		}
		if err := l.Record(t.Context(), audit.Entry{Act: "x"}); !errors.Is(err, f.err) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if found := verify(t, l); len(found) > 0 || l.Head().Seq != 3 {
		t.Error(l.Head(), found)
	}
}

func FuzzParseHead(f *testing.F) {
	f.Add("1:" + strings.Repeat("ab", 32))
	f.Add("-1:")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := audit.ParseHead(s)
		if err != nil {
			return
		}
		if again, err := audit.ParseHead(h.String()); err != nil || again != h {
			t.Errorf("%q: %v, then %v, %v", s, h, again, err)
		}
	})
}

// TestCursors: what Page gives is a cursor, also when somebody has put it there, and a
// place at which there is nothing yet; what is neither is none.
func TestCursors(t *testing.T) {
	db, l := filled(t, 3)
	odd := store.DocumentID{Kind: "audit", Key: audit.KeyOf(2) + "a"}
	if _, err := db.Commit(t.Context(), &store.Batch{Documents: []store.DocumentWrite{{DocumentID: odd, Body: []byte("{}")}}}); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{"": true, audit.KeyOf(1): true, audit.KeyOf(99): true, odd.Key: true,
		"nonsense": false, odd.Key + "a": false, odd.Key[:8]: false, "0": false, "-1": false, "\x00": false} {
		if got, err := l.IsKey(t.Context(), key); got != want || err != nil {
			t.Errorf("%q: %v %v", key, got, err)
		}
	}
}

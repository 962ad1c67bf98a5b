package pebblestore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker/store"
)

// keys counts the keys of a kind.
func keys(t *testing.T, s *Store, kind byte) (n int) {
	t.Helper()
	if err := each(s.db, kind, func(_, _ []byte) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestReclaim has a queue acknowledged, and finds next to nothing left of it.
func TestReclaim(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	commit(t, s, putSession("a", false), putSession("b", false))
	const n = 20_000
	for i := range uint64(n) {
		s.Commit(&store.Batch{Ops: []store.Op{appendOp(i+1, message("t", "x"), "a", "b")}}, nil)
	}
	for i := range uint64(n) {
		s.Commit(&store.Batch{Ops: []store.Op{removed("a", i+1), removed("b", i+1)}}, nil)
		if i%500 == 0 {
			commit(t, s)
		}
	}
	commit(t, s)
	if n := keys(t, s, keyEntry); n > 2*trimEntries {
		t.Errorf("%d entries are left", n)
	}
	if n := keys(t, s, keyMessage); n > 6*trimEntries {
		t.Errorf("%d messages are left", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestNeverIdle has more under way than memory keeps the numbers of, and goes on
// so: the low-water mark keeps up, and nothing is left at the end.
func TestNeverIdle(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	commit(t, s, putSession("a", false))
	const window, n = 3 * ringAttached, 20 * ringAttached
	for i := range uint64(n + window) {
		b := &store.Batch{}
		if i < n {
			b.Add(appendOp(i+1, message("t", "x"), "a"))
		}
		if i >= window {
			b.Add(removed("a", i-window+1))
		}
		if s.Commit(b, nil); i%97 == 0 {
			commit(t, s)
		}
		if i%ringAttached == 0 && i > 2*window {
			s.mu.Lock()
			low := s.sessions["a"].low
			s.mu.Unlock()
			if behind := i - window - low; int64(behind) > 2*ringAttached {
				t.Fatalf("at %d the low-water mark is %d behind", i, behind)
			}
		}
	}
	commit(t, s)
	if got := describe(t, s); len(got) != 2 {
		t.Errorf("left: %q", got[:min(len(got), 5)])
	}
	if n := keys(t, s, keyEntry); n > trimEntries {
		t.Errorf("%d entries are left", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSweep ends a session with a long queue that another has as well; what is
// left of that when the store closes goes at the next start.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	commit(t, s, putSession("a", true), putSession("b", true))
	const n = 3 * sweepAtOnce
	for i := range uint64(n) {
		s.Commit(&store.Batch{Ops: []store.Op{appendOp(i+1, message("t", fmt.Sprint(i+1)), "a", "b")}}, nil)
	}
	commit(t, s, store.Op{Kind: store.DeleteSession, Client: "a"})
	for range 3 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, dir, Options{})
	}
	s.mu.Lock()
	for s.unswept > 0 {
		s.turned.Wait()
	}
	s.mu.Unlock()
	commit(t, s)
	if got := keys(t, s, keyEntry); got != n {
		t.Errorf("%d entries of %d", got, n)
	}
	if got := len(queueOf(t, s, "b", 0, n+1)); got != n {
		t.Errorf("%d of %d messages are left to the other", got, n)
	}
	if got := keys(t, s, keyEnded); got != 0 {
		t.Errorf("%d sessions to be swept", got)
	}
	commit(t, s, store.Op{Kind: store.DeleteSession, Client: "b"}, putSession("c", true))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDiskFull fills a real file system: publishers are refused, nothing that
// was done is lost, and when another file has gone it goes on.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("no file system of a small size: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	s := mustOpen(t, filepath.Join(dir, "data"), Options{Reserve: 24 << 20})
	commit(t, s, putSession("a", true))
	payload := make([]byte, 50_000) // few that are large: each waits for the disk
	random := rand.NewChaCha8([32]byte{1})
	var n uint64
	fill := func() {
		for {
			_, _ = random.Read(payload) // never fails
			err := try(s, appendOp(n+1, message("t", string(payload)), "a"))
			if errors.Is(err, ErrFull) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	fill()
	t.Logf("full after %d messages", n)
	if n < 1000 {
		t.Errorf("full after %d messages", n)
	}
	seq := uint64(0)
	for _, d := range drained(t, s, n) {
		if seq++; d != seq {
			t.Fatalf("message %d at %d", d, seq)
		}
	}
	for i := range n {
		commit(t, s, removed("a", i+1))
	}
	was := n
	if err := s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	if fill(); n < was+100 {
		t.Errorf("there is room for %d messages only after %d have gone", n-was, was)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// drained reads the whole queue of "a".
func drained(t *testing.T, s *Store, n uint64) (seqs []uint64) {
	t.Helper()
	for after := uint64(0); after < n; {
		list, err := s.Queue(nil, "a", after, 100)
		if err != nil || len(list) == 0 {
			t.Fatal(len(list), err)
		}
		for _, d := range list {
			after = d.Seq
			seqs = append(seqs, d.Seq)
			d.Message.Release()
		}
	}
	return seqs
}

// TestTheDirectoryShrinks drains a queue, and finds its room on the disk free
// again, without anybody asking for it.
func TestTheDirectoryShrinks(t *testing.T) {
	if testing.Short() && raceEnabled {
		t.Skip("with fewer messages nothing shrinks")
	}
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	commit(t, s, putSession("a", true))
	const n, size = 60_000, 1000
	rng := rand.NewChaCha8([32]byte{1}) // what compresses well shows nothing
	for i := range uint64(n) {
		payload := make([]byte, size)
		if _, err := rng.Read(payload); err != nil {
			t.Fatal(err)
		}
		s.Commit(&store.Batch{Ops: []store.Op{appendOp(i+1, message("t", string(payload)), "a")}}, nil)
		if i%100 == 99 {
			commit(t, s)
		}
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	full := occupied(t, dir)
	if full < n*size {
		t.Fatalf("%d bytes on the disk for %d messages", full, n)
	}
	for i := range uint64(n) {
		if s.Commit(&store.Batch{Ops: []store.Op{removed("a", i+1)}}, nil); i%1000 == 999 {
			commit(t, s)
		}
	}
	commit(t, s)
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(2 * time.Minute); occupied(t, dir) > full/4; <-time.After(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d bytes are still there", occupied(t, dir), full)
		}
	}
	t.Logf("%d MiB, and %d after all was acknowledged", full>>20, occupied(t, dir)>>20)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// occupied is the size of the tables in a directory. Its logs are used again, so
// they take what a few of them need, whatever was queued.
func occupied(t *testing.T, dir string) (sum int64) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if i, err := e.Info(); err == nil && filepath.Ext(e.Name()) == ".sst" { // else it has just gone
			sum += i.Size()
		}
	}
	return sum
}

package pebblestore

import (
	"github.com/wilco-iot/wilco/internal/testkit"
	"runtime"
	"testing"
)

// TestShrinkWhileRead has a client go away while the committer reads what follows
// the entries that memory has: memory then has fewer, and what was read does not
// follow them any more.
func TestShrinkWhileRead(t *testing.T) {
	q := &queue{}
	for seq := range uint64(ringAttached + 100) {
		q.push(item{seq: seq + 1, size: 1}, 1)
	}
	q.ring, q.low = q.ring[100:], 101 // room for more
	m := q.sequel()
	for seq := m.start; seq <= q.last; seq++ {
		m.items = append(m.items, item{seq: seq, size: 1})
	}
	q.shrink(3)
	q.follow(m, &group{n: 3})
	for seq := q.low; seq <= q.last; seq++ {
		if !q.may(seq) {
			t.Fatalf("entry %d is there, and memory says that it is not: it knows all up to %d", seq, q.known)
		}
	}
}

// TestReadBehindTheNewestBarrier has an entry go, for which reading must wait, while
// reading waits already: what is read before that would be taken for what is there.
func TestReadBehindTheNewestBarrier(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{Durability: OS})
	defer s.Close()
	commit(t, s, putSession("c", false), appendOp(1, message("t", "x"), "c"))
	raise := func(applied, barrier uint64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		q := s.sessions["c"]
		s.applied, q.barrier, q.appended = s.applied+applied, q.barrier+barrier, q.barrier+barrier
		s.turned.Broadcast()
		for range 100 {
			s.mu.Unlock()
			runtime.Gosched()
			s.mu.Lock()
		}
	}
	s.mu.Lock()
	s.sessions["c"].barrier = s.applied
	s.mu.Unlock()
	raise(0, 1)
	got := make(chan *scan)
	go func() { got <- s.begin("c", 0) }()
	raise(0, 0) // it waits
	raise(1, 1)
	raise(1, 0)
	r := testkit.Receive(t, got)
	if err := r.snapshot.Close(); err != nil {
		t.Fatal(err)
	}
	if r.pending {
		t.Error("it read before all that it had to wait for was there")
	}
}

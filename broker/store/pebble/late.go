package pebblestore

import (
	"io"

	"github.com/cockroachdb/pebble/v2"
)

// late is the removal of an entry that is not in ring.
type late struct {
	q   *queue
	seq uint64
}

type lateKey struct{ sid, seq uint64 }

// resolve looks up the removals that memory knows too little about. s.mu is
// held, but not while reading. All groups before the open one are applied, and
// what is only in the open one is in fresh.
func (s *Store) resolve() {
	g := s.open
	list := g.late
	g.late = nil
	if g.looked == nil {
		g.looked = make(map[lateKey]bool)
	}
	more := make(map[*queue]sequel)
	for _, l := range list {
		if _, ok := more[l.q]; !ok {
			more[l.q] = l.q.sequel()
		}
	}
	s.mu.Unlock()
	found := make([]item, len(list))
	for i, l := range list {
		found[i] = s.look(l)
	}
	for q, m := range more {
		m.items = s.items(q.sid, m.start, m.room)
		more[q] = m
	}
	s.mu.Lock()
	for i, l := range list {
		k := lateKey{l.q.sid, l.seq}
		if it, ok := l.q.young(l.seq, g.n); ok {
			found[i] = it
		}
		switch {
		case l.q.ended || g.looked[k]:
		case l.seq <= l.q.known: // it is in ring by now
			s.remove(l.q, l.seq)
		case found[i].seq != 0:
			g.looked[k] = true
			s.drop(l.q, found[i])
			s.deleteEntry(l.q, l.seq)
		}
	}
	for q, m := range more {
		q.follow(m, g)
	}
}

// sequel is what follows ring, as the disk has it.
type sequel struct {
	start uint64
	room  int
	cuts  uint64 // of the queue, when start was right
	items []item
}

// sequel says what is to be read.
func (q *queue) sequel() sequel {
	return sequel{start: max(q.known+1, q.low), room: ringAttached - len(q.ring), cuts: q.cuts}
}

// follow takes into ring what was read, and then what only the open group has. When
// ring was cut meanwhile, there would be a hole before it.
func (q *queue) follow(m sequel, g *group) {
	if !q.ended && q.count > 0 && q.cuts == m.cuts {
		q.extend(m.items, g.looked)
		if q.freshIn == g.n && q.known == q.freshAfter {
			q.extend(q.fresh, g.looked)
		}
	}
	q.advance()
}

// look reads one entry; seq is 0 when there is none.
func (s *Store) look(l late) item {
	v, closer, err := s.db.Get(entryKey(nil, keyEntry, l.q.sid, l.seq))
	if err != nil {
		if err != pebble.ErrNotFound {
			s.log.Error("broker store: an entry cannot be read", "client", l.q.client, "error", s.explain(err))
		}
		return item{}
	}
	defer s.closeQuietly(closer)
	e, err := decodeEntry(l.seq, v)
	if err != nil {
		return item{}
	}
	return e.item
}

// items reads up to limit entries for ring. What cannot be read ends it.
func (s *Store) items(sid, from uint64, limit int) []item {
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: entryKey(nil, keyEntry, sid, from), UpperBound: numbered(nil, keyEntry, sid+1),
	})
	if err != nil {
		return nil
	}
	defer s.closeQuietly(it)
	var list []item
	for ok := it.First(); ok && len(list) < limit; ok = it.Next() {
		e, err := decodeEntry(second(it.Key()), it.Value())
		if err != nil {
			break
		}
		list = append(list, e.item)
	}
	return list
}

func (s *Store) closeQuietly(c io.Closer) {
	if err := c.Close(); err != nil {
		s.log.Error("broker store: read", "error", s.explain(err))
	}
}

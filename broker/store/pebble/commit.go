package pebblestore

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
)

// group is what is written at once.
type group struct {
	n       uint64
	batch   *pebble.Batch
	waiting []waiter
	dirty   []*queue
	gone    map[uint64]uint32 // entries that went, by shared message
	late    []late            // removals that need a look at the disk
	looked  map[lateKey]bool  // those that had it
	last    bool              // a message was appended
	ended   []*ended          // sessions to be swept
	err     error
}

// waiter is one call of Commit.
type waiter struct {
	done func(error)
	err  error // refused
}

func (s *Store) newGroup(n uint64) *group {
	return &group{n: n, batch: s.db.NewBatch(), gone: make(map[uint64]uint32)}
}

func (g *group) empty() bool { return len(g.waiting) == 0 && len(g.late) == 0 && g.batch.Empty() }

// Commit applies b; see store.Committer. When the disk is short of space, done is
// given ErrFull for a batch with messages, and all but those is taken.
func (s *Store) Commit(b *store.Batch, done func(error)) {
	s.mu.Lock()
	g := s.open
	w := waiter{done: done}
	switch {
	case s.failed != nil:
		w.err = s.failed
	case s.closing:
		w.err = ErrClosed
	case s.crowded(b):
		w.err = ErrFull
		s.refused.Add(1)
		for i := range b.Ops {
			if op := &b.Ops[i]; !fills(op) && (op.Kind != store.Step || op.Change.Kind != session.Received) {
				s.apply(op)
			}
		}
	default:
		for i := range b.Ops {
			s.apply(&b.Ops[i])
		}
	}
	closed := s.closing
	if !closed {
		g.waiting = append(g.waiting, w)
	}
	s.mu.Unlock()
	if closed { // the notifier may be gone
		if done != nil {
			done(ErrClosed)
		}
		return
	}
	s.wake()
}

// crowded tells whether b has messages that the disk has no room for. The
// system is asked only when it was short already, or when a group becomes so
// large that the reserve might not do.
func (s *Store) crowded(b *store.Batch) bool {
	if !s.full.Load() && int64(s.open.batch.Len()) < s.options.Reserve/16 {
		return false
	}
	for i := range b.Ops {
		if fills(&b.Ops[i]) {
			return s.recheck(s.open.batch.Len())
		}
	}
	return false
}

// fills tells whether a change brings a message.
func fills(op *store.Op) bool {
	return op.Kind == store.Append && len(op.Targets) > 0 && !op.Moved || op.Kind == store.PutRetained
}

// Full tells whether messages are refused with ErrFull; see store.Limited.
func (s *Store) Full() bool { return s.full.Load() && s.recheck(0) }

// recheck asks the system whether the disk is short of space, with more bytes that
// are about to be written.
func (s *Store) recheck(more int) bool {
	full := s.short(more)
	s.full.Store(full)
	return full
}

// commitLoop is the committer.
func (s *Store) commitLoop() {
	defer close(s.written)
	for range s.kick {
		for {
			g, closing := s.seal()
			if g == nil {
				if closing {
					return
				}
				break
			}
			if g.err == nil && !g.batch.Empty() {
				g.err = s.put(g.batch)
			}
			s.settled(g)
			s.written <- g
		}
	}
}

// seal takes the open group, or nil when it is empty, and opens the next.
func (s *Store) seal() (g *group, closing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.open.late) > 0 && s.failed == nil {
		s.resolve()
	}
	g = s.open
	if g.empty() {
		return nil, s.closing
	}
	if g.err = s.failed; g.err == nil {
		s.complete(g)
	}
	s.open = s.newGroup(g.n + 1)
	return g, false
}

// complete adds to a group what it needs once: counters and totals.
func (s *Store) complete(g *group) {
	var buf [refsHead]byte
	for seq, n := range g.gone {
		s.key = numbered(s.key, keyMessage, seq)
		s.keep(g.batch.Merge(s.key, appendRefs(buf[:0], refsGone, int(n)), nil))
	}
	if s.goneShared += len(g.gone); s.goneShared >= 4*trimEntries && s.unswept == 0 {
		s.trimMessages(g)
	}
	if g.last {
		s.scratch = appendLast(s.scratch[:0], s.last)
		s.keep(g.batch.Set([]byte{keyLast}, s.scratch, nil))
	}
	for _, q := range g.dirty {
		q.dirty = false
		if q.detached {
			q.fresh = nil
		}
		if q.ended {
			continue
		}
		if q.untrimmed >= trimEntries || q.deadBytes >= trimBytes || q.count == 0 && q.untrimmed >= ringDetached {
			s.trim(g, q)
		}
		s.key = numbered(s.key, keyTotals, q.sid)
		s.scratch = q.totals.append(s.scratch[:0])
		s.keep(g.batch.Set(s.key, s.scratch, nil))
	}
}

// trim deletes what lies below the low-water mark.
func (s *Store) trim(g *group, q *queue) {
	if q.trimmed < q.low {
		s.key = entryKey(s.key, keyEntry, q.sid, q.trimmed)
		s.scratch = entryKey(s.scratch, keyEntry, q.sid, q.low)
		s.keep(g.batch.DeleteRange(s.key, s.scratch, nil))
	}
	q.trimmed, q.untrimmed, q.deadBytes = q.low, 0, 0
}

// trimMessages deletes the shared messages that are older than all queues. It
// is not called while there is a queue that only the sweeper knows of.
func (s *Store) trimMessages(g *group) {
	low := s.last + 1
	for _, q := range s.sessions {
		if q.shared > 0 {
			low = min(low, q.low)
		}
	}
	if s.trimmed < low {
		s.key = numbered(s.key, keyMessage, s.trimmed)
		s.scratch = numbered(s.scratch, keyMessage, low)
		s.keep(g.batch.DeleteRange(s.key, s.scratch, nil))
	}
	s.trimmed, s.goneShared = low, 0
}

// keep panics on what cannot be: a batch refuses nothing that fits into memory.
func (s *Store) keep(err error) {
	if err != nil {
		panic(fmt.Sprintf("pebblestore: %v", err))
	}
}

// put writes a batch, and waits until it is as durable as it has to be. What
// Pebble cannot cope with it throws.
func (s *Store) put(b *pebble.Batch) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case fatal:
			err = r.error
		case error:
			err = r
		default:
			panic(r)
		}
	}()
	return s.db.Apply(b, pebble.Sync)
}

// settled takes note of how a group went.
func (s *Store) settled(g *group) {
	if g.err == nil {
		s.groups.Add(1)
		s.batches.Add(uint64(len(g.waiting)))
		s.full.Store(s.short(0))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applied = g.n
	if g.err != nil && s.failed == nil {
		s.failed = fmt.Errorf("%w: %w", ErrFailed, g.err)
		s.log.Error("broker store failed", "dir", s.dir, "error", g.err)
	}
	if g.err != nil {
		g.err = s.failed
	}
	s.turned.Broadcast()
}

// notifyLoop is the notifier.
func (s *Store) notifyLoop() {
	for g := range s.written {
		for _, w := range g.waiting {
			if w.err == nil {
				w.err = g.err
			}
			if w.done != nil {
				w.done(w.err)
			}
		}
		if g.err == nil {
			_ = g.batch.Close() // frees memory; a failed one may still be Pebble's
		}
		for _, e := range g.ended {
			select {
			case s.endings <- e:
			default: // found again at the next start
			}
		}
	}
}

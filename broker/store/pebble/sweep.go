package pebblestore

import "github.com/cockroachdb/pebble/v2"

// ended is a session whose entries are to be taken away, because messages that
// others have as well must be told.
type ended struct{ sid, low uint64 }

// sweepAtOnce is how many entries one group takes away.
const sweepAtOnce = 4096

// sweepLoop takes the entries of ended sessions away, those that an earlier run
// has left first.
func (s *Store) sweepLoop(unswept []*ended) {
	for _, e := range unswept {
		if !s.sweep(e) {
			return
		}
	}
	for {
		select {
		case <-s.stop:
			return
		case e := <-s.endings:
			if !s.sweep(e) {
				return
			}
		}
	}
}

// sweep takes the entries of one session away, a part at a time, each with what
// it means for messages in one group. It says false when the store is closing
// or has failed; then the rest waits for the next start.
func (s *Store) sweep(e *ended) bool {
	for {
		shared, next, more, err := s.sweepable(e)
		if err != nil {
			s.log.Error("broker store: a queue that has ended cannot be read; it stays on the disk", "error", s.explain(err))
			return true
		}
		done := make(chan error, 1)
		s.mu.Lock()
		if s.closing || s.failed != nil {
			s.mu.Unlock()
			return false
		}
		g := s.open
		for _, seq := range shared {
			g.gone[seq]++
		}
		s.key = numbered(s.key, keyEntry, e.sid)
		s.scratch = entryKey(s.scratch, keyEntry, e.sid, next)
		if !more {
			s.scratch = numbered(s.scratch, keyEntry, e.sid+1)
		}
		s.keep(g.batch.DeleteRange(s.key, s.scratch, nil))
		s.key = numbered(s.key, keyEnded, e.sid)
		s.scratch = appendLast(s.scratch[:0], next)
		if more {
			s.keep(g.batch.Set(s.key, s.scratch, nil))
		} else {
			s.keep(g.batch.Delete(s.key, nil))
			s.unswept--
		}
		g.waiting = append(g.waiting, waiter{done: func(err error) { done <- err }})
		s.mu.Unlock()
		s.wake()
		if err := <-done; err != nil || !more {
			return err == nil
		}
		e.low = next
	}
}

// sweepable reads which shared messages the next entries are of, and where
// those after them begin.
func (s *Store) sweepable(e *ended) (shared []uint64, next uint64, more bool, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: entryKey(nil, keyEntry, e.sid, e.low), UpperBound: numbered(nil, keyEntry, e.sid+1),
	})
	if err != nil {
		return nil, 0, false, err
	}
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if n++; n > sweepAtOnce {
			more = true
			break
		}
		seq := second(it.Key())
		x, err := decodeEntry(seq, it.Value())
		if err != nil {
			_ = it.Close()
			return nil, 0, false, err
		}
		if x.shared {
			shared = append(shared, seq)
		}
		next = seq + 1
	}
	return shared, next, more, it.Close()
}

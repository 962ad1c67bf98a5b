package pebblestore

import (
	"github.com/cockroachdb/pebble/v2"

	"github.com/wilco-iot/wilco/broker/session"
)

// Queue reads from a session's queue; see store.Reader. It reads from the disk,
// and waits for the committer only when it has come to what is not yet written:
// no message from there could be sent before that anyway. It waits for nothing
// else. A damaged place is skipped and reported.
func (s *Store) Queue(dst []session.Delivery, client string, after uint64, limit int) ([]session.Delivery, error) {
	for had := len(dst); limit > 0; {
		r := s.begin(client, after)
		if r == nil {
			return dst, nil
		}
		err := r.read(limit)
		if err != nil {
			for _, d := range r.list {
				d.Message.Release()
			}
			return dst, s.explain(err)
		}
		full := len(r.list) >= limit
		last := r.last
		dst = s.finish(r, dst)
		if !full && !r.pending {
			return dst, nil
		}
		// Some of it was removed meanwhile, or more is about to be written.
		limit -= len(dst) - had
		had = len(dst)
		after = max(after, last)
		if !full {
			s.mu.Lock()
			s.await(r.appended)
			stuck := s.failed != nil
			s.mu.Unlock()
			if stuck {
				return dst, nil
			}
		}
	}
	return dst, nil
}

// scan is one reading of a queue.
type scan struct {
	s        *Store
	q        *queue
	snapshot *pebble.Snapshot
	after    uint64 // hand out what is above
	start    uint64 // read from here
	known    uint64 // as it was
	barrier  uint64 // as it was
	room     int    // of ring
	appended uint64 // group of the newest entry
	pending  bool   // which cannot be read yet
	names    names
	list     []session.Delivery
	items    []item // above known
	last     uint64 // entry read last
}

// begin looks where to read, and returns nil when there is nothing.
func (s *Store) begin(client string, after uint64) *scan {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.sessions[client]
	if q == nil {
		return nil
	}
	for s.applied < q.barrier && s.failed == nil { // which may rise while waiting
		s.await(q.barrier)
	}
	if q.count == 0 || q.last <= after {
		return nil
	}
	r := &scan{
		s: s, q: q, after: after, start: max(q.low, after+1), known: q.known, barrier: q.barrier,
		room: ringAttached - len(q.ring), appended: q.appended, pending: s.applied < q.appended && s.failed == nil,
	}
	if r.room > 0 && r.start > q.known {
		r.start = max(q.low, q.known+1) // so that ring has no hole
	}
	r.snapshot = s.db.NewSnapshot()
	return r
}

// read reads up to limit messages.
func (r *scan) read(limit int) (err error) {
	defer func() {
		if e := r.snapshot.Close(); err == nil {
			err = e
		}
	}()
	r.list = make([]session.Delivery, 0, min(limit, 256))
	for from := r.start; ; {
		err := r.run(from, limit)
		if !isDamage(err) {
			return err
		}
		bad, end := max(from, r.last+1), r.q.lastSeq(r.s)
		if from = r.beyond(bad, end); from == 0 {
			from = end + 1
		}
		r.s.damaged.Add(1)
		r.s.log.Error("broker store: a part of a queue is damaged and skipped", "client", r.q.client,
			"from", bad, "to", from-1, "error", r.s.explain(err))
		if from > end {
			return nil
		}
	}
}

// beyond finds the first place after bad, where an entry cannot be read, from
// which reading goes on: ever larger steps until one succeeds, then by halves
// back. It returns 0 when there is no such place up to end.
func (r *scan) beyond(bad, end uint64) uint64 {
	low, high := bad, bad
	for step := uint64(1); ; step *= 2 {
		if high = min(bad+step, end+1); r.readable(high) {
			break
		}
		if low = high; high > end {
			return 0
		}
	}
	for low+1 < high {
		if mid := low + (high-low)/2; r.readable(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return high
}

// readable tells whether the first entry from seq on can be read.
func (r *scan) readable(seq uint64) bool {
	probe := &scan{s: r.s, q: r.q, snapshot: r.snapshot, after: seq - 1}
	err := probe.run(seq, 1)
	for _, d := range probe.list {
		d.Message.Release()
	}
	return err == nil
}

// lastSeq is the newest entry.
func (q *queue) lastSeq(s *Store) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return q.last
}

// run reads entries in order.
func (r *scan) run(from uint64, limit int) error {
	it, err := r.snapshot.NewIter(&pebble.IterOptions{
		LowerBound: entryKey(nil, keyEntry, r.q.sid, from), UpperBound: numbered(nil, keyEntry, r.q.sid+1),
	})
	if err != nil {
		return err
	}
	for ok := it.First(); ok && len(r.list) < limit; {
		v, err := it.ValueAndErr()
		if err != nil {
			_ = it.Close()
			return err
		}
		seq := second(it.Key())
		e, err := decodeEntry(seq, v)
		if err != nil {
			_ = it.Close()
			return err
		}
		if seq > r.known && len(r.items) < r.room {
			r.items = append(r.items, e.item)
		}
		if seq > r.after {
			if err := r.take(&e); err != nil {
				_ = it.Close()
				return err
			}
		}
		r.last = seq
		if seq < r.after && len(r.items) >= r.room {
			ok = it.SeekGE(entryKey(nil, keyEntry, r.q.sid, r.after+1))
		} else {
			ok = it.Next()
		}
	}
	return it.Close()
}

// take makes a delivery of an entry.
func (r *scan) take(e *entry) error {
	value := e.message
	if e.shared {
		v, closer, err := r.snapshot.Get(numbered(nil, keyMessage, e.seq))
		if err != nil {
			if err == pebble.ErrNotFound {
				return pebble.ErrCorruption
			}
			return err
		}
		defer r.s.closeQuietly(closer)
		if len(v) < refsHead || v[0] != refsMessage {
			return errMalformed
		}
		value = v[refsHead:]
	}
	m, err := decodeMessage(value, &r.names)
	if err != nil {
		return err
	}
	r.list = append(r.list, session.Delivery{
		Message: m, Seq: e.seq, QoS: e.qos, Retain: e.retain, Stored: true, SubscriptionIDs: e.ids,
	})
	return nil
}

// finish hands out what was read and is not removed by now, and lets the queue
// know its entries.
func (s *Store) finish(r *scan, dst []session.Delivery) []session.Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.q
	if q.known == r.known && q.barrier == r.barrier && !q.ended {
		q.extend(r.items, nil)
	}
	for _, d := range r.list {
		if q.ended || !q.may(d.Seq) {
			d.Message.Release()
			continue
		}
		d.ID = q.reserved[d.Seq]
		dst = append(dst, d)
	}
	return dst
}

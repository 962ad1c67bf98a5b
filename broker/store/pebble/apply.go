package pebblestore

import (
	"encoding/binary"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
)

func appendLast(b []byte, last uint64) []byte { return binary.AppendUvarint(append(b, version1), last) }

func appendID(b []byte, id uint16) []byte {
	return binary.AppendUvarint(append(b, version1), uint64(id))
}

func appendHandshake(b []byte, order, seq uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(append(b, version1), order), seq)
}

// apply encodes one change into the open group, and makes it in memory. s.mu is
// held.
func (s *Store) apply(op *store.Op) {
	q := s.sessions[op.Client]
	b := s.open.batch
	switch op.Kind {
	case store.PutSession:
		s.putSession(op.Record)
	case store.DeleteSession:
		if q != nil {
			s.endSession(q)
		}
	case store.PutSubscription:
		if q != nil {
			s.key = append(numbered(s.key, keySubscription, q.sid), op.Subscription.Filter...)
			s.scratch = appendSubscription(s.scratch[:0], op.Subscription)
			s.keep(b.Set(s.key, s.scratch, nil))
		}
	case store.DeleteSubscription:
		if q != nil {
			s.key = append(numbered(s.key, keySubscription, q.sid), op.Subscription.Filter...)
			s.keep(b.Delete(s.key, nil))
		}
	case store.Append:
		s.append(op)
	case store.Step:
		if q != nil {
			s.step(q, op.Change)
		}
	case store.PutRetained:
		s.key = named(s.key, keyRetained, op.Message.Topic)
		s.scratch = appendMessage(s.scratch[:0], op.Message)
		s.keep(b.Set(s.key, s.scratch, nil))
	case store.DeleteRetained:
		s.key = named(s.key, keyRetained, op.Topic)
		s.keep(b.Delete(s.key, nil))
	}
}

func (s *Store) putSession(r *store.Record) {
	q := s.sessions[r.ClientID]
	if q == nil {
		q = &queue{sid: s.nextSID, client: r.ClientID}
		q.low = 1
		s.nextSID++
		s.sessions[r.ClientID] = q
		s.touch(q)
	}
	if q.detached = !r.DetachedAt.IsZero(); q.detached {
		q.shrink(s.open.n)
		s.touch(q)
	}
	s.key = named(s.key, keySession, r.ClientID)
	s.scratch = appendRecord(s.scratch[:0], q.sid, r)
	s.keep(s.open.batch.Set(s.key, s.scratch, nil))
}

// touch has the totals of q written with the open group.
func (s *Store) touch(q *queue) {
	if !q.dirty {
		q.dirty = true
		s.open.dirty = append(s.open.dirty, q)
	}
}

func (s *Store) append(op *store.Op) {
	if op.Seq > s.last {
		s.last, s.open.last = op.Seq, true
	}
	live := 0
	for i := range op.Targets {
		if s.sessions[op.Targets[i].Client] != nil {
			live++
		}
	}
	if live == 0 {
		return
	}
	b, size, shared := s.open.batch, op.Message.Size(), live > 1
	if shared {
		s.key = numbered(s.key, keyMessage, op.Seq)
		s.scratch = appendMessage(appendRefs(s.scratch[:0], refsMessage, live), op.Message)
		s.keep(b.Set(s.key, s.scratch, nil))
	}
	for i := range op.Targets {
		t := &op.Targets[i]
		q := s.sessions[t.Client]
		if q == nil {
			continue
		}
		q.push(item{seq: op.Seq, size: uint32(size), shared: shared}, s.open.n)
		s.touch(q)
		s.key = entryKey(s.key, keyEntry, q.sid, op.Seq)
		s.scratch = appendEntry(s.scratch[:0], t, size, shared)
		if !shared {
			s.scratch = appendMessage(s.scratch, op.Message)
		}
		s.keep(b.Set(s.key, s.scratch, nil))
	}
}

func (s *Store) step(q *queue, c session.Change) {
	b := s.open.batch
	switch c.Kind {
	case session.Received:
		s.key = packetKey(s.key, keyReceived, q.sid, c.ID)
		s.keep(b.Set(s.key, []byte{version1}, nil))
	case session.Forgotten:
		s.key = packetKey(s.key, keyReceived, q.sid, c.ID)
		s.keep(b.Delete(s.key, nil))
	case session.Reserved:
		s.reserve(q, c)
	case session.Released:
		s.remove(q, c.Seq)
		q.order++
		s.key = packetKey(s.key, keyReleased, q.sid, c.ID)
		s.scratch = appendHandshake(s.scratch[:0], q.order, c.Seq)
		s.keep(b.Set(s.key, s.scratch, nil))
	case session.Removed:
		s.remove(q, c.Seq)
		if c.ID != 0 {
			s.key = packetKey(s.key, keyReleased, q.sid, c.ID)
			s.keep(b.Delete(s.key, nil))
		}
	case session.Lost:
		if q.lost == nil {
			q.lost = new(session.Losses)
		}
		q.lost[c.ID] = c.Seq
		s.touch(q)
	}
}

// reserve keeps which packet id an entry has.
func (s *Store) reserve(q *queue, c session.Change) {
	if !q.may(c.Seq) {
		return
	}
	if q.reserved == nil {
		q.reserved = make(map[uint64]uint16)
	}
	q.reserved[c.Seq] = c.ID
	s.key = entryKey(s.key, keyReserved, q.sid, c.Seq)
	s.scratch = appendID(s.scratch[:0], c.ID)
	s.keep(s.open.batch.Set(s.key, s.scratch, nil))
}

// remove takes an entry out of a queue.
func (s *Store) remove(q *queue, seq uint64) {
	if !q.may(seq) {
		return
	}
	if seq > q.known {
		q.barrier = s.open.n
		s.open.late = append(s.open.late, late{q, seq})
		return
	}
	it := q.find(seq)
	s.drop(q, *it)
	if it.gone = true; it.seq != q.ring[0].seq {
		s.deleteEntry(q, seq)
	}
	q.advance()
}

// drop takes an entry off the totals, and what it needed off the message.
func (s *Store) drop(q *queue, it item) {
	q.settle(it)
	s.touch(q)
	if it.shared {
		s.open.gone[it.seq]++
	}
	if _, ok := q.reserved[it.seq]; ok {
		delete(q.reserved, it.seq)
		s.key = entryKey(s.key, keyReserved, q.sid, it.seq)
		s.keep(s.open.batch.Delete(s.key, nil))
	}
}

func (s *Store) deleteEntry(q *queue, seq uint64) {
	s.key = entryKey(s.key, keyEntry, q.sid, seq)
	s.keep(s.open.batch.Delete(s.key, nil))
}

// endSession removes a session and all it has. When messages that others have
// as well are in its queue, the entries are left to the sweeper.
func (s *Store) endSession(q *queue) {
	q.ended = true
	delete(s.sessions, q.client)
	b := s.open.batch
	s.key = named(s.key, keySession, q.client)
	s.keep(b.Delete(s.key, nil))
	s.key = numbered(s.key, keyTotals, q.sid)
	s.keep(b.Delete(s.key, nil))
	kinds := []byte{keySubscription, keyReceived, keyReserved, keyReleased, keyEntry}
	if q.shared > 0 {
		kinds = kinds[:len(kinds)-1]
		e := &ended{sid: q.sid, low: q.low}
		s.open.ended = append(s.open.ended, e)
		s.unswept++
		s.key = numbered(s.key, keyEnded, q.sid)
		s.scratch = appendLast(s.scratch[:0], q.low)
		s.keep(b.Set(s.key, s.scratch, nil))
	}
	for _, k := range kinds {
		s.key = numbered(s.key, k, q.sid)
		s.scratch = numbered(s.scratch, k, q.sid+1)
		s.keep(b.DeleteRange(s.key, s.scratch, nil))
	}
}

package pebblestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wilco-iot/wilco/broker/session"
)

// putright is the search for what contradicts itself because a part of the log
// is lost. A group that is missing leaves the others as they were written:
//
//	lost                    shows as                           becomes
//	append                  totals count more than there is    a loss that the client is told of
//	totals                  totals that do not fit             counted anew
//	removal                 an entry that is back              delivered again, with DUP; at QoS 2 see below
//	record of a session     numbers without a session          taken away; the number is not given again
//	end of a session        a session that is back             as if it had not ended; it expires
//	QoS 2 from a client:
//	  its id                nothing                            the message was in the same group
//	  its end               an id that a new message may have  only a PUBLISH with DUP is a repeat
//	QoS 2 to a client:
//	  its id                an entry without, before one with  it was sent: a loss that the client is told of
//	  PUBREC                an entry with an id that was not   PUBREL is sent: delivered if it ever arrived,
//	                        given after the damage             never twice
//	                        and that another has by now        it was delivered
//	  PUBCOMP               a handshake that is back           PUBREL again, which is harmless;
//	                        and that another has by now        it had ended
//
// A subscription, a retained message and a will are as they were before.
type putright struct {
	s        *Store
	found    *salvage
	fresh    map[string]bool // keys written after the last lost part
	touched  map[uint64]bool // sessions changed after it
	attached map[uint64]bool // sessions that have a connection, as far as the disk knows
	released map[uint64]map[uint16]bool
	report   damageReport
}

// damageReport is what it came to.
type damageReport struct {
	missing, unsure, delivered, orphans, sessions int
}

// putRight makes all changes in the open group. unswept are the sessions that
// are to be swept.
func (s *Store) putRight(found *salvage, sids map[uint64]*queue, unswept []*ended) ([]*ended, error) {
	p := &putright{s: s, found: found, fresh: make(map[string]bool), touched: make(map[uint64]bool),
		attached: make(map[uint64]bool), released: make(map[uint64]map[uint16]bool)}
	for _, key := range found.Fresh {
		p.fresh[string(key)] = true
	}
	for _, sid := range found.Touched {
		p.touched[sid] = true
	}
	err := errors.Join(
		each(s.db, keySession, func(client, v []byte) error {
			sid, r, err := decodeRecord(string(client), v)
			p.attached[sid] = r.DetachedAt.IsZero()
			return err
		}),
		each(s.db, keyReleased, func(key, _ []byte) error {
			sid := binary.BigEndian.Uint64(key)
			if p.released[sid] == nil {
				p.released[sid] = make(map[uint16]bool)
			}
			p.released[sid][binary.BigEndian.Uint16(key[8:])] = true
			return nil
		}),
	)
	if err != nil {
		return nil, err
	}
	for _, q := range s.sessions {
		if err := p.queue(q); err != nil {
			return nil, err
		}
	}
	s.open.last = true
	if err := p.received(); err != nil {
		return nil, err
	}
	if unswept, err = p.orphans(sids, unswept); err != nil {
		return nil, err
	}
	r := &p.report
	s.log.Error("broker store: what the damage means for sessions", "sessions", r.sessions, "messages_missing", r.missing,
		"qos2_not_sent_again", r.unsure, "queues_without_session", r.orphans,
		"hint", "subscriptions, retained messages and wills may be as they were before the lost changes")
	return unswept, nil
}

// quiet tells whether nothing of a session can have been in what is lost: of the logs,
// since its client was away and nothing says that it came back, and of the tables.
func (p *putright) quiet(sid uint64) bool {
	if len(p.found.Lost) > 0 && (p.attached[sid] || p.touched[sid]) {
		return false
	}
	for _, kind := range []byte{keyReceived, keyReserved, keyReleased} {
		if p.hit(numbered(nil, kind, sid), numbered(nil, kind, sid+1)) {
			return false
		}
	}
	return true
}

// hit tells whether a part of the keys from one to another was in a table that could
// not be read.
func (p *putright) hit(from, to []byte) bool {
	return slices.ContainsFunc(p.found.Ranges, func(l lostRange) bool { return l.has(from, to) })
}

// isRight tells whether a packet id is as it was written last.
func (p *putright) isRight(key []byte) bool {
	return p.fresh[string(key)] || len(p.found.Lost) == 0 && !p.hit(key, append(bytes.Clone(key), 0))
}

// isShare tells the queue of a share, in which ids only mark what is lent.
func (q *queue) isShare() bool { return q.client != "" && q.client[0] == 0 }

// queue puts one queue right.
func (p *putright) queue(q *queue) error {
	s := p.s
	if q.low == 0 { // its totals were lost
		q.low = 1
	}
	had, lastSent := q.count, uint64(0) // sent in order: those before it were sent too
	for seq := range q.reserved {
		if p.isFresh(q, seq) {
			lastSent = max(lastSent, seq)
		}
	}
	owner := p.owners(q)
	q.count, q.bytes, q.shared = 0, 0, 0 // counted anew; until then step has nothing to remove
	found, lost := 0, 0
	var low uint64
	err := p.entries(q, func(e *entry, whole bool) {
		id, sent := q.reserved[e.seq]
		_, current := owner[id]
		found++
		switch {
		case !whole:
			lost++
			p.drop(q, e)
		case sent && current && owner[id] != e.seq:
			p.report.delivered++
			p.drop(q, e)
		case e.qos != 2 || q.isShare() || p.quiet(q.sid) || sent && p.isFresh(q, e.seq):
			p.keep(q, e, &low)
		case sent:
			p.report.unsure++
			p.drop(q, e)
			s.step(q, session.Change{Kind: session.Released, ID: id, Seq: e.seq})
		case e.seq < lastSent || p.hit(entryKey(nil, keyReserved, q.sid, e.seq), entryKey(nil, keyReserved, q.sid, e.seq+1)):
			lost++
			p.drop(q, e)
		default:
			p.keep(q, e, &low)
		}
	})
	if err != nil {
		return err
	}
	for id := range p.released[q.sid] {
		if owner[id] != 0 {
			s.key = packetKey(s.key, keyReleased, q.sid, id)
			s.keep(s.open.batch.Delete(s.key, nil))
		}
	}
	p.finish(q, low, max(0, had-found)+lost)
	return nil
}

// isFresh tells whether the id of an entry was given after the damage.
func (p *putright) isFresh(q *queue, seq uint64) bool {
	return p.isRight(entryKey(nil, keyReserved, q.sid, seq))
}

// owners says who has a packet id, as far as was written after the damage: the
// entry, or 0 for a handshake.
func (p *putright) owners(q *queue) map[uint16]uint64 {
	owner := make(map[uint16]uint64)
	for seq, id := range q.reserved {
		if p.isFresh(q, seq) {
			owner[id] = seq
		}
	}
	for id := range p.released[q.sid] {
		if p.isRight(packetKey(nil, keyReleased, q.sid, id)) {
			owner[id] = 0
		}
	}
	return owner
}

// entries visits what is in a queue, and forgets the ids of what is not. whole is
// false for an entry whose message is not there.
func (p *putright) entries(q *queue, visit func(e *entry, whole bool)) error {
	s := p.s
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: entryKey(nil, keyEntry, q.sid, q.low), UpperBound: numbered(nil, keyEntry, q.sid+1),
	})
	if err != nil {
		return err
	}
	there := make(map[uint64]bool, len(q.reserved))
	for ok := it.First(); ok; ok = it.Next() {
		e, err := decodeEntry(second(it.Key()), it.Value())
		whole := true
		if err == nil && e.shared {
			whole, err = p.message(e.seq)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
		if _, sent := q.reserved[e.seq]; sent {
			there[e.seq] = true
		}
		visit(&e, whole)
	}
	for seq := range q.reserved {
		if !there[seq] {
			p.forget(q, seq)
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// message tells whether a message that several sessions have is there.
func (p *putright) message(seq uint64) (bool, error) {
	v, closer, err := p.s.db.Get(numbered(nil, keyMessage, seq))
	switch {
	case err == pebble.ErrNotFound:
		return false, nil
	case err != nil:
		return false, err
	}
	return len(v) >= refsHead && v[0] == refsMessage, closer.Close()
}

// keep counts an entry.
func (p *putright) keep(q *queue, e *entry, low *uint64) {
	if q.count == 0 {
		*low = e.seq
	}
	q.count++
	q.bytes += int(e.size)
	if e.shared {
		q.shared++
	}
	q.last = max(q.last, e.seq)
}

// drop takes an entry off the disk.
func (p *putright) drop(q *queue, e *entry) {
	s := p.s
	s.deleteEntry(q, e.seq)
	if e.shared {
		s.open.gone[e.seq]++
	}
	p.forget(q, e.seq)
}

// forget takes away the packet id of an entry.
func (p *putright) forget(q *queue, seq uint64) {
	if _, ok := q.reserved[seq]; ok {
		delete(q.reserved, seq)
		p.s.key = entryKey(p.s.key, keyReserved, q.sid, seq)
		p.s.keep(p.s.open.batch.Delete(p.s.key, nil))
	}
}

// finish writes the totals of a queue, from its first entry on, and tells its
// client how many messages it will not get.
func (p *putright) finish(q *queue, low uint64, missing int) {
	if q.count > 0 {
		q.low = low
	}
	q.known = q.low - 1
	p.s.last = max(p.s.last, q.last)
	if missing > 0 {
		p.report.missing += missing
		p.report.sessions++
		if !q.isShare() {
			if q.lost == nil {
				q.lost = new(session.Losses)
			}
			q.lost[session.DropDamaged] += uint64(missing)
		}
	}
	p.s.touch(q)
}

// received marks the packet ids of clients whose handshake may have ended.
func (p *putright) received() error {
	s := p.s
	return each(s.db, keyReceived, func(rest, _ []byte) error {
		sid := binary.BigEndian.Uint64(rest)
		s.key = packetKey(s.key, keyReceived, sid, binary.BigEndian.Uint16(rest[8:]))
		if !p.isRight(s.key) && !p.quiet(sid) {
			s.keep(s.open.batch.Set(s.key, []byte{version1, doubtful}, nil))
		}
		return nil
	})
}

// orphans has what belongs to no session taken away, and its number not given
// again.
func (p *putright) orphans(sids map[uint64]*queue, unswept []*ended) ([]*ended, error) {
	s := p.s
	known := make(map[uint64]bool)
	for sid := range sids {
		known[sid] = true
	}
	for _, e := range unswept {
		known[e.sid] = true
	}
	for _, kind := range []byte{keyTotals, keySubscription, keyReceived, keyReserved, keyReleased, keyEntry} {
		err := p.numbers(kind, func(sid uint64) {
			s.nextSID = max(s.nextSID, sid+1)
			switch {
			case known[sid]:
			case kind != keyEntry:
				s.key = numbered(s.key, kind, sid)
				s.scratch = numbered(s.scratch, kind, sid+1)
				s.keep(s.open.batch.DeleteRange(s.key, s.scratch, nil))
			default:
				p.report.orphans++
				s.key = numbered(s.key, keyEnded, sid)
				s.scratch = appendLast(s.scratch[:0], 0)
				s.keep(s.open.batch.Set(s.key, s.scratch, nil))
				unswept = append(unswept, &ended{sid: sid})
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return unswept, nil
}

// numbers visits each session number that keys of a kind have.
func (p *putright) numbers(kind byte, visit func(sid uint64)) error {
	it, err := p.s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; {
		sid := number(it.Key())
		visit(sid)
		ok = it.SeekGE(numbered(nil, kind, sid+1))
	}
	return errors.Join(it.Error(), it.Close())
}

package pebblestore

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
)

// await waits until a group can be read. s.mu is held. A store that has failed
// shows what it has.
func (s *Store) await(group uint64) {
	for s.applied < group && s.failed == nil {
		s.turned.Wait()
	}
}

// settle waits until all that was committed can be read. s.mu is held.
func (s *Store) settle() {
	for s.failed == nil && !s.open.empty() {
		s.await(s.open.n)
	}
	s.await(s.open.n - 1)
}

// LastSeq is the highest Seq ever appended.
func (s *Store) LastSeq() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// each calls visit for all keys of a kind, with what follows the kind.
func each(r pebble.Reader, kind byte, visit func(rest, value []byte) error) error {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		if err := visit(it.Key()[1:], it.Value()); err != nil {
			return errors.Join(fmt.Errorf("key %q: %w", it.Key(), err), it.Close())
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// load reads what is kept in memory, and which sessions are to be swept, and puts
// right what was found damaged.
func (s *Store) load(found *salvage) (unswept []*ended, err error) {
	v, closer, err := s.db.Get([]byte{keyFormat})
	switch {
	case err == pebble.ErrNotFound:
		if err := s.db.Set([]byte{keyFormat}, []byte(format), pebble.Sync); err != nil {
			return nil, err
		}
		// The first log of a new directory is of Pebble's oldest format, without
		// what checkLogs needs; this begins the next.
		if err := s.db.Flush(); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	default:
		found := string(v)
		if err := closer.Close(); err != nil {
			return nil, err
		}
		if found != format {
			return nil, fmt.Errorf("its format is %q, not %q: another version made it", found, format)
		}
	}
	sids := make(map[uint64]*queue)
	known := func(key []byte) *queue { return sids[number(append([]byte{0}, key[:min(8, len(key))]...))] }
	err = errors.Join(
		each(s.db, keyLast, func(_, v []byte) error {
			d := newDecoder(v)
			s.last = d.uint()
			return d.err()
		}),
		each(s.db, keySession, func(client, v []byte) error {
			sid, r, err := decodeRecord(string(client), v)
			q := &queue{sid: sid, client: r.ClientID, detached: true}
			s.sessions[q.client], sids[sid] = q, q
			s.nextSID = max(s.nextSID, sid+1)
			return err
		}),
		each(s.db, keyTotals, func(key, v []byte) (err error) {
			if q := known(key); q != nil {
				q.totals, err = decodeTotals(v)
				q.known = q.low - 1
			}
			return err
		}),
		each(s.db, keyReserved, func(key, v []byte) error {
			d := newDecoder(v)
			if q := known(key); q != nil {
				if q.reserved == nil {
					q.reserved = make(map[uint64]uint16)
				}
				q.reserved[binary.BigEndian.Uint64(key[8:])] = uint16(d.uint())
			}
			return d.err()
		}),
		each(s.db, keyReleased, func(key, v []byte) error {
			d := newDecoder(v)
			if q := known(key); q != nil {
				q.order = max(q.order, d.uint())
			}
			return d.err()
		}),
		each(s.db, keyEnded, func(key, v []byte) error {
			d := newDecoder(v)
			e := &ended{sid: binary.BigEndian.Uint64(key), low: d.uint()}
			s.nextSID = max(s.nextSID, e.sid+1)
			unswept = append(unswept, e)
			return d.err()
		}),
	)
	if err == nil {
		err = s.readable()
	}
	if found != nil && err == nil {
		return s.putRight(found, sids, unswept)
	}
	for _, q := range s.sessions {
		if q.low == 0 { // its totals were lost
			err = errors.Join(err, fmt.Errorf("session %q has no totals: %w", q.client, errMalformed))
		}
	}
	return unswept, err
}

// readable tells whether all else can be read that a start needs: it is too late for
// another way when it is asked for.
func (s *Store) readable() error {
	if err := s.readSessions(nil, nil); err != nil {
		return err
	}
	return each(s.db, keyRetained, func(_, v []byte) error { return nil })
}

// Sessions yields all sessions.
func (s *Store) Sessions() iter.Seq2[store.Session, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	list := make([]store.Session, 0, len(s.sessions))
	at := make(map[uint64]int, len(s.sessions))
	for client, q := range s.sessions {
		v := store.Session{Record: store.Record{ClientID: client}}
		v.Saved.Count, v.Saved.Bytes = q.count, q.bytes
		if q.lost != nil {
			v.Saved.Lost = *q.lost
		}
		if q.count > 0 {
			v.Saved.Last = q.last
		}
		for _, seq := range sortedKeys(q.reserved) {
			v.Saved.Reserved = append(v.Saved.Reserved, q.reserved[seq])
		}
		at[q.sid] = len(list)
		list = append(list, v)
	}
	err := s.readSessions(list, at)
	return func(yield func(store.Session, error) bool) {
		if err != nil {
			yield(store.Session{}, s.explain(err))
			return
		}
		for _, v := range list {
			if !yield(v, nil) {
				return
			}
		}
	}
}

func sortedKeys(m map[uint64]uint16) []uint64 {
	keys := make([]uint64, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// readSessions fills in what is only on the disk. at is where a session is in
// list.
func (s *Store) readSessions(list []store.Session, at map[uint64]int) error {
	of := func(key []byte) *store.Session {
		if len(key) < 8 {
			return nil
		}
		if i, ok := at[binary.BigEndian.Uint64(key)]; ok {
			return &list[i]
		}
		return nil
	}
	type released struct {
		session.Handshake
		order uint64
	}
	handshakes := make(map[*store.Session][]released)
	err := errors.Join(
		each(s.db, keySession, func(client, v []byte) error {
			sid, r, err := decodeRecord(string(client), v)
			if i, ok := at[sid]; ok {
				x := &list[i]
				x.Record = r
				x.Saved.ExpirySeconds, x.Saved.Will, x.Saved.DetachedAt = r.ExpirySeconds, r.Will, r.DetachedAt
				x.Saved.Overflow = r.Overflow
			}
			return err
		}),
		each(s.db, keySubscription, func(key, v []byte) error {
			x := of(key)
			if x == nil {
				return nil
			}
			sub, err := decodeSubscription(string(key[8:]), v)
			x.Subscriptions = append(x.Subscriptions, sub)
			return err
		}),
		each(s.db, keyReceived, func(key, v []byte) error {
			if x := of(key); x != nil {
				list := &x.Saved.Received
				if len(v) > 1 && v[1] == doubtful {
					list = &x.Saved.Doubtful
				}
				*list = append(*list, binary.BigEndian.Uint16(key[8:]))
			}
			return nil
		}),
		each(s.db, keyReleased, func(key, v []byte) error {
			d := newDecoder(v)
			if x := of(key); x != nil {
				r := released{order: d.uint()}
				r.ID, r.Seq = binary.BigEndian.Uint16(key[8:]), d.uint()
				handshakes[x] = append(handshakes[x], r)
			}
			return d.err()
		}),
	)
	for x, rs := range handshakes {
		slices.SortFunc(rs, func(a, b released) int { return cmp.Compare(a.order, b.order) })
		for _, r := range rs {
			x.Saved.Released = append(x.Saved.Released, r.Handshake)
		}
	}
	return err
}

// Retained yields all retained messages.
func (s *Store) Retained() iter.Seq2[*session.Message, error] {
	s.mu.Lock()
	s.settle()
	s.mu.Unlock()
	return func(yield func(*session.Message, error) bool) {
		errStop := errors.New("stop")
		var n names
		err := each(s.db, keyRetained, func(_, v []byte) error {
			m, err := decodeMessage(v, &n)
			if err == nil && !yield(m, nil) {
				return errStop
			}
			return err
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(nil, s.explain(err))
		}
	}
}

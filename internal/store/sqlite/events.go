package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"

	"github.com/wilco-iot/wilco/internal/store"
)

// errEnough ends a scan early.
var errEnough = errors.New("enough")

// addEvents gives the events of a block their IDs, and joins small blocks: they
// share a row with those of other batches of the transaction.
func (t *tx) addEvents(e eventBlock) {
	t.next += int64(e.n)
	if n := len(t.events); n > 0 && t.events[n-1].n+e.n <= maxBlock {
		last := &t.events[n-1]
		// Cut, so that append copies: the first block belongs to its task, which
		// may be applied again.
		if !last.joined {
			last.body = last.body[:len(last.body):len(last.body)]
			last.joined = true
		}
		last.body = append(last.body, e.body...)
		last.n += e.n
		last.at = max(last.at, e.at)
		return
	}
	t.events = append(t.events, e)
}

func (t *tx) writeEvents() error {
	id := t.next
	for _, e := range t.events {
		id -= int64(e.n)
	}
	for _, e := range t.events {
		if _, err := t.exec("INSERT INTO events (first, n, at, body) VALUES (?, ?, ?, ?)", id, int64(e.n), e.at, e.body); err != nil {
			return err
		}
		id += int64(e.n)
	}
	return nil
}

// Events gives up to limit events with an ID above after, in order. When some of
// them have been purged it begins with the first that is left: whoever must
// not miss any compares with FirstEvent. Limit below 1 means 100.
func (s *Store) Events(ctx context.Context, after int64, limit int) (events []store.Event, err error) {
	if limit < 1 {
		limit = 100
	}
	if after >= s.lastEvent.Load() {
		return nil, nil
	}
	from := max(after, 0) + 1
	err = s.read(ctx, func(c *conn) error {
		return c.query(ctx, func(v []driver.Value) error {
			events, err = unpack(events, v[0].(int64), v[1].(int64), from, v[2].([]byte), limit)
			if err == nil && len(events) >= limit {
				err = errEnough
			}
			return err
		}, `SELECT first, n, body FROM events
			WHERE first >= ifnull((SELECT max(first) FROM events WHERE first <= ?1), 0) ORDER BY first`, from)
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return events, nil
}

// FirstEvent is the ID of the oldest event that is kept; LastEvent + 1 when
// there is none.
func (s *Store) FirstEvent(ctx context.Context) (first int64, err error) {
	err = s.read(ctx, func(c *conn) error {
		first, err = c.number(ctx, "SELECT min(first) FROM events")
		return err
	})
	if err == nil && first == 0 {
		first = 1 // purging always leaves the last ones, so there never was any
	}
	return first, err
}

// LastEvent is the ID of the newest event; 0 when there never was any.
func (s *Store) LastEvent(context.Context) (int64, error) { return s.lastEvent.Load(), nil }

// Changed gives a channel that is closed at the next commit that has events.
// Who waits takes it first, then reads, then waits.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

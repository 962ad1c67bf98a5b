package service

import (
	"context"
	"slices"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
)

// EventFilter selects events. Zero fields select all.
type EventFilter struct {
	Group, Device string
	TID           *command.TID
	Rollout       string // its events and alarms

	asked  string    // Group, as it was asked for
	groups []string  // when Group is empty, only events of these; none: all
	reader Principal // as of now
}

func (f *EventFilter) match(e *store.Event) bool {
	if f.Rollout != "" && f.Rollout != e.Rollout {
		return false
	}
	if e.Type == store.EventRollout {
		return f.Device == "" && f.TID == nil && (f.asked == "" || slices.Contains(e.Groups, f.asked)) && seesAll(f.reader, e.Groups)
	}
	return (f.Group == "" || e.Device.Group == f.Group) &&
		(f.groups == nil || slices.Contains(f.groups, e.Device.Group)) &&
		(f.Device == "" || e.Device.Device == f.Device) &&
		(f.TID == nil || e.TID != nil && *e.TID == *f.TID)
}

// eventPage is how many events are read at once.
const eventPage = 500

// Tail reads events in the order of their commits. It keeps no goroutine and no
// buffer: a slow reader costs nothing but its own place in the store.
type Tail struct {
	s      *Service
	who    Principal
	filter EventFilter
	after  int64
}

// Tail begins after the event with the given id; negative: with the next one
// that happens.
func (s *Service) Tail(ctx context.Context, p Principal, f EventFilter, after int64) (*Tail, error) {
	if err := must(p, Viewer); err != nil {
		return nil, err
	}
	f.asked = f.Group
	t := &Tail{s: s, who: p, filter: f, after: after}
	if err := t.narrow(); err != nil {
		return nil, err
	}
	if after < 0 {
		var err error
		if t.after, err = s.opt.Store.LastEvent(ctx); err != nil {
			return nil, done(err)
		}
	}
	return t, nil
}

// narrow makes the filter one of what its reader may look at now.
func (t *Tail) narrow() error {
	p, err := t.s.now(t.who)
	if err == nil {
		t.filter.reader = p
		t.filter.Group, t.filter.groups, err = narrow(p, t.filter.asked, t.filter.Device)
	}
	return err
}

// After is the id of the last event that has been passed, selected or not.
func (t *Tail) After() int64 { return t.after }

// Batch is a piece of the stream.
type Batch struct {
	Events []store.Event
	// GapFirst is above 0 when events between the position before this batch
	// and GapFirst have been purged: the first event that is still there.
	GapFirst int64
}

// Next blocks until there are events that the filter selects, or a gap. Rights are
// those of the moment of reading. Its error is that of ctx or of the store, or
// Unauthenticated or Forbidden when the reader may look no more; after one of ctx the
// tail can go on.
func (t *Tail) Next(ctx context.Context) (Batch, error) {
	for {
		changed := t.s.opt.Store.Changed() // asked before reading, so that no commit is missed between
		b, err := t.read(ctx)
		if err != nil || len(b.Events) > 0 || b.GapFirst > 0 {
			return b, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		}
	}
}

// read passes what is there, until something is selected or nothing is left.
func (t *Tail) read(ctx context.Context) (Batch, error) {
	for {
		page, err := t.s.opt.Store.Events(ctx, t.after, eventPage)
		if err != nil {
			return Batch{}, done(err)
		}
		if err := t.narrow(); err != nil {
			return Batch{}, err
		}
		if len(page) == 0 {
			return Batch{}, nil
		}
		if first := page[0].ID; first > t.after+1 {
			// IDs have no gaps in a store, so these are gone.
			t.after = first - 1
			return Batch{GapFirst: first}, nil
		}
		t.after = page[len(page)-1].ID
		kept := page[:0]
		for i := range page {
			if t.filter.match(&page[i]) {
				kept = append(kept, page[i])
			}
		}
		if len(kept) > 0 {
			return Batch{Events: kept}, nil
		}
	}
}

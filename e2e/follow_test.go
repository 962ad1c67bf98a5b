package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/wilco-iot/wilco/client"
)

// follower follows the stream of events from its beginning, as somebody does who
// keeps books of his own.
type follower struct {
	s    *site
	stop context.CancelFunc
	done chan struct{}

	mu     sync.Mutex
	last   int64                   // id of the last event
	states map[string]client.State // by tid, as the events tell
	wrong  []string
}

// follow begins to follow.
func (s *site) follow() *follower {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{s: s, stop: cancel, done: make(chan struct{}), states: map[string]client.State{}}
	go func() {
		defer close(f.done)
		for item, err := range s.api.Events(ctx, client.EventOptions{After: 0}) {
			f.take(item, err)
		}
	}()
	s.t.Cleanup(func() { cancel(); <-f.done })
	return f
}

func (f *follower) take(item client.Item, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e := item.Event; {
	case errors.Is(err, context.Canceled):
	case err != nil:
		f.wrong = append(f.wrong, fmt.Sprintf("the stream ended: %v", err))
	case e == nil:
		f.wrong = append(f.wrong, fmt.Sprintf("a gap: %+v", item.Gap))
	default:
		if e.ID != f.last+1 {
			f.wrong = append(f.wrong, fmt.Sprintf("event %d came after %d", e.ID, f.last))
		}
		f.last = e.ID
		if e.Type == "command" {
			f.states[e.TID] = e.State
		}
	}
}

// check wants each event to have come once, in order, and the books to agree
// with the server in the end.
func (f *follower) check(known map[string]*client.Command) {
	f.s.t.Helper()
	err := within(patience, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		for tid, c := range known {
			if f.states[tid] != c.State {
				return fmt.Errorf("by its events %s is %q, and the server says %s", tid, f.states[tid], c.State)
			}
		}
		return nil
	})
	if err != nil {
		f.s.t.Error(err)
	}
	f.stop()
	<-f.done
	for i, w := range f.wrong {
		if i == 10 {
			break
		}
		f.s.t.Error(w)
	}
	f.s.t.Logf("%d events followed", f.last)
}

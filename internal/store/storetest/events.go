package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
)

// happened is event number n, with something in every field.
func happened(n int) store.Event {
	id, online, percent := tid(epoch, n), n%2 == 0, float64(n)/3
	return store.Event{Type: store.EventCommand, At: epoch.Add(time.Duration(n) * time.Millisecond), Device: pump, TID: &id,
		Name: "valve.set", Kind: command.Dispatch, From: command.Created, State: command.Sent, Reason: command.TurnCame,
		By: fmt.Sprint(n), Detail: "Größe \x00", Attempt: n, Percent: &percent, Online: &online, Boot: "b", Version: int64(n % 3),
		Rollout: []string{"", "fw"}[n%2], Groups: []string{"mill", "plant"}[:n%3]}
}

func eventsAreNumbered(s *suite) {
	ask := func(after int64, limit int, want ...store.Event) {
		s.Helper()
		got, err := s.Store.Events(s.ctx, after, limit)
		s.no(err)
		if text(got) != text(want) {
			s.Errorf("after %d:\ngot  %s\nwant %s", after, text(got), text(want))
		}
	}
	ask(0, 10)
	ask(-5, 10)
	ask(99, 10)
	if first, err := s.FirstEvent(s.ctx); err != nil || first != 1 {
		s.Errorf("first of none %d, %v", first, err)
	}
	var all []store.Event
	for n := range 700 {
		all = append(all, happened(n))
		all[n].ID = int64(n + 1)
	}
	strip := func(events []store.Event) (list []store.Event) {
		for _, e := range events {
			e.ID = 0
			list = append(list, e)
		}
		return list
	}
	if last := s.commit(store.Batch{Events: strip(all[:1])}); last != 1 {
		s.Errorf("last %d", last)
	}
	if last := s.commit(store.Batch{Commands: writes(made(1, pump))}); last != 1 {
		s.Errorf("a batch without events answers %d", last)
	}
	s.commit(store.Batch{Events: strip(all[1:5])})
	if last := s.commit(store.Batch{Events: strip(all[5:])}); last != 700 {
		s.Errorf("last %d", last)
	}
	ask(0, 1000, all...)
	ask(0, 3, all[:3]...)
	ask(0, 0, all[:100]...)
	ask(2, 2, all[2:4]...)
	ask(4, 600, all[4:604]...)
	ask(698, 10, all[698:]...)
	ask(699, 10, all[699:]...)
	ask(700, 10)
	s.reopen()
	ask(300, 5, all[300:305]...)
	if last, err := s.LastEvent(s.ctx); err != nil || last != 700 {
		s.Errorf("last %d, %v", last, err)
	}
}

// eventsOfManyCallers: the answer of a commit is the ID of its own last event,
// and the events of a batch stand together, in their order.
func eventsOfManyCallers(s *suite) {
	const callers, rounds, each = 8, 15, 3
	var mu sync.Mutex
	ends := map[int64]string{}
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for round := range rounds {
				var b store.Batch
				by := fmt.Sprintf("%d-%d", caller, round)
				for n := range each {
					b.Events = append(b.Events, store.Event{Type: store.EventDevice, At: epoch, By: by, Attempt: n})
				}
				last, err := s.Commit(s.ctx, &b)
				if err != nil {
					s.Error(err)
					return
				}
				mu.Lock()
				ends[last] = by
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	events, err := s.Store.Events(s.ctx, 0, 1000)
	s.no(err)
	if len(events) != callers*rounds*each {
		s.Fatalf("%d events", len(events))
	}
	for i, e := range events {
		n := i % each
		by := ends[int64(i-n+each)]
		if e.ID != int64(i+1) || e.Attempt != n || e.By != by {
			s.Errorf("event %d: ID %d, %q %d, want %q %d", i+1, e.ID, e.By, e.Attempt, by, n)
		}
	}
}

func changed(s *suite) {
	is := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	c := s.Store.Changed()
	s.put(made(1, pump))
	if is(c) {
		s.Error("a commit without events is a change")
	}
	s.conflicts(store.Batch{Commands: writes(made(1, pump)), Events: []store.Event{happened(1)}})
	if is(c) {
		s.Error("a conflict is a change")
	}
	s.commit(store.Batch{Events: []store.Event{happened(1)}})
	if !is(c) {
		s.Error("a commit with events is no change")
	}
	next := s.Store.Changed()
	if is(next) {
		s.Error("the next change has come already")
	}
	// Whoever reads after the signal sees what it was about.
	done := make(chan int)
	go func() {
		<-next
		events, _ := s.Store.Events(s.ctx, 1, 10)
		done <- len(events)
	}()
	s.commit(store.Batch{Events: []store.Event{happened(2)}})
	if n := <-done; n != 1 {
		s.Errorf("%d events after the signal", n)
	}
}

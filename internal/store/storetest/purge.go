package storetest

import (
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
)

func purgeCommands(s *suite) {
	at := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Hour) }
	var old, young, open []command.Command
	for n := range 12 {
		c := made(n+1, pump)
		c.Key, c.Digest = c.TID.String(), "d"
		s.put(c)
		switch n % 4 {
		case 0, 1:
			c = in(c, command.Executed, at(1))
			old = append(old, c)
		case 2:
			c = in(c, command.Failed, at(3))
			young = append(young, c)
		case 3:
			c = in(c, command.TimedOut, at(1))
			open = append(open, c)
		}
		s.put(c)
	}
	// Timed out and closed: ended as well.
	c := in(open[0], command.TimedOut, at(1))
	c.Closed, c.Ended = true, at(1)
	s.put(c)
	old, open = append(old, c), open[1:]

	for _, want := range []int{3, 3, 1, 0} {
		if n, err := s.Purge(s.ctx, at(2), 3); err != nil || n != want {
			s.Errorf("purged %d, %v, want %d", n, err, want)
		}
	}
	for _, c := range old {
		_, err := s.Command(s.ctx, c.TID)
		s.fails(err, fault.NotFound)
		_, _, err = s.CommandByKey(s.ctx, c.Device, c.Key)
		s.fails(err, fault.NotFound)
	}
	for _, c := range append(young, open...) {
		s.is(c)
	}
	n, err := s.Store.Counts(s.ctx, "site")
	s.no(err)
	if len(n) != 2 || n[command.Failed] != int64(len(young)) || n[command.TimedOut] != int64(len(open)) {
		s.Errorf("counts %v", n)
	}
	if n, err := s.Purge(s.ctx, at(1), 0); err != nil || n != 0 { // not before: at the time
		s.Errorf("purged %d, %v", n, err)
	}
	if n, err := s.Purge(s.ctx, at(1000), 0); err != nil || n != len(young) {
		s.Errorf("purged %d, %v", n, err)
	}
	_, err = s.Purge(s.ctx, at(1), -1)
	s.fails(err, fault.Invalid)
}

func purgeEvents(s *suite) {
	at := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Minute) }
	for n := range 10 {
		e := happened(n)
		e.At = at(n)
		s.commit(store.Batch{Events: []store.Event{e, e}})
	}
	n, err := s.Purge(s.ctx, at(4), 0)
	s.no(err)
	first, err := s.FirstEvent(s.ctx)
	s.no(err)
	if n != 8 || first != 9 {
		s.Errorf("purged %d, first is %d", n, first)
	}
	events, err := s.Store.Events(s.ctx, 0, 3)
	s.no(err)
	if len(events) != 3 || events[0].ID != 9 {
		s.Errorf("what is left begins with %+v", events)
	}
	if n, err := s.Purge(s.ctx, at(4), 0); err != nil || n != 0 {
		s.Errorf("purged %d more, %v", n, err)
	}
	// The newest stay, so that the numbers go on also after a restart.
	for range 100 {
		if n, err = s.Purge(s.ctx, at(1000), 0); err != nil || n == 0 {
			break
		}
	}
	s.no(err)
	s.reopen()
	if last := s.commit(store.Batch{Events: []store.Event{happened(1)}}); last != 21 {
		s.Errorf("the numbers went on with %d", last)
	}
}

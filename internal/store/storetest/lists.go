package storetest

import (
	"maps"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

func openCommands(s *suite) {
	var all []command.Command
	for n, state := range command.States {
		c := made(n+1, pump)
		if n%2 == 1 {
			c.Terms = &command.Terms{Priority: n, Exclusive: "water"}
		}
		s.put(c)
		if state != command.Created {
			c = in(c, state, epoch)
			s.put(c)
		}
		all = append(all, c)
	}
	// Timed out, and closed for good.
	c := made(50, valve)
	s.put(c)
	c = in(c, command.TimedOut, epoch)
	c.Closed = true
	s.put(c)

	var got, want []store.Open
	for o, err := range s.OpenCommands(s.ctx) {
		s.no(err)
		got = append(got, o)
		if _, err := s.Command(s.ctx, o.TID); err != nil { // a consumer may ask on
			s.Error(err)
		}
	}
	for _, c := range all {
		if !c.Final() {
			want = append(want, store.Open{TID: c.TID, Device: c.Device, State: c.State, Wake: c.Wake, Priority: c.Priority(), Interlocked: c.Interlocked()})
		}
	}
	if text(got) != text(want) {
		s.Errorf("got  %s\nwant %s", text(got), text(want))
	}
	for range s.OpenCommands(s.ctx) {
		break // and may stop
	}
	s.put(made(60, pump))
}

func counts(s *suite) {
	want := map[command.State]int64{}
	for n := range 40 {
		c := made(n+1, []wire.Address{pump, valve, other}[n%3])
		s.put(c)
		state := command.States[n%len(command.States)]
		c = in(c, state, epoch)
		s.put(c)
		if c.Device.Group == "site" {
			want[state]++
		}
		if c.Final() { // written again, it is not counted again
			c.Version++
			s.put(c)
		}
	}
	got, err := s.Store.Counts(s.ctx, "site")
	s.no(err)
	if !maps.Equal(got, want) {
		s.Errorf("got %v, want %v", got, want)
	}
	all, err := s.Store.Counts(s.ctx, "")
	s.no(err)
	sum := int64(0)
	for _, n := range all {
		sum += n
	}
	if sum != 40 {
		s.Errorf("all: %v", all)
	}
	if none, err := s.Store.Counts(s.ctx, "sit"); err != nil || len(none) != 0 {
		s.Errorf("of no group: %v, %v", none, err)
	}
}

// listed gives all pages of a query.
func (s *suite) listed(q store.Query) (all []command.Command) {
	s.Helper()
	for range 1000 {
		page, next, err := s.List(s.ctx, q)
		s.no(err)
		all = append(all, page...)
		if next == "" {
			return all
		}
		if len(page) == 0 {
			s.Fatal("an empty page that is not the last")
		}
		q.Cursor = next
	}
	s.Fatal("pages without end")
	return nil
}

func listFilters(s *suite) {
	var all []command.Command
	for n := range 30 {
		c := made(n+1, []wire.Address{pump, valve, other}[n%3])
		c.Name = []string{"valve.set", "reboot"}[n%2]
		c.RequestedBy = []string{"ops", "night", ""}[n/10]
		s.put(c)
		c = in(c, command.States[n%len(command.States)], epoch)
		s.put(c)
		all = append(all, c)
	}
	at := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Second) }
	for name, c := range map[string]struct {
		q    store.Query
		want func(command.Command) bool
	}{
		"all":           {store.Query{}, func(command.Command) bool { return true }},
		"group":         {store.Query{Group: "site"}, func(c command.Command) bool { return c.Device.Group == "site" }},
		"groups":        {store.Query{Groups: []string{"none", "site"}}, func(c command.Command) bool { return c.Device.Group == "site" }},
		"device":        {store.Query{Group: "site", Device: "pump"}, func(c command.Command) bool { return c.Device == pump }},
		"no such group": {store.Query{Group: "sit"}, func(command.Command) bool { return false }},
		"name":          {store.Query{Name: "reboot"}, func(c command.Command) bool { return c.Name == "reboot" }},
		"requested by":  {store.Query{RequestedBy: "night"}, func(c command.Command) bool { return c.RequestedBy == "night" }},
		"open state":    {store.Query{States: []command.State{command.Sent}}, func(c command.Command) bool { return c.State == command.Sent }},
		"states": {store.Query{States: []command.State{command.Sent, command.Executed, command.TimedOut}}, func(c command.Command) bool {
			return c.State == command.Sent || c.State == command.Executed || c.State == command.TimedOut
		}},
		"open states of a device": {store.Query{Group: "site", Device: "valve", States: []command.State{command.Sent, command.Created}},
			func(c command.Command) bool {
				return c.Device == valve && (c.State == command.Sent || c.State == command.Created)
			}},
		"since":  {store.Query{Since: at(11)}, func(c command.Command) bool { return !c.Created.Before(at(11)) }},
		"before": {store.Query{Before: at(11)}, func(c command.Command) bool { return c.Created.Before(at(11)) }},
		"all at once": {store.Query{Group: "site", Name: "reboot", RequestedBy: "ops", Since: at(2), Before: at(9)}, func(c command.Command) bool {
			return c.Device.Group == "site" && c.Name == "reboot" && c.RequestedBy == "ops" && !c.Created.Before(at(2)) && c.Created.Before(at(9))
		}},
	} {
		var want []command.Command
		for _, x := range all {
			if c.want(x) {
				want = append(want, x)
			}
		}
		for _, limit := range []int{0, 1, 3, 1000} {
			c.q.Limit = limit
			c.q.OldestFirst = true
			if got := s.listed(c.q); text(got) != text(want) {
				s.Errorf("%s, limit %d, oldest first: got %d, want %d", name, limit, len(got), len(want))
			}
			c.q.OldestFirst = false
			got := s.listed(c.q)
			slices.Reverse(got)
			if text(got) != text(want) {
				s.Errorf("%s, limit %d, newest first: got %d, want %d", name, limit, len(got), len(want))
			}
		}
	}
}

// listPages: a page follows the one before also when commands come in between,
// and none is given twice.
func listPages(s *suite) {
	for n := range 250 {
		s.put(made(n+1, pump))
	}
	page, next, err := s.List(s.ctx, store.Query{})
	s.no(err)
	if len(page) != 100 || next == "" || page[0].TID != made(250, pump).TID {
		s.Fatalf("%d in a page, cursor %q", len(page), next)
	}
	s.put(made(300, pump))
	page, next, err = s.List(s.ctx, store.Query{Cursor: next})
	s.no(err)
	if len(page) != 100 || page[0].TID != made(150, pump).TID {
		s.Errorf("second page of %d begins with %s", len(page), page[0].Created)
	}
	page, next, err = s.List(s.ctx, store.Query{Cursor: next})
	s.no(err)
	if len(page) != 50 || next != "" {
		s.Errorf("last page of %d, cursor %q", len(page), next)
	}
	// Exactly full is the last.
	if page, next, err := s.List(s.ctx, store.Query{Limit: 251}); err != nil || len(page) != 251 || next != "" {
		s.Errorf("%d, cursor %q, %v", len(page), next, err)
	}
}

func listRefuses(s *suite) {
	for n := range 3 {
		s.put(made(n+1, pump))
	}
	_, good, err := s.List(s.ctx, store.Query{Limit: 1})
	s.no(err)
	for _, c := range []struct {
		q     store.Query
		field string
	}{
		{store.Query{Limit: -1}, "limit"},
		{store.Query{Limit: 1001}, "limit"},
		{store.Query{Device: "pump"}, "group"},
		{store.Query{Cursor: "x"}, "cursor"},
		{store.Query{Cursor: "'; DROP TABLE commands"}, "cursor"},
		{store.Query{Cursor: good + "A"}, "cursor"},
		{store.Query{Cursor: good[1:]}, "cursor"},
		{store.Query{Cursor: good[:len(good)-4]}, "cursor"},
		{store.Query{Cursor: good, Group: "site"}, "cursor"},
		{store.Query{Cursor: good, OldestFirst: true}, "cursor"},
	} {
		_, _, err := s.List(s.ctx, c.q)
		if e := fault.From(err); e == nil || e.Code != fault.Invalid || e.Field != c.field {
			s.Errorf("%+v: %v", c.q, err)
		}
	}
	if _, _, err := s.List(s.ctx, store.Query{Cursor: good, Limit: 2}); err != nil {
		s.Errorf("a page may have another limit: %v", err)
	}
	s.no(s.PutDevice(s.ctx, store.Device{Address: pump}, 0))
	for _, cursor := range []string{"x", good} {
		_, _, err := s.Store.Devices(s.ctx, store.DeviceQuery{Cursor: cursor})
		if e := fault.From(err); e == nil || e.Code != fault.Invalid || e.Field != "cursor" {
			s.Errorf("devices, cursor %q: %v", cursor, err)
		}
	}
}

package service

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// lived is a command that was sent after 1 s, acknowledged after 3 s, and ended
// after some seconds; 0: not yet.
func lived(device, name string, s command.State, why command.Reason, ended int) *command.Command {
	c := &command.Command{Device: wire.Address{Group: "plant", Device: device}, Name: name, State: s, Reason: why, Created: began,
		FirstSent: began.Add(time.Second), Acked: began.Add(3 * time.Second)}
	if ended > 0 {
		c.Ended = began.Add(time.Duration(ended) * time.Second)
	}
	return c
}

func TestTally(t *testing.T) {
	tl := newTally()
	for n := range 100 {
		tl.add(lived("a", "move", command.Executed, command.DeviceSucceeded, 2+n))
	}
	tl.add(lived("b", "move", command.Failed, command.DeviceFailed, 501))
	tl.add(lived("b", "stop", command.Running, command.DeviceRunning, 0))
	tl.add(lived("c", "stop", command.Cancelled, command.DeviceCancelled, 2))
	unknown := lived("d", "stop", command.TimedOut, command.NeverSettled, 4)
	unknown.Closed = true
	tl.add(unknown)
	never := lived("e", "stop", command.Expired, command.DeliverByPassed, 9)
	never.FirstSent, never.Acked = time.Time{}, time.Time{}
	never.Created = began.Add(-time.Hour)
	tl.add(never)
	sec := func(n int) time.Duration { return time.Duration(n) * time.Second }
	got := tl.stats()
	if tl.oldest != never.Created || got.Commands != 105 {
		t.Errorf("oldest %s, %d commands", tl.oldest, got.Commands)
	}
	want := []TypeStats{
		{Name: "move", Commands: 101, Ends: []EndStats{{command.Executed, command.DeviceSucceeded, 100}, {command.Failed, command.DeviceFailed, 1}},
			CreatedToSent: Spread{101, sec(1), sec(1), sec(1), sec(1)}, SentToAcked: Spread{101, sec(2), sec(2), sec(2), sec(2)},
			SentToEnded: Spread{101, sec(51), sec(91), sec(100), sec(500)}, CreatedToEnded: Spread{101, sec(52), sec(92), sec(101), sec(501)}},
		{Name: "stop", Commands: 4, Open: 1, Ends: []EndStats{{command.Cancelled, command.DeviceCancelled, 1},
			{command.Expired, command.DeliverByPassed, 1}, {command.TimedOut, command.NeverSettled, 1}},
			CreatedToSent: Spread{3, sec(1), sec(1), sec(1), sec(1)}, SentToAcked: Spread{3, sec(2), sec(2), sec(2), sec(2)},
			SentToEnded: Spread{2, sec(1), sec(3), sec(3), sec(3)}, CreatedToEnded: Spread{3, sec(4), sec(3609), sec(3609), sec(3609)}},
	}
	if !reflect.DeepEqual(got.Types, want) {
		t.Errorf("got  %+v\nwant %+v", got.Types, want)
	}
	if list := fmt.Sprint(got.MostFailed); list != "[{plant/b 2 1 8m20s} {plant/d 1 1 3s} {plant/e 1 1 0s}]" {
		t.Error(list)
	}
	if list := fmt.Sprint(got.Slowest); list != "[{plant/b 2 1 8m20s} {plant/a 100 0 50.5s} {plant/d 1 1 3s} {plant/c 1 0 1s}]" {
		t.Error(list)
	}
}

func TestTallyIsBounded(t *testing.T) {
	tl := newTally()
	for n := range 2 * maxStatsNames {
		tl.add(lived(fmt.Sprint("d", n), fmt.Sprint("n", n), command.Failed, command.DeviceFailed, 9))
	}
	got := tl.stats()
	if len(got.Types) != maxStatsNames+1 || got.Types[0].Name != "" || got.Types[0].Commands != maxStatsNames {
		t.Errorf("%d types, the first %+v", len(got.Types), got.Types[0])
	}
	if len(got.MostFailed) != maxWorst || len(got.Slowest) != maxWorst {
		t.Errorf("%d and %d devices", len(got.MostFailed), len(got.Slowest))
	}
}

// endless is a store whose list has no end.
type endless struct {
	*parts
	asked []store.Query
}

func (e *endless) List(_ context.Context, q store.Query) ([]command.Command, string, error) {
	e.asked = append(e.asked, q)
	page := make([]command.Command, q.Limit)
	for i := range page {
		page[i] = *lived("a", "move", command.Executed, command.DeviceSucceeded, 2)
	}
	return page, fmt.Sprint(len(e.asked)), nil
}

// TestStatsLookAtABoundedWindow and say what was cut.
func TestStatsLookAtABoundedWindow(t *testing.T) {
	e := &endless{parts: &parts{}}
	s := New(Options{Engine: e, Store: e, Fleet: fleetOf{p: e.parts}})
	p := Principal{Name: "v", Grants: []Grant{{Role: Viewer, Groups: []string{"plant"}}}}
	q := StatsQuery{Type: "move", Since: time.Now().Add(-time.Hour)}
	got, err := s.Stats(t.Context(), p, q)
	if err != nil || !got.Cut || got.Commands != MaxStats || !got.From.Equal(began) {
		t.Errorf("%+v, %v", got, err)
	}
	last := e.asked[len(e.asked)-1]
	if last.Group != "plant" || last.Name != "move" || last.Cursor != fmt.Sprint(len(e.asked)-1) || !last.Since.Equal(q.Since) {
		t.Errorf("%+v", last)
	}
	all := Principal{Name: "v", Grants: fleet.Everywhere(Viewer)}
	for name, q := range map[string]StatsQuery{
		"since": {Since: time.Now().Add(-32 * 24 * time.Hour)},
		"type":  {Since: q.Since, Type: "a/b"},
	} {
		if _, err := s.Stats(t.Context(), all, q); fault.From(err).Field != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Stats(t.Context(), all, StatsQuery{Since: time.Now().Add(time.Hour)}); fault.From(err).Field != "since" {
		t.Error(err)
	}
}

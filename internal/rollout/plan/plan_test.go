package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/wilco-iot/wilco/internal/command"
)

// play runs r until it has ended or stands still: commands are made at once, and
// end as end says (Open: not yet). It returns when each target was started.
func play(t *testing.T, r Rollout, now time.Time, end func(target int) Cell) (Rollout, []time.Time, []Action) {
	t.Helper()
	starts := make([]time.Time, r.Total)
	var said []Action
	ev := Event{Kind: Tick}
	for range 1_000_000 {
		next, actions, err := Step(r, ev, now)
		if err != nil {
			t.Fatal(err)
		}
		r, ev = next, Event{Kind: Tick}
		for _, a := range actions {
			if a.Act != Start {
				said = append(said, a)
				continue
			}
			for i := a.From; i < a.To; i++ {
				starts[i] = now
				ev.Kind = Became
				ev.To = append(ev.To, Change{i, Open}, Change{i, end(i)})
			}
		}
		if r.State.Final() || ev.Kind == Tick && r.Wake.IsZero() {
			return r, starts, said
		}
		if ev.Kind == Tick {
			now = later(now, r.Wake)
		}
	}
	t.Fatal("it does not end")
	return r, nil, nil
}

func executed(int) Cell { return Executed }

// TestRates looks at every minute: never more starts than the rate, and over all no
// less than nine tenths of it, however late the clock is looked at.
func TestRates(t *testing.T) {
	for _, perMinute := range []int{1, 2, 59, 60, 119, 120, 600, 6000, 60000} {
		t.Run(fmt.Sprint(perMinute), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, uint64(perMinute)))
			n := 5 * perMinute
			r := New(Rollout{Spec: Spec{Rate: &Rate{PerMinute: perMinute}}}, n, nil, t0)
			now, ev, starts := t0, Event{Kind: Tick}, []time.Time{}
			for len(starts) < n {
				next, actions, err := Step(r, ev, now)
				if err != nil {
					t.Fatal(err)
				}
				r, ev = next, Event{Kind: Tick}
				for _, a := range actions {
					ev.Kind = Became
					for i := a.From; i < a.To; i++ {
						starts = append(starts, now)
						ev.To = append(ev.To, Change{i, Open}, Change{i, Executed})
					}
				}
				if ev.Kind == Tick {
					now = later(now, r.Wake).Add(time.Duration(rnd.IntN(100)) * time.Millisecond)
				}
			}
			for i := perMinute; i < n; i++ {
				if d := starts[i].Sub(starts[i-perMinute]); d < time.Minute {
					t.Fatalf("%d starts within %s", perMinute+1, d)
				}
			}
			if took := now.Sub(t0); took > 5*time.Minute*11/10+time.Second {
				t.Errorf("%d starts took %s", n, took)
			}
		})
	}
}

func TestRateGrowsWithSuccesses(t *testing.T) {
	s := Spec{Rate: &Rate{PerMinute: 60, Factor: 2, Every: 60, Max: 240}}
	for _, tt := range []struct{ after, want int }{{0, 60}, {59, 60}, {60, 120}, {120, 240}, {180, 240}, {1 << 30, 240}} {
		if got := s.Rate.PerMinuteAfter(tt.after); got != tt.want {
			t.Errorf("after %d successes: %d a minute, want %d", tt.after, got, tt.want)
		}
	}
	r, starts, _ := play(t, New(Rollout{Spec: s}, 420, nil, t0), t0, executed)
	if r.State != Finished {
		t.Fatal(r.State)
	}
	// A minute of 60, half a minute of 120, and 300 at 240.
	if took := starts[419].Sub(t0); took < 160*time.Second || took > 175*time.Second {
		t.Errorf("it took %s", took)
	}
	_, starts, _ = play(t, New(Rollout{Spec: s}, 420, nil, t0), t0, func(int) Cell { return Failed })
	if took := starts[419].Sub(t0); took < 400*time.Second {
		t.Errorf("it took %s, and nothing has succeeded", took)
	}
}

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		waves []Wave
		total int
		want  []int
	}{
		{nil, 7, []int{7}},
		{[]Wave{{Share: 0.07}}, 100, []int{7, 100}}, // 0.07*100 is a hair above 7
		{[]Wave{{Share: 0.01}}, 10, []int{1, 10}},
		{[]Wave{{Count: 5}, {Share: 0.5}}, 10, []int{5, 10}},
		{[]Wave{{Count: 50}, {Count: 1}}, 10, []int{10, 10}},
		{[]Wave{{Share: 0.5}}, 0, []int{0}},
	} {
		s := Spec{Waves: tt.waves}
		if got := s.Cut(tt.total); !slices.Equal(got, tt.want) {
			t.Errorf("%v of %d: %v, want %v", tt.waves, tt.total, got, tt.want)
		}
	}
}

func zones(t *testing.T, names ...string) map[string]*time.Location {
	t.Helper()
	m := map[string]*time.Location{}
	for _, n := range names {
		z, err := time.LoadLocation(n)
		if err != nil {
			t.Fatal(err)
		}
		m[n] = z
	}
	return m
}

// TestWindows compares WindowTurns with looking at every minute, over the days on
// which the clocks of Vienna are changed.
func TestWindows(t *testing.T) {
	z := zones(t, "Europe/Vienna", "Asia/Kolkata")
	for _, windows := range [][]Window{
		{{From: "22:00", To: "04:00", Zone: "Europe/Vienna"}},
		{{From: "01:00", To: "02:30", Zone: "Europe/Vienna"}},
		{{From: "02:15", To: "02:45", Zone: "Europe/Vienna"}},
		{{Days: []string{"sat"}, From: "23:00", To: "01:00", Zone: "Europe/Vienna"}},
		{{Days: []string{"sun"}, From: "00:00", To: "00:00", Zone: "Asia/Kolkata"}},
		{{From: "08:00", To: "09:00"}, {Days: []string{"mon", "tue"}, From: "09:00", To: "10:00"}},
	} {
		for _, day := range []time.Time{time.Date(2026, 3, 27, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 23, 0, 0, 0, 0, time.UTC)} {
			r := Rollout{Spec: Spec{Windows: windows}, Zones: z}
			for at := range 4 * 24 {
				now := day.Add(time.Duration(at)*60*time.Minute + 7*time.Second)
				was, want := r.InWindow(now), now.Truncate(time.Minute)
				for r.InWindow(want) == was && want.Sub(now) < 9*24*time.Hour {
					want = want.Add(time.Minute)
				}
				if got := r.WindowTurns(now); !got.Equal(want) {
					t.Fatalf("%v at %s: turns at %s, want %s", windows, now, got, want)
				}
			}
		}
	}
}

// TestWindowOfAnotherZone starts nothing before night has come in Kolkata.
func TestWindowOfAnotherZone(t *testing.T) {
	r := New(Rollout{Spec: Spec{Rate: &Rate{PerMinute: 1}, Windows: []Window{{From: "23:00", To: "23:10", Zone: "Asia/Kolkata"}}},
		Zones: zones(t, "Asia/Kolkata")}, 15, nil, t0)
	r, starts, _ := play(t, r, t0, executed)
	first := time.Date(2026, 3, 2, 17, 30, 0, 0, time.UTC)
	if r.State != Finished || !starts[0].Equal(first) || !starts[9].Equal(first.Add(9*time.Minute)) || !starts[10].Equal(first.Add(24*time.Hour)) {
		t.Errorf("%s: %s, %s, %s", r.State, starts[0], starts[9], starts[10])
	}
}

func TestDeliverByEndsWithTheWindow(t *testing.T) {
	r := Rollout{Policy: command.Defaults, Spec: Spec{Windows: []Window{{From: "11:00", To: "12:10"}}, Deadline: t0.Add(time.Hour)}}
	if d := r.DeliverBy(t0); d != 10*time.Minute {
		t.Errorf("a window of ten minutes more leaves %s", d)
	}
	r.Spec.Windows = nil
	if d := r.DeliverBy(t0); d != time.Hour {
		t.Errorf("a deadline in an hour leaves %s", d)
	}
	r.Spec.Deadline = time.Time{}
	if d := r.DeliverBy(t0); d != 24*time.Hour {
		t.Errorf("the policy leaves %s", d)
	}
}

func TestGateMissedPausesAndAPersonDecides(t *testing.T) {
	spec := Spec{Waves: []Wave{{Count: 10, Success: 0.9, Soak: command.Duration(time.Minute)}}}
	r, starts, said := play(t, New(Rollout{ID: "x", Spec: spec}, 30, nil, t0), t0, func(i int) Cell { return []Cell{Failed, Executed}[min(i/2, 1)] })
	if r.State != Paused || r.Reason != GateMissed || !starts[10].IsZero() || len(said) != 1 || said[0].Act != Alarm {
		t.Fatalf("%s (%s) %s, alarms %v", r.State, r.Reason, r.Detail, said)
	}
	r, _, err := Step(r, Event{Kind: Resume, By: "ada"}, t0)
	if err != nil || r.Hold != ForSoak || !r.Wake.Equal(t0.Add(time.Minute)) {
		t.Fatalf("%v, waits for %q until %s", err, r.Hold, r.Wake)
	}
	r, starts, _ = play(t, r, t0, executed)
	if r.State != Finished || !starts[10].Equal(t0.Add(time.Minute)) {
		t.Errorf("%s, the second wave began at %s", r.State, starts[10])
	}
}

// TestAbortCancelsAndEndsWhenNothingIsOpen also looks at what a restart does in
// the middle.
func TestAbortCancelsAndEndsWhenNothingIsOpen(t *testing.T) {
	r := New(Rollout{ID: "x"}, 2, nil, t0)
	r, actions, _ := Step(r, Event{Kind: Tick}, t0)
	if len(actions) != 1 || actions[0] != (Action{Act: Start, From: 0, To: 2}) {
		t.Fatal(actions)
	}
	want := []Action{{Act: Cancel}, {Act: Find, From: 0, To: 2}}
	r, actions, _ = Step(r, Event{Kind: Abort, By: "ada", Text: "wrong firmware"}, t0)
	if !slices.Equal(actions, want) || r.State != Aborting {
		t.Fatal(actions, r.State)
	}
	if r, actions, _ = Step(r, Event{Kind: Restarted}, t0); !slices.Equal(actions, want) {
		t.Fatal(actions)
	}
	r, actions, _ = Step(r, Event{Kind: Became, To: []Change{{0, Open}, {1, Skipped}}}, t0)
	if r.Cells.At(1) != Skipped || len(actions) != 1 || actions[0].Act != Cancel {
		t.Fatal(r.Cells.At(1), actions)
	}
	r, _, _ = Step(r, Event{Kind: Became, To: []Change{{0, Cancelled}}}, t0)
	if last := r.Log[len(r.Log)-1]; r.State != Aborted || r.Detail != "wrong firmware" || last.State != Aborted {
		t.Errorf("%s: %q, %+v", r.State, r.Detail, last)
	}
}

func TestDynamicTakesInMoreUntilItsDeadline(t *testing.T) {
	r := New(Rollout{Spec: Spec{Dynamic: true, Deadline: t0.Add(time.Hour)}}, 1, nil, t0)
	r, _, _ = Step(r, Event{Kind: Tick}, t0)
	r, _, _ = Step(r, Event{Kind: Became, To: []Change{{0, Open}}}, t0)
	r, _, _ = Step(r, Event{Kind: Became, To: []Change{{0, Executed}}}, t0)
	if r.State != Running || r.Hold != ForNewDevices {
		t.Fatalf("%s, waits for %q", r.State, r.Hold)
	}
	r, actions, _ := Step(r, Event{Kind: Found, Count: 2000}, t0)
	if r.Total != 2001 || len(actions) != 1 || actions[0] != (Action{Act: Start, From: 1, To: 1001}) {
		t.Fatal(r.Total, actions)
	}
	r, _, _ = play(t, r, t0, executed)
	r, _, _ = Step(r, Event{Kind: Tick}, t0.Add(time.Hour))
	if r.State != Aborting || r.Reason != DeadlineReached { // the first thousand were never said to be made
		t.Errorf("%s (%s)", r.State, r.Reason)
	}
}

func TestPredict(t *testing.T) {
	spec := Spec{Waves: []Wave{{Count: 100, Success: 1, Soak: command.Duration(10 * time.Minute)}}, Rate: &Rate{PerMinute: 60},
		StartAt: t0.Add(time.Hour)}
	f, ok := Predict(New(Rollout{Spec: spec}, 160, &command.Approval{}, t0), t0)
	if !ok || !f.Begin.Equal(t0.Add(time.Hour)) || len(f.Waves) != 2 || f.Stopped != "" {
		t.Fatalf("%+v %t", f, ok)
	}
	second := f.Waves[1].Sub(f.Begin)
	if second < 11*time.Minute+39*time.Second || second > 11*time.Minute+41*time.Second {
		t.Errorf("the second wave begins after %s", second)
	}
	if end := f.End.Sub(f.Waves[1]); end < 58*time.Second || end > time.Minute {
		t.Errorf("the second wave takes %s", end)
	}
	spec.Deadline = t0.Add(time.Hour + 5*time.Minute)
	if f, ok = Predict(New(Rollout{Spec: spec}, 160, nil, t0), t0); !ok || f.Stopped != Aborted {
		t.Errorf("past its deadline: %+v %t", f, ok)
	}
}

func BenchmarkEnds(b *testing.B) {
	r := New(Rollout{}, 100_000, nil, t0)
	for made := 0; made < r.Total; {
		var err error
		if r, _, err = Step(r, Event{Kind: Tick}, t0); err != nil {
			b.Fatal(err)
		}
		ev := Event{Kind: Became}
		for ; made < r.Next; made++ {
			ev.To = append(ev.To, Change{made, Open})
		}
		if r, _, err = Step(r, ev, t0); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, _, err := Step(r, Event{Kind: Became, To: []Change{{i % 100_000, Executed}}}, t0); err != nil {
			b.Fatal(err)
		}
	}
}

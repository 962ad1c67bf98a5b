package rollout

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

var errBroken = errors.New("its record is broken")

// play makes turns and ends what is sent, and moves the clock to when something is to
// be done, until the roll-out has ended or nothing moves.
func (g *rig) play(r *Runner) plan.Rollout {
	g.t.Helper()
	for range 200 {
		g.turns(r)
		if p := g.get(r, "fw"); p.State.Final() {
			return p
		}
		if g.endAll(allExecuted) > 0 {
			continue
		}
		wake := r.wake()
		if wake.IsZero() {
			break
		}
		if wake.After(g.now) {
			g.now = wake
		}
	}
	return g.get(r, "fw")
}

func (g *rig) events(typ store.EventType) (list []store.Event) {
	g.t.Helper()
	all, err := g.db.Events(g.t.Context(), 0, 1000)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, e := range all {
		if e.Type == typ {
			list = append(list, e)
		}
	}
	return list
}

// TestOneTargetThatFailsHoldsBackNobody: nothing can be made for one device, whether
// only its own request fails or all that were asked for with it.
func TestOneTargetThatFailsHoldsBackNobody(t *testing.T) {
	for _, whole := range []bool{false, true} {
		g := newRig(t, 12)
		g.broken, g.whole = map[wire.Address]error{device(2): errBroken}, whole
		r := g.runner()
		if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}, Concurrency: 5}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			g.turns(r)
			g.endAll(allExecuted)
		}
		g.turns(r)
		if all := g.counts(r); all[plan.Executed] != 11 || all[plan.Starting] != 1 {
			t.Fatalf("without a moment's time: %v", all)
		}
		began := g.now
		p := g.play(r)
		if all := p.Counts(); p.State != plan.Finished || all[plan.Failed] != 1 || all[plan.Executed] != 11 {
			t.Errorf("%s, %v", p.State, all)
		}
		if took := g.now.Sub(began); took < 20*time.Second || took > time.Minute {
			t.Errorf("given up after %s", took)
		}
		list, err := r.Targets(t.Context(), "fw", []plan.Cell{plan.Failed}, 0, 10)
		if err != nil || len(list) != 1 || list[0].Device != device(2) || list[0].Why != skipUnmade.String() {
			t.Errorf("%+v, %v", list, err)
		}
		if alarms := g.events(store.EventAlarm); len(alarms) != 1 || alarms[0].Device != device(2) || !strings.Contains(alarms[0].Detail, device(2).String()) {
			t.Errorf("alarms: %+v", alarms)
		}
	}
}

// TestWhatCannotBeMadeCountsAsFailed, for the threshold.
func TestWhatCannotBeMadeCountsAsFailed(t *testing.T) {
	g := newRig(t, 3)
	g.broken = map[wire.Address]error{device(1): errBroken}
	r := g.runner()
	spec := plan.Spec{Targets: plan.Targets{All: true}, Concurrency: 1, Abort: &plan.Threshold{Share: 0.4}}
	if _, err := g.begin(r, "fw", spec); err != nil {
		t.Fatal(err)
	}
	if p := g.play(r); p.State != plan.Aborted || p.Reason != plan.TooManyBad || len(g.commands()) != 1 {
		t.Errorf("%s (%s), %d commands", p.State, p.Reason, len(g.commands()))
	}
}

// TestTheServersTroubleIsNoTargets: what is full or down for an hour fails no target.
func TestTheServersTroubleIsNoTargets(t *testing.T) {
	g := newRig(t, 3)
	full := fault.New(fault.StorageFull, "")
	g.broken = map[wire.Address]error{device(0): full, device(1): full, device(2): full}
	r := g.runner()
	if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}}); err != nil {
		t.Fatal(err)
	}
	for range 60 {
		g.turns(r)
		g.now = g.now.Add(time.Minute)
	}
	if all := g.counts(r); all[plan.Starting] != 3 {
		t.Fatalf("%v", all)
	}
	g.broken = nil
	if p := g.play(r); p.State != plan.Finished || p.Counts()[plan.Executed] != 3 {
		t.Errorf("%s, %v", p.State, p.Counts())
	}
}

// TestWhatFailsWaitsForTheWindow, and does not keep the loop awake meanwhile.
func TestWhatFailsWaitsForTheWindow(t *testing.T) {
	g := newRig(t, 1)
	g.broken = map[wire.Address]error{device(0): errBroken}
	r := g.runner()
	spec := plan.Spec{Targets: plan.Targets{All: true}, Windows: []plan.Window{{From: "11:00", To: "12:30"}}}
	if _, err := g.begin(r, "fw", spec); err != nil {
		t.Fatal(err)
	}
	g.turns(r)
	g.now, g.broken = g.now.Add(time.Hour), nil
	g.turns(r)
	opens := time.Date(2026, 3, 3, 11, 0, 0, 0, time.UTC)
	if wake := r.wake(); len(g.commands()) != 0 || wake.Before(opens) && !wake.Equal(r.looked.Add(lookEvery)) {
		t.Errorf("%d commands, wakes at %s", len(g.commands()), wake)
	}
	g.now = opens
	g.turns(r)
	if len(g.commands()) != 1 {
		t.Error("it is not made in the window")
	}
}

// TestOneThatCannotBeCancelled holds back no other, and is tried again.
func TestOneThatCannotBeCancelled(t *testing.T) {
	for _, mended := range []bool{true, false} {
		g := newRig(t, 4)
		r := g.runner()
		if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}}); err != nil {
			t.Fatal(err)
		}
		g.turns(r)
		g.broken = map[wire.Address]error{device(0): errBroken}
		if _, err := r.Ask(t.Context(), "fw", plan.Event{Kind: plan.Abort, By: "ada"}, g.commit); err != nil {
			t.Fatal(err)
		}
		g.turns(r)
		g.turns(r) // the ends
		if all := g.counts(r); all[plan.Cancelled] != 3 || all[plan.Open] != 1 {
			t.Fatalf("%v", all)
		}
		if mended {
			g.broken = nil
		}
		for wake := r.wake(); !wake.IsZero(); wake = r.wake() {
			g.now = wake
			g.turns(r)
		}
		g.turns(r) // the end
		p, alarms := g.get(r, "fw"), len(g.events(store.EventAlarm))
		if mended && (p.State != plan.Aborted || alarms != 0) || !mended && (p.State != plan.Aborting || alarms != 1) {
			t.Errorf("mended %t: %s, %d alarms", mended, p.State, alarms)
		}
	}
}

// TestANameUsedAgain: the keys of the first one, which is forgotten, do not meet the
// commands of the second.
func TestANameUsedAgain(t *testing.T) {
	g := newRig(t, 2)
	r := g.runner()
	for n := 1; n <= 2; n++ {
		if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}}); err != nil {
			t.Fatal(err)
		}
		if p := g.play(r); p.State != plan.Finished || len(g.commands()) != 2*n {
			t.Fatalf("time %d: %s, %d commands", n, p.State, len(g.commands()))
		}
		g.now = g.now.Add(time.Hour)
		if err := r.Forget(t.Context(), g.now); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOneBegunByAnOlderServer has keys without a run.
func TestOneBegunByAnOlderServer(t *testing.T) {
	g := newRig(t, 1)
	r := g.runner()
	if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}}); err != nil {
		t.Fatal(err)
	}
	r.active["fw"].Run = ""
	g.turns(r)
	if list := g.commands(); len(list) != 1 || list[0].Key != "rollout/fw/0" {
		t.Errorf("%v", list)
	}
}

// TestWhoAnswersIsGone: it is paused with an alarm, and goes on when somebody else
// has resumed it.
func TestWhoAnswersIsGone(t *testing.T) {
	g := newRig(t, 4)
	g.absent = map[string]string{}
	r := g.runner()
	if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}, Concurrency: 1}); err != nil {
		t.Fatal(err)
	}
	g.turns(r)
	g.absent["ada"] = "the user ada is disabled"
	g.endAll(allExecuted)
	g.turns(r)
	p := g.get(r, "fw")
	if p.State != plan.Paused || p.Reason != plan.NobodyAnswers || p.Detail != "the user ada is disabled" || len(g.commands()) != 1 {
		t.Fatalf("%s (%s) %s, %d commands", p.State, p.Reason, p.Detail, len(g.commands()))
	}
	if alarms := g.events(store.EventAlarm); len(alarms) != 1 {
		t.Errorf("alarms: %v", alarms)
	}
	resume := func(by string) {
		if _, err := r.Ask(t.Context(), "fw", plan.Event{Kind: plan.Resume, By: by, User: true}, g.commit); err != nil {
			t.Fatal(err)
		}
	}
	resume("bob")
	g.turns(r)
	r = g.runner() // which is kept
	g.turns(r)
	if p := g.get(r, "fw"); p.State != plan.Running || p.By != "ada" || p.Answers != (plan.Party{Name: "bob", User: true}) {
		t.Fatalf("%s, %+v", p.State, p.Answers)
	}
	if wake := r.wake(); wake.IsZero() || wake.After(g.now.Add(lookEvery)) {
		t.Errorf("it looks again at %s", wake)
	}
	g.absent["bob"] = "the user bob is disabled"
	g.now = g.now.Add(lookEvery)
	g.turns(r)
	if p := g.get(r, "fw"); p.State != plan.Paused || p.Detail != "the user bob is disabled" {
		t.Fatalf("%s %s", p.State, p.Detail)
	}
	resume("eve")
	if p := g.play(r); p.State != plan.Finished {
		t.Error(p.State)
	}
}

// TestLateAnswersOfOneThatHasEnded are counted, also after restarts, until none can
// come any more.
func TestLateAnswersOfOneThatHasEnded(t *testing.T) {
	g := newRig(t, 5)
	r := g.runner()
	if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}}); err != nil {
		t.Fatal(err)
	}
	g.turns(r)
	g.endAll(func(c *command.Command) command.State {
		if c.Device == device(0) {
			return command.Executed
		}
		return command.TimedOut
	})
	g.turns(r)
	settle := func(i int, s command.State) {
		t.Helper()
		for _, c := range g.commands() {
			if c.Device == device(i) {
				if err := g.end(c.TID, s); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	want := func(executed, failed, unknown int) {
		t.Helper()
		p := g.get(r, "fw")
		all := p.Counts()
		if p.State != plan.Finished || all[plan.Executed] != executed || all[plan.Failed] != failed || all[plan.TimedOut] != unknown {
			t.Fatalf("%s, %v", p.State, all)
		}
		if len(p.Cells) > 0 && p.SoundCells() != nil {
			t.Fatal(p.SoundCells())
		}
	}
	want(1, 0, 4)
	settle(1, command.Executed)
	g.turns(r)
	want(2, 0, 3)
	settle(2, command.Failed) // nobody runs
	r = g.runner()
	g.turns(r)
	want(2, 1, 2)
	if s := r.Stats(); s.Active[plan.Finished] != 0 || s.Targets != (plan.Counts{}) || len(r.open()) != 0 {
		t.Errorf("it counts as one that has not ended: %+v", s)
	}
	settle(3, command.TimedOut) // its settle window is over
	g.turns(r)
	want(2, 1, 2)
	if len(r.active) != 1 {
		t.Fatal("one answer can still come, and is not waited for")
	}
	settle(4, command.TimedOut)
	g.turns(r)
	want(2, 1, 2)
	if len(r.active)+len(r.byTID) != 0 {
		t.Error("it is followed for ever")
	}
	if r = g.runner(); len(r.active) != 0 {
		t.Error("it is taken up again")
	}
}

// TestNothingIsSettledBeforeItIsLookedAt: a person's act has read everything anew while
// a turn was under way.
func TestNothingIsSettledBeforeItIsLookedAt(t *testing.T) {
	g := newRig(t, 1)
	r := g.runner()
	if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}}); err != nil {
		t.Fatal(err)
	}
	g.turns(r)
	g.endAll(func(*command.Command) command.State { return command.TimedOut })
	g.turns(r)
	r.stale = true
	if err := r.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.decide(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	if p := g.get(r, "fw"); p.Settled {
		t.Error("an answer can still come")
	}
	g.endAll(allExecuted)
	g.turns(r)
	if p := g.get(r, "fw"); p.Counts()[plan.Executed] != 1 {
		t.Errorf("%v", p.Counts())
	}
}

// TestTakenBackWhileItIsFollowed: the record that is written by another one is not
// written over.
func TestTakenBackWhileItIsFollowed(t *testing.T) {
	g := newRig(t, 2)
	r := g.runner()
	if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}}); err != nil {
		t.Fatal(err)
	}
	g.turns(r)
	g.endAll(func(c *command.Command) command.State {
		if c.Device == device(0) {
			return command.Executed
		}
		return command.TimedOut
	})
	g.turns(r)
	to, of, err := r.Executed(t.Context(), "fw")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Begin(t.Context(), Draft{Rollout: plan.Rollout{ID: "back", By: "ada", Undoes: "fw", Digest: "b"}, Targets: to, Of: of}, g.commit); err != nil {
		t.Fatal(err)
	}
	g.endAll(func(c *command.Command) command.State { return command.Executed })
	g.turns(r)
	for range 2 {
		if p := g.get(r, "fw"); p.UndoneBy != "back" || p.Counts()[plan.Executed] != 2 {
			t.Errorf("undone by %q, %v", p.UndoneBy, p.Counts())
		}
		r = g.runner()
	}
}

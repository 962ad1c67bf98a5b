package rollout

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// TestKilledBetweenAnyTwoSteps kills the runner at its n-th operation, before and
// after that takes effect, for every n until it lives to the end; and starts another
// one each time. Every device gets exactly one command, in all pieces of a roll-out
// with waves, a pause and a resume.
func TestKilledBetweenAnyTwoSteps(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("after=%t", after), func(t *testing.T) {
			for n := 1; ; n++ {
				if !killedAt(t, n, after) {
					if n < 10 {
						t.Fatalf("only %d operations: the test has shown nothing", n)
					}
					return
				}
			}
		})
	}
}

func killedAt(t *testing.T, n int, after bool) (died bool) {
	const devices = 12
	g := newRig(t, devices)
	g.fuse, g.after = n, after
	r := g.runner()
	restart := func() {
		if g.dead {
			died = true
			r = g.runner()
		}
	}
	spec := plan.Spec{Targets: plan.Targets{All: true}, Waves: []plan.Wave{{Count: 4, Success: 0.5}}, Concurrency: 5}
	for _, err := g.begin(r, "fw", spec); err != nil; _, err = g.begin(r, "fw", spec) {
		restart()
	}
	asked := []plan.Kind{plan.Pause, plan.Resume}
	for range 100 {
		g.turns(r)
		restart()
		if p := g.get(r, "fw"); p.State.Final() {
			break
		}
		if len(g.commands()) > 4 && len(asked) > 0 {
			_, err := r.Ask(t.Context(), "fw", plan.Event{Kind: asked[0], By: "ada"}, g.commit)
			if err == nil || fault.CodeOf(err) == fault.Conflict { // it took effect, and nobody was told
				asked = asked[1:]
			}
			restart()
			continue
		}
		g.endAll(allExecuted)
	}
	p := g.get(r, "fw")
	if all := p.Counts(); p.State != plan.Finished || all[plan.Executed] != devices {
		t.Fatalf("killed at %d: %s, %v", n, p.State, all)
	}
	seen := map[wire.Address]int{}
	for _, c := range g.commands() {
		seen[c.Device]++
		if c.Rollout != "fw" {
			t.Errorf("a command is part of %q", c.Rollout)
		}
	}
	if len(seen) != devices || len(g.commands()) != devices {
		t.Fatalf("killed at %d: %d commands for %d devices, of %d", n, len(g.commands()), len(seen), devices)
	}
	list, err := r.Targets(t.Context(), "fw", nil, 0, 100)
	if err != nil || len(list) != devices {
		t.Fatal(len(list), err)
	}
	for i, one := range list {
		if one.Device != device(i) || one.State != plan.Executed || one.TID == (command.TID{}) {
			t.Errorf("target %d: %+v", i, one)
		}
	}
	return died
}

func TestPausedAcrossARestart(t *testing.T) {
	g := newRig(t, 5)
	r := g.runner()
	if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}, Concurrency: 1}); err != nil {
		t.Fatal(err)
	}
	g.turns(r)
	if _, err := r.Ask(t.Context(), "fw", plan.Event{Kind: plan.Pause, By: "ada", Text: "lunch"}, g.commit); err != nil {
		t.Fatal(err)
	}
	g.endAll(allExecuted) // after the runner has seen the last events of its life
	r = g.runner()
	g.turns(r)
	if p := g.get(r, "fw"); p.State != plan.Paused || p.Detail != "lunch" || p.Counts()[plan.Executed] != 1 || len(g.commands()) != 1 {
		t.Fatalf("%s %q, %v, %d commands", p.State, p.Detail, p.Counts(), len(g.commands()))
	}
	if _, err := r.Ask(t.Context(), "fw", plan.Event{Kind: plan.Resume, By: "ada"}, g.commit); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		g.turns(r)
		g.endAll(allExecuted)
	}
	if p := g.get(r, "fw"); p.State != plan.Finished || len(g.commands()) != 5 {
		t.Errorf("%s with %d commands", p.State, len(g.commands()))
	}
	_, err := r.Ask(t.Context(), "fw", plan.Event{Kind: plan.Pause, By: "ada"}, g.commit)
	if fault.CodeOf(err) != fault.Conflict {
		t.Errorf("pause of one that has ended: %v", err)
	}
}

func TestAbortsAtItsThresholdAndCancelsWhatWasNotSent(t *testing.T) {
	g := newRig(t, 50)
	r := g.runner()
	spec := plan.Spec{Targets: plan.Targets{All: true}, Concurrency: 10, Abort: &plan.Threshold{Share: 0.2, Minimum: 5}}
	if _, err := g.begin(r, "fw", spec); err != nil {
		t.Fatal(err)
	}
	g.turns(r)
	n := 0
	g.endAll(func(c *command.Command) command.State {
		switch n++; {
		case n <= 3:
			return command.Executed
		case n <= 5:
			return command.Failed
		case n == 6:
			return command.Sent
		}
		return c.State
	})
	g.turns(r)
	p := g.get(r, "fw")
	all := p.Counts()
	if p.State != plan.Aborting || p.Reason != plan.TooManyBad || all[plan.Cancelled] != 4 || all[plan.Open] != 1 || all[plan.Waiting] != 40 {
		t.Fatalf("%s (%s), %v", p.State, p.Reason, all)
	}
	g.endAll(func(*command.Command) command.State { return command.TimedOut })
	g.turns(r)
	if p := g.get(r, "fw"); p.State != plan.Aborted || len(g.commands()) != 10 {
		t.Errorf("%s with %d commands", p.State, len(g.commands()))
	}
	events, err := g.db.Events(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	alarms := slices.DeleteFunc(events, func(e store.Event) bool { return e.Type != store.EventAlarm })
	if len(alarms) != 1 || alarms[0].By != "rollout/fw" || alarms[0].TID == nil {
		t.Errorf("alarms: %+v", alarms)
	}
}

// TestPurgedBeforeItWasSeen: the events of the ends are gone, and the commands are
// looked at.
func TestPurgedBeforeItWasSeen(t *testing.T) {
	g := newRig(t, 4)
	r := g.runner()
	if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}}); err != nil {
		t.Fatal(err)
	}
	g.turns(r)
	g.endAll(allExecuted)
	g.now = g.now.Add(time.Hour)
	g.make(Order{Device: device(9), Name: "other", Policy: command.Defaults}) // the newest event always stays
	for n := 1; n > 0; {
		var err error
		if n, err = g.db.Purge(t.Context(), g.now.Add(-time.Minute), 0); err != nil {
			t.Fatal(err)
		}
	}
	if first, err := g.db.FirstEvent(t.Context()); err != nil || first <= r.at+1 {
		t.Fatalf("the first event is %d, and %d was seen: %v", first, r.at, err)
	}
	g.turns(r)
	if p := g.get(r, "fw"); p.State != plan.Finished || p.Counts()[plan.Executed] != 4 {
		t.Errorf("%s: %v", p.State, p.Counts())
	}
}

func TestDynamicTakesInNewDevices(t *testing.T) {
	g := newRig(t, 1)
	r := g.runner()
	spec := plan.Spec{Targets: plan.Targets{Tag: "valve"}, Dynamic: true, Deadline: g.now.Add(time.Hour)}
	if _, err := g.begin(r, "fw", spec); err != nil {
		t.Fatal(err)
	}
	g.turns(r)
	g.endAll(allExecuted)
	for i := 1; i < 2000; i++ {
		g.dir = append(g.dir, store.Device{Address: device(i), Tags: []string{"valve"}})
	}
	g.dir = append(g.dir, store.Device{Address: device(2000)})
	g.now = g.now.Add(lookEvery)
	g.turns(r)
	if p := g.get(r, "fw"); p.Total != 2000 {
		t.Fatalf("%d targets", p.Total)
	}
	r = g.runner() // and all of them are there again
	g.turns(r)
	if list, err := r.Targets(t.Context(), "fw", nil, 1990, 100); err != nil || len(list) != 10 || list[9].Device != device(1999) || list[9].State != plan.Open {
		t.Errorf("%v, %v", list, err)
	}
}

// counted counts the documents that are read.
type counted struct {
	Store
	n int
}

func (c *counted) Documents(ctx context.Context, kind store.Kind, prefix, after string, limit int) ([]store.Document, error) {
	list, err := c.Store.Documents(ctx, kind, prefix, after, limit)
	c.n += len(list)
	return list, err
}

// TestAPageReadsItsPiecesOnly: of a roll-out that has ended, which is not in memory.
func TestAPageReadsItsPiecesOnly(t *testing.T) {
	const devices = 3*plan.ChunkSize + 10
	g := newRig(t, devices)
	r := g.runner()
	if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}, Concurrency: 10}); err != nil {
		t.Fatal(err)
	}
	g.turns(r)
	g.endAll(allExecuted)
	if _, err := r.Ask(t.Context(), "fw", plan.Event{Kind: plan.Abort, By: "ada"}, g.commit); err != nil {
		t.Fatal(err)
	}
	g.turns(r)
	if p := g.get(r, "fw"); !p.State.Final() {
		t.Fatal(p.State)
	}
	db := &counted{Store: r.opt.Store}
	r.opt.Store = db
	for _, page := range []struct{ from, limit, want, read int }{
		// Only the first piece has states by now, in a document of their own.
		{0, 500, 500, 2}, {plan.ChunkSize - 1, 2, 2, 3}, {3 * plan.ChunkSize, 100, 10, 1}, {devices, 100, 0, 0}, {0, devices, devices, 5},
	} {
		db.n = 0
		list, err := r.Targets(t.Context(), "fw", nil, page.from, page.limit)
		if err != nil || len(list) != page.want || db.n != page.read {
			t.Errorf("%+v: %d targets, %d documents read, %v", page, len(list), db.n, err)
		}
		for i, target := range list {
			if n := page.from + i; target.Number != n || target.Device != device(n) {
				t.Fatalf("%+v: %+v", page, target)
			}
		}
	}
	list, err := r.Targets(t.Context(), "fw", []plan.Cell{plan.Executed}, 0, 100)
	if err != nil || len(list) != 10 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestDevicesThatAreGoneAreSkipped(t *testing.T) {
	g := newRig(t, 3)
	r := g.runner()
	if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}}); err != nil {
		t.Fatal(err)
	}
	g.dir[0].Disabled = true
	g.dir = g.dir[:2]
	g.turns(r)
	g.endAll(allExecuted)
	g.turns(r)
	list, err := r.Targets(t.Context(), "fw", []plan.Cell{plan.Skipped}, 0, 10)
	if err != nil || len(list) != 2 || list[0].Why != skipDisabled.String() || list[1].Why != skipGone.String() {
		t.Errorf("%+v, %v", list, err)
	}
	if p := g.get(r, "fw"); p.State != plan.Finished {
		t.Error(p.State)
	}
}

func TestBegunOnce(t *testing.T) {
	g := newRig(t, 1)
	r := g.runner()
	spec := plan.Spec{Targets: plan.Targets{All: true}}
	if _, err := g.begin(r, "fw", spec); err != nil {
		t.Fatal(err)
	}
	d := Draft{Rollout: plan.Rollout{ID: "fw", Spec: spec, By: "ada", Digest: "d"}}
	if _, existed, err := r.Begin(t.Context(), d, g.commit); err != nil || !existed {
		t.Errorf("the same again: existed %t, %v", existed, err)
	}
	d.Digest = "other"
	if _, _, err := r.Begin(t.Context(), d, g.commit); fault.CodeOf(err) != fault.Exists {
		t.Errorf("another of that name: %v", err)
	}
}

func TestForgetRemovesWhatHasEnded(t *testing.T) {
	g := newRig(t, 2)
	r := g.runner()
	for _, id := range []string{"old", "young"} {
		if _, err := g.begin(r, id, plan.Spec{Targets: plan.Targets{All: true}}); err != nil {
			t.Fatal(err)
		}
		g.turns(r)
		g.endAll(allExecuted)
		g.turns(r)
		g.now = g.now.Add(time.Hour)
	}
	if err := r.Forget(t.Context(), g.now.Add(-90*time.Minute)); err != nil {
		t.Fatal(err)
	}
	list, err := r.List(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != "young" {
		t.Errorf("%v, %v", list, err)
	}
	if docs, err := g.db.Documents(t.Context(), kindTarget, "", "", 10); err != nil || len(docs) != 2 {
		t.Errorf("%d documents of targets, %v", len(docs), err)
	}
}

// TestTakesBackInReverse also kills the runner between any two steps.
func TestTakesBackInReverse(t *testing.T) {
	for n := 1; ; n++ {
		g := newRig(t, 4)
		r := g.runner()
		if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}}); err != nil {
			t.Fatal(err)
		}
		g.turns(r)
		g.endAll(func(c *command.Command) command.State {
			if c.Device == device(1) {
				return command.Failed
			}
			return command.Executed
		})
		g.turns(r)
		d := Draft{Rollout: plan.Rollout{ID: "back", By: "ada", Undoes: "fw", Spec: plan.Spec{Concurrency: 1}, Digest: "b"}}
		var err error
		if d.Targets, d.Of, err = r.Executed(t.Context(), "fw"); err != nil {
			t.Fatal(err)
		}
		g.fuse = n
		died := false
		for {
			_, _, err := r.Begin(t.Context(), d, g.commit)
			if err == nil {
				break
			}
			died, r = true, g.runner()
		}
		for range 30 {
			g.turns(r)
			if g.dead {
				died, r = true, g.runner()
			}
			g.endAll(allExecuted)
		}
		p, of := g.get(r, "back"), g.get(r, "fw")
		if p.State != plan.Finished || of.UndoneBy != "back" || len(g.undos) != len(d.Of) {
			t.Fatalf("killed at %d: %s, undone by %q, %d taken back", n, p.State, of.UndoneBy, len(g.undos))
		}
		cmds := g.commands()[4:]
		for i, c := range cmds {
			if want := d.Targets[i]; c.Device != want {
				t.Errorf("%d is %s, want %s", i, c.Device, want)
			}
		}
		if !died {
			break
		}
	}
}

// TestRolloutsAreBounded: who asks for one more is told what to do, and not to repeat it.
func TestRolloutsAreBounded(t *testing.T) {
	g := newRig(t, 1)
	r := g.runner()
	for i := range MaxActive {
		r.active[fmt.Sprint(i)] = &run{Rollout: plan.Rollout{ID: fmt.Sprint(i), State: plan.Running}}
	}
	if _, err := g.begin(r, "more", plan.Spec{}); fault.CodeOf(err) != fault.Conflict {
		t.Error(err)
	}
}

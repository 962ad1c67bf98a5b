package rollout

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/store"
)

func (g *rig) counts(r *Runner) plan.Counts {
	p := g.get(r, "fw")
	return p.Counts()
}

// TestEventsArePurgedBetweenTheMakingAndTheTelling: commands were made, and have
// ended, or cannot be made; the plan has not been told, and the events behind the
// runner's place are gone.
func TestEventsArePurgedBetweenTheMakingAndTheTelling(t *testing.T) {
	g := newRig(t, 4)
	r := g.runner()
	if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}}); err != nil {
		t.Fatal(err)
	}
	g.dir[3].Disabled = true
	for len(g.commands()) == 0 {
		if _, err := r.turn(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	g.endAll(allExecuted)
	r.at = -1 // which is what a turn does when it finds that
	g.turns(r)
	if p := g.get(r, "fw"); p.State != plan.Finished {
		t.Errorf("%s, %v", p.State, p.Counts())
	}
}

// TestNoCommandIsMadeOutsideTheWindow: it was killed between the decision and the
// making, and comes back when the window is closed.
func TestNoCommandIsMadeOutsideTheWindow(t *testing.T) {
	for _, asked := range []plan.Kind{"", plan.Pause, plan.Abort} {
		g := newRig(t, 3)
		r := g.runner()
		spec := plan.Spec{Targets: plan.Targets{All: true}, Windows: []plan.Window{{From: "11:00", To: "12:30"}}}
		if _, err := g.begin(r, "fw", spec); err != nil {
			t.Fatal(err)
		}
		g.fuse = 2 // the decision, and then the making
		g.turns(r)
		if !g.dead || g.counts(r)[plan.Starting] != 3 {
			t.Fatal("it was not killed where it should")
		}
		g.now = g.now.Add(time.Hour)
		r = g.runner()
		g.turns(r)
		if n := len(g.commands()); n != 0 {
			t.Fatalf("%d commands outside the window", n)
		}
		opens := time.Date(2026, 3, 3, 11, 0, 0, 0, time.UTC)
		if wake := r.wake(); !wake.Equal(opens) {
			t.Errorf("it wakes at %s", wake)
		}
		want, state := 3, plan.Finished
		if asked != "" {
			if _, err := r.Ask(t.Context(), "fw", plan.Event{Kind: asked, By: "ada"}, g.commit); err != nil {
				t.Fatal(err)
			}
			if want, state = 0, plan.Paused; asked == plan.Abort {
				state = plan.Aborted
			}
		}
		g.now = opens
		g.turns(r)
		g.endAll(allExecuted)
		g.turns(r)
		if p := g.get(r, "fw"); p.State != state || len(g.commands()) != want {
			t.Errorf("%s: %s with %d commands, %v", asked, p.State, len(g.commands()), p.Counts())
		}
	}
}

// TestWhatWasMadeIsNotSkipped: commands were made and nobody was told; then their
// devices are disabled, removed, or would refuse them.
func TestWhatWasMadeIsNotSkipped(t *testing.T) {
	g := newRig(t, 3)
	r := g.runner()
	if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}}); err != nil {
		t.Fatal(err)
	}
	g.fuse, g.after = 2, true
	g.turns(r)
	if !g.dead || len(g.commands()) != 3 {
		t.Fatal("it was not killed where it should")
	}
	g.refuse = device(2)
	g.dir[0].Disabled = true
	g.dir = append(g.dir[:1], g.dir[2])
	r = g.runner()
	g.turns(r)
	if all := g.counts(r); all[plan.Open] != 3 {
		t.Errorf("%v", all)
	}
}

// TestOneRollbackAtATime: two people ask for it at the same moment.
func TestOneRollbackAtATime(t *testing.T) {
	g := newRig(t, 2)
	r := g.runner()
	if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}}); err != nil {
		t.Fatal(err)
	}
	g.turns(r)
	g.endAll(allExecuted)
	g.turns(r)
	to, of, err := r.Executed(t.Context(), "fw")
	if err != nil {
		t.Fatal(err)
	}
	back := func(id string) error {
		_, _, err := r.Begin(t.Context(), Draft{Rollout: plan.Rollout{ID: id, By: id, Undoes: "fw", Digest: id}, Targets: to, Of: of}, g.commit)
		return err
	}
	if err := errors.Join(back("a")); err != nil {
		t.Fatal(err)
	}
	if err := back("b"); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("the second one: %v", err)
	}
	if p := g.get(r, "fw"); p.UndoneBy != "a" {
		t.Errorf("undone by %q", p.UndoneBy)
	}
}

// TestBegunAndNobodyWasTold: the commit took effect, and said that it had not. It is
// taken up whatever else is committed meanwhile.
func TestBegunAndNobodyWasTold(t *testing.T) {
	g := newRig(t, 2)
	r := g.runner()
	if _, err := g.begin(r, "other", plan.Spec{Targets: plan.Targets{All: true}}); err != nil {
		t.Fatal(err)
	}
	<-r.poke
	lying := func(docs []store.DocumentWrite, events []store.Event) error {
		return errors.Join(g.commit(docs, events), errDead)
	}
	to, err := r.Select(&plan.Targets{All: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Begin(t.Context(), Draft{Rollout: plan.Rollout{ID: "fw", By: "ada"}, Targets: to}, lying); err == nil {
		t.Fatal("no error")
	}
	select {
	case <-r.poke:
	default:
		t.Error("the loop sleeps on")
	}
	if _, err := r.decide(t.Context(), nil, nil); err != nil { // of a turn that was under way
		t.Fatal(err)
	}
	g.turns(r)
	if p := g.get(r, "fw"); p.State != plan.Running {
		t.Errorf("it is %s", p.State)
	}
}

// TestAlarmsOfWhatPeopleAsk: who resumes a roll-out may find that it must pause again.
func TestAlarmsOfWhatPeopleAsk(t *testing.T) {
	g := newRig(t, 4)
	r := g.runner()
	spec := plan.Spec{Targets: plan.Targets{All: true}, Waves: []plan.Wave{{Count: 2, Success: 1}}}
	if _, err := g.begin(r, "fw", spec); err != nil {
		t.Fatal(err)
	}
	g.turns(r)
	ask := func(k plan.Kind) plan.Rollout {
		p, err := r.Ask(t.Context(), "fw", plan.Event{Kind: k, By: "ada"}, g.commit)
		if err != nil {
			t.Fatal(err)
		}
		g.turns(r)
		return p
	}
	ask(plan.Pause)
	g.endAll(func(*command.Command) command.State { return command.Failed })
	g.turns(r)
	if p := ask(plan.Resume); p.Reason != plan.GateMissed {
		t.Fatal(p.Reason)
	}
	events, err := g.db.Events(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for i := range events {
		if events[i].Type == store.EventAlarm {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d alarms", n)
	}
}

// TestPeopleAskWhileItRuns is for the race detector.
func TestPeopleAskWhileItRuns(t *testing.T) {
	g := newRig(t, 60)
	r := g.runner()
	if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}, Concurrency: 10}); err != nil {
		t.Fatal(err)
	}
	var people sync.WaitGroup
	people.Go(func() {
		for i := range 40 {
			_, err := r.Ask(t.Context(), "fw", plan.Event{Kind: []plan.Kind{plan.Pause, plan.Resume}[i%2], By: fmt.Sprint(i)}, g.commit)
			if err != nil {
				t.Error(err)
			}
			if _, err := r.Targets(t.Context(), "fw", nil, 0, 60); err != nil {
				t.Error(err)
			}
		}
	})
	for range 40 {
		r.at = -1 // the commands are looked at again and again
		if _, err := r.turn(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	people.Wait()
	for range 30 {
		g.turns(r)
		g.endAll(allExecuted)
	}
	if p := g.get(r, "fw"); p.State != plan.Finished || len(g.commands()) != 60 {
		t.Errorf("%s with %d commands, %v", p.State, len(g.commands()), p.Counts())
	}
}

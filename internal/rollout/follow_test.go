package rollout

import (
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// firstExecuted ends what is open: that of the first device well, others time out.
func firstExecuted(c *command.Command) command.State {
	if c.Device == device(0) {
		return command.Executed
	}
	return command.TimedOut
}

// settled ends the settle windows of what has timed out.
func (g *rig) settled() {
	for _, c := range g.commands() {
		if c.State == command.TimedOut && !c.Closed {
			if err := g.end(c.TID, command.TimedOut); err != nil {
				g.t.Error(err)
			}
		}
	}
}

// TestWhatHadEndedWhenItWasFoundIsNotFollowed: a kill came between the making of the
// commands and the telling, and no event will tell again of what ended meanwhile.
func TestWhatHadEndedWhenItWasFoundIsNotFollowed(t *testing.T) {
	g := newRig(t, 2)
	r := g.runner()
	if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}}); err != nil {
		t.Fatal(err)
	}
	g.fuse, g.after = 2, true // the commit, and the making
	g.turns(r)
	if len(g.commands()) != 2 {
		t.Fatalf("%d commands", len(g.commands()))
	}
	g.endAll(firstExecuted)
	r = g.runner()
	g.turns(r)
	if p := g.get(r, "fw"); p.State != plan.Finished || p.Counts()[plan.TimedOut] != 1 || len(r.active) != 1 {
		t.Fatalf("%s %v", p.State, p.Counts())
	}
	g.settled()
	g.turns(r)
	if len(r.active)+len(r.byTID) != 0 {
		t.Error("it is followed for ever")
	}
}

// TestReadAnewInTheMiddleOfATurn: a person's act has read everything anew while
// commands were made, and what is known of them is of the one before.
func TestReadAnewInTheMiddleOfATurn(t *testing.T) {
	g := newRig(t, 2)
	r := g.runner()
	if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.decide(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	old := r.active["fw"]
	todo := r.take(old)
	r.stale = true
	if err := r.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, a := range todo {
		r.do(t.Context(), old, a)
	}
	g.turns(r)
	g.endAll(firstExecuted)
	g.turns(r)
	if p := g.get(r, "fw"); p.State != plan.Finished || p.Settled {
		t.Fatalf("%s, settled: %t", p.State, p.Settled)
	}
	g.endAll(allExecuted)
	g.turns(r)
	if p := g.get(r, "fw"); p.Counts()[plan.Executed] != 2 || len(r.active)+len(r.byTID) != 0 {
		t.Errorf("%v, %d are followed", p.Counts(), len(r.active))
	}
}

// TestForgottenWholeOrNotAtAll: one that is still followed, and a kill in the middle.
func TestForgottenWholeOrNotAtAll(t *testing.T) {
	for n := 1; ; n++ {
		g := newRig(t, 2)
		r := g.runner()
		if _, err := g.begin(r, "fw", plan.Spec{Targets: plan.Targets{All: true}}); err != nil {
			t.Fatal(err)
		}
		g.turns(r)
		g.endAll(firstExecuted)
		g.turns(r)
		g.now = g.now.Add(time.Hour)
		g.fuse, g.after = n, true
		err := r.Forget(t.Context(), g.now)
		g.fuse = 0
		r = g.runner()
		g.turns(r)
		if len(r.damaged) != 0 {
			t.Fatalf("killed in operation %d: it is damaged", n)
		}
		if err := r.Forget(t.Context(), g.now); err != nil {
			t.Fatal(err)
		}
		for _, kind := range []store.Kind{kindRollout, kindTarget} {
			if left, err := g.db.Documents(t.Context(), kind, "", "", 10); err != nil || len(left) != 0 {
				t.Errorf("%s: %d are left, %v", kind, len(left), err)
			}
		}
		if err == nil {
			return
		}
	}
}

// TestApprovedAndNobodyAnswers: who began it was disabled while it was held, and it is
// approved just before the runner acts.
func TestApprovedAndNobodyAnswers(t *testing.T) {
	g := newRig(t, 2)
	g.absent = map[string]string{"ada": "the user ada is disabled"}
	r := g.runner()
	spec := plan.Spec{Command: "firmware.install", Targets: plan.Targets{All: true}}
	d := Draft{Rollout: plan.Rollout{ID: "fw", Spec: spec, By: "ada", Digest: "d"}, Targets: []wire.Address{device(0), device(1)}, Approval: &command.Approval{Quorum: 1}}
	if _, _, err := r.Begin(t.Context(), d, g.commit); err != nil {
		t.Fatal(err)
	}
	g.turns(r)
	if _, err := r.Ask(t.Context(), "fw", plan.Event{Kind: plan.Approve, By: "bob", Digest: "d"}, g.commit); err != nil {
		t.Fatal(err)
	}
	r.act(t.Context())
	if p := g.get(r, "fw"); p.State != plan.Running || len(g.commands()) != 0 {
		t.Fatalf("%s, %d commands", p.State, len(g.commands()))
	}
	g.absent = map[string]string{} // before it was paused
	g.now = g.now.Add(lookEvery)
	g.turns(r)
	if len(g.commands()) != 2 {
		t.Errorf("%d commands", len(g.commands()))
	}
}

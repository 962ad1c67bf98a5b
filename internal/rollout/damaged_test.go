package rollout

import (
	"slices"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/store"
)

// spoil puts something else in place of a document, and gives what stood there.
func (g *rig) spoil(id store.DocumentID, body []byte) []byte {
	g.t.Helper()
	d, err := g.db.Document(g.t.Context(), id)
	if err != nil {
		g.t.Fatal(err)
	}
	if err := g.commit([]store.DocumentWrite{{DocumentID: id, Was: d.Version, Body: body}}, nil); err != nil {
		g.t.Fatal(err)
	}
	return d.Body
}

// TestADamagedRecordCostsItsRolloutAlone: the server starts, the others go on, people
// are told, and it is taken up when it can be read again.
func TestADamagedRecordCostsItsRolloutAlone(t *testing.T) {
	for what, one := range map[string]struct {
		id    store.DocumentID
		body  string
		known bool // who it is of
	}{
		"no JSON":           {rolloutDoc("bad"), `{"id":"bad","sta`, false},
		"another's":         {rolloutDoc("bad"), `{"id":"good","state":"denied","waves":[{}]}`, false},
		"no sense":          {rolloutDoc("bad"), `{"id":"bad","state":"running","total":-7}`, false},
		"cut states":        {targetDoc("bad", 0, leafState), "12345", true},
		"states of nothing": {targetDoc("bad", 0, leafState), strings.Repeat("\xff", 3*cellSize), true},
		"no devices":        {targetDoc("bad", 0, leafDevices), "///\n", true},
		"one is missing":    {targetDoc("bad", 0, leafDevices), "plant/v1000\nplant/v1001\n", true},
	} {
		t.Run(what, func(t *testing.T) {
			g := newRig(t, 3)
			r := g.runner()
			for _, id := range []string{"bad", "fw"} {
				if _, err := g.begin(r, id, plan.Spec{Targets: plan.Targets{All: true}, Concurrency: 1}); err != nil {
					t.Fatal(err)
				}
			}
			g.turns(r)
			was := g.spoil(one.id, []byte(one.body))
			made := len(g.commands())
			r = g.runner()
			if p := g.play(r); p.State != plan.Finished {
				t.Fatalf("the other one is %s", p.State)
			}
			p := g.get(r, "bad")
			if p.ID != "bad" || p.State != plan.Damaged || p.Detail == "" || (len(p.Groups) > 0) != one.known {
				t.Errorf("%s %q of %v", p.State, p.Detail, p.Groups)
			}
			list, err := r.List(t.Context())
			if err != nil || !slices.ContainsFunc(list, func(p plan.Rollout) bool { return p.ID == "bad" && p.State == plan.Damaged }) {
				t.Errorf("%v, %v", list, err)
			}
			if alarms := g.events(store.EventAlarm); len(alarms) != 1 || alarms[0].Rollout != "bad" {
				t.Errorf("alarms: %v", alarms)
			}
			_, err = r.Ask(t.Context(), "bad", plan.Event{Kind: plan.Resume, By: "ada"}, g.commit)
			if fault.CodeOf(err) != fault.Conflict {
				t.Errorf("resumed: %v", err)
			}
			if _, err = r.Targets(t.Context(), "bad", nil, 0, 10); fault.CodeOf(err) != fault.Conflict {
				t.Errorf("targets: %v", err)
			}
			if p, err = g.begin(r, "bad", plan.Spec{Targets: plan.Targets{All: true}}); err == nil && p.State != plan.Damaged {
				t.Error("another one of its name was begun over it")
			}
			if n := len(g.commands()); n != made+2 {
				t.Errorf("%d commands, of which %d were there", n, made)
			}
			if err := r.Forget(t.Context(), g.now.AddDate(1, 0, 0)); err != nil {
				t.Error(err)
			}
			g.spoil(one.id, was)
			g.now = r.wake()
			for range 5 {
				g.turns(r)
				g.endAll(allExecuted)
			}
			if p := g.get(r, "bad"); p.State != plan.Finished || len(r.damaged) != 0 {
				t.Errorf("it can be read again, and is %s", p.State)
			}
		})
	}
}

package api_test

import (
	"testing"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/wire"
)

// TestEventsOfRollouts: they tell each line of its log and how far it is, to those who
// may see the roll-out.
func TestEventsOfRollouts(t *testing.T) {
	w := newWorld(t, options{})
	w.behave(func(_ wire.Address, c wire.Command) []any {
		return []any{wire.Result{TID: c.TID, Status: wire.Success}}
	})
	for _, name := range []string{"plant/a", "plant/b", "mill/a"} {
		w.online(name)
	}
	startRollout(t, w, `{"name":"both","command":"move","targets":{"all":true},"concurrency":1}`, "", 202)
	w.until(t, "both", "finished")
	startRollout(t, w, `{"name":"plant","command":"move","targets":{"group":"plant"},"concurrency":1}`, "", 202)
	w.until(t, "plant", "finished")
	token := func(name string, groups ...string) map[string]string {
		return map[string]string{"Authorization": "Bearer " + w.token(t, fleet.NewToken{Name: name, Grants: []fleet.Grant{{Role: fleet.Viewer, Groups: groups}}})}
	}
	first := func(query string, header map[string]string) client.Event {
		t.Helper()
		for s := w.stream(t, "?after=0"+query, header); ; {
			if _, e := next(t, s); e.Type == "rollout" {
				return e
			}
		}
	}
	for what, c := range map[string]struct {
		query  string
		header map[string]string
		want   string
	}{
		"who sees all":              {"", nil, "both"},
		"who sees both groups":      {"", token("both", "plant", "mill"), "both"},
		"who sees one group":        {"", token("one", "plant"), "plant"},
		"who asks for one group":    {"&group=mill", nil, "both"},
		"who asks for one roll-out": {"&rollout=plant", nil, "plant"},
		"who sees more than these":  {"&rollout=both", token("other", "mill", "plant", "third"), "both"},
	} {
		if e := first(c.query, c.header); e.Rollout != c.want || e.Device != "" {
			t.Errorf("%s: told of %q %q", what, e.Rollout, e.Device)
		}
	}
	var states []string
	var percent []float64
	for s := w.stream(t, "?after=0&rollout=plant", nil); len(states) == 0 || states[len(states)-1] != "finished"; {
		_, e := next(t, s)
		if e.Type != "rollout" || e.Percent == nil {
			t.Fatalf("%+v", e)
		}
		states, percent = append(states, string(e.State)), append(percent, *e.Percent)
	}
	if states[0] != "scheduled" || percent[0] != 0 || percent[len(percent)-1] != 100 || len(percent) > 5 {
		t.Errorf("%v, %v", states, percent)
	}
}

// TestConflictsNameNoRolloutThatIsNotSeen, in a dry run.
func TestConflictsNameNoRolloutThatIsNotSeen(t *testing.T) {
	w := newWorld(t, options{})
	w.add("plant/a")
	w.add("mill/a")
	startRollout(t, w, `{"name":"secret","command":"move","targets":{"all":true}}`, "", 202)
	startRollout(t, w, `{"name":"seen","command":"stop","targets":{"group":"mill"}}`, "", 202)
	for group, want := range map[string]string{"plant": "", "mill": "seen"} {
		token := w.token(t, fleet.NewToken{Name: group, Grants: []fleet.Grant{{Role: fleet.Operator, Groups: []string{group}}}})
		p := read[client.RolloutPlan](t, w.do(t, request{method: "POST", path: "/v1/rollouts/plan", token: token,
			body: `{"command":"turn","targets":{"group":"` + group + `"}}`}), 200)
		if p.Kinds["other_rollout"] != 1 {
			t.Errorf("%s: %v", group, p.Kinds)
		}
		for _, c := range p.Conflicts {
			if c.Kind == "other_rollout" && c.With != want {
				t.Errorf("%s is told of %q, want %q", group, c.With, want)
			}
		}
	}
}

// TestRolloutOfSomebodyWhoIsDisabled is paused, and goes on when somebody else has
// resumed it.
func TestRolloutOfSomebodyWhoIsDisabled(t *testing.T) {
	for _, removed := range []bool{false, true} {
		w := newWorld(t, options{})
		w.online("plant/a")
		if _, err := w.Fleet.AddUser(t.Context(), fleet.NewUser{Name: "ann", Password: "correct horse", Grants: fleet.Everywhere(fleet.Operator)}); err != nil {
			t.Fatal(err)
		}
		hers := w.token(t, fleet.NewToken{Name: "laptop", User: "ann"})
		startRollout(t, w, `{"name":"fw","command":"move","targets":{"all":true},"startAt":"`+time.Now().Add(2*time.Second).Format(time.RFC3339)+`"}`, hers, 202)
		off := true
		_, err := w.Fleet.ChangeUser(t.Context(), "ann", fleet.UserChange{Disabled: &off})
		if removed {
			err = w.Fleet.RemoveUser(t.Context(), "ann")
		}
		if err != nil {
			t.Fatal(err)
		}
		r := w.until(t, "fw", "paused")
		if r.Reason != "nobody_answers" || r.By != "ann" || r.Started != 0 {
			t.Errorf("%s %s by %s", r.Reason, r.Detail, r.By)
		}
		bob := w.token(t, fleet.NewToken{Name: "bob", Grants: fleet.Everywhere(fleet.Operator)})
		if got := w.do(t, request{method: "POST", path: "/v1/rollouts/fw/resume", body: `{}`, token: bob}); got.status != 200 {
			t.Fatal(got.body)
		}
		if r := w.until(t, "fw", "finished"); r.By != "ann" || r.Answers != "bob" {
			t.Errorf("by %s, %s answers", r.By, r.Answers)
		}
	}
}

package api_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/wire"
)

// TestSpecsAreOneForm: what the API reads and what is kept have the same names, and
// nothing is lost between them.
func TestSpecsAreOneForm(t *testing.T) {
	var same func(path string, a, b reflect.Type)
	same = func(path string, a, b reflect.Type) {
		for a.Kind() == reflect.Pointer || a.Kind() == reflect.Slice {
			if b.Kind() != a.Kind() {
				break
			}
			a, b = a.Elem(), b.Elem()
		}
		if a.Kind() != reflect.Struct || a == reflect.TypeFor[time.Time]() || b.Kind() != reflect.Struct {
			return
		}
		if a.NumField() != b.NumField() {
			t.Errorf("%s has %d fields, and %d as it is kept", path, a.NumField(), b.NumField())
			return
		}
		for i := range a.NumField() {
			if x, y := a.Field(i), b.Field(i); strings.Split(x.Tag.Get("json"), ",")[0] != strings.Split(y.Tag.Get("json"), ",")[0] {
				t.Errorf("%s: %s is kept as %s", path, x.Name, y.Name)
			} else {
				same(path+"."+x.Name, x.Type, y.Type)
			}
		}
	}
	same("spec", reflect.TypeFor[client.RolloutSpec](), reflect.TypeFor[plan.Spec]())
}

func startRollout(t *testing.T, w *world, body, token string, status int) client.Rollout {
	t.Helper()
	return read[client.Rollout](t, w.do(t, request{method: "POST", path: "/v1/rollouts", body: body, token: token}), status)
}

// until waits for a state of a roll-out.
func (w *world) until(t *testing.T, id, state string) client.Rollout {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		r := read[client.Rollout](t, w.do(t, request{path: "/v1/rollouts/" + id}), 200)
		if r.State == state {
			return r
		}
		select {
		case <-deadline:
			t.Fatalf("it is %s (%s), want %s: %v", r.State, r.Reason, state, r.Counts)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestRolloutIsTakenBackWhereItTookEffect goes through the whole server: three
// devices, one of which fails; taken back in reverse order.
func TestRolloutIsTakenBackWhereItTookEffect(t *testing.T) {
	w := newWorld(t, options{})
	put(t, w, "move", moveType, 201)
	w.behave(func(a wire.Address, c wire.Command) []any {
		var p struct{ To, Pos *json.RawMessage }
		if err := json.Unmarshal(c.Params, &p); err != nil {
			panic(err)
		}
		if a.Device == "b" {
			return []any{wire.Result{TID: c.TID, Status: wire.Failure}}
		}
		return []any{wire.Result{TID: c.TID, Status: wire.Success, State: fmt.Appendf(nil, `{"pos":%s}`, *p.To)}}
	})
	for _, name := range []string{"a", "b", "c"} {
		w.say(w.online("plant/"+name), wire.StateUpdate{State: json.RawMessage(`{"pos":10}`)})
	}
	startRollout(t, w, `{"name":"fw","command":"move","params":{"to":40},"targets":{"group":"plant"}}`, "", 202)
	r := w.until(t, "fw", "finished")
	if r.Counts["executed"] != 2 || r.Counts["failed"] != 1 {
		t.Fatal(r.Counts)
	}
	back := read[client.Rollout](t, w.do(t, request{method: "POST", path: "/v1/rollouts/fw/rollback", body: `{"reason":"too hot"}`}), 202)
	if back.Undoes != "fw" || back.Total != 2 {
		t.Errorf("%+v", back)
	}
	done := w.until(t, back.ID, "finished")
	if done.Counts["executed"] != 2 {
		t.Errorf("%v", done.Counts)
	}
	page := read[client.RolloutTargetPage](t, w.do(t, request{path: "/v1/rollouts/" + back.ID + "/targets"}), 200)
	if len(page.Items) != 2 || page.Items[0].Device != "plant/c" || page.Items[1].Device != "plant/a" {
		t.Fatalf("%+v", page.Items)
	}
	c := read[client.Command](t, w.do(t, request{path: "/v1/commands/" + page.Items[0].TID}), 200)
	if c.Name != "move" || string(c.Params) != `{"to":10}` || c.Rollout != back.ID || c.Undoes == "" {
		t.Errorf("%s %s, of %q, takes back %q", c.Name, c.Params, c.Rollout, c.Undoes)
	}
	if r := read[client.Rollout](t, w.do(t, request{path: "/v1/rollouts/fw"}), 200); r.UndoneBy != back.ID {
		t.Errorf("taken back by %q", r.UndoneBy)
	}
	if again := w.do(t, request{method: "POST", path: "/v1/rollouts/fw/rollback", body: `{}`}); again.status != 409 {
		t.Errorf("once more: %d %s", again.status, again.body)
	}
}

func TestHeldRollout(t *testing.T) {
	w := newWorld(t, options{})
	put(t, w, "move", "name: move\napproval: {targets: 2}\n", 201)
	w.online("plant/a")
	w.online("plant/b")
	body := `{"name":"fw","command":"move","targets":{"all":true}}`
	asker := w.token(t, fleet.NewToken{Name: "ann", Grants: []fleet.Grant{{Role: fleet.Approver}}})
	r := startRollout(t, w, body, asker, 202)
	if r.State != "awaiting_approval" || r.Approval == nil || r.Approval.Digest != r.Digest {
		t.Fatalf("%+v", r)
	}
	vote := func(token, digest string) int {
		return w.do(t, request{method: "POST", path: "/v1/rollouts/fw/approve", body: `{"digest":"` + digest + `"}`, token: token}).status
	}
	other := w.token(t, fleet.NewToken{Name: "bob", Grants: []fleet.Grant{{Role: fleet.Approver, Groups: []string{"plant"}}}})
	operator := w.token(t, fleet.NewToken{Name: "eve", Grants: []fleet.Grant{{Role: fleet.Operator}}})
	for name, got := range map[string][2]int{
		"who has asked": {vote(asker, r.Digest), 403}, "an operator": {vote(operator, r.Digest), 403},
		"another content": {vote(other, "00"), 409}, "nothing": {vote(other, ""), 400},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %d, want %d", name, got[0], got[1])
		}
	}
	if list := read[client.CommandPage](t, w.do(t, request{path: "/v1/commands"}), 200); len(list.Items) != 0 {
		t.Errorf("%d commands were made before it was approved", len(list.Items))
	}
	if got := vote(other, r.Digest); got != 200 {
		t.Fatalf("approved: %d", got)
	}
	if r := w.until(t, "fw", "finished"); len(r.Approval.Votes) != 1 || r.Approval.Votes[0].By != "bob" || r.Counts["executed"] != 2 {
		t.Errorf("%+v %v", r.Approval, r.Counts)
	}
}

// TestDynamicRolloutIsHeldForWhoeverComes: it begins with nobody, whom no rule is about.
func TestDynamicRolloutIsHeldForWhoeverComes(t *testing.T) {
	for _, c := range []struct{ rule, targets, state string }{
		{"{}", `{"tag":"x"}`, "awaiting_approval"},
		{"{targets: 5}", `{"tag":"x"}`, "awaiting_approval"},
		{"{groups: [plant], tags: [hot]}", `{"group":"plant"}`, "awaiting_approval"},
		{"{groups: [plant]}", `{"group":"mill"}`, "scheduled"},
		{"{when: {path: to, gt: 80}}", `{"tag":"x"}`, "awaiting_approval"},
	} {
		w := newWorld(t, options{})
		put(t, w, "move", "name: move\napproval: "+c.rule+"\n", 201)
		deadline := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
		r := startRollout(t, w, `{"command":"move","dynamic":true,"deadline":"`+deadline+`","targets":`+c.targets+`}`, "", 202)
		if r.State != c.state {
			t.Errorf("approval %s, targets %s: %s", c.rule, c.targets, r.State)
		}
	}
}

// TestRollbackOfARolloutNeedsWhatItSends: what brings the former values back is held
// by their rule, and sent only for who may send it.
func TestRollbackOfARolloutNeedsWhatItSends(t *testing.T) {
	w := newWorld(t, options{})
	put(t, w, "move", moveType, 201)
	w.behave(func(_ wire.Address, c wire.Command) []any {
		return []any{wire.Result{TID: c.TID, Status: wire.Success, State: json.RawMessage(`{"pos":40,"mode":"hand"}`)}}
	})
	w.say(w.online("plant/a"), wire.StateUpdate{State: json.RawMessage(`{"pos":90,"mode":"auto"}`)})
	mover := w.token(t, fleet.NewToken{Name: "ann", Grants: []fleet.Grant{{Role: fleet.Operator, Commands: []string{"move"}}}})
	rollback := func(id string) client.Rollout {
		startRollout(t, w, `{"name":"`+id+`","command":"move","params":{"to":40},"targets":{"all":true}}`, mover, 202)
		w.until(t, id, "finished")
		return read[client.Rollout](t, w.do(t, request{method: "POST", path: "/v1/rollouts/" + id + "/rollback", body: `{}`, token: mover}), 202)
	}
	put(t, w, "move", moveType+"approval: {when: {path: to, gt: 80}}\n", 201)
	held := rollback("one")
	if held.State != "awaiting_approval" {
		t.Fatalf("90 needs approval, and it is %s", held.State)
	}
	if got := w.do(t, request{method: "POST", path: "/v1/rollouts/" + held.ID + "/deny", body: `{}`}); got.status != 200 {
		t.Fatal(got.body)
	}
	again := w.do(t, request{method: "POST", path: "/v1/rollouts/one/rollback", body: `{}`, token: mover})
	if again.status != 202 {
		t.Errorf("once more, after it was denied: %s", again.body)
	}
	w.say(wire.Address{Group: "plant", Device: "a"}, wire.StateUpdate{State: json.RawMessage(`{"pos":90,"mode":"auto"}`)})
	put(t, w, "move", strings.Replace(moveType, "param: to}", "param: to}, {path: mode}", 1), 201)
	back := w.until(t, rollback("two").ID, "finished")
	if back.Counts["skipped"] != 1 {
		t.Errorf("who may not change the desired state did: %v", back.Counts)
	}
}

// TestRolloutStaysInItsMakersGroups: it takes in no device of another, and is not
// seen there.
func TestRolloutStaysInItsMakersGroups(t *testing.T) {
	w := newWorld(t, options{})
	w.online("plant/a")
	w.online("mill/a")
	plant := w.token(t, fleet.NewToken{Name: "ann", Grants: []fleet.Grant{{Role: fleet.Operator, Groups: []string{"plant"}}}})
	mill := w.token(t, fleet.NewToken{Name: "bob", Grants: []fleet.Grant{{Role: fleet.Operator, Groups: []string{"mill"}}}})
	r := startRollout(t, w, `{"name":"fw","command":"move","targets":{"all":true}}`, plant, 202)
	if r.Total != 1 || len(r.Groups) != 1 || r.Groups[0] != "plant" {
		t.Errorf("%d targets in %v", r.Total, r.Groups)
	}
	if got := w.do(t, request{path: "/v1/rollouts/fw", token: mill}); got.status != 404 {
		t.Errorf("seen from elsewhere: %d", got.status)
	}
	if list := read[client.RolloutList](t, w.do(t, request{path: "/v1/rollouts", token: mill}), 200); len(list.Items) != 0 {
		t.Errorf("listed elsewhere: %+v", list.Items)
	}
	for _, targets := range []string{`{"devices":["plant/a"]}`, `{"group":"plant"}`} {
		got := w.do(t, request{method: "POST", path: "/v1/rollouts", body: `{"command":"move","targets":` + targets + `}`, token: mill})
		if got.status != 403 {
			t.Errorf("begun elsewhere, to %s: %d", targets, got.status)
		}
	}
}

func TestBadRollouts(t *testing.T) {
	w := newWorld(t, options{})
	w.add("plant/a")
	for body, field := range map[string]string{
		`{"command":"move","targets":{}}`:                                                                   "targets",
		`{"command":"move","targets":{"all":true,"group":"plant"}}`:                                         "targets",
		`{"command":"a b","targets":{"all":true}}`:                                                          "command",
		`{"command":"move","name":"a b","targets":{"all":true}}`:                                            "name",
		`{"command":"move","targets":{"devices":["plant/a","plant/a"]}}`:                                    "targets.devices",
		`{"command":"move","targets":{"devices":["plant/x"]}}`:                                              "targets.devices",
		`{"command":"move","targets":{"tag":"x"}}`:                                                          "targets",
		`{"command":"move","targets":{"all":true},"waves":[{"share":0.5,"count":1}]}`:                       "waves.0",
		`{"command":"move","targets":{"all":true},"waves":[{"count":1},{"count":9223372036854775807}]}`:     "waves.1",
		`{"command":"move","targets":{"all":true},"waves":[{"count":1,"soak":"-1s"}]}`:                      "waves.0.soak",
		`{"command":"move","targets":{"all":true},"rate":{"perMinute":10,"factor":2}}`:                      "rate.every",
		`{"command":"move","targets":{"all":true},"rate":{"perMinute":10,"factor":2,"every":1,"max":5}}`:    "rate.max",
		`{"command":"move","targets":{"all":true},"abort":{"share":1}}`:                                     "abort.share",
		`{"command":"move","targets":{"all":true},"windows":[{"from":"25:00","to":"01:00"}]}`:               "windows.0.from",
		`{"command":"move","targets":{"all":true},"windows":[{"from":"2:00","to":"01:00"}]}`:                "windows.0.from",
		`{"command":"move","targets":{"all":true},"windows":[{"from":"22:00","to":"1","zone":"UTC"}]}`:      "windows.0.to",
		`{"command":"move","targets":{"all":true},"windows":[{"from":"22:00","to":"01:00","zone":"x"}]}`:    "windows.0.zone",
		`{"command":"move","targets":{"all":true},"windows":[{"days":["so"],"from":"22:00","to":"01:00"}]}`: "windows.0.days",
		`{"command":"move","targets":{"all":true},"dynamic":true}`:                                          "deadline",
		`{"command":"move","targets":{"all":true},"deadline":"2001-01-01T00:00:00Z"}`:                       "deadline",
		`{"command":"move","targets":{"all":true},"policy":{"maxAttempts":-1}}`:                             "policy.maxAttempts",
	} {
		r := w.do(t, request{method: "POST", path: "/v1/rollouts/plan", body: body})
		var p struct{ Code, Field string }
		if err := json.Unmarshal([]byte(r.body), &p); err != nil || r.status != 400 || p.Field != field {
			t.Errorf("%s: %d, field %q, want %q: %s", body, r.status, p.Field, field, r.body)
		}
	}
}

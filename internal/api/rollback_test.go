package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/wire"
)

const moveType = `
name: move
params: {type: object, properties: {to: {type: integer}}, required: [to], additionalProperties: false}
effects: [{path: pos, param: to}]
`

// rollbacks is a world with the type move and a device that is at 10, and goes where
// it is told.
type rollbacks struct {
	*world
	t *testing.T
	a wire.Address
}

func newRollbacks(t *testing.T) rollbacks {
	w := rollbacks{newWorld(t, options{}), t, wire.Address{Group: "plant", Device: "valve"}}
	w.online("plant/valve")
	w.behave(func(_ wire.Address, c wire.Command) []any {
		var p struct{ To, Pos *json.RawMessage }
		if err := json.Unmarshal(c.Params, &p); err != nil {
			panic(err)
		}
		if p.To == nil {
			p.To = p.Pos
		}
		return []any{wire.Result{TID: c.TID, Status: wire.Success, State: fmt.Appendf(nil, `{"pos":%s}`, *p.To)}}
	})
	w.reports(`{"pos":10}`)
	put(t, w.world, "move", moveType, 201)
	return w
}

func (w rollbacks) reports(state string) { w.say(w.a, wire.StateUpdate{State: json.RawMessage(state)}) }

func (w rollbacks) send(body string) client.Command {
	w.t.Helper()
	c := read[client.Command](w.t, w.do(w.t, request{method: "POST", path: "/v1/devices/plant/valve/commands?wait=30s", body: body}), 202)
	if c.State != client.Executed {
		w.t.Fatalf("%s: %s", c.State, c.Detail)
	}
	return c
}

func (w rollbacks) back(c *client.Command, q request) reply {
	w.t.Helper()
	q.method, q.path = "POST", "/v1/commands/"+c.TID+"/rollback"+q.path
	return w.do(w.t, q)
}

func (w rollbacks) plan(c *client.Command, token string) client.RollbackPlan {
	w.t.Helper()
	return read[client.RollbackPlan](w.t, w.do(w.t, request{path: "/v1/commands/" + c.TID + "/rollback", token: token}), 200)
}

func (w rollbacks) position(want string) {
	w.t.Helper()
	s := read[client.DeviceState](w.t, w.do(w.t, request{path: "/v1/devices/plant/valve/state"}), 200)
	if string(s.Reported) != `{"pos":`+want+`}` {
		w.t.Errorf("reported %s, want %s", s.Reported, want)
	}
}

func TestRollback(t *testing.T) {
	w := newRollbacks(t)
	c := w.send(`{"name":"move","params":{"to":40}}`)
	p := w.plan(&c, "")
	if p.TID != c.TID || p.Device != "plant/valve" || p.Name != "move" || string(p.Params) != `{"to":10}` || p.Refused != "" || p.Forcible || len(p.Changes) != 1 {
		t.Fatalf("%+v", p)
	}
	if ch := p.Changes[0]; ch.Path != "pos" || string(ch.Former) != "10" || string(ch.After) != "40" || string(ch.Now) != "40" || !ch.Differs || ch.Foreign {
		t.Errorf("%+v", ch)
	}
	key := map[string]string{"Idempotency-Key": "k"}
	back := read[client.Command](t, w.back(&c, request{path: "?wait=30s", body: `{"reason":"wrong valve"}`, header: key}), 202)
	if back.State != client.Executed || back.Undoes != c.TID || back.TypeVersion != 1 || back.RequestedBy != "first-admin" {
		t.Errorf("%+v", back)
	}
	w.position("10")
	if got := read[client.Command](t, w.do(t, request{path: "/v1/commands/" + c.TID}), 200); got.UndoneBy != back.TID || got.State != client.Executed {
		t.Errorf("%+v", got)
	}
	if again := w.back(&c, request{header: key}); again.header.Get("Idempotent-Replayed") != "true" || read[client.Command](t, again, 200).TID != back.TID {
		t.Errorf("%s", again.body)
	}
	if e := read[client.Error](t, w.back(&c, request{}), 409); !strings.Contains(e.Detail, back.TID) {
		t.Errorf("%+v", e)
	}
	if e := read[client.Error](t, w.back(&back, request{header: key}), 409); e.Code != "key_reused" {
		t.Errorf("%+v", e)
	}
	if p := w.plan(&c, ""); !strings.Contains(p.Refused, back.TID) || p.Forcible || p.Name != "move" {
		t.Errorf("%+v", p)
	}
	log := w.do(t, request{path: "/v1/audit"})
	if n := strings.Count(string(log.body), `"command.rollback"`); n != 3 { // done, and two that were refused
		t.Errorf("%d entries: %s", n, log.body)
	}
}

func TestRollbackOfWhatOthersHaveChanged(t *testing.T) {
	w := newRollbacks(t)
	c := w.send(`{"name":"move","params":{"to":40}}`)
	other := w.send(`{"name":"move","params":{"to":70}}`)
	p := w.plan(&c, "")
	if !p.Forcible || !strings.Contains(p.Refused, other.TID) || !p.Changes[0].Foreign || p.Changes[0].TID != other.TID || p.Changes[0].By != "first-admin" {
		t.Errorf("%+v", p)
	}
	if e := read[client.Error](t, w.back(&c, request{}), 409); e.Code != "conflict" || !strings.Contains(e.Detail, "pos was 10 before it, 40 after it, and is 70 now") ||
		!strings.Contains(e.Detail, "force it with a reason") {
		t.Errorf("%+v", e)
	}
	if e := read[client.Error](t, w.back(&c, request{body: `{"force":true}`}), 400); e.Field != "reason" {
		t.Errorf("%+v", e)
	}
	read[client.Command](t, w.back(&c, request{path: "?wait=30s", body: `{"force":true,"reason":"I have looked"}`}), 202)
	w.position("10")
}

// TestRollbackGoesTheWayOfEveryCommand: rights, approval, schema and device are those
// of a command that is sent, as the newest version of the type says.
func TestRollbackGoesTheWayOfEveryCommand(t *testing.T) {
	w := newRollbacks(t)
	put(t, w.world, "push", "name: push\neffects: [{path: pos}]", 201)
	moved := w.send(`{"name":"move","params":{"to":40}}`)
	w.behave(func(_ wire.Address, c wire.Command) []any {
		return []any{wire.Result{TID: c.TID, Status: wire.Success, State: json.RawMessage(`{"pos":50}`)}}
	})
	pushed := w.send(`{"name":"push"}`)
	w.behave(nil)
	viewer := w.token(t, fleet.NewToken{Name: "eve", Grants: fleet.Everywhere(fleet.Viewer)})
	pusher := w.token(t, fleet.NewToken{Name: "pat", Grants: []fleet.Grant{{Role: fleet.Operator, Commands: []string{"push"}}}})
	stranger := w.token(t, fleet.NewToken{Name: "cy", Grants: []fleet.Grant{{Role: fleet.Operator, Groups: []string{"mill"}}}})

	for _, c := range []struct {
		name, token string
		c           *client.Command
		status      int
	}{
		{"a viewer", viewer, &pushed, 403}, {"for other commands", pusher, &moved, 403}, {"of another group", stranger, &pushed, 404},
		{"by a command that is not allowed", pusher, &pushed, 403},
	} {
		if got := w.back(c.c, request{token: c.token}); got.status != c.status {
			t.Errorf("%s: %d %s", c.name, got.status, got.body)
		}
	}
	if p := w.plan(&pushed, viewer); !strings.Contains(p.Refused, "operator") || p.Name != "state.desired" {
		t.Errorf("to a viewer: %+v", p)
	}

	put(t, w.world, "push", "name: push\neffects: [{path: pos}]\napproval: {quorum: 2}", 201)
	if p := w.plan(&pushed, ""); p.Approval != "type push, version 2" || p.Quorum != 2 || p.Refused != "" {
		t.Errorf("%+v", p)
	}
	held := read[client.Command](t, w.back(&pushed, request{}), 202)
	if held.State != client.AwaitingApproval || held.Approval.Quorum != 2 || string(held.Params) != `{"pos":40}` || held.Name != "state.desired" {
		t.Errorf("%+v", held)
	}
	read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/commands/" + held.TID + "/deny", body: `{}`}), 200)
	if e := read[client.Error](t, w.do(t, request{method: "POST", path: "/v1/commands/" + held.TID + "/retry", body: `{}`}), 409); !strings.Contains(e.Detail, "wilco rollback "+pushed.TID) {
		t.Errorf("%+v", e)
	}

	w.reports(`{"pos":40}`)
	put(t, w.world, "move", strings.Replace(moveType, "integer", "string", 1), 201)
	if p := w.plan(&moved, ""); !strings.HasPrefix(p.Refused, "params.to: ") || p.Forcible {
		t.Errorf("%+v", p)
	}
	if e := read[client.Error](t, w.back(&moved, request{}), 400); e.Field != "params.to" {
		t.Errorf("%+v", e)
	}
	put(t, w.world, "move", moveType, 201)
	w.say(w.a, wire.Status{Online: true, Boot: "boot-2", Commands: []string{"push"}})
	if e := read[client.Error](t, w.back(&moved, request{}), 400); !strings.Contains(e.Detail, "does not know move") {
		t.Errorf("%+v", e)
	}
	read[client.Device](t, w.do(t, request{method: "PATCH", path: "/v1/devices/plant/valve", body: `{"disabled":true}`}), 200)
	if p := w.plan(&moved, ""); !strings.Contains(p.Refused, "is disabled") {
		t.Errorf("%+v", p)
	}
	if e := read[client.Error](t, w.back(&moved, request{}), 409); !strings.Contains(e.Detail, "is disabled") {
		t.Errorf("%+v", e)
	}
}

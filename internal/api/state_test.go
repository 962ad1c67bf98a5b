package api_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/wire"
)

func TestStateOfADevice(t *testing.T) {
	w := newWorld(t, options{})
	const path = "/v1/devices/plant/valve/state"
	a := w.online("plant/valve")
	w.behave(func(_ wire.Address, c wire.Command) []any {
		return []any{wire.Result{TID: c.TID, Status: wire.Success, State: c.Params}}
	})
	empty := read[client.DeviceState](t, w.do(t, request{path: path}), 200)
	if string(empty.Desired) != "{}" || string(empty.Reported) != "{}" || empty.Pending == nil || empty.ReportedMeta != nil {
		t.Errorf("got %+v", empty)
	}
	w.say(a, wire.StateUpdate{State: json.RawMessage(`{"position":10,"big":12345678901234567890}`)})
	r := w.do(t, request{path: path + "?meta=true"})
	s := read[client.DeviceState](t, r, 200)
	if string(s.Reported) != `{"big":12345678901234567890,"position":10}` || s.ReportedMeta["position"].Boot != "boot-1" || r.header.Get("ETag") != `"0"` {
		t.Errorf("got %+v, ETag %s", s, r.header.Get("ETag"))
	}
	merge := map[string]string{"Content-Type": "application/merge-patch+json", "If-Match": `"0"`}
	c := read[client.Command](t, w.do(t, request{method: "PATCH", path: path + "/desired?wait=30s", body: `{"position":40,"mode":"slow"}`, header: merge}), 202)
	if c.State != client.Executed || c.Name != "state.desired" || string(c.Params) != `{"position":40,"mode":"slow"}` {
		t.Errorf("got %+v", c)
	}
	again := w.do(t, request{method: "PATCH", path: path + "/desired", body: `{"position":50}`, header: merge})
	if p := read[client.Error](t, again, 412); p.Code != "changed" || p.Field != "If-Match" {
		t.Errorf("got %+v", p)
	}
	s = read[client.DeviceState](t, w.do(t, request{path: path}), 200)
	if s.DesiredVersion != 2 || s.Version != 3 || string(s.Delta) != "{}" || len(s.Pending) != 0 {
		t.Errorf("got %+v", s)
	}
	w.behave(nil)
	read[client.Command](t, w.do(t, request{method: "PATCH", path: path + "/desired", body: `{"deep":{"a.b":1}}`}), 202)
	if s = read[client.DeviceState](t, w.do(t, request{path: path}), 200); !slices.Equal(s.Pending, []string{"deep.a~1b"}) {
		t.Errorf("pending %v", s.Pending)
	}
	h := read[client.StateHistory](t, w.do(t, request{path: path + "/history?limit=3"}), 200)
	if len(h.Items) != 3 || h.Items[0].Version != 4 || h.Items[0].Side != "desired" || h.Items[0].By != "first-admin" || string(h.Items[2].Patch) != `{"mode":"slow","position":40}` {
		t.Errorf("history %+v", h.Items)
	}
}

func TestWhatIsNoChangeOfState(t *testing.T) {
	w := newWorld(t, options{})
	w.online("plant/valve")
	for _, tt := range []struct {
		path, body, match string
		status            int
		code, field       string
	}{
		{"plant/valve", `[]`, "", 400, "invalid", "params"},
		{"plant/valve", `{}`, "", 400, "invalid", "params"},
		{"plant/valve", `{"a":{"b":1,"b":2}}`, "", 400, "invalid", "params.a.b"},
		{"plant/valve", `{"a":1}`, "three", 400, "invalid", "If-Match"},
		{"plant/valve", ``, "", 400, "invalid", ""},
		{"plant/none", `{"a":1}`, "", 404, "not_found", "device"},
	} {
		r := w.do(t, request{method: "PATCH", path: "/v1/devices/" + tt.path + "/state/desired", body: tt.body,
			header: map[string]string{"If-Match": tt.match}})
		if p := read[client.Error](t, r, tt.status); p.Code != tt.code || p.Field != tt.field {
			t.Errorf("%s %s: got %+v", tt.path, tt.body, p)
		}
	}
	if p := read[client.Error](t, w.do(t, request{path: "/v1/devices/plant/none/state"}), 404); p.Field != "device" {
		t.Errorf("got %+v", p)
	}
	if p := read[client.Error](t, w.do(t, request{path: "/v1/devices/plant/none/state/history"}), 404); p.Field != "device" {
		t.Errorf("got %+v", p)
	}
}

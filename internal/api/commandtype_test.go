package api_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/wire"
)

const valveType = `
name: valve.set
description: Moves the valve.
params:
  type: object
  required: [percent]
  additionalProperties: false
  properties:
    percent: {type: integer, minimum: 0, maximum: 100}
result: {type: object, required: [percent]}
policy: {ackBy: 3s, supersede: true}
priority: 2
effects: [{path: valve.percent, param: percent}]
if: {path: door, eq: closed, maxAge: 10s}
unmet: hold
approval: {quorum: 2, when: {path: percent, gt: 90}}
`

func put(t *testing.T, w *world, name, text string, status int) client.CommandType {
	t.Helper()
	return read[client.CommandType](t, w.do(t, request{method: "PUT", path: "/v1/types/" + name, body: text,
		header: map[string]string{"Content-Type": "application/yaml"}}), status)
}

func TestTypes(t *testing.T) {
	w := newWorld(t, options{})
	first := put(t, w, "valve.set", valveType, 201)
	if first.Version != 1 || first.By != "first-admin" || first.Created.IsZero() || first.Approval.Quorum != 2 {
		t.Errorf("applied: %+v", first)
	}
	if same := put(t, w, "valve.set", valveType, 200); same.Version != 1 {
		t.Errorf("the same content made version %d", same.Version)
	}
	if second := put(t, w, "valve.set", "name: valve.set", 201); second.Version != 2 {
		t.Errorf("other content made version %d", second.Version)
	}
	got := read[client.CommandType](t, w.do(t, request{path: "/v1/types/valve.set?version=1"}), 200)
	if !reflect.DeepEqual(got, first) {
		t.Errorf("version 1 is %+v, want %+v", got, first)
	}
	put(t, w, "a", "name: a", 201)
	list := read[client.TypeList](t, w.do(t, request{path: "/v1/types"}), 200)
	if len(list.Items) != 2 || list.Items[0].Name != "a" || list.Items[1].Version != 2 {
		t.Errorf("list %+v", list.Items)
	}
}

// TestTypeDocumentIsWhole compares the answer with what was applied, as JSON: a
// field that the client's document has not got would be missing.
func TestTypeDocumentIsWhole(t *testing.T) {
	w := newWorld(t, options{})
	all := `{"name":"n","description":"d","params":{"type":"object"},"result":true,"policy":{"ackBy":"3s"},"window":3,"priority":-2,
		"onReboot":"fails","effects":[{"path":"a","param":"b"}],"approval":{"quorum":2,"expires":"1h0m0s","when":{"path":"x","eq":1},
		"groups":["g"],"tags":["t"],"targets":2},"if":{"path":"p","exists":true},"unmet":"hold","deprecated":"old"}`
	r := w.do(t, request{method: "PUT", path: "/v1/types/n", body: all})
	var got, want map[string]any
	if err := json.Unmarshal([]byte(r.body), &got); err != nil || r.status != 201 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if err := json.Unmarshal([]byte(all), &want); err != nil {
		t.Fatal(err)
	}
	for _, given := range []string{"version", "created", "by"} {
		if got[given] == nil {
			t.Errorf("%s is missing", given)
		}
		delete(got, given)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestBadTypes(t *testing.T) {
	w := newWorld(t, options{})
	for _, c := range []struct{ method, path, body, field string }{
		{"PUT", "/v1/types/a", "name: b", "name"},
		{"PUT", "/v1/types/a", "name: a\nparams: {type: nonsense}", "params.type"},
		{"PUT", "/v1/types/a", "name: a\nwindow: -1", "window"},
		{"PUT", "/v1/types/a", "name: a\nnonsense: 1", "nonsense"},
		{"PUT", "/v1/types/a", "name: a\nversion: 7", "version"},
		{"PUT", "/v1/types/a", "name: a\n---\nname: b", ""},
		{"PUT", "/v1/types/a", "[", ""},
		{"POST", "/v1/types/a/deprecate", `{"reason":""}`, "reason"},
	} {
		q := request{method: c.method, path: c.path, body: c.body}
		if c.method == "PUT" {
			q.header = map[string]string{"Content-Type": "application/yaml"}
		}
		if p := read[client.Error](t, w.do(t, q), 400); p.Field != c.field {
			t.Errorf("%s %s %q: field %q, want %q: %s", c.method, c.path, c.body, p.Field, c.field, p.Detail)
		}
	}
	for _, path := range []string{"/v1/types/a", "/v1/types/a?version=1"} {
		read[client.Error](t, w.do(t, request{path: path}), 404)
	}
}

// TestTypesRuleCommands sends commands of a type: what does not fit makes none,
// and what is made keeps what the type said.
func TestTypesRuleCommands(t *testing.T) {
	w := newWorld(t, options{})
	w.add("plant/valve")
	put(t, w, "valve.set", "name: valve.set\nparams: {properties: {percent: {maximum: 100}}}\npolicy: {ackBy: 3s, finishBy: 5m}\npriority: 2", 201)
	send := func(body string, status int) client.Command {
		t.Helper()
		return read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/commands", body: body}), status)
	}
	p := read[client.Error](t, w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/commands", body: `{"name":"valve.set","params":{"percent":101}}`}), 400)
	if p.Field != "params.percent" {
		t.Errorf("field %q: %s", p.Field, p.Detail)
	}
	c := send(`{"name":"valve.set","params":{"percent":100},"policy":{"finishBy":"7m"}}`, 202)
	if c.TypeVersion != 1 || c.Priority != 2 || c.Policy.AckBy.String() != "3s" || c.Policy.FinishBy.String() != "7m0s" || c.Policy.DeliverBy.String() != "24h0m0s" || c.Warning != "" {
		t.Errorf("%+v", c)
	}
	if c := send(`{"name":"valve.set","priority":-1}`, 202); c.Priority != -1 || c.TypeVersion != 1 {
		t.Errorf("the request's priority: %+v", c)
	}
	read[client.CommandType](t, w.do(t, request{method: "POST", path: "/v1/types/valve.set/deprecate", body: `{"reason":"use valve.move"}`}), 200)
	if c := send(`{"name":"valve.set"}`, 202); c.TypeVersion != 2 || c.Warning != "valve.set is deprecated: use valve.move" {
		t.Errorf("of a deprecated type: %+v", c)
	}
	was := read[client.Command](t, w.do(t, request{path: "/v1/commands/" + c.TID}), 200)
	if was.TypeVersion != 1 || was.Policy != c.Policy {
		t.Errorf("a later version has changed an earlier command: %+v", was)
	}
	bulk := w.do(t, request{method: "POST", path: "/v1/commands", body: `[{"device":"plant/valve","name":"valve.set","priority":4},{"device":"plant/valve","name":"other","priority":"x"}]`})
	results := read[[]client.BulkResult](t, bulk, 200)
	if results[0].Warning == "" || results[1].Error == nil || results[1].Error.Field != "priority" {
		t.Errorf("bulk %s", bulk.body)
	}
}

// TestAKeyOutlivesItsType repeats a request whose type has become stricter since.
func TestAKeyOutlivesItsType(t *testing.T) {
	w := newWorld(t, options{})
	w.add("plant/valve")
	q := request{method: "POST", path: "/v1/devices/plant/valve/commands", body: `{"name":"n","params":{"a":1}}`,
		header: map[string]string{"Idempotency-Key": "k"}}
	made := read[client.Command](t, w.do(t, q), 202)
	put(t, w, "n", "name: n\nparams: {required: [b]}", 201)
	if again := read[client.Command](t, w.do(t, q), 200); again.TID != made.TID {
		t.Errorf("got %s, want %s", again.TID, made.TID)
	}
	q.header = map[string]string{"Idempotency-Key": "another"}
	read[client.Error](t, w.do(t, q), 400)
}

func TestUnknownTypesAreRefused(t *testing.T) {
	w := newWorld(t, options{KnownTypesOnly: true})
	w.add("plant/valve")
	q := request{method: "POST", path: "/v1/devices/plant/valve/commands", body: `{"name":"n"}`}
	if p := read[client.Error](t, w.do(t, q), 400); p.Field != "name" {
		t.Errorf("field %q: %s", p.Field, p.Detail)
	}
	put(t, w, "n", "name: n", 201)
	read[client.Command](t, w.do(t, q), 202)
}

func TestTypesWithApprovalHold(t *testing.T) {
	w := newWorld(t, options{})
	w.add("plant/valve")
	put(t, w, "n", "name: n\napproval: {when: {path: percent, gt: 90}, groups: [plant]}", 201)
	for params, want := range map[string]client.State{`{"percent":91}`: client.AwaitingApproval, `{"percent":90}`: client.Created, `{}`: client.AwaitingApproval} {
		c := read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/commands", body: `{"name":"n","params":` + params + `}`}), 202)
		if c.State != want {
			t.Errorf("%s: %s, want %s", params, c.State, want)
		}
	}
}

// TestBadResultIsAnAnomaly: the device says that it is done, and so it is.
func TestBadResultIsAnAnomaly(t *testing.T) {
	w := newWorld(t, options{})
	a := w.online("plant/valve")
	put(t, w, "n", "name: n\nresult: {required: [position]}", 201)
	c := read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/commands?wait=30s", body: `{"name":"n","params":{"percent":4}}`}), 202)
	if c.State != client.Executed {
		t.Fatalf("%+v", c)
	}
	w.say(a, wire.Result{TID: c.TID, Status: wire.Success, Result: c.Result}) // and again
	tl := read[client.Timeline](t, w.do(t, request{path: "/v1/commands/" + c.TID + "/timeline"}), 200)
	last := tl.Entries[len(tl.Entries)-1]
	if tl.Command.Anomalies != 1 || !last.Anomaly || last.Reason != "bad_result" || last.Detail == "" {
		t.Errorf("%d anomalies, last line %+v", tl.Command.Anomalies, last)
	}
	list := read[client.AnomalyList](t, w.do(t, request{path: "/v1/devices/plant/valve/anomalies"}), 200)
	if len(list.Items) != 1 || list.Items[0].Kind != "bad_result" || list.Items[0].TID != c.TID || list.Items[0].Detail != last.Detail {
		t.Errorf("%+v", list.Items)
	}
}

// TestATypeThatChangesLeavesWhatIsInFlight: a command keeps policy, terms and result
// schema of the version that it was made by, to its end.
func TestATypeThatChangesLeavesWhatIsInFlight(t *testing.T) {
	w := newWorld(t, options{})
	a := w.online("plant/valve")
	w.behave(nil)
	put(t, w, "n", "name: n\nresult: {required: [position]}\npolicy: {finishBy: 5m}\npriority: 2", 201)
	c := read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/commands", body: `{"name":"n"}`}), 202)
	put(t, w, "n", "name: n\nresult: {required: [torque]}\npolicy: {finishBy: 7m}\npriority: 3", 201)
	w.say(a, wire.Result{TID: c.TID, Status: wire.Success, Result: json.RawMessage(`{"position":4}`)})
	got := read[client.Command](t, w.do(t, request{path: "/v1/commands/" + c.TID + "?wait=30s"}), 200)
	if got.State != client.Executed || got.Anomalies != 0 || got.TypeVersion != 1 || got.Priority != 2 || got.Policy.FinishBy.String() != "5m0s" {
		t.Errorf("%+v", got)
	}
}

package api_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/wire"
)

func TestSendAndWait(t *testing.T) {
	w := newWorld(t, options{})
	w.online("plant/valve")
	r := w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/commands?wait=30s",
		body: `{"name":"open","params":{"percent": 40},"policy":{"ackBy":"3s","jitter":0}}`})
	c := read[client.Command](t, r, 202)
	if c.State != client.Executed || !c.Ended || string(c.Result) == "" || c.Device != "plant/valve" || c.RequestedBy != "first-admin" {
		t.Errorf("got %+v", c)
	}
	if c.Policy.AckBy.D() != 3*time.Second || c.Policy.Jitter != 0 || c.Policy.FinishBy.D() != time.Hour {
		t.Errorf("the policy must lie over the default: %+v", c.Policy)
	}
	if got := r.header.Get("Location"); got != "/v1/commands/"+c.TID {
		t.Errorf("Location %q", got)
	}
	same := read[client.Command](t, w.do(t, request{path: r.header.Get("Location")}), 200)
	if same.Version != c.Version {
		t.Errorf("got version %d, then %d", c.Version, same.Version)
	}
	tl := read[client.Timeline](t, w.do(t, request{path: r.header.Get("Location") + "/timeline"}), 200)
	if len(tl.Entries) < 3 || tl.Entries[0].Kind != "create" || tl.Entries[len(tl.Entries)-1].State != client.Executed {
		t.Errorf("timeline %+v", tl.Entries)
	}
}

func TestWaitIsOver(t *testing.T) {
	w := newWorld(t, options{})
	w.add("plant/valve") // and never online
	began := time.Now()
	r := w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/commands?wait=50ms", body: `{"name":"open"}`})
	c := read[client.Command](t, r, 202)
	if c.State != client.Created {
		t.Errorf("state %s", c.State)
	}
	if d := time.Since(began); d < 50*time.Millisecond {
		t.Errorf("waited %s only", d)
	}
	c = read[client.Command](t, w.do(t, request{path: "/v1/commands/" + c.TID + "?wait=20ms&after=1"}), 200)
	if c.Version != 1 {
		t.Errorf("version %d", c.Version)
	}
}

// TestWaitEndsWithTheChange has a wait for a version answered by a cancel.
func TestWaitEndsWithTheChange(t *testing.T) {
	w := newWorld(t, options{})
	w.add("plant/valve")
	c := read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/commands", body: `{"name":"open"}`}), 202)
	got := make(chan reply, 1)
	go func() { got <- w.do(t, request{path: "/v1/commands/" + c.TID + "?wait=30s&after=1"}) }()
	read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/commands/" + c.TID + "/cancel", body: `{"reason":"wrong valve"}`}), 200)
	changed := read[client.Command](t, <-got, 200)
	if changed.State != client.Cancelled || changed.Detail != "wrong valve" {
		t.Errorf("got %s %q", changed.State, changed.Detail)
	}
	// A cancel of what is cancelled changes nothing, and is no mistake.
	read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/commands/" + c.TID + "/cancel"}), 200)
}

func TestIdempotencyKey(t *testing.T) {
	w := newWorld(t, options{})
	w.add("plant/valve")
	w.add("plant/other")
	send := func(device, body string) reply {
		return w.do(t, request{method: "POST", path: "/v1/devices/plant/" + device + "/commands", body: body,
			header: map[string]string{"Idempotency-Key": "order-17"}})
	}
	made := send("valve", `{"name":"open","params":{"a":1}}`)
	first := read[client.Command](t, made, 202)
	if made.header.Get("Idempotent-Replayed") != "" {
		t.Error("the first is no replay")
	}
	// White space is no other body.
	again := send("valve", `{ "params": { "a": 1 }, "name":"open" }`)
	if second := read[client.Command](t, again, 200); second.TID != first.TID || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("got %s, want %s, replayed %q", second.TID, first.TID, again.header.Get("Idempotent-Replayed"))
	}
	for _, body := range []string{`{"name":"open","params":{"a":2}}`, `{"name":"shut","params":{"a":1}}`,
		`{"name":"open","params":{"a":1},"policy":{"ackBy":"1m"}}`} {
		refused(t, send("valve", body), 409, "key_reused", "", "")
	}
	if other := read[client.Command](t, send("other", `{"name":"open","params":{"a":1}}`), 202); other.TID == first.TID {
		t.Error("a key is of its device")
	}
}

func TestRetry(t *testing.T) {
	w := newWorld(t, options{})
	w.online("plant/valve")
	answer := wire.Failure
	w.behave(func(_ wire.Address, c wire.Command) []any {
		return []any{wire.Result{TID: c.TID, Status: answer, Reason: &wire.Reason{Code: "jammed", Text: "it is stuck"}}}
	})
	send := request{method: "POST", path: "/v1/devices/plant/valve/commands?wait=30s", body: `{"name":"open","params":[1]}`}
	failed := read[client.Command](t, w.do(t, send), 202)
	if failed.State != client.Failed || !strings.Contains(failed.Detail, "stuck") {
		t.Fatalf("got %s %q", failed.State, failed.Detail)
	}
	next := read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/commands/" + failed.TID + "/retry"}), 202)
	if next.RetryOf != failed.TID || next.TID == failed.TID || string(next.Params) != "[1]" {
		t.Errorf("got %+v", next)
	}
	w.behave(succeed)
	done := read[client.Command](t, w.do(t, send), 202)
	refused(t, w.do(t, request{method: "POST", path: "/v1/commands/" + done.TID + "/retry"}), 409, "conflict", "", "executed")
	refused(t, w.do(t, request{method: "POST", path: "/v1/commands/" + done.TID + "/cancel"}), 409, "conflict", "", "executed")

	w.behave(nil) // silent: the command stays open
	open := read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/commands", body: `{"name":"open"}`}), 202)
	open = read[client.Command](t, w.do(t, request{path: "/v1/commands/" + open.TID + "?wait=30s&after=1"}), 200)
	same := read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/commands/" + open.TID + "/retry"}), 200)
	if same.TID != open.TID || same.Attempt != open.Attempt+1 || same.Reason != "asked_again" {
		t.Errorf("got tid %s attempt %d reason %s", same.TID, same.Attempt, same.Reason)
	}
}

func TestListPages(t *testing.T) {
	w := newWorld(t, options{})
	w.add("plant/a")
	w.add("mill/b")
	for i := range 5 {
		device := []string{"plant/a", "mill/b"}[i%2]
		read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/devices/" + device + "/commands", body: `{"name":"n` + string(rune('0'+i)) + `"}`}), 202)
	}
	names := func(query string) (list []string) {
		cursor := ""
		for {
			p := read[client.CommandPage](t, w.do(t, request{path: "/v1/commands?limit=2" + query + cursor}), 200)
			for _, c := range p.Items {
				list = append(list, c.Name)
			}
			if p.Next == "" {
				return list
			}
			cursor = "&cursor=" + p.Next
		}
	}
	for query, want := range map[string]string{
		"": "n4 n3 n2 n1 n0", "&order=oldest": "n0 n1 n2 n3 n4", "&group=mill": "n3 n1", "&group=plant&device=a": "n4 n2 n0",
		"&name=n2": "n2", "&state=created&state=sent": "n4 n3 n2 n1 n0", "&state=executed": "", "&requestedBy=nobody": "",
		"&since=2100-01-01T00:00:00Z": "", "&before=2100-01-01T00:00:00Z": "n4 n3 n2 n1 n0",
	} {
		if got := strings.Join(names(query), " "); got != want {
			t.Errorf("%q: got %q, want %q", query, got, want)
		}
	}
}

// TestAGroupIsClosed has a token of one group look for the commands and devices
// of another.
func TestAGroupIsClosed(t *testing.T) {
	w := newWorld(t, options{})
	w.add("plant/a")
	w.add("mill/b")
	c := read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/devices/plant/a/commands", body: `{"name":"open"}`}), 202)
	token := w.token(t, fleet.NewToken{Name: "mill", Grants: []fleet.Grant{{Role: fleet.Admin, Groups: []string{"mill"}}}})
	as := func(method, path, body string) reply {
		return w.do(t, request{token: token, method: method, path: path, body: body})
	}
	refused(t, as("GET", "/v1/commands/"+c.TID, ""), 404, "not_found", "tid", c.TID) // not Forbidden: which tids there are is nobody's business
	refused(t, as("GET", "/v1/commands/"+c.TID+"/timeline", ""), 404, "not_found", "tid", c.TID)
	refused(t, as("POST", "/v1/commands/"+c.TID+"/cancel", ""), 404, "not_found", "tid", c.TID)
	refused(t, as("POST", "/v1/commands/"+c.TID+"/retry", ""), 404, "not_found", "tid", c.TID)
	refused(t, as("GET", "/v1/devices/plant/a", ""), 403, "forbidden", "", "mill")
	refused(t, as("DELETE", "/v1/devices/plant/a", ""), 403, "forbidden", "", "mill")
	refused(t, as("POST", "/v1/devices/plant/a/rotate", ""), 403, "forbidden", "", "mill")
	refused(t, as("POST", "/v1/tokens", `{"name":"x","role":"admin","group":"plant"}`), 403, "forbidden", "", "mill")
	if p := read[client.CommandPage](t, as("GET", "/v1/commands", ""), 200); len(p.Items) != 0 {
		t.Errorf("sees %d commands of another group", len(p.Items))
	}
	if p := read[client.DevicePage](t, as("GET", "/v1/devices", ""), 200); len(p.Items) != 1 || p.Items[0].Device != "mill/b" {
		t.Errorf("devices %+v", p.Items)
	}
	made := read[client.APIToken](t, as("POST", "/v1/tokens", `{"name":"x","role":"admin"}`), 201)
	if len(made.Grants) != 1 || made.Grants[0].String() != "admin@mill" {
		t.Errorf("an admin of one group made a token with %v", made.Grants)
	}
	both := `{"name":"x","role":"viewer","grants":[{"role":"operator","groups":["mill"],"commands":["valve.*"]}]}`
	refused(t, as("POST", "/v1/tokens", both), 400, "invalid", "grants", "either")
	refused(t, as("POST", "/v1/tokens", `{"name":"x"}`), 400, "invalid", "role", "missing")
	if list := read[client.TokenList](t, as("GET", "/v1/tokens", ""), 200); len(list.Items) != 2 {
		t.Errorf("sees %d tokens, want the two of its group", len(list.Items))
	}
}

func TestDevices(t *testing.T) {
	w := newWorld(t, options{})
	made := w.do(t, request{method: "POST", path: "/v1/devices", body: `{"device":"plant/valve","window":2,"tags":["hot"],"note":"at the door"}`})
	d := read[client.Device](t, made, 201)
	if d.Secret == "" || made.header.Get("Location") != "/v1/devices/plant/valve" || d.Window != 2 {
		t.Fatalf("got %+v", d)
	}
	got := read[client.Device](t, w.do(t, request{path: "/v1/devices/plant/valve"}), 200)
	if got.Secret != "" || got.Note != "at the door" || got.Presence.Known {
		t.Errorf("got %+v", got)
	}
	w.say(wire.Address{Group: "plant", Device: "valve"}, wire.Status{Online: true, Boot: "b7", Firmware: "2.1", TS: time.Now()})
	if got := read[client.Device](t, w.do(t, request{path: "/v1/devices/plant/valve"}), 200); !got.Presence.Online || got.Presence.Boot != "b7" {
		t.Errorf("presence %+v", got.Presence)
	}
	if p := read[client.DevicePage](t, w.do(t, request{path: "/v1/devices?online=true&tag=hot"}), 200); len(p.Items) != 1 || p.Items[0].Secret != "" {
		t.Errorf("list %+v", p.Items)
	}
	rotated := read[client.Device](t, w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/rotate"}), 200)
	if rotated.Secret == "" || rotated.Secret == d.Secret {
		t.Error("rotate must give a new secret")
	}
	changed := read[client.Device](t, w.do(t, request{method: "PATCH", path: "/v1/devices/plant/valve", body: `{"disabled":true,"tags":[],"window":5}`}), 200)
	if !changed.Disabled || len(changed.Tags) != 0 || changed.Window != 5 || changed.Note != "at the door" {
		t.Errorf("got %+v", changed)
	}
	refused(t, w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/commands", body: `{"name":"open"}`}), 409, "conflict", "", "wilco device enable plant/valve")
	w.say(wire.Address{Group: "plant", Device: "valve"}, wire.Ack{TID: "nobody-knows-it", Status: wire.Received})
	list := read[client.AnomalyList](t, w.do(t, request{path: "/v1/devices/plant/valve/anomalies?limit=5"}), 200)
	if len(list.Items) != 1 || list.Items[0].TID != "nobody-knows-it" {
		t.Errorf("anomalies %+v", list.Items)
	}
	if r := w.do(t, request{method: "DELETE", path: "/v1/devices/plant/valve"}); r.status != 204 || len(r.body) != 0 {
		t.Errorf("%d %s", r.status, r.body)
	}
	refused(t, w.do(t, request{path: "/v1/devices/plant/valve"}), 404, "not_found", "device", "plant/valve")
}

func TestTokens(t *testing.T) {
	w := newWorld(t, options{})
	made := read[client.APIToken](t, w.do(t, request{method: "POST", path: "/v1/tokens", body: `{"name":"board","role":"viewer","ttl":"1h"}`}), 201)
	if made.Token == "" || made.Expires.Sub(made.Created) != time.Hour {
		t.Fatalf("got %+v", made)
	}
	read[client.CommandPage](t, w.do(t, request{token: made.Token, path: "/v1/commands"}), 200)
	for _, tok := range read[client.TokenList](t, w.do(t, request{path: "/v1/tokens"}), 200).Items {
		if tok.Token != "" {
			t.Error("a list shows a token's text")
		}
	}
	if r := w.do(t, request{method: "DELETE", path: "/v1/tokens/" + made.ID}); r.status != 204 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	refused(t, w.do(t, request{token: made.Token, path: "/v1/commands"}), 401, "unauthenticated", "", "not valid")
}

// TestParamsComeBack sends JSON that a careless server would change.
func TestParamsComeBack(t *testing.T) {
	w := newWorld(t, options{})
	w.add("plant/valve")
	for _, params := range []string{`null`, `7`, `"<&>"`, `[1,2]`, `{"big":12345678901234567890,"e":1E300,"u":"\u2028"}`} {
		c := read[client.Command](t, w.do(t, request{method: "POST", path: "/v1/devices/plant/valve/commands", body: `{"name":"a","params":` + params + `}`}), 202)
		got := string(c.Params)
		if params == "null" {
			params = "" // absent
		}
		if got != params && !(params == "" && got == "null") {
			t.Errorf("params %s came back as %s", params, got)
		}
		if got != "" && !json.Valid(c.Params) {
			t.Errorf("%s is not JSON", got)
		}
	}
}

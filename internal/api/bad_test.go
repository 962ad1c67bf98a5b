package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/internal/fleet"
)

// TestBadInput sends what must be refused, and wants the code and the field.
func TestBadInput(t *testing.T) {
	w := newWorld(t, options{})
	w.online("plant/valve")
	viewer := w.token(t, fleet.NewToken{Name: "look", Grants: fleet.Everywhere(fleet.Viewer)})
	operator := w.token(t, fleet.NewToken{Name: "ops", Grants: []fleet.Grant{{Role: fleet.Operator, Groups: []string{"plant"}}}})
	const send = "/v1/devices/plant/valve/commands"
	const tid = "01890a5d-ac96-774b-bcce-b302099a8057"
	post := func(path, body string) request { return request{method: "POST", path: path, body: body} }
	with := func(q request, name, value string) request {
		q.header = map[string]string{name: value}
		return q
	}
	as := func(token string, q request) request { q.token = token; return q }
	for _, c := range []struct {
		name   string
		q      request
		status int
		code   string
		field  string
		detail string
	}{
		{"malformed JSON", post(send, `{"name":`), 400, "invalid", "body", "unexpected end"},
		{"two documents", post(send, `{"name":"a"}{}`), 400, "invalid", "body", "after top-level value"},
		{"not an object", post(send, `[]`), 400, "invalid", "body", "expected object"},
		{"no body", post(send, ``), 400, "invalid", "", "required"},
		{"unknown field", post(send, `{"name":"a","retain":true}`), 400, "invalid", "retain", "unexpected property"},
		{"field in other casing", post(send, `{"Name":"a"}`), 400, "invalid", "name", "required"},
		{"unknown field of the policy", post(send, `{"name":"a","policy":{"ackby":"1s"}}`), 400, "invalid", "policy.ackby", "unexpected"},
		{"wrong type", post(send, `{"name":7}`), 400, "invalid", "name", "expected string"},
		{"name missing", post(send, `{}`), 400, "invalid", "name", "required"},
		{"name empty", post(send, `{"name":""}`), 400, "invalid", "name", "missing"},
		{"name with a space", post(send, `{"name":"open valve"}`), 400, "invalid", "name", "characters"},
		{"name too long", post(send, `{"name":"`+strings.Repeat("a", 129)+`"}`), 400, "invalid", "name", "1 to 128"},
		{"policy out of bounds", post(send, `{"name":"a","policy":{"ackBy":"1ns"}}`), 400, "invalid", "policy.ackBy", "not between"},
		{"policy no duration", post(send, `{"name":"a","policy":{"ackBy":"soon"}}`), 400, "invalid", "policy.ackBy", "a duration like 30s"},
		{"policy backoff", post(send, `{"name":"a","policy":{"backoff":"wild"}}`), 400, "invalid", "policy.backoff", "one of"},
		{"params too deep", post(send, `{"name":"a","params":`+strings.Repeat("[", 70)+strings.Repeat("]", 70)+`}`), 400, "invalid", "params", "deep"},
		{"params too large", post(send, `{"name":"a","params":"`+strings.Repeat("x", 193<<10)+`"}`), 413, "too_large", "params", "at most"},
		{"body too large", post(send, `{"name":"a","params":"`+strings.Repeat("x", 300<<10)+`"}`), 413, "too_large", "body", "longer than"},
		{"key too long", with(post(send, `{"name":"a"}`), "Idempotency-Key", strings.Repeat("k", 201)), 400, "invalid", "Idempotency-Key", "at most 200"},
		{"wrong content type", with(post(send, `{"name":"a"}`), "Content-Type", "application/x-www-form-urlencoded"), 415, "invalid", "Content-Type", "application/json"},
		{"wrong charset", with(post(send, `{"name":"a"}`), "Content-Type", "application/json; charset=latin1"), 415, "invalid", "Content-Type", "UTF-8"},
		{"unknown device", post("/v1/devices/plant/pump/commands", `{"name":"a"}`), 404, "not_found", "device", "wilco device add plant/pump"},
		{"device name", post("/v1/devices/plant/a%2Fb/commands", `{"name":"a"}`), 400, "invalid", "device", "1 to 64"},
		{"group name", post("/v1/devices/%23/valve/commands", `{"name":"a"}`), 400, "invalid", "group", "1 to 64"},
		{"wait no duration", post(send+"?wait=soon", `{"name":"a"}`), 400, "invalid", "wait", "duration"},
		{"wait too long", post(send+"?wait=11m", `{"name":"a"}`), 400, "invalid", "wait", "10m"},
		{"unknown query parameter", request{path: "/v1/commands?states=sent"}, 400, "invalid", "states", "group"},
		{"query parameter where there is none", request{path: "/v1/tokens?all=1"}, 400, "invalid", "all", "takes none"},
		{"query parameter twice", request{path: "/v1/commands?limit=1&limit=2"}, 400, "invalid", "limit", "once"},
		{"query parameter empty", request{path: "/v1/commands?group="}, 400, "invalid", "group", "empty"},
		{"query malformed", request{path: "/v1/commands?a=%zz"}, 400, "invalid", "query", "well-formed"},
		{"limit no number", request{path: "/v1/commands?limit=ten"}, 400, "invalid", "limit", "integer"},
		{"limit too large", request{path: "/v1/commands?limit=1001"}, 400, "invalid", "limit", "1000"},
		{"unknown state", request{path: "/v1/commands?state=done"}, 400, "invalid", "state[0]", "one of"},
		{"since no time", request{path: "/v1/commands?since=yesterday"}, 400, "invalid", "since", "date"},
		{"device without group", request{path: "/v1/commands?device=valve"}, 400, "invalid", "device", "needs group"},
		{"group that cannot be", request{path: "/v1/commands?group=a%2Fb"}, 400, "invalid", "group", "1 to 64"},
		{"group of devices that cannot be", request{path: "/v1/devices?group=%23"}, 400, "invalid", "group", "1 to 64"},
		{"group of stats that cannot be", request{path: "/v1/stats?group=a%20b"}, 400, "invalid", "group", "1 to 64"},
		{"group of events that cannot be", request{path: "/v1/events?group=a%20b"}, 400, "invalid", "group", "1 to 64"},
		{"device of a list that cannot be", request{path: "/v1/commands?group=plant&device=%2B"}, 400, "invalid", "device", "1 to 64"},
		{"device of events without group", request{path: "/v1/events?device=valve"}, 400, "invalid", "device", "needs group"},
		{"bad cursor of the audit log", request{path: "/v1/audit?cursor=nonsense"}, 400, "invalid", "cursor", "next of a page"},
		{"bad cursor", request{path: "/v1/commands?cursor=nonsense"}, 400, "invalid", "cursor", ""},
		{"bad cursor of devices", request{path: "/v1/devices?cursor=%00"}, 400, "invalid", "cursor", ""},
		{"bad tid", request{path: "/v1/commands/17"}, 400, "invalid", "tid", "transaction id"},
		{"tid in braces", request{path: "/v1/commands/%7B" + tid + "%7D"}, 400, "invalid", "tid", "transaction id"},
		{"unknown tid", request{path: "/v1/commands/" + tid}, 404, "not_found", "tid", tid},
		{"after without wait", request{path: "/v1/commands/" + tid + "?after=3"}, 400, "invalid", "after", "wait"},
		{"cancel of an unknown tid", post("/v1/commands/"+tid+"/cancel", ``), 404, "not_found", "tid", tid},
		{"unknown field of a cancel", post("/v1/commands/"+tid+"/cancel", `{"why":"x"}`), 400, "invalid", "why", "unexpected"},
		{"wrong method", request{method: "PUT", path: send}, 405, "invalid", "method", "PUT"},
		{"wrong path", request{path: "/v2/commands"}, 404, "not_found", "path", "nothing"},
		{"path that is not clean", request{path: "//v1/commands"}, 404, "not_found", "path", "nothing"},
		{"path with dots", request{path: "/v1/users/../commands"}, 404, "not_found", "path", "nothing"},
		{"body where there is none", request{path: "/v1/tokens", body: "{}"}, 400, "invalid", "body", "no body"},
		{"no token", request{token: "-", path: "/v1/commands"}, 401, "unauthenticated", "", "Bearer"},
		{"wrong token", request{token: "wlc_0_0", path: "/v1/commands"}, 401, "unauthenticated", "", "not valid"},
		{"wrong token where none is needed", request{token: "nonsense", path: "/v1/health"}, 401, "unauthenticated", "", "not valid"},
		{"wrong scheme", with(request{token: "-", path: "/v1/commands"}, "Authorization", "Basic eDp5"), 401, "unauthenticated", "", "Bearer"},
		{"viewer sends", as(viewer, post(send, `{"name":"a"}`)), 403, "forbidden", "", "operator"},
		{"viewer cancels", as(viewer, post("/v1/commands/"+tid+"/cancel", ``)), 403, "forbidden", "", "operator"},
		{"operator adds a device", as(operator, post("/v1/devices", `{"device":"plant/new"}`)), 403, "forbidden", "", "admin"},
		{"operator makes a token", as(operator, post("/v1/tokens", `{"name":"x","role":"viewer"}`)), 403, "forbidden", "", "admin"},
		{"send into another group", as(operator, post("/v1/devices/mill/valve/commands", `{"name":"a"}`)), 403, "forbidden", "", "group plant"},
		{"list of another group", as(operator, request{path: "/v1/commands?group=mill"}), 403, "forbidden", "", "group plant"},
		{"events of another group", as(operator, request{path: "/v1/events?group=mill"}), 403, "forbidden", "", "group plant"},
		{"metrics without a token", request{token: "-", path: "/metrics"}, 401, "unauthenticated", "", ""},
		{"device twice", post("/v1/devices", `{"device":"plant/valve"}`), 409, "exists", "", ""},
		{"device without a slash", post("/v1/devices", `{"device":"valve"}`), 400, "invalid", "device", "group/device"},
		{"device window", post("/v1/devices", `{"device":"plant/x","window":0}`), 400, "invalid", "window", ""},
		{"device profile", post("/v1/devices", `{"device":"plant/x","profile":"coap"}`), 400, "invalid", "profile", "one of"},
		{"device tag", post("/v1/devices", `{"device":"plant/x","tags":["a b"]}`), 400, "invalid", "tags", "characters"},
		{"empty change", request{method: "PATCH", path: "/v1/devices/plant/valve", body: `{}`}, 400, "invalid", "", "nothing to change"},
		{"change of an unknown device", request{method: "PATCH", path: "/v1/devices/plant/x", body: `{"note":"n"}`}, 404, "not_found", "device", "wilco device add"},
		{"removal of an unknown device", request{method: "DELETE", path: "/v1/devices/plant/x"}, 404, "not_found", "device", ""},
		{"anomalies of an unknown device", request{path: "/v1/devices/plant/x/anomalies"}, 404, "not_found", "device", ""},
		{"token role", post("/v1/tokens", `{"name":"x","role":"root"}`), 400, "invalid", "role", "one of"},
		{"token name", post("/v1/tokens", `{"name":"a\nb","role":"viewer"}`), 400, "invalid", "name", "characters"},
		{"unknown token", request{method: "DELETE", path: "/v1/tokens/x"}, 404, "not_found", "id", "token list"},
		{"event id", request{path: "/v1/events?after=-1"}, 400, "invalid", "after", "number"},
		{"last event id", with(request{path: "/v1/events"}, "Last-Event-ID", "x"), 400, "invalid", "Last-Event-ID", "number"},
		{"event tid", request{path: "/v1/events?tid=1"}, 400, "invalid", "tid", "transaction id"},
		{"bulk no JSON", post("/v1/commands", `[{"device":"plant/valve","name":"a"},{"device"]`), 400, "invalid", "[1]", "expected :"},
		{"bulk no array", post("/v1/commands", `{}`), 400, "invalid", "[0]", "array"},
		{"bulk broken off", post("/v1/commands", `[{"device":"plant/valve","name":"a"}`), 400, "invalid", "[1]", "expected"},
		{"bulk too many", post("/v1/commands", "["+strings.Repeat(`{},`, 1000)+"{}]"), 413, "too_large", "", "1000"},
		{"bulk with one key", with(post("/v1/commands", `[]`), "Idempotency-Key", "k"), 400, "invalid", "Idempotency-Key", "field key"},
		{"bulk by a viewer", as(viewer, post("/v1/commands", `[]`)), 403, "forbidden", "", "operator"},
		{"bulk content type", with(post("/v1/commands", `[]`), "Content-Type", "text/plain"), 415, "invalid", "Content-Type", "x-ndjson"},
	} {
		t.Run(c.name, func(t *testing.T) {
			refused(t, w.do(t, c.q), c.status, c.code, c.field, c.detail)
		})
	}
	t.Run("nothing was made", func(t *testing.T) {
		if n := w.Engine.Stats().Created; n != 0 {
			t.Errorf("%d commands were made by requests that were refused", n)
		}
	})
	t.Run("allow", func(t *testing.T) {
		if got := w.do(t, request{method: "PUT", path: send}).header.Get("Allow"); got != http.MethodPost {
			t.Errorf("Allow %q", got)
		}
	})
}

func (w *world) token(t *testing.T, n fleet.NewToken) string {
	t.Helper()
	_, text, err := w.Fleet.CreateToken(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

package hook

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

func TestRulesAreChecked(t *testing.T) {
	for _, c := range []struct {
		name  string
		edit  func(*Rule)
		field string
	}{
		{"good", func(*Rule) {}, ""},
		{"name", func(r *Rule) { r.Name = "A" }, "name"},
		{"no name", func(r *Rule) { r.Name = "" }, "name"},
		{"slash", func(r *Rule) { r.Name = "a/b" }, "name"},
		{"nothing", func(r *Rule) { r.Webhook = nil }, "webhook"},
		{"two", func(r *Rule) { r.Alarm = &Alarm{} }, "webhook"},
		{"not an end", func(r *Rule) { r.On.States = []command.State{command.Running} }, "on.states"},
		{"timed out", func(r *Rule) { r.On.States = []command.State{command.TimedOut} }, ""},
		{"reason", func(r *Rule) { r.On.Reasons = []command.Reason{"x"} }, "on.reasons"},
		{"type", func(r *Rule) { r.On.Types = []string{"valve.*"} }, ""},
		{"all types", func(r *Rule) { r.On.Types = []string{"*"} }, ""},
		{"star inside", func(r *Rule) { r.On.Types = []string{"a*b"} }, "on.types"},
		{"group", func(r *Rule) { r.On.Groups = []string{"a/b"} }, "on.groups"},
		{"many", func(r *Rule) { r.On.Groups = make([]string, 65) }, "on.groups"},
		{"no URL", func(r *Rule) { r.Webhook.URL = "example.com" }, "webhook.url"},
		{"scheme", func(r *Rule) { r.Webhook.URL = "ftp://example.com" }, "webhook.url"},
		{"file", func(r *Rule) { r.Webhook.URL = "file:///etc/passwd" }, "webhook.url"},
		{"opaque", func(r *Rule) { r.Webhook.URL = "http:example.com" }, "webhook.url"},
		{"no host", func(r *Rule) { r.Webhook.URL = "http://:80/" }, "webhook.url"},
		{"user", func(r *Rule) { r.Webhook.URL = "https://a:b@example.com" }, "webhook.url"},
		{"fragment", func(r *Rule) { r.Webhook.URL = "https://example.com/#x" }, "webhook.url"},
		{"long", func(r *Rule) { r.Webhook.URL += strings.Repeat("x", maxURL) }, "webhook.url"},
		{"command", func(r *Rule) { r.Webhook, r.Command = nil, &FollowUp{Name: "a b"} }, "command.name"},
		{"params", func(r *Rule) {
			r.Webhook, r.Command = nil, &FollowUp{Name: "a", Params: json.RawMessage(`{"x":"${y}"}`)}
		}, "command.params"},
		{"params open", func(r *Rule) { r.Webhook, r.Command = nil, &FollowUp{Name: "a", Params: json.RawMessage(`"${tid"`)} }, "command.params"},
		{"params deep", func(r *Rule) { r.Webhook, r.Command = nil, &FollowUp{Name: "a", Params: json.RawMessage(`"${tid.x}"`)} }, "command.params"},
		{"params good", func(r *Rule) {
			r.Webhook, r.Command = nil, &FollowUp{Name: "a", Params: json.RawMessage(`["${result.a.b}"]`)}
		}, ""},
		{"alarm", func(r *Rule) { r.Webhook, r.Alarm = nil, &Alarm{Text: strings.Repeat("x", 257)} }, "alarm.text"},
	} {
		r := webhook("h", "https://example.com/wilco", On{})
		c.edit(&r)
		err := r.Check()
		if (err != nil) != (c.field != "") || err != nil && (fault.From(err).Field != c.field || fault.CodeOf(err) != fault.Invalid) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Every transition is an end for hooks exactly if the state is new and is one.
func TestWhatIsAnEnd(t *testing.T) {
	tid := uuid.New()
	for _, from := range command.States {
		for _, to := range command.States {
			e := store.Event{Type: store.EventCommand, TID: &tid, From: from, State: to, Device: wire.Address{Group: "g", Device: "d"}}
			if got, want := (&On{}).match(&e), from != to && (to.Final() || to == command.TimedOut); got != want {
				t.Errorf("%s to %s: %t", from, to, got)
			}
			e.Type = store.EventAnomaly
			if (&On{}).match(&e) {
				t.Errorf("an anomaly is no end")
			}
		}
	}
}

func TestPublic(t *testing.T) {
	for address, want := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "2606:4700::1111": true, "::ffff:8.8.8.8": true, "100.63.0.1": true, "172.32.0.1": true,
		"127.0.0.1": false, "127.9.9.9": false, "10.0.0.1": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false,
		"100.64.0.1": false, "0.0.0.0": false, "0.1.2.3": false, "255.255.255.255": false, "224.0.0.1": false, "240.0.0.1": false,
		"198.18.0.1": false, "192.0.0.8": false, "::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false, "fc00::1": false, "fd00::1": false,
		"ff02::1": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::127.0.0.1": false, "64:ff9b::7f00:1": false,
		"2002:7f00:1::": false, "2001::1": false, "2001:db8::1": false, "fec0::1": false, "100::1": false,
	} {
		if got := public(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is public: %t", address, got)
		}
	}
	for _, bad := range []string{"", "x", "127.0.0.1", "example.com:80", "127.0.0.1:80", "[::1]:80", "[fe80::1%lo]:80"} {
		if guard("tcp", bad, nil) == nil {
			t.Errorf("%q was let through", bad)
		}
	}
	if err := guard("tcp", "8.8.8.8:443", nil); err != nil {
		t.Error(err)
	}
}

func TestDepth(t *testing.T) {
	for by, want := range map[string]int{"": 0, "ops": 0, "hook/a/1": 1, "hook/a/5": 5, "hook/a": 0, "hook/a/x": 0, "hook:a:3": 0, "plant/valve": 0} {
		if got := depthOf(by); got != want {
			t.Errorf("%q: %d", by, got)
		}
	}
	if depthOf(byOf("a-b", 3)) != 3 {
		t.Error("a name of its own is not read")
	}
}

// Whatever stands in a template, it is refused when it is made or it is filled
// without a placeholder left open, and what comes out is JSON.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{`{"a":"${tid}"}`, `"x${params.a}${params}y"`, `"${"`, `["${result.}"]`, `1`, `"$${}"`, `{"${tid}":"${device}"}`} {
		f.Add(s)
	}
	values := map[string]any{"device": "d", "group": "g", "tid": "t", "name": "n", "state": "s", "reason": "r", "detail": "",
		"params": map[string]any{"a": json.Number("1"), "b": nil}, "result": []any{"x"}}
	f.Fuzz(func(t *testing.T, s string) {
		if checkTemplate(json.RawMessage(s)) != nil {
			return
		}
		out, err := expand(json.RawMessage(s), values)
		if err == nil && len(s) > 0 && !json.Valid(out) {
			t.Errorf("%q became %q", s, out)
		}
	})
}

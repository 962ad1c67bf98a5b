package catalog

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
)

const valve = `
name: valve.set
description: Moves the valve.
params:
  type: object
  properties:
    position: {type: number, minimum: 0, maximum: 100}
    speed: {enum: [slow, fast]}
    at: {type: string, format: date-time}
  required: [position]
  additionalProperties: false
result:
  type: object
  required: [position]
policy: {ackBy: 5s, finishBy: 1m, heartbeat: 10s, backoff: linear}
window: 2
priority: 3
onReboot: expected
effects:
  - {path: valve.position, param: position}
approval:
  quorum: 2
  expires: 1h
  when: {path: position, gt: 90}
  tags: [critical]
  targets: 10
if: {path: door, eq: closed, maxAge: 10s}
unmet: hold
atMost: {count: 3, of: "tag:north"}
exclusive: water
`

func one(t testing.TB, text string) Type {
	t.Helper()
	list, err := Parse([]byte(text))
	if err != nil || len(list) != 1 {
		t.Fatalf("%d types, %v", len(list), err)
	}
	return list[0]
}

func TestParse(t *testing.T) {
	v := one(t, valve)
	if v.Name != "valve.set" || v.Window != 2 || v.Priority != 3 || v.OnReboot != RebootExpected || v.Effects[0] != (command.PathEffect{Path: "valve.position", Param: "position"}) ||
		v.Approval.Quorum != 2 || v.Approval.Expires.D() != time.Hour || v.If.Path != "door" || v.Unmet != command.Hold || v.AtMost.Of != "tag:north" || v.Exclusive != "water" {
		t.Errorf("%+v", v)
	}
	p := v.PolicyOver(command.Defaults)
	if p.AckBy.D() != 5*time.Second || p.Backoff != command.Linear || p.DeliverBy != command.Defaults.DeliverBy {
		t.Errorf("policy %+v", p)
	}
	// The stored form is the form that is read.
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if again := one(t, string(raw)); again.content() != v.content() {
		t.Errorf("%s\ncomes back as %+v", raw, again)
	}
	list, err := Parse([]byte("name: a\n---\nname: b\nparams: {type: integer, multipleOf: 12345678901234567890}\n---\n{\"name\": \"c\"}\n"))
	if err != nil || len(list) != 3 || list[2].Name != "c" || !strings.Contains(string(list[1].Params), "12345678901234567890") {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ text, field, says string }{
		{"", "", "not a command type"},
		{"- a", "", "line 1"},
		{"name: a\nnmae: b", "nmae", "line 2: is not known"},
		{"name: a\nname: b", "", "line 2: name is said twice"},
		{"Name: a", "Name", "is not known"},
		{"name: a\neffects: [{Path: a}]", "effects.0.Path", "is not known"},
		{"name: a\npolicy:\n  ackby: 5s", "policy.ackby", "line 3: is not known"},
		{"name: a\npolicy: {ackBy: soon}", "policy", "not a duration"},
		{"name: a\npolicy: {maxAttempts: 0}", "policy.maxAttempts", "not between 1 and 100"},
		{"name: a\npolicy: 5s", "policy", "cannot unmarshal"},
		{"name: a\nwindow: many", "window", "line 2: must be a whole number"},
		{"name: a\neffects: x", "effects", "line 2: must be a list"},
		{"name: a\neffects: [{path: a..b}]", "effects.0.path", "empty name"},
		{"name: a\neffects: [{path: a, param: .}]", "effects.0.param", "empty name"},
		{"name: a\neffects: [{path: a}, {path: a}]", "effects.1.path", "there twice"},
		{"name: a\nif: {path: door}", "if", "has no test"},
		{"name: a\nif: {path: door, equals: 1}", "if.equals", "is not known"},
		{"name: a b", "name", "is not a name"},
		{"description: x", "name", "is missing"},
		{"name: state.x", "name", "the server's own"},
		{"name: a\nversion: 2", "version", "given by the server"},
		{"name: a\npriority: 10", "priority", "between -9 and 9"},
		{"name: a\nwindow: -1", "window", "between 0 and"},
		{"name: a\nonReboot: maybe", "onReboot", "neither fails nor expected"},
		{"name: a\nunmet: wait", "unmet", "neither refuse nor hold"},
		{"name: a\nexclusive: '*'", "exclusive", "is not a name"},
		{"name: a\natMost: {count: 0}", "atMost.count", "from 1"},
		{"name: a\natMost: {count: 1, of: site}", "atMost.of", "none of group, all, tag:NAME"},
		{"name: a\napproval: {quorum: 11}", "approval.quorum", "between 1 and 10"},
		{"name: a\napproval: {targets: -1}", "approval.targets", "not a number of devices"},
		{"name: &x a\ndescription: *x", "", "aliases are not followed"},
		{"name: a\nparams: " + strings.Repeat("[", 100) + strings.Repeat("]", 100), "", "nested too deep"},
		{"name: a\ndescription: " + strings.Repeat("x", MaxText+1), "description", "longer than"},
		{"name: a\n#" + strings.Repeat("x", MaxSize), "", "at most"},
	} {
		_, err := Parse([]byte(test.text))
		var f *fault.Error
		if !errors.As(err, &f) || f.Code != fault.Invalid || f.Field != test.field || !strings.Contains(f.Message, test.says) {
			t.Errorf("%.60q: %+v", test.text, err)
		}
	}
}

func TestSchemasAreChecked(t *testing.T) {
	c, err := Compile(one(t, valve))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ params, field, says string }{
		{`{"position":40}`, "", ""},
		{`{"position":40.5,"speed":"slow","at":"2026-01-02T03:04:05Z"}`, "", ""},
		{``, "params", "position"},
		{`{"position":101}`, "params.position", "maximum"},
		{`{"position":"40"}`, "params.position", "number"},
		{`{"position":40,"speed":"quick"}`, "params.speed", "slow"},
		{`{"position":40,"sped":"slow"}`, "params", "sped"},
		{`{"position":40,"at":"soon"}`, "params.at", "date-time"},
		{`[]`, "params", "object"},
		{`{"position":`, "params", "not JSON"},
	} {
		err := c.CheckParams("params", json.RawMessage(test.params))
		var f *fault.Error
		switch {
		case test.says == "" && err == nil:
		case !errors.As(err, &f) || f.Field != test.field || !strings.Contains(f.Message, test.says):
			t.Errorf("%s: %v", test.params, err)
		}
	}
	if err := c.CheckResult("result", nil); err == nil {
		t.Error("no result is one with a position")
	}
	if err := c.CheckResult("result", json.RawMessage(`{"position":1}`)); err != nil {
		t.Error(err)
	}
	free, err := Compile(one(t, "name: free"))
	if err != nil || free.CheckParams("params", json.RawMessage(`[1]`)) != nil || free.CheckResult("result", nil) != nil {
		t.Errorf("a type without schemas refuses: %v", err)
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, test := range []struct{ text, field, says string }{
		{"name: a\nparams: {type: objekt}", "params.type", "not JSON Schema"},
		{"name: a\nresult: {minimum: x}", "result.minimum", "not JSON Schema"},
		{"name: a\nparams: {$ref: 'https://example.com/x.json'}", "params", "outside of itself"},
		{"name: a\nparams: {$ref: 'file:///etc/passwd'}", "params", "outside of itself"},
		{"name: a\nparams: {$ref: '#/nowhere'}", "params", "not a JSON Schema"},
		{"name: a\nparams: {pattern: '('}", "params.pattern", "not JSON Schema"},
		{"name: a\nparams: 5", "params", "not JSON Schema"},
	} {
		_, err := Compile(one(t, test.text))
		var f *fault.Error
		if !errors.As(err, &f) || f.Code != fault.Invalid || f.Field != test.field || !strings.Contains(f.Message, test.says) {
			t.Errorf("%.60q: %v", test.text, err)
		}
	}
	if _, err := Compile(one(t, "name: a\nparams: {$defs: {x: {type: string}}, properties: {y: {$ref: '#/$defs/x'}}}")); err != nil {
		t.Errorf("a reference within: %v", err)
	}
}

func TestNext(t *testing.T) {
	v := one(t, valve)
	first, fresh := Next(nil, v)
	if !fresh || first.Version != 1 {
		t.Errorf("the first is %d, %v", first.Version, fresh)
	}
	first.By, first.Created = "ada", time.Now()
	same := one(t, strings.Replace(valve, "{type: number, minimum: 0, maximum: 100}", "{maximum: 100, minimum: 0, type: number}", 1))
	if again, fresh := Next(&first, same); fresh || again.Version != 1 || again.By != "ada" {
		t.Errorf("the same content is version %d", again.Version)
	}
	other := one(t, strings.Replace(valve, "maximum: 100", "maximum: 90", 1))
	if next, fresh := Next(&first, other); !fresh || next.Version != 2 {
		t.Errorf("another content is version %d", next.Version)
	}
}

func TestLint(t *testing.T) {
	v := one(t, valve)
	if list := Lint(&v, command.Defaults); len(list) != 0 {
		t.Errorf("%v", list)
	}
	for field, text := range map[string]string{
		"description":                 "name: a",
		"params":                      "name: a",
		"params.additionalProperties": "name: a\nparams: {type: object}",
		"effects.0.param":             "name: a\nparams: {type: object}\neffects: [{path: x, param: y.z}]",
		"effects.1.path":              "name: a\neffects: [{path: x}, {path: x.y}]",
		"effects.0.path":              "name: a\neffects: [{path: x.y.z}, {path: x}]",
		"policy.heartbeat":            "name: a\npolicy: {heartbeat: 2m, finishBy: 1m}",
		"onReboot":                    "name: a\nonReboot: expected",
		"policy.ackBy":                "name: a\npolicy: {ackBy: 48h}",
		"policy.supersede":            "name: a\napproval: {}\npolicy: {supersede: true}",
		"approval.expires":            "name: a\napproval: {expires: 48h}",
		"unmet":                       "name: a\nunmet: hold",
		"if":                          "name: a\nif: {path: door, eq: closed}",
	} {
		v := one(t, text)
		found := false
		for _, r := range Lint(&v, command.Defaults) {
			found = found || r.Field == field
		}
		if !found {
			t.Errorf("nothing about %s of %q: %v", field, text, Lint(&v, command.Defaults))
		}
	}
}

// FuzzParse: no panic; what is accepted is read again from its stored form as the
// same.
func FuzzParse(f *testing.F) {
	f.Add([]byte(valve))
	f.Add([]byte("name: a\nparams: {x: .inf, y: 0x10, z: 2001-01-01, w: ~}"))
	f.Add([]byte("name: a\n<<: {b: c}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := Parse(b)
		if err != nil {
			if fault.CodeOf(err) != fault.Invalid {
				t.Fatal(err)
			}
			return
		}
		for _, v := range list {
			raw, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			if len(raw) > MaxSize {
				continue
			}
			again, err := Parse(raw)
			if err != nil || len(again) != 1 || again[0].content() != v.content() {
				t.Fatalf("%s comes back as %+v, %v", raw, again, err)
			}
			_, _ = Compile(v)
		}
	})
}

func BenchmarkCheckParams(b *testing.B) {
	c, err := Compile(one(b, valve))
	if err != nil {
		b.Fatal(err)
	}
	raw := json.RawMessage(`{"position":40.5,"speed":"slow"}`)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.CheckParams("params", raw); err != nil {
			b.Fatal(err)
		}
	}
}

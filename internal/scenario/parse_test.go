package scenario

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
)

const least = `name: n
duration: 10s
devices: [{group: g, count: 1}]
load: [{names: [set], rate: 1}]
`

func TestWhatIsWrongIsNamedWithItsPlace(t *testing.T) {
	for _, test := range []struct{ text, field, says string }{
		{"", "", "f.yaml is empty"},
		{"name: [", "", "neither YAML nor JSON"},
		{least + "---\nname: m\n", "", "more than one document"},
		{"- a", "", "f.yaml:1:1: must be a mapping"},
		{least + "sed: 3\n", "sed", "f.yaml:5:1: is not known; one of name, seed, duration"},
		{least + "name: again\n", "name", "f.yaml:5:1: is said twice"},
		{least + "seed: -1\n", "seed", "f.yaml:5:7: must be a whole number that is not negative"},
		{least + "seed: x\n", "seed", "must be a whole number"},
		{least + "settle: soon\n", "settle", `"soon" is not a duration like 30s`},
		{least + "network: {up: {delay: 2s..1s}}\n", "network.up.delay", `f.yaml:5:23: "2s..1s" is no duration like 2s, and no range`},
		{least + "network: {up: {lose: 2}}\n", "network.up.lose", "f.yaml:5:22: is a share"},
		{least + "network: {cut: no}\n", "network.cut", "must be a number"},
		{least + "phases: [{from: 1s, to: 12s}]\n", "phases.0", "both within the duration"},
		{least + "phases: [{from: 1s, to: 5s}, {from: 4s, to: 6s}]\n", "phases.1", "before the phase above"},
		{least + "server: {kills: [10s]}\n", "server.kills.0", "within the duration"},
		{least + "expect: [all is well]\n", "expect.0", "is no figure of a report; one of cancelled"},
		{least + "expect: [lost]\n", "expect.0", "three words"},
		{least + "expect: [lost about 3]\n", "expect.0", "none of ="},
		{least + "expect: [lost = few]\n", "expect.0", "not a number"},
		{strings.Replace(least, "count: 1", "group: g", 1), "devices.0.group", "is said twice"},
		{strings.Replace(least, "count: 1", "count: 0", 1), "devices.0.count", "is missing"},
		{strings.Replace(least, "count: 1", "count: 1, profile: atlas", 1), "devices.0.group", "must be default"},
		{strings.Replace(least, "count: 1", "count: 1, fail: 0.6, reject: 0.6", 1), "devices.0.reject", "more than 1 together"},
		{strings.Replace(least, "count: 1}", "count: 1}, {group: g, count: 1}", 1), "devices.1.group", "the group of other devices"},
		{strings.Replace(least, "duration: 10s", "", 1), "duration", "f.yaml:1:1: is missing"},
		{strings.Replace(least, "rate: 1", "rate: 1, groups: [h]", 1), "load.0.groups.0", "of no devices"},
		{strings.Replace(least, "rate: 1", "rate: 1, policy: {maxAttempts: 1000}", 1), "load.0.policy.maxAttempts", "between 1 and 100"},
		{strings.Replace(least, "rate: 1", "rate: 1, policy: {ackby: 1s}", 1), "load.0.policy.ackby", "is not known"},
		{strings.Replace(least, "rate: 1", "rate: 1, params: &a [*a]", 1), "load.0.params.0", "aliases are not followed"},
	} {
		_, err := Parse("f.yaml", []byte(test.text))
		var f *fault.Error
		if !errors.As(err, &f) || f.Code != fault.Invalid || f.Field != test.field || !strings.Contains(f.Message, test.says) {
			t.Errorf("%q\n  gives %v\n  want %s: ... %s", test.text, err, test.field, test.says)
		}
	}
}

func TestJSONAndYAMLAreOne(t *testing.T) {
	files, err := filepath.Glob("../../examples/scenarios/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(file, text)
		if err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse("it.json", again)
		if err != nil {
			t.Fatalf("%s: %v\n%s", file, err, again)
		}
		if b, _ := json.Marshal(got); string(b) != string(again) {
			t.Errorf("%s\n%s\nbecame\n%s", file, again, b)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(least))
	f.Add([]byte(`{"name":"n","load":[{"params":{"a":["$n",1e9,null]}}],"network":{"up":{"delay":"1s..2s"}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse("f", text)
		if err != nil {
			return
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse("f", b); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
	})
}

func read(t *testing.T, text string) *Scenario {
	t.Helper()
	s, err := Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFastIsTheSameScenarioInATenthOfTheTime(t *testing.T) {
	s := read(t, least+"network: {up: {delay: 10ms..1s}}\nphases: [{from: 2s, to: 4s}]\nserver: {kills: [5s]}\n")
	f := s.Fast()
	if f.Duration.D() != time.Second || f.Phases[0].From.D() != 200*time.Millisecond || f.Network.Up.Delay.String() != "1ms..100ms" ||
		f.Server.Kills[0].D() != 500*time.Millisecond || f.Load[0].Rate != 10 || f.Load[0].Policy.FinishBy != s.Load[0].Policy.FinishBy/10 {
		t.Errorf("%+v", f)
	}
	if s.Duration.D() != 10*time.Second || s.Server.Kills[0].D() != 5*time.Second || s.Load[0].Rate != 1 {
		t.Errorf("the original is another now: %+v", s)
	}
}

func TestASeedHasOnePlan(t *testing.T) {
	s := read(t, strings.Replace(least, "rate: 1", "rate: 9, cancel: 0.5, params: {a: $random, b: $n, c: [$device, x]}", 1))
	one, err := s.plan(1)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := s.plan(1)
	other, _ := s.plan(2)
	if !reflect.DeepEqual(one, again) {
		t.Error("two plans of one seed differ")
	}
	if reflect.DeepEqual(one, other) {
		t.Error("two seeds have one plan")
	}
	var params struct {
		A float64
		B int
		C []string
	}
	o := one.orders[1]
	if err := json.Unmarshal(o.params, &params); err != nil || params.A <= 0 || params.A >= 1 || params.B != 2 || params.C[0] != "g/sim-0001" || params.C[1] != "x" {
		t.Errorf("%s: %v", o.params, err)
	}
	cancels := 0
	for _, o := range one.orders {
		if o.cancel > 0 {
			cancels++
		}
	}
	if n := len(one.orders); n < 60 || n > 120 || cancels < n/4 || cancels > 3*n/4 {
		t.Errorf("%d orders, %d cancelled, of about 90 and half", n, cancels)
	}
}

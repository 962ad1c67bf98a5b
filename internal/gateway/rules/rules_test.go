package rules

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

var update = flag.Bool("update", false, "write golden files anew")

var (
	noon  = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	valve = wire.Address{Group: "plant", Device: "valve"}
)

// shows is a reported state that is as old as the test says.
type shows map[string]any

func (s shows) Value(path string) (any, time.Duration, bool) {
	v, ok := s[path]
	return v, time.Second, ok
}

func condition(t testing.TB, s string) *state.Condition {
	c := new(state.Condition)
	if err := json.Unmarshal([]byte(s), c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestMatrix: every kind of rule in every situation.
func TestMatrix(t *testing.T) {
	open := condition(t, `{"path":"position","gt":0}`)
	kinds := []struct {
		name string
		rule Rule
	}{
		{"down", Rule{Down: 10 * time.Minute}},
		{"if", Rule{Of: valve, If: open}},
		{"down and if", Rule{Down: 10 * time.Minute, Of: valve, If: open}},
		{"down, again", Rule{Down: 10 * time.Minute, Again: time.Hour}},
	}
	reach := []struct {
		name string
		down time.Time
	}{{"up", time.Time{}}, {"down 9m59s", noon.Add(-599 * time.Second)}, {"down 10m", noon.Add(-10 * time.Minute)}}
	reports := []struct {
		name string
		says shows
	}{{"nothing", shows{}}, {"closed", shows{"position": json.Number("0")}}, {"open", shows{"position": json.Number("7")}}}
	held := []struct {
		name string
		hold *Hold
	}{{"armed", nil}, {"due", &Hold{Since: noon.Add(-time.Minute)}},
		{"done 59m ago", &Hold{Since: noon.Add(-2 * time.Hour), Times: 1, Last: noon.Add(-59 * time.Minute)}},
		{"done 60m ago", &Hold{Since: noon.Add(-2 * time.Hour), Times: 1, Last: noon.Add(-time.Hour)}}}
	var out strings.Builder
	for _, k := range kinds {
		rule := k.rule
		rule.Name = "r"
		for _, up := range reach {
			for _, says := range reports {
				if k.rule.If == nil && says.name != "nothing" {
					continue
				}
				for _, h := range held {
					s := State{Down: up.down}
					if h.hold != nil {
						s.Holds = map[string]Hold{"r": *h.hold}
					}
					before := fmt.Sprint(s)
					next, changed, due := s.Step([]Rule{rule}, func(wire.Address) state.Reported { return says.says }, noon)
					if fmt.Sprint(s) != before {
						t.Fatalf("Step has changed its argument: %v, was %s", s, before)
					}
					is := "armed"
					if _, ok := next.Holds["r"]; ok {
						is = "holds"
					}
					if changed {
						is += ", new"
					}
					for _, f := range due {
						is += ", due " + f.Key
					}
					fmt.Fprintf(&out, "%-12s %-11s %-8s %-13s > %s\n", k.name, up.name, says.name, h.name, is)
				}
			}
		}
	}
	golden(t, "testdata/matrix.golden", out.String())
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(got, "\n") {
		if w := strings.Split(string(want), "\n"); i >= len(w) || w[i] != line {
			t.Fatalf("%s line %d\ngot  %q\n(go test -update writes it anew)", file, i+1, line)
		}
	}
}

func TestReachCountsFromTheFirstWord(t *testing.T) {
	var s State
	s, changed := s.Reach(true, noon)
	if changed {
		t.Error("it was in reach already")
	}
	s, changed = s.Reach(false, noon)
	if again, more := s.Reach(false, noon.Add(time.Hour)); !changed || more || !again.Down.Equal(noon) {
		t.Errorf("%v %v, %v", changed, more, again)
	}
	if s, changed = s.Reach(true, noon.Add(time.Hour)); !changed || !s.Down.IsZero() {
		t.Errorf("%v %v", changed, s)
	}
}

// A clock that is set back while the gateway is off does not put a rule off until it
// has caught up.
func TestAClockThatWasSetBackStopsNoRule(t *testing.T) {
	list := []Rule{{Name: "r", Down: 10 * time.Minute, Again: time.Hour}}
	due := func(s State, now time.Time) (State, bool) {
		next, _, due := s.Step(list, nil, now)
		return next, len(due) > 0
	}
	s, is := due(State{Down: noon.AddDate(1, 0, 0)}, noon)
	if is {
		t.Error("due at once")
	}
	if s, is = due(s, noon.Add(10*time.Minute)); !is {
		t.Fatalf("not due after its time: %+v", s)
	}
	h := s.Holds["r"]
	h.Times, h.Last = 1, noon.AddDate(1, 0, 0)
	s.Holds["r"] = h
	s, _ = due(s, noon.Add(10*time.Minute))
	if s, is = due(s, noon.Add(70*time.Minute)); !is {
		t.Errorf("not due again after its time: %+v", s)
	}
}

// Setting the clock while the gateway runs counts for nothing.
func TestTimesKeepTheirMonotonicReading(t *testing.T) {
	now := time.Now()
	s, _ := State{}.Reach(false, now)
	if s, _, _ = s.Step([]Rule{{Name: "r", Down: 1}}, nil, now.Add(1)); s.Down != now {
		t.Errorf("out of reach since %v, was %v", s.Down, now)
	}
	s = s.Done(Firing{Rule: &Rule{Name: "r"}}, now)
	if s.Holds["r"].Last != now {
		t.Errorf("done at %v, was %v", s.Holds["r"].Last, now)
	}
}

// TestEachHoldingMakesOneCommand: whatever a kill breaks off, between any two steps
// of the caller, commands with one key are one command, and each outage that lasts
// makes exactly one.
func TestEachHoldingMakesOneCommand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rule := []Rule{{Name: "r", Down: 10 * time.Second, Do: Action{Device: valve, Rollback: true}}}
		var disk, memory State
		now, made := noon, map[string]bool{}
		outages, long := 0, false
		killed := func() bool {
			if !rapid.Bool().Draw(t, "kill") {
				return false
			}
			memory = disk
			return true
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 8).Draw(t, "seconds")) * time.Second)
			if rapid.IntRange(0, 5).Draw(t, "event") == 0 {
				memory, _ = memory.Reach(!memory.Down.IsZero(), now)
				disk, long = memory, false
			}
			next, _, due := memory.Step(rule, func(wire.Address) state.Reported { return shows{} }, now)
			if !memory.Down.IsZero() && now.Sub(memory.Down) >= 10*time.Second && !long {
				long = true
				outages++
			}
			if killed() {
				continue
			}
			disk, memory = next, next
			for _, f := range due {
				if killed() {
					break
				}
				made[f.Key] = true
				if killed() {
					break
				}
				memory = memory.Done(f, now)
				disk = memory
			}
		}
		if len(made) > outages {
			t.Fatalf("%d commands for %d outages: %v", len(made), outages, made)
		}
		for range 2 { // nobody kills any more
			next, _, due := memory.Step(rule, func(wire.Address) state.Reported { return shows{} }, now)
			for _, f := range due {
				made[f.Key] = true
				next = next.Done(f, now)
			}
			memory = next
		}
		if long && len(made) == 0 {
			t.Fatal("an outage made no command")
		}
	})
}

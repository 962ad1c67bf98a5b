package plan

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
)

var update = flag.Bool("update", false, "write the golden files anew")

// situations are roll-outs to four devices in waves of one and three, ten seconds
// after they were made; every state is among them.
func situations(t *testing.T) (names []string, all []Rollout) {
	t.Helper()
	spec := Spec{Waves: []Wave{{Count: 1, Success: 1, Soak: command.Duration(time.Minute)}}, Concurrency: 2,
		Abort: &Threshold{Share: 0.5, Minimum: 2}, Deadline: t0.Add(time.Hour)}
	made := Rollout{ID: "x", By: "ada", Spec: spec, Digest: "d"}
	from := func(name string, r Rollout, events ...Event) Rollout {
		for _, ev := range events {
			var err error
			if r, _, err = Step(r, ev, t0); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		names, all = append(names, name), append(all, r)
		return r
	}
	became := func(target int, c Cell) Event { return Event{Kind: Became, To: []Change{{target, c}}} }
	later := made
	later.Spec.StartAt = t0.Add(time.Minute)
	held := func(quorum int) Rollout { return New(made, 4, &command.Approval{Quorum: quorum}, t0) }
	from("held", held(1))
	from("held, two must agree", held(2))
	from("scheduled", New(later, 4, nil, t0))
	from("paused before it began", New(later, 4, nil, t0), Event{Kind: Pause, By: "ada"})
	first := from("first wave, starting", New(made, 4, nil, t0), Event{Kind: Tick})
	open := from("first wave, open", first, became(0, Open))
	from("gate missed", open, became(0, Failed))
	soak := from("soaking", open, became(0, Executed))
	second, _, _ := Step(soak, Event{Kind: Tick}, t0.Add(time.Minute))
	rest := from("second wave, two open", second, Event{Kind: Became, To: []Change{{1, Open}, {2, Open}}})
	from("paused", rest, Event{Kind: Pause, By: "ada"})
	from("aborting", rest, Event{Kind: Abort, By: "ada"})
	from("last one open", rest, Event{Kind: Became, To: []Change{{1, Executed}, {2, Executed}, {3, Open}}}, Event{Kind: Became, To: []Change{{3, Open}}})
	from("finished", rest, Event{Kind: Became, To: []Change{{1, Executed}, {2, Executed}}}, became(3, Executed))
	from("aborted", rest, Event{Kind: Abort, By: "ada"}, Event{Kind: Became, To: []Change{{1, Executed}, {2, Cancelled}}})
	from("denied", held(1), Event{Kind: Deny, By: "bob"})
	return names, all
}

// TestMatrix gives every situation every event and holds what comes of it against a
// golden table. It also looks that no step changes its argument.
func TestMatrix(t *testing.T) {
	one := func(c Cell) Event {
		return Event{Kind: Became, To: []Change{{0, c}, {1, c}, {2, c}, {3, c}}}
	}
	events := []struct {
		name string
		ev   Event
	}{
		{"tick", Event{Kind: Tick}}, {"restart", Event{Kind: Restarted}}, {"all open", one(Open)}, {"all executed", one(Executed)},
		{"all failed", one(Failed)}, {"all timed out", one(TimedOut)}, {"all skipped", one(Skipped)}, {"two more found", Event{Kind: Found, Count: 2}},
		{"pause", Event{Kind: Pause, By: "bob"}}, {"resume", Event{Kind: Resume, By: "bob"}}, {"abort", Event{Kind: Abort, By: "bob", Text: "why"}},
		{"approve", Event{Kind: Approve, By: "bob", Digest: "d"}}, {"approve by the requester", Event{Kind: Approve, By: "ada", Digest: "d"}},
		{"approve of other content", Event{Kind: Approve, By: "bob", Digest: "e"}}, {"deny", Event{Kind: Deny, By: "bob"}},
		{"break glass", Event{Kind: BreakGlass, By: "bob", Text: "fire"}}, {"break glass without a reason", Event{Kind: BreakGlass, By: "bob"}}, {"settled", Event{Kind: Settled}}, {"orphaned", Event{Kind: Orphaned, Text: "ada is disabled"}},
	}
	names, all := situations(t)
	seen := map[State]bool{}
	var out bytes.Buffer
	fmt.Fprintln(&out, "Every situation with every event, and with the time of a minute and of an hour. Times are seconds.")
	for i, r := range all {
		seen[r.State] = true
		fmt.Fprintf(&out, "\n%s: %s\n", names[i], said(&r))
		for _, e := range events {
			before := r
			before.Cells = NewCells(r.Total)
			for k := range r.Cells {
				*before.Cells[k] = *r.Cells[k]
			}
			before.Waves = append([]WaveState(nil), r.Waves...)
			next, actions, err := Step(r, e.ev, t0.Add(10*time.Second))
			if !reflect.DeepEqual(r, before) {
				t.Errorf("%s, %s: the step has changed its argument", names[i], e.name)
			}
			if err != nil {
				fmt.Fprintf(&out, "  %-30s %v\n", e.name, err)
				continue
			}
			fmt.Fprintf(&out, "  %-30s %s%s\n", e.name, said(&next), did(actions))
		}
		for _, after := range []time.Duration{time.Minute, time.Hour} {
			next, actions, err := Step(r, Event{Kind: Tick}, t0.Add(after))
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(&out, "  %-30s %s%s\n", after, said(&next), did(actions))
		}
	}
	for _, s := range States {
		if !seen[s] {
			t.Errorf("no situation is %s", s)
		}
	}
	const file = "testdata/matrix.golden"
	if *update {
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("the matrix has changed; if that is meant, run the test with -update\n%s", out.Bytes())
	}
}

func said(r *Rollout) string {
	s := fmt.Sprintf("%s (%s)", r.State, r.Reason)
	if r.Hold != NoHold {
		s += fmt.Sprintf(", waits for %s", r.Hold)
	}
	s += ";"
	for c, n := range r.Counts() {
		if n > 0 {
			s += fmt.Sprintf(" %d %s", n, Cell(c))
		}
	}
	if r.Wake.IsZero() {
		return s + "; no wake"
	}
	return s + fmt.Sprintf("; wake %g", r.Wake.Sub(t0).Seconds())
}

func did(actions []Action) (s string) {
	for _, a := range actions {
		switch a.Act {
		case Start, Find:
			s += fmt.Sprintf(" -> %s %d-%d", a.Act, a.From, a.To-1)
		default:
			s += " -> " + string(a.Act)
		}
	}
	return s
}

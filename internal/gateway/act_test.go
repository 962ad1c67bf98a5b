package gateway

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/gateway/config"
	"github.com/wilco-iot/wilco/internal/gateway/ledger"
	"github.com/wilco-iot/wilco/internal/gateway/rules"
)

// A kill between the command of a rule and the note that it was made: the rule does not
// look for something else to take back, and writes nothing more.
func TestARuleThatHasActedDoesNotActAgain(t *testing.T) {
	f := rules.Firing{Rule: &rules.Rule{Name: "close", Do: rules.Action{Device: valve, Rollback: true}}, Key: "rule/close/1/1"}
	older, undone, made := executed("bo", tidAt(noon), noon), executed("bo", tidAt(noon.Add(1e9)), noon.Add(1e9)), executed("rule:close", tidAt(noon.Add(2e9)), noon.Add(2e9))
	undone.UndoneBy, made.Undoes, made.Key = &made.TID, &undone.TID, f.Key
	g := stored(t, older, undone, made)
	dir := filepath.Join(t.TempDir(), "ledger")
	var err error
	if g.ledger, _, err = ledger.Open(dir, 1<<20); err != nil {
		t.Fatal(err)
	}
	defer g.ledger.Close()
	g.log = slog.New(slog.DiscardHandler)
	if err := g.fire(f, noon, false); err != nil {
		t.Error(err)
	}
	if r, err := ledger.Verify(dir); err != nil || r.Entries > 0 {
		t.Errorf("%d entries: %v", r.Entries, err)
	}
}

// An outage that was under way when the gateway stopped is over when the server above
// answers at the start: it makes no rule due.
func TestAnOutageThatIsOverMakesNoRuleDue(t *testing.T) {
	g := stored(t)
	g.cfg = &config.Config{Rules: []rules.Rule{{Name: "close", Down: time.Minute, Do: rules.Action{Device: valve, Command: "close"}}}}
	g.outage.state = rules.State{Down: noon}
	g.inReach.Store(true)
	if err := g.stepRules(map[string]trying{}); err != nil { // to act takes an engine, which is not there
		t.Fatal(err)
	}
	if s := g.outage.state; !s.Down.IsZero() || len(s.Holds) > 0 || g.outage.version != 1 {
		t.Errorf("%+v, version %d", s, g.outage.version)
	}
}

// A refusal is asked again ever more seldom; a full disk with each look.
func TestHowSoonARuleIsTriedAgain(t *testing.T) {
	var try trying
	for i, want := range []time.Duration{500e6, 1e9, 2e9, 4e9, 8e9, 16e9, 32e9, time.Minute, time.Minute} {
		if try = try.after(noon, fmt.Errorf("valve: %w", fault.New(fault.Conflict, "no"))); try.next.Sub(noon) != want || !try.written {
			t.Errorf("refused %d times: in %s, written %v; want %s", i+1, try.next.Sub(noon), try.written, want)
		}
	}
	for _, err := range []error{&ledgerError{fmt.Errorf("full")}, fault.New(fault.Unavailable, "full")} {
		if try := (trying{}).after(noon, err); !try.next.IsZero() {
			t.Errorf("%v: not before %s", err, try.next)
		}
	}
}

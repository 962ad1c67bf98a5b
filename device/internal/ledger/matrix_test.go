package ledger

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/wire"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// traits of the commands of these tests are in their names.
func traits(cmd string) Traits {
	return Traits{Known: cmd != "unknown", Cancellable: cmd != "stubborn", Resumable: strings.HasPrefix(cmd, "resumable")}
}

var rules = Rules{Ordered: true, Parallel: 1, Queue: 2, KeepCount: 3, KeepFor: time.Hour}

// situations are what a tid "t" may have come to; the floor is epoch 5, seq 7.
var situations = []struct {
	name  string
	build func(*Ledger)
}{
	{"unknown", func(l *Ledger) {}},
	{"waiting", func(l *Ledger) { take(l, "other", "plain", 8); start(l); take(l, "t", "plain", 9) }},
	{"running", func(l *Ledger) { take(l, "t", "plain", 8); start(l) }},
	{"running stubborn", func(l *Ledger) { take(l, "t", "stubborn", 8); start(l) }},
	{"cancelling", func(l *Ledger) {
		take(l, "t", "plain", 8)
		start(l)
		l.Command(new(Batch), Arrival{Command: wire.Command{TID: "t", Status: wire.Cancel}}, noon)
	}},
	{"executed", func(l *Ledger) {
		take(l, "t", "plain", 8)
		start(l)
		l.End(new(Batch), "t", Final{Status: wire.Success}, noon)
	}},
	{"refused", func(l *Ledger) { take(l, "t", "unknown", 8) }},
	{"full queue", func(l *Ledger) {
		take(l, "a", "plain", 8)
		start(l)
		take(l, "b", "plain", 9)
		take(l, "c", "plain", 10)
	}},
}

// arrivals are what may come for it.
var arrivals = []struct {
	name string
	a    Arrival
}{
	{"REQUEST", request("plain", 5, 99)},
	{"REQUEST next epoch", request("plain", 6, 1)},
	{"REQUEST same seq", request("plain", 5, 7)},
	{"REQUEST lower epoch", request("plain", 4, 99)},
	{"REQUEST late", late1(request("plain", 5, 99))},
	{"REQUEST unknown cmd", request("unknown", 5, 99)},
	{"REQUEST bad params", problem(request("plain", 5, 99), wire.ReasonBadParams)},
	{"REQUEST retained", retained(request("plain", 5, 99))},
	{"QUERY", Arrival{Command: wire.Command{TID: "t", Status: wire.Query}}},
	{"QUERY retained", retained(Arrival{Command: wire.Command{TID: "t", Status: wire.Query}})},
	{"CANCEL", Arrival{Command: wire.Command{TID: "t", Status: wire.Cancel}}},
	{"CANCEL retained", retained(Arrival{Command: wire.Command{TID: "t", Status: wire.Cancel}})},
	{"unreadable", problem(Arrival{Command: wire.Command{TID: "t"}}, wire.ReasonBadDocument)},
}

func request(cmd string, epoch, seq int64) Arrival {
	return Arrival{Command: wire.Command{TID: "t", Cmd: cmd, Status: wire.Request, Epoch: epoch, Seq: seq}}
}

func late1(a Arrival) Arrival { a.Command.NotAfter = noon.Add(-time.Second); return a }

func problem(a Arrival, code string) Arrival { a.Problem = &wire.Reason{Code: code}; return a }

func retained(a Arrival) Arrival { a.Retained = true; return a }

func take(l *Ledger, tid, cmd string, seq int64) {
	l.Command(new(Batch), Arrival{Command: wire.Command{TID: tid, Cmd: cmd, Status: wire.Request, Epoch: 5, Seq: seq}}, noon)
}

func start(l *Ledger) { l.Start(new(Batch), noon) }

// TestMatrix writes down what is decided for each arrival in each situation.
func TestMatrix(t *testing.T) {
	var out strings.Builder
	for _, s := range situations {
		fmt.Fprintf(&out, "%s\n", s.name)
		for _, a := range arrivals {
			l := New(rules, traits)
			if err := l.Apply(Record{Kind: Floor, Epoch: 5, Seq: 7}); err != nil {
				t.Fatal(err)
			}
			s.build(l)
			var b Batch
			l.Command(&b, a.a, noon)
			l.Start(&b, noon)
			epoch, seq := l.Highest()
			fmt.Fprintf(&out, "  %-20s -> %s | floor %d/%d\n", a.name, describe(&b), epoch, seq)
		}
	}
	compare(t, "testdata/matrix.golden", out.String())
}

// TestReboot writes down what a restart makes of each situation.
func TestReboot(t *testing.T) {
	var out strings.Builder
	resumable := situations[2]
	resumable.name = "running resumable"
	resumable.build = func(l *Ledger) { take(l, "t", "resumable", 8); start(l) }
	for _, s := range append(situations[:len(situations):len(situations)], resumable) {
		l := New(rules, traits)
		s.build(l)
		again := rebuild(t, l)
		var b Batch
		again.Reboot(&b, noon)
		again.Start(&b, noon)
		fmt.Fprintf(&out, "%-18s -> %s | owed %v\n", s.name, describe(&b), again.Owed())
	}
	compare(t, "testdata/reboot.golden", out.String())
}

func compare(t *testing.T, name, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s does not agree; run with -rewrite and read the difference\n%s", name, got)
	}
}

var acts = [...]string{Acknowledge: "ack RECEIVED", Decline: "ack REJECTED", Report: "RUNNING", Answer: "answer",
	AnswerQuery: "answer query", Execute: "EXECUTE", Resume: "RESUME", Interrupt: "interrupt"}

func describe(b *Batch) string {
	var s []string
	for _, r := range b.Records {
		line := fmt.Sprintf("journal %s %s", r.TID, r.Kind)
		if r.Final != nil {
			line += " " + r.Final.Status
			if r.Final.Reason != nil {
				line += "(" + r.Final.Reason.Code + ")"
			}
		}
		s = append(s, line)
	}
	for _, a := range b.Actions {
		line := acts[a.Act] + " " + a.TID
		if a.Reason != nil {
			line += "(" + a.Reason.Code + ")"
		}
		s = append(s, line)
	}
	if s == nil {
		return "nothing"
	}
	return strings.Join(s, ", ")
}

// rebuild makes a ledger out of the snapshot of another, by way of bytes.
func rebuild(t interface {
	Helper()
	Fatal(...any)
}, l *Ledger) *Ledger {
	t.Helper()
	again := New(rules, traits)
	for _, r := range l.Snapshot() {
		replay(t, again, r)
	}
	return again
}

func replay(t interface {
	Helper()
	Fatal(...any)
}, l *Ledger, r Record) {
	t.Helper()
	b, err := r.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Apply(decoded); err != nil {
		t.Fatal(err)
	}
}

package command

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/wire"
)

var update = flag.Bool("update", false, "write the golden files and generated pages anew")

// t0 is when the commands of these tests are made; times are told from it.
var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

var (
	testTID    = uuid.MustParse("01900000-0000-7000-8000-000000000001")
	otherTID   = uuid.MustParse("01900000-0000-7000-8000-000000000002")
	testDevice = wire.Address{Group: "site", Device: "valve-1"}
)

// matrixPolicy has round numbers that differ from one another, so that a wake
// in the golden file says by itself which clock it is.
var matrixPolicy = Policy{
	DeliverBy: Duration(60 * time.Second), AckBy: Duration(10 * time.Second), Heartbeat: Duration(20 * time.Second),
	FinishBy: Duration(100 * time.Second), Settle: Duration(1000 * time.Second),
	Backoff: Linear, MaxAttempts: 2, MaxBackoff: Duration(5 * time.Minute),
}

// history makes a command and takes it through a life.
type history struct {
	t      testing.TB
	c      Command
	online bool
	seq    int64
}

func newHistory(t testing.TB, p Policy, held *Approval) *history {
	c, err := New(testTID, testDevice, "open", []byte(`{"percent":50}`), p, "ann", held, t0)
	if err != nil {
		t.Fatal(err)
	}
	return &history{t: t, c: c, online: true}
}

// at applies ev at that many seconds after t0; it must be allowed.
func (h *history) at(sec float64, ev Event) *history {
	h.t.Helper()
	h.seq++
	ev.DeviceOnline, ev.Epoch, ev.Seq = h.online, 7, h.seq
	c, _, err := Apply(h.c, ev, after(sec))
	if err != nil {
		h.t.Fatalf("at %gs %s: %v", sec, ev.Kind, err)
	}
	h.c = c
	return h
}

func (h *history) kind(sec float64, k Kind) *history { h.t.Helper(); return h.at(sec, Event{Kind: k}) }

func (h *history) offline() *history { h.online = false; return h }

func after(sec float64) time.Time { return t0.Add(time.Duration(sec * float64(time.Second))) }

// situation is a command in a state, a moment and what is known of its device.
type situation struct {
	name   string
	c      Command
	now    float64 // seconds after t0
	online bool
}

func situations(t testing.TB) []situation {
	quiet := matrixPolicy
	quiet.Heartbeat = 0
	fresh := func() *history { return newHistory(t, matrixPolicy, nil) }
	sent := func() *history { return fresh().kind(1, Dispatch) }                          // ack due 11, finish due 101
	twice := func() *history { return sent().kind(11, Tick) }                             // both tries used, ack due 31
	refused := func() *history { return sent().kind(1, BrokerRefused) }                   // the broker has none
	parked := func() *history { return sent().offline().kind(11, Tick) }                  // waits for the device
	acked := func() *history { return sent().kind(2, Received) }                          // RUNNING due 32
	running := func() *history { return acked().kind(3, SaidRunning) }                    // RUNNING due 33
	cancelling := func() *history { return acked().at(5, Event{Kind: Cancel, By: "bo"}) } // answer due 15
	insisted := func() *history { return cancelling().kind(15, Tick) }                    // both tries used, answer due 35
	missed := func() *history { return running().kind(33, Tick) }                         // timed out, finish not yet due
	noAck := func() *history { return twice().kind(31, Tick) }                            // timed out, QUERY answer due 41
	unheard := func() *history { return running().offline().kind(33, Tick).kind(101, Tick) }
	unconfirmed := func() *history { return insisted().kind(35, Tick) }
	closed := func() *history { return noAck().kind(41, Tick).kind(1031, Tick) }
	done := Event{Kind: Succeeded, Result: []byte(`{"ok":true}`)}

	var list []situation
	add := func(name string, h *history, now float64, online bool) {
		list = append(list, situation{name, h.c, now, online})
	}
	both := func(name string, h *history, now float64) {
		add(name+", device online", h, now, true)
		add(name+", device offline", h, now, false)
	}
	held := func(quorum int, expires time.Time) *history {
		return newHistory(t, matrixPolicy, &Approval{Quorum: quorum, Expires: expires})
	}
	add("held for approval", held(1, time.Time{}), 5, true)
	add("held for approval by two", held(2, time.Time{}), 5, true)
	add("held for approval by two, one has agreed", held(2, time.Time{}).
		at(2, Event{Kind: Approve, By: "cy", Digest: held(2, time.Time{}).c.Approval.Digest}), 5, true)
	add("held for approval, the time for it over", held(1, after(4)), 5, true)
	add("held for approval, deliver-by over", held(1, time.Time{}), 60, true)
	add("waits for its turn", fresh(), 5, true)
	add("waits for its turn, deliver-by over", fresh(), 60, true)
	patient := func() *history {
		h := fresh()
		h.c.Terms = &Terms{TypeVersion: 3, Unmet: Hold}
		return h
	}
	add("waits for its turn and for its terms", patient(), 5, true)
	add("held by its terms", patient().at(4, Event{Kind: UnmetNow, Because: PreconditionUnmet, Text: "door is open"}), 5, true)
	add("held by its terms, deliver-by over", patient().at(4, Event{Kind: UnmetNow, Because: NoPlace}), 60, true)
	both("ack not yet due", sent(), 5)
	both("ack due, a try left", sent(), 11)
	both("ack due, tries used up", twice(), 31)
	both("ack due, past notAfter", sent(), 60)
	both("finish due", sent(), 101)
	both("parked", parked(), 15)
	both("parked, past notAfter", parked(), 60)
	both("parked, finish due", parked(), 101)
	both("the broker took none, past notAfter", refused(), 60)
	add("the broker took none, tries used up", refused().kind(11, Tick).kind(11, BrokerRefused), 31, true)
	both("at work", acked(), 5)
	both("RUNNING due", acked(), 32)
	both("finish due", acked(), 101)
	both("parked", acked().offline().kind(32, Tick), 40)
	booted := func() *history { return sent().at(2, Event{Kind: Received, Boot: "boot-1"}) }
	add("of an earlier boot", booted(), 5, true)
	expected := booted()
	expected.c.Terms = &Terms{TypeVersion: 3, RebootExpected: true}
	add("of an earlier boot, its end expected", expected, 5, true)
	add("no heartbeat asked for", newHistory(t, quiet, nil).kind(1, Dispatch).kind(2, Received), 50, true)
	both("at work", running(), 5)
	both("RUNNING due", running(), 33)
	both("finish due", running(), 101)
	both("done, its report awaited", running().at(9, Event{Kind: Succeeded, Unconverged: true, Result: []byte(`{"ok":true}`)}), 20)
	both("done, its report awaited, finish due", running().at(9, Event{Kind: Succeeded, Unconverged: true}), 101)
	both("parked", running().offline().kind(33, Tick), 40)
	both("answer not yet due", cancelling(), 6)
	both("answer due, a try left", cancelling(), 15)
	both("answer due, tries used up", insisted(), 35)
	both("finish due", cancelling(), 101)
	both("parked", acked().offline().kind(5, Cancel), 6)
	add("never acknowledged", sent().kind(5, Cancel), 6, true)
	both("RUNNING was missed, finish not yet due", missed(), 40)
	both("ack never came, answer to QUERY due", noAck(), 41)
	both("ack never came, questions used up", noAck().kind(41, Tick), 200)
	both("parked, past finish-by", unheard(), 200)
	both("cancel asked, finish not yet due", unconfirmed(), 40)
	both("cancel asked, past finish-by", unconfirmed(), 200)
	both("settle window over", noAck().kind(41, Tick), 1031)
	add("closed", closed(), 2000, true)
	add("", running().at(9, done), 20, true)
	add("by its report", running().at(9, Event{Kind: Succeeded, Reported: true}), 20, true)
	add("", running().kind(9, SaidFailed), 20, true)
	add("its report never showed it", running().at(9, Event{Kind: Succeeded, Unconverged: true}).kind(101, Tick), 120, true)
	add("", running().kind(9, SaidRejected), 20, true)
	add("never sent", fresh().kind(60, Tick), 70, true)
	add("the broker took none", refused().kind(60, Tick), 70, true)
	add("before it was sent", fresh().kind(5, Cancel), 20, true)
	add("by the device", cancelling().kind(9, SaidCancelled), 20, true)
	add("", newHistory(t, matrixPolicy, &Approval{}).kind(5, Deny), 20, true)
	return list
}

// variant is an event with what goes with it, where that matters.
type variant struct {
	name string
	ev   Event
}

func variants() []variant {
	code := func(c string) *wire.Reason { return &wire.Reason{Code: c, Text: "words"} }
	seen := newHistory(nil, matrixPolicy, &Approval{}).c.Approval.Digest
	special := map[Kind][]variant{
		Approve: {{"", Event{By: "bo", Digest: seen}}, {" by the requester", Event{By: "ann", Digest: seen}},
			{" of other content", Event{By: "bo", Digest: "other"}}},
		BreakGlass: {{"", Event{By: "bo", Text: "fire"}}, {" without a reason", Event{By: "bo"}}},
		Supersede:  {{"", Event{SupersededBy: &otherTID}}},
		Undo:       {{"", Event{By: "bo", Text: "wrong valve", UndoneBy: &otherTID}}, {" by nothing", Event{By: "bo"}}},
		Online:     {{"", Event{}}, {" in progress", Event{InProgress: true}}},
		AckRejected: {{"", Event{Reason: code(wire.ReasonBusy)}}, {" expired", Event{Reason: code(wire.ReasonExpired)}},
			{" stale_seq", Event{Reason: code(wire.ReasonStaleSeq)}}},
		SaidRunning: {{"", Event{Progress: &wire.Progress{Note: "half"}}}},
		Succeeded: {{"", Event{Result: []byte(`{"ok":true}`)}}, {" other result", Event{Result: []byte(`{"ok":false}`)}},
			{" before its report", Event{Result: []byte(`{"ok":true}`), Unconverged: true}}, {" by its report", Event{Reported: true}}},
		UnmetNow: {{"", Event{Because: PreconditionUnmet, Text: "door is open"}},
			{" changed since", Event{Because: ChangedSince, Text: "door is open now"}},
			{" interlocked", Event{Because: NoPlace, Text: "others are in flight"}}},
		Misfit:       {{"", Event{Text: "result.open is missing"}}},
		Overtaken:    {{"", Event{By: "rule:close at plant-1/gw-1", Text: "state.desired was done before it"}}},
		SaidFailed:   {{"", Event{}}, {" interrupted", Event{Reason: code(wire.ReasonInterrupted)}}},
		SaidRejected: {{"", Event{}}, {" not_received", Event{Reason: code(wire.ReasonNotReceived)}}},
	}
	var list []variant
	for _, k := range Kinds {
		vs, ok := special[k]
		if !ok {
			vs = []variant{{"", Event{}}}
		}
		for _, v := range vs {
			v.name = string(k) + v.name
			v.ev.Kind, v.ev.Boot, v.ev.Epoch, v.ev.Seq = k, "boot-2", 7, 42
			list = append(list, v)
		}
	}
	return list
}

// eachCase runs every situation with every event.
func eachCase(t testing.TB, f func(s situation, v variant)) {
	for _, s := range situations(t) {
		for _, v := range variants() {
			v.ev.DeviceOnline = s.online || v.ev.Kind == Online
			f(s, v)
		}
	}
}

func TestMatrix(t *testing.T) {
	var out strings.Builder
	out.WriteString("The whole machine: every situation with every event. Times are seconds after creation.\n" +
		"Policy: deliver-by 60, ack-by 10 linear twice, heartbeat 20, finish-by 100, settle 1000.\n")
	var title string
	var order []string // outcomes, as they first come out
	events := map[string][]string{}
	flush := func() {
		for _, o := range order {
			fmt.Fprintf(&out, "  %-52s <- %s\n", o, strings.Join(events[o], ", "))
		}
		order, events = nil, map[string][]string{}
	}
	eachCase(t, func(s situation, v variant) {
		if h := heading(s); h != title {
			flush()
			title = h
			out.WriteString("\n" + title + "\n")
		}
		o := outcome(s.c, v.ev, after(s.now))
		if events[o] == nil {
			order = append(order, o)
		}
		events[o] = append(events[o], v.name)
	})
	flush()
	golden(t, filepath.Join("testdata", "matrix.golden"), out.String())
}

func heading(s situation) string {
	h := strings.ToUpper(string(s.c.State))
	if s.name != "" {
		h += ", " + s.name
	}
	return fmt.Sprintf("%s; it is %g (wake %s)", h, s.now, clock(s.c.Wake))
}

func outcome(was Command, ev Event, now time.Time) string {
	is, effects, err := Apply(was, ev, now)
	var no *NotAllowedError
	switch {
	case errors.As(err, &no) && no.Why != "":
		return "not allowed, " + no.Why
	case err != nil:
		return "not allowed"
	case is.Version == was.Version:
		return "nothing changes"
	}
	s := fmt.Sprintf("%-17s %-21s wake %-5s", is.State, lineAdded(was, is), clock(is.Wake))
	for _, e := range effects {
		s += " " + string(e)
	}
	if is.Parked {
		s += " parked"
	}
	if is.NotAfter != was.NotAfter {
		s += " notAfter " + clock(is.NotAfter)
	}
	if is.FinishDue != was.FinishDue {
		s += " finishDue " + clock(is.FinishDue)
	}
	if is.CancelAsked != was.CancelAsked {
		s += fmt.Sprintf(" cancelAsked=%v", is.CancelAsked)
	}
	if is.Converging != was.Converging {
		s += fmt.Sprintf(" converging=%v", is.Converging)
	}
	if is.Closed != was.Closed {
		s += " closed"
	}
	if is.Held {
		s += " held"
	}
	return s
}

// lineAdded is the reason of the line that the timeline got, if any.
func lineAdded(was, is Command) string {
	n := len(is.Timeline)
	last := is.Timeline[n-1]
	switch {
	case n == len(was.Timeline) && last.Count == was.Timeline[n-1].Count:
		return "(no line)"
	case last.Anomaly:
		return "! " + string(last.Reason)
	}
	return string(last.Reason)
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return fmt.Sprintf("%g", t.Sub(t0).Seconds())
}

// golden compares got with a file, or writes it with -update.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test -update writes it", err)
	}
	if got == string(want) {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			t.Fatalf("%s line %d\nwant %q\ngot  %q\n(go test -update writes it anew)", path, i+1, a, b)
		}
	}
}

// The table's `to` lists are what the documentation and the diagram are made
// from, so they must be exact: no state that cannot come out, none missing.
func TestTableNamesExactlyTheStatesThatComeOut(t *testing.T) {
	reached := map[State]map[Kind]map[State]bool{}
	eachCase(t, func(s situation, v variant) {
		got, _, err := Apply(s.c, v.ev, after(s.now))
		if err != nil {
			return
		}
		if reached[s.c.State] == nil {
			reached[s.c.State] = map[Kind]map[State]bool{}
		}
		if reached[s.c.State][v.ev.Kind] == nil {
			reached[s.c.State][v.ev.Kind] = map[State]bool{}
		}
		reached[s.c.State][v.ev.Kind][got.State] = true
	})
	for _, s := range States {
		for _, k := range Kinds {
			want := map[State]bool{}
			for _, to := range table[s][k].to {
				want[to] = true
			}
			if got := reached[s][k]; !maps.Equal(got, want) {
				t.Errorf("%s, %s: the table says %v, the cases reach %v", s, k,
					slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)))
			}
		}
	}
}

func TestTableHasARowForEveryStateAndOnlyKnownEvents(t *testing.T) {
	if len(table) != len(States) {
		t.Errorf("%d rows for %d states", len(table), len(States))
	}
	for _, s := range States {
		for k, cell := range table[s] {
			if !slices.Contains(Kinds, k) || cell.do == nil || len(cell.to) == 0 {
				t.Errorf("%s, %s: incomplete or unknown", s, k)
			}
		}
		for _, k := range Kinds {
			if _, ok := table[s][k]; !ok && (k.FromDevice() || k == Tick || k == Online || k == BrokerRefused) {
				t.Errorf("%s, %s: what nobody can prevent must not be refused", s, k)
			}
		}
	}
	if _, _, err := Apply(Command{State: "nonsense"}, Event{Kind: Tick}, t0); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("unknown state: got %v", err)
	}
	if _, _, err := Apply(newHistory(t, matrixPolicy, nil).c, Event{Kind: Create}, t0); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("create is no event of Apply: got %v", err)
	}
}

func TestEveryReasonIsProduced(t *testing.T) {
	seen := map[Reason]bool{}
	see := func(c Command) {
		seen[c.Reason] = true
		for _, e := range c.Timeline {
			seen[e.Reason] = true
		}
	}
	eachCase(t, func(s situation, v variant) {
		see(s.c)
		got, _, _ := Apply(s.c, v.ev, after(s.now))
		see(got)
	})
	for _, r := range Reasons {
		if !seen[r] {
			t.Errorf("no case gives reason %s", r)
		}
		delete(seen, r)
	}
	for r := range seen {
		t.Errorf("reason %s is not in the closed set", r)
	}
}

// strict is Apply, and fails the test when Apply broke what it says of its
// arguments: they are not changed, and an error gives the command back.
func strict(t rapid.TB, c Command, ev Event, now time.Time) (Command, []Effect, error) {
	t.Helper()
	// Room behind the timeline shows an append into the caller's array.
	spare := Entry{Detail: "the caller's own memory"}
	room := append(make([]Entry, 0, len(c.Timeline)+1), c.Timeline...)
	room = append(room, spare)
	c.Timeline = room[:len(room)-1]
	before, beforeEv := clone(c), ev
	got, effects, err := Apply(c, ev, now)
	if !reflect.DeepEqual(c, before) || room[len(room)-1] != spare {
		t.Fatalf("%s changed the command that it was given", ev.Kind)
	}
	if !reflect.DeepEqual(ev, beforeEv) {
		t.Fatalf("%s changed its event", ev.Kind)
	}
	if err != nil && (!reflect.DeepEqual(got, before) || effects != nil) {
		t.Fatalf("%s: %v, and yet something came out", ev.Kind, err)
	}
	again, effects2, err2 := Apply(c, ev, now)
	if !reflect.DeepEqual(got, again) || !slices.Equal(effects, effects2) || (err == nil) != (err2 == nil) {
		t.Fatalf("%s: the same arguments gave another answer", ev.Kind)
	}
	return got, effects, err
}

// clone copies everything that c refers to.
func clone(c Command) Command {
	c.Params, c.Result, c.DeviceState = slices.Clone(c.Params), slices.Clone(c.Result), slices.Clone(c.DeviceState)
	c.Timeline = slices.Clone(c.Timeline)
	if c.Progress != nil {
		p := *c.Progress
		c.Progress = &p
	}
	if c.RetryOf != nil {
		id := *c.RetryOf
		c.RetryOf = &id
	}
	if c.SupersededBy != nil {
		id := *c.SupersededBy
		c.SupersededBy = &id
	}
	return c
}

func TestApplyLeavesItsArgumentsAlone(t *testing.T) {
	allowed, refused := 0, 0
	eachCase(t, func(s situation, v variant) {
		_, _, err := strict(t, s.c, v.ev, after(s.now))
		if err != nil {
			refused++
			if !errors.Is(err, ErrNotAllowed) || err.Error() == "" {
				t.Errorf("%s: %v is not a NotAllowedError", v.name, err)
			}
		} else {
			allowed++
		}
	})
	if allowed < 1000 || refused < 200 {
		t.Errorf("only %d allowed and %d refused cases were looked at", allowed, refused)
	}
}

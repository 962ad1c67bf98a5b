package command

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/wire"
)

// world drives a command through an arbitrary history and checks, after every
// event, what must hold whatever happens. It keeps its own books of what was
// published and heard, and does not look at the table.
type world struct {
	t      rapid.TB
	c      Command
	now    time.Time
	online bool
	seq    int64

	undecided int // requests published that the broker has neither taken nor refused
	taken     int // requests that the broker took, or that it may have taken
	heard     map[Kind]bool
	firstEnd  State // of the first final word that was heard while one could count
	asked     map[Kind]bool
}

// heldIf is an approval by two, or none.
func heldIf(held bool) *Approval {
	if !held {
		return nil
	}
	return &Approval{Quorum: 2, Expires: t0.Add(30 * time.Second)}
}

func newWorld(t rapid.TB, p Policy, held *Approval) *world {
	c, err := New(testTID, testDevice, "open", []byte(`{"percent":50}`), p, "ann", held, t0)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, c: c, now: t0, online: true, heard: map[Kind]bool{}, asked: map[Kind]bool{}}
	w.checkCommand()
	return w
}

func (w *world) event(ev Event) Event {
	ev.DeviceOnline, ev.Epoch, ev.Seq = w.online, 7, w.seq+1
	return ev
}

// apply applies ev and checks the step.
func (w *world) apply(ev Event) {
	w.t.Helper()
	ev = w.event(ev)
	was := w.c
	c, effects, err := strict(w.t, was, ev, w.now)
	if err != nil {
		return
	}
	w.c = c
	w.book(was, ev, effects)
	w.checkStep(was, ev, effects)
	w.checkCommand()
	w.checkClock()
}

// book keeps account of publications and of what was said.
func (w *world) book(was Command, ev Event, effects []Effect) {
	if slices.Contains(effects, SendRequest) {
		w.seq++
		w.undecided++
	}
	if ev.Kind.FromDevice() {
		w.heard[ev.Kind] = true
	} else {
		w.asked[ev.Kind] = true
	}
	if w.firstEnd == "" && w.c.State.Final() && !was.State.Final() {
		w.firstEnd = w.c.State
	}
}

func (w *world) checkStep(was Command, ev Event, effects []Effect) {
	w.t.Helper()
	c, t := w.c, w.t
	changed := !reflect.DeepEqual(was, c)
	if changed && c.Version != was.Version+1 || !changed && c.Version != was.Version {
		t.Fatalf("%s: version %d -> %d, changed %v", ev.Kind, was.Version, c.Version, changed)
	}
	if len(effects) > 0 && !changed {
		t.Fatalf("%s: effects %v of a command that has nothing to store", ev.Kind, effects)
	}
	if was.Final() {
		if c.State != was.State || len(effects) > 0 || c.Reason != was.Reason || !c.Ended.Equal(was.Ended) ||
			string(c.Result) != string(was.Result) {
			t.Fatalf("%s moved a command that had ended: %s -> %s %v", ev.Kind, was.State, c.State, effects)
		}
	}
	if len(effects) > 1 {
		t.Fatalf("%s: %v: one event, more than one publication", ev.Kind, effects)
	}
	requests := 0
	for _, e := range effects {
		if ev.Kind.FromDevice() {
			t.Fatalf("%s: a device's word made us publish %s: two that answer one another would never end", ev.Kind, e)
		}
		if !ev.DeviceOnline {
			t.Fatalf("%s: %s to a device that is offline", ev.Kind, e)
		}
		if e == SendRequest {
			requests++
			if !w.now.Before(c.NotAfter) {
				t.Fatalf("%s: request published at %s, not wanted after %s", ev.Kind, clock(w.now), clock(c.NotAfter))
			}
			if c.Epoch != ev.Epoch || c.Seq != ev.Seq {
				t.Fatalf("%s: published with other numbers than those given", ev.Kind)
			}
		}
	}
	if c.Attempt != was.Attempt+requests {
		t.Fatalf("%s: attempt %d -> %d with %d requests", ev.Kind, was.Attempt, c.Attempt, requests)
	}
	if !was.FirstSent.IsZero() && c.FirstSent != was.FirstSent || !was.Acked.IsZero() && c.Acked != was.Acked {
		t.Fatalf("%s: what happened first was written anew", ev.Kind)
	}
	if added := len(c.Timeline) - len(was.Timeline); added < 0 || added > 1 {
		t.Fatalf("%s: the timeline went from %d to %d lines", ev.Kind, len(was.Timeline), len(c.Timeline))
	}
	if c.State != was.State && reflect.DeepEqual(c.Timeline, was.Timeline) {
		t.Fatalf("%s: %s -> %s left no line", ev.Kind, was.State, c.State)
	}
}

// checkCommand checks what must be true of every command at any time.
func (w *world) checkCommand() {
	w.t.Helper()
	c, t := w.c, w.t
	switch {
	case c.State == Executed && !w.heard[Succeeded],
		c.State == Failed && !w.heard[SaidFailed],
		c.State == Rejected && !w.heard[SaidRejected] && !w.heard[AckRejected],
		c.State == Cancelled && !w.heard[SaidCancelled] && !(c.Attempt == 0 && (w.asked[Cancel] || w.asked[Supersede])),
		c.State == Denied && (c.Attempt > 0 || !w.asked[Deny] && !w.asked[UnmetNow]):
		t.Fatalf("%s, and nobody said so", c.State)
	case c.State == Expired && (w.taken > 0 || w.undecided > 0):
		t.Fatalf("expired means certainly not executed, and the broker took %d and may yet take %d", w.taken, w.undecided)
	case w.firstEnd != "" && c.State != w.firstEnd:
		t.Fatalf("ended as %s, and is %s", w.firstEnd, c.State)
	case c.Closed && c.State != TimedOut:
		t.Fatalf("closed in state %s", c.State)
	case c.Final() != !c.Ended.IsZero():
		t.Fatalf("%s, final %v, ended %s", c.State, c.Final(), c.Ended)
	case c.Wake.IsZero() != c.Final():
		t.Fatalf("%s, final %v, wake %s", c.State, c.Final(), clock(c.Wake))
	case !slices.Contains(Reasons, c.Reason):
		t.Fatalf("reason %q is not in the set", c.Reason)
	case c.Tries > c.Policy.attempts():
		t.Fatalf("%s: %d tries of %d", c.State, c.Tries, c.Policy.attempts())
	case c.Refused > c.Attempt:
		t.Fatalf("%d refused of %d", c.Refused, c.Attempt)
	case len(c.Timeline) > maxTimeline || c.Anomalies > maxAnomalies:
		t.Fatalf("%d lines, %d anomalies", len(c.Timeline), c.Anomalies)
	case c.CancelAsked && (c.State == Acknowledged || c.State == Running || c.State == Sent):
		t.Fatalf("%s, although somebody asked for a cancel and nobody follows it up", c.State)
	}
	if c.Final() && c.Timeline[len(c.Timeline)-1].State != c.State {
		t.Fatalf("the timeline does not end as the command did")
	}
	ended := slices.ContainsFunc(c.Timeline, func(e Entry) bool { return e.State == c.State && e.Reason == c.Reason })
	if c.Final() && !ended {
		t.Fatalf("%s for %s, and the timeline has lost that line", c.State, c.Reason)
	}
	for _, at := range []time.Time{c.Created, c.NotAfter, c.FirstSent, c.LastSent, c.Acked, c.LastHeard, c.TimedOutAt,
		c.Ended, c.FinishDue, c.Wake} {
		if at != at.Truncate(time.Millisecond).UTC() {
			t.Fatalf("%s is finer than what stores keep", at)
		}
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var back Command
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(c, back) {
		t.Fatalf("JSON and back: %v\n%+v\n%+v", err, c, back)
	}
}

// checkClock looks ahead: a Tick at Wake, with the device there or not, brings
// the command on, and ticks alone end it after a bounded number.
func (w *world) checkClock() {
	w.t.Helper()
	for _, online := range []bool{true, false} {
		c, now := w.c, w.now
		bound := 3*c.Policy.attempts() + 8
		for n := 0; !c.Final(); n++ {
			now = later(now, c.Wake)
			next, _, err := Apply(c, Event{Kind: Tick, DeviceOnline: online, Epoch: 7, Seq: w.seq + 1}, now)
			if err != nil {
				w.t.Fatal(err)
			}
			if !next.Wake.IsZero() && !next.Wake.After(now) {
				w.t.Fatalf("%s, online %v: a tick at %s wants the next at %s: a busy loop", c.State, online, clock(now), clock(next.Wake))
			}
			if c = next; n > bound {
				w.t.Fatalf("%s: still alive after %d ticks", c.State, n)
			}
		}
	}
}

// somePolicy draws a policy that Check accepts, with odd durations too.
func somePolicy(t *rapid.T) Policy {
	d := func(name string) Duration {
		return Duration(rapid.OneOf(
			rapid.Int64Range(int64(minClock), int64(time.Minute)),
			rapid.SampledFrom([]int64{int64(minClock), int64(time.Second), int64(time.Hour)}),
		).Draw(t, name))
	}
	p := Policy{DeliverBy: d("deliverBy"), AckBy: d("ackBy"), FinishBy: d("finishBy"), Settle: d("settle"), MaxBackoff: d("maxBackoff"),
		Backoff:     rapid.SampledFrom([]Backoff{NoRetry, Linear, Exponential}).Draw(t, "backoff"),
		MaxAttempts: rapid.IntRange(1, 6).Draw(t, "attempts"),
		Jitter:      rapid.SampledFrom([]float64{0, 0.2, 1}).Draw(t, "jitter")}
	if rapid.Bool().Draw(t, "heartbeats") {
		p.Heartbeat = d("heartbeat")
	}
	return p
}

// signs and last words of a device. A last word ends a history, so most are signs.
var (
	signs     = []Kind{Received, SaidRunning, CancelRefused}
	lastWords = []Kind{AckRejected, Succeeded, SaidFailed, SaidRejected, SaidCancelled}
)

// someDeviceEvent draws a message that a device may send, or a hostile one may.
func someDeviceEvent(t *rapid.T) Event {
	said := signs
	if rapid.IntRange(0, 4).Draw(t, "last") == 0 {
		said = lastWords
	}
	ev := Event{Kind: rapid.SampledFrom(said).Draw(t, "said"), Boot: rapid.SampledFrom([]string{"", "b1", "b2"}).Draw(t, "boot")}
	switch ev.Kind {
	case SaidRunning:
		p := rapid.Float64Range(0, 100).Draw(t, "percent")
		ev.Progress = &wire.Progress{Percent: &p, Note: rapid.StringN(0, 5, -1).Draw(t, "note")}
	case Succeeded:
		ev.Result = json.RawMessage(rapid.SampledFrom([]string{"", "null", "1", `{"a":[]}`}).Draw(t, "result"))
		ev.State = json.RawMessage(rapid.SampledFrom([]string{"", `{"valve":"open"}`}).Draw(t, "state"))
		if len(ev.Result) == 0 {
			ev.Result = nil
		}
		if len(ev.State) == 0 {
			ev.State = nil
		}
	case AckRejected, SaidRejected, SaidFailed:
		ev.Reason = rapid.SampledFrom([]*wire.Reason{nil, {Code: wire.ReasonStaleSeq}, {Code: wire.ReasonNotReceived, Text: "who?"},
			{Code: wire.ReasonInterrupted}, {Text: strings.Repeat("long ", 400)}}).Draw(t, "reason")
	}
	return ev
}

// TestAnyHistoryKeepsTheInvariants lets people, clock, broker and device do
// what they like, in any order and at any time.
func TestAnyHistoryKeepsTheInvariants(t *testing.T) {
	ends, unsent, all := map[State]int{}, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, somePolicy(rt), heldIf(rapid.IntRange(0, 3).Draw(rt, "held") == 0))
		if rapid.IntRange(0, 3).Draw(rt, "at once") > 0 {
			w.vote("bo")
			w.vote("cy")
			w.dispatch()
		}
		for range rapid.IntRange(0, 40).Draw(rt, "length") {
			w.something(rt)
		}
		ends[w.c.State]++
		if all++; w.c.Attempt == 0 {
			unsent++
		}
	})
	// Histories that all ended alike, or never began, would prove nothing.
	if !testing.Short() && (len(ends) < 5 || 2*unsent > all) {
		t.Errorf("%d histories ended in %v, %d of them unsent", all, ends, unsent)
	}
}

func (w *world) something(rt *rapid.T) {
	switch rapid.SampledFrom([]string{"wake", "wake", "wake", "time", "time", "moment", "tick", "presence", "presence", "dispatch", "people",
		"device", "device", "device", "broker", "broker"}).Draw(rt, "what") {
	case "wake":
		w.now = later(w.now, w.c.Wake)
		w.apply(Event{Kind: Tick})
	case "time":
		w.now = w.now.Add(time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(rt, "pass")))
	case "moment": // just at, or just before, one of the moments that count
		at := rapid.SampledFrom([]time.Time{w.c.NotAfter, w.c.FinishDue, w.c.Wake, w.c.TimedOutAt.Add(w.c.Policy.Settle.D())}).Draw(rt, "at")
		if at = at.Add(-time.Duration(rapid.IntRange(0, 1).Draw(rt, "before"))); at.Before(w.now.Add(maxClock)) {
			w.now = later(w.now, at)
		}
	case "tick":
		w.apply(Event{Kind: Tick})
	case "presence":
		if w.online = !w.online; w.online {
			w.apply(Event{Kind: Online, InProgress: rapid.Bool().Draw(rt, "inProgress")})
		}
	case "dispatch":
		w.dispatch()
	case "people":
		k := rapid.SampledFrom([]Kind{Approve, Deny, BreakGlass, Cancel, Cancel, Retry, Retry, Supersede, Undo}).Draw(rt, "kind")
		if k == Approve {
			w.vote(rapid.SampledFrom([]string{"ann", "bo", "bo", "cy", "cy", ""}).Draw(rt, "voter"))
			return
		}
		w.apply(Event{Kind: k, By: "ann", Text: "because", SupersededBy: &otherTID, UndoneBy: &otherTID})
	case "device":
		w.apply(someDeviceEvent(rt))
	case "broker":
		if rapid.Bool().Draw(rt, "takes") {
			w.brokerTakes()
		} else {
			w.brokerRefuses()
		}
	}
}

// vote is an approval by someone who has looked.
func (w *world) vote(by string) {
	ev := Event{Kind: Approve, By: by}
	if w.c.Approval != nil {
		ev.Digest = w.c.Approval.Digest
	}
	w.apply(ev)
}

func (w *world) dispatch() {
	if w.online {
		w.apply(Event{Kind: Dispatch})
	}
}

func (w *world) brokerTakes() {
	if w.undecided > 0 {
		w.undecided--
		w.taken++
	}
}

// brokerRefuses reports one refusal of one request, once, as an engine does. It
// must come before the state in which it can no longer be told from others.
func (w *world) brokerRefuses() {
	if w.undecided > 0 {
		w.undecided--
		w.apply(Event{Kind: BrokerRefused})
	}
}

package command

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/wire"
)

// The oracle of this file says from a list of device messages, with no time
// passing, how a command stands. It knows nothing of cells and steps: it reads
// the rules of the design as a person would.
//
//  1. The first final word wins.
//  2. Without one, the strongest sign counts: RUNNING (or a refusal to cancel)
//     over RECEIVED over nothing.
//  3. While a cancel is asked for and not refused, signs change nothing.
//  4. A final word after the first is an anomaly when it says something else.
type oracle struct {
	state     State
	result    string
	anomalies int
}

// finals is what each final word means, written down a second time.
var finals = map[Kind]State{AckRejected: Rejected, SaidRejected: Rejected, Succeeded: Executed, SaidFailed: Failed, SaidCancelled: Cancelled}

func expect(start State, messages []Event) oracle {
	o := oracle{state: start}
	for _, m := range messages {
		end, final := finals[m.Kind]
		if !final {
			continue
		}
		if _, ended := map[State]bool{Executed: true, Failed: true, Rejected: true, Cancelled: true}[o.state]; !ended {
			o.state, o.result = end, string(m.Result)
		} else if end != o.state || end == Executed && string(m.Result) != o.result {
			o.anomalies = min(o.anomalies+1, 16)
		}
	}
	if o.state != start {
		return o
	}
	said := func(k Kind) bool {
		return slices.ContainsFunc(messages, func(m Event) bool { return m.Kind == k })
	}
	asked := start == Cancelling && !said(CancelRefused)
	switch {
	case asked:
	case said(SaidRunning), said(CancelRefused):
		o.state = Running
	case said(Received) && start != Running:
		o.state = Acknowledged
	}
	return o
}

// starts gives a command in each state in which the device has the word.
func starts(t testing.TB) map[State]*history {
	sent := func() *history { return newHistory(t, matrixPolicy, nil).kind(1, Dispatch) }
	return map[State]*history{
		Sent:         sent(),
		Acknowledged: sent().kind(2, Received),
		Running:      sent().kind(2, SaidRunning),
		Cancelling:   sent().kind(2, Cancel),
		TimedOut:     sent().kind(11, Tick).kind(31, Tick),
	}
}

// hear applies messages at one moment, before any clock runs out.
func hear(t rapid.TB, c Command, messages []Event) Command {
	for _, m := range messages {
		m.DeviceOnline = true
		next, effects, err := Apply(c, m, after(32))
		if err != nil || len(effects) > 0 {
			t.Fatalf("%s in %s: %v %v", m.Kind, c.State, effects, err)
		}
		c = next
	}
	return c
}

func compareWithOracle(t rapid.TB, start Command, messages []Event) {
	t.Helper()
	want, c := expect(start.State, messages), hear(t, start, messages)
	if got := (oracle{c.State, string(c.Result), c.Anomalies}); got != want {
		t.Fatalf("%s then %s:\nwant %+v\ngot  %+v", start.State, kindsOf(messages), want, got)
	}
	if len(messages) > 0 && c.State != Cancelling && c.Acked.IsZero() {
		t.Fatalf("%s then %s: any word of the device implies the ack", start.State, kindsOf(messages))
	}
}

func kindsOf(messages []Event) string {
	var s []string
	for _, m := range messages {
		s = append(s, string(m.Kind)+string(m.Result))
	}
	return fmt.Sprint(s)
}

func word(k Kind) Event { return Event{Kind: k} }

func success(result string) Event {
	return Event{Kind: Succeeded, Result: json.RawMessage(result)}
}

// What a real device says of one command, at least once each, in any order.
var stories = map[string][]Event{
	"done":           {word(Received), word(SaidRunning), word(SaidRunning), success("1"), success("1")},
	"failed":         {word(Received), word(Received), word(SaidRunning), word(SaidFailed), word(SaidFailed)},
	"refused":        {word(AckRejected), word(AckRejected), word(SaidRejected)},
	"interrupted":    {word(Received), word(SaidRunning), {Kind: SaidFailed, Reason: &wire.Reason{Code: wire.ReasonInterrupted}}},
	"cancelled":      {word(Received), word(SaidRunning), word(SaidCancelled), word(SaidCancelled)},
	"will not stop":  {word(Received), word(SaidRunning), word(CancelRefused), word(CancelRefused), success("2")},
	"only signs":     {word(Received), word(Received), word(SaidRunning), word(SaidRunning), word(CancelRefused)},
	"only the ack":   {word(Received), word(Received), word(Received)},
	"contradictions": {word(Received), success("1"), success("2"), word(SaidFailed), word(SaidCancelled)},
}

func TestEveryPermutationOfWhatADeviceSays(t *testing.T) {
	checked := 0
	for name, story := range stories {
		for state, h := range starts(t) {
			t.Run(name+"/"+string(state), func(t *testing.T) {
				var first *Command
				// Every sub-multiset too: a message may be lost.
				for mask := range 1 << len(story) {
					var some []Event
					for i := range story {
						if mask>>i&1 == 1 {
							some = append(some, story[i])
						}
					}
					permute(some, func(order []Event) {
						compareWithOracle(t, h.c, order)
						checked++
						if name == "contradictions" || len(some) < len(story) {
							return
						}
						c := hear(t, h.c, order)
						if first == nil {
							first = &c
						}
						if c.State != first.State || c.Anomalies != 0 || string(c.Result) != string(first.Result) || c.Reason != first.Reason && c.Final() {
							t.Fatalf("%s gives %s %s, another order %s %s", kindsOf(order), c.State, c.Reason, first.State, first.Reason)
						}
					})
				}
			})
		}
	}
	if checked < 5000 {
		t.Errorf("only %d orders were looked at", checked)
	}
}

// permute calls f with every order of list (Heap's algorithm).
func permute(list []Event, f func([]Event)) {
	var rec func(n int)
	rec = func(n int) {
		if n <= 1 {
			f(list)
			return
		}
		for i := range n {
			rec(n - 1)
			if n%2 == 0 {
				list[i], list[n-1] = list[n-1], list[i]
			} else {
				list[0], list[n-1] = list[n-1], list[0]
			}
		}
	}
	rec(len(list))
}

func TestLongMessageListsAgreeWithTheOracle(t *testing.T) {
	begin := starts(t)
	rapid.Check(t, func(rt *rapid.T) {
		start := rapid.SampledFrom([]State{Sent, Acknowledged, Running, Cancelling, TimedOut}).Draw(rt, "start")
		kinds := rapid.SliceOfN(rapid.SampledFrom([]Event{word(Received), word(SaidRunning), word(SaidRunning), word(CancelRefused),
			success("1"), success("2"), word(SaidFailed), word(SaidRejected), word(AckRejected), word(SaidCancelled)}), 0, 80).Draw(rt, "said")
		compareWithOracle(rt, begin[start].c, kinds)
		shuffled := rapid.Permutation(kinds).Draw(rt, "shuffled")
		compareWithOracle(rt, begin[start].c, shuffled)
	})
}

// Duplicating any message of a story with one end changes nothing at all that
// a reader of the command could see, apart from when it was last heard of.
func TestDuplicatesChangeNothing(t *testing.T) {
	begin := starts(t)
	rapid.Check(t, func(rt *rapid.T) {
		start := rapid.SampledFrom([]State{Sent, Acknowledged, Running, Cancelling, TimedOut}).Draw(rt, "start")
		name := rapid.SampledFrom([]string{"done", "failed", "refused", "cancelled", "will not stop"}).Draw(rt, "story")
		once := rapid.Permutation(stories[name]).Draw(rt, "order")
		var twice []Event
		for _, m := range once {
			for range rapid.IntRange(1, 5).Draw(rt, "times") {
				twice = append(twice, m)
			}
		}
		a, b := hear(rt, begin[start].c, once), hear(rt, begin[start].c, twice)
		if a.State != b.State || a.Reason != b.Reason || string(a.Result) != string(b.Result) || b.Anomalies != 0 || a.Attempt != b.Attempt ||
			len(a.Timeline) != len(b.Timeline) {
			rt.Fatalf("%s: %s %s %d lines, with duplicates %s %s %d lines, %d anomalies", kindsOf(once),
				a.State, a.Reason, len(a.Timeline), b.State, b.Reason, len(b.Timeline), b.Anomalies)
		}
	})
}

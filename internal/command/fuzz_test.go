package command

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/wire"
)

// FuzzApply reads bytes as a history: each pair is an event and how it comes.
// Whatever the history, the invariants of world hold after every event.
func FuzzApply(f *testing.F) {
	f.Add([]byte{0, 5, 0, 9, 0, 13, 0, 15, 0}, false)                   // dispatch, received, running, succeeded
	f.Add([]byte{1, 5, 0, 7, 255, 7, 255, 7, 255, 7, 255, 7, 0}, false) // clocks run out
	f.Add([]byte{2, 0, 1, 5, 0, 2, 0, 14, 0, 16, 0}, true)              // approved, sent, cancelled, refused, too late
	f.Fuzz(func(t *testing.T, b []byte, held bool) {
		if len(b) > 400 {
			return
		}
		p := matrixPolicy
		if len(b) > 0 {
			p = fuzzPolicy(b[0])
			b = b[1:]
		}
		w := newWorld(t, p, heldIf(held))
		for ; len(b) >= 2; b = b[2:] {
			w.fuzzStep(b[0], b[1])
		}
	})
}

func fuzzPolicy(b byte) Policy {
	p := matrixPolicy
	p.Backoff = []Backoff{Linear, Exponential, NoRetry, Linear}[b&3]
	p.MaxAttempts = int(b>>2&3) + 1
	if b&16 != 0 {
		p.Heartbeat = 0
	}
	if b&32 != 0 {
		p.Jitter = 1
	}
	if b&64 != 0 {
		p.DeliverBy, p.Settle = Duration(minClock), Duration(minClock)
	}
	if b&128 != 0 {
		p.FinishBy, p.AckBy = Duration(minClock), Duration(minClock)
	}
	return p
}

// fuzzStep takes one event out of two bytes: which, and what goes with it.
func (w *world) fuzzStep(which, how byte) {
	k := Kinds[int(which)%len(Kinds)]
	ev := Event{Kind: k, By: "ann", Text: string([]byte{how}), SupersededBy: &otherTID, UndoneBy: &otherTID}
	if k == UnmetNow {
		ev.Because = []Reason{PreconditionUnmet, NoPlace}[how&1]
	}
	switch {
	case k == Dispatch:
		w.dispatch()
		return
	case k == BrokerRefused:
		if how&1 == 0 {
			w.brokerTakes()
		} else {
			w.brokerRefuses()
		}
		return
	case k == Tick:
		if how&1 == 1 {
			w.now = later(w.now, w.c.Wake)
		}
		w.now = w.now.Add(time.Duration(how>>2) * time.Second)
		w.online = how&2 == 0
	case k == Online:
		w.online, ev.InProgress = true, how&1 == 1
	case k.FromDevice():
		codes := []string{"", wire.ReasonExpired, wire.ReasonNotReceived, wire.ReasonInterrupted}
		ev = Event{Kind: k, Boot: codes[how&3], Reason: &wire.Reason{Code: codes[how>>2&3], Text: string([]byte{how})}}
		if how&16 != 0 {
			ev.Result, ev.State = json.RawMessage(`{"a":1}`), json.RawMessage(`[]`)
		}
		if how&32 != 0 {
			ev.Progress = &wire.Progress{Note: "at work"}
		}
	}
	w.apply(ev)
}

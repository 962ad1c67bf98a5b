package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/wire"
)

// A clock that is finer than the machine's own would be due at a moment at
// which Tick finds nothing to do, and the caller would spin until the next
// millisecond.
func TestWakeIsNeverFinerThanNow(t *testing.T) {
	p := matrixPolicy
	p.DeliverBy, p.AckBy, p.Heartbeat = Duration(time.Minute+1), Duration(10*time.Millisecond+333), Duration(15*time.Millisecond)
	p.Jitter, p.MaxAttempts = 0.3, 5
	h := newHistory(t, p, nil)
	h.kind(0, Dispatch)
	for range 3 {
		now := h.c.Wake
		c, effects, err := Apply(h.c, Event{Kind: Tick, DeviceOnline: true}, now)
		if err != nil || len(effects) != 1 {
			t.Fatalf("tick at %s: %v %v, wake %s", now, effects, err, h.c.Wake)
		}
		h.c = c
	}
	h.at(1, Event{Kind: Received})
	if c, _, _ := Apply(h.c, Event{Kind: Tick, DeviceOnline: true}, h.c.Wake); c.State != TimedOut {
		t.Fatalf("heartbeat: %s at %s", c.State, h.c.Wake)
	}
}

func TestMaxBackoffBoundsAWaitAlsoWithJitter(t *testing.T) {
	p := matrixPolicy
	p.Backoff, p.MaxBackoff, p.Jitter = Exponential, Duration(30*time.Second), 1
	for n := range 100 {
		if d := p.wait(testTID, n); d > 30*time.Second || d < minClock {
			t.Errorf("wait %d is %s", n, d)
		}
	}
}

func TestWaitsOfTheLargestPolicyDoNotOverflow(t *testing.T) {
	p := Policy{DeliverBy: Duration(maxClock), AckBy: Duration(maxClock), FinishBy: Duration(maxClock), Settle: Duration(maxClock),
		MaxBackoff: Duration(maxClock), MaxAttempts: 100}
	for _, b := range []Backoff{NoRetry, Linear, Exponential} {
		p.Backoff = b
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		for n := range 101 {
			if d := p.wait(testTID, n); d != maxClock {
				t.Errorf("%s: wait %d is %s", b, n, d)
			}
		}
		if d := p.patience(testTID); d < maxClock {
			t.Errorf("%s: patience is %s", b, d)
		}
	}
}

// The broker took none, the device comes back too late: certainly not executed.
func TestBrokerTookNoneAndTheDeviceIsBackTooLate(t *testing.T) {
	h := newHistory(t, matrixPolicy, nil).kind(1, Dispatch).kind(1, BrokerRefused).offline().kind(11, Tick)
	h.online = true
	if h.kind(60, Online); h.c.State != Expired || h.c.Reason != BrokerWouldNot {
		t.Fatalf("got %s, %s", h.c.State, h.c.Reason)
	}
}

// Who asked for a cancel must not find the command back at work as if nobody
// had asked: RUNNING is no answer to a cancel.
func TestWorkHeardOfAfterAnUnconfirmedCancelDoesNotForgetTheCancel(t *testing.T) {
	for _, k := range []Kind{Received, SaidRunning} {
		h := newHistory(t, matrixPolicy, nil).kind(1, Dispatch).kind(5, Cancel).kind(15, Tick).kind(35, Tick)
		if h.c.State != TimedOut || h.c.Reason != CancelUnconfirmed {
			t.Fatalf("got %s, %s", h.c.State, h.c.Reason)
		}
		if h.kind(36, k); h.c.State != TimedOut || !h.c.CancelAsked {
			t.Errorf("%s: got %s, cancel asked %v", k, h.c.State, h.c.CancelAsked)
		}
		if h.kind(37, CancelRefused); h.c.State != Running || h.c.CancelAsked {
			t.Errorf("then refused: got %s, cancel asked %v", h.c.State, h.c.CancelAsked)
		}
	}
}

// A device that is past finish-by and says RUNNING for ever must not be asked
// for ever at the pace of ack-by.
func TestQuestionsToABusyDeviceAreBounded(t *testing.T) {
	p := matrixPolicy
	p.Settle = Duration(24 * time.Hour)
	h := newHistory(t, p, nil).kind(1, Dispatch).kind(2, Received)
	for now := 3.0; now < 100; now += 10 {
		h.kind(now, SaidRunning)
	}
	asked := 0
	for now := 101.0; now < 10_000; now++ {
		c, effects, err := Apply(h.c, Event{Kind: Tick, DeviceOnline: true}, after(now))
		if err != nil {
			t.Fatal(err)
		}
		h.c = c
		asked += len(effects)
		if int(now)%10 == 3 {
			h.kind(now, SaidRunning)
		}
	}
	if asked == 0 || asked > p.MaxAttempts {
		t.Errorf("asked %d times, want 1 to %d", asked, p.MaxAttempts)
	}
	if h.kind(10_000, Succeeded); h.c.State != Executed {
		t.Errorf("then the result: %s", h.c.State)
	}
}

// Tries counts since the device was last seen to come online.
func TestComingOnlineStartsTheTriesAnew(t *testing.T) {
	h := newHistory(t, matrixPolicy, nil).kind(1, Dispatch).kind(2, Received)
	for now := 3.0; now < 20; now++ {
		h.kind(now, Online)
	}
	if h.c.Tries != 1 {
		t.Errorf("tries %d", h.c.Tries)
	}
}

// Stores write JSON, which takes the spaces out of raw values and escapes some
// characters. The device's own bytes, said again, must still agree with them.
func TestTheSameResultAgreesWithWhatAStoreGaveBack(t *testing.T) {
	raw := []byte(`{ "text": "a<b & c",  "n": [1, 2] }`)
	h := newHistory(t, matrixPolicy, nil).kind(1, Dispatch).at(2, Event{Kind: Succeeded, Result: raw})
	b, err := json.Marshal(h.c)
	if err != nil {
		t.Fatal(err)
	}
	h.c = Command{}
	if err := json.Unmarshal(b, &h.c); err != nil {
		t.Fatal(err)
	}
	if h.at(3, Event{Kind: Succeeded, Result: raw}); h.c.Anomalies != 0 {
		t.Errorf("the same result again is %s", h.c.Timeline[len(h.c.Timeline)-1].Reason)
	}
	if h.at(4, Event{Kind: Succeeded, Result: []byte(`{"text":"a<b & c","n":[1,3]}`)}); h.c.Anomalies != 1 {
		t.Error("another result is no anomaly")
	}
}

// A refusal to cancel is one also when a device says it as a result: taking it
// for "rejected, not executed" would be a lie about work that goes on.
func TestCancelRefusedAsAResultIsARefusalToCancel(t *testing.T) {
	why := &wire.Reason{Code: wire.ReasonCancelRefused}
	if k := EventOfResult(wire.Result{Status: wire.Rejected, Reason: why}).Kind; k != CancelRefused {
		t.Errorf("result: %s", k)
	}
	if k := EventOfAck(wire.Ack{Status: wire.Rejected, Reason: why}).Kind; k != CancelRefused {
		t.Errorf("ack: %s", k)
	}
}

func TestDocumentsBecomeEvents(t *testing.T) {
	why := &wire.Reason{Code: "x"}
	for status, want := range map[string]Kind{wire.Running: SaidRunning, wire.Success: Succeeded, wire.Failure: SaidFailed,
		wire.Rejected: SaidRejected, wire.Cancelled: SaidCancelled} {
		p, res, state := &wire.Progress{Note: "n"}, json.RawMessage(`1`), json.RawMessage(`2`)
		ev := EventOfResult(wire.Result{Status: status, Reason: why, Progress: p, Result: res, State: state})
		if ev.Kind != want || ev.Reason != why || ev.Progress != p || string(ev.Result) != "1" || string(ev.State) != "2" {
			t.Errorf("result %s: %+v", status, ev)
		}
	}
	for status, want := range map[string]Kind{wire.Received: Received, wire.Rejected: AckRejected} {
		if ev := EventOfAck(wire.Ack{Status: status, Reason: why}); ev.Kind != want || ev.Reason != why {
			t.Errorf("ack %s: %+v", status, ev)
		}
	}
}

// The timeline is bounded, and what it must not lose is how the command ended.
func TestAFullTimelineKeepsTheEndAndItsAnomalies(t *testing.T) {
	p := matrixPolicy
	p.FinishBy = Duration(24 * time.Hour)
	h := newHistory(t, p, nil).kind(1, Dispatch).kind(2, Received)
	for i := range 300 { // each pair makes two lines that do not fold
		h.kind(float64(3+i), Online).kind(float64(3+i), SaidRunning)
	}
	h.kind(400, Succeeded)
	for i := range 50 {
		h.at(float64(401+i), Event{Kind: []Kind{SaidFailed, SaidCancelled}[i%2]})
	}
	if len(h.c.Timeline) > maxTimeline || h.c.Anomalies != maxAnomalies {
		t.Fatalf("%d lines, %d anomalies", len(h.c.Timeline), h.c.Anomalies)
	}
	ends, anomalies := 0, 0
	for _, e := range h.c.Timeline {
		if e.Reason == DeviceSucceeded {
			ends++
		}
		if e.Anomaly {
			anomalies++
		}
	}
	if ends != 1 || anomalies != maxAnomalies {
		t.Errorf("the timeline has %d lines of the end and %d anomalies", ends, anomalies)
	}
}

func TestRepeatedLinesFold(t *testing.T) {
	h := newHistory(t, matrixPolicy, nil).kind(1, Dispatch).kind(2, Received)
	for i := range 10 {
		h.at(float64(3+i), Event{Kind: SaidRunning, Progress: &wire.Progress{Note: fmt.Sprint(i)}})
	}
	last := h.c.Timeline[len(h.c.Timeline)-1]
	if len(h.c.Timeline) != 4 || last.Count != 10 || !last.At.Equal(after(3)) || !last.Until.Equal(after(12)) || last.Detail != "9" {
		t.Errorf("%d lines, the last %+v", len(h.c.Timeline), last)
	}
}

func TestDetailIsBoundedValidText(t *testing.T) {
	for _, text := range []string{strings.Repeat("ä", maxDetail), "broken \xff text", strings.Repeat("x", maxDetail-1) + "ä"} {
		h := newHistory(t, matrixPolicy, nil).at(1, Event{Kind: Cancel, Text: text})
		d := h.c.Detail
		if len(d) > maxDetail || strings.ToValidUTF8(d, "") != d || d == "" {
			t.Errorf("%d bytes %.20q became %d bytes %.20q", len(text), text, len(d), d)
		}
	}
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	ok := matrixPolicy
	bad := ok
	bad.MaxAttempts = 101
	for name, f := range map[string]func() error{
		"policy": func() error { _, err := New(testTID, testDevice, "x", nil, bad, "", nil, t0); return err },
		"device": func() error {
			_, err := New(testTID, wire.Address{Group: "a/b", Device: "c"}, "x", nil, ok, "", nil, t0)
			return err
		},
		"params": func() error { _, err := New(testTID, testDevice, "x", []byte(`{"a":`), ok, "", nil, t0); return err },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestNewCutsTimesAndTakesDefaults(t *testing.T) {
	berlin := time.FixedZone("CET", 3600)
	c, err := New(testTID, testDevice, "x", nil, Policy{}, "", nil, t0.In(berlin).Add(1234567*time.Nanosecond))
	if err != nil {
		t.Fatal(err)
	}
	if want := t0.Add(time.Millisecond); c.Created != want || c.NotAfter != want.Add(24*time.Hour) || c.Wake != c.NotAfter {
		t.Errorf("created %s, not after %s, wake %s", c.Created, c.NotAfter, c.Wake)
	}
	if c.Policy != Defaults {
		t.Errorf("policy %+v", c.Policy)
	}
	if c.Version != 1 || c.State != Created || len(c.Timeline) != 1 || c.Timeline[0].Kind != Create {
		t.Errorf("%+v", c)
	}
}

// A command whose Wake was written by other rules, as by an older version, gets
// the right one with the next event, also where nothing else changes.
func TestApplyMendsWake(t *testing.T) {
	h := newHistory(t, matrixPolicy, nil).kind(1, Dispatch)
	want, version := h.c.Wake, h.c.Version
	h.c.Wake = after(3)
	if h.kind(3, Tick); !h.c.Wake.Equal(want) || h.c.Version != version+1 {
		t.Errorf("wake %s, version %d", h.c.Wake, h.c.Version)
	}
}

// An offline device cannot be tried again, and what is past notAfter is not sent.
func TestWhatMayNotBePublished(t *testing.T) {
	h := newHistory(t, matrixPolicy, nil).kind(60, Dispatch)
	if h.c.State != Expired || h.c.Attempt != 0 {
		t.Errorf("dispatched past notAfter: %s", h.c.State)
	}
	h = newHistory(t, matrixPolicy, nil).kind(1, Dispatch)
	c, effects, err := Apply(h.c, Event{Kind: Retry}, after(2))
	if !errors.Is(err, ErrNotAllowed) || len(effects) > 0 || c.Attempt != 1 {
		t.Errorf("retry of an offline device: %v %v", effects, err)
	}
}

package command

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/wilco-iot/wilco/wire"
)

// to moves the command to s and writes the line of the timeline.
func (m *move) to(s State, r Reason) {
	m.c.State, m.c.Reason = s, r
	m.c.Held = m.c.Held && s == Created
	m.c.Detail = m.detail()
	if m.c.Final() {
		m.c.Ended = m.now
	}
	m.note(s, r, false)
}

// note appends a line to the timeline, or counts on the last one when it says
// the same again.
func (m *move) note(s State, r Reason, anomaly bool) {
	m.changed = true
	e := Entry{At: m.now, Kind: m.ev.Kind, State: s, Reason: r, By: m.by(), Detail: m.detail(), Attempt: m.c.Attempt, Anomaly: anomaly}
	n := len(m.c.Timeline)
	// The slice may be shared with the caller's command: it is cut, so that
	// append copies, and copied before its last line is changed.
	if n > 0 {
		last := m.c.Timeline[n-1]
		same := e.Kind != Undo && last.Kind == e.Kind && last.State == e.State && last.Reason == e.Reason &&
			last.By == e.By && last.Attempt == e.Attempt && last.Anomaly == e.Anomaly
		room := maxTimeline
		if !anomaly {
			room -= maxAnomalies // an anomaly must not take the place of the end that it contradicts
		}
		if e.Kind == Undo && n >= room {
			return // UndoneBy tells it; the line of the end is worth more
		}
		if same || n >= room {
			e.Count, e.Until = max(last.Count, 1)+1, m.now
			if same {
				e.At = last.At
			}
			m.c.Timeline = slices.Clone(m.c.Timeline)
			m.c.Timeline[n-1] = e
			return
		}
	}
	m.c.Timeline = append(m.c.Timeline[:n:n], e)
}

// anomaly keeps what a device said against its command's state; the state stays.
func (m *move) anomaly(r Reason) {
	if m.c.Anomalies >= maxAnomalies {
		return // a device that goes on must not cost a write each time
	}
	m.c.Anomalies++
	m.note(m.c.State, r, true)
}

func (m *move) by() string {
	switch {
	case m.ev.By != "":
		return m.ev.By
	case m.ev.Kind.FromDevice(), m.ev.Kind == Online:
		return "device"
	case m.ev.Kind == Tick:
		return "clock"
	}
	return "server"
}

// detail is what was said in own words: by a person, or by the device.
func (m *move) detail() string {
	s := m.ev.Text
	if r := m.ev.Reason; r != nil && s == "" {
		s = r.Code
		if r.Text != "" {
			s = strings.TrimPrefix(s+": "+r.Text, ": ")
		}
	}
	if p := m.ev.Progress; p != nil && s == "" {
		s = p.Note
	}
	return limited(s)
}

func limited(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxDetail)], "") }

// publish records a publication and asks for it.
func (m *move) publish(e Effect) {
	if e == SendRequest {
		m.c.Attempt++
		m.c.Epoch, m.c.Seq = m.ev.Epoch, m.ev.Seq
		if m.c.FirstSent.IsZero() {
			m.c.FirstSent = m.now
		}
	}
	m.c.Tries++
	m.c.LastSent = m.now
	m.c.Parked = false
	m.changed = true
	m.effects = append(m.effects, e)
}

// inquiry asks what became of the command. A CANCEL asks that too: a device that
// has ended the command answers it with the stored result.
func (m *move) inquiry() Effect {
	if m.c.CancelAsked {
		return SendCancel
	}
	return SendQuery
}

// publishIfOnline is publish, or waits for the device to come online.
func (m *move) publishIfOnline(e Effect) {
	if m.ev.DeviceOnline {
		m.publish(e)
		return
	}
	m.park()
}

func (m *move) park() {
	if !m.c.Parked {
		m.c.Parked, m.changed = true, true
	}
}

// heard records a sign of life from the device about this command.
func (m *move) heard() {
	if m.c.Acked.IsZero() {
		m.c.Acked = m.now // a result or RUNNING implies the ack
	}
	m.c.LastHeard = m.now
	m.c.Tries, m.c.Parked = 0, false
	if m.ev.Boot != "" {
		m.c.Boot = m.ev.Boot
	}
	if m.ev.Progress != nil {
		m.c.Progress = m.ev.Progress
	}
	m.changed = true
}

func ignore(*move) error { return nil }

func cancelUnsent(m *move) error {
	m.to(Cancelled, CancelledUnsent)
	return nil
}

func supersede(m *move) error {
	m.c.SupersededBy = m.ev.SupersededBy
	m.to(Cancelled, Superseded)
	return nil
}

// dispatch publishes for the first time, unless it is too late by now.
func dispatch(m *move) error {
	if !m.now.Before(m.c.NotAfter) {
		m.to(Expired, DeliverByPassed)
		return nil
	}
	m.c.Tries = 0
	m.c.FinishDue = m.now.Add(m.c.Policy.FinishBy.D())
	m.publish(SendRequest)
	m.to(Sent, TurnCame)
	return nil
}

// retry publishes once more with the same tid: a device that has done it
// already answers with its stored result. Where its time was over it is given
// anew.
func retry(m *move) error {
	if m.c.UndoneBy != nil {
		return &NotAllowedError{m.c.State, Retry, "and has been undone: send a new one"}
	}
	if !m.ev.DeviceOnline {
		return &NotAllowedError{m.c.State, Retry, "and its device is offline: it is asked as soon as it is back"}
	}
	if !m.now.Before(m.c.NotAfter) {
		m.c.NotAfter = m.now.Add(m.c.Policy.DeliverBy.D())
	}
	m.c.FinishDue = m.now.Add(m.c.Policy.FinishBy.D())
	m.c.Tries = 0
	m.c.CancelAsked = false
	m.publish(SendRequest)
	m.to(Sent, AskedAgain)
	return nil
}

// cancel asks the device to give up what was sent; only its word ends it.
func cancel(m *move) error {
	m.c.Tries = 0
	m.c.CancelAsked = true
	m.c.FinishDue = later(m.c.FinishDue, m.now.Add(m.c.Policy.patience(m.c.TID))) // time for an answer, also after finish-by
	m.to(Cancelling, CancelAsked)
	m.publishIfOnline(SendCancel)
	return nil
}

func brokerRefused(m *move) error {
	m.c.Refused++
	m.note(m.c.State, BrokerWouldNot, false)
	return nil
}

func received(m *move) error {
	m.heard()
	m.to(Acknowledged, DeviceReceived)
	return nil
}

func receivedCancelling(m *move) error {
	if m.c.Acked.IsZero() {
		m.c.Acked, m.changed = m.now, true
	}
	return nil
}

func running(m *move) error {
	m.heard()
	m.to(Running, DeviceRunning)
	return nil
}

func runningCancelling(m *move) error {
	// Not heard: RUNNING is no answer to the cancel, whose clock goes on.
	if m.c.Acked.IsZero() {
		m.c.Acked = m.now
	}
	m.c.LastHeard = m.now
	if m.ev.Progress != nil {
		m.c.Progress = m.ev.Progress
	}
	m.note(Cancelling, DeviceRunning, false)
	return nil
}

func wontCancel(m *move) error {
	m.heard()
	m.c.CancelAsked = false
	m.to(Running, DeviceWontCancel)
	return nil
}

// heardTimedOut takes the command back into work when its time is not over: the
// device has it, so the outcome is open but no longer in the dark. A cancel that
// was asked for stays asked for: only the device's refusal puts it back to work.
func heardTimedOut(m *move) error {
	asked := m.c.Tries
	m.heard()
	s, r := TimedOut, m.c.Reason
	switch m.ev.Kind {
	case Received:
		s, r = Acknowledged, DeviceReceived
	case SaidRunning:
		s, r = Running, DeviceRunning
	case CancelRefused:
		s, r = Running, DeviceWontCancel
		m.c.CancelAsked = false
	}
	if m.reached(m.c.FinishDue) || m.c.CancelAsked {
		m.c.Tries = asked // it lives, but that is no answer: the questions stay bounded
		m.note(TimedOut, r, false)
		return nil
	}
	m.to(s, r)
	return nil
}

// end takes the device's final word.
func end(m *move) error {
	m.heard()
	m.c.Result, m.c.DeviceState = m.ev.Result, m.ev.State
	s, r := finalWord(m.ev)
	m.to(s, r)
	return nil
}

// succeed takes the word that it is done. Where the command asks for a state, the
// device's report must show it, and is waited for.
func succeed(m *move) error {
	if !m.ev.Unconverged {
		if m.c.Converging {
			m.ev.Result, m.ev.State = m.c.Result, m.c.DeviceState
		}
		m.c.Converging = false
		return end(m)
	}
	if m.c.Converging {
		return nil
	}
	m.heard()
	m.c.Result, m.c.DeviceState = m.ev.Result, m.ev.State
	m.c.Converging, m.c.CancelAsked = true, false
	m.c.FinishDue = later(m.c.FinishDue, m.now.Add(m.c.Policy.patience(m.c.TID))) // time for a report, also after finish-by
	m.to(Running, ReportAwaited)
	return nil
}

// cancelRunning is cancel, but for what the device has done already.
func cancelRunning(m *move) error {
	if m.c.Converging {
		return &NotAllowedError{m.c.State, Cancel, "and its device says that it is done"}
	}
	return cancel(m)
}

// finalWord is the end that a device's message means, and the reason.
func finalWord(ev Event) (State, Reason) {
	code := ""
	if ev.Reason != nil {
		code = ev.Reason.Code
	}
	switch ev.Kind {
	case Succeeded:
		if ev.Reported {
			return Executed, StateReported
		}
		return Executed, DeviceSucceeded
	case SaidFailed:
		if code == wire.ReasonInterrupted {
			return Failed, DeviceInterrupted
		}
		return Failed, DeviceFailed
	case SaidCancelled:
		return Cancelled, DeviceCancelled
	}
	switch code {
	case wire.ReasonPreconditionUnmet:
		return Rejected, PreconditionUnmet
	case wire.ReasonExpired, wire.ReasonStaleSeq, wire.ReasonStaleEpoch, wire.ReasonRetained:
		return Rejected, DeviceTooLate
	case wire.ReasonNotReceived:
		return Rejected, DeviceNeverGotIt
	}
	return Rejected, DeviceRejected
}

// unexpected is a message about a command that was never sent.
func unexpected(m *move) error {
	m.anomaly(Unexpected)
	return nil
}

// afterEnd compares a late message with the end: what agrees with it, or says
// less, is a duplicate and is passed over.
func afterEnd(m *move) error {
	if m.c.State == Expired || m.c.State == Denied || m.c.FirstSent.IsZero() {
		m.anomaly(Unexpected)
		return nil
	}
	switch m.ev.Kind {
	case Received, SaidRunning, CancelRefused:
		return nil
	}
	s, _ := finalWord(m.ev)
	if s == Executed && (m.c.Reason == StateReported || m.c.Reason == NotConverged) {
		return nil // it said so before, or the report said it in its place
	}
	if s != m.c.State || s == Executed && !sameJSON(m.ev.Result, m.c.Result) {
		m.anomaly(Contradiction)
	}
	return nil
}

// sameJSON compares as JSON is stored: without spaces, and with some characters
// escaped. A command that was loaded has the stored form, a message has not.
func sameJSON(a, b json.RawMessage) bool {
	return bytes.Equal(a, b) || bytes.Equal(stored(a), stored(b))
}

func stored(raw json.RawMessage) []byte {
	b, err := json.Marshal(raw)
	if err != nil {
		return raw
	}
	return b
}

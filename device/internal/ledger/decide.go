package ledger

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/wire"
)

// Batch is a decision: Records to be made durable, then Actions to be taken in
// their order. Several decisions may be collected in one Batch.
type Batch struct {
	Records []Record
	Actions []Action
}

// Act says what an action does.
type Act uint8

// The actions.
const (
	Acknowledge Act = iota + 1 // send ack RECEIVED
	Decline                    // send ack REJECTED with Reason, which does not end the command
	Report                     // send result RUNNING now
	Answer                     // send the Final, as an ack if it was Refused
	AnswerQuery                // send the Final, as a result in any case
	Execute                    // run the handler
	Resume                     // run the handler, which had been running when the device went down
	Interrupt                  // ask the handler to stop
)

// Action is one thing to do about a tid.
type Action struct {
	Act    Act
	TID    string
	Reason *wire.Reason // Decline only
}

func (b *Batch) act(a Act, tid string) { b.Actions = append(b.Actions, Action{Act: a, TID: tid}) }

// record applies what has been decided; it always fits, because the decision
// was made from the same state.
func (l *Ledger) record(b *Batch, r Record) {
	if err := l.Apply(r); err != nil {
		panic("ledger: " + err.Error())
	}
	b.Records = append(b.Records, r)
}

// Arrival is a command document with what is known of how it came.
type Arrival struct {
	Command  wire.Command
	Retained bool
	// Problem, if set, is why the command cannot be executed (a document that
	// cannot be read, parameters that do not fit). The TID is set all the same.
	Problem *wire.Reason
	// State, if set, is asked for the device's state when the command is
	// refused.
	State func() json.RawMessage
}

// Command decides about a command document. A zero now means that the device
// does not know the time, and then no deadline has passed.
func (l *Ledger) Command(b *Batch, a Arrival, now time.Time) {
	if e := l.entries[a.Command.TID]; e != nil {
		l.known(b, e, a, now)
		return
	}
	c := a.Command
	refuse := func(code, text string) { l.refuse(b, a, wire.Reason{Code: code, Text: text}, now) }
	switch {
	case a.Retained:
		// It says nothing about the order of commands, and must not move it.
		a.Command.Epoch, a.Command.Seq = 0, 0
		refuse(wire.ReasonRetained, "commands must not be retained")
	case (c.Status == wire.Query || c.Status == wire.Cancel) && l.mayBeForgotten(c.TID):
		// "Not received" could be untrue, and so could "cancelled". Without an answer
		// the outcome stays unknown, which it is.
	case c.Status == wire.Query:
		l.end(b, c.TID, c.Cmd, Final{Status: wire.Rejected,
			Reason: &wire.Reason{Code: wire.ReasonNotReceived, Text: "never seen here; refused from now on"}}, now)
		b.act(AnswerQuery, c.TID)
	case c.Status == wire.Cancel:
		l.end(b, c.TID, c.Cmd, cancelled("cancelled before it arrived"), now)
		b.act(AnswerQuery, c.TID)
	case c.Status != wire.Request: // could not be read
		l.refuse(b, a, *a.Problem, now)
	default:
		l.request(b, a, now)
	}
}

// request decides about a request with a new tid.
func (l *Ledger) request(b *Batch, a Arrival, now time.Time) {
	c := a.Command
	if reason := l.stale(c); reason != nil {
		l.refuse(b, a, *reason, now)
		return
	}
	switch {
	case late(c.NotAfter, now):
		l.refuse(b, a, expired(c.NotAfter, now), now)
	case !l.traits(c.Cmd).Known:
		l.refuse(b, a, wire.Reason{Code: wire.ReasonUnknownCommand, Text: "this device has no such command"}, now)
	case a.Problem != nil:
		l.refuse(b, a, *a.Problem, now)
	case len(l.waiting) >= l.rules.Queue:
		l.refuse(b, a, wire.Reason{Code: wire.ReasonBusy, Text: fmt.Sprintf("%d commands are waiting", len(l.waiting))}, now)
	default:
		l.record(b, Record{Kind: Received, TID: c.TID, Cmd: c.Cmd, Params: c.Params,
			Epoch: c.Epoch, Seq: c.Seq, NotAfter: c.NotAfter, If: c.If, At: now})
		b.act(Acknowledge, c.TID)
	}
}

// stale tells why a request is not above what has been seen, or nil.
func (l *Ledger) stale(c wire.Command) *wire.Reason {
	switch {
	case !l.rules.Ordered:
		return nil
	case c.Epoch < l.epoch:
		return &wire.Reason{Code: wire.ReasonStaleEpoch, Text: fmt.Sprintf("epoch %d is below %d", c.Epoch, l.epoch)}
	case c.Epoch == l.epoch && c.Seq <= l.seq:
		return &wire.Reason{Code: wire.ReasonStaleSeq, Text: fmt.Sprintf("seq %d is not above %d in epoch %d", c.Seq, l.seq, l.epoch)}
	}
	return nil
}

// known decides about a tid seen before: it is never executed again.
func (l *Ledger) known(b *Batch, e *Entry, a Arrival, now time.Time) {
	cancel := a.Command.Status == wire.Cancel && !a.Retained // a retained message is never obeyed
	switch {
	case e.Phase == Done && a.Command.Status == wire.Request:
		b.act(Answer, e.TID)
	case e.Phase == Done:
		b.act(AnswerQuery, e.TID)
	case cancel && e.Phase == Waiting:
		l.end(b, e.TID, e.Cmd, cancelled("cancelled before it was started"), now)
		b.act(AnswerQuery, e.TID)
	case cancel && !l.traits(e.Cmd).Cancellable:
		b.Actions = append(b.Actions, Action{Act: Decline, TID: e.TID,
			Reason: &wire.Reason{Code: wire.ReasonCancelRefused, Text: "it is running and cannot be stopped"}})
	case cancel:
		if !e.Cancelling {
			l.record(b, Record{Kind: Cancelling, TID: e.TID, At: now})
		}
		b.act(Acknowledge, e.TID)
		b.act(Interrupt, e.TID)
	default:
		b.act(Acknowledge, e.TID)
		if e.Phase == Running {
			b.act(Report, e.TID)
		}
	}
}

// Start starts waiting commands while there is room, in order of receipt, and
// ends those that have waited too long, or whose condition does not hold any more.
func (l *Ledger) Start(b *Batch, now time.Time) {
	for len(l.waiting) > 0 && len(l.running) < l.rules.Parallel {
		e, unmet := l.waiting[0], ""
		if len(e.If) > 0 && l.rules.Unmet != nil {
			unmet = l.rules.Unmet(e.If)
		}
		switch {
		case late(e.NotAfter, now):
			reason := expired(e.NotAfter, now)
			l.end(b, e.TID, e.Cmd, Final{Status: wire.Rejected, Reason: &reason}, now)
			b.act(Answer, e.TID)
		case !l.traits(e.Cmd).Known: // known before the restart
			l.end(b, e.TID, e.Cmd, Final{Status: wire.Rejected,
				Reason: &wire.Reason{Code: wire.ReasonUnknownCommand, Text: "this device no longer has such a command"}}, now)
			b.act(Answer, e.TID)
		case unmet != "":
			l.end(b, e.TID, e.Cmd, Final{Status: wire.Rejected,
				Reason: &wire.Reason{Code: wire.ReasonPreconditionUnmet, Text: unmet}}, now)
			b.act(Answer, e.TID)
		default:
			l.record(b, Record{Kind: Started, TID: e.TID, At: now})
			b.act(Execute, e.TID)
		}
	}
}

// End says how the handler of a running command ended. It returns false, and
// decides nothing, when the command is not running.
func (l *Ledger) End(b *Batch, tid string, f Final, now time.Time) bool {
	e := l.entries[tid]
	if e == nil || e.Phase != Running {
		return false
	}
	l.end(b, tid, e.Cmd, f, now)
	b.act(Answer, tid)
	return true
}

// Told says that the server has taken over the answer about a tid.
func (l *Ledger) Told(b *Batch, tid string) {
	if e := l.entries[tid]; e != nil && e.Phase == Done && !e.Handed {
		l.record(b, Record{Kind: Handed, TID: tid})
	}
}

// Reboot decides what becomes of the commands that were running when the
// device went down. It is called once, after the journal has been applied.
func (l *Ledger) Reboot(b *Batch, now time.Time) {
	for _, e := range append([]*Entry(nil), l.running...) {
		if l.traits(e.Cmd).Resumable {
			b.act(Resume, e.TID)
			continue
		}
		l.end(b, e.TID, e.Cmd, Final{Status: wire.Failure, Reason: &wire.Reason{
			Code: wire.ReasonInterrupted, Text: "the device restarted while the command was running"}}, now)
	}
}

func (l *Ledger) refuse(b *Batch, a Arrival, reason wire.Reason, now time.Time) {
	c := a.Command
	f := Final{Status: wire.Rejected, Reason: &reason, Refused: true}
	if a.State != nil {
		f.State = a.State()
	}
	l.record(b, Record{Kind: Ended, TID: c.TID, Cmd: c.Cmd, Epoch: c.Epoch, Seq: c.Seq, At: now, Final: &f})
	b.act(Answer, c.TID)
}

func (l *Ledger) end(b *Batch, tid, cmd string, f Final, now time.Time) {
	l.record(b, Record{Kind: Ended, TID: tid, Cmd: cmd, At: now, Final: &f})
}

func cancelled(text string) Final {
	return Final{Status: wire.Cancelled, Reason: &wire.Reason{Code: wire.ReasonCancelled, Text: text}}
}

// late tells whether a deadline has passed; neither may be known.
func late(notAfter, now time.Time) bool {
	return !notAfter.IsZero() && !now.IsZero() && now.After(notAfter)
}

func expired(notAfter, now time.Time) wire.Reason {
	const layout = "2006-01-02T15:04:05.000Z"
	return wire.Reason{Code: wire.ReasonExpired, Text: fmt.Sprintf("not after %s, but it is %s here",
		notAfter.UTC().Format(layout), now.UTC().Format(layout))}
}

package command

import (
	"encoding/json"

	"github.com/wilco-iot/wilco/wire"
)

// Kind is what happened to a command. Stored; never change.
type Kind string

// The events. The device's own words are Received to SaidCancelled.
const (
	Create Kind = "create" // only as the first line of a timeline; not an event of Apply

	Approve    Kind = "approve"     // a person agrees
	Deny       Kind = "deny"        // a person does not
	BreakGlass Kind = "break_glass" // a person lets it go though others should have agreed
	Cancel     Kind = "cancel"      // a person or program wants it not done
	Retry      Kind = "retry"       // a person wants it tried again, with the same tid
	Supersede  Kind = "supersede"   // a newer command takes its place
	Undo       Kind = "undo"        // a command was made that takes it back

	Dispatch      Kind = "dispatch"       // its turn has come and the device may be sent to
	UnmetNow      Kind = "unmet"          // its turn has come, and its terms forbid to send it
	Misfit        Kind = "misfit"         // the result does not fit the type's schema
	Overtaken     Kind = "overtaken"      // a gateway did something else first, which knew nothing of it
	BrokerRefused Kind = "broker_refused" // the broker answered one SendRequest with a refusal; nothing else is meant by it
	Tick          Kind = "tick"           // Wake has been reached
	Online        Kind = "online"         // the device has come (back) online

	Received      Kind = "received"       // ack RECEIVED
	AckRejected   Kind = "ack_rejected"   // ack REJECTED
	CancelRefused Kind = "cancel_refused" // ack REJECTED cancel_refused: it goes on
	SaidRunning   Kind = "said_running"   // result RUNNING
	Succeeded     Kind = "succeeded"      // result SUCCESS
	SaidFailed    Kind = "said_failed"    // result FAILURE
	SaidRejected  Kind = "said_rejected"  // result REJECTED
	SaidCancelled Kind = "said_cancelled" // result CANCELLED
)

// Kinds lists all events of Apply.
var Kinds = []Kind{Approve, Deny, BreakGlass, Cancel, Retry, Supersede, Dispatch, BrokerRefused, Tick, Online,
	Received, AckRejected, CancelRefused, SaidRunning, Succeeded, SaidFailed, SaidRejected, SaidCancelled, UnmetNow, Misfit, Undo, Overtaken}

// FromDevice says whether k is a message of the device.
func (k Kind) FromDevice() bool {
	switch k {
	case Received, AckRejected, CancelRefused, SaidRunning, Succeeded, SaidFailed, SaidRejected, SaidCancelled:
		return true
	}
	return false
}

// Event is something that happened, with what goes with it.
type Event struct {
	Kind Kind
	By   string // person, token or program; empty for device and clock
	Text string // why, in words of who did it

	// From the device. Result and State are valid JSON, or empty.
	Reason   *wire.Reason
	Progress *wire.Progress
	Result   json.RawMessage
	State    json.RawMessage

	// What the sender knows of the device and of the next publication. It
	// fills these for every event, because any may lead to a publication.
	DeviceOnline bool   // may be sent to now
	Boot         string // the device's present boot id, "" when not known
	InProgress   bool   // with Online: the device lists this tid as in progress
	Epoch, Seq   int64  // the numbers that a publication of the request would carry

	// With Succeeded, of a command that asks for a state: Unconverged, its report
	// does not have that yet; Reported, its report has, whatever else it said.
	Unconverged, Reported bool

	SupersededBy *TID   // with Supersede
	UndoneBy     *TID   // with Undo
	Because      Reason // with UnmetNow: PreconditionUnmet, NoPlace or ChangedSince
	Digest       string // with Approve: of what the person has seen
}

// EventOfAck turns an ack document into an event.
func EventOfAck(a wire.Ack) Event {
	ev := Event{Kind: Received, Reason: a.Reason}
	if a.Status == wire.Rejected {
		ev.Kind = AckRejected
		if a.Reason != nil && a.Reason.Code == wire.ReasonCancelRefused {
			ev.Kind = CancelRefused
		}
	}
	return ev
}

// EventOfResult turns a result document into an event.
func EventOfResult(r wire.Result) Event {
	ev := Event{Kind: SaidRunning, Reason: r.Reason, Progress: r.Progress, Result: r.Result, State: r.State}
	switch r.Status {
	case wire.Success:
		ev.Kind = Succeeded
	case wire.Failure:
		ev.Kind = SaidFailed
	case wire.Rejected:
		ev.Kind = SaidRejected
		if r.Reason != nil && r.Reason.Code == wire.ReasonCancelRefused {
			ev.Kind = CancelRefused // it goes on: anything but "not executed"
		}
	case wire.Cancelled:
		ev.Kind = SaidCancelled
	}
	return ev
}

// Effect is what the caller must do, once the new command is durable.
type Effect string

// The effects: publications on the device's command topic. SendRequest uses
// the Epoch and Seq that the event brought.
const (
	SendRequest Effect = "send_request" // the command itself, with the attempt's own seq
	SendCancel  Effect = "send_cancel"  // CANCEL of the same tid
	SendQuery   Effect = "send_query"   // QUERY: what became of this tid?
)

// Reason says why a command is where it is: a closed set. Stored; never change.
type Reason string

// The reasons.
const (
	Requested         Reason = "requested"             // the command was made
	VoteCounted       Reason = "vote_counted"          // somebody has agreed; more must
	Approved          Reason = "approved"              // all who must have agreed
	GlassBroken       Reason = "break_glass"           // let go without the approval that it needs: an alarm
	NotApproved       Reason = "not_approved"          // somebody denied it
	ApprovalExpired   Reason = "approval_expired"      // not enough have agreed in time
	DeliverByPassed   Reason = "deliver_by_passed"     // never sent in time
	BrokerWouldNot    Reason = "broker_refused"        // the broker refused a publication; with expired: it took none of them
	TurnCame          Reason = "turn_came"             // first publication
	PreconditionUnmet Reason = "precondition_unmet"    // the device's reported state is not what its type asks for
	NoPlace           Reason = "interlocked"           // others that it must not run beside are in flight
	NoAckYet          Reason = "no_ack_yet"            // published again: ack-by ran out
	CameOnline        Reason = "device_came_online"    // published or asked again: the device is back
	DeviceRebooted    Reason = "device_rebooted"       // it has restarted in the middle of the command
	RebootExpected    Reason = "expected_reboot"       // it has restarted, as the command's type expects; it goes on by itself
	AskedAgain        Reason = "asked_again"           // a person's retry
	CancelAsked       Reason = "cancel_requested"      // the device is asked to give it up
	CancelledUnsent   Reason = "cancelled_before_sent" // certainly not executed
	Superseded        Reason = "superseded"            // a newer command took its place while it waited
	DeviceReceived    Reason = "device_received"       // the device has it
	DeviceRunning     Reason = "device_running"        // the device works on it
	DeviceSucceeded   Reason = "device_succeeded"      // executed, in the device's own word
	ReportAwaited     Reason = "report_awaited"        // the device says that it is done; its report must show it
	StateReported     Reason = "state_reported"        // executed: the device's report has what was asked for
	NotConverged      Reason = "not_converged"         // the device said that it is done, and its report never showed it
	DeviceFailed      Reason = "device_failed"         // the device tried and failed
	DeviceInterrupted Reason = "device_interrupted"    // a reboot of the device broke it off
	DeviceRejected    Reason = "device_rejected"       // the device refused it: not executed
	DeviceTooLate     Reason = "device_refused_late"   // past notAfter, or overtaken: stale seq or epoch
	DeviceNeverGotIt  Reason = "device_never_got_it"   // asked, it knows nothing of the tid and will refuse it
	DeviceCancelled   Reason = "device_cancelled"      // confirmed by the device
	DeviceWontCancel  Reason = "device_wont_cancel"    // it goes on
	NoAck             Reason = "no_ack"                // outcome unknown: ack-by ran out for the last time
	HeartbeatMissed   Reason = "heartbeat_missed"      // outcome unknown: RUNNING stayed away
	FinishByPassed    Reason = "finish_by_passed"      // outcome unknown: no result in time
	CancelUnconfirmed Reason = "cancel_unconfirmed"    // outcome unknown: cancel sent, no word
	OutcomeAsked      Reason = "outcome_asked"         // QUERY sent
	NeverSettled      Reason = "never_settled"         // the settle window closed; unknown for ever
	Contradiction     Reason = "contradicts_end"       // anomaly: another final word after the first
	Unexpected        Reason = "unexpected_message"    // anomaly: about a command that was never sent
	AfterClose        Reason = "after_settle_closed"   // anomaly: an answer after the settle window
	ChangedSince      Reason = "changed_since"         // it was to take another back, whose values somebody else has changed by now
	Undone            Reason = "undone"                // a command was made that takes it back
	BadResult         Reason = "bad_result"            // anomaly: executed, and the result does not fit its schema
	GatewayActed      Reason = "gateway_acted"         // anomaly: its gateway did another first, without knowing of it
)

// Reasons lists the closed set.
var Reasons = []Reason{Requested, VoteCounted, Approved, GlassBroken, NotApproved, ApprovalExpired, DeliverByPassed, BrokerWouldNot,
	TurnCame, PreconditionUnmet, NoPlace, NoAckYet, CameOnline, DeviceRebooted, RebootExpected, AskedAgain, CancelAsked, CancelledUnsent, Superseded, DeviceReceived,
	DeviceRunning, DeviceSucceeded, ReportAwaited, StateReported, NotConverged, DeviceFailed, DeviceInterrupted, DeviceRejected, DeviceTooLate,
	DeviceNeverGotIt, DeviceCancelled, DeviceWontCancel, NoAck, HeartbeatMissed, FinishByPassed,
	CancelUnconfirmed, OutcomeAsked, NeverSettled, Contradiction, Unexpected, AfterClose, BadResult, Undone, ChangedSince, GatewayActed}

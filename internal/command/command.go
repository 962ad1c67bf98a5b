// Package command is the life of a command: one pure state machine.
//
//	                 Approve            Dispatch             Received            Running
//	awaiting_approval ───► created ───────────────► sent ─────────► acknowledged ─────► running
//	      │ Deny             │ deliver-by runs out    │  │ ack-by: again, same tid    │
//	      ▼                  ▼                        │  └──────────┬────────────────┘
//	    denied     expired, cancelled                 │             │ the device's result
//	                                                  │             ▼
//	                   a clock runs out after sending │   executed, failed, rejected, cancelled
//	                                                  ▼             ▲
//	                                              timed_out ────────┘ a late answer still settles it,
//	                                          (outcome unknown)       until the settle window closes
//
// cancelling stands beside sent, acknowledged and running: the device must
// confirm. An end is final, and the first final word of the device wins; what
// contradicts it later is kept as an anomaly and changes nothing.
//
// [Apply] is the machine: command, event and time in; command and effects out.
// It reads no clock, does no I/O and never changes its arguments. The whole of
// it is the table in table.go; the actions are in actions.go and clocks.go. The
// caller persists the new command first and carries out the effects after.
//
// [Lane] decides which waiting command of one device goes next. It is as pure,
// and owned by one goroutine.
package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/wire"
)

// TID is the transaction id of a command: a UUIDv7, unique for ever.
type TID = uuid.UUID

// State is where a command stands. Stored; never change.
type State string

// The states. The last six are ends; TimedOut is one when it is Closed.
const (
	AwaitingApproval State = "awaiting_approval" // held until enough people approve
	Created          State = "created"           // waits for its device or its turn; certainly not executed
	Sent             State = "sent"              // published at least once; no word yet
	Acknowledged     State = "acknowledged"      // the device has it
	Running          State = "running"           // the device works on it
	Cancelling       State = "cancelling"        // cancel sent; the device must confirm
	TimedOut         State = "timed_out"         // sent, and the outcome is unknown

	Executed  State = "executed"  // the device says so
	Failed    State = "failed"    // the device says so
	Rejected  State = "rejected"  // the device refused it: not executed
	Expired   State = "expired"   // never sent, or never past the broker: certainly not executed
	Cancelled State = "cancelled" // before it was sent, or confirmed by the device
	Denied    State = "denied"    // not approved, or not allowed by the terms of its type: certainly not executed
)

// States lists all states in the order of a command's life.
var States = []State{AwaitingApproval, Created, Sent, Acknowledged, Running, Cancelling, TimedOut,
	Executed, Failed, Rejected, Expired, Cancelled, Denied}

// Final says whether nothing but anomalies can follow. A timed out command is
// not final: ask [Command.Final].
func (s State) Final() bool {
	switch s {
	case Executed, Failed, Rejected, Expired, Cancelled, Denied:
		return true
	}
	return false
}

// InFlight says whether a command in s takes a place in its device's window.
func (s State) InFlight() bool {
	switch s {
	case Sent, Acknowledged, Running, Cancelling:
		return true
	}
	return false
}

// Command is one request to one device, with all that is known of it. It is a
// value: Apply returns a new one and shares no memory that it writes to.
//
// The JSON form is one that stores keep. Stored; never change the names.
type Command struct {
	TID         TID             `json:"tid"`
	Device      wire.Address    `json:"device"`
	Name        string          `json:"name"`
	Params      json.RawMessage `json:"params,omitempty"`
	Policy      Policy          `json:"policy"`
	RequestedBy string          `json:"requestedBy,omitempty"`
	Key         string          `json:"key,omitempty"`    // idempotency key of the request
	Digest      string          `json:"digest,omitempty"` // of the request's body, to compare with under the same key
	RetryOf     *TID            `json:"retryOf,omitempty"`
	Rollout     string          `json:"rollout,omitempty"`  // id of the roll-out that it is part of
	Approval    *Approval       `json:"approval,omitempty"` // of one that was held
	Created     time.Time       `json:"created"`
	NotAfter    time.Time       `json:"notAfter"` // the device must not begin later

	State   State  `json:"state"`
	Reason  Reason `json:"reason"`           // of the last transition
	Detail  string `json:"detail,omitempty"` // the device's or the person's own words
	Version int64  `json:"version"`          // rises by one with every change

	Attempt int    `json:"attempt,omitempty"` // publications of the request so far
	Refused int    `json:"refused,omitempty"` // of these, refused by the broker
	Tries   int    `json:"tries,omitempty"`   // unanswered publications since the device was last seen to come online
	Epoch   int64  `json:"epoch,omitempty"`   // of the last publication
	Seq     int64  `json:"seq,omitempty"`     // of the last publication
	Boot    string `json:"boot,omitempty"`    // the device's boot when it acknowledged

	Progress    *wire.Progress  `json:"progress,omitempty"`
	Result      json.RawMessage `json:"result,omitempty"`
	DeviceState json.RawMessage `json:"deviceState,omitempty"` // sent by the device with its result

	// Converging: the device has said SUCCESS, and its report of that is awaited.
	Converging bool `json:"converging,omitempty"`
	// Former is what the device reported when the command was first sent, at the
	// paths that the command changes, and After the same when it had ended or timed
	// out: the JSON of package replica. Empty for a command that declares no effects.
	Former json.RawMessage `json:"former,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`

	FirstSent    time.Time `json:"firstSent,omitzero"`
	LastSent     time.Time `json:"lastSent,omitzero"` // request, cancel or query
	Acked        time.Time `json:"acked,omitzero"`
	LastHeard    time.Time `json:"lastHeard,omitzero"`
	TimedOutAt   time.Time `json:"timedOutAt,omitzero"`
	Ended        time.Time `json:"ended,omitzero"`        // when the end state was reached, or the settle window closed
	FinishDue    time.Time `json:"finishDue,omitzero"`    // finish-by as a point in time
	Parked       bool      `json:"parked,omitempty"`      // the device is offline: the clocks that wait for its word stand still
	CancelAsked  bool      `json:"cancelAsked,omitempty"` // somebody wants it not done, and the device has not refused
	Closed       bool      `json:"closed,omitempty"`      // timed out, and the settle window is over
	Anomalies    int       `json:"anomalies,omitempty"`
	SupersededBy *TID      `json:"supersededBy,omitempty"`

	// Wake is when the command wants a Tick; zero: never. Apply keeps it.
	Wake time.Time `json:"wake,omitzero"`

	Timeline []Entry `json:"timeline"`

	Terms *Terms `json:"terms,omitempty"` // of its type; nil: none
	Held  bool   `json:"held,omitempty"`  // its turn has come, and Terms forbid to send it yet

	Undoes   *TID `json:"undoes,omitempty"`   // the command that this one takes back
	UndoneBy *TID `json:"undoneBy,omitempty"` // the last one that was made to take this one back
	Forced   bool `json:"forced,omitempty"`   // it takes back also what others have changed since
}

// Final says whether the command has ended for good.
func (c *Command) Final() bool { return c.State.Final() || c.Closed }

// Entry is one line of a command's timeline. Stored; never change the names.
type Entry struct {
	At      time.Time `json:"at"`
	Kind    Kind      `json:"kind"`
	State   State     `json:"state"` // after the event
	Reason  Reason    `json:"reason"`
	By      string    `json:"by,omitempty"`     // "device", "clock", "server", or a person's or token's name
	Detail  string    `json:"detail,omitempty"` // own words of who did it
	Attempt int       `json:"attempt,omitempty"`
	Count   int       `json:"count,omitempty"` // how often in a row, when more than once
	Until   time.Time `json:"until,omitzero"`  // of the last of them
	Anomaly bool      `json:"anomaly,omitempty"`
}

// Bounds of what one command keeps.
const (
	maxTimeline  = 200  // lines; later lines replace the last
	maxAnomalies = 16   // kept; later ones are only counted by the caller
	maxDetail    = 1024 // bytes of a detail
)

// New makes a command in state Created, or in AwaitingApproval when held is not
// nil; a Digest that held does not have is that of the command. Missing times of
// the policy take their defaults. Times are cut to milliseconds. The error names
// what is wrong: a *PolicyError, the device or params.
func New(tid TID, device wire.Address, name string, params json.RawMessage, p Policy, by string, held *Approval, now time.Time) (Command, error) {
	p = p.WithDefaults()
	if err := p.Check(); err != nil {
		return Command{}, err
	}
	if err := device.Valid(); err != nil {
		return Command{}, fmt.Errorf("device: %w", err)
	}
	if len(params) > 0 && !json.Valid(params) {
		return Command{}, errors.New("params: not valid JSON")
	}
	now = stamp(now)
	c := Command{TID: tid, Device: device, Name: name, Params: params, Policy: p, RequestedBy: by,
		Created: now, NotAfter: now.Add(p.DeliverBy.D()), State: Created, Reason: Requested, Version: 1}
	if held != nil {
		c.hold(*held)
	}
	c.Wake = c.wake()
	c.Timeline = []Entry{{At: now, Kind: Create, State: c.State, Reason: Requested, By: by}}
	return c, nil
}

// ErrNotAllowed is matched by the error of an event that the state forbids.
var ErrNotAllowed = errors.New("not allowed in this state")

// NotAllowedError says which event was refused in which state.
type NotAllowedError struct {
	State State
	Kind  Kind
	Why   string // "" when the state alone says it
}

func (e *NotAllowedError) Error() string {
	s := fmt.Sprintf("%s is not possible: the command is %s", e.Kind, e.State)
	if e.Why != "" {
		s += ", " + e.Why
	}
	return s
}

// Is matches ErrNotAllowed.
func (e *NotAllowedError) Is(target error) bool { return target == ErrNotAllowed }

func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

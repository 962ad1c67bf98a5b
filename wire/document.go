package wire

import (
	"encoding/json"
	"time"
)

// Limits of documents, in bytes where nothing else is said.
const (
	MaxDocument = 256 << 10 // a whole document
	MaxValue    = 192 << 10 // params, result or state, each
	MaxDepth    = 64        // nested objects and arrays, the document itself included
	MaxCmd      = 128       // the name of a command
	MaxCode     = 64        // a reason code; longer ones are cut
	MaxText     = 1024      // texts for people (reason.text, progress.note); longer ones are cut
	MaxLabel    = 128       // boot and firmware
	MaxRunning  = 1000      // entries of inProgress
	MaxCommands = 256       // entries of commands
	MaxCommand  = 64        // one of them
)

// Command asks a device for something.
type Command struct {
	TID    string // transaction id; the same for every attempt, for ever
	Cmd    string // name of the command type; may be empty in CANCEL and QUERY
	Status string // Request, Cancel or Query
	Params json.RawMessage
	// Epoch and Seq order the requests to one device: Seq counts from 1
	// within an Epoch, and both only rise. Zero: not said.
	Seq, Epoch int64
	Attempt    int       // from 1; zero: not said
	Issued     time.Time // when this attempt was made
	NotAfter   time.Time // not to be started later than this; zero: no limit
	// If must hold of what the device reports when it is started: a condition of
	// package wire/state as JSON; empty: none.
	If json.RawMessage
}

// Reason says why: a code for programs and a text for people.
type Reason struct {
	Code string `json:"code,omitempty"`
	Text string `json:"text,omitempty"`
}

// Progress says how far a running command has come.
type Progress struct {
	Percent *float64 `json:"percent,omitempty"` // 0 to 100; nil: not known
	Note    string   `json:"note,omitempty"`
}

// Ack answers whether a command was received.
type Ack struct {
	TID, Status string // Received or Rejected
	Reason      *Reason
}

// Result answers what became of a command.
type Result struct {
	TID, Status string // Running, Success, Failure, Rejected or Cancelled
	Progress    *Progress
	Result      json.RawMessage
	Reason      *Reason
	State       json.RawMessage // the device's state after the command
}

// Status says whether a device is there.
type Status struct {
	Online     bool
	Boot       string // random id made at each start
	TS         time.Time
	Firmware   string
	InProgress []string // tids received and not ended
	Commands   []string // the names of those that it knows; none: not said, it may know any
}

// UpKind says what kind of document a device sent.
type UpKind uint8

// The kinds of documents that come from devices.
const (
	UpAck UpKind = iota + 1
	UpResult
	UpStatus
	UpStateUpdate
	UpStateGet
	UpAct
)

// String returns "ack", "result", "status", "state update", "state get" or "act".
func (k UpKind) String() string {
	switch k {
	case UpAck:
		return "ack"
	case UpResult:
		return "result"
	case UpStatus:
		return "status"
	case UpStateUpdate:
		return "state update"
	case UpStateGet:
		return "state get"
	case UpAct:
		return "act"
	}
	return "unknown"
}

// Up is one document from a device. Only the member that Kind names is set.
// Address comes from the topic, which the broker has authorised; nothing in the
// payload is trusted to say who is talking.
type Up struct {
	Address Address
	Kind    UpKind
	Ack     Ack
	Result  Result
	Status  Status
	Update  StateUpdate
	Get     StateGet
	Act     Act
}

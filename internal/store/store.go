// Package store says what wilco keeps, and what keeping it means.
//
// The types here are the port; store/sqlite keeps them in one file, and
// store/storetest is the suite that every store must pass. Rules that hold for
// all of them:
//
//   - Commit is atomic and durable: when it returns nil the whole batch
//     survives kill -9 and a power cut; when it returns an error nothing of the
//     batch is there. Batches of several callers may share one transaction;
//     one caller's conflict does not touch another's batch.
//   - A store selects, compares and swaps. It never decides: versions and
//     states are computed by its callers.
//   - Times are kept to the millisecond, in UTC.
//   - Errors are of package fault (NotFound, StorageFull, Unavailable, ...) or a
//     *ConflictError; anything else is internal.
//   - All methods are safe for concurrent use and block until done or until
//     their context ends. A Commit whose context ends may still take effect.
package store

import (
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/wire"
)

// Batch is what one Commit writes, whole or not at all.
type Batch struct {
	Commands  []CommandWrite
	Documents []DocumentWrite
	Presence  []Presence // the last one of a device wins
	Anomalies []Anomaly
	Events    []Event // get their IDs, in this order, when they are committed
}

// Empty says whether there is nothing to write.
func (b *Batch) Empty() bool {
	return len(b.Commands)+len(b.Documents)+len(b.Presence)+len(b.Anomalies)+len(b.Events) == 0
}

// CommandWrite puts a command in place of its version Was; 0 means that it
// must not exist. A new command with a Key must be the first with that key for
// its device. What a command was created with (TID, device, name, key, digest,
// who requested it and when) never changes: a store may keep it as it came first.
// A batch may write one command several times; each sees the one before.
type CommandWrite struct {
	Command command.Command
	Was     int64
}

// ConflictError says which commands and documents of a batch were not at the
// version that the batch expected; a command also when its key was taken.
// Nothing of the batch was written.
type ConflictError struct {
	TIDs      []command.TID
	Documents []DocumentID
}

func (e *ConflictError) Error() string {
	if len(e.TIDs) == 0 {
		return fmt.Sprintf("conflict on %d documents, first %s", len(e.Documents), e.Documents[0])
	}
	return fmt.Sprintf("conflict on %d commands, first %s, and %d documents", len(e.TIDs), e.TIDs[0], len(e.Documents))
}

// Open is what must be known of a command that has not ended, to take it up
// again after a restart.
type Open struct {
	TID    command.TID
	Device wire.Address
	State  command.State
	Wake   time.Time // zero: never
	// Priority is that of the command.
	Priority int
	// Interlocked is that of the command: it has places, or will need them.
	Interlocked bool
}

// Query selects commands. Zero fields select all.
type Query struct {
	Group, Device string
	Groups        []string // when Group is empty, only commands of these; none: all
	States        []command.State
	Name          string
	RequestedBy   string
	Since, Before time.Time // of creation; Since included, Before not
	Cursor        string    // of the last page; "" for the first
	Limit         int       // 1 to 1000; 0 means 100
	OldestFirst   bool
}

// Event is one thing that happened, in the order of its commit. ID rises
// without gaps within a store.
type Event struct {
	ID      int64          `json:"id"`
	Type    EventType      `json:"type"`
	At      time.Time      `json:"at"`
	Device  wire.Address   `json:"device"`
	TID     *command.TID   `json:"tid,omitempty"`
	Name    string         `json:"name,omitempty"`
	Kind    command.Kind   `json:"kind,omitempty"`
	From    command.State  `json:"from,omitempty"`
	State   command.State  `json:"state,omitempty"`
	Reason  command.Reason `json:"reason,omitempty"`
	By      string         `json:"by,omitempty"`
	Detail  string         `json:"detail,omitempty"`
	Attempt int            `json:"attempt,omitempty"`
	Percent *float64       `json:"percent,omitempty"` // of the work done, as the device reports it
	Online  *bool          `json:"online,omitempty"`  // device events
	Boot    string         `json:"boot,omitempty"`
	Version int64          `json:"version,omitempty"` // state events: of the replica

	// Of a roll-out's events: its id, and the groups that it is about; none: all. From,
	// State and Reason are the roll-out's, and Percent is how many of its targets have ended.
	Rollout string   `json:"rollout,omitempty"`
	Groups  []string `json:"groups,omitempty"`
}

// EventType is what an event is about. Stored; never change.
type EventType string

// The types of events.
const (
	EventCommand EventType = "command" // a line of a command's timeline
	EventDevice  EventType = "device"  // a device came online, went offline, or rebooted
	EventState   EventType = "state"   // what is desired or reported of a device has changed
	EventAnomaly EventType = "anomaly" // a device said what it should not have said
	EventRollout EventType = "rollout" // a line of a roll-out's log, or it has come further
	EventAlarm   EventType = "alarm"   // somebody should look: a hook or a roll-out says so, or an approval was passed over
)

// Presence is what a device last said of itself, or its Will for it.
type Presence struct {
	Device   wire.Address
	Known    bool // false: it has never said anything
	Online   bool
	Boot     string
	Firmware string
	Commands []string  // names of those that it knows; none: it has not said
	Since    time.Time // of the last change of Online or Boot
	Seen     time.Time // of the last status
}

// Anomaly is something that a device said and that was not obeyed. A store
// keeps the last 100 of a device.
type Anomaly struct {
	At     time.Time    `json:"at"`
	Device wire.Address `json:"device"`
	Kind   string       `json:"kind"` // of the closed set in package engine
	TID    string       `json:"tid,omitempty"`
	Topic  string       `json:"topic,omitempty"`
	Detail string       `json:"detail"` // what was wrong; at most 1 KiB, the field named
}

// AnomaliesKept is how many anomalies of a device are kept.
const AnomaliesKept = 100

// Device is a registered device, and its presence.
type Device struct {
	Address  wire.Address
	Secret   []byte // keyed hash of the secret; nil: it cannot log in
	Profile  string // "" means the server's default
	Window   int    // commands in flight; 0 means 1
	Tags     []string
	Note     string
	Disabled bool
	Via      wire.Address // of the gateway that it is behind; zero: none
	Created  time.Time
	Rotated  time.Time // of the secret
	Version  int64     // rises by one with every write
	Presence Presence
}

// DeviceQuery selects devices. Zero fields select all.
type DeviceQuery struct {
	Group  string
	Groups []string // when Group is empty, only devices of these; none: all
	Tag    string
	Online *bool
	Cursor string
	Limit  int // 1 to 1000; 0 means 100
}

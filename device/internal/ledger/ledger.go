// Package ledger decides what a device does about each command, from what it
// has seen before. It is pure: no clock, no I/O, the same calls give the same
// decisions.
//
//	              +---------+  slot free   +---------+  handler returned
//	REQUEST ----> | waiting | -----------> | running | ------------------+
//	   |          +---------+              +---------+                   v
//	   |               | CANCEL, notAfter       | reboot, not resumable  +-------+
//	   |               +------------------------+----------------------> | ended |
//	   +-- stale, expired, retained, unknown, busy, bad ---------------> +-------+
//
// A decision is a [Batch]: records to be made durable first, then actions to be
// taken. The caller appends the records to its journal, waits for that, and only
// then acts. Invariants, whatever is duplicated, reordered or replayed:
//
//   - a tid gets at most one Execute action for each start of the device, and
//     after a reboot another only if its command is resumable;
//   - no request that is not above the highest (epoch, seq) is executed;
//   - a tid that has ended is always answered with the same Final, as long as
//     it is kept, and of one that may have been forgotten nothing is said;
//   - the ledger equals the fold of all records it has ever given out.
//
// A Ledger is not safe for concurrent use.
package ledger

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/wire"
)

// Rules are the settings of a ledger.
type Rules struct {
	Ordered   bool          // commands carry epoch and seq
	Parallel  int           // how many commands run at a time
	Queue     int           // how many may wait
	KeepCount int           // how many ended commands to remember, at most
	KeepFor   time.Duration // and how long
	// Unmet says why a command's condition does not hold now, "" when it does.
	Unmet func(condition json.RawMessage) string
}

// Traits are what the device's program says of one kind of command.
type Traits struct {
	Known       bool // there is a handler
	Cancellable bool // it can be asked to stop
	Resumable   bool // it can go on after a reboot
}

// Phase is how far a command has come.
type Phase uint8

// The phases of a command.
const (
	Waiting Phase = iota + 1
	Running
	Done
)

// Entry is what the ledger knows of one command.
type Entry struct {
	TID        string
	Cmd        string
	Params     json.RawMessage
	Epoch, Seq int64
	NotAfter   time.Time
	If         json.RawMessage // its condition; empty: none
	Phase      Phase
	Cancelling bool
	Final      *Final    // set exactly when Phase is Done
	EndedAt    time.Time // when Phase is Done
	Handed     bool      // the server knows the Final
}

// Ledger is the memory of a device. Entries are owned by it; callers only read.
type Ledger struct {
	rules  Rules
	traits func(cmd string) Traits

	entries map[string]*Entry
	waiting []*Entry // in order of receipt
	running []*Entry // in order of start; at most rules.Parallel but for resumed ones
	done    []*Entry // in order of end

	epoch, seq int64 // the highest seen; no request at or below is executed
	// forgotten is the highest tid of a command that was begun and is not kept any
	// more: of an unknown one up to it nobody knows what became of it.
	forgotten string

	reported json.RawMessage // the last state that was to be kept; nil: none
}

// New returns an empty ledger. Traits is asked about commands by name, and must
// answer the same every time.
func New(rules Rules, traits func(cmd string) Traits) *Ledger {
	return &Ledger{rules: rules, traits: traits, entries: make(map[string]*Entry)}
}

// Apply changes the ledger by one record, as read from a journal or just
// decided. A record that does not follow from those before is an error: the
// journal is not the one of this device, or has lost something.
func (l *Ledger) Apply(r Record) error {
	if r.Epoch > l.epoch || (r.Epoch == l.epoch && r.Seq > l.seq) {
		l.epoch, l.seq = r.Epoch, r.Seq
	}
	switch r.Kind {
	case Floor:
		l.forgotten = max(l.forgotten, r.TID)
		return nil
	case Reported:
		l.reported = r.State
		return nil
	}
	e := l.entries[r.TID]
	var from []Phase
	switch r.Kind {
	case Received:
		if e != nil {
			return fmt.Errorf("tid %s is received twice", r.TID)
		}
		e = &Entry{TID: r.TID, Cmd: r.Cmd, Params: r.Params, Epoch: r.Epoch, Seq: r.Seq, NotAfter: r.NotAfter, If: r.If, Phase: Waiting}
		l.entries[r.TID] = e
		l.waiting = append(l.waiting, e)
		return nil
	case Ended:
		if e == nil { // refused at once
			e = &Entry{TID: r.TID, Cmd: r.Cmd, Phase: Waiting}
			l.entries[r.TID] = e
		}
		from = []Phase{Waiting, Running}
	case Started:
		from = []Phase{Waiting}
	case Cancelling:
		from = []Phase{Running}
	case Handed:
		from = []Phase{Done}
	}
	if e == nil || !slices.Contains(from, e.Phase) {
		return fmt.Errorf("tid %s cannot be %s now", r.TID, r.Kind)
	}
	l.advance(e, r)
	return nil
}

// advance changes an entry by a record that fits it.
func (l *Ledger) advance(e *Entry, r Record) {
	same := func(x *Entry) bool { return x == e }
	switch r.Kind {
	case Started:
		l.waiting = slices.DeleteFunc(l.waiting, same)
		l.running = append(l.running, e)
		e.Phase = Running
	case Cancelling:
		e.Cancelling = true
	case Ended:
		l.waiting = slices.DeleteFunc(l.waiting, same)
		l.running = slices.DeleteFunc(l.running, same)
		l.done = append(l.done, e)
		*e = Entry{TID: e.TID, Cmd: e.Cmd, Phase: Done, Final: r.Final, EndedAt: r.At}
	case Handed:
		e.Handed = true
	}
}

// Get returns what is known of a tid, or nil.
func (l *Ledger) Get(tid string) *Entry { return l.entries[tid] }

// Highest returns the highest (epoch, seq) seen.
func (l *Ledger) Highest() (epoch, seq int64) { return l.epoch, l.seq }

// Len returns how many tids are known.
func (l *Ledger) Len() int { return len(l.entries) }

// InProgress returns the tids that have not ended: running ones in order of
// start, then waiting ones in order of receipt.
func (l *Ledger) InProgress() []string {
	tids := make([]string, 0, len(l.running)+len(l.waiting))
	for _, e := range l.running {
		tids = append(tids, e.TID)
	}
	for _, e := range l.waiting {
		tids = append(tids, e.TID)
	}
	return tids
}

// Owed returns the ended tids whose end the server may not know, in order.
func (l *Ledger) Owed() []string {
	var tids []string
	for _, e := range l.done {
		if !e.Handed {
			tids = append(tids, e.TID)
		}
	}
	return tids
}

// Forget drops ended commands that are too many or too old and whose end the
// server knows. It gives out no record: call it before Snapshot only.
// Commands forgotten are still refused when a copy comes, because the highest
// (epoch, seq) is never forgotten; asked about them the device says nothing. When
// now is zero, age does not count.
func (l *Ledger) Forget(now time.Time) {
	surplus := len(l.done) - l.rules.KeepCount
	l.done = slices.DeleteFunc(l.done, func(e *Entry) bool {
		old := !now.IsZero() && now.Sub(e.EndedAt) > l.rules.KeepFor
		if !e.Handed || (surplus <= 0 && !old) {
			return false
		}
		surplus--
		if e.Final.Status != wire.Rejected {
			l.forgotten = max(l.forgotten, e.TID)
		}
		delete(l.entries, e.TID)
		return true
	})
}

// mayBeForgotten tells of an unknown tid whether it may be that of a command that
// was begun. Servers make tids that rise with time; of others nobody can say which
// is older.
func (l *Ledger) mayBeForgotten(tid string) bool {
	risesWithTime := len(tid) == 36 && tid[14] == '7' // a UUID of version 7
	return l.forgotten != "" && (!risesWithTime || tid <= l.forgotten)
}

// Snapshot returns the shortest list of records from which the ledger can be
// built again.
func (l *Ledger) Snapshot() []Record {
	all := make([]Record, 0, 1+2*len(l.entries))
	for _, e := range l.done {
		all = append(all, Record{Kind: Ended, TID: e.TID, Cmd: e.Cmd, At: e.EndedAt, Final: e.Final})
		if e.Handed {
			all = append(all, Record{Kind: Handed, TID: e.TID})
		}
	}
	for _, e := range l.running {
		all = append(all, e.received(), Record{Kind: Started, TID: e.TID})
		if e.Cancelling {
			all = append(all, Record{Kind: Cancelling, TID: e.TID})
		}
	}
	for _, e := range l.waiting {
		all = append(all, e.received())
	}
	if l.reported != nil {
		all = append(all, Record{Kind: Reported, State: l.reported})
	}
	return append(all, Record{Kind: Floor, TID: l.forgotten, Epoch: l.epoch, Seq: l.seq})
}

// Report keeps the state that the device reports, in place of the one before.
func (l *Ledger) Report(b *Batch, state json.RawMessage) {
	l.record(b, Record{Kind: Reported, State: state})
}

// Reported returns the state that was kept last; nil when there was none.
func (l *Ledger) Reported() json.RawMessage { return l.reported }

func (e *Entry) received() Record {
	return Record{Kind: Received, TID: e.TID, Cmd: e.Cmd, Params: e.Params, Epoch: e.Epoch, Seq: e.Seq, NotAfter: e.NotAfter, If: e.If}
}

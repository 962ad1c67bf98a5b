// Package rules decides when a gateway acts on its own: dead-man rules.
//
// A [Rule] holds while the server has been out of reach for long enough, while
// the reported state of a device is as a condition says, or while both are so. It
// is due when it begins to hold, and after that only if it says Again, each time
// that this has passed. When it does not hold any more it is armed anew.
//
//	        holds                    done
//	armed ───────────► due (key n) ────────► resting ── Again has passed ──► due (key n+1)
//	  ▲                     │                    │
//	  └──── does not hold ──┴────────────────────┘
//
// The package is pure. A [State] is a value that the caller keeps on a disk: it
// stores what Step has returned, does what is due under the idempotency key of
// the [Firing], and stores what Done returns. Whenever that is broken off, the
// next Step gives the same firing with the same key again, so that one holding
// makes one command, also over kill -9.
//
// Times that have a monotonic reading keep it, so that setting the clock neither
// makes a rule due nor keeps it from being due. Of a time that was read from a disk,
// and that lies ahead of the clock, the clock is believed: it counts from now.
package rules

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// KeyPrefix begins the idempotency keys of what rules do. Nobody else may use such
// keys. Stored; never change.
const KeyPrefix = "rule/"

// Rule is one dead-man rule. It has Down, If, or both.
type Rule struct {
	Name string // unique among the rules
	// Down is how long the server must have been out of reach; 0: it need not.
	Down time.Duration
	// Of is the device whose reported state If asks about.
	Of wire.Address
	If *state.Condition // nil: none
	// Again is after how long it is due once more while it goes on holding; 0: never.
	Again time.Duration
	Do    Action
}

// Action is what a rule does: exactly one of its three ways.
type Action struct {
	Device   wire.Address
	Rollback bool         // undo the last change of what is desired of the device
	Desired  state.Object // merge patch of what is desired
	Command  string       // the name of a command, with Params
	Params   json.RawMessage
}

// State is what must outlast the process. The zero value is that of a gateway
// that has the server. Stored; never change the names.
type State struct {
	Down  time.Time       `json:"down,omitzero"`   // since when the server is out of reach; zero: it is not
	Holds map[string]Hold `json:"holds,omitempty"` // by the name of each rule that holds
}

// Hold is one time that a rule holds. Stored; never change the names.
type Hold struct {
	Since time.Time `json:"since"`
	Times int       `json:"times,omitempty"` // how often it was done
	Last  time.Time `json:"last,omitzero"`   // when it was done last
}

// Firing is a rule that is due.
type Firing struct {
	Rule *Rule
	Key  string // the same as long as it is not done
}

// Reach gives s after the server has come into reach, or has gone out of it at
// now. It says whether that is new. Being told again changes nothing: the time
// out of reach counts from the first word.
func (s State) Reach(up bool, now time.Time) (State, bool) {
	if up == s.Down.IsZero() {
		return s, false
	}
	s.Down = time.Time{}
	if !up {
		s.Down = now
	}
	return s, true
}

// settle takes back to now what lies ahead of it.
func (s *State) settle(now time.Time) (changed bool) {
	if s.Down.After(now) {
		s.Down, changed = now, true
	}
	for name, h := range s.Holds {
		if h.Last.After(now) {
			h.Last, changed = now, true
			s.Holds[name] = h
		}
	}
	return changed
}

// Step looks at the rules at now. It returns the state to be stored, whether that
// is another, and what is due, in the order of the rules. Reported gives the state
// of a device.
func (s State) Step(list []Rule, reported func(wire.Address) state.Reported, now time.Time) (next State, changed bool, due []Firing) {
	next = s
	next.Holds = maps.Clone(s.Holds)
	changed = next.settle(now)
	for i := range list {
		r := &list[i]
		h, held := next.Holds[r.Name]
		if !r.holds(&next, reported, now) {
			if held {
				delete(next.Holds, r.Name)
				changed = true
			}
			continue
		}
		if !held {
			if next.Holds == nil {
				next.Holds = map[string]Hold{}
			}
			h = Hold{Since: now}
			next.Holds[r.Name] = h
			changed = true
		}
		if h.Times == 0 || r.Again > 0 && !now.Before(h.Last.Add(r.Again)) {
			due = append(due, Firing{Rule: r, Key: fmt.Sprintf("%s%s/%d/%d", KeyPrefix, r.Name, h.Since.UnixMilli(), h.Times+1)})
		}
	}
	return next, changed, due
}

func (r *Rule) holds(s *State, reported func(wire.Address) state.Reported, now time.Time) bool {
	if r.Down > 0 && (s.Down.IsZero() || now.Before(s.Down.Add(r.Down))) {
		return false
	}
	return r.If == nil || r.If.Check(reported(r.Of)) == nil
}

// Done gives s after a firing has been carried out at now.
func (s State) Done(f Firing, now time.Time) State {
	h, ok := s.Holds[f.Rule.Name]
	if !ok {
		return s
	}
	s.Holds = maps.Clone(s.Holds)
	h.Times, h.Last = h.Times+1, now
	s.Holds[f.Rule.Name] = h
	return s
}

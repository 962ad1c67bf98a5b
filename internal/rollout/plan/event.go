package plan

import "fmt"

// Kind is what happened. Stored; never change.
type Kind string

// The kinds of events.
const (
	Tick       Kind = "tick"    // Wake may have come
	Restarted  Kind = "restart" // the server has; what it had in hand is in doubt
	Became     Kind = "became"  // targets have commands (Open), cannot have any (Skipped), have ended or timed out
	Found      Kind = "found"   // there are Count more targets
	Pause      Kind = "pause"
	Resume     Kind = "resume" // also: lets a wave pass that has missed its gate
	Abort      Kind = "abort"
	Approve    Kind = "approve"
	Deny       Kind = "deny"
	BreakGlass Kind = "break_glass"
	Settled    Kind = "settled"  // no late answer can change the counts of one that has ended any more
	Orphaned   Kind = "orphaned" // who answers for it cannot any more; Text says why
)

// Event is one thing that happened.
type Event struct {
	Kind   Kind
	By     string   // of a person's
	User   bool     // By is a user
	Text   string   // their reason
	Digest string   // with Approve: of what the person has seen
	Count  int      // with Found
	To     []Change // with Became
}

// Change is what became of a target.
type Change struct {
	Target int
	Cell   Cell
}

// Act is what the caller must do. All of them may be done again.
type Act string

// The actions.
const (
	Start  Act = "start"  // make the commands of targets From up to To
	Find   Act = "find"   // say of targets From up to To whether their commands were made; make none
	Cancel Act = "cancel" // cancel the commands under way that were never sent
	Alarm  Act = "alarm"  // tell people; Target is the one whose end was the last, or -1
)

// Action is one thing to do, after the roll-out is committed.
type Action struct {
	Act      Act
	From, To int
	Target   int
	Text     string
}

// NotAllowedError says which event was refused in which state.
type NotAllowedError struct {
	State State
	Kind  Kind
	Why   string // "" when the state alone says it
}

func (e *NotAllowedError) Error() string {
	s := fmt.Sprintf("%s is not possible: the roll-out is %s", e.Kind, e.State)
	if e.Why != "" {
		s += ", " + e.Why
	}
	return s
}

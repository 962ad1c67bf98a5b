// Package plan is the life of a roll-out: one command to many devices, in waves.
//
//	                      approve             start at
//	awaiting_approval ────────────► scheduled ─────────► running ◄──────► paused
//	       │ deny, too late             │                 │  │  pause, resume,  │
//	       ▼                            │           all   │  │  gate missed     │
//	     denied                         │         ended   ▼  ▼                  │
//	                                    │          finished  aborting ◄─────────┘
//	                                    │                       │ nothing is open
//	                                    └──────► aborted ◄──────┘
//
// An end is for good; only the counts of one still change, when the outcome of a
// target was unknown and a late answer settles it.
//
// [Step] is the machine: roll-out, event and time in; roll-out and actions out. It
// reads no clock, does no I/O and never changes its arguments, so a caller commits
// the new roll-out first, carries out the actions after, and keeps the old one when
// the commit fails.
//
// What holds at every step:
//
//   - A target is started at most once: it leaves [Waiting] with a Start action, and
//     nothing goes back to Waiting.
//   - Nothing is started unless the state is running, a window is open, the wave before
//     has passed its gate and its soak, and neither rate nor concurrency is exceeded.
//   - After the step in which the share of bad ends passes the threshold nothing is
//     started any more.
//   - The counts of the waves are those of the targets' states.
//
// Targets are known by their numbers here: 0 to Total-1, in the order in which they
// are started. Who they are is the caller's.
package plan

import (
	"time"

	"github.com/wilco-iot/wilco/internal/command"
)

// State is where a roll-out stands. Stored; never change.
type State string

// The states. The last three are ends.
const (
	AwaitingApproval State = "awaiting_approval" // held as a whole until enough people approve
	Scheduled        State = "scheduled"         // waits for its start
	Running          State = "running"
	Paused           State = "paused"   // starts nothing; what is open goes on
	Aborting         State = "aborting" // starts nothing more; what was never sent is cancelled
	Finished         State = "finished" // every target has ended
	Aborted          State = "aborted"
	Denied           State = "denied" // nothing was started
)

// Damaged is shown in place of the state of a roll-out whose record cannot be read.
// It is none of the machine's, and never stored.
const Damaged State = "damaged"

// States lists all states in the order of a roll-out's life.
var States = []State{AwaitingApproval, Scheduled, Running, Paused, Aborting, Finished, Aborted, Denied}

// Final says whether nothing can follow.
func (s State) Final() bool { return s == Finished || s == Aborted || s == Denied }

// Reason is why the last change of state happened. Stored; never change.
type Reason string

// The reasons.
const (
	Requested       Reason = "requested"
	VoteCounted     Reason = "vote_counted"
	Approved        Reason = "approved"
	GlassBroken     Reason = "break_glass"
	NotApproved     Reason = "not_approved"
	ApprovalExpired Reason = "approval_expired"
	Begun           Reason = "begun"
	WavePassed      Reason = "wave_passed"
	ByPerson        Reason = "by_person"
	GateMissed      Reason = "gate_missed"       // too few of a wave were executed
	TooManyBad      Reason = "too_many_failures" // the threshold was passed
	DeadlineReached Reason = "deadline"
	AllEnded        Reason = "all_ended"
	NothingOpen     Reason = "nothing_open"
	TargetsFound    Reason = "targets_found"
	NobodyAnswers   Reason = "nobody_answers" // the user who answers for it is disabled or removed
)

// Hold is what a running roll-out that starts nothing at the moment waits for.
// Stored; never change.
type Hold string

// The holds.
const (
	NoHold        Hold = ""
	ForWindow     Hold = "window"
	ForRate       Hold = "rate"
	ForPlaces     Hold = "concurrency"
	ForEnds       Hold = "ends" // of what was started: a gate, or the end of the roll-out
	ForSoak       Hold = "soak"
	ForNewDevices Hold = "new_devices" // all have ended; it is open for more until its deadline
)

// Rollout is one roll-out with all that is known of it, but for who its targets are
// and what state each is in: those are in Cells. It is a value: Step returns a new
// one and shares no memory that it writes to.
//
// The JSON form is the stored one; never change the names.
type Rollout struct {
	ID string `json:"id"`
	// Run tells it from others that had its name before; "" of old ones.
	Run  string `json:"run,omitempty"`
	Spec Spec   `json:"spec"`
	By   string `json:"by"`
	// Answers is who answers for it: who made it, or has resumed it since; none of old ones.
	Answers Party    `json:"answers,omitzero"`
	Groups  []string `json:"groups"`          // of its targets, sorted
	Scope   []string `json:"scope,omitempty"` // groups that By may send to; none: all
	// Policy and Terms are those that every command of it gets, as they were when it
	// was made: a type that changes later changes nothing.
	Policy   command.Policy    `json:"policy"`
	Terms    *command.Terms    `json:"terms,omitempty"`
	Digest   string            `json:"digest"`             // of command and targets
	Approval *command.Approval `json:"approval,omitempty"` // of one that was held
	Undoes   string            `json:"undoes,omitempty"`   // the roll-out that this one takes back
	UndoneBy string            `json:"undoneBy,omitempty"`
	Desires  bool              `json:"desires,omitempty"` // with Undoes: By may change what is desired of its devices

	Created time.Time `json:"created"`
	Begun   time.Time `json:"begun,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`

	// Settled says of one that has ended that no late answer can change its counts any more.
	Settled bool `json:"settled,omitempty"`

	State  State  `json:"state"`
	Reason Reason `json:"reason"`
	Detail string `json:"detail,omitempty"`
	Hold   Hold   `json:"hold,omitempty"`

	Total     int         `json:"total"`
	Next      int         `json:"next"` // the first target that was not started
	Wave      int         `json:"wave"` // number of the wave that is under way
	Waves     []WaveState `json:"waves"`
	SoakUntil time.Time   `json:"soakUntil,omitzero"` // of the wave, which has passed its gate
	Waived    bool        `json:"waived,omitempty"`   // a person has let the wave pass

	Credit   int64     `json:"credit,omitempty"` // of the rate, in starts times a minute in nanoseconds
	CreditAt time.Time `json:"creditAt,omitzero"`

	// Wake is when it wants a Tick; zero: never. Step keeps it.
	Wake time.Time `json:"wake,omitzero"`

	Log   []Entry `json:"log"`             // the last maxLog lines
	Lines int     `json:"lines,omitempty"` // of the log, with those that are gone

	// Cells are the states of the targets. Kept beside the JSON.
	Cells Cells `json:"-"`
	// Zones has the time zones of the windows by name; Step needs them.
	Zones map[string]*time.Location `json:"-"`
}

// Party is who has asked for something.
type Party struct {
	Name string `json:"name"`
	User bool   `json:"user,omitempty"` // a person, who may be disabled; else a token or a program
}

// WaveState is one wave as it was cut, and how far it is.
type WaveState struct {
	End    int    `json:"end"` // the first target behind it
	Counts Counts `json:"counts"`
}

// Entry is one line of what happened to a roll-out. Stored; never change the names.
type Entry struct {
	At     time.Time `json:"at"`
	State  State     `json:"state"`
	Reason Reason    `json:"reason"`
	By     string    `json:"by,omitempty"` // a person's or token's name; "": the server
	Detail string    `json:"detail,omitempty"`
}

const maxLog = 200

// Counts are how many targets are in which state.
type Counts [nCells]int

// Sum of all.
func (c *Counts) Sum() (n int) {
	for _, k := range c {
		n += k
	}
	return n
}

// Open is how many are under way.
func (c *Counts) Open() int { return c[Starting] + c[Open] }

// Bad is how many count against the threshold.
func (c *Counts) Bad() int { return c[Failed] + c[Rejected] + c[TimedOut] }

// Places are the groups that a roll-out is about; none: all.
func (r *Rollout) Places() []string {
	if r.Spec.Dynamic {
		return r.Scope
	}
	return r.Groups
}

// Follow says whether it can still change.
func (r *Rollout) Follow() bool {
	all := r.Counts()
	return !r.State.Final() || all[TimedOut] > 0 && !r.Settled
}

// Percent is how many of a hundred targets have ended.
func (r *Rollout) Percent() int {
	all := r.Counts()
	return 100 * (r.Total - all[Waiting] - all.Open()) / max(r.Total, 1)
}

// Counts are those of all waves together.
func (r *Rollout) Counts() (all Counts) {
	for i := range r.Waves {
		for s, n := range r.Waves[i].Counts {
			all[s] += n
		}
	}
	return all
}

package session

// State is what is known of an edge node.
type State uint8

// The states.
const (
	Unknown    State = iota // no NBIRTH and no NDEATH seen
	Online                  // all messages since the NBIRTH are applied
	Reordering              // online, and messages are held behind a hole
	Resync                  // messages are lost: nothing counts before an NBIRTH
	Offline                 // dead
	states
)

var stateNames = [...]string{"unknown", "online", "reordering", "resync", "offline"}

// String returns a word for logs and labels.
func (s State) String() string { return word(stateNames[:], int(s)) }

// kind is an input of the machine.
type kind uint8

const (
	birth    kind = iota // an NBIRTH
	repeat               // the NBIRTH in force, once more
	early                // an NBIRTH that its NDEATH has overtaken
	noBirth              // an NBIRTH that cannot be read
	death                // an NDEATH of the session in force, as far as can be told
	stray                // an NDEATH of another session
	next                 // a message with the number expected
	ahead                // one with a number 1 to 127 after that
	behind               // one with a number passed already, and newer than what was applied
	again                // one with a number passed already, and not newer
	outdated             // one of the time before a rebirth
	broken               // what cannot be used in any state
	holeDue              // a hole has had its time
	penDue               // a penned message has had its time
	lost                 // the connection to the broker ended
	found                // it is there again
	kinds
)

// step is what is done.
type step uint8

const (
	nothing step = iota
	beBorn
	ignore
	die
	apply  // and then what was held behind it
	hold   // until the hole is filled
	pen    // until its NBIRTH comes
	late   // left out
	reject // left out, and called malformed
	ask    // for a rebirth
	giveUp // and ask for a rebirth
	doubt  // everything: become stale, and wait for the connection
	forget // what was held
)

// table is the whole machine. Numbers mean nothing where no NBIRTH is in force,
// so every numbered message is penned there.
var table = [states][kinds]step{
	Unknown: {
		birth: beBorn, repeat: beBorn, early: beBorn, noBirth: ask, death: die, stray: die,
		next: pen, ahead: pen, behind: pen, again: pen, outdated: pen, broken: reject,
		holeDue: nothing, penDue: ask, lost: forget, found: nothing,
	},
	Online: {
		birth: beBorn, repeat: ignore, early: ignore, noBirth: giveUp, death: die, stray: ignore,
		next: apply, ahead: hold, behind: pen, again: late, outdated: late, broken: reject,
		holeDue: nothing, penDue: giveUp, lost: doubt, found: nothing,
	},
	Reordering: {
		birth: beBorn, repeat: ignore, early: ignore, noBirth: giveUp, death: die, stray: ignore,
		next: apply, ahead: hold, behind: pen, again: late, outdated: late, broken: reject,
		holeDue: giveUp, penDue: giveUp, lost: doubt, found: nothing,
	},
	Resync: {
		birth: beBorn, repeat: ignore, early: ignore, noBirth: ask, death: die, stray: ignore,
		next: pen, ahead: pen, behind: pen, again: pen, outdated: pen, broken: reject,
		holeDue: nothing, penDue: ask, lost: doubt, found: ask,
	},
	Offline: {
		birth: beBorn, repeat: ignore, early: ignore, noBirth: ask, death: ignore, stray: ignore,
		next: pen, ahead: pen, behind: pen, again: pen, outdated: pen, broken: reject,
		holeDue: nothing, penDue: ask, lost: forget, found: nothing,
	},
}

package order

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// PropertyGap is the name of the MQTT 5 user property by which a wilco broker
// tells a subscriber what its session has lost: a count, a space, and why, as in
// "3 queue_full". It comes with the next message, once for each reason. Sent;
// never change.
const PropertyGap = "wilco-gap"

// ErrGap says that a gap note is not as it must be.
var ErrGap = errors.New("gap note is malformed")

// noteReasons are the broker's words for what a Reason says less exactly. All
// other words mean Lost.
var noteReasons = map[string]Reason{
	"expired": Expired, "queue_full": Overflow, "qos0_full": Overflow, "overflow": Overflow, "denied": Denied,
}

// Notes counts messages that a session has lost, by why, and have not been found
// missing in a stream. A broker tells of a loss when it happens, often before
// the numbers around it arrive; and of all topics of the session at once. So one
// Notes belongs to one session, and serves all its trackers. The zero value is
// empty. Not safe for concurrent use.
type Notes struct {
	lost [len(reasonNames)]uint64
}

// ParseGap reads the gap notes out of the user properties of a PUBLISH; there may
// be none. A PUBLISH that repeats another (DUP, or a Duplicate to its tracker)
// repeats its notes too: leave those out. Whoever publishes can send such a
// property too, so a note is an explanation and no proof. The error is
// [ErrGap].
func ParseGap[P ~struct{ Key, Value string }](list []P) (Notes, error) {
	var n Notes
	for _, p := range list {
		kv := property(p)
		if kv.Key != PropertyGap {
			continue
		}
		count, word, found := strings.Cut(kv.Value, " ")
		lost, err := parseNumber(property{kv.Key, count})
		if err != nil || !found || lost == 0 || word == "" {
			return Notes{}, fmt.Errorf("%w: %s", ErrGap, strconv.Quote(kv.Value))
		}
		why, ok := noteReasons[word]
		if !ok {
			why = Lost
		}
		n.lost[why] = sum(n.lost[why], lost)
	}
	return n, nil
}

// sum does not overflow: who says so much lies anyway.
func sum(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// Add adds what other counts.
func (n *Notes) Add(other Notes) {
	for r, lost := range other.lost {
		n.lost[r] = sum(n.lost[r], lost)
	}
}

// Len is how many messages are counted.
func (n *Notes) Len() (total uint64) {
	for _, lost := range n.lost {
		total = sum(total, lost)
	}
	return total
}

// Take finds out why the messages of g are missing, for [Tracker.Explain] or
// [Reorder.Explain], and counts them no more. It is Silent, and takes nothing,
// when fewer were told than are missing; and Lost when they were told with more
// than one reason, so that nobody can say which is whose.
func (n *Notes) Take(g Gap) Reason {
	missing := g.Len()
	if missing == 0 || n.Len() < missing {
		return Silent
	}
	why := Silent
	for r, lost := range n.lost {
		switch {
		case lost == 0:
		case why == Silent:
			why = Reason(r)
		default:
			why = Lost
		}
	}
	for r := range n.lost {
		taken := min(missing, n.lost[r])
		n.lost[r] -= taken
		missing -= taken
	}
	return why
}

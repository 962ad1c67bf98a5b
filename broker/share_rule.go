package broker

import (
	"fmt"
	"strings"

	"github.com/wilco-iot/wilco/broker/session"
)

// Share is how a shared subscription chooses the member that gets a message.
// Only members that are connected, and may receive the topic, are chosen from.
type Share uint8

const (
	// RoundRobin gives each message to the next member that has room in its
	// window. It keeps no order between members.
	RoundRobin Share = iota
	// Sticky gives everything to one member while that is connected, and then
	// to another.
	Sticky
	// ByTopic gives all messages of a topic to one member.
	ByTopic
	// ByPublisher gives all messages of a publisher, which is a client
	// identifier, to one member.
	ByPublisher
)

var shareWords = [...]string{"round_robin", "sticky", "key:topic", "key:publisher"}

// ParseShare reads round_robin, sticky, key:topic or key:publisher.
func ParseShare(word string) (Share, error) {
	for i, w := range shareWords {
		if w == word {
			return Share(i), nil
		}
	}
	return 0, fmt.Errorf("%q is none of %s", word, strings.Join(shareWords[:], ", "))
}

// String is the word that ParseShare reads.
func (s Share) String() string {
	if int(s) < len(shareWords) {
		return shareWords[s]
	}
	return "unknown"
}

// ShareRule is what holds for the shared subscriptions of a name. The zero value is
// a round robin that refuses what it has no room for.
type ShareRule struct {
	How Share
	// Overflow is what becomes of a message of QoS 1 or 2 when the share's own
	// queue is full, whatever its members' policies are: Refuse gives it to nobody,
	// DropNewest and DropOldest cost only the share a message. The bounds are those of
	// a session's queue: Limits.QueueMessages and QueueBytes, what is lent included,
	// and QoS0Messages and QoS0Bytes; QoS 0 goes first. What is lost is told with a
	// message of the same lane, see GapProperty.
	Overflow Overflow
}

// ParseShareRule reads a word of ParseShare, which a slash and one of ParseOverflow
// may follow, as in key:topic/oldest.
func ParseShareRule(text string) (r ShareRule, err error) {
	word, policy, _ := strings.Cut(text, "/")
	if r.How, err = ParseShare(word); err == nil {
		r.Overflow, err = ParseOverflow(policy)
	}
	if err != nil {
		return ShareRule{}, err
	}
	return r, nil
}

// String is the text that ParseShareRule reads.
func (r ShareRule) String() string {
	if r.Overflow == session.Refuse {
		return r.How.String()
	}
	return r.How.String() + "/" + r.Overflow.String()
}

// rule is that of the shares of a name.
func (ix *index) rule(name string) ShareRule {
	if r, ok := ix.rules[name]; ok {
		return r
	}
	return ix.rules[""]
}

package mqtt

import (
	"encoding/binary"
	"math/bits"
	"strings"
)

// MaxLevels is the largest number of levels that a topic name or filter may
// have. The standard sets no limit; without one a topic of 65,535 slashes
// would cost every later lookup that many steps.
const MaxLevels = 128

// sharePrefix begins the filter of every shared subscription [MQTT-4.8.2-1].
const sharePrefix = "$share/"

// ValidTopic tells whether s may be the topic of a message: 1 to 65,535 bytes
// of UTF-8 without NUL and wildcards, at most MaxLevels levels (4.7). Nothing
// is normalised [MQTT-4.7.3-4]. The error is a *Error with MalformedPacket for
// what is not text and TopicNameInvalid for the rest; success does not
// allocate. Topics that begin with $ are valid here: who may publish to them
// is for the server to say.
func ValidTopic(s string) error {
	// The conversion does not copy: checkTopic neither keeps nor changes b.
	if err := checkTopic([]byte(s)); err != nil {
		return err
	}
	return nil
}

// checkTopic is ValidTopic over bytes. It walks ASCII eight bytes at a time and
// gives the rest to checkTopicSlow.
func checkTopic(b []byte) *Error {
	switch {
	case len(b) == 0: // [MQTT-4.7.3-1]
		return &Error{TopicNameInvalid, "topic: empty"}
	case len(b) > maxText: // [MQTT-4.7.3-3]
		return &Error{TopicNameInvalid, "topic: longer than 65,535 bytes"}
	}
	levels := 1
	rest := b
	for len(rest) >= 8 {
		w := binary.LittleEndian.Uint64(rest)
		if suspect(w) {
			return checkTopicSlow(rest, levels)
		}
		levels += bits.OnesCount64(zeroBytes(w ^ lowBits*'/'))
		rest = rest[8:]
	}
	if len(b) >= 8 && len(rest) > 0 {
		// The rest once more as part of the last eight bytes. Of the slashes
		// only those in the rest are new: its bytes are the upper ones of w.
		w := binary.LittleEndian.Uint64(b[len(b)-8:])
		if suspect(w) {
			return checkTopicSlow(rest, levels)
		}
		levels += bits.OnesCount64(zeroBytes(w^lowBits*'/') >> (64 - 8*len(rest)))
		rest = nil
	}
	return checkTopicSlow(rest, levels)
}

// suspect tells whether w has a byte that is not ASCII, or NUL, + or #.
func suspect(w uint64) bool {
	return w&highBits != 0 || zeroBytes(w)|zeroBytes(w^lowBits*'+')|zeroBytes(w^lowBits*'#') != 0
}

// zeroBytes marks the high bit of each zero byte of w, whose bytes are all
// below 0x80; that is what makes it exact, since no sum carries over.
func zeroBytes(w uint64) uint64 { return ^(w + ^uint64(highBits)) & highBits }

// checkTopicSlow checks the rest b of a topic of which levels were counted.
func checkTopicSlow(b []byte, levels int) *Error {
	ascii := true
	for _, c := range b {
		switch {
		case c == '/':
			levels++
		case c == '+' || c == '#': // [MQTT-3.3.2-2] [MQTT-4.7.0-1]
			return &Error{TopicNameInvalid, "topic: wildcard"}
		case c == 0: // [MQTT-4.7.3-2]
			return malformed("topic: NUL")
		case c >= 0x80:
			ascii = false
		}
	}
	if !ascii && !validText(b) {
		return malformed("topic: not UTF-8")
	}
	if levels > MaxLevels {
		return &Error{TopicNameInvalid, "topic: more than 128 levels"}
	}
	return nil
}

// ValidFilter tells whether s may be subscribed to: 1 to 65,535 bytes of UTF-8
// without NUL, wildcards only where 4.7.1 allows them, at most MaxLevels
// levels. A filter that begins with "$share/" must be a whole shared
// subscription, "$share/group/filter", in MQTT 3.1.1 too; its levels are those
// of the inner filter, which is no shared one again. The error is a *Error
// with MalformedPacket for what is not text and TopicFilterInvalid for the
// rest; success does not allocate.
func ValidFilter(s string) error {
	if err := checkFilter(s); err != nil {
		return err
	}
	return nil
}

func checkFilter(s string) *Error {
	switch {
	case len(s) == 0: // [MQTT-4.7.3-1]
		return badFilter("empty")
	case len(s) > maxText: // [MQTT-4.7.3-3]
		return badFilter("longer than 65,535 bytes")
	case !validText([]byte(s)): // [MQTT-3.8.3-1] [MQTT-3.10.3-1]
		return malformed("filter: not UTF-8 without NUL")
	}
	group, inner, shared := ParseShare(s)
	if shared {
		switch {
		case group == "": // [MQTT-4.8.2-1]
			return badFilter("share name empty")
		case strings.ContainsAny(group, "+#"): // [MQTT-4.8.2-2]
			return badFilter("wildcard in share name")
		case inner == "": // [MQTT-4.8.2-2]
			return badFilter("shared subscription without filter")
		case strings.HasPrefix(inner, sharePrefix):
			return badFilter("share within a share")
		}
	}
	return checkWildcards(inner)
}

func checkWildcards(s string) *Error {
	levels := 1
	for i := range len(s) {
		starts := i == 0 || s[i-1] == '/'
		switch s[i] {
		case '/':
			levels++
		case '#':
			if !starts || i != len(s)-1 { // [MQTT-4.7.1-1]
				return badFilter("# is not the whole last level")
			}
		case '+':
			if !starts || i != len(s)-1 && s[i+1] != '/' { // [MQTT-4.7.1-2]
				return badFilter("+ is not a whole level")
			}
		}
	}
	if levels > MaxLevels {
		return badFilter("more than 128 levels")
	}
	return nil
}

func badFilter(text string) *Error { return &Error{TopicFilterInvalid, "filter: " + text} }

// checkResponseTopic holds a Response Topic to the rules of a topic name. Its
// faults are protocol errors (3.3.2.3.5), except those of the text itself.
func checkResponseTopic(b []byte) *Error {
	err := checkTopic(b)
	if err != nil && err.Code != MalformedPacket { // [MQTT-3.3.2-14]
		return protocolError("response " + err.Text)
	}
	return err
}

// ParseShare splits the filter of a shared subscription,
// "$share/group/inner". Any other filter comes back as inner, with shared
// false. shared is true for everything that begins with "$share/", also when
// it is no valid filter: then group or inner is empty. It does not allocate.
func ParseShare(filter string) (group, inner string, shared bool) {
	rest, shared := strings.CutPrefix(filter, sharePrefix)
	if !shared {
		return "", filter, false
	}
	group, inner, _ = strings.Cut(rest, "/")
	return group, inner, true
}

// Match tells whether a valid topic name matches a valid filter (4.7), byte by
// byte and without normalisation [MQTT-4.7.3-4]. The filter comes without its
// $share prefix. A leading wildcard does not match a topic that begins with $
// [MQTT-4.7.2-1]. For an invalid filter or topic the answer means nothing. It
// does not allocate and takes one step for each byte.
func Match(filter, topic string) bool {
	if topic == "" || filter == "" {
		return false
	}
	if topic[0] == '$' && filter[0] != '$' {
		return false
	}
	t := 0
	for f := range len(filter) {
		switch {
		case filter[f] == '#':
			return true
		case filter[f] == '+':
			for t < len(topic) && topic[t] != '/' {
				t++
			}
		case t < len(topic) && topic[t] == filter[f]:
			t++
		default:
			// "a/#" matches its parent "a" too (4.7.1.2).
			return t == len(topic) && filter[f:] == "/#"
		}
	}
	return t == len(topic)
}

// Overlap tells whether there is a topic that both of two valid filters match, which
// come without $share prefixes. A leading wildcard matches no topic that begins with $
// [MQTT-4.7.2-1]. It does not allocate.
func Overlap(a, b string) bool {
	if a == "" || b == "" || (a[0] == '$') != (b[0] == '$') {
		return false
	}
	if a == "+" && b == "/#" || a == "/#" && b == "+" {
		return false // the parent of "/#" is the empty topic, which is none
	}
	for {
		x, restA, moreA := strings.Cut(a, "/")
		y, restB, moreB := strings.Cut(b, "/")
		switch {
		case x == "#" || y == "#":
			return true
		case x != y && x != "+" && y != "+":
			return false
		case !moreA || !moreB:
			// "a/#" matches its parent "a" too (4.7.1.2).
			return moreA == moreB || moreA && restA == "#" || moreB && restB == "#"
		}
		a, b = restA, restB
	}
}

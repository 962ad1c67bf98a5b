package order

import (
	"math/bits"
	"strings"
)

// Verdicts is a set of what can be said about a log of arrivals.
type Verdicts uint32

// Strengths: what the log shows. They are judged over each topic and QoS by
// itself, which is all that the standard orders [MQTT-4.6.0-5].
const (
	// Strict: first copies rise, and there are no others.
	Strict Verdicts = 1 << iota
	// Spec: what the standard asks of a non-shared subscription. First copies
	// rise [MQTT-4.6.0-5]; last copies rise, because a resend keeps the
	// original order [MQTT-4.6.0-1]; other copies come only after a reconnect
	// [MQTT-4.4.0-1], with DUP [MQTT-3.3.1-1], and not at QoS 2 [MQTT-4.3.3-10].
	Spec
	// RM1: numbers never fall, as in 1,2,3,3,4. A Receive Maximum of 1 must
	// give it also over reconnects (MQTT 5.0, 4.6, non-normative comment).
	RM1
	// CrossTopic: several topics, and first copies at QoS 1 and 2 rise over all
	// of them together. More than the standard asks.
	CrossTopic
	// CrossQoS: QoS 1 and 2, and first copies rise over both together. More
	// than the standard asks.
	CrossQoS
)

// Violations and losses.
const (
	// ReorderFirst: the first copy of a message came after that of a later one
	// [MQTT-4.6.0-5] [MQTT-4.6.0-6].
	ReorderFirst Verdicts = 1 << (iota + 8)
	// ReorderLast: the last copies do not rise: a resend was not in the original
	// order [MQTT-4.6.0-1], 4.6.
	ReorderLast
	// LossPrefix, LossMiddle, LossPostfix: an acknowledged message never came,
	// though nobody told and it had not expired: before the first that came,
	// between, or after the last (all, when none came). To acknowledge is to
	// take ownership [MQTT-4.3.2-4] [MQTT-4.3.3-8].
	LossPrefix
	LossMiddle
	LossPostfix
	// GapTold: messages are missing, and the receiver was told why.
	GapTold
	// GapSilent: a number below the highest that came is missing, and the
	// receiver was not told, whether or not it was acknowledged or had expired.
	// The standard allows it at QoS 0, and for expiry [MQTT-3.3.2-5].
	GapSilent
	// DupQoS2: a QoS 2 message came twice [MQTT-4.3.3-10] [MQTT-4.3.3-12].
	DupQoS2
	// DupLive: a further copy came on the connection that already had one, which
	// is a resend at another time than a reconnect [MQTT-4.4.0-1]; or without
	// DUP [MQTT-3.3.1-1]; or at QoS 0, which has none [MQTT-4.3.1-1].
	DupLive
	// ExpiredDelivered: a message came whose time was over before its delivery
	// could begin [MQTT-3.3.2-5].
	ExpiredDelivered
	// Phantom: a number came that was never published.
	Phantom
	// Corrupt: a payload or a property is not what was published
	// [MQTT-3.3.2-17].
	Corrupt
	// Stall: messages were owed and did not come. Only the one who has the clock
	// knows: it is Log.Stalled.
	Stall
	// Split: a message came on an older connection after one on a newer, so that
	// two of the same client identifier were alive [MQTT-3.1.4-3].
	Split

	// LossAcked is loss anywhere.
	LossAcked = LossPrefix | LossMiddle | LossPostfix
	// Violations are the verdicts that break the standard or lose what was
	// acknowledged. GapTold and GapSilent are not among them: a broker may drop,
	// and its word is kept by LossAcked.
	Violations = ReorderFirst | ReorderLast | LossAcked | DupQoS2 | DupLive | ExpiredDelivered | Phantom | Corrupt | Stall | Split
)

// Written in reports; never change.
var verdictNames = map[Verdicts]string{
	Strict: "STRICT", Spec: "SPEC", RM1: "RM1", CrossTopic: "CROSS-TOPIC", CrossQoS: "CROSS-QOS",
	ReorderFirst: "REORDER-FIRST", ReorderLast: "REORDER-LAST",
	LossPrefix: "LOSS-ACKED-PREFIX", LossMiddle: "LOSS-ACKED-MIDDLE", LossPostfix: "LOSS-ACKED-POSTFIX",
	GapTold: "GAP-TOLD", GapSilent: "GAP-SILENT", DupQoS2: "DUP-QOS2", DupLive: "DUP-LIVE",
	ExpiredDelivered: "EXPIRED-DELIVERED", Phantom: "PHANTOM", Corrupt: "CORRUPT", Stall: "STALL", Split: "SPLIT",
}

// Has says whether all of w are in v.
func (v Verdicts) Has(w Verdicts) bool { return v&w == w }

// Any says whether one of w is in v.
func (v Verdicts) Any(w Verdicts) bool { return v&w != 0 }

// Each returns the verdicts of v one by one, strengths first.
func (v Verdicts) Each() []Verdicts {
	var list []Verdicts
	for rest := v; rest != 0; rest &= rest - 1 {
		list = append(list, 1<<bits.TrailingZeros32(uint32(rest)))
	}
	return list
}

// String returns the words used in reports, such as "SPEC REORDER-LAST".
func (v Verdicts) String() string {
	var words []string
	for _, one := range v.Each() {
		words = append(words, verdictNames[one])
	}
	return strings.Join(words, " ")
}

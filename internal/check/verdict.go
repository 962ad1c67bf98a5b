package check

import (
	"cmp"
	"slices"

	"github.com/wilco-iot/wilco/mqtt"
)

// Verdict is what the messages of a case show. The words are printed and kept:
// stored; never change.
type Verdict string

// What is good.
const (
	Strict Verdict = "STRICT" // first copies rise, and there are no others
	Spec   Verdict = "SPEC"   // first and last copies rise; others only after a reconnect and with DUP
	RM1    Verdict = "RM1"    // never falling, with a window of one
)

// What the standard leaves open.
const (
	GapTold   Verdict = "GAP-TOLD"   // dropped by a limit, and the receiver or the sender knows
	GapSilent Verdict = "GAP-SILENT" // dropped by a limit, and nobody was told
)

// What lies on the disk is not the standard's subject.
const (
	UnsyncedAck Verdict = "UNSYNCED-ACK" // acknowledged before a sync: a power cut may lose it
	NoStart     Verdict = "NO-START"     // does not start over damaged data
)

// What is wrong.
const (
	ReorderFirst     Verdict = "REORDER-FIRST"     // a first copy behind one that was sent later
	ReorderLast      Verdict = "REORDER-LAST"      // the last copies fall; with a window of one, any copy does
	LossAcked        Verdict = "LOSS-ACKED"        // acknowledged to the publisher, never delivered
	DupQoS2          Verdict = "DUP-QOS2"          // a QoS 2 message was delivered twice
	DupLive          Verdict = "DUP-LIVE"          // sent again on one connection, or on another without DUP
	ExpiredDelivered Verdict = "EXPIRED-DELIVERED" // delivered after its expiry
	Phantom          Verdict = "PHANTOM"           // delivered, and nobody sent it
	Corrupt          Verdict = "CORRUPT"           // not as it was sent
	Stall            Verdict = "STALL"             // it stopped, though nothing held it up
	Split            Verdict = "SPLIT"             // two connections act for one session
	LimitExceeded    Verdict = "LIMIT-EXCEEDED"    // more or larger than the receiver allows
)

// Wrong tells whether the standard forbids what v says.
func (v Verdict) Wrong() bool {
	switch v {
	case ReorderFirst, ReorderLast, LossAcked, DupQoS2, DupLive, ExpiredDelivered, Phantom, Corrupt, Stall, Split, LimitExceeded:
		return true
	}
	return false
}

// open tells whether v is bad, though the standard says nothing about it.
func (v Verdict) open() bool { return v == GapSilent || v == UnsyncedAck || v == NoStart }

// Strength is a property that the standard does not ask for. Stored; never change.
type Strength string

// The strengths.
const (
	TotalOrder     Strength = "TOTAL-ORDER"      // all subscribers see the same interleaving of all publishers
	CrossTopic     Strength = "CROSS-TOPIC"      // a publisher's order holds across its topics
	KeyOrderShared Strength = "KEY-ORDER-SHARED" // a shared subscription keeps each key at one member
)

// Key names a message: its publisher and the number that the publisher gave it,
// from 1, over all topics.
type Key struct {
	Pub string
	N   int
}

// Sent is a message as it was published. Messages of one publisher are in the
// order of N.
type Sent struct {
	Key
	Topic     string
	QoS       mqtt.QoS
	Acked     bool    // the broker said that it has it
	Refused   bool    // the broker said that it has not
	Optional  bool    // may be missing
	Forbidden Verdict // not empty: must not come, and is this when it does
}

// Receipt is one PUBLISH as it was received. Those of one receiver are in the
// order of their arrival.
type Receipt struct {
	Key
	Topic   string
	QoS     mqtt.QoS
	Dup     bool
	Retain  bool
	Again   bool // QoS 2: the handshake of this packet identifier was still open, so it is no new delivery
	Conn    int  // number of the receiver's connection, from 1
	Corrupt bool // the stamp does not fit; the Key is then unknown
	Foreign bool // not a message of this case; the Key is then unknown
}

// Rule says what a case allows.
type Rule struct {
	WindowOne    bool // the receiver allows one unacknowledged message
	Copies       int  // copies of a message on one connection, by overlapping subscriptions; 0 means 1
	Republished  bool // the publisher itself sent some again
	LiveResend   bool // resending on one connection with DUP is allowed, as in 3.1.1
	AnyAckOrder  bool // acknowledged out of order, so that last copies say nothing
	MayDrop      bool // a limit was exceeded on purpose: what is missing is a gap
	Told         int  // and the broker spoke of so many
	SomeReceiver bool // got is of several receivers with one subscription: order is judged elsewhere
}

// verdicts in the order in which they are told.
var verdicts = []Verdict{Strict, Spec, RM1, GapTold, GapSilent, UnsyncedAck, NoStart, ReorderFirst, ReorderLast, LossAcked, DupQoS2, DupLive,
	ExpiredDelivered, Phantom, Corrupt, Stall, Split, LimitExceeded}

// sortVerdicts orders them as they are told, each once.
func sortVerdicts(vs []Verdict) []Verdict {
	slices.SortFunc(vs, func(a, b Verdict) int { return cmp.Compare(slices.Index(verdicts, a), slices.Index(verdicts, b)) })
	return slices.Compact(vs)
}

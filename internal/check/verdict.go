package check

import (
	"cmp"
	"fmt"
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
	Told         bool // and the broker said so
	SomeReceiver bool // got is of several receivers with one subscription: order is judged elsewhere
}

// Judgement is what Judge found.
type Judgement struct {
	Verdicts []Verdict // each once, in the order of the constants
	Why      []string  // one line for each wrong verdict
	Lost     Loss
	Repeated int // copies after the first
	Received int // different messages
}

// Loss counts missing messages by where they are missing: before, between or
// after what came of their stream. If nothing came, it is all After.
type Loss struct{ Prefix, Middle, Postfix int }

func (l Loss) total() int { return l.Prefix + l.Middle + l.Postfix }

type stream struct {
	pub, topic string
	qos        mqtt.QoS
}

// judge collects what is found; each verdict keeps its first reason.
type judge struct {
	rule Rule
	why  map[Verdict]string
	out  Judgement
}

func (j *judge) find(v Verdict, format string, args ...any) {
	if _, ok := j.why[v]; !ok {
		j.why[v] = fmt.Sprintf(format, args...)
	}
}

// Judge compares what was sent with what one receiver got. It is pure.
func Judge(sent []Sent, got []Receipt, rule Rule) Judgement {
	j := &judge{rule: rule, why: map[Verdict]string{}}
	known := make(map[Key]*Sent, len(sent))
	for i := range sent {
		known[sent[i].Key] = &sent[i]
	}
	streams := map[stream][]Receipt{}
	came := map[Key]bool{}
	for _, r := range got {
		s := known[r.Key]
		switch {
		case r.Corrupt:
			j.find(Corrupt, "a message whose checksum is wrong, on %s", r.Topic)
			continue
		case r.Foreign || s == nil:
			j.find(Phantom, "a message that was never sent, on %s", r.Topic)
			continue
		case s.Topic != r.Topic:
			j.find(Corrupt, "message %d of %s was sent to another topic", r.N, r.Pub)
			continue
		case s.Forbidden != "":
			j.find(s.Forbidden, "message %d of %s must not be delivered, and was", r.N, r.Pub)
		}
		came[r.Key] = true
		k := stream{s.Pub, s.Topic, s.QoS}
		streams[k] = append(streams[k], r)
	}
	for _, seq := range streams {
		if !rule.SomeReceiver {
			j.order(seq)
		}
		j.copies(seq)
	}
	j.missing(sent, came)
	j.out.Received = len(came)
	return j.finish()
}

// order looks at one stream: first copies, last copies, and with a window of
// one all copies must rise.
func (j *judge) order(seq []Receipt) {
	last := make(map[int]int, len(seq))
	highest, before := 0, 0
	for i, r := range seq {
		if _, repeated := last[r.N]; !repeated {
			if r.N < highest {
				j.find(ReorderFirst, "message %d of %s came after %d", r.N, r.Pub, highest)
			}
			highest = max(highest, r.N)
		}
		if j.rule.WindowOne && r.N < before {
			j.find(ReorderLast, "message %d of %s came after %d, with a window of one", r.N, r.Pub, before)
		}
		before = r.N
		last[r.N] = i
	}
	if j.rule.AnyAckOrder {
		return
	}
	highest = 0
	for i, r := range seq {
		if last[r.N] != i {
			continue
		}
		// What came out of order the first time is told once.
		if r.N < highest && j.why[ReorderFirst] == "" {
			j.find(ReorderLast, "the last copy of message %d of %s came after that of %d", r.N, r.Pub, highest)
		}
		highest = max(highest, r.N)
	}
}

// copies looks at the repetitions in one stream.
func (j *judge) copies(seq []Receipt) {
	type place struct{ n, conn int }
	here := map[place]int{}
	first := map[int]bool{}
	allowed := max(j.rule.Copies, 1)
	for _, r := range seq {
		at := place{r.N, r.Conn}
		here[at]++
		if !first[r.N] {
			first[r.N] = true
			continue
		}
		j.out.Repeated++
		switch {
		case here[at] > 1 && here[at] <= allowed:
		case r.QoS == mqtt.ExactlyOnce && !r.Again:
			j.find(DupQoS2, "message %d of %s was delivered twice", r.N, r.Pub) // [MQTT-4.3.3-12]
		case j.rule.Republished && r.QoS == mqtt.AtLeastOnce:
		case here[at] > allowed && !(j.rule.LiveResend && r.Dup):
			j.find(DupLive, "message %d of %s came twice on one connection", r.N, r.Pub) // [MQTT-4.4.0-1]
		case here[at] == 1 && !r.Dup:
			j.find(DupLive, "message %d of %s came again after a reconnect, without DUP", r.N, r.Pub) // [MQTT-3.3.1-1]
		}
	}
}

// missing counts what was acknowledged and did not come.
func (j *judge) missing(sent []Sent, came map[Key]bool) {
	type span struct{ low, high int }
	spans := map[stream]span{}
	for _, s := range sent {
		if k := (stream{s.Pub, s.Topic, s.QoS}); came[s.Key] {
			x, ok := spans[k]
			if !ok {
				x.low = s.N
			}
			spans[k] = span{min(x.low, s.N), max(x.high, s.N)}
		}
	}
	var example Sent
	for _, s := range sent {
		if came[s.Key] || !s.Acked || s.Optional || s.Forbidden != "" || s.QoS == mqtt.AtMostOnce {
			continue
		}
		example = s
		x := spans[stream{s.Pub, s.Topic, s.QoS}]
		switch {
		case s.N < x.low:
			j.out.Lost.Prefix++
		case s.N < x.high:
			j.out.Lost.Middle++
		default:
			j.out.Lost.Postfix++
		}
	}
	l := j.out.Lost
	switch text := fmt.Sprintf("%d acknowledged messages never came (prefix %d, middle %d, postfix %d), such as %d of %s",
		l.total(), l.Prefix, l.Middle, l.Postfix, example.N, example.Pub); {
	case l.total() == 0:
	case !j.rule.MayDrop:
		j.find(LossAcked, "%s", text)
	case j.rule.Told:
		j.find(GapTold, "%s", text)
	default:
		j.find(GapSilent, "%s", text)
	}
}

func (j *judge) finish() Judgement {
	wrong := false
	for v := range j.why {
		wrong = wrong || v.Wrong()
	}
	if !wrong && !j.rule.SomeReceiver {
		if j.out.Repeated == 0 {
			j.why[Strict] = ""
		} else {
			j.why[Spec] = ""
		}
		if j.rule.WindowOne {
			j.why[RM1] = ""
		}
	}
	for _, v := range verdicts {
		if text, ok := j.why[v]; ok {
			j.out.Verdicts = append(j.out.Verdicts, v)
			if text != "" {
				j.out.Why = append(j.out.Why, string(v)+": "+text)
			}
		}
	}
	return j.out
}

// verdicts in the order in which they are told.
var verdicts = []Verdict{Strict, Spec, RM1, GapTold, GapSilent, ReorderFirst, ReorderLast, LossAcked, DupQoS2, DupLive,
	ExpiredDelivered, Phantom, Corrupt, Stall, Split, LimitExceeded}

// InOrderAcross tells whether the first copies of each publisher's messages
// with QoS 1 and 2 rise over all its topics and both qualities of service.
func InOrderAcross(sent []Sent, got []Receipt) bool {
	qos := make(map[Key]mqtt.QoS, len(sent))
	for _, s := range sent {
		qos[s.Key] = s.QoS
	}
	highest := map[string]int{}
	seen := map[Key]bool{}
	for _, r := range got {
		if qos[r.Key] == mqtt.AtMostOnce || seen[r.Key] {
			continue
		}
		seen[r.Key] = true
		if r.N < highest[r.Pub] {
			return false
		}
		highest[r.Pub] = r.N
	}
	return true
}

// SameInterleaving tells whether all receivers saw what they have in common in
// the same order; only first copies count.
func SameInterleaving(receivers ...[]Receipt) bool {
	if len(receivers) == 0 {
		return true
	}
	rank := map[Key]int{}
	for i, r := range receivers[0] {
		if _, ok := rank[r.Key]; !ok {
			rank[r.Key] = i
		}
	}
	for _, other := range receivers[1:] {
		seen := map[Key]bool{}
		var ranks []int
		for _, r := range other {
			if at, ok := rank[r.Key]; ok && !seen[r.Key] {
				seen[r.Key] = true
				ranks = append(ranks, at)
			}
		}
		if !slices.IsSorted(ranks) {
			return false
		}
	}
	return true
}

// OneMemberPerKey tells whether no key (publisher) was at more than one of the
// members of a shared subscription.
func OneMemberPerKey(members ...[]Receipt) bool {
	owner := map[string]int{}
	for i, m := range members {
		for _, r := range m {
			if was, ok := owner[r.Pub]; ok && was != i {
				return false
			}
			owner[r.Pub] = i
		}
	}
	return true
}

// sortVerdicts orders them as they are told, each once.
func sortVerdicts(vs []Verdict) []Verdict {
	slices.SortFunc(vs, func(a, b Verdict) int { return cmp.Compare(slices.Index(verdicts, a), slices.Index(verdicts, b)) })
	return slices.Compact(vs)
}

package check

import (
	"fmt"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/order"
)

// Judgement is what Judge found.
type Judgement struct {
	Verdicts []Verdict // each once, in the order of the constants
	Why      []string  // one line for each wrong verdict
	Lost     order.Loss
	Repeated int  // copies after the first
	Received int  // different messages
	Across   bool // each publisher has several streams, and QoS 1 and 2 came in one order over all of them
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

// Judge compares what was sent with what one receiver got. It is pure. Order,
// repetition and loss are left to [order.Judge], a publisher at a time; here is
// what the cases allow, and what needs more than a sequence number.
func Judge(sent []Sent, got []Receipt, rule Rule) Judgement {
	j := &judge{rule: rule, why: map[Verdict]string{}}
	by := map[string]*publisher{}
	var pubs []*publisher
	for _, s := range sent {
		p := by[s.Pub]
		if p == nil {
			p = newPublisher(s.Pub, rule)
			by[s.Pub], pubs = p, append(pubs, p)
		}
		p.sent(s)
	}
	for _, r := range got {
		p := by[r.Pub]
		switch {
		case r.Corrupt:
			j.find(Corrupt, "a message whose checksum is wrong, on %s", r.Topic)
		case r.Foreign || p == nil || p.known[r.N].N == 0:
			j.find(Phantom, "a message that was never sent, on %s", r.Topic)
		case p.known[r.N].Topic != r.Topic:
			j.find(Corrupt, "message %d of %s was sent to another topic", r.N, r.Pub)
		default:
			if v := p.known[r.N].Forbidden; v != "" {
				j.find(v, "message %d of %s must not be delivered, and was", r.N, r.Pub)
			}
			p.came(j, r)
		}
	}
	j.out.Across = len(pubs) > 0
	withheld := 0
	for _, p := range pubs {
		j.publisher(p)
		withheld += p.withheld()
	}
	j.missing(withheld)
	return j.finish()
}

// publisher is what one sent, and what came of it: a log for the first copies
// of each connection, and one for each further copy that is allowed there.
type publisher struct {
	name    string
	rule    Rule
	known   map[int]Sent
	streams map[stream]int
	logs    []order.Log
	here    map[place]int
	resends int // live ones
}

type stream struct {
	topic string
	qos   mqtt.QoS
}

type place struct{ n, conn int }

func newPublisher(name string, rule Rule) *publisher {
	return &publisher{name: name, rule: rule, known: map[int]Sent{}, streams: map[stream]int{}, here: map[place]int{},
		logs: make([]order.Log, max(rule.Copies, 1))}
}

func one(n int) order.Gap { return order.Gap{From: uint64(n), To: uint64(n)} }

func (p *publisher) sent(s Sent) {
	p.known[s.N] = s
	if k := (stream{s.Topic, s.QoS}); p.streams[k] == 0 {
		p.streams[k] = len(p.streams) + 1
	}
	for i := range p.logs {
		log := &p.logs[i]
		log.Sent = max(log.Sent, uint64(s.N))
		if p.rule.Republished && s.QoS == mqtt.AtLeastOnce {
			log.Resent = append(log.Resent, one(s.N))
		}
		if i == 0 && s.Acked && !s.Optional && s.Forbidden == "" && s.QoS > 0 {
			log.Acked = append(log.Acked, one(s.N))
		}
	}
}

// came enters a receipt. At QoS 2 it is the packet identifier that tells a
// resend, which may come as at QoS 1, from a second delivery.
func (p *publisher) came(j *judge, r Receipt) {
	s := p.known[r.N]
	at := place{r.N, r.Conn}
	p.here[at]++
	seen := p.here[place{n: r.N}] > 0
	p.here[place{n: r.N}]++
	log := &p.logs[min(p.here[at], len(p.logs))-1]
	if seen {
		j.out.Repeated++
		if r.QoS == mqtt.ExactlyOnce && !r.Again && (p.here[at] == 1 || p.here[at] > len(p.logs)) {
			j.find(DupQoS2, "message %d of %s was delivered twice", r.N, r.Pub) // [MQTT-4.3.3-12]
			log.Resent = append(log.Resent, one(r.N))
		}
	} else {
		j.out.Received++
	}
	if p.rule.LiveResend && r.Dup {
		p.resends++ // as if it had come over a connection of its own
	}
	log.Arrivals = append(log.Arrivals, order.Arrival{Seq: uint64(r.N), Conn: r.Conn + p.resends, Topic: p.streams[stream{s.Topic, s.QoS}],
		QoS: byte(min(r.QoS, 1)), Dup: r.Dup})
}

// said are the words of the tester for those of package order.
var said = []struct {
	of   order.Verdicts
	word Verdict
	text string
}{
	{order.ReorderFirst, ReorderFirst, "message %d of %s came after a later one"},
	{order.ReorderLast, ReorderLast, "the last copy of message %d of %s came after that of a later one"},
	{order.DupLive, DupLive, "message %d of %s came again, on one connection or without DUP"}, // [MQTT-4.4.0-1] [MQTT-3.3.1-1]
	{order.Split, Split, "message %d of %s came on an old connection after one on a new"},     // [MQTT-3.1.4-3]
}

func (j *judge) publisher(p *publisher) {
	for i, log := range p.logs {
		r := order.Judge(log)
		j.out.Lost.Prefix += r.Lost.Prefix
		j.out.Lost.Middle += r.Lost.Middle
		j.out.Lost.Postfix += r.Lost.Postfix
		j.out.Across = j.out.Across && (i > 0 || r.Verdicts.Has(order.CrossTopic))
		for _, x := range said {
			unordered := j.rule.SomeReceiver && x.of != order.DupLive
			told := x.of == order.ReorderLast && (j.rule.AnyAckOrder || r.Verdicts.Has(order.ReorderFirst))
			for _, f := range r.Findings {
				if f.Verdict == x.of && !unordered && !told {
					j.find(x.word, x.text, f.Gap.From, p.name)
				}
			}
		}
		if j.rule.WindowOne && !r.Verdicts.Any(order.RM1|order.ReorderFirst) {
			j.find(ReorderLast, "numbers of %s fell, with a window of one", p.name)
		}
	}
}

// withheld is how many messages did not come that must not.
func (p *publisher) withheld() (n int) {
	for _, s := range p.known {
		if s.Forbidden != "" && s.Acked && p.here[place{n: s.N}] == 0 {
			n++
		}
	}
	return n
}

// missing says what it means that something is missing. What the broker had to
// withhold is missing to the receiver too, and it may say so.
func (j *judge) missing(withheld int) {
	l := j.out.Lost
	n := int(l.Prefix + l.Middle + l.Postfix)
	text := fmt.Sprintf("%d acknowledged messages never came (prefix %d, middle %d, postfix %d)", n, l.Prefix, l.Middle, l.Postfix)
	if n > 0 && !j.rule.MayDrop {
		j.find(LossAcked, "%s", text)
		n = 0
	}
	if n == 0 {
		text = fmt.Sprintf("%d messages were withheld, as they must be", withheld)
	}
	switch n += withheld; {
	case n == 0:
	case j.rule.Told >= n:
		j.find(GapTold, "%s", text)
	default:
		j.find(GapSilent, "%s, and %d were told", text, j.rule.Told)
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

// sameInterleaving tells whether all receivers saw one order of all messages.
func sameInterleaving(receivers ...[]Receipt) bool {
	logs := make([][]Key, len(receivers))
	for i, got := range receivers {
		for _, r := range got {
			logs[i] = append(logs[i], r.Key)
		}
	}
	return order.TotalOrder(logs...)
}

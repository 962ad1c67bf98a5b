package order

import (
	"cmp"
	"fmt"
	"slices"
)

// Arrival is one copy of a message, as the application got it: at QoS 2 after
// the receiver has dropped repeated packet identifiers, which are the protocol
// at work and no second delivery [MQTT-4.3.3-10].
type Arrival struct {
	Seq     uint64 // as the publisher numbered it, from 1, over all topics
	Conn    int    // number of the subscriber's connection, rising with each
	Topic   int    // which topic, when there are several
	QoS     byte   // of the delivery
	Dup     bool   // DUP flag of the PUBLISH
	Corrupt bool   // not what was published, as far as it could be identified
}

// Log is what one subscriber got of one publisher, and what is known of what it
// should have got. Runs of numbers may overlap; their reasons count only in
// Told.
type Log struct {
	Sent     uint64    // numbers 1..Sent were published
	Acked    []Gap     // acknowledged to the publisher with success, so owed to the subscriber
	Expired  []Gap     // their time was over before delivery could begin: owed no more, and not to be delivered
	Told     []Gap     // the subscriber was told that they are missing
	Resent   []Gap     // published more than once by the publisher itself: at QoS 0 and 1 further copies are its own
	Arrivals []Arrival // in the order of receipt
	Stalled  bool      // something was owed and did not come in time
}

// Finding is the first thing that shows a verdict.
type Finding struct {
	Verdict Verdicts // one
	At      int      // index in Log.Arrivals; -1 when it is about what did not come
	Gap     Gap      // the numbers it is about; none for Stall
}

// String returns one line for people.
func (f Finding) String() string {
	s := f.Verdict.String()
	if f.Gap.From != 0 {
		s += " of " + f.Gap.String()
	}
	if f.At >= 0 {
		s += fmt.Sprintf(" at arrival %d", f.At)
	}
	return s
}

// Report is the judgement of a log.
type Report struct {
	Verdicts Verdicts
	Findings []Finding // the first of each verdict that is not a strength, in their order
	Missing  []Gap     // published and never arrived; those told with their reason
	Lost     Loss      // how many of these are behind LossAcked
	Copies   uint64    // arrivals beyond the first of each message
}

// Loss counts acknowledged messages that never came, by where they are missing.
type Loss struct{ Prefix, Middle, Postfix uint64 }

// Judge says what a log shows. It is pure, and takes time and memory in
// proportion to the log (times the logarithm). Arrivals that are corrupt, or of
// numbers that were never published, count for nothing but their own verdict
// and Split. A log without arrivals is as strict as can be; what it lacks is
// said by the losses.
func Judge(log Log) Report {
	j := judge{log: log, at: map[Verdicts]Finding{}}
	j.sift()
	j.groups()
	j.cross()
	j.copies()
	j.missing()
	if log.Stalled {
		j.find(Stall, -1, Gap{})
	}
	if !j.verdicts.Any(ReorderFirst | ReorderLast | DupQoS2 | DupLive) {
		j.verdicts |= Spec
	}
	return j.report()
}

type judge struct {
	log      Log
	verdicts Verdicts
	at       map[Verdicts]Finding
	good     []int // indices of arrivals that count, in order of receipt
	bySeq    []int // the same by number, copies in order of receipt
	absent   []Gap
	lost     Loss
	extra    uint64
}

func (j *judge) find(v Verdicts, at int, g Gap) {
	if !j.verdicts.Has(v) {
		j.verdicts |= v
		j.at[v] = Finding{v, at, g}
	}
}

func (j *judge) seq(i int) uint64 { return j.log.Arrivals[i].Seq }

func one(seq uint64) Gap { return Gap{From: seq, To: seq} }

// sift finds what is wrong with an arrival by itself.
func (j *judge) sift() {
	conn := 0
	for i, a := range j.log.Arrivals {
		if i > 0 && a.Conn < conn {
			j.find(Split, i, one(a.Seq))
		}
		conn = max(conn, a.Conn)
		if i == 0 {
			conn = a.Conn
		}
		switch {
		case a.Corrupt:
			j.find(Corrupt, i, one(a.Seq))
		case a.Seq == 0 || a.Seq > j.log.Sent:
			j.find(Phantom, i, one(a.Seq))
		default:
			j.good = append(j.good, i)
		}
	}
	j.bySeq = slices.Clone(j.good)
	slices.SortStableFunc(j.bySeq, func(a, b int) int { return cmp.Compare(j.seq(a), j.seq(b)) })
}

type group struct {
	topic int
	qos   byte
}

// groups judges the order within each topic and QoS.
func (j *judge) groups() {
	by := map[group][]int{}
	for _, i := range j.good {
		g := group{j.log.Arrivals[i].Topic, j.log.Arrivals[i].QoS}
		by[g] = append(by[g], i)
	}
	j.verdicts |= Strict | RM1
	for _, list := range by {
		first, last := firsts(list, j.seq), lasts(list, j.seq)
		if len(first) < len(list) {
			j.verdicts &^= Strict
		}
		if _, falls := fall(list, j.seq); falls {
			j.verdicts &^= RM1
		}
		j.reorder(ReorderFirst, first)
		j.reorder(ReorderLast, last)
	}
	if j.verdicts.Has(ReorderFirst) {
		j.verdicts &^= Strict
	}
}

// reorder finds v where the list falls. Of several groups the earliest counts,
// whatever the order in which they are looked at.
func (j *judge) reorder(v Verdicts, list []int) {
	i, falls := fall(list, j.seq)
	if !falls {
		return
	}
	if was, ok := j.at[v]; !ok || i < was.At {
		j.verdicts |= v
		j.at[v] = Finding{v, i, one(j.seq(i))}
	}
}

// firsts keeps the first copy of each number.
func firsts(list []int, seq func(int) uint64) []int {
	seen := make(map[uint64]bool, len(list))
	var keep []int
	for _, i := range list {
		if s := seq(i); !seen[s] {
			seen[s] = true
			keep = append(keep, i)
		}
	}
	return keep
}

// lasts keeps the last copy of each number.
func lasts(list []int, seq func(int) uint64) []int {
	back := slices.Clone(list)
	slices.Reverse(back)
	keep := firsts(back, seq)
	slices.Reverse(keep)
	return keep
}

// fall returns the first of the list that is below the one before it.
func fall(list []int, seq func(int) uint64) (int, bool) {
	for k := 1; k < len(list); k++ {
		if seq(list[k]) < seq(list[k-1]) {
			return list[k], true
		}
	}
	return 0, false
}

// cross judges what goes beyond the standard. QoS 0 is left out: it may pass
// what waits for the receiver's window.
func (j *judge) cross() {
	topics, qos := map[int]bool{}, map[byte]bool{}
	var list []int
	for _, i := range j.good {
		if a := j.log.Arrivals[i]; a.QoS > 0 {
			list = append(list, i)
			topics[a.Topic], qos[a.QoS] = true, true
		}
	}
	if _, falls := fall(firsts(list, j.seq), j.seq); falls {
		return
	}
	if len(topics) > 1 {
		j.verdicts |= CrossTopic
	}
	if len(qos) > 1 {
		j.verdicts |= CrossQoS
	}
}

// copies judges each copy after the first, and what came too late.
func (j *judge) copies() {
	expired, resent := disjoint(j.log.Expired, Expired), disjoint(j.log.Resent, Lost)
	for k, i := range j.bySeq {
		a := j.log.Arrivals[i]
		if expired.find(a.Seq).From != 0 {
			j.earliest(ExpiredDelivered, i)
		}
		if k == 0 || j.seq(j.bySeq[k-1]) != a.Seq {
			continue
		}
		j.extra++
		before := j.log.Arrivals[j.bySeq[k-1]]
		switch {
		case a.QoS == 2:
			j.earliest(DupQoS2, i)
		case resent.find(a.Seq).From != 0:
		case a.QoS == 0 || !a.Dup || a.Conn <= before.Conn:
			j.earliest(DupLive, i)
		}
	}
	if j.extra > 0 {
		j.verdicts &^= Strict
	}
}

// earliest finds v at i unless it was found at an earlier arrival.
func (j *judge) earliest(v Verdicts, i int) {
	if was, ok := j.at[v]; !ok || i < was.At {
		j.verdicts |= v
		j.at[v] = Finding{v, i, one(j.seq(i))}
	}
}

// missing judges what did not come.
func (j *judge) missing() {
	var absent gapSet
	if j.log.Sent > 0 {
		absent = gapSet{{From: 1, To: j.log.Sent}}
	}
	var low, high uint64
	if n := len(j.bySeq); n > 0 {
		low, high = j.seq(j.bySeq[0]), j.seq(j.bySeq[n-1])
	}
	j.absent = mark(absentees(j.bySeq, j.seq, absent), disjoint(j.log.Told, Lost))
	var silent gapSet
	for _, g := range j.absent {
		switch {
		case g.Told():
			j.find(GapTold, -1, g)
			continue
		case g.From < high:
			j.find(GapSilent, -1, g)
		}
		silent = append(silent, g)
	}
	silent = slices.DeleteFunc(mark(silent, disjoint(j.log.Expired, Expired)), Gap.Told)
	for _, g := range mark(silent, disjoint(j.log.Acked, Lost)) {
		if g.Told() { // only a mark here: it was acknowledged
			j.loss(Gap{From: g.From, To: g.To}, low, high)
		}
	}
}

// loss says where the lost ones lie; none of them arrived, so a run is either
// before low, between, or after high.
func (j *judge) loss(g Gap, low, high uint64) {
	switch {
	case g.From > high: // also when nothing came: high is 0
		j.lost.Postfix += g.Len()
		j.find(LossPostfix, -1, g)
	case g.To < low:
		j.lost.Prefix += g.Len()
		j.find(LossPrefix, -1, g)
	default:
		j.lost.Middle += g.Len()
		j.find(LossMiddle, -1, g)
	}
}

// absentees returns what of all is not among the arrivals, which come by
// number.
func absentees(bySeq []int, seq func(int) uint64, all gapSet) gapSet {
	if len(all) == 0 {
		return nil
	}
	var absent gapSet
	next := all[0].From
	for _, i := range bySeq {
		if s := seq(i); s >= next {
			if s > next {
				absent = append(absent, Gap{From: next, To: s - 1})
			}
			next = s + 1
		}
	}
	if next <= all[0].To {
		absent = append(absent, Gap{From: next, To: all[0].To})
	}
	return absent
}

// mark gives the gaps of s the reasons that by has for their numbers, and splits
// them where it changes.
func mark(s, by gapSet) gapSet {
	var out gapSet
	k := 0
	for _, g := range s {
		for k < len(by) && by[k].To < g.From {
			k++
		}
		for m := k; m < len(by) && by[m].From <= g.To; m++ {
			if by[m].From > g.From {
				out = append(out, Gap{g.From, by[m].From - 1, g.Reason})
			}
			to := min(g.To, by[m].To)
			out = append(out, Gap{max(g.From, by[m].From), to, by[m].Reason})
			g.From = to + 1
		}
		if g.From <= g.To {
			out = append(out, g)
		}
	}
	return out
}

// disjoint makes a set of what may overlap and be in any order. Where two
// overlap, the one that begins first keeps the numbers; where one has no
// reason, it gets why.
func disjoint(list []Gap, why Reason) gapSet {
	s := slices.DeleteFunc(slices.Clone(list), func(g Gap) bool { return g.From == 0 || g.From > g.To })
	slices.SortStableFunc(s, func(a, b Gap) int { return cmp.Compare(a.From, b.From) })
	var out gapSet
	for _, g := range s {
		if n := len(out); n > 0 && g.From <= out[n-1].To {
			if g.To <= out[n-1].To {
				continue
			}
			g.From = out[n-1].To + 1
		}
		if !g.Told() {
			g.Reason = why
		}
		out = append(out, g)
	}
	return out
}

func (j *judge) report() Report {
	r := Report{Verdicts: j.verdicts, Missing: j.absent, Lost: j.lost, Copies: j.extra}
	for _, v := range j.verdicts.Each() {
		if f, ok := j.at[v]; ok {
			r.Findings = append(r.Findings, f)
		}
	}
	return r
}

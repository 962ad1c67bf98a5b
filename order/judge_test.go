package order

import (
	"slices"
	"strings"
	"testing"
)

// slowVerdicts says of a log what the words of the verdicts say, by comparing
// everything with everything. Groups are topic and QoS.
func slowVerdicts(log Log) Verdicts {
	var v Verdicts
	say := func(w Verdicts, when bool) {
		if when {
			v |= w
		}
	}
	in := func(gaps []Gap, seq uint64) bool {
		return slices.ContainsFunc(gaps, func(g Gap) bool { return g.Has(seq) })
	}
	var as []Arrival
	for i, a := range log.Arrivals {
		for _, b := range log.Arrivals[:i] {
			say(Split, b.Conn > a.Conn)
		}
		say(Corrupt, a.Corrupt)
		phantom := !a.Corrupt && (a.Seq < 1 || a.Seq > log.Sent)
		say(Phantom, phantom)
		if !a.Corrupt && !phantom {
			as = append(as, a)
		}
	}
	isFirst := func(i int, same func(a, b Arrival) bool) bool {
		return !slices.ContainsFunc(as[:i], func(b Arrival) bool { return b.Seq == as[i].Seq && same(as[i], b) })
	}
	isLast := func(i int, same func(a, b Arrival) bool) bool {
		return !slices.ContainsFunc(as[i+1:], func(b Arrival) bool { return b.Seq == as[i].Seq && same(as[i], b) })
	}
	grouped := func(a, b Arrival) bool { return a.Topic == b.Topic && a.QoS == b.QoS }
	handshake := func(a, b Arrival) bool { return a.QoS > 0 && b.QoS > 0 }
	falls, crossFalls, topics, kinds := false, false, map[int]bool{}, map[byte]bool{}
	copies := false
	for i, a := range as {
		if a.QoS > 0 {
			topics[a.Topic], kinds[a.QoS] = true, true
		}
		say(ExpiredDelivered, in(log.Expired, a.Seq))
		before := -1
		for k, b := range as[:i] {
			if grouped(a, b) && a.Seq < b.Seq {
				falls = true
				say(ReorderFirst, isFirst(i, grouped) && isFirst(k, grouped))
				say(ReorderLast, isLast(i, grouped) && isLast(k, grouped))
			}
			if handshake(a, b) && a.Seq < b.Seq && isFirst(i, handshake) && isFirst(k, handshake) {
				crossFalls = true
			}
			if b.Seq == a.Seq {
				before = k
			}
		}
		if before >= 0 {
			copies = true
			say(DupQoS2, a.QoS == 2)
			say(DupLive, a.QoS != 2 && !in(log.Resent, a.Seq) && (a.QoS == 0 || !a.Dup || a.Conn <= as[before].Conn))
		}
	}
	came := func(test func(seq uint64) bool) bool {
		return slices.ContainsFunc(as, func(a Arrival) bool { return test(a.Seq) })
	}
	for n := uint64(1); n <= log.Sent; n++ {
		if came(func(s uint64) bool { return s == n }) {
			continue
		}
		below, above := came(func(s uint64) bool { return s < n }), came(func(s uint64) bool { return s > n })
		told, owed := in(log.Told, n), in(log.Acked, n) && !in(log.Expired, n)
		say(GapTold, told)
		say(GapSilent, !told && above)
		say(LossPrefix, !told && owed && !below && above)
		say(LossMiddle, !told && owed && below && above)
		say(LossPostfix, !told && owed && !above)
	}
	say(Stall, log.Stalled)
	say(RM1, !falls)
	say(Strict, !copies && !v.Has(ReorderFirst))
	say(Spec, !v.Any(ReorderFirst|ReorderLast|DupQoS2|DupLive))
	say(CrossTopic, len(topics) > 1 && !crossFalls)
	say(CrossQoS, len(kinds) > 1 && !crossFalls)
	return v
}

// every calls f with all logs of up to n of the arrivals.
func every(n int, of []Arrival, f func([]Arrival)) {
	var rec func(list []Arrival)
	rec = func(list []Arrival) {
		f(list)
		if len(list) == n {
			return
		}
		for _, a := range of {
			rec(append(list, a))
		}
	}
	rec(make([]Arrival, 0, n))
}

func TestJudgeAgreesOnAllSmallLogs(t *testing.T) {
	var order, flags, wide []Arrival
	for seq := uint64(1); seq <= 4; seq++ {
		order = append(order, Arrival{Seq: seq, QoS: 1, Conn: 1})
		for conn := range 2 {
			for _, dup := range []bool{false, true} {
				if seq <= 3 {
					flags = append(flags, Arrival{Seq: seq, QoS: 1, Conn: conn, Dup: dup})
				}
			}
		}
	}
	for seq := uint64(0); seq <= 3; seq++ {
		for qos := range byte(3) {
			for topic := range 2 {
				wide = append(wide, Arrival{Seq: seq, QoS: qos, Topic: topic})
			}
		}
	}
	wide = append(wide, Arrival{Seq: 2, QoS: 1, Corrupt: true})
	seen := Verdicts(0)
	checked := 0
	check := func(log Log) func([]Arrival) {
		return func(list []Arrival) {
			checked++
			log.Arrivals = list
			got, want := Judge(log), slowVerdicts(log)
			seen |= want
			if got.Verdicts != want {
				t.Fatalf("%+v:\n got %v\nwant %v", log, got.Verdicts, want)
			}
			if n := len((got.Verdicts &^ (Strict | Spec | RM1 | CrossTopic | CrossQoS)).Each()); len(got.Findings) != n {
				t.Fatalf("%+v: %d findings for %v", log, len(got.Findings), got.Verdicts)
			}
		}
	}
	all := []Gap{{From: 1, To: 4}}
	every(6, order, check(Log{Sent: 4, Acked: all}))
	every(4, flags, check(Log{Sent: 3, Acked: []Gap{{From: 2, To: 3}}}))
	every(4, flags, check(Log{Sent: 3, Resent: []Gap{{From: 2, To: 2}}, Expired: []Gap{{From: 1, To: 1}}, Acked: all, Stalled: true}))
	every(3, wide, check(Log{Sent: 2, Acked: all}))
	// Everything that can be said of what is missing.
	sets := [][]Gap{nil, {{From: 1, To: 1}}, {{From: 2, To: 3, Reason: Expired}}, {{From: 3, To: 4}, {From: 1, To: 3, Reason: Denied}}}
	for _, acked := range sets {
		for _, told := range sets {
			for _, expired := range sets {
				every(2, order, check(Log{Sent: 4, Acked: acked, Told: told, Expired: expired}))
			}
		}
	}
	for _, v := range (^Verdicts(0)).Each() {
		if verdictNames[v] != "" && !seen.Has(v) {
			t.Errorf("no log shows %v: the test proves nothing of it", v)
		}
	}
	t.Logf("%d logs", checked)
}

// The patterns that people know by sight.
func TestJudgeKnownPatterns(t *testing.T) {
	const reconnect = 0
	for _, tt := range []struct {
		name string
		seqs []uint64 // 0 is a reconnect; repeats after it have DUP
		want string
	}{
		{"plain", []uint64{1, 2, 3, 4}, "STRICT SPEC RM1"},
		{"window 1", []uint64{1, 2, 3, reconnect, 3, 4}, "SPEC RM1"},
		{"window 2", []uint64{1, 2, 3, reconnect, 2, 3, 4}, "SPEC"},
		{"resent in reverse", []uint64{1, 2, 3, reconnect, 3, 2, 4}, "REORDER-LAST"},
		{"live overtakes the backlog", []uint64{1, 2, reconnect, 4, 3}, "REORDER-FIRST REORDER-LAST"},
		{"no reconnect", []uint64{1, 2, 2, 3, 4}, "RM1 DUP-LIVE"},
		{"first lost", []uint64{2, 3, 4}, "STRICT SPEC RM1 LOSS-ACKED-PREFIX GAP-SILENT"},
		{"middle lost", []uint64{1, 4}, "STRICT SPEC RM1 LOSS-ACKED-MIDDLE GAP-SILENT"},
		{"last lost", []uint64{1, 2, 3}, "STRICT SPEC RM1 LOSS-ACKED-POSTFIX"},
		{"all lost", nil, "STRICT SPEC RM1 LOSS-ACKED-POSTFIX"},
	} {
		log, conn, had := Log{Sent: 4, Acked: []Gap{{From: 1, To: 4}}}, 1, map[uint64]bool{}
		for _, s := range tt.seqs {
			if s == reconnect {
				conn++
				continue
			}
			log.Arrivals = append(log.Arrivals, Arrival{Seq: s, QoS: 1, Conn: conn, Dup: had[s] && conn > 1})
			had[s] = true
		}
		if got := Judge(log).Verdicts.String(); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestJudgeSaysWhere(t *testing.T) {
	r := Judge(Log{
		Sent: 9, Acked: []Gap{{From: 1, To: 9}}, Told: []Gap{{From: 8, To: 8, Reason: Overflow}},
		Arrivals: []Arrival{{Seq: 1, QoS: 1}, {Seq: 2, QoS: 1}, {Seq: 5, QoS: 1}, {Seq: 4, QoS: 1}, {Seq: 7, QoS: 2}, {Seq: 7, QoS: 2}},
	})
	var lines []string
	for _, f := range r.Findings {
		lines = append(lines, f.String())
	}
	want := "REORDER-FIRST of 4 at arrival 3; REORDER-LAST of 4 at arrival 3; LOSS-ACKED-MIDDLE of 3; LOSS-ACKED-POSTFIX of 9; " +
		"GAP-TOLD of 8 (overflow); GAP-SILENT of 3; DUP-QOS2 of 7 at arrival 5"
	if got := strings.Join(lines, "; "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if want := []Gap{{From: 3, To: 3}, {From: 6, To: 6}, {8, 8, Overflow}, {From: 9, To: 9}}; !slices.Equal(r.Missing, want) || r.Copies != 1 {
		t.Errorf("missing %v, copies %d", r.Missing, r.Copies)
	}
	if want := (Loss{Middle: 2, Postfix: 1}); r.Lost != want {
		t.Errorf("lost %+v, not %+v", r.Lost, want)
	}
}

// permutations calls f with each order of the list.
func permutations(list []int, f func([]int)) {
	var rec func(k int)
	rec = func(k int) {
		if k == len(list) {
			f(list)
			return
		}
		for i := k; i < len(list); i++ {
			list[k], list[i] = list[i], list[k]
			rec(k + 1)
			list[k], list[i] = list[i], list[k]
		}
	}
	rec(0)
}

// One order of all exists, or it does not: try each.
func TestTotalOrderAgreesOnAllSmallLogs(t *testing.T) {
	var logs [][]int
	for set := range 8 { // every order of every subset of 0, 1, 2
		var list []int
		for m := range 3 {
			if set>>m&1 == 1 {
				list = append(list, m)
			}
		}
		permutations(list, func(p []int) { logs = append(logs, slices.Clone(p)) })
	}
	logs = append(logs, []int{0, 1, 0}, []int{2, 2, 1}) // copies do not count
	fits := func(log, order []int) bool {
		seen, last := map[int]bool{}, -1
		for _, m := range log {
			if !seen[m] {
				seen[m] = true
				if slices.Index(order, m) < last {
					return false
				}
				last = slices.Index(order, m)
			}
		}
		return true
	}
	for _, a := range logs {
		for _, b := range logs {
			for _, c := range logs {
				want := false
				permutations([]int{0, 1, 2}, func(p []int) { want = want || fits(a, p) && fits(b, p) && fits(c, p) })
				if got := TotalOrder(a, b, c); got != want {
					t.Fatalf("%v %v %v: got %v", a, b, c, got)
				}
			}
		}
	}
}

func TestKeyOrderShared(t *testing.T) {
	good := []Shared[string]{{"a", 1, 1}, {"b", 1, 2}, {"a", 2, 1}, {"a", 2, 2}, {"a", 1, 2}, {"a", 3, 2}, {"b", 2, 2}}
	if at, ok := KeyOrderShared(good); !ok || at != -1 {
		t.Errorf("refused at %d", at)
	}
	if at, ok := KeyOrderShared(append(good, Shared[string]{"b", 5, 1}, Shared[string]{"b", 4, 2})); ok || at != 8 {
		t.Errorf("ok %v at %d, want 8", ok, at)
	}
	if m := Members(good); !slices.Equal(m["a"], []int{1, 2}) || !slices.Equal(m["b"], []int{2}) {
		t.Errorf("members %v", m)
	}
}

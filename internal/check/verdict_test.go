package check

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/order"
)

// script reads receipts such as "1 2 | 2d 3": a number is a message, | is a
// reconnect, d is DUP, a is a QoS 2 handshake that goes on.
func receiptsOf(script string, qos mqtt.QoS) []Receipt {
	conn := 1
	var got []Receipt
	for _, word := range strings.Fields(script) {
		if word == "|" {
			conn++
			continue
		}
		n, err := strconv.Atoi(strings.TrimRight(word, "da"))
		if err != nil {
			panic(err)
		}
		got = append(got, Receipt{Key: Key{"p", n}, Topic: "t", QoS: qos, Conn: conn,
			Dup: strings.Contains(word, "d"), Again: strings.Contains(word, "a")})
	}
	return got
}

// sentOf is messages 1 to n, all acknowledged.
func sentOf(n int, qos mqtt.QoS) []Sent {
	sent := make([]Sent, n)
	for i := range sent {
		sent[i] = Sent{Key: Key{"p", i + 1}, Topic: "t", QoS: qos, Acked: true}
	}
	return sent
}

func TestJudge(t *testing.T) {
	for _, x := range []struct {
		n    int
		got  string
		qos  mqtt.QoS
		rule Rule
		want string
	}{
		{0, "", 1, Rule{}, "STRICT"},
		{3, "1 2 3", 1, Rule{}, "STRICT"},
		{3, "1 2 3", 1, Rule{WindowOne: true}, "STRICT RM1"},
		{3, "1 2 3", 1, Rule{SomeReceiver: true}, ""},
		{4, "1 2 3 | 2d 3d 4", 1, Rule{}, "SPEC"},
		{4, "1 2 3 | 3d 4", 1, Rule{WindowOne: true}, "SPEC RM1"},
		{4, "1 2 3 | 2d 3d 4", 1, Rule{WindowOne: true}, "REORDER-LAST"},
		{3, "1 3 2", 1, Rule{}, "REORDER-FIRST"},
		{3, "2 3 1", 1, Rule{}, "REORDER-FIRST"},
		{3, "1 2 3 | 3d 2d 1d", 1, Rule{}, "REORDER-LAST"},
		{3, "1 2 | 3 1d 2d", 1, Rule{}, "REORDER-LAST"},
		{3, "1 2 | 3 1d 2d", 1, Rule{AnyAckOrder: true}, "SPEC"},
		{3, "1 3 2", 1, Rule{AnyAckOrder: true}, "REORDER-FIRST"},
		{3, "1 3 2", 1, Rule{SomeReceiver: true}, ""},
		{3, "2 3", 1, Rule{}, "LOSS-ACKED"},
		{3, "1 3", 1, Rule{}, "LOSS-ACKED"},
		{3, "1 2", 1, Rule{}, "LOSS-ACKED"},
		{3, "1 2", 1, Rule{MayDrop: true}, "STRICT GAP-SILENT"},
		{3, "1 2", 1, Rule{MayDrop: true, Told: 1}, "STRICT GAP-TOLD"},
		{4, "1 2", 1, Rule{MayDrop: true, Told: 1}, "STRICT GAP-SILENT"},
		{3, "1 3", 0, Rule{}, "STRICT"},
		{2, "1 1 2", 0, Rule{}, "DUP-LIVE"},
		{2, "1 | 1 2", 0, Rule{}, "DUP-LIVE"},
		{2, "1 1 2", 1, Rule{}, "DUP-LIVE"},
		{2, "1 1d 2", 1, Rule{}, "DUP-LIVE"},
		{2, "1 1d 2", 1, Rule{LiveResend: true}, "SPEC"},
		{2, "1 1 2", 1, Rule{LiveResend: true}, "DUP-LIVE"},
		{2, "1 1 2 2", 1, Rule{Copies: 2}, "SPEC"},
		{2, "1 1 1 2 2", 1, Rule{Copies: 2}, "DUP-LIVE"},
		{2, "1 | 1 2", 1, Rule{}, "DUP-LIVE"},
		{2, "1 2 1 2", 1, Rule{Republished: true}, "SPEC"},
		{2, "1 2 2 1", 1, Rule{Republished: true}, "REORDER-LAST"},
		{2, "1 2 1", 2, Rule{Republished: true}, "REORDER-LAST DUP-QOS2"},
		{2, "1 1 2", 2, Rule{}, "DUP-QOS2"},
		{2, "1 | 1d 2", 2, Rule{}, "DUP-QOS2"},
		{2, "1 | 1da 2", 2, Rule{}, "SPEC"},
		{2, "1 | 1a 2", 2, Rule{}, "DUP-LIVE"},
		{2, "1 1da 2", 2, Rule{}, "DUP-LIVE"},
		{2, "1 2 3", 1, Rule{}, "PHANTOM"},
		{2, "1 3", 1, Rule{}, "LOSS-ACKED PHANTOM"},
	} {
		j := Judge(sentOf(x.n, x.qos), receiptsOf(x.got, x.qos), x.rule)
		if got := strings.Trim(fmt.Sprint(j.Verdicts), "[]"); got != x.want {
			t.Errorf("%d sent with QoS %d, got %q, %+v: %q, not %q (%v)", x.n, x.qos, x.got, x.rule, got, x.want, j.Why)
		}
	}
}

func TestJudgeLooksAtTheSenderToo(t *testing.T) {
	for name, x := range map[string]struct {
		change func([]Sent, []Receipt)
		want   Verdict
	}{
		"what was not acknowledged may be lost": {func(s []Sent, _ []Receipt) { s[2].Acked = false }, Strict},
		"what is optional may be lost":          {func(s []Sent, _ []Receipt) { s[2].Optional = true }, Strict},
		"what must not come may be missing":     {func(s []Sent, _ []Receipt) { s[2].Forbidden = ExpiredDelivered }, Strict},
		"and nobody was told":                   {func(s []Sent, _ []Receipt) { s[2].Forbidden = ExpiredDelivered }, GapSilent},
		"what must not come has come":           {func(s []Sent, _ []Receipt) { s[2].Acked = false; s[0].Forbidden = ExpiredDelivered }, ExpiredDelivered},
		"another topic":                         {func(s []Sent, r []Receipt) { s[2].Acked = false; r[0].Topic = "u" }, Corrupt},
		"a wrong checksum":                      {func(s []Sent, r []Receipt) { s[2].Acked = false; r[0].Corrupt = true }, Corrupt},
		"another run":                           {func(s []Sent, r []Receipt) { s[2].Acked = false; r[0].Foreign = true }, Phantom},
	} {
		sent, got := sentOf(3, 1), receiptsOf("1 2", 1)
		x.change(sent, got)
		if j := Judge(sent, got, Rule{}); !slices.Contains(j.Verdicts, x.want) {
			t.Errorf("%s: %v", name, j.Verdicts)
		}
	}
}

func TestWhereItIsLost(t *testing.T) {
	for _, x := range []struct {
		got  string
		want order.Loss
	}{
		{"1 2 3 4", order.Loss{}}, {"2 3 4", order.Loss{Prefix: 1}}, {"1 4", order.Loss{Middle: 2}}, {"1 2", order.Loss{Postfix: 2}}, {"2 4", order.Loss{Prefix: 1, Middle: 1}}, {"", order.Loss{Postfix: 4}},
	} {
		if j := Judge(sentOf(4, 1), receiptsOf(x.got, 1), Rule{}); j.Lost != x.want {
			t.Errorf("%q: %+v, not %+v", x.got, j.Lost, x.want)
		}
	}
}

// TestEverySmallHistory holds Judge against the definitions, written a second
// time as plainly as can be, over every sequence of up to five receipts.
func TestEverySmallHistory(t *testing.T) {
	t.Parallel()
	words := []string{"1", "2", "3", "1d", "2d", "3d", "|"}
	var walk func(history []string)
	histories := 0
	walk = func(history []string) {
		histories++
		text := strings.Join(history, " ")
		got := receiptsOf(text, 1)
		j := Judge(sentOf(3, 1), got, Rule{})
		for v, want := range plainly(got) {
			if have := slices.Contains(j.Verdicts, v); have != want {
				t.Fatalf("%q: %s is %v, not %v (%v)", text, v, have, want, j.Verdicts)
			}
		}
		if len(history) < 5 {
			for _, w := range words {
				walk(append(slices.Clone(history), w))
			}
		}
	}
	walk(nil)
	if histories < 19_000 {
		t.Errorf("only %d histories", histories)
	}
}

// plainly is the definitions of the verdicts for three acknowledged messages at
// QoS 1.
func plainly(got []Receipt) map[Verdict]bool {
	var first, last []int
	firstFall, lastFall, bad := false, false, false
	for i, r := range got {
		before, after := got[:i], got[i+1:]
		same := func(x Receipt) bool { return x.N == r.N }
		if !slices.ContainsFunc(before, same) {
			first = append(first, r.N)
		} else if !r.Dup || slices.ContainsFunc(before, func(x Receipt) bool { return x.N == r.N && x.Conn == r.Conn }) {
			bad = true
		}
		if !slices.ContainsFunc(after, same) {
			last = append(last, r.N)
		}
	}
	firstFall, lastFall = !slices.IsSorted(first), !slices.IsSorted(last)
	good := !firstFall && !lastFall && !bad && len(first) == 3
	return map[Verdict]bool{
		ReorderFirst: firstFall,
		ReorderLast:  lastFall && !firstFall, // told once
		DupLive:      bad,
		LossAcked:    len(first) < 3,
		Strict:       good && len(got) == 3,
		Spec:         good && len(got) > 3,
	}
}

func TestGapTold(t *testing.T) {
	for _, x := range []struct {
		key, value string
		want       int
	}{
		{"wilco-gap", "12 overflow", 12}, {"wilco-gap", "3", 3}, {"Messages-Dropped", "7", 7},
		{"wilco-gap", "overflow", 0}, {"wilco-gap", "-1 overflow", 0}, {"wilco-gap", "", 0}, {"trace", "12 overflow", 0},
	} {
		if n := gapTold(x.key, x.value); n != x.want {
			t.Errorf("%s: %q: %d, not %d", x.key, x.value, n, x.want)
		}
	}
}

func TestAcross(t *testing.T) {
	a1, a2 := Key{"a", 1}, Key{"a", 2}
	sent := []Sent{{Key: a1, Topic: "t", QoS: 1}, {Key: a2, Topic: "t", QoS: 2}}
	came := func(qos mqtt.QoS, keys ...Key) (got []Receipt) {
		for _, k := range keys {
			got = append(got, Receipt{Key: k, Topic: "t", QoS: qos, Conn: 1})
		}
		return got
	}
	for name, x := range map[string]struct {
		got  []Receipt
		want bool
	}{
		"rising":     {came(1, a1, a2, a1), true},
		"falling":    {came(1, a2, a1), false},
		"one stream": {came(1, a1), false},
	} {
		if j := Judge(sent, x.got, Rule{}); j.Across != x.want {
			t.Errorf("%s: %v", name, j.Across)
		}
	}
}

func TestStamp(t *testing.T) {
	k := Key{"p", 42}
	b := appendStamp(nil, "run", k, "a/b", 5)
	if got, foreign, corrupt := parseStamp(b, "run", "a/b"); got != k || foreign || corrupt {
		t.Errorf("%v %v %v of %q", got, foreign, corrupt, b)
	}
	if _, foreign, corrupt := parseStamp(b, "other", "a/b"); !foreign || corrupt {
		t.Error("another run's is not foreign")
	}
	if _, _, corrupt := parseStamp(b, "run", "a/c"); !corrupt {
		t.Error("another topic's is not corrupt")
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, _, corrupt := parseStamp(bad, "run", "a/b"); !corrupt {
			t.Errorf("a changed byte %d passes", i)
		}
		if _, _, corrupt := parseStamp(b[:i], "run", "a/b"); !corrupt {
			t.Errorf("the first %d bytes pass", i)
		}
	}
}

func TestEveryCaseHasAScript(t *testing.T) {
	all, err := listed()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 38 || len(scripts) != 38 {
		t.Errorf("%d cases, %d scripts", len(all), len(scripts))
	}
	for _, c := range all {
		if s := scripts[c.ID]; (s.run == nil && c.ID != soakID) == (s.skip == "") {
			t.Errorf("%s has neither, or both, of a script and a reason", c.ID)
		}
	}
}

package host

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// bench is a host that is not started, with one shard and two servers.
type bench struct {
	t *testing.T
	h *Host
	s *shard
	n uint64 // messages; also the clock in milliseconds
}

func newBench(t *testing.T, o Options) *bench {
	to := client.Options{Servers: []string{"mqtt://x"}}
	o.Role, o.Shards, o.Servers = Active, 1, []Server{{Name: "a", Client: to}, {Name: "b", Client: to}}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, h: h, s: h.shards[0]}
}

func (b *bench) take(server int, kind sparkplug.MessageType, node, device string, seq uint64, metrics ...sparkplug.Metric) {
	b.n++
	p := sparkplug.Payload{Timestamp: b.n, HasTimestamp: true, HasSeq: true, Seq: seq, Metrics: metrics}
	b.s.take(&item{
		link: b.h.links[server], at: time.UnixMilli(int64(b.n)), msg: &client.Delivery{Message: client.Message{Payload: p.Append(nil)}},
		topic: sparkplug.Topic{Type: kind, Group: "g", Node: node, Device: device},
	})
}

func (b *bench) node(node string) (Node, []Device) {
	n, d, _ := b.h.Node(NodeID{"g", node})
	return n, d
}

func number(name string, x int64) sparkplug.Metric {
	v, _ := sparkplug.NewInt(sparkplug.TypeInt32, x)
	return sparkplug.Metric{Name: []byte(name), Datatype: sparkplug.TypeInt32, Value: v}
}

func text(name, x string) sparkplug.Metric {
	return sparkplug.Metric{Name: []byte(name), Datatype: sparkplug.TypeString, Value: sparkplug.NewText([]byte(x))}
}

func at(m sparkplug.Metric, ms uint64) sparkplug.Metric {
	m.Timestamp, m.HasTimestamp = ms, true
	return m
}

func (b *bench) is(m Metric, want int64, q Quality) {
	b.t.Helper()
	if x, err := m.Value.Int(m.Datatype); err != nil || x != want || m.Quality != q {
		b.t.Errorf("%s is %d, %v (%v), want %d, %v", m.Name, x, m.Quality, err, want, q)
	}
}

func TestValues(t *testing.T) {
	b := newBench(t, Options{})
	quality := func(m sparkplug.Metric, q int64) sparkplug.Metric {
		m.Properties = &sparkplug.PropertySet{Keys: [][]byte{[]byte(sparkplug.Quality)}, Values: []sparkplug.PropertyValue{{
			Datatype: sparkplug.TypeInt32, Value: number("", q).Value,
		}}}
		return m
	}
	b.take(0, sparkplug.NBirth, "n", "", 0, number("a", 1), number("b", 2), quality(number("c", 3), sparkplug.QualityBad))
	metrics := func() []Metric { _, d := b.node("n"); return d[0].Metrics }
	b.is(metrics()[0], 1, Good)
	b.is(metrics()[2], 3, Bad)

	old := number("a", 9)
	old.Historical = true
	b.take(0, sparkplug.NData, "n", "", 1, old, quality(number("b", 4), sparkplug.QualityStale), number("c", 5))
	b.is(metrics()[0], 1, Good) // history is not the live value
	b.is(metrics()[1], 4, Stale)
	b.is(metrics()[2], 5, Good)
	if metrics()[2].Properties == nil {
		t.Error("the properties of the birth are gone")
	}
	// Case 47: the later one counts, not the last one. In the next message an
	// older time is one of a clock that was set back.
	b.take(0, sparkplug.NData, "n", "", 2, at(number("a", 20), 700), at(number("a", 10), 600))
	b.is(metrics()[0], 20, Good)
	b.take(0, sparkplug.NData, "n", "", 3, at(number("a", 30), 500))
	b.is(metrics()[0], 30, Good)
	null := number("a", 7)
	null.Null = true
	b.take(0, sparkplug.NData, "n", "", 4, null)
	if m := metrics()[0]; !m.Null || m.Quality != Good || m.Datatype != sparkplug.TypeInt32 {
		t.Errorf("%+v", m)
	}
}

// Devices that do not come back after two births are forgotten.
func TestDevicesThatStayAway(t *testing.T) {
	b := newBench(t, Options{})
	b.take(0, sparkplug.NBirth, "n", "", 0, number("a", 1))
	b.take(0, sparkplug.DBirth, "n", "dev", 1, number("x", 1))
	b.take(0, sparkplug.NBirth, "n", "", 0, number("a", 1))
	if _, d := b.node("n"); len(d) != 2 || d[1].Online || d[1].Metrics[0].Quality != Stale {
		t.Errorf("%+v", d)
	}
	b.take(0, sparkplug.NBirth, "n", "", 0, number("a", 1))
	if n, d := b.node("n"); len(d) != 1 || n.Devices != 0 {
		t.Errorf("%+v", d)
	}
	if b.s.budget.metrics != 1 {
		t.Errorf("%d metrics are charged", b.s.budget.metrics)
	}
}

// Texts are kept while there is room; what was kept is given back.
func TestTextBudget(t *testing.T) {
	b := newBench(t, Options{MaxText: 1000})
	b.take(0, sparkplug.NBirth, "n", "", 0, text("a", strings.Repeat("x", 600)), text("b", strings.Repeat("y", 600)), number("c", 1))
	metrics := func() []Metric { _, d := b.node("n"); return d[0].Metrics }
	if m := metrics(); !m[0].Known || m[1].Known || m[1].Quality != Stale || !m[2].Known {
		t.Errorf("%v %v %v", m[0].Known, m[1].Known, m[2].Known)
	}
	b.take(0, sparkplug.NData, "n", "", 1, text("a", ""), text("b", strings.Repeat("z", 600)))
	if m := metrics(); !m[0].Known || !m[1].Known || string(m[1].Value.Data()) != strings.Repeat("z", 600) {
		t.Errorf("%v %v", m[0].Known, m[1].Known)
	}
	table := sparkplug.Metric{Name: []byte("b"), Datatype: sparkplug.TypeDataSet, DataSet: &sparkplug.DataSet{}}
	b.take(0, sparkplug.NBirth, "n", "", 0, table)
	if m := metrics(); !m[0].Known || m[0].DataSet == nil || b.s.budget.text > 500 {
		t.Errorf("%+v, %d charged", m[0], b.s.budget.text)
	}
}

// DATA may have some members of a template; the others are what they were. Shows
// [tck-id-payloads-template-instance-members-data].
func TestPartOfATemplate(t *testing.T) {
	b := newBench(t, Options{})
	of := func(name string, x *sparkplug.Template) sparkplug.Metric {
		return sparkplug.Metric{Name: []byte(name), Datatype: sparkplug.TypeTemplate, Template: x}
	}
	definition := of("Motor", &sparkplug.Template{Definition: true, Members: []sparkplug.Metric{number("speed", 0), number("torque", 0)}})
	instance := func(members ...sparkplug.Metric) sparkplug.Metric {
		return of("motor", &sparkplug.Template{Ref: []byte("Motor"), Members: members})
	}
	b.take(0, sparkplug.NBirth, "n", "", 0, definition, instance(number("speed", 1), number("torque", 2)))
	b.take(0, sparkplug.NData, "n", "", 1, instance(number("torque", 3)))
	_, d := b.node("n")
	want := instance(number("speed", 1), number("torque", 3))
	got := sparkplug.Metric{Template: d[0].Metrics[1].Template}
	if got.Template == nil || len(got.Template.Members) != 2 || !got.Holds(&want, sparkplug.TypeTemplate) {
		t.Errorf("%+v", got.Template)
	}
	// A birth is whole, and says it all.
	b.take(0, sparkplug.NBirth, "n", "", 0, definition, sparkplug.Metric{Name: []byte("motor"), Datatype: sparkplug.TypeTemplate, Null: true})
	b.take(0, sparkplug.NData, "n", "", 1, instance(number("torque", 4)))
	if _, d = b.node("n"); len(d[0].Metrics[1].Template.Members) != 1 {
		t.Errorf("%+v", d[0].Metrics[1].Template)
	}
}

// A metric whose alias another one has, too, is written by its name: by the alias the
// node could take it for the other. Shows [tck-id-payloads-alias-data-cmd-requirement].
func TestWriteOfATwofoldAlias(t *testing.T) {
	b := newBench(t, Options{})
	list := []sparkplug.Metric{number("a", 1), number("b", 2), number("c", 3)}
	for i, alias := range []uint64{7, 7, 8} {
		list[i].Alias, list[i].HasAlias = alias, true
	}
	b.take(0, sparkplug.NBirth, "n", "", 0, list...)
	u, _ := b.h.Unit(NodeID{"g", "n"}, "")
	for i, byAlias := range []bool{false, false, true} {
		ask := number(string(list[i].Name), 5)
		m, err := command(u, &ask, 1)
		if err != nil || m.HasAlias != byAlias || (m.Name == nil) != byAlias {
			t.Errorf("%s: %+v, %v", list[i].Name, m, err)
		}
	}
}

// What a value's properties take is charged as long as they are kept.
func TestPropertiesBudget(t *testing.T) {
	b := newBench(t, Options{MaxText: 10_000})
	with := number("a", 1)
	with.Properties = &sparkplug.PropertySet{Keys: [][]byte{[]byte("unit")}, Values: []sparkplug.PropertyValue{
		{Datatype: sparkplug.TypeString, Value: sparkplug.NewText([]byte(strings.Repeat("x", 500)))}}}
	b.take(0, sparkplug.NBirth, "n", "", 0, with)
	charged := b.s.budget.text
	if charged < 5000 {
		t.Fatalf("%d charged", charged)
	}
	b.take(0, sparkplug.NData, "n", "", 1, number("a", 2))
	if _, d := b.node("n"); d[0].Metrics[0].Properties == nil || b.s.budget.text != charged {
		t.Errorf("%d charged, then %d", charged, b.s.budget.text)
	}
	b.take(0, sparkplug.NData, "n", "", 2, with)
	if b.s.budget.text != charged {
		t.Errorf("%d charged for the same properties again, then %d", charged, b.s.budget.text)
	}
	b.take(0, sparkplug.NBirth, "n", "", 0, number("a", 1))
	if b.s.budget.text != 0 {
		t.Errorf("%d charged for nothing", b.s.budget.text)
	}
}

// The parts of templates in one message cause no more work than the host may keep: what
// is above that has no value until its next birth.
func TestVeryManyParts(t *testing.T) {
	b := newBench(t, Options{MaxText: 100_000})
	whole := &sparkplug.Template{Ref: []byte("Motor")}
	for i := range 100 {
		whole.Members = append(whole.Members, number(fmt.Sprint("m", i), 0))
	}
	birth := sparkplug.Metric{Name: []byte("motor"), Datatype: sparkplug.TypeTemplate, Template: whole}
	parts := make([]sparkplug.Metric, 4)
	for i := range parts {
		parts[i] = birth
		parts[i].Template = &sparkplug.Template{Ref: whole.Ref, Members: []sparkplug.Metric{number("m7", int64(i))}}
	}
	motor := func() Metric { _, d := b.node("n"); return d[0].Metrics[0] }
	b.take(0, sparkplug.NBirth, "n", "", 0, birth)
	for seq := range uint64(10) { // each message for itself
		b.take(0, sparkplug.NData, "n", "", seq+1, parts...)
	}
	if m := motor(); !m.Known || len(m.Template.Members) != 100 || !m.Template.Member([]byte("m7")).Holds(&parts[3].Template.Members[0], 0) {
		t.Errorf("known %v, %+v", m.Known, m.Template)
	}
	b.take(0, sparkplug.NData, "n", "", 11, slices.Repeat(parts, 4)...)
	if m := motor(); m.Known || m.Template != nil || m.Quality != Stale || b.s.budget.text != 0 {
		t.Errorf("known %v, %s, %d charged", m.Known, m.Quality, b.s.budget.text)
	}
	b.take(0, sparkplug.NBirth, "n", "", 0, birth)
	if m := motor(); !m.Known || m.Quality != Good {
		t.Errorf("known %v, %s", m.Known, m.Quality)
	}
}

// All nodes together hold no more than Options.MaxHeld.
func TestHeldBudget(t *testing.T) {
	alarms := 0
	b := newBench(t, Options{MaxHeld: 50, OnAlarm: func(Alarm) { alarms++ }})
	for _, node := range []string{"one", "two", "three"} {
		b.take(0, sparkplug.NBirth, node, "", 0, number("a", 1))
		for seq := range uint64(2) {
			b.take(0, sparkplug.NData, node, "", seq+2, number("a", 1))
		}
	}
	one, _ := b.node("one")
	three, _ := b.node("three")
	if one.Status != Online || three.Status != Unsure || three.Reason != session.HeldOverflow || alarms != 1 {
		t.Errorf("%v, %v %v, %d alarms", one.Status, three.Status, three.Reason, alarms)
	}
	b.take(0, sparkplug.NData, "one", "", 1, number("a", 1))
	b.take(0, sparkplug.NBirth, "three", "", 0, number("a", 1))
	b.take(0, sparkplug.NData, "three", "", 2, number("a", 1))
	if three, _ = b.node("three"); three.Status != Online {
		t.Error("no room, although it was given back:", b.s.held)
	}
}

// Messages of a connection that has ended come to nothing.
func TestFormerConnection(t *testing.T) {
	b := newBench(t, Options{})
	l := b.h.links[0]
	b.s.take(&item{what: opened, link: l, epoch: 2})
	b.take(0, sparkplug.NBirth, "n", "", 0, number("a", 1))
	if _, _, ok := b.h.Node(NodeID{"g", "n"}); ok {
		t.Error("a message of connection 0 during connection 2")
	}
}

// A node that is dead where it was last, and sends data by way of the server
// before: it is asked there. Asks wait at no other server than that of the birth.
func TestAskedWhereItIs(t *testing.T) {
	b := newBench(t, Options{})
	a, c := b.h.links[0], b.h.links[1]
	b.take(0, sparkplug.NBirth, "n", "", 0, number("a", 1))
	b.take(0, sparkplug.NData, "n", "", 1, number("other", 1)) // wants a rebirth
	if a.asks.Waiting() != 1 {
		t.Fatal("not wanted")
	}
	b.take(1, sparkplug.NBirth, "n", "", 0, number("a", 1))
	if a.asks.Waiting() != 0 {
		t.Error("it is still to be asked where it was before")
	}
	b.take(1, sparkplug.NDeath, "n", "", 0)
	b.take(0, sparkplug.NData, "n", "", 2, number("a", 1))
	if a.asks.Waiting() != 1 || c.asks.Waiting() != 0 {
		t.Errorf("waiting: %d at a, %d at b", a.asks.Waiting(), c.asks.Waiting())
	}
}

// Forgotten nodes make room for others.
func TestForget(t *testing.T) {
	b := newBench(t, Options{MaxNodes: 1})
	b.take(0, sparkplug.NBirth, "n", "", 0, number("a", 1))
	b.take(0, sparkplug.NDeath, "n", "", 0)
	b.s.forget(NodeID{"g", "n"})
	b.take(0, sparkplug.NBirth, "m", "", 0, number("a", 1))
	if n, _ := b.node("m"); n.Status != Online || b.s.budget.metrics != 1 {
		t.Errorf("%v, %d metrics", n.Status, b.s.budget.metrics)
	}
}

// The skew of a clock is bounded, whatever the node says.
func TestSkew(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	for ms, want := range map[uint64]time.Duration{
		1_700_000_005_000: 5 * time.Second, 1_699_999_990_000: -10 * time.Second,
		0: -1_700_000_000_000 * time.Millisecond, 1<<64 - 1: 9223372036854 * time.Millisecond,
	} {
		if got := (&Node{HasTime: true, Time: ms, Born: at}).Skew(); got != want {
			t.Errorf("%d: %v, want %v", ms, got, want)
		}
	}
	if (&Node{Born: at}).Skew() != 0 {
		t.Error("a skew without a time")
	}
}

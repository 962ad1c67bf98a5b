package broker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/order"
)

func full(how Share, policy Overflow, messages int) Options {
	return Options{Shares: map[string]ShareRule{"g": {how, policy}}, Limits: Limits{QueueMessages: messages}}
}

// window is a client that takes n messages at a time.
func window(c mqtt.Connect, n uint16) mqtt.Connect {
	c.ReceiveMaximum = n
	return c
}

// missing is what the gap notes of a PUBLISH tell.
func missing(t *testing.T, p *mqtt.Publish) uint64 {
	t.Helper()
	var list []mqtt.UserProperty
	for _, u := range p.User {
		list = append(list, mqtt.UserProperty{Key: string(u.Key), Value: string(u.Value)})
	}
	n, err := order.ParseGap(list)
	if err != nil {
		t.Fatal(err)
	}
	return n.Len()
}

// TestShareOverflow fills the queue of a share whose member is away, or there and
// slow, and looks what comes in the end: the publisher is accepted, what is lent stays,
// and each message comes or is told to be missing.
// Shows [B5c] [B6d].
func TestShareOverflow(t *testing.T) {
	for how := RoundRobin; how <= ByPublisher; how++ {
		for _, policy := range []Overflow{DropNewest, DropOldest} {
			for _, qos := range []mqtt.QoS{1, 2} {
				for _, away := range []bool{true, false} {
					t.Run(fmt.Sprintf("%v qos=%d away=%v", ShareRule{how, policy}, qos, away), func(t *testing.T) {
						shareOverflow(t, how, policy, qos, away)
					})
				}
			}
		}
	}
}

func shareOverflow(t *testing.T, how Share, policy Overflow, qos mqtt.QoS, away bool) {
	b := start(t, full(how, policy, 5))
	hello := window(lasting("m"), 2)
	m, from := join(t, b, hello), join(t, b, clean("from"))
	m.subscribe(qos, "$share/g/#")
	if away {
		m.drop(b, "m")
	}
	const n = 20
	for i := range n {
		id := uint16(i + 1)
		from.send(pub(fmt.Sprint("t/", i%3), fmt.Sprint(i), qos, id))
		if qos == 1 {
			from.expect(ack(mqtt.TypePuback, id))
			continue
		}
		from.expect(ack(mqtt.TypePubrec, id))
		from.send(ack(mqtt.TypePubrel, id))
		from.expect(ack(mqtt.TypePubcomp, id))
	}
	if away {
		m = open(t, b)
		m.connect(hello)
	}
	var got []int
	var told uint64
	for len(got) < 5 {
		switch p := m.must().(type) {
		case *mqtt.Publish:
			var i int
			_, _ = fmt.Sscan(string(p.Payload), &i)
			got, told = append(got, i), told+missing(t, p)
			m.send(ack(mqtt.TypePuback+mqtt.Type(qos-1), p.PacketID))
		case *mqtt.Ack:
			m.send(ack(mqtt.TypePubcomp, p.PacketID))
		}
	}
	slices.Sort(got) // the keys take turns
	want := []int{0, 1, 2, 3, 4}
	switch {
	case policy == DropOldest && away:
		want = []int{15, 16, 17, 18, 19}
	case policy == DropOldest:
		want = []int{0, 1, 17, 18, 19}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if told != n-5 {
		t.Errorf("%d were told to be missing", told)
	}
	counted(t, b, session.DropQueueFull, n-5)
}

// What is lost of a key is told to the member that owns it, with its next message of
// the key.
// Shows [B5c].
func TestShareGapIsToldToTheOwner(t *testing.T) {
	b := start(t, full(ByTopic, DropOldest, 4))
	mine, others := topicOf("a", "b"), topicOf("b", "a")
	from := join(t, b, clean("from"))
	one, two := join(t, b, window(clean("a"), 1)), join(t, b, window(clean("b"), 1))
	one.subscribe(1, "$share/g/#")
	two.subscribe(1, "$share/g/#")
	for i := range 5 { // 1 is dropped
		from.publish(pub(mine, fmt.Sprint(i), 1, 1))
	}
	one.expect(pub(mine, "0", 1, 1))
	from.publish(pub(others, "x", 1, 1)) // so is 2
	two.expect(pub(others, "x", 1, 1))
	one.send(ack(mqtt.TypePuback, 1))
	one.expect(told(pub(mine, "3", 1, 2), "2 queue_full"))
	one.send(ack(mqtt.TypePuback, 2))
	one.expect(pub(mine, "4", 1, 3))
}

// A message that goes to another member takes its note along, one that was told and
// answered is not told again, and MQTT 3.1.1 has no place for it.
// Shows [B5c].
func TestShareGapGoesWithItsMessage(t *testing.T) {
	b := start(t, full(Sticky, DropNewest, 2))
	from, first := join(t, b, clean("from")), join(t, b, window(clean("first"), 1))
	first.subscribe(1, "$share/g/t")
	for i := range 4 {
		from.publish(pub("t", fmt.Sprint(i), 1, 1))
	}
	first.expect(pub("t", "0", 1, 1))
	old := join(t, b, mqtt.Connect{Version: mqtt.V311, ClientID: "old", CleanStart: true})
	old.send(&mqtt.Subscribe{PacketID: 9, Subscriptions: []mqtt.Subscription{{Filter: "$share/g/t", QoS: 1}}})
	old.expect(&mqtt.Suback{PacketID: 9, Reasons: []mqtt.ReasonCode{1}})
	first.send(ack(mqtt.TypePuback, 1))
	first.expect(told(pub("t", "1", 1, 2), "2 queue_full"))
	first.drop(b, "first")
	old.expect(pub("t", "1", 1, 1))
	last := join(t, b, window(clean("last"), 1))
	last.subscribe(1, "$share/g/t")
	old.drop(b, "old")
	last.expect(told(pub("t", "1", 1, 1), "2 queue_full"))
	very := join(t, b, window(clean("very last"), 1))
	very.subscribe(1, "$share/g/t")
	last.drop(b, "last")
	very.expect(told(pub("t", "1", 1, 1), "2 queue_full"))
	very.send(ack(mqtt.TypePuback, 1))
	from.publish(pub("t", "4", 1, 1))
	very.expect(pub("t", "4", 1, 2))
}

// What nobody has heard of is told after a restart; what was answered is not.
// Shows [B5c].
func TestShareGapAfterRestart(t *testing.T) {
	s := store.NewMemory()
	o := full(ByTopic, DropOldest, 2)
	o.Store = s
	again := func(b *Broker) (*Broker, *peer) {
		stop(t, b)
		b = start(t, o)
		m := open(t, b)
		m.connect(window(lasting("m"), 1))
		return b, m
	}
	b := start(t, o)
	m := join(t, b, window(lasting("m"), 1))
	m.subscribe(1, "$share/g/t")
	m.drop(b, "m")
	from := join(t, b, clean("from"))
	for i := range 5 {
		from.publish(pub("t", fmt.Sprint(i), 1, 1))
	}
	b, m = again(b)
	m.expect(told(pub("t", "3", 1, 1), "3 queue_full"))
	b, m = again(b) // it was not answered
	m.expect(told(pub("t", "3", 1, 1), "3 queue_full"))
	m.send(ack(mqtt.TypePuback, 1))
	m.expect(pub("t", "4", 1, 2))
	m.quiet()
	_, m = again(b)
	m.expect(pub("t", "4", 1, 1))
}

// QoS 0 that waits behind others of its key gives way when they need the bytes, and
// what nobody is there for is told like the rest.
// Shows [B6b].
func TestShareQoS0GoesFirst(t *testing.T) {
	o := full(ByTopic, Refuse, 10)
	o.Limits.QueueBytes = 64 << 10
	b := start(t, o)
	from, m := join(t, b, clean("from")), join(t, b, window(lasting("m"), 1))
	m.subscribe(1, "$share/g/t")
	large := string(make([]byte, 20<<10))
	from.publish(pub("t", "first", 1, 1))
	m.expect(pub("t", "first", 1, 1))
	from.publish(pub("t", "second", 1, 1))
	from.send(pub("t", large, 0, 0), pub("t", "zero", 0, 0), pub("t", large, 0, 0))
	from.quiet()
	for _, want := range []uint64{0, 1, 3} { // the oldest first
		from.publish(pub("t", large, 1, 1))
		from.finished()
		counted(t, b, session.DropQoS0Full, want)
	}
	m.send(ack(mqtt.TypePuback, 1))
	m.expect(told(pub("t", "second", 1, 2), "3 qos0_full"))
	m.drop(b, "m")
	from.send(pub("t", "nobody", 0, 0))
	from.finished()
	counted(t, b, session.DropQoS0Full, 3)
	counted(t, b, session.DropOffline, 1)
	m = open(t, b)
	m.connect(window(lasting("m"), 1))
	m.expect(told(dup(pub("t", "second", 1, 2)), "3 qos0_full"))
	m.send(ack(mqtt.TypePuback, 2))
	m.expect(told(pub("t", large, 1, 3), "1 offline"))
}

// ages gives what waits by age, whatever was lent, came back, or is over.
func TestAges(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var a ages
	var waits, lent []*entry
	next := uint64(0)
	for range 20_000 {
		switch k := r.IntN(8); {
		case k < 3 || len(waits)+len(lent) == 0:
			e := &entry{order: next, waits: true}
			next++
			waits = append(waits, e)
			a.add(e, len(waits))
		case k < 5 && len(waits) > 0: // lent
			i := r.IntN(len(waits))
			waits[i].waits = false
			lent = append(lent, waits[i])
			waits = slices.Delete(waits, i, i+1)
		case k == 5 && len(lent) > 0: // taken back
			i := r.IntN(len(lent))
			lent[i].waits = true
			waits = append(waits, lent[i])
			a.add(lent[i], len(waits))
			lent = slices.Delete(lent, i, i+1)
		case k == 6 && len(lent) > 0: // over
			lent = lent[1:]
		case len(waits) > 0:
			oldest := slices.MinFunc(waits, func(x, y *entry) int { return int(x.order) - int(y.order) })
			if got := a.pop(); got != oldest {
				t.Fatalf("%d is the oldest, not %d", oldest.order, got.order)
			}
			oldest.waits = false
			waits = slices.DeleteFunc(waits, func(x *entry) bool { return x == oldest })
		}
		if len(a) > 2*(len(waits)+1)+64 {
			t.Fatalf("%d places for %d that wait", len(a), len(waits))
		}
	}
}

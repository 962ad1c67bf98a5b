package check

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// steady is one publisher, one topic, one subscriber at every quality of
// service, with windows of 1, 10 and 100.
func steady(t *trial) {
	for _, qos := range []mqtt.QoS{0, 1, 2} {
		for _, window := range []uint16{1, 10, 100} {
			topic := t.topic(fmt.Sprintf("q%dw%d", qos, window))
			sub := t.subscriber(topic, qos, window)
			pub := t.publisher(fmt.Sprintf("p%d.%d", qos, window))
			pub.send(60, message{topic: topic, qos: qos})
			t.check(Rule{WindowOne: window == 1}, sub, pub)
			if qos == 0 {
				break // it knows no window
			}
		}
	}
}

// overlapping is a wildcard filter, and then two filters that overlap: one copy
// that names both, or one copy for each, which is then in order by itself.
func overlapping(t *trial) {
	sub := t.subscriber(t.topic("one/+"), 1, 10)
	pub := t.publisher("p")
	pub.send(60, message{topic: t.topic("one/a"), qos: 1})
	t.check(Rule{}, sub, pub)

	two := t.client("two")
	two.window = 10
	if !two.connect() {
		return
	}
	ids := t.version == mqtt.V5 && !two.connack.NoSubscriptionIDs
	for i, filter := range []string{"two/+", "two/#"} {
		id := uint32(0)
		if ids {
			id = uint32(i + 1)
		}
		two.trySubscribe(id, mqtt.Subscription{Filter: t.topic(filter), QoS: 1})
	}
	writer := t.publisher("q")
	writer.send(60, message{topic: t.topic("two/a"), qos: 1})
	t.await(two, writer)
	if !ids {
		t.judge(Rule{Copies: 2}, two, writer)
		return
	}
	got, raw := two.receipts(), two.seen()
	for _, id := range []uint32{1, 2} {
		var part []Receipt
		for i, r := range got {
			if slices.Contains(raw[i].ids, id) {
				part = append(part, r)
			}
		}
		t.judged(Rule{}, writer.sentSoFar(), part) // [MQTT-3.3.4-4]
	}
	t.note("%d copies of 60 messages that match two filters", len(got))
}

// manyTopics is one publisher on eight topics, and one wildcard subscriber.
func manyTopics(t *trial) {
	sub := t.subscriber(t.topic("#"), 2, 20)
	pub := t.publisher("p")
	for range 200 {
		pub.publish(message{topic: t.topic(fmt.Sprintf("t%d", t.rng.IntN(8))), qos: mqtt.QoS(1)})
	}
	pub.complete()
	t.beyond(CrossTopic, t.check(Rule{}, sub, pub).Across)
}

// mixedQoS is one publisher on one topic with all three qualities of service.
func mixedQoS(t *trial) {
	sub := t.subscriber(t.topic("t"), 2, 20)
	pub := t.publisher("p")
	for range 200 {
		pub.publish(message{topic: t.topic("t"), qos: mqtt.QoS(t.rng.IntN(3))})
	}
	pub.complete()
	if t.check(Rule{}, sub, pub).Across {
		t.note("QoS 1 and 2 in one order")
	} else {
		t.note("QoS 1 and 2 overtake each other, as they may")
		t.beyond(CrossTopic, false)
	}
}

// interleaving is three publishers and three subscribers on one topic.
func interleaving(t *trial) {
	topic := t.topic("t")
	var subs, pubs []*client
	for range 3 {
		subs = append(subs, t.subscriber(topic, 1, 10))
	}
	for i := range 3 {
		pubs = append(pubs, t.publisher(fmt.Sprintf("p%d", i)))
	}
	var all sync.WaitGroup
	for _, p := range pubs {
		all.Go(func() { p.send(80, message{topic: topic, qos: 1}) })
	}
	all.Wait()
	var got [][]Receipt
	for _, s := range subs {
		t.check(Rule{}, s, pubs...)
		got = append(got, s.receipts())
	}
	t.beyond(TotalOrder, sameInterleaving(got...))
}

// slowReader stops reading for a while, twice, while messages come.
func slowReader(t *trial) {
	topic := t.topic("t")
	sub := t.subscriber(topic, 1, 10)
	pub := t.publisher("p")
	for range 2 {
		if t.over() {
			return
		}
		sub.nc.pause()
		pub.send(100, message{topic: topic, qos: 1, pad: 200})
		sub.nc.resume()
		sub.wait(t.patience(), func() bool { return len(sub.got) >= 50 })
	}
	t.check(Rule{}, sub, pub)
	if n := sub.summary().different; n > 0 && sub.summary().most > 10 && t.version == mqtt.V5 {
		t.find(LimitExceeded, "%d messages unacknowledged at receive maximum 10", sub.summary().most)
	}
}

// usualLimit is how many messages most brokers keep for an absent subscriber.
const usualLimit = 1000

// overflow asks what becomes of more than a queue holds: one and a half times
// the usual limit, or 1 above it, 100 above it and ten times as much.
func overflow(t *trial) {
	if !t.o.Full {
		overflowBy(t, usualLimit*3/2)
		return
	}
	for _, n := range []int{usualLimit + 1, usualLimit + 100, 10 * usualLimit} {
		overflowBy(t, n)
	}
}

func overflowBy(t *trial, overflowing int) {
	if t.over() {
		return
	}
	topic := t.topic(fmt.Sprintf("n%d", overflowing))
	sub := t.subscriber(topic, 1, 100)
	sub.leave()
	pub := t.publisher(fmt.Sprintf("p%d", overflowing))
	pub.send(overflowing, message{topic: topic, qos: 1, pad: 32})
	if !sub.connect() {
		return
	}
	// What was dropped never comes: wait for what does.
	if !t.complete(sub, []*client{pub}, t.patience()) {
		t.settle(sub)
	}
	refused := 0
	for _, s := range pub.sentSoFar() {
		if s.Refused {
			refused++
		}
	}
	told := sub.summary().told
	t.note("sent %d: refused to the publisher %d, delivered %d, told to the subscriber %d", overflowing, refused, sub.summary().different, told)
	t.judge(Rule{MayDrop: true, Told: told}, sub, pub)
	if refused > 0 {
		t.find(GapTold, "") // to the publisher; what it does not know is a gap of its own
	}
}

// tooLarge sends one packet that the subscriber does not accept.
func tooLarge(t *trial) {
	topic := t.topic("t")
	sub := t.client("subscriber")
	sub.maxPacket = 1024
	if !sub.connect() || !sub.subscribe(topic, 1) {
		return
	}
	pub := t.publisher("p")
	for i := range 40 {
		if i == 20 {
			pub.publish(message{topic: topic, qos: 1, pad: 4000, forbidden: LimitExceeded}) // [MQTT-3.1.2-24]
			continue
		}
		pub.publish(message{topic: topic, qos: 1})
	}
	pub.complete()
	t.await(sub, pub)
	t.judge(Rule{Told: sub.summary().told}, sub, pub) // [MQTT-3.1.2-25]
}

// expiring is messages of which every seventh expires, and two absent
// subscribers: one with a window of one too, so that nothing but the broker's own
// steps leads past what has expired.
func expiring(t *trial) {
	topic := t.topic("t")
	subs := []*client{t.subscriber(topic, 1, 10), t.subscriber(topic, 1, 1)}
	for _, sub := range subs {
		sub.leave()
	}
	pub := t.publisher("p")
	for i := range 49 {
		m := message{topic: topic, qos: 1, expiry: 60}
		if i%7 == 3 {
			m.expiry, m.forbidden = 1, ExpiredDelivered // [MQTT-3.3.2-5]
		}
		pub.publish(m)
	}
	pub.complete()
	sent := time.Now()
	// Time has to pass: nothing can be waited for.
	t.pass(2500 * time.Millisecond)
	for _, sub := range subs {
		if !sub.connect() {
			return
		}
		t.await(sub, pub)
		t.judge(Rule{Told: sub.summary().told}, sub, pub)
		got := sub.receipts()
		for i, r := range sub.seen()[:len(got)] {
			most := 60 - uint32(r.at.Sub(sent)/time.Second)
			if k := got[i]; k.N%7 != 4 && (!r.hasExpiry || r.expiry > most+1 || r.expiry < most-5) {
				t.find(Corrupt, "message %d was left with an expiry of %d s after %s of 60 s", k.N, r.expiry, r.at.Sub(sent).Round(time.Second)) // [MQTT-3.3.2-6]
				break
			}
		}
	}
}

// pass lets time go by.
func (t *trial) pass(d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.ctx.Done():
	}
}

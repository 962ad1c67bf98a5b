package check

import (
	"fmt"
	"slices"
	"sync"

	"github.com/wilco-iot/wilco/mqtt"
)

// loss is a way of losing a connection.
type loss struct {
	name string
	end  func(*client)
}

var losses = []loss{{"reset", (*client).cut}, {"half-open", (*client).vanish}, {"disconnect", (*client).leave}}

// cutWithUnacked cuts the subscriber with messages unacknowledged, in three
// ways, and wants them again with DUP, in their order, before the others.
func cutWithUnacked(t *trial) {
	for _, qos := range []mqtt.QoS{1, 2} {
		for _, way := range losses {
			cutOnce(t, fmt.Sprintf("%s%d", way.name, qos), qos, 10, way)
		}
	}
}

// cutWindowOne is the same with a window of one.
func cutWindowOne(t *trial) {
	for _, way := range losses {
		cutOnce(t, way.name, 1, 1, way)
	}
}

func cutOnce(t *trial, name string, qos mqtt.QoS, window int, way loss) {
	if t.over() {
		return
	}
	topic := t.topic(name)
	sub := t.subscriber(topic, qos, uint16(window))
	pub := t.publisher("p-" + name)
	sub.holdBack(qos, true)
	pub.send(40, message{topic: topic, qos: qos})
	if !sub.until("messages up to the window", func() bool { return len(sub.got) >= window }) {
		return
	}
	if sub.summary().most > window && t.version == mqtt.V5 {
		t.find(LimitExceeded, "%d messages unacknowledged at receive maximum %d", sub.summary().most, window)
	}
	if qos == 1 {
		if acked := t.rng.IntN(4); window == 1 {
			sub.ack(0)
		} else {
			for range acked {
				sub.ack(0)
			}
		}
		t.settle(sub)
	}
	due := sub.due()
	at := len(sub.receipts())
	way.end(sub)
	sub.holdBack(qos, false)
	if !sub.connect() {
		return
	}
	if !sub.connack.SessionPresent {
		t.find(LossAcked, "the session was gone after %s", way.name)
	}
	t.await(sub, pub)
	t.resent(sub, due, at)
	t.judge(Rule{WindowOne: window == 1}, sub, pub)
}

// holdBack makes the client keep its acknowledgements, or give them again.
func (c *client) holdBack(qos mqtt.QoS, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.manual, c.stopAt = on, 0
	if on && qos == mqtt.ExactlyOnce {
		c.stopAt = mqtt.TypePublish
	}
}

// due is what the broker must send again after a reconnect.
func (c *client) due() []Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	var keys []Key
	for _, u := range c.unacked {
		keys = append(keys, u.Key)
	}
	return keys
}

// resent checks that what was not acknowledged came again, behind the first at
// receipts [MQTT-4.4.0-1].
func (t *trial) resent(sub *client, due []Key, at int) {
	if t.over() {
		return
	}
	again := map[Key]bool{}
	lacks := func(k Key) bool { return !again[k] }
	if !sub.wait(t.patience(), func() bool {
		for ; at < len(sub.got); at++ {
			again[sub.got[at].Key] = true
		}
		return !slices.ContainsFunc(due, lacks)
	}) && t.ctx.Err() == nil {
		k := due[slices.IndexFunc(due, lacks)]
		t.lagging = true
		t.find(LossAcked, "message %d of %s was not acknowledged, and did not come again within %s of the reconnect", k.N, k.Pub, t.patience())
	}
}

// backlog is an absent subscriber with ten windows waiting, and more that come
// when it is back.
func backlog(t *trial) {
	topic := t.topic("t")
	sub := t.subscriber(topic, 1, 10)
	sub.leave()
	pub := t.publisher("p")
	pub.send(100, message{topic: topic, qos: 1})
	if !sub.connect() {
		return
	}
	pub.send(60, message{topic: topic, qos: 1})
	t.check(Rule{}, sub, pub)
}

// resumeUnderLoad cuts the subscriber three times while messages come.
func resumeUnderLoad(t *trial) {
	topic := t.topic("t")
	sub := t.subscriber(topic, 1, 10)
	pub := t.publisher("p")
	const total = 600
	var load sync.WaitGroup
	load.Go(func() { pub.send(total, message{topic: topic, qos: 1}) })
	for i := range 3 {
		n := 60 * (i + 1)
		if !sub.wait(t.patience(), func() bool { return len(sub.have) >= n }) {
			break
		}
		losses[t.rng.IntN(2)].end(sub)
		if !sub.connect() {
			break
		}
	}
	load.Wait()
	t.check(Rule{}, sub, pub)
}

// sameSecond has 200 messages of one second unacknowledged when it is cut.
func sameSecond(t *trial) {
	topic := t.topic("t")
	sub := t.subscriber(topic, 1, 200)
	sub.holdBack(1, true)
	pub := t.publisher("p")
	pub.send(200, message{topic: topic, qos: 1})
	sub.wait(t.patience()/5, func() bool { return len(sub.got) >= 200 }) // a broker's own limit may be lower
	due, at := sub.due(), len(sub.receipts())
	sub.cut()
	sub.holdBack(1, false)
	if !sub.connect() {
		return
	}
	t.await(sub, pub)
	t.resent(sub, due, at)
	t.judge(Rule{}, sub, pub)
}

// takeover connects again with the same client identifier while the old
// connection is open and messages come.
func takeover(t *trial) {
	topic := t.topic("t")
	sub := t.subscriber(topic, 1, 10)
	pub := t.publisher("p")
	times := t.size(20, 100)
	done := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() {
		defer close(done)
		pub.send(50*times, message{topic: topic, qos: 1})
	})
	told := 0
	for i := range times {
		n := 25 * (i + 1)
		sub.wait(t.patience(), func() bool { return len(sub.have) >= n || sub.ended[sub.conn] != nil })
		before := sub.conn
		if !sub.connect() {
			break
		}
		if !sub.wait(t.patience(), func() bool { return sub.ended[before] != nil }) {
			break // its reader says so
		}
		sub.mu.Lock()
		if d, ok := sub.ended[before].(disconnected); ok && mqtt.ReasonCode(d) == mqtt.SessionTakenOver {
			told++
		}
		sub.mu.Unlock()
	}
	<-done
	load.Wait()
	if t.version == mqtt.V5 && !t.over() {
		t.note("the old connection was told 0x8E in %d of %d takeovers", told, times)
	}
	t.check(Rule{}, sub, pub)
}

// publisherCut cuts the publisher with messages unacknowledged; it comes back
// and sends them again with DUP.
func publisherCut(t *trial) {
	for _, qos := range []mqtt.QoS{1, 2} {
		topic := t.topic(fmt.Sprintf("q%d", qos))
		sub := t.subscriber(topic, qos, 10)
		pub := t.publisher(fmt.Sprintf("p%d", qos))
		for round := range 3 {
			if t.over() {
				return
			}
			// Once for certain: the broker has read them all, and to the publisher it is
			// as if no PUBREC had come.
			unheard := round == 1
			if unheard {
				pub.stopBefore(mqtt.TypePubrec)
			}
			for range 5 + t.rng.IntN(10) {
				pub.publish(message{topic: topic, qos: qos})
			}
			pub.flush()
			if unheard || t.rng.IntN(2) == 0 {
				pub.alive() // the broker has read them all, and they are acknowledged or nearly
			}
			pub.cut()
			pub.stopBefore(0)
			if !pub.connect() {
				return
			}
			if !pub.connack.SessionPresent {
				pub.again()
			}
			pub.complete()
		}
		t.check(Rule{Republished: true}, sub, pub)
	}
}

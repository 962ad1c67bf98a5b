package check

import (
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// acksOutOfOrder acknowledges each window in reverse, and then every second
// message first.
func acksOutOfOrder(t *trial) {
	topic := t.topic("t")
	const window = 10
	sub := t.subscriber(topic, 1, window)
	sub.holdBack(1, true)
	pub := t.publisher("p")
	pub.send(12*window, message{topic: topic, qos: 1})
	for round := range 12 {
		n := window * (round + 1)
		if !sub.until("the next window after acknowledgements out of order", func() bool { return len(sub.got) >= n }) {
			break
		}
		for i := window - 1; i >= 0; i -= 1 + round%2 {
			sub.ack(i)
		}
		for range window {
			sub.ack(0)
		}
	}
	if sub.summary().most > window && t.version == mqtt.V5 {
		t.find(LimitExceeded, "%d messages unacknowledged at receive maximum %d", sub.summary().most, window)
	}
	if sub.summary().reused {
		t.find(Corrupt, "a packet identifier was used again while its message was not acknowledged") // [MQTT-2.2.1-4]
	}
	sub.ackAll()
	t.check(Rule{AnyAckOrder: true}, sub, pub)
}

// neverAcked waits for messages that come again although the connection stands.
func neverAcked(t *trial) {
	topic := t.topic("t")
	sub, other := t.subscriber(topic, 1, 10), t.subscriber(topic, 1, 10)
	sub.holdBack(1, true)
	pub := t.publisher("p")
	pub.send(50, message{topic: topic, qos: 1})
	t.check(Rule{}, other, pub)
	began := time.Now()
	wait := min(t.patience(), 3*time.Second)
	if t.o.Full {
		wait = time.Minute
	}
	t.pass(wait)
	t.settle(sub)
	n := len(sub.receipts())
	t.note("%d messages unacknowledged for %s", n, time.Since(began).Round(time.Second))
	if n > 10 && t.version == mqtt.V5 {
		t.find(LimitExceeded, "%d messages unacknowledged at receive maximum 10", n)
	}
	sub.ackAll()
	t.check(Rule{}, sub, pub)
}

// wrappingIDs sends more messages than there are packet identifiers, of which
// some are in use all the time.
func wrappingIDs(t *trial) {
	topic := t.topic("t")
	sub := t.subscriber(topic, 1, 100)
	sub.mu.Lock()
	sub.keep = 3
	sub.mu.Unlock()
	pub := t.publisher("p")
	for i := range 65_600 {
		if !pub.publish(message{topic: topic, qos: 1}) {
			return
		}
		// So that no queue limit matters: the subscriber is never far behind.
		if n := i - 400; n%100 == 0 && !sub.until("message", func() bool { return len(sub.got) > n || sub.reused }) {
			return
		}
		if i%100 == 0 && sub.summary().reused {
			break
		}
	}
	pub.complete()
	t.await(sub, pub)
	if sub.summary().reused {
		t.find(Corrupt, "a packet identifier was used again while its message was not acknowledged") // [MQTT-2.2.1-4]
	}
	t.judge(Rule{}, sub, pub)
}

// windowReopens uses the window up and frees it many times, and cuts then.
func windowReopens(t *trial) {
	topic := t.topic("t")
	const window = 5
	rounds := t.size(200, 1000)
	sub := t.subscriber(topic, 1, window)
	sub.holdBack(1, true)
	pub := t.publisher("p")
	for round := range rounds {
		for range window {
			if !pub.publish(message{topic: topic, qos: 1}) {
				return
			}
		}
		pub.flush()
		n := window * (round + 1)
		if !sub.until(fmt.Sprintf("message after the window reopened %d times", round), func() bool { return len(sub.got) >= n }) {
			return
		}
		if round < rounds-1 {
			for range window {
				sub.ack(0)
			}
		}
	}
	pub.complete()
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

// exactlyOnceSteps cuts a QoS 2 handshake at each of its steps, on each side.
func exactlyOnceSteps(t *trial) {
	steps := []mqtt.Type{mqtt.TypePublish, mqtt.TypePubrec, mqtt.TypePubrel, mqtt.TypePubcomp}
	for _, step := range steps {
		if t.over() {
			return
		}
		receiverCut(t, step)
		senderCut(t, step)
	}
}

// receiverCut cuts the subscriber: before it sends PUBREC, before it takes
// PUBREL, after PUBCOMP.
func receiverCut(t *trial, step mqtt.Type) {
	topic := t.topic("receiver-" + step.String())
	sub := t.subscriber(topic, 2, 5)
	pub := t.publisher("r-" + step.String())
	sub.stopBefore(step)
	pub.send(20, message{topic: topic, qos: 2})
	if step == mqtt.TypePublish || step == mqtt.TypePubrel {
		sub.until("QoS 2 handshake", func() bool { return sub.stopped >= 5 })
	} else {
		sub.until("message", func() bool { return len(sub.got) >= 5 })
	}
	sub.cut()
	sub.stopBefore(0)
	if !sub.connect() {
		return
	}
	t.check(Rule{}, sub, pub)
}

// senderCut cuts the publisher: before it takes PUBREC, before it sends PUBREL,
// before it takes PUBCOMP, and between PUBLISH and anything else.
func senderCut(t *trial, step mqtt.Type) {
	topic := t.topic("sender-" + step.String())
	sub := t.subscriber(topic, 2, 5)
	pub := t.publisher("s-" + step.String())
	if step != mqtt.TypePublish {
		pub.stopBefore(step)
	}
	for range 5 {
		pub.publish(message{topic: topic, qos: 2})
	}
	pub.flush()
	if step != mqtt.TypePublish {
		pub.until("QoS 2 handshake", func() bool { return pub.stopped >= 5 })
	}
	pub.cut()
	pub.stopBefore(0)
	if !pub.connect() {
		return
	}
	if !pub.connack.SessionPresent {
		// Without the session the broker cannot know the identifiers.
		t.find(LossAcked, "the publisher's session was gone")
		return
	}
	pub.complete()
	pub.send(5, message{topic: topic, qos: 2})
	t.check(Rule{}, sub, pub)
}

func (c *client) stopBefore(step mqtt.Type) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopAt = step
}

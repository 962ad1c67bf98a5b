package check

import (
	"fmt"
	"slices"
	"sync"

	"github.com/wilco-iot/wilco/mqtt"
)

// retainedUpdates subscribes again and again while a retained message changes:
// what is retained first, newer ones then, never an older one.
func retainedUpdates(t *trial) {
	topic := t.topic("t")
	t.retain = []string{topic}
	pub := t.publisher("p")
	if pub.connack != nil && pub.connack.NoRetain {
		t.skip("the broker has no retained messages")
		return
	}
	pub.send(5, message{topic: topic, qos: 1, retain: true})
	var subs []*client
	for range 8 { // each subscribes while it changes, and sees it change more
		var load sync.WaitGroup
		load.Go(func() { pub.send(50, message{topic: topic, qos: 1, retain: true}) })
		c := t.client("subscriber")
		c.clean = true
		ok := c.connect() && c.subscribe(topic, 1)
		load.Wait()
		if !ok {
			break
		}
		subs = append(subs, c)
	}
	sent := pub.sentSoFar()
	for i, c := range subs {
		last := len(sent)
		c.wait(t.patience(), func() bool { return c.have[Key{pub.name, last}] })
		t.settle(c)
		got := c.receipts()
		if len(got) == 0 {
			t.find(LossAcked, "subscriber %d never saw the retained message", i)
			continue
		}
		// From the first live one on, everything comes. What lies between it and the
		// retained one may have been published before the subscription stood.
		live := slices.IndexFunc(got, func(r Receipt) bool { return !r.Retain })
		first := got[max(live, 0)].N
		want := make([]Sent, 0, len(sent))
		for _, s := range sent {
			s.Optional = s.N < first
			want = append(want, s)
		}
		if !got[0].Retain {
			t.note("subscriber %d saw no retained message first", i)
		}
		t.judged(Rule{Republished: true}, want, got) // the one retained may be among the live ones too
	}
}

// lastWords cuts clients with a will after their last messages.
func lastWords(t *trial) {
	topic := t.topic("t")
	sub := t.subscriber(topic, 1, 20)
	for i := range 5 {
		c := t.client(fmt.Sprintf("p%d", i))
		k := Key{c.name, 11}
		c.clean = true
		c.will = &mqtt.Will{Topic: topic, QoS: 1, Payload: appendStamp(nil, t.prefix, k, topic, 0)}
		if !c.connect() {
			return
		}
		c.send(10, message{topic: topic, qos: 1})
		c.cut()
		c.mu.Lock()
		c.sent = append(c.sent, Sent{Key: k, Topic: topic, QoS: 1, Acked: true}) // the broker owes it [MQTT-3.1.2-8]
		c.mu.Unlock()
	}
	pubs := t.clients[1:]
	t.await(sub, pubs...)
	// The standard does not order a will behind its client's messages.
	var sent []Sent
	for _, p := range pubs {
		sent = append(sent, p.sentSoFar()...)
	}
	t.judged(Rule{SomeReceiver: true}, sent, sub.receipts())
	highest, early := map[string]int{}, 0
	for _, r := range sub.receipts() {
		if r.N < highest[r.Pub] {
			early++
		}
		highest[r.Pub] = max(highest[r.Pub], r.N)
	}
	if early == 0 {
		t.note("wills came behind their clients' messages")
	} else {
		t.note("%d messages came behind their client's will", early)
	}
}

// requestResponse has a requester and a responder that answers at once, with
// the same packet identifiers in both directions.
func requestResponse(t *trial) {
	ask, answer := t.topic("ask"), t.topic("answer")
	responder := t.subscriber(ask, 1, 10)
	requester := t.subscriber(answer, 1, 10)
	requester.name, responder.name = "requester", "responder"
	if t.over() {
		return
	}
	responder.mu.Lock()
	responder.reply = func(p *mqtt.Publish) {
		k := Key{responder.name, len(responder.sent) + 1}
		r := &mqtt.Publish{Topic: []byte(answer), QoS: 1, PacketID: p.PacketID, Payload: appendStamp(nil, t.prefix, k, answer, 0)}
		if responder.flights[r.PacketID] != nil {
			r.PacketID = responder.freeID()
		}
		if p.HasCorrelation {
			r.HasCorrelation, r.CorrelationData = true, append([]byte(nil), p.CorrelationData...)
		}
		responder.sent = append(responder.sent, Sent{Key: k, Topic: answer, QoS: 1})
		responder.flights[r.PacketID] = &flight{n: k.N, p: r}
		responder.order = append(responder.order, r.PacketID)
		responder.append(r) // before its own PUBACK
	}
	responder.mu.Unlock()
	const requests = 50
	for i := range requests {
		requester.publish(message{topic: ask, qos: 1, response: answer, correlate: fmt.Sprintf("c%d", i+1)})
		if i%5 == 0 {
			requester.flush()
		}
	}
	requester.complete()
	t.await(responder, requester)
	responder.complete()
	t.await(requester, responder)
	t.judge(Rule{}, responder, requester)
	t.judge(Rule{}, requester, responder)
	if t.version != mqtt.V5 {
		return
	}
	got := responder.receipts()
	for i, r := range responder.seen()[:len(got)] {
		if want := fmt.Sprintf("c%d", got[i].N); r.response != answer || r.correlation != want { // [MQTT-3.3.2-15] [MQTT-3.3.2-16]
			t.find(Corrupt, "request %d came without its response topic or correlation data", got[i].N)
			return
		}
	}
}

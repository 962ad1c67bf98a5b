package check

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/order"
)

// member makes a member of the case's shared subscription, or skips the case
// when the broker has none.
func (t *trial) member(name string, topic string) *client {
	c := t.client(name)
	c.window = 10
	if !c.connect() {
		return c
	}
	if c.connack.NoSharedSubscriptions {
		t.skip("the broker has no shared subscriptions")
		return c
	}
	if code, ok := c.trySubscribe(0, mqtt.Subscription{Filter: "$share/" + t.prefix + "/" + topic, QoS: 1}); ok && code.Failed() {
		t.skip("the broker refuses shared subscriptions: " + code.String())
	}
	return c
}

// work publishes n messages from each of four publishers, the keys.
func (t *trial) work(n int, topic string, pubs []*client) {
	var all sync.WaitGroup
	for _, p := range pubs {
		all.Go(func() { p.send(n, message{topic: topic, qos: 1}) })
	}
	all.Wait()
}

func (t *trial) keys() []*client {
	var pubs []*client
	for i := range 4 {
		pubs = append(pubs, t.publisher(fmt.Sprintf("key%d", i)))
	}
	return pubs
}

// union waits until the members together have everything, and judges each
// member's order and what they have together.
func (t *trial) union(rule Rule, members, pubs []*client) {
	if t.over() {
		return
	}
	var sent []Sent
	for _, p := range pubs {
		sent = append(sent, p.sentSoFar()...)
	}
	rule.SomeReceiver = true
	for waiting := true; waiting && !t.over(); {
		missing := false
		for _, s := range sent {
			missing = missing || s.Acked && !t.anyHas(members, s.Key)
		}
		if !missing {
			break
		}
		waiting = t.anyMoves(members)
	}
	if t.version == mqtt.V311 && !slices.ContainsFunc(members, func(m *client) bool { return len(m.receipts()) > 0 }) {
		t.skip("the broker has no shared subscriptions over MQTT 3.1.1, which does not know them")
		return
	}
	var all []Receipt
	for i, m := range members {
		t.settle(m)
		got := m.receipts()
		// A member got a part only: for its own order nothing is missing. And what
		// another had not acknowledged may come behind what is newer: the standard
		// orders no shared subscriptions [MQTT-4.6.0-6].
		_, kept := order.KeyOrderShared(arrivals(members[i : i+1]))
		if !kept {
			t.note("%s got older messages behind newer ones", m.name)
		}
		t.judged(Rule{Republished: true, AnyAckOrder: rule.AnyAckOrder, SomeReceiver: !kept}, onlySent(sent, got), got)
		for _, r := range got {
			r.Conn += 1000 * i // connections of different members are different
			all = append(all, r)
		}
	}
	t.judged(rule, sent, all)
}

// onlySent is what of sent was received.
func onlySent(sent []Sent, got []Receipt) []Sent {
	have := map[Key]bool{}
	for _, r := range got {
		have[r.Key] = true
	}
	var part []Sent
	for _, s := range sent {
		if have[s.Key] {
			part = append(part, s)
		}
	}
	return part
}

func (t *trial) anyHas(members []*client, k Key) bool {
	for _, m := range members {
		m.mu.Lock()
		ok := m.have[k]
		m.mu.Unlock()
		if ok {
			return true
		}
	}
	return false
}

// anyMoves waits until one of them gets another message.
func (t *trial) anyMoves(members []*client) bool {
	total := func() (n int) {
		for _, m := range members {
			n += len(m.receipts())
		}
		return n
	}
	was := total()
	for range t.patience() / quiet {
		t.pass(quiet)
		if total() > was {
			return true
		}
		if t.over() {
			return false
		}
	}
	return false
}

// arrivals are what the members got, as it came to all of them together.
func arrivals(members []*client) []order.Shared[string] {
	type arrival struct {
		order.Shared[string]
		place int64
	}
	var all []arrival
	for i, m := range members {
		raw := m.seen()
		for k, r := range m.receipts()[:len(raw)] {
			all = append(all, arrival{order.Shared[string]{Key: r.Pub, Seq: uint64(r.N), Member: i}, raw[k].place})
		}
	}
	slices.SortStableFunc(all, func(a, b arrival) int { return cmp.Compare(a.place, b.place) })
	list := make([]order.Shared[string], len(all))
	for i, a := range all {
		list[i] = a.Shared
	}
	return list
}

// sharedSteady is three members that stay.
func sharedSteady(t *trial) {
	topic := t.topic("t")
	var members []*client
	for i := range 3 {
		members = append(members, t.member(fmt.Sprintf("m%d", i), topic))
	}
	pubs := t.keys()
	t.work(40, topic, pubs)
	t.union(Rule{}, members, pubs)
	for _, m := range members {
		t.counts["received by "+m.name] = len(m.receipts())
	}
	at := order.Members(arrivals(members))
	if len(at) < len(pubs) {
		return
	}
	for key, at := range at {
		if len(at) > 1 {
			t.note("key %s is at %d members at once", key, len(at))
			return
		}
	}
	t.beyond(KeyOrderShared, true)
}

// sharedChanges is members that join, leave, and are cut with messages
// unacknowledged.
func sharedChanges(t *trial) {
	topic := t.topic("t")
	members := []*client{t.member("m0", topic), t.member("m1", topic)}
	pubs := t.keys()
	t.work(20, topic, pubs)
	members = append(members, t.member("m2", topic))
	t.work(20, topic, pubs)
	if t.over() {
		return
	}
	members[1].holdBack(1, true)
	t.work(20, topic, pubs)
	members[1].cut()
	t.work(20, topic, pubs)
	members[1].holdBack(1, false)
	if !members[1].connect() {
		return
	}
	members[2].unsubscribe("$share/" + t.prefix + "/" + topic)
	t.work(20, topic, pubs)
	// What a member had not acknowledged may come again, to it or to another.
	t.union(Rule{Republished: true, AnyAckOrder: true}, members, pubs)
	if _, kept := order.KeyOrderShared(arrivals(members)); !kept && t.seen[KeyOrderShared] {
		t.beyond(KeyOrderShared, false)
	}
}

// sharedRefused is a member that answers with an error: its messages go to
// nobody else [MQTT-4.8.2-6].
func sharedRefused(t *trial) {
	topic := t.topic("t")
	no, yes := t.member("m0", topic), t.member("m1", topic)
	no.mu.Lock()
	no.refuse = mqtt.UnspecifiedError
	no.mu.Unlock()
	pubs := t.keys()
	t.work(30, topic, pubs)
	t.union(Rule{}, []*client{no, yes}, pubs)
	others := yes.keysSeen()
	for k := range no.keysSeen() {
		if others[k] {
			t.find(DupLive, "message %d of %s was refused by one member, and given to another", k.N, k.Pub)
			break
		}
	}
	if no.summary().different == 0 && !t.over() {
		t.skip("the member that refuses was given nothing")
		return
	}
	t.note("%d of %d messages were refused by a member", no.summary().different, 120)
}

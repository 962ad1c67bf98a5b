package broker

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

func retainedPub(topic, payload string, qos mqtt.QoS, id uint16) *mqtt.Publish {
	p := pub(topic, payload, qos, id)
	p.Retain = true
	return p
}

func (p *peer) publish(m *mqtt.Publish, code ...mqtt.ReasonCode) {
	p.t.Helper()
	p.send(m)
	if m.QoS == 1 {
		p.expect(ack(mqtt.TypePuback, m.PacketID, code...))
	}
}

func (p *peer) subscribeWith(s mqtt.Subscription, id uint32, code mqtt.ReasonCode) {
	p.t.Helper()
	p.send(&mqtt.Subscribe{PacketID: 9, SubscriptionID: id, Subscriptions: []mqtt.Subscription{s}})
	p.expect(&mqtt.Suback{PacketID: 9, Reasons: []mqtt.ReasonCode{code}})
}

// Shows [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT-3.3.1-9] [MQTT-3.3.1-10]
// [MQTT-3.3.1-11] [MQTT-3.3.1-12] [MQTT-3.3.1-13].
func TestRetained(t *testing.T) {
	b := start(t, Options{})
	from := join(t, b, clean("from"))
	sub := join(t, b, clean("sub"))
	sub.subscribeWith(mqtt.Subscription{Filter: "a/#", QoS: 1, RetainAsPublished: true}, 0, 1)
	from.publish(retainedPub("a/b", "1", 1, 1))
	sub.expect(retainedPub("a/b", "1", 1, 1))
	sub.send(ack(mqtt.TypePuback, 1))
	plain := join(t, b, clean("plain"))
	plain.subscribe(0, "a/#")
	plain.expect(retainedPub("a/b", "1", 0, 0)) // because of the subscription
	from.publish(retainedPub("a/b", "2", 1, 1))
	plain.expect(pub("a/b", "2", 0, 0)) // live: the flag is cleared
	sub.expect(retainedPub("a/b", "2", 1, 2))
	for handling, want := range []int{1, 0, 0} { // the subscription exists
		plain.subscribeWith(mqtt.Subscription{Filter: "a/#", RetainHandling: byte(handling)}, 0, 0)
		for range want {
			plain.expect(retainedPub("a/b", "2", 0, 0))
		}
		plain.quiet()
	}
	plain.subscribeWith(mqtt.Subscription{Filter: "a/b", RetainHandling: 1}, 5, 0) // this one is new
	m := retainedPub("a/b", "2", 0, 0)
	m.SubscriptionIDs = []uint32{5}
	plain.expect(m)
	plain.subscribeWith(mqtt.Subscription{Filter: "$share/g/a/b"}, 0, 0) // shares get none
	plain.quiet()
	from.publish(retainedPub("a/b", "", 1, 1)) // cleared, and delivered as a message
	sub.expect(retainedPub("a/b", "", 1, 3))
	late := join(t, b, clean("late"))
	late.subscribe(0, "#")
	late.quiet()
	if b.Stats().Retained != 0 {
		t.Error("still retained")
	}
}

// Shows [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4] [MQTT-3.8.3-3].
func TestOverlappingFilters(t *testing.T) {
	b := start(t, Options{})
	sub, from := join(t, b, clean("sub")), join(t, b, clean("from"))
	sub.subscribeWith(mqtt.Subscription{Filter: "a/+", QoS: 0}, 1, 0)
	sub.subscribeWith(mqtt.Subscription{Filter: "a/#", QoS: 2}, 2, 2)
	sub.subscribeWith(mqtt.Subscription{Filter: "+/b", QoS: 1, NoLocal: true}, 3, 1)
	sub.subscribeWith(mqtt.Subscription{Filter: "#", QoS: 1}, 0, 1)
	from.publish(pub("a/b", "x", 1, 1))
	got, ok := sub.must().(*mqtt.Publish)
	if !ok || got.QoS != 1 || len(got.SubscriptionIDs) != 3 {
		t.Fatalf("%s", show(got))
	}
	sub.publish(pub("a/b", "own", 0, 0)) // all but the one with No Local
	if got := sub.must().(*mqtt.Publish); len(got.SubscriptionIDs) != 2 {
		t.Fatalf("%s", show(got))
	}
	sub.quiet()
	sub.send(&mqtt.Unsubscribe{PacketID: 3, Filters: []string{"a/#", "nope", "#"}})
	sub.expect(&mqtt.Unsuback{PacketID: 3, Reasons: []mqtt.ReasonCode{mqtt.Success, mqtt.NoSubscriptionExisted, mqtt.Success}})
	from.publish(pub("c", "x", 1, 1), mqtt.NoMatchingSubscribers)
}

// Shows [B8a].
func TestSharedSubscriptions(t *testing.T) {
	b := start(t, Options{})
	from := join(t, b, clean("from"))
	members := make([]*peer, 3)
	for i := range members {
		members[i] = join(t, b, clean(fmt.Sprint("member", i)))
		members[i].subscribe(1, "$share/g/t/#")
	}
	other := join(t, b, clean("other"))
	other.subscribe(0, "$share/h/t/#")
	for i := range 9 {
		from.publish(pub("t/x", fmt.Sprint(i), 1, 1))
	}
	total := 0
	for _, m := range members {
		last := ""
		for range 3 {
			p := m.must().(*mqtt.Publish)
			if string(p.Payload) <= last {
				t.Errorf("%s after %s", p.Payload, last)
			}
			last = string(p.Payload)
			m.send(ack(mqtt.TypePuback, p.PacketID))
			total++
		}
		m.quiet()
	}
	for i := range 9 { // the other group gets each as well
		other.expect(pub("t/x", fmt.Sprint(i), 0, 0))
	}
	members[0].send(&mqtt.Disconnect{})
	members[0].closed()
	members[1].send(&mqtt.Unsubscribe{PacketID: 1, Filters: []string{"$share/g/t/#"}})
	members[1].expect(&mqtt.Unsuback{PacketID: 1, Reasons: []mqtt.ReasonCode{0}})
	eventually(t, func() bool { return b.Stats().Sessions == 4 })
	for i := range 3 {
		from.publish(pub("t/y", fmt.Sprint(i), 1, 1))
		members[2].expect(pub("t/y", fmt.Sprint(i), 1, uint16(4+i)))
	}
}

// A member that is away gets messages only when nobody else is there.
// Shows [B8a].
func TestSharedMemberAway(t *testing.T) {
	b := start(t, Options{})
	from, away, here := join(t, b, clean("from")), join(t, b, lasting("away")), join(t, b, clean("here"))
	away.subscribe(1, "$share/g/t")
	here.subscribe(1, "$share/g/t")
	away.drop(b, "away")
	for i := range 3 {
		from.publish(pub("t", "here", 1, 1))
		here.expect(pub("t", "here", 1, uint16(i+1)))
	}
	here.send(ack(mqtt.TypePuback, 1), ack(mqtt.TypePuback, 2))
	here.quiet()
	here.drop(b, "here")
	from.publish(pub("t", "away", 1, 1))
	away = open(t, b)
	away.connect(lasting("away"))
	away.expect(pub("t", "here", 1, 1), pub("t", "away", 1, 2)) // what here has not acknowledged is not lost
}

// Shows [MQTT-3.3.5-2 v3.1.1].
func TestForbiddenTopicsAndFilters(t *testing.T) {
	b := start(t, Options{})
	p := join(t, b, clean("p"))
	p.publish(pub("$SYS/x", "x", 1, 1), mqtt.TopicNameInvalid)
	p.publish(pub("$share/g/t", "x", 1, 1), mqtt.TopicNameInvalid)
	p.send(pub("$SYS/x", "x", 0, 0))
	p.quiet()
	counted(t, b, session.DropDeniedPublish, 3)
	old := open(t, b)
	old.connect(mqtt.Connect{Version: mqtt.V311, ClientID: "old", CleanStart: true})
	old.publish(pub("$SYS/x", "x", 1, 1)) // acknowledged, and dropped

	near, err := b.Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	system := newPeer(t, near)
	system.connect(clean("inside"))
	p.subscribe(0, "#", "$SYS/#")
	system.send(pub("$SYS/x", "1", 0, 0))
	p.expect(pub("$SYS/x", "1", 0, 0))
	p.quiet()
}

// Shows [B10c].
func TestRights(t *testing.T) {
	var revoked atomic.Bool
	reader := &user{name: "reader", password: "reader", publish: "none", subscribe: "#", receive: "ok/#", noDelivery: revoked.Load}
	writer := &user{name: "writer", password: "writer", publish: "ok/#", subscribe: "none", receive: "#"}
	b := start(t, Options{Authority: door{"reader": reader, "writer": writer, "all": trusted("all")}})
	r, w, all := join(t, b, as("reader", lasting("r"))), join(t, b, as("writer", clean("w"))), join(t, b, as("all", clean("all")))
	r.subscribe(1, "#")
	w.subscribeWith(mqtt.Subscription{Filter: "ok/#"}, 0, mqtt.NotAuthorized)
	w.subscribeWith(mqtt.Subscription{Filter: "$share/g/ok/#"}, 0, mqtt.NotAuthorized)
	w.publish(pub("no", "x", 1, 1), mqtt.NotAuthorized)
	alias := pub("no", "x", 0, 0)
	alias.TopicAlias = 1
	alias2 := pub("", "x", 1, 1)
	alias2.TopicAlias = 1
	w.send(alias)
	w.publish(alias2, mqtt.NotAuthorized) // what the alias stands for counts
	// The broad filter does not help against the narrow right: live, retained.
	all.publish(retainedPub("secret", "x", 1, 1))
	all.publish(pub("ok/1", "y", 1, 1))
	r.expect(told(pub("ok/1", "y", 1, 1), "1 denied"))
	r.send(ack(mqtt.TypePuback, 1))
	r.subscribe(1, "secret")
	r.quiet()
	// Queued, then revoked.
	r.drop(b, "r")
	all.publish(pub("ok/2", "z", 1, 1))
	revoked.Store(true)
	r = open(t, b)
	r.connect(as("reader", lasting("r")))
	r.quiet()
	revoked.Store(false)
	all.publish(pub("ok/3", "z", 1, 1))
	r.expect(told(pub("ok/3", "z", 1, 2), "2 denied"))
	counted(t, b, session.DropDenied, 3)
}

// Shows [B5d] [B6c].
func TestQueueFull(t *testing.T) {
	b := start(t, Options{Limits: Limits{QueueMessages: 3}})
	sub, live := join(t, b, lasting("sub")), join(t, b, clean("live"))
	sub.subscribe(1, "t")
	live.subscribe(0, "t")
	sub.drop(b, "sub")
	from := join(t, b, clean("from"))
	for i := range 3 {
		from.publish(pub("t", fmt.Sprint(i), 1, 1))
		live.expect(pub("t", fmt.Sprint(i), 0, 0))
	}
	from.publish(pub("t", "no", 1, 1), mqtt.QuotaExceeded)
	from.send(pub("t", "no", 2, 1))
	from.expect(ack(mqtt.TypePubrec, 1, mqtt.QuotaExceeded))
	live.quiet() // refused for one is refused for all
	from.send(pub("t", "zero", 0, 0))
	live.expect(pub("t", "zero", 0, 0))
	old := open(t, b)
	old.connect(mqtt.Connect{Version: mqtt.V311, ClientID: "old"})
	live.subscribe(0, "other")
	old.send(pub("other", "1", 1, 1), pub("t", "no", 1, 2), pub("other", "3", 1, 3))
	old.expect(ack(mqtt.TypePuback, 1))
	old.closed() // not acknowledged, nor what came after, which is not routed either
	live.expect(pub("other", "1", 0, 0))
	live.quiet()
	sub = open(t, b)
	sub.connect(lasting("sub"))
	sub.expect(told(pub("t", "0", 1, 1), "1 offline"), pub("t", "1", 1, 2), pub("t", "2", 1, 3))
	sub.send(ack(mqtt.TypePuback, 1))
	sub.quiet()
	from.publish(pub("t", "again", 1, 1))
	sub.expect(pub("t", "again", 1, 4))
}

// A client that does not read costs its limit, and nobody else anything.
// Shows [B6a].
func TestSlowConsumer(t *testing.T) {
	b := start(t, Options{Limits: Limits{QoS0Bytes: 64 << 10}})
	slow, fast, from := join(t, b, clean("slow")), join(t, b, clean("fast")), join(t, b, clean("from"))
	slow.subscribe(0, "t")
	fast.subscribe(0, "t")
	payload := string(make([]byte, 8<<10))
	const n = 500
	for range n {
		from.send(pub("t", payload, 0, 0))
		fast.expect(pub("t", payload, 0, 0))
	}
	from.finished() // the drops are counted
	dropped := int(b.Stats().Dropped[session.DropQoS0Full])
	if dropped < n/2 {
		t.Errorf("%d dropped: where are the others?", dropped)
	}
	missing := 0
	for range n - dropped {
		got := slow.must().(*mqtt.Publish)
		for _, u := range got.User {
			var count int
			if _, err := fmt.Sscanf(string(u.Value), "%d qos0_full", &count); err != nil || string(u.Key) != GapProperty {
				t.Fatal(show(got))
			}
			missing += count
		}
	}
	slow.quiet()
	if missing != dropped {
		t.Errorf("%d were told to be missing, %d are", missing, dropped)
	}
}

// Shows [MQTT-3.3.4-7] [B7b].
func TestReceiveMaximumExceeded(t *testing.T) {
	b := start(t, Options{Limits: Limits{ReceiveMaximum: 5}})
	p := join(t, b, clean("p"))
	for id := range uint16(5) {
		p.send(pub("t", "x", 2, id+1))
		p.expect(ack(mqtt.TypePubrec, id+1, mqtt.NoMatchingSubscribers))
	}
	p.send(dup(pub("t", "x", 2, 1))) // a repeat is not one more
	p.expect(ack(mqtt.TypePubrec, 1))
	p.send(pub("t", "x", 2, 6))
	p.expect(&mqtt.Disconnect{Reason: mqtt.ReceiveMaximumExceeded})
	p.closed()
}

// Shows [MQTT-4.3.3-10] [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT-4.4.0-1] [B3a].
func TestExactlyOnceOverCuts(t *testing.T) {
	b := start(t, Options{})
	sub, from := join(t, b, lasting("sub")), join(t, b, lasting("from"))
	sub.subscribe(2, "t")
	from.send(pub("t", "x", 2, 7))
	from.expect(ack(mqtt.TypePubrec, 7))
	from.drop(b, "from")
	from = open(t, b)
	from.connect(lasting("from"))
	for range 1000 {
		from.send(dup(pub("t", "x", 2, 7)))
		from.expect(ack(mqtt.TypePubrec, 7))
	}
	from.send(ack(mqtt.TypePubrel, 7))
	from.expect(ack(mqtt.TypePubcomp, 7))
	sub.expect(pub("t", "x", 2, 1))
	sub.drop(b, "sub")
	sub = open(t, b)
	sub.connect(lasting("sub"))
	sub.expect(dup(pub("t", "x", 2, 1)))
	sub.send(ack(mqtt.TypePubrec, 1))
	sub.expect(ack(mqtt.TypePubrel, 1))
	sub.drop(b, "sub")
	sub = open(t, b)
	sub.connect(lasting("sub"))
	sub.expect(ack(mqtt.TypePubrel, 1))
	sub.send(ack(mqtt.TypePubcomp, 1))
	sub.quiet()
}

// Shows [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18]
// [MQTT-3.3.2-20].
func TestPropertiesAreForwarded(t *testing.T) {
	b := start(t, Options{})
	sub, old, from := join(t, b, clean("sub")), open(t, b), join(t, b, clean("from"))
	old.connect(mqtt.Connect{Version: mqtt.V311, ClientID: "old", CleanStart: true})
	sub.subscribe(0, "t")
	old.subscribe(0, "t")
	m := pub("t", "x", 0, 0)
	m.PayloadUTF8, m.ContentType, m.ResponseTopic = true, []byte("c"), []byte("r")
	m.HasCorrelation, m.CorrelationData = true, []byte{1, 0}
	m.User = []mqtt.BorrowedProperty{{Key: []byte("k"), Value: []byte("1")}, {Key: []byte("k"), Value: []byte("2")}}
	from.send(m)
	sub.expect(m)
	old.expect(pub("t", "x", 0, 0))
}

// Large payloads are written from the message itself, between the others.
func TestLargeMessages(t *testing.T) {
	b := start(t, Options{})
	sub, from := join(t, b, clean("sub")), join(t, b, clean("from"))
	sub.subscribe(1, "t")
	for i := range 20 {
		payload := bytes.Repeat([]byte{byte('a' + i)}, 1+i*i*2000)
		from.publish(pub("t", string(payload), 1, 1))
		sub.expect(pub("t", string(payload), 1, uint16(i+1)))
	}
}

func TestI04_RetainedCommand(t *testing.T) {
	b := start(t, Options{RefuseRetained: []string{"+/command"}})
	p := join(t, b, clean("p"))
	p.publish(retainedPub("a/command", "", 1, 1), mqtt.NoMatchingSubscribers) // clearing is fine
	p.send(retainedPub("a/command", "x", 1, 1))
	p.expect(&mqtt.Disconnect{Reason: mqtt.RetainNotSupported})
	p.closed()
	old := open(t, b)
	old.connect(mqtt.Connect{Version: mqtt.V311, ClientID: "old", CleanStart: true})
	old.subscribe(0, "#")
	old.publish(retainedPub("a/command", "x", 1, 1))
	s := b.Stats()
	if s.Retained != 0 || s.RetainedRefused != 2 {
		t.Errorf("%+v", s)
	}
	q := open(t, b)
	c := clean("q")
	c.Will = &mqtt.Will{Topic: "a/command", Retain: true, Payload: []byte("x")}
	q.sendConnect(c)
	q.expect(&mqtt.Connack{Reason: mqtt.RetainNotSupported})
	if _, err := New(Options{Authority: AllowAnonymous(), RefuseRetained: []string{"a#"}}); err == nil {
		t.Error("a bad filter was taken")
	}
}

func TestDisconnectAndForget(t *testing.T) {
	b := start(t, Options{Authority: door{"a": trusted("a"), "b": trusted("b")}})
	one, two, other := join(t, b, as("a", lasting("1"))), join(t, b, as("a", withWill(lasting("2"), 0))), join(t, b, as("b", clean("3")))
	other.subscribe(0, "#")
	one.publish(retainedPub("t", "x", 1, 1))
	other.expect(pub("t", "x", 0, 0))
	if n := b.Disconnect("a", mqtt.AdministrativeAction); n != 2 {
		t.Errorf("%d disconnected", n)
	}
	one.expect(&mqtt.Disconnect{Reason: mqtt.AdministrativeAction})
	one.closed()
	two.expect(&mqtt.Disconnect{Reason: mqtt.AdministrativeAction})
	other.expect(pub("will", "gone", 0, 0))
	two = open(t, b)
	if a := two.connect(as("a", withWill(lasting("2"), 0))); !a.SessionPresent {
		t.Error("session gone")
	}
	if n := b.Forget("a"); n != 2 {
		t.Errorf("%d forgotten", n)
	}
	two.expect(&mqtt.Disconnect{Reason: mqtt.AdministrativeAction})
	other.quiet()
	two = open(t, b)
	if a := two.connect(as("b", lasting("2"))); a.SessionPresent { // the id is free for another
		t.Error("session of another")
	}
	if s := b.Stats(); s.Retained != 0 || s.Sessions != 2 {
		t.Errorf("%+v", s)
	}
	if n := b.Forget("nobody"); n != 0 {
		t.Error(n)
	}
}

// lagging is a store whose commits are done when the test says so, and fail
// when it says so.
type lagging struct {
	*store.Memory
	mu    sync.Mutex
	queue []func(error)
	slow  bool
}

func (l *lagging) Commit(b *store.Batch, done func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.slow {
		l.Memory.Commit(b, done)
		return
	}
	kept := &store.Batch{Ops: append([]store.Op(nil), b.Ops...)}
	for _, op := range kept.Ops {
		if op.Message != nil {
			op.Message.Hold()
		}
	}
	l.queue = append(l.queue, func(err error) {
		if err == nil {
			l.Memory.Commit(kept, nil)
		}
		if done != nil {
			done(err)
		}
	})
}

// settle ends what has been committed since stall with err, and then what came while it
// did so: a store answers in the order of the commits.
func (l *lagging) settle(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := len(l.queue); len(l.queue) > 0; n-- {
		f := l.queue[0]
		l.queue = l.queue[1:]
		if n <= 0 {
			err = nil
		}
		l.mu.Unlock()
		f(err)
		l.mu.Lock()
	}
	l.slow = false
}

func (l *lagging) stall() {
	l.mu.Lock()
	l.slow = true
	l.mu.Unlock()
}

func (l *lagging) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue)
}

// Nothing is acknowledged, nor delivered to a lasting session, before the store
// says it is durable.
// Shows [B4a].
func TestAcknowledgeWhenDurable(t *testing.T) {
	disk := &lagging{Memory: store.NewMemory()}
	virtual(t, Options{Store: disk}, func(t *testing.T, b *Broker) {
		sub, live, from := join(t, b, lasting("sub")), join(t, b, clean("live")), join(t, b, clean("from"))
		sub.subscribe(1, "t")
		live.subscribe(1, "t")
		disk.stall()
		from.send(pub("t", "a", 1, 1), pub("t", "b", 1, 2))
		live.expect(pub("t", "a", 1, 1), pub("t", "b", 1, 2)) // owes nothing to the disk
		sub.quiet()
		sub.quiet()                    // nor did anything come behind the first answer
		from.send(pub("u", "c", 1, 3)) // needs no disk, but does not overtake
		eventually(t, func() bool { return disk.waiting() >= 2 })
		_ = from.nc.SetReadDeadline(time.Now().Add(time.Second))
		if h, _, err := from.in.Next(); err == nil {
			t.Fatalf("answered early: %v", h)
		}
		disk.settle(nil)
		from = reopened(from)
		from.expect(ack(mqtt.TypePuback, 1), ack(mqtt.TypePuback, 2), ack(mqtt.TypePuback, 3, mqtt.NoMatchingSubscribers))
		sub.expect(pub("t", "a", 1, 1), pub("t", "b", 1, 2))
	})
}

// reopened is p with a fresh reader, after one that timed out with nothing read.
func reopened(p *peer) *peer {
	q := newPeer(p.t, p.nc)
	q.version = p.version
	return q
}

// Shows [MQTT-4.8.0-2 v3.1.1] [B4a].
func TestStoreFailure(t *testing.T) {
	disk := &lagging{Memory: store.NewMemory()}
	failed := make(chan error, 9)
	b := start(t, Options{Store: disk, Events: Events{StoreFailed: func(err error) { failed <- err }}})
	sub, from := join(t, b, lasting("sub")), join(t, b, lasting("from"))
	sub.subscribe(2, "t")
	disk.stall()
	from.send(pub("t", "x", 2, 1))
	eventually(t, func() bool { return disk.waiting() == 1 })
	disk.settle(errors.New("disk full"))
	from.expect(&mqtt.Disconnect{Reason: mqtt.UnspecifiedError})
	from.closed()
	if err := <-failed; err == nil {
		t.Error("no error told")
	}
	sub.quiet()
	from = open(t, b)
	from.connect(lasting("from"))
	from.send(dup(pub("t", "x", 2, 1))) // it was never stored, so this is the first
	from.expect(ack(mqtt.TypePubrec, 1))
	sub.expect(pub("t", "x", 2, 1))
	if n, bytes := b.hub.clients["sub"].core.Queued(); n != 1 || bytes == 0 {
		t.Errorf("%d messages queued", n)
	}
}

// refusing is a store that says so before Commit returns, as one that is closed may.
type refusing struct {
	*store.Memory
	closed atomic.Bool
}

func (r *refusing) Commit(b *store.Batch, done func(error)) {
	if !r.closed.Load() {
		r.Memory.Commit(b, done)
		return
	}
	if done != nil {
		done(errors.New("closed"))
	}
}

// What is told of a store that fails at once may ask the broker.
func TestStoreFailureToldOutsideTheLocks(t *testing.T) {
	disk := &refusing{Memory: store.NewMemory()}
	told := make(chan Stats, 9)
	var b *Broker
	b = start(t, Options{Store: disk, Events: Events{StoreFailed: func(error) { told <- b.Stats() }}})
	sub, from := join(t, b, lasting("sub")), join(t, b, lasting("from"))
	sub.subscribe(1, "t")
	disk.closed.Store(true)
	from.send(pub("t", "x", 1, 1))
	from.expect(&mqtt.Disconnect{Reason: mqtt.UnspecifiedError})
	if s := <-told; s.StoreFailures == 0 {
		t.Error("no failure counted")
	}
}

func TestStop(t *testing.T) {
	b, err := New(Options{Authority: AllowAnonymous(), Listeners: loopback})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Dial(context.Background()); !errors.Is(err, ErrStopped) {
		t.Errorf("Dial before Start: %v", err)
	}
	if b.Addr("tcp") != nil {
		t.Error("an address before Start")
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	if b.Start() == nil {
		t.Error("started twice")
	}
	p, half := dial(t, b, "tcp"), dial(t, b, "tcp")
	p.connect(clean("p"))
	half.write([]byte{0x10})
	stop(t, b)
	p.expect(&mqtt.Disconnect{Reason: mqtt.ServerShuttingDown})
	p.closed()
	half.closed()
	stop(t, b)
	if _, err := b.Dial(context.Background()); !errors.Is(err, ErrStopped) {
		t.Errorf("Dial after Stop: %v", err)
	}
	never, _ := New(Options{Authority: AllowAnonymous()})
	stop(t, never)
}

func TestOptionsAreChecked(t *testing.T) {
	ok := AllowAnonymous()
	for _, o := range []Options{
		{},
		{Authority: ok, Limits: Limits{Inflight: -1}},
		{Authority: ok, Limits: Limits{MaxPacketSize: 1 << 30}},
		{Authority: ok, Limits: Limits{KeepAlive: 20 * time.Hour}},
		{Authority: ok, Listeners: []Listener{{Name: "x", Network: "udp"}}},
		{Authority: ok, Listeners: []Listener{{Name: "x", Network: "tls"}}},
		{Authority: ok, Listeners: []Listener{{Name: "x", Network: "tcp", TLS: &tls.Config{}}}},
		{Authority: ok, Listeners: []Listener{{Name: "x", Network: "tcp"}, {Name: "x", Network: "tcp"}}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
	b, err := New(Options{Authority: ok, Listeners: []Listener{loopback[0], {Name: "bad", Network: "tcp", Address: "256.0.0.1:0"}}})
	if err != nil {
		t.Fatal(err)
	}
	if b.Start() == nil {
		t.Error("started with a bad address")
	}
	stop(t, b)
}

func TestConnectionLimits(t *testing.T) {
	b := start(t, Options{Listeners: loopback, Limits: Limits{HalfOpen: 3, Connections: 5}})
	for range 3 {
		dial(t, b, "tcp").write([]byte{0x10})
	}
	eventually(t, func() bool { return b.Stats().Connections == 3 })
	dial(t, b, "tcp").closed()
	if s := b.Stats(); s.Refused != 1 {
		t.Errorf("%+v", s)
	}
}

func TestSubscriptionLimit(t *testing.T) {
	b := start(t, Options{Limits: Limits{Subscriptions: 2}})
	p := join(t, b, clean("p"))
	p.subscribe(0, "a", "b")
	p.subscribeWith(mqtt.Subscription{Filter: "c"}, 0, mqtt.QuotaExceeded)
	p.subscribe(0, "a")
}

// A QoS 2 message that is not durable yet is not acknowledged to a connection
// that takes over and repeats it.
// Shows [B3b].
func TestRepeatAfterTakeoverWaitsForTheStore(t *testing.T) {
	disk := &lagging{Memory: store.NewMemory()}
	b := start(t, Options{Store: disk})
	sub, from := join(t, b, lasting("sub")), join(t, b, lasting("from"))
	sub.subscribe(2, "t")
	disk.stall()
	from.send(pub("t", "x", 2, 1))
	eventually(t, func() bool { return disk.waiting() == 1 })
	again := open(t, b)
	again.sendConnect(lasting("from"))
	again.send(dup(pub("t", "x", 2, 1)))
	eventually(t, func() bool { return disk.waiting() == 3 })
	disk.settle(nil)
	again.expect(&mqtt.Connack{SessionPresent: true, ReceiveMaximum: 1024, MaximumPacketSize: 1 << 20, TopicAliasMaximum: 16,
		HasServerKeepAlive: true, ServerKeepAlive: 1800}, ack(mqtt.TypePubrec, 1))
	sub.expect(pub("t", "x", 2, 1))
	sub.quiet()
}

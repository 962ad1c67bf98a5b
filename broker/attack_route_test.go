package broker

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
)

func TestC04_InternalTopics(t *testing.T) {
	b := start(t, Options{})
	p := join(t, b, clean("p"))
	p.subscribe(0, "$SYS/#", "$share/g/#", "#")
	for i, topic := range []string{"$SYS/x", "$share/g/t", "$CONTROL/x", "$queue/t", "$MQTT/t", "$"} {
		p.publish(retainedPub(topic, "x", 1, uint16(i+1)), mqtt.TopicNameInvalid)
	}
	p.quiet()
	if n := b.Stats().Retained; n != 0 {
		t.Errorf("%d retained", n)
	}
}

func TestC06_RepeatsWithoutPubrel(t *testing.T) {
	b := start(t, Options{})
	sub, from := join(t, b, clean("sub")), join(t, b, clean("from"))
	sub.subscribe(2, "t")
	for i := range 10_000 {
		m := pub("t", "x", 2, 1)
		m.Dup = i > 0
		from.send(m)
		from.expect(ack(mqtt.TypePubrec, 1))
	}
	sub.expect(pub("t", "x", 2, 1))
	sub.quiet()
}

// A repeat that comes before it is known what becomes of the first has the answer of
// that one: here there is no room.
func TestC06_RepeatBeforeTheAnswer(t *testing.T) {
	b := start(t, Options{Limits: Limits{QueueMessages: 1}})
	sub, from := join(t, b, lasting("sub")), join(t, b, clean("from"))
	sub.subscribe(2, "t")
	sub.drop(b, "sub")
	from.publish(pub("t", "x", 1, 1))
	from.send(pub("t", "y", 2, 2), dup(pub("t", "y", 2, 2)))
	from.expect(ack(mqtt.TypePubrec, 2, mqtt.QuotaExceeded))
	from.quiet()
}

// Shows [B7b].
func TestC07_NeverReleased(t *testing.T) {
	b := start(t, Options{Limits: Limits{ReceiveMaximum: 100}})
	p := join(t, b, clean("x"))
	for id := uint16(1); id <= 100; id++ {
		p.send(pub("t", "x", 2, id))
		p.expect(ack(mqtt.TypePubrec, id, mqtt.NoMatchingSubscribers))
	}
	p.send(pub("t", "x", 2, 101))
	p.expect(&mqtt.Disconnect{Reason: mqtt.ReceiveMaximumExceeded})
	p.closed()
	join(t, b, clean("x")).publish(pub("t", "x", 1, 1), mqtt.NoMatchingSubscribers) // the identifiers are free
}

func TestC08_AcknowledgementsOfTheWrongKind(t *testing.T) {
	for name, kind := range map[string]struct {
		qos mqtt.QoS
		say mqtt.Type
	}{"PUBACK for QoS 2": {2, mqtt.TypePuback}, "PUBCOMP for QoS 1": {1, mqtt.TypePubcomp}, "PUBREC for QoS 1": {1, mqtt.TypePubrec}} {
		t.Run(name, func(t *testing.T) {
			b := start(t, Options{})
			from, sub := join(t, b, clean("from")), join(t, b, lasting("sub"))
			sub.subscribe(2, "t")
			from.send(pub("t", "x", kind.qos, 1))
			from.must()
			sub.expect(pub("t", "x", kind.qos, 1))
			sub.send(ack(kind.say, 1))
			sub.expect(&mqtt.Disconnect{Reason: mqtt.ProtocolError})
			sub.closed()
			again := open(t, b)
			again.connect(lasting("sub"))
			again.expect(dup(pub("t", "x", kind.qos, 1))) // nothing was freed
		})
	}
}

func TestC09_SpoofedAcknowledgements(t *testing.T) {
	b := start(t, Options{})
	from := join(t, b, clean("from"))
	c := lasting("sub")
	c.ReceiveMaximum = 2
	sub := join(t, b, c)
	sub.subscribe(1, "t")
	for i := range 5 {
		from.publish(pub("t", fmt.Sprint(i), 1, 1))
	}
	sub.expect(pub("t", "0", 1, 1), pub("t", "1", 1, 2))
	for id := uint16(3); id < 1000; id++ {
		sub.send(ack(mqtt.TypePuback, id))
	}
	sub.quiet() // they opened no window, and emptied no queue
	sub.drop(b, "sub")
	sub = open(t, b)
	sub.connect(lasting("sub"))
	sub.expect(dup(pub("t", "0", 1, 1)), dup(pub("t", "1", 1, 2)), pub("t", "2", 1, 3), pub("t", "3", 1, 4), pub("t", "4", 1, 5))
}

// Shows [B7b].
func TestC10_ReceiveMaximumExceeded(t *testing.T) {
	b := start(t, Options{Limits: Limits{ReceiveMaximum: 3}})
	p := join(t, b, clean("x"))
	var burst []mqtt.Packet
	for id := uint16(1); id <= 4; id++ {
		burst = append(burst, pub("t", "x", 2, id))
	}
	p.send(burst...)
	for {
		if d, ok := p.must().(*mqtt.Disconnect); ok {
			if d.Reason != mqtt.ReceiveMaximumExceeded {
				t.Errorf("%v", d.Reason)
			}
			break
		}
	}
	p.closed()
}

// Shows [B6a] [B7a].
func TestC11_NeverAcknowledges(t *testing.T) {
	virtual(t, Options{Limits: Limits{QueueMessages: 10}}, func(t *testing.T, b *Broker) {
		from := join(t, b, mqtt.Connect{Version: mqtt.V311, ClientID: "from", CleanStart: true})
		c := clean("sub")
		c.ReceiveMaximum = 2
		sub := join(t, b, c)
		sub.subscribe(1, "t")
		for i := range 10 {
			from.publish(pub("t", fmt.Sprint(i), 1, 1))
		}
		sub.expect(pub("t", "0", 1, 1), pub("t", "1", 1, 2))
		other := join(t, b, clean("other"))
		other.publish(pub("t", "no", 1, 1), mqtt.QuotaExceeded) // bounded, and the publisher knows
		for range 8 * 60 {
			pass(time.Minute)
			sub.quiet() // answered, hours later
		}
		sub.subscribe(0, "u")
	})
}

// The identifiers of many filters that match one message count for as much as they
// take.
// Shows [B6a].
func TestC11_ManyIdentifiers(t *testing.T) {
	const limit, depth = 100_000, 9
	b := start(t, Options{Limits: Limits{QueueBytes: limit}})
	slow, from := join(t, b, clean("slow")), join(t, b, clean("from"))
	for n := range 1 << depth {
		filter := make([]string, depth)
		for i := range filter {
			filter[i] = [2]string{"a", "+"}[n>>i&1]
		}
		slow.subscribeWith(mqtt.Subscription{Filter: strings.Join(filter, "/"), QoS: 1}, uint32(n+1), 1)
	}
	topic, taken := strings.Repeat("a/", depth-1)+"a", 0
	for range 100 {
		from.send(pub(topic, "x", 1, 1))
		if !from.must().(*mqtt.Ack).Reason.Failed() {
			taken++
		}
	}
	if fit := limit / (4 << depth); taken > fit || taken < fit/2 {
		t.Errorf("%d messages were taken, and the identifiers of %d are as large as the limit", taken, fit)
	}
}

func TestC12_RefusedByTheReceiver(t *testing.T) {
	b := start(t, Options{})
	from, sub := join(t, b, clean("from")), join(t, b, lasting("sub"))
	sub.subscribe(2, "t")
	from.publish(pub("t", "a", 1, 1))
	from.send(pub("t", "b", 2, 2))
	from.must()
	sub.expect(pub("t", "a", 1, 1), pub("t", "b", 2, 2))
	sub.send(ack(mqtt.TypePuback, 1, mqtt.NotAuthorized), ack(mqtt.TypePubrec, 2, mqtt.QuotaExceeded))
	sub.quiet()
	sub.drop(b, "sub")
	sub = open(t, b)
	sub.connect(lasting("sub"))
	sub.quiet()
	counted(t, b, session.DropRefused, 2)
}

func TestC14_AliasOfADeniedTopic(t *testing.T) {
	w := &user{name: "w", password: "w", publish: "ok/#", subscribe: "#", receive: "#"}
	b := start(t, Options{Authority: door{"w": w, "all": trusted("all")}})
	sub, p := join(t, b, as("all", clean("sub"))), join(t, b, as("w", clean("w")))
	sub.subscribe(0, "#")
	set := pub("secret", "1", 1, 1)
	set.TopicAlias = 1
	p.publish(set, mqtt.NotAuthorized)
	use := pub("", "2", 1, 2)
	use.TopicAlias = 1
	p.publish(use, mqtt.NotAuthorized)
	sub.quiet()
}

func TestC15_ManyAliases(t *testing.T) {
	b := start(t, Options{})
	p := join(t, b, clean("x"))
	for alias := range uint16(16) {
		m := pub(strings.Repeat("t", 60_000), "", 0, 0)
		m.TopicAlias = alias + 1
		p.send(m)
	}
	p.quiet()
	m := pub("t", "", 0, 0)
	m.TopicAlias = 17
	p.send(m)
	p.expect(&mqtt.Disconnect{Reason: mqtt.TopicAliasInvalid})
	p.closed()
}

func TestD04_BroadFilters(t *testing.T) {
	r := &user{name: "r", password: "r", publish: "#", subscribe: "mine/x", receive: "mine/#"}
	b := start(t, Options{Authority: door{"r": r}})
	p := join(t, b, as("r", clean("x")))
	for _, f := range []string{"#", "+/#", "$SYS/#", "$SYS/+/x", "mine/#", "+/x"} {
		p.subscribeWith(mqtt.Subscription{Filter: f}, 0, mqtt.NotAuthorized)
	}
	p.subscribe(0, "mine/x")
}

func TestD05_NarrowDenyUnderBroadAllow(t *testing.T) {
	r := &user{name: "r", password: "r", publish: "#", subscribe: "#", receive: "a/ok"}
	b := start(t, Options{Authority: door{"r": r, "all": trusted("all")}})
	from := join(t, b, as("all", clean("from")))
	from.publish(retainedPub("a/secret", "retained", 1, 1), mqtt.NoMatchingSubscribers)
	p := join(t, b, as("r", lasting("x")))
	p.subscribe(1, "a/#")
	p.subscribe(1, "$share/g/a/+")
	from.send(pub("a/secret", "live", 1, 2))
	from.must()
	from.publish(pub("a/secret", "live", 0, 0))
	p.quiet()
	p.drop(b, "x")
	from.send(pub("a/secret", "offline", 1, 3))
	from.must()
	p = open(t, b)
	p.connect(as("r", lasting("x")))
	p.quiet()
	from.publish(pub("a/ok", "yes", 1, 4))
	if m := p.must().(*mqtt.Publish); string(m.Payload) != "yes" {
		t.Error(show(m))
	}
}

// member is an identity with a tenant.
type member struct {
	*user
	tenant string
}

func (m member) Tenant() string { return m.tenant }

func TestD08_ShareOfAnotherTenant(t *testing.T) {
	blind := &user{name: "blind", password: "x", publish: "#", subscribe: "#", receive: "else"}
	who := map[string]Identity{
		"from": trusted("from"), "a1": member{trusted("a1"), "a"}, "a2": member{trusted("a2"), "a"}, "b": member{trusted("b"), "b"}, "blind": member{blind, "a"},
	}
	b := start(t, Options{Authority: authorityFunc2(func(_ context.Context, c Credentials) (Identity, error) { return who[c.ClientID], nil })})
	peers := map[string]*peer{}
	from := join(t, b, clean("from"))
	for _, id := range []string{"a1", "a2", "b", "blind"} {
		peers[id] = join(t, b, clean(id))
		peers[id].subscribe(0, "$share/g/t")
	}
	for i := range 20 {
		from.publish(pub("t", fmt.Sprint(i), 1, 1))
	}
	// The other tenant's share is another one, and whole; who may not read takes
	// nothing from the others.
	for id, n := range map[string]int{"a1": 10, "a2": 10, "b": 20, "blind": 0} {
		for range n {
			if m, ok := peers[id].must().(*mqtt.Publish); !ok {
				t.Fatalf("%s got %s", id, show(m))
			}
		}
		peers[id].quiet()
	}
	peers["b"].send(&mqtt.Unsubscribe{PacketID: 1, Filters: []string{"$share/g/t"}})
	peers["b"].expect(&mqtt.Unsuback{PacketID: 1, Reasons: []mqtt.ReasonCode{0}})
	if n := b.Stats().Subscriptions; n != 3 {
		t.Errorf("%d subscriptions", n)
	}
}

func TestD09_SharedBesidePlain(t *testing.T) {
	b := start(t, Options{})
	p := join(t, b, clean("x"))
	p.subscribe(0, "$share/g/t", "t")
	p.publish(pub("t", "both", 0, 0))
	p.expect(pub("t", "both", 0, 0), pub("t", "both", 0, 0))
	for _, f := range []string{"$share/g/t", "t"} {
		p.send(&mqtt.Unsubscribe{PacketID: 1, Filters: []string{f}})
		p.expect(&mqtt.Unsuback{PacketID: 1, Reasons: []mqtt.ReasonCode{0}})
		p.publish(pub("t", "x", 0, 0))
		if f != "t" {
			p.expect(pub("t", "x", 0, 0))
		}
		p.quiet()
	}
	if n := b.Stats().Subscriptions; n != 0 || len(b.hub.index.root.children) != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
}

func TestD11_RetainedScans(t *testing.T) {
	const messages = 20_000
	virtual(t, Options{Limits: Limits{QoS0Messages: 3000}}, func(t *testing.T, b *Broker) {
		from, p := join(t, b, clean("from")), join(t, b, clean("x"))
		for i := range messages {
			from.send(retainedPub(fmt.Sprint("r/", i), "x", 0, 0))
		}
		from.quiet()
		begun := time.Now()
		p.send(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "#"}}})
		p.expect(&mqtt.Suback{PacketID: 1, Reasons: []mqtt.ReasonCode{0}})
		got := 0
		p.send(&mqtt.Pingreq{}) // read only when the scan is paid for
		for {
			if _, ok := p.must().(*mqtt.Publish); !ok {
				break
			}
			got++
		}
		if got > 3000 || got == 0 {
			t.Errorf("%d messages: the scan did not end with the queue", got)
		}
		if d := time.Since(begun); d < 15*time.Millisecond || d > maxPause {
			t.Errorf("the next packet was read after %v", d)
		}
		from.quiet()
		// A filter that finds nothing costs the same.
		p.send(&mqtt.Subscribe{PacketID: 2, Subscriptions: []mqtt.Subscription{{Filter: "+/+/x"}}})
		p.expect(&mqtt.Suback{PacketID: 2, Reasons: []mqtt.ReasonCode{0}})
		p.send(&mqtt.Pingreq{})
		if d := p.elapsed(&mqtt.Pingresp{}); d < (messages-2*freeScan)*scanPrice {
			t.Errorf("%d places in %v", messages, d)
		}
		// And many of them in one packet end at a bound.
		var many []mqtt.Subscription
		for i := range 60 {
			many = append(many, mqtt.Subscription{Filter: fmt.Sprint("+/+/", i)})
		}
		p.send(&mqtt.Subscribe{PacketID: 3, Subscriptions: many})
		codes := p.must().(*mqtt.Suback).Reasons
		if codes[0] != 0 || codes[59] != mqtt.QuotaExceeded {
			t.Errorf("%v", codes)
		}
	})
}

func TestD12_ResubscribeStorm(t *testing.T) {
	virtual(t, Options{}, func(t *testing.T, b *Broker) {
		from, p := join(t, b, clean("from")), join(t, b, clean("x"))
		for i := range 3000 {
			from.send(retainedPub(fmt.Sprint("r/", i), "x", 0, 0))
		}
		from.quiet()
		begun := time.Now()
		const times = 50
		for range times {
			p.send(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "r/+"}}})
			for range 3001 {
				p.must()
			}
		}
		if d := time.Since(begun); d < (times-1)*2000*scanPrice {
			t.Errorf("%d scans of 3000 messages in %v", times, d)
		}
		from.quiet()
	})
}

func TestE01_ReadRevokedOnline(t *testing.T) {
	var revoked atomic.Bool
	r := trusted("r")
	r.noDelivery = revoked.Load
	b := start(t, Options{Authority: door{"r": r, "all": trusted("all")}})
	from, p := join(t, b, as("all", clean("from"))), join(t, b, as("r", clean("x")))
	p.subscribe(1, "t")
	from.publish(pub("t", "1", 1, 1))
	p.expect(pub("t", "1", 1, 1))
	revoked.Store(true)
	from.publish(pub("t", "2", 1, 1))
	from.publish(pub("t", "3", 0, 0))
	from.quiet()
	p.quiet()
}

// Shows [B10c].
func TestE02_ReadRevokedOffline(t *testing.T) {
	var revoked atomic.Bool
	r := trusted("r")
	r.noDelivery = revoked.Load
	b := start(t, Options{Authority: door{"r": r, "all": trusted("all")}})
	from, p := join(t, b, as("all", clean("from"))), join(t, b, as("r", lasting("x")))
	p.subscribe(1, "t")
	from.publish(pub("t", "sent", 1, 1))
	p.expect(pub("t", "sent", 1, 1))
	p.drop(b, "x")
	for i := range 5 {
		from.publish(pub("t", fmt.Sprint(i), 1, 1))
	}
	revoked.Store(true)
	p = open(t, b)
	p.connect(as("r", lasting("x")))
	p.quiet()
	counted(t, b, session.DropDenied, 6) // what was sent and not acknowledged as well
}

func TestE03_RevokedInAHandshake(t *testing.T) {
	var revoked atomic.Bool
	u := trusted("u")
	u.noPublish, u.noDelivery = revoked.Load, revoked.Load
	b := start(t, Options{Authority: door{"u": u, "all": trusted("all")}})
	other, p := join(t, b, as("all", clean("other"))), join(t, b, as("u", lasting("x")))
	other.subscribe(2, "up")
	p.subscribe(2, "down")
	p.send(pub("up", "1", 2, 1))
	p.expect(ack(mqtt.TypePubrec, 1))
	other.expect(pub("up", "1", 2, 1))
	other.send(pub("down", "1", 2, 1), pub("down", "2", 2, 2))
	other.expect(ack(mqtt.TypePubrec, 1), ack(mqtt.TypePubrec, 2))
	p.expect(pub("down", "1", 2, 1), pub("down", "2", 2, 2))
	revoked.Store(true)
	p.send(ack(mqtt.TypePubrel, 1), ack(mqtt.TypePubrec, 1))
	p.expect(ack(mqtt.TypePubcomp, 1), ack(mqtt.TypePubrel, 1))
	p.send(ack(mqtt.TypePubcomp, 1))
	p.quiet()
	p.send(pub("up", "2", 2, 2))
	p.expect(ack(mqtt.TypePubrec, 2, mqtt.NotAuthorized))
	other.quiet()
	p.drop(b, "x")
	p = open(t, b)
	p.connect(as("u", lasting("x")))
	p.expect(ack(mqtt.TypePubrel, 2)) // not the message again: the handshake only
	p.send(ack(mqtt.TypePubcomp, 2))
	p.quiet()
}

// registry is a door that finds its users by name.
type registry struct{ door }

func (r registry) Identify(name string) (Identity, bool) {
	u, ok := r.door[name]
	return u, ok
}

// Shows [B10c].
func TestE04_PublishRevokedAfterRetaining(t *testing.T) {
	var revoked atomic.Bool
	w := trusted("w")
	w.noPublish = revoked.Load
	b := start(t, Options{Authority: registry{door{"w": w, "all": trusted("all")}}})
	p := join(t, b, as("w", clean("w")))
	p.publish(retainedPub("t", "x", 1, 1), mqtt.NoMatchingSubscribers)
	sub := join(t, b, as("all", clean("sub")))
	sub.subscribe(0, "t")
	sub.expect(retainedPub("t", "x", 0, 0))
	revoked.Store(true)
	sub.subscribe(0, "t")
	sub.quiet() // hidden
	revoked.Store(false)
	sub.subscribe(0, "#")
	sub.expect(retainedPub("t", "x", 0, 0))
}

func TestE05_WillDenied(t *testing.T) {
	var revoked atomic.Bool
	u := &user{name: "u", password: "u", publish: "will", subscribe: "#", receive: "#", noPublish: revoked.Load}
	b := start(t, Options{Authority: door{"u": u, "all": trusted("all")}})
	sub := join(t, b, as("all", clean("sub")))
	sub.subscribe(0, "#")
	c := as("u", withWill(clean("x"), 0))
	c.Will.Topic = "other"
	refused(t, b, c, mqtt.NotAuthorized)
	p := join(t, b, as("u", withWill(clean("x"), 0)))
	revoked.Store(true)
	p.drop(b, "x")
	sub.quiet()
	counted(t, b, session.DropDeniedPublish, 1)
}

func TestE06_WillOnInternalTopics(t *testing.T) {
	b := start(t, Options{RefuseRetained: []string{"+/command"}})
	for _, topic := range []string{"$SYS/x", "$CONTROL/dynamic-security/v1", "$share/g/t"} {
		c := withWill(clean("x"), 0)
		c.Will.Topic = topic
		refused(t, b, c, mqtt.TopicNameInvalid)
	}
	c := withWill(clean("x"), 0)
	c.Will.Topic, c.Will.Retain = "a/command", true
	refused(t, b, c, mqtt.RetainNotSupported)
}

// Shows [B10c].
func TestE07_DelayedWillAfterRevocation(t *testing.T) {
	var revoked atomic.Bool
	u := trusted("u")
	u.noPublish = revoked.Load
	virtual(t, Options{Authority: door{"u": u, "all": trusted("all")}}, func(t *testing.T, b *Broker) {
		sub := join(t, b, as("all", clean("sub")))
		sub.subscribe(0, "#")
		p := join(t, b, as("u", withWill(lasting("x"), 60)))
		p.drop(b, "x")
		revoked.Store(true)
		pass(2 * time.Minute)
		sub.quiet()
	})
}

func TestE08_ClientOfANewOwner(t *testing.T) {
	b := start(t, Options{Authority: door{"old": trusted("old"), "new": trusted("new")}})
	p := join(t, b, as("old", lasting("x")))
	p.subscribe(1, "t")
	p.publish(retainedPub("kept", "by old", 1, 1), mqtt.NoMatchingSubscribers)
	p.drop(b, "x")
	from := join(t, b, as("new", clean("from")))
	from.publish(pub("t", "queued", 1, 1))
	refused(t, b, as("new", lasting("x")), mqtt.NotAuthorized) // while it is old's
	if b.Forget("old") != 1 {
		t.Error("not found")
	}
	q := open(t, b)
	if q.connect(as("new", lasting("x"))).SessionPresent {
		t.Error("the old session")
	}
	q.subscribe(1, "kept")
	q.quiet()
	from.publish(pub("t", "x", 1, 1), mqtt.NoMatchingSubscribers)
}

func TestE11_RightsAreNotCached(t *testing.T) {
	var allowed atomic.Bool
	u := trusted("u")
	u.noPublish = func() bool { return !allowed.Load() }
	b := start(t, Options{Authority: door{"u": u}})
	p := join(t, b, as("u", clean("x")))
	for i := range 10 {
		allowed.Store(i%2 == 0)
		code := mqtt.NoMatchingSubscribers
		if i%2 == 1 {
			code = mqtt.NotAuthorized
		}
		p.publish(pub("t", "x", 1, 1), code)
	}
}

func TestE12_TopicsAreBytes(t *testing.T) {
	b := start(t, Options{})
	p, from := join(t, b, clean("x")), join(t, b, clean("from"))
	p.subscribe(1, "Ångström/a")
	for _, topic := range []string{"ångström/a", "A\u030angstro\u0308m/a", "Ångström/a/", "Ångström//a", "/Ångström/a", "Ångström/A"} {
		from.publish(pub(topic, "x", 1, 1), mqtt.NoMatchingSubscribers)
	}
	from.publish(pub("Ångström/a", "x", 1, 1))
	p.expect(pub("Ångström/a", "x", 1, 1))
}

func TestE13_WhatADeniedPublisherLearns(t *testing.T) {
	u := &user{name: "u", password: "u", publish: "none", subscribe: "#", receive: "#"}
	b := start(t, Options{Authority: door{"u": u, "all": trusted("all")}})
	sub := join(t, b, as("all", clean("sub")))
	sub.subscribe(1, "there")
	p := join(t, b, as("u", clean("x")))
	for _, topic := range []string{"there", "nobody"} { // the same answer, whoever listens
		p.publish(pub(topic, "x", 1, 1), mqtt.NotAuthorized)
		p.send(pub(topic, "x", 2, 2))
		p.expect(ack(mqtt.TypePubrec, 2, mqtt.NotAuthorized))
	}
	old := as("u", clean("y"))
	old.Version = mqtt.V311
	q := join(t, b, old)
	q.publish(pub("there", "x", 1, 1)) // acknowledged, and dropped
	q.quiet()
	sub.quiet()
}

// Who publishes too fast is read from more slowly, and loses nothing.
func TestF03_PublisherIsTooFast(t *testing.T) {
	virtual(t, Options{Limits: Limits{PublishRate: 100}}, func(t *testing.T, b *Broker) {
		sub, from := join(t, b, clean("sub")), join(t, b, clean("from"))
		sub.subscribe(1, "t")
		other := join(t, b, clean("other"))
		begun := time.Now()
		const n = 2000
		go func() {
			for i := range n {
				frame, _ := pub("t", fmt.Sprint(i), 0, 0).Append(nil, mqtt.V5)
				if _, err := from.nc.Write(frame); err != nil {
					return
				}
			}
		}()
		for i := range n {
			m := sub.must().(*mqtt.Publish)
			if string(m.Payload) != fmt.Sprint(i) {
				t.Fatalf("%s instead of %d", m.Payload, i)
			}
			if i%100 == 0 {
				other.quiet() // one identity, but who only pings does not wait
			}
		}
		if d := time.Since(begun); d < 17*time.Second || d > 19*time.Second {
			t.Errorf("%d messages at 100 a second took %v", n, d)
		}
	})
}

func TestF04_RetainedMessagesAreBounded(t *testing.T) {
	b := start(t, Options{Limits: Limits{RetainedMessages: 10, RetainedBytes: 100_000}})
	p := join(t, b, clean("x"))
	for i := range 10 {
		p.publish(retainedPub(fmt.Sprint("r/", i), "x", 1, 1), mqtt.NoMatchingSubscribers)
	}
	p.publish(retainedPub("r/10", "x", 1, 1), mqtt.QuotaExceeded)
	p.publish(retainedPub("r/9", strings.Repeat("x", 101_000), 1, 1), mqtt.QuotaExceeded)
	p.publish(retainedPub("r/9", "y", 1, 1), mqtt.NoMatchingSubscribers)
	if n := b.Stats().Retained; n != 10 {
		t.Errorf("%d retained", n)
	}
}

// One identity has a tenth of what all may retain, and what it gives back it may
// use again.
// Shows [B10g].
func TestF04_RetainedMessagesOfOneIdentity(t *testing.T) {
	b := start(t, Options{
		Authority: registry{door{"u": trusted("u"), "v": trusted("v")}},
		Limits:    Limits{RetainedMessages: 50, RetainedBytes: 1 << 20, IdentityRetainedBytes: 50_000},
	})
	u, v := join(t, b, as("u", clean("u"))), join(t, b, as("v", clean("v")))
	none := mqtt.NoMatchingSubscribers
	for i := range 5 {
		u.publish(retainedPub(fmt.Sprint("r/", i), "x", 1, 1), none)
	}
	u.publish(retainedPub("r/5", "x", 1, 1), mqtt.QuotaExceeded)
	u.publish(retainedPub("r/4", "y", 1, 1), none) // in the place of its own
	v.publish(retainedPub("r/5", "x", 1, 1), none)
	u.publish(retainedPub("r/5", "x", 1, 1), mqtt.QuotaExceeded) // in the place of another's
	v.publish(retainedPub("r/4", "x", 1, 1), none)
	u.publish(retainedPub("r/6", "x", 1, 1), none) // v has taken one over
	u.publish(retainedPub("r/6", "", 1, 1), none)
	u.publish(retainedPub("r/6", strings.Repeat("x", 51_000), 1, 1), mqtt.QuotaExceeded)
	u.publish(retainedPub("r/6", "x", 1, 1), none)
	if s := b.Stats(); s.Retained != 7 {
		t.Errorf("%d retained", s.Retained)
	}
	b.Forget("u")
	if n := len(b.hub.retained.owners); n != 1 {
		t.Errorf("%d owners are counted", n)
	}
}

// Shows [B6a].
func TestF05_HugePayloadsForASlowClient(t *testing.T) {
	b := start(t, Options{Limits: Limits{QueueBytes: 1 << 20}})
	sub, from := join(t, b, lasting("sub")), join(t, b, clean("from"))
	sub.subscribe(1, "t")
	sub.drop(b, "sub")
	big := strings.Repeat("x", 300_000)
	for range 3 {
		from.publish(pub("t", big, 1, 1))
	}
	from.publish(pub("t", big, 1, 1), mqtt.QuotaExceeded)
	from.publish(pub("t", "small", 1, 1)) // bytes, not messages
}

package broker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// bothVersions runs a test with a client function that speaks 3.1.1 and then
// one that speaks 5.0; lasting asks for a session that outlives its connection.
func bothVersions(t *testing.T, f func(t *testing.T, b *Broker, connect func(id string, lasts bool) mqtt.Connect)) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		t.Run(fmt.Sprint("v", v), func(t *testing.T) {
			f(t, start(t, Options{}), func(id string, lasts bool) mqtt.Connect {
				c := mqtt.Connect{Version: v, ClientID: id, CleanStart: !lasts}
				if lasts && v == mqtt.V5 {
					c.SessionExpirySeconds = 3600
				}
				return c
			})
		})
	}
}

// What CONNECT does to sessions: [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.1.2-6]
// [MQTT-3.1.3-2] [MQTT-3.1.4-4] [MQTT-3.1.4-5] [MQTT-3.2.2-2] [MQTT-3.2.2-3]
// [MQTT-3.1.2-23] [MQTT-4.1.0-1].
func TestSessionPresent(t *testing.T) {
	bothVersions(t, func(t *testing.T, b *Broker, connect func(string, bool) mqtt.Connect) {
		for i, step := range []struct{ lasts, present bool }{
			{true, false}, {true, true}, {true, true}, {false, false}, {true, false}, {true, true},
		} {
			p := open(t, b)
			if a := p.connect(connect("x", step.lasts)); a.SessionPresent != step.present {
				t.Errorf("step %d: session present is %v", i, a.SessionPresent)
			}
			p.subscribe(1, "t")
			p.drop(b, "x")
		}
		p := open(t, b)
		if a := p.connect(connect("y", true)); a.SessionPresent {
			t.Error("another client identifier found the session")
		}
	})
}

// [MQTT-3.1.3-5].
func TestClientIdentifiersThatMustBeAccepted(t *testing.T) {
	bothVersions(t, func(t *testing.T, b *Broker, connect func(string, bool) mqtt.Connect) {
		for _, id := range []string{"0", "z", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ"} {
			join(t, b, connect(id, true))
		}
	})
}

// No second CONNACK [MQTT-3.2.0-2], CONNACK before anything else
// [MQTT-3.2.0-1], nothing of a client that was refused, and no DISCONNECT
// before it was accepted: [MQTT-3.1.4-1] [MQTT-3.1.4-2] [MQTT-3.1.4-6]
// [MQTT-3.14.0-1] [MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT-4.12.0-4].
func TestNothingAfterARefusal(t *testing.T) {
	b := start(t, Options{Authority: door{"all": trusted("all")}})
	for _, c := range []mqtt.Connect{as("nobody", clean("x")), {ClientID: "x", AuthMethod: "SCRAM"}} {
		c.Version = mqtt.V5
		bytes, err := c.Append(nil, mqtt.V5)
		if err != nil {
			t.Fatal(err)
		}
		if bytes, err = retainedPub("t", "x", 0, 0).Append(bytes, mqtt.V5); err != nil {
			t.Fatal(err)
		}
		p := open(t, b)
		p.write(bytes)
		if a, ok := p.must().(*mqtt.Connack); !ok || !a.Reason.Failed() || a.SessionPresent {
			t.Errorf("%+v", a)
		}
		p.closed()
	}
	if s := b.Stats(); s.Retained != 0 || s.Sessions != 0 {
		t.Errorf("a refused client left %+v", s)
	}
	// Accepted: what follows CONNECT in the same write is answered after CONNACK.
	p := open(t, b)
	c := as("all", clean("y"))
	c.Version = mqtt.V5
	bytes, _ := c.Append(nil, mqtt.V5)
	bytes, _ = (&mqtt.Pingreq{}).Append(bytes, mqtt.V5)
	p.write(bytes)
	if _, ok := p.must().(*mqtt.Connack); !ok {
		t.Error("CONNACK is not the first")
	}
	p.expect(&mqtt.Pingresp{})
	second, _ := c.Append(nil, mqtt.V5)
	p.write(second)
	p.expect(&mqtt.Disconnect{Reason: mqtt.ProtocolError})
	p.closed()
}

// CONNACK says only what was asked for or decided: no Response Information
// [MQTT-3.1.2-28], no method [MQTT-4.12.0-6], and no Server Keep Alive when the
// client's own is in force [MQTT-3.2.2-22].
func TestConnackSaysNoMoreThanItHasTo(t *testing.T) {
	b := start(t, Options{})
	for _, ask := range []bool{false, true} {
		c := clean("x")
		c.KeepAlive, c.RequestResponseInfo = 60, ask
		if a := open(t, b).connect(c); a.ResponseInfo != "" || a.AuthMethod != "" || a.HasServerKeepAlive {
			t.Errorf("%+v", a)
		}
	}
}

// [MQTT-2.2.1-6] [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-5] [MQTT-3.8.4-6]
// [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-3.9.3-2] [MQTT-3.10.4-1] [MQTT-3.10.4-4]
// [MQTT-3.10.4-5] [MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2]
// [MQTT-4.7.3-4] [MQTT-3.9.3-2 v3.1.1].
func TestSubscribeAndUnsubscribeAnswers(t *testing.T) {
	b := start(t, Options{Authority: door{"u": {name: "u", password: "u", subscribe: "a", publish: "#", receive: "#"}}})
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		c := as("u", clean("x"))
		c.Version = v
		p := open(t, b)
		p.connect(c)
		p.send(&mqtt.Subscribe{PacketID: 513, Subscriptions: []mqtt.Subscription{{Filter: "a", QoS: 2}, {Filter: "b", QoS: 1}, {Filter: "a", QoS: 0}}})
		denied := mqtt.NotAuthorized
		if v == mqtt.V311 {
			denied = mqtt.UnspecifiedError
		}
		p.expect(&mqtt.Suback{PacketID: 513, Reasons: []mqtt.ReasonCode{2, denied, 0}})
		p.send(&mqtt.Unsubscribe{PacketID: 65535, Filters: []string{"A", "a/", "b", "a", "a"}}) // none but "a" is exact
		answer := &mqtt.Unsuback{PacketID: 65535}
		if v == mqtt.V5 {
			none := mqtt.NoSubscriptionExisted
			answer.Reasons = []mqtt.ReasonCode{none, none, none, mqtt.Success, none}
		}
		p.expect(answer)
		p.publish(pub("a", "x", 0, 0))
		p.quiet()
	}
}

// An unsubscription stops what is new, and not what has begun
// [MQTT-3.10.4-2] [MQTT-3.10.4-3]; the closed window holds back nothing but
// PUBLISH [MQTT-3.3.4-10] [MQTT-4.9.0-3] [MQTT-3.3.4-9] [MQTT-4.9.0-2].
func TestUnsubscribeWithAClosedWindow(t *testing.T) {
	b := start(t, Options{})
	from := join(t, b, clean("from"))
	c := clean("sub")
	c.ReceiveMaximum = 1
	sub := join(t, b, c)
	sub.subscribe(2, "t")
	from.publish(pub("t", "a", 1, 1))
	from.send(pub("t", "b", 2, 2))
	from.expect(ack(mqtt.TypePubrec, 2))
	sub.expect(pub("t", "a", 1, 1))
	sub.quiet() // a PINGRESP, and no second message
	sub.subscribe(0, "other")
	sub.send(&mqtt.Unsubscribe{PacketID: 3, Filters: []string{"t"}})
	sub.expect(&mqtt.Unsuback{PacketID: 3, Reasons: []mqtt.ReasonCode{mqtt.Success}})
	from.publish(pub("t", "c", 1, 1), mqtt.NoMatchingSubscribers)
	sub.send(ack(mqtt.TypePuback, 1))
	sub.expect(pub("t", "b", 2, 2))
	sub.send(ack(mqtt.TypePubrec, 2))
	sub.expect(ack(mqtt.TypePubrel, 2))
	sub.send(ack(mqtt.TypePubcomp, 2))
	sub.quiet()
}

// A subscription made again replaces the first, sends what is retained, and
// loses nothing [MQTT-3.8.4-3] [MQTT-3.8.4-4]; RETAIN 0 changes nothing that is
// retained [MQTT-3.3.1-8], and the empty payload is not kept [MQTT-3.3.1-7].
func TestSubscribeAgain(t *testing.T) {
	bothVersions(t, func(t *testing.T, b *Broker, connect func(string, bool) mqtt.Connect) {
		from, sub := join(t, b, clean("from")), join(t, b, connect("sub", true))
		from.publish(retainedPub("t", "kept", 1, 1), mqtt.NoMatchingSubscribers)
		from.publish(pub("t", "passing", 0, 0))
		from.publish(pub("t", "", 0, 0))
		from.quiet()
		sub.subscribe(1, "t")
		sub.expect(retainedPub("t", "kept", 1, 1))
		from.publish(pub("t", "before", 1, 1))
		sub.subscribeAmong(0, "t", pub("t", "before", 1, 2), retainedPub("t", "kept", 0, 0))
		from.publish(pub("t", "after", 1, 1))
		sub.expect(pub("t", "after", 0, 0)) // once, at the new QoS
		sub.quiet()
		from.publish(retainedPub("t", "", 1, 1))
		sub.expect(pub("t", "", 0, 0))
		if n := b.Stats().Retained; n != 0 {
			t.Errorf("%d retained", n)
		}
	})
}

// subscribeAmong subscribes, and expects SUBACK and those messages in any order.
func (p *peer) subscribeAmong(qos mqtt.QoS, filter string, messages ...*mqtt.Publish) {
	p.t.Helper()
	p.send(&mqtt.Subscribe{PacketID: 9, Subscriptions: []mqtt.Subscription{{Filter: filter, QoS: qos}}})
	want := map[string]bool{show(&mqtt.Suback{PacketID: 9, Reasons: []mqtt.ReasonCode{mqtt.ReasonCode(qos)}}): true}
	for _, m := range messages {
		want[show(m)] = true
	}
	for len(want) > 0 {
		got := show(p.must())
		if !want[got] {
			p.t.Fatalf("got %s, want one of %v", got, want)
		}
		delete(want, got)
	}
}

// A will is published as it asks to be: [MQTT-3.1.2-14] [MQTT-3.1.2-15]
// [MQTT-3.1.2-7], with its properties in order [MQTT-3.1.3-10]; without one
// there is none [MQTT-3.1.2-12 v3.1.1].
func TestWillRetain(t *testing.T) {
	bothVersions(t, func(t *testing.T, b *Broker, connect func(string, bool) mqtt.Connect) {
		sub := join(t, b, clean("sub"))
		sub.subscribeWith(mqtt.Subscription{Filter: "will", RetainAsPublished: true}, 0, 0)
		for _, retain := range []bool{false, true} {
			c := connect("x", false)
			c.Will = &mqtt.Will{Topic: "will", Payload: []byte("gone"), Retain: retain}
			want := pub("will", "gone", 0, 0)
			if want.Retain = retain; c.Version == mqtt.V5 {
				c.Will.User = []mqtt.UserProperty{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "0"}}
				for _, u := range c.Will.User {
					want.User = append(want.User, mqtt.BorrowedProperty{Key: []byte(u.Key), Value: []byte(u.Value)})
				}
			}
			p := join(t, b, c)
			p.drop(b, "x")
			sub.expect(want)
			if n := b.Stats().Retained; n != 0 != retain {
				t.Errorf("retain %v: %d retained", retain, n)
			}
		}
		p := join(t, b, connect("x", false))
		p.drop(b, "x")
		sub.quiet()
	})
}

// A QoS 2 message that went to one member of a share is that member's:
// [MQTT-4.8.2-3] [MQTT-4.8.2-4] [MQTT-4.8.2-5] [MQTT-4.8.2-6].
// Shows [B8d].
func TestSharedMessageStaysWithItsMember(t *testing.T) {
	b := start(t, Options{})
	from := join(t, b, clean("from"))
	first, second := join(t, b, lasting("first")), join(t, b, lasting("second"))
	first.subscribe(2, "$share/g/t")
	from.send(pub("t", "a", 2, 1), pub("t", "b", 2, 2))
	from.expect(ack(mqtt.TypePubrec, 1), ack(mqtt.TypePubrec, 2))
	first.expect(pub("t", "a", 2, 1), pub("t", "b", 2, 2))
	second.subscribe(1, "$share/g/t")
	first.send(ack(mqtt.TypePubrec, 1, mqtt.ImplementationSpecificError))
	first.quiet()
	second.quiet() // refused by one: nobody else gets it
	first.drop(b, "first")
	second.quiet()
	first = open(t, b)
	first.connect(lasting("first"))
	first.expect(dup(pub("t", "b", 2, 2))) // begun here, completed here
	first.send(ack(mqtt.TypePubrec, 2))
	first.expect(ack(mqtt.TypePubrel, 2))
	from.send(pub("t", "c", 1, 3), pub("t", "d", 2, 4)) // one of them to each
	from.expect(ack(mqtt.TypePuback, 3), ack(mqtt.TypePubrec, 4))
	mine, its := first.must().(*mqtt.Publish), second.must().(*mqtt.Publish)
	if its.QoS != 1 || string(mine.Payload) == string(its.Payload) {
		t.Errorf("%s and %s", show(mine), show(its))
	}
	// The session ends with its message under way.
	first.drop(b, "first")
	gone := open(t, b)
	gone.connect(clean("first"))
	second.quiet()
	gone.quiet()
}

// [MQTT-4.5.0-1] [MQTT-3.3.2-3] [MQTT-3.1.2-27] [MQTT-3.3.2-11], and what a
// 3.1.1 session of a client that is away gets [MQTT-3.1.2-5 v3.1.1]; what is
// retained outlives the session of its publisher [MQTT-3.1.2-7 v3.1.1].
func TestEveryMatchingSession(t *testing.T) {
	bothVersions(t, func(t *testing.T, b *Broker, connect func(string, bool) mqtt.Connect) {
		filters := map[string]string{"exact": "a/b", "plus": "a/+", "hash": "#", "not": "a/c", "case": "A/b", "below": "a/b/+"}
		for id, f := range filters {
			p := join(t, b, connect(id, true))
			p.subscribe(1, f)
			p.drop(b, id)
		}
		from := join(t, b, connect("from", false))
		from.publish(retainedPub("a/b", "1", 1, 1))
		from.publish(pub("a/b", "2", 1, 2))
		from.drop(b, "from")
		for id, f := range filters {
			p := open(t, b)
			p.connect(connect(id, true))
			if mqtt.Match(f, "a/b") {
				p.expect(pub("a/b", "1", 1, 1), pub("a/b", "2", 1, 2)) // with the topic, and no alias
			}
			p.quiet()
		}
		if b.Stats().Retained != 1 {
			t.Error("not retained any more")
		}
	})
}

// The limit that a client gave holds for what would introduce an alias as well
// [MQTT-3.1.2-24] [MQTT-3.1.2-25] [MQTT-3.1.2-26] [MQTT-3.3.2-8].
// Shows [B5b].
func TestClientLimits(t *testing.T) {
	b := start(t, Options{})
	c := clean("sub")
	c.MaximumPacketSize, c.TopicAliasMaximum = 60, 1
	sub, from := join(t, b, c), join(t, b, clean("from"))
	sub.subscribe(1, "#")
	for i := range 60 { // the first that fits would not with an alias
		payload := strings.Repeat("x", 59-i)
		from.publish(pub("t", payload, 1, 1))
		from.publish(pub("longer", payload, 0, 0))
	}
	from.publish(pub("end", "", 0, 0))
	aliased := 0
	for {
		p := sub.must().(*mqtt.Publish)
		frame, err := p.Append(nil, mqtt.V5)
		if err != nil || len(frame) > 60 || p.TopicAlias > 1 {
			t.Fatalf("%d bytes, alias %d: %v", len(frame), p.TopicAlias, err)
		}
		if p.TopicAlias == 1 {
			aliased++
		}
		if string(p.Topic) == "end" {
			break
		}
		if p.QoS == 1 {
			sub.send(ack(mqtt.TypePuback, p.PacketID))
		}
	}
	if aliased == 0 {
		t.Error("no alias was used: the test shows nothing")
	}
}

// DUP is that of the copy, not of the one that came in [MQTT-3.3.1-3], and a
// handshake goes on when its message has expired [MQTT-4.3.3-13], on another
// connection too.
// Shows [B9c].
func TestDupAndExpiryInAHandshake(t *testing.T) {
	virtual(t, Options{}, func(t *testing.T, b *Broker) {
		sub, from := join(t, b, lasting("sub")), join(t, b, clean("from"))
		sub.subscribe(2, "t")
		from.publish(dup(pub("t", "x", 1, 1)))
		sub.expect(pub("t", "x", 1, 1))
		sub.send(ack(mqtt.TypePuback, 1))
		m := dup(pub("t", "y", 2, 2))
		m.HasExpiry, m.ExpirySeconds = true, 1
		from.send(m)
		from.expect(ack(mqtt.TypePubrec, 2))
		got := sub.must().(*mqtt.Publish)
		if got.Dup || got.PacketID != 2 {
			t.Error(show(got))
		}
		pass(time.Minute)
		from.send(ack(mqtt.TypePubrel, 2))
		from.expect(ack(mqtt.TypePubcomp, 2))
		sub.drop(b, "sub")
		sub = join(t, b, lasting("sub"))
		m = dup(pub("t", "y", 2, 2))
		m.HasExpiry = true
		sub.expect(m)
		sub.send(ack(mqtt.TypePubrec, 2))
		sub.expect(ack(mqtt.TypePubrel, 2))
	})
}

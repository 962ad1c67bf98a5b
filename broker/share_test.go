package broker

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
)

func TestParseShare(t *testing.T) {
	for s := RoundRobin; s <= ByPublisher; s++ {
		if got, err := ParseShare(s.String()); err != nil || got != s {
			t.Errorf("%v: %v, %v", s, got, err)
		}
	}
	if _, err := ParseShare("random"); err == nil {
		t.Error("random is a strategy")
	}
}

func TestShareID(t *testing.T) {
	for _, g := range []group{{name: "g", filter: "a/#"}, {tenant: "a\x00b", name: "g h", filter: "/"}, {tenant: "\x00", name: "n", filter: "+"}} {
		id := shareID(g.tenant, g.name, g.filter)
		tenant, name, filter, ok := parseShareID(id)
		if !ok || tenant != g.tenant || name != g.name || filter != g.filter || !isShareID(id) {
			t.Errorf("%q: %q %q %q %v", id, tenant, name, filter, ok)
		}
	}
	for _, id := range []string{"", "client", "\x00", "\x00a\x00"} {
		if _, _, _, ok := parseShareID(id); ok {
			t.Errorf("%q is a share", id)
		}
	}
}

// crew is a share with members that are connected and may do everything.
func crew(how Share, names ...string) *group {
	g := &group{ShareRule: ShareRule{How: how}, stats: new(ShareStats), qos: mqtt.AtLeastOnce}
	g.all.g = g
	for _, n := range names {
		g.members.put(holder{client: &client{id: n, hash: hash(n), conn: &conn{}, window: 10}, qos: mqtt.AtLeastOnce})
	}
	return g
}

func (g *group) ownerOf(topic string) string {
	m := &session.Message{Topic: topic, QoS: mqtt.AtLeastOnce}
	return g.pick(hash(g.keyOf(m)), m).client.id
}

// A member that comes or goes moves only the keys that become its own, or were,
// and those are its fair part.
// Shows [B8c].
func TestShareMovesFewKeys(t *testing.T) {
	const keys = 10_000
	names := []string{"m0", "m1", "m2", "m3", "m4", "m5"}
	five, six := crew(ByTopic, names[:5]...), crew(ByTopic, names...)
	count := map[string]int{}
	for i := range keys {
		topic := fmt.Sprintf("site/%d/state", i)
		before, after := five.ownerOf(topic), six.ownerOf(topic)
		if count[after]++; before != after && after != "m5" {
			t.Fatalf("%s moved from %s to %s when m5 came", topic, before, after)
		}
	}
	for _, n := range names {
		if c := count[n]; c < keys/6*9/10 || c > keys/6*11/10 {
			t.Errorf("%s has %d keys of %d", n, c, keys)
		}
	}
}

func TestSharePickDoesNotAllocate(t *testing.T) {
	for how := RoundRobin; how <= ByPublisher; how++ {
		g := crew(how, "m0", "m1", "m2", "m3")
		m := &session.Message{Topic: "site/1/state", Publisher: "p", QoS: mqtt.AtLeastOnce}
		if n := testing.AllocsPerRun(100, func() { g.pick(hash(g.keyOf(m)), m) }); n != 0 {
			t.Errorf("%v: %v allocations", how, n)
		}
	}
}

func BenchmarkSharePick(b *testing.B) {
	for _, members := range []int{2, 16, 128} {
		var names []string
		for i := range members {
			names = append(names, fmt.Sprint("member", i))
		}
		for how := RoundRobin; how <= ByPublisher; how++ {
			b.Run(fmt.Sprintf("%v/%d", how, members), func(b *testing.B) {
				g := crew(how, names...)
				m := &session.Message{Topic: "site/1/state", Publisher: "p", QoS: mqtt.AtLeastOnce}
				b.ReportAllocs()
				for b.Loop() {
					g.pick(hash(g.keyOf(m)), m)
				}
			})
		}
	}
}

// topicOf finds a topic that a belongs to when it shares with b.
func topicOf(a, b string) string {
	g := crew(ByTopic, a, b)
	for i := 0; ; i++ {
		if t := fmt.Sprint("t/", i); g.ownerOf(t) == a {
			return t
		}
	}
}

func shared(how Share) Options { return Options{Shares: map[string]ShareRule{"g": {How: how}}} }

func (p *peer) has(id uint16) {
	p.t.Helper()
	p.send(ack(mqtt.TypePuback, id))
	p.quiet()
}

// A key that becomes another's is drained before: what is new of it waits, what
// is of other keys does not.
// Shows [B8c].
func TestShareDrainsBeforeHandOver(t *testing.T) {
	b := start(t, shared(ByTopic))
	from, old := join(t, b, clean("from")), join(t, b, clean("old"))
	old.subscribe(1, "$share/g/#")
	moves, stays := topicOf("next", "old"), topicOf("old", "next")
	from.publish(pub(moves, "1", 1, 1))
	old.expect(pub(moves, "1", 1, 1))
	next := join(t, b, clean("next"))
	next.subscribe(1, "$share/g/#")
	from.publish(pub(moves, "2", 1, 1))
	from.publish(pub(stays, "a", 1, 1))
	from.send(pub(moves, "3", 0, 0))
	from.quiet()
	old.expect(pub(stays, "a", 1, 2))
	old.quiet()
	next.quiet()
	old.has(1)
	next.expect(pub(moves, "2", 1, 1), pub(moves, "3", 0, 0))
	from.publish(pub(moves, "4", 1, 1)) // it is next's by now, and goes at once
	next.expect(pub(moves, "4", 1, 2))
	old.quiet()
}

// What a member had unacknowledged goes to the others when it is gone, in order
// and before what is newer.
// Shows [B8c] [B8d].
func TestShareOfMemberThatDies(t *testing.T) {
	for _, how := range []Share{Sticky, ByTopic, ByPublisher} {
		t.Run(how.String(), func(t *testing.T) {
			b := start(t, shared(how))
			from, dies := join(t, b, clean("from")), join(t, b, clean("dies"))
			dies.subscribe(1, "$share/g/t")
			for i := range 4 {
				from.publish(pub("t", fmt.Sprint(i), 1, 1))
				dies.expect(pub("t", fmt.Sprint(i), 1, uint16(i+1)))
			}
			dies.has(1)
			lives := join(t, b, lasting("lives"))
			lives.subscribe(1, "$share/g/t")
			dies.drop(b, "dies")
			from.publish(pub("t", "4", 1, 1))
			for i := 1; i < 5; i++ {
				lives.expect(pub("t", fmt.Sprint(i), 1, uint16(i)))
			}
			lives.quiet()
			if n := b.Stats().Dropped[session.DropSessionEnded]; n != 0 {
				t.Errorf("%d dropped", n)
			}
		})
	}
}

// A member that is the only one has its messages sent again when it is back, as
// any session has [MQTT-4.4.0-1]; when another is there, that one gets them.
// Shows [B8c].
func TestShareOfMemberThatIsAway(t *testing.T) {
	b := start(t, shared(ByTopic))
	from, only := join(t, b, clean("from")), join(t, b, lasting("only"))
	only.subscribe(1, "$share/g/t")
	from.publish(pub("t", "1", 1, 1))
	only.expect(pub("t", "1", 1, 1))
	only.drop(b, "only")
	from.publish(pub("t", "2", 1, 1))
	only = open(t, b)
	only.connect(lasting("only"))
	only.expect(dup(pub("t", "1", 1, 1)), pub("t", "2", 1, 2))
	only.drop(b, "only")
	other := join(t, b, clean("other"))
	other.subscribe(1, "$share/g/t")
	other.expect(pub("t", "1", 1, 1), pub("t", "2", 1, 2))
	only = open(t, b)
	only.connect(lasting("only"))
	only.quiet()
}

// Sticky stays with its member when others come.
// Shows [B8b].
func TestShareSticky(t *testing.T) {
	virtual(t, shared(Sticky), func(t *testing.T, b *Broker) {
		from, first := join(t, b, clean("from")), join(t, b, lasting("first"))
		first.subscribe(1, "$share/g/#")
		var others []*peer
		for i := range 3 {
			others = append(others, join(t, b, clean(fmt.Sprint("other", i))))
			others[i].subscribe(1, "$share/g/#")
		}
		for i := range 9 {
			from.publish(pub(fmt.Sprint("t/", i), "x", 1, 1))
			first.expect(pub(fmt.Sprint("t/", i), "x", 1, uint16(i+1)))
		}
		for _, o := range others {
			o.quiet()
		}
		first.send(&mqtt.Unsubscribe{PacketID: 1, Filters: []string{"$share/g/#"}})
		first.expect(&mqtt.Unsuback{PacketID: 1, Reasons: []mqtt.ReasonCode{0}})
		from.publish(pub("t", "y", 1, 1))
		synctest.Wait()
		for _, o := range others { // first has not done with what it was sent
			o.quiet()
		}
		for i := range 9 {
			first.has(uint16(i + 1))
		}
		synctest.Wait()
		got := 0
		for _, o := range others {
			o.send(&mqtt.Pingreq{})
			if _, ok := o.must().(*mqtt.Publish); ok {
				got++
			}
		}
		if got != 1 {
			t.Errorf("%d members got the next message", got)
		}
	})
}

// What waits in a share is bounded; beyond that its publishers are refused.
// Shows [B6d].
func TestShareBounds(t *testing.T) {
	o := shared(ByTopic)
	o.Limits.QueueMessages = 5
	b := start(t, o)
	from := join(t, b, clean("from"))
	slow := join(t, b, mqtt.Connect{ClientID: "slow", CleanStart: true, ReceiveMaximum: 2})
	slow.subscribe(1, "$share/g/t")
	for i := range 5 {
		from.publish(pub("t", fmt.Sprint(i), 1, 1))
	}
	from.publish(pub("t", "5", 1, 1), mqtt.QuotaExceeded)
	slow.expect(pub("t", "0", 1, 1), pub("t", "1", 1, 2))
	slow.quiet() // its window is full; the rest waits in the share
	slow.send(ack(mqtt.TypePuback, 1))
	slow.expect(pub("t", "2", 1, 3))
	from.publish(pub("t", "6", 1, 1))
	for i, id := range []uint16{2, 3, 4} {
		slow.send(ack(mqtt.TypePuback, id))
		slow.expect(pub("t", []string{"3", "4", "6"}[i], 1, id+2))
	}
}

// A busy key does not keep others from the window of its owner.
// Shows [B8c].
func TestShareKeysTakeTurns(t *testing.T) {
	b := start(t, shared(ByTopic))
	from := join(t, b, clean("from"))
	m := join(t, b, mqtt.Connect{ClientID: "m", CleanStart: true, ReceiveMaximum: 1})
	m.subscribe(1, "$share/g/#")
	for _, topic := range []string{"busy", "busy", "busy", "busy", "rare", "other"} {
		from.publish(pub(topic, "x", 1, 1))
	}
	var got []string
	for range 6 {
		p := m.must().(*mqtt.Publish)
		got = append(got, string(p.Topic))
		m.send(ack(mqtt.TypePuback, p.PacketID))
	}
	if want := []string{"busy", "busy", "rare", "other", "busy", "busy"}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

// Lanes wait once for a member's window, however often it subscribes, and
// whoever else comes and goes.
func TestShareWaitsOnce(t *testing.T) {
	b := start(t, shared(ByTopic))
	from := join(t, b, clean("from"))
	m := join(t, b, mqtt.Connect{ClientID: "m", CleanStart: true, ReceiveMaximum: 1})
	m.subscribe(1, "$share/g/#")
	for i := range 20 {
		from.publish(pub(fmt.Sprint("t/", i), "x", 1, 1))
	}
	first := m.must().(*mqtt.Publish)
	for i := range 5 {
		m.subscribe(1, "$share/g/#")
		other := join(t, b, mqtt.Connect{ClientID: fmt.Sprint("other", i), CleanStart: true, ReceiveMaximum: 1})
		other.subscribe(1, "$share/g/#")
		other.send(&mqtt.Disconnect{})
		for {
			if _, err := other.next(); err != nil {
				break
			}
		}
		other.drop(b, fmt.Sprint("other", i))
	}
	b.hub.mu.Lock()
	cl, n := b.hub.clients["m"], 0
	for _, x := range cl.ready {
		if x.holds(cl) {
			n++
		}
	}
	if n != 19 || len(cl.ready) > 2*n+64 {
		t.Errorf("%d lanes wait, by %d claims", n, len(cl.ready))
	}
	b.hub.mu.Unlock()
	m.send(ack(mqtt.TypePuback, first.PacketID))
	for range 19 {
		m.send(ack(mqtt.TypePuback, m.must().(*mqtt.Publish).PacketID))
	}
	m.quiet()
}

// Who may not receive a topic never owns its key, nor stands in its way.
// Shows [B8c] [B10c].
func TestShareRights(t *testing.T) {
	blind := &user{name: "blind", password: "blind", publish: "none", subscribe: "#", receive: "else/#"}
	for _, how := range []Share{RoundRobin, Sticky, ByTopic, ByPublisher} {
		t.Run(how.String(), func(t *testing.T) {
			o := shared(how)
			o.Authority = door{"blind": blind, "all": trusted("all")}
			b := start(t, o)
			from, none := join(t, b, as("all", clean("from"))), join(t, b, as("blind", clean("none")))
			none.subscribe(1, "$share/g/#")
			from.publish(pub("t/0", "nobody", 1, 1), mqtt.NoMatchingSubscribers)
			one := join(t, b, as("all", clean("one")))
			one.subscribe(1, "$share/g/#")
			for i := range 20 {
				from.publish(pub(fmt.Sprint("t/", i), "x", 1, 1))
				want := pub(fmt.Sprint("t/", i), "x", 1, uint16(i+1))
				if i == 0 {
					told(want, "1 denied")
				}
				one.expect(want)
				one.has(uint16(i + 1))
			}
			none.quiet()
		})
	}
}

// What expires while it waits is dropped and counted, and holds up nothing.
// Shows [B9b].
func TestShareExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, shared(ByTopic))
		from := join(t, b, clean("from"))
		m := join(t, b, lasting("m"))
		m.subscribe(1, "$share/g/t")
		m.drop(b, "m")
		short := pub("t", "short", 1, 1)
		short.HasExpiry, short.ExpirySeconds = true, 5
		from.publish(short)
		from.publish(pub("t", "long", 1, 1))
		time.Sleep(6 * time.Second)
		m = open(t, b)
		m.connect(lasting("m"))
		m.expect(told(pub("t", "long", 1, 1), "1 expired"))
		counted(t, b, session.DropExpired, 1)
	})
}

// QoS 2 that its member may have had is never another's [MQTT-4.8.2-5]; what it
// cannot have had is. The key waits as long as the session lasts [MQTT-4.8.2-4].
// Shows [B8d].
func TestShareQoS2(t *testing.T) {
	b := start(t, shared(ByTopic))
	from := join(t, b, clean("from"))
	first := join(t, b, mqtt.Connect{ClientID: "first", SessionExpirySeconds: 3600, ReceiveMaximum: 1})
	first.subscribe(2, "$share/g/t")
	from.send(pub("t", "a", 2, 1), pub("t", "b", 2, 2))
	from.expect(ack(mqtt.TypePubrec, 1), ack(mqtt.TypePubrec, 2))
	first.expect(pub("t", "a", 2, 1))
	second := join(t, b, lasting("second"))
	second.subscribe(2, "$share/g/t")
	first.drop(b, "first")
	from.publish(pub("t", "c", 1, 3))
	second.quiet()
	gone := open(t, b)
	gone.connect(clean("first"))
	second.expect(pub("t", "b", 2, 1))
	second.send(ack(mqtt.TypePubrec, 1))
	second.expect(ack(mqtt.TypePubrel, 1))
	second.quiet()
	second.send(ack(mqtt.TypePubcomp, 1))
	second.expect(pub("t", "c", 1, 2))
	counted(t, b, session.DropSessionEnded, 1)
}

// The last member takes the share with it, and what waited is told.
// Shows [B5a] [B8e].
func TestShareEnds(t *testing.T) {
	b := start(t, shared(ByTopic))
	from := join(t, b, clean("from"))
	m := join(t, b, mqtt.Connect{ClientID: "m", CleanStart: true, ReceiveMaximum: 1})
	m.subscribe(1, "$share/g/t")
	for range 3 {
		from.publish(pub("t", "x", 1, 1))
	}
	m.expect(pub("t", "x", 1, 1))
	m.drop(b, "m")
	eventually(t, func() bool { return b.Stats().Dropped[session.DropSessionEnded] == 3 })
	from.publish(pub("t", "x", 1, 1), mqtt.NoMatchingSubscribers)
	if len(b.hub.index.root.children) != 0 {
		t.Error("the share is still there")
	}
}

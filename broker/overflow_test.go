package broker

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/order"
)

// The reader of gap notes knows what the broker writes.
// Shows [B5b].
func TestGapNoteIsRead(t *testing.T) {
	if order.PropertyGap != GapProperty {
		t.Fatal(order.PropertyGap)
	}
	for r := range session.DropReasons {
		n, err := order.ParseGap([]mqtt.UserProperty{{Key: GapProperty, Value: "2 " + r.String()}})
		if err != nil || n.Len() != 2 {
			t.Error(r, n, err)
		}
	}
}

// told is p with gap notes.
func told(p *mqtt.Publish, notes ...string) *mqtt.Publish {
	for _, n := range notes {
		p.User = append(p.User, mqtt.BorrowedProperty{Key: []byte(GapProperty), Value: []byte(n)})
	}
	return p
}

// by is a listener like that of open, with a policy.
func by(o Overflow) []Listener {
	return []Listener{{Name: "memory", Network: "tcp", Address: "127.0.0.1:0", Overflow: o}}
}

// TestOverflow fills the queue of a subscriber that is away, or there and slow,
// and looks what it gets in the end. The publisher is accepted, and a third
// party misses nothing.
// Shows [B5a] [B5b] [B6c].
func TestOverflow(t *testing.T) {
	for _, policy := range []Overflow{DropNewest, DropOldest} {
		for _, version := range []mqtt.Version{mqtt.V5, mqtt.V311} {
			for _, away := range []bool{true, false} {
				t.Run(fmt.Sprintf("%v %v away=%v", policy, version, away), func(t *testing.T) {
					overflow(t, policy, version, away)
				})
			}
		}
	}
}

func overflow(t *testing.T, policy Overflow, version mqtt.Version, away bool) {
	b := start(t, Options{Limits: Limits{QueueMessages: 5, Window: 2, Inflight: 2}, Listeners: by(policy)})
	hello := mqtt.Connect{ClientID: "sub", Version: version}
	if version == mqtt.V5 {
		hello.SessionExpirySeconds = 3600
	}
	sub, all, from := join(t, b, hello), join(t, b, clean("all")), join(t, b, clean("from"))
	sub.subscribe(1, "t")
	all.subscribe(0, "t")
	const n = 20
	kept := []int{0, 1, 2, 3, 4} // what is in flight stays, whatever the policy
	switch {
	case policy == DropOldest && away:
		kept = []int{15, 16, 17, 18, 19}
	case policy == DropOldest:
		kept = []int{0, 1, 17, 18, 19}
	}
	if away {
		sub.drop(b, "sub")
	}
	var first []*mqtt.Publish
	for i := range n {
		from.publish(pub("t", fmt.Sprint(i), 1, 1))
		all.expect(pub("t", fmt.Sprint(i), 0, 0))
		if !away && i < 2 { // in flight
			first = append(first, sub.must().(*mqtt.Publish))
		}
	}
	if away {
		sub = open(t, b)
		sub.connect(hello)
	}
	missing := 0
	for i, k := range kept {
		var got *mqtt.Publish
		if i < len(first) {
			got = first[i]
		} else {
			got = sub.must().(*mqtt.Publish)
		}
		if string(got.Payload) != fmt.Sprint(k) {
			t.Fatalf("got %s, want %d", show(got), k)
		}
		for _, u := range got.User {
			var count int
			if _, err := fmt.Sscanf(string(u.Value), "%d queue_full", &count); err != nil {
				t.Fatal(show(got))
			}
			missing += count
		}
		sub.send(ack(mqtt.TypePuback, uint16(i+1)))
	}
	sub.quiet()
	switch {
	case version == mqtt.V311 && missing != 0:
		t.Error("MQTT 3.1.1 has no user properties")
	case version == mqtt.V5 && missing != n-len(kept):
		t.Errorf("%d were told to be missing, %d are", missing, n-len(kept))
	}
	counted(t, b, session.DropQueueFull, n-uint64(len(kept)))
}

// anyPolicy is an authority whose identities have policies: those in their name.
type anyPolicy struct{}

type withPolicy struct {
	unrestricted
	policy Overflow
}

func (w withPolicy) Overflow() Overflow { return w.policy }

func (anyPolicy) Authenticate(_ context.Context, c Credentials) (Identity, error) {
	p, err := session.ParseOverflow(c.Username)
	return withPolicy{unrestricted(c.Username), p}, err
}

// A policy belongs to the session: that of its identity before that of its
// listener, and it stays over a restart of the broker. The publisher is refused
// when one of the subscribers wants that.
// Shows [B6c].
func TestOverflowPolicy(t *testing.T) {
	s := store.NewMemory()
	o := Options{Authority: anyPolicy{}, Store: s, Limits: Limits{QueueMessages: 2}, Listeners: by(DropOldest)}
	b := start(t, o)
	as := func(name string, c mqtt.Connect) mqtt.Connect {
		c.Username, c.HasUsername = name, true
		return c
	}
	for _, name := range []string{"newest", "oldest", "refuse"} {
		p := join(t, b, as(name, lasting(name)))
		p.subscribe(1, "all", name)
		p.drop(b, name)
	}
	stop(t, b)
	b = start(t, o)
	from := join(t, b, as("refuse", clean("from")))
	for _, name := range []string{"newest", "oldest"} {
		for i := range 4 {
			from.publish(pub(name, fmt.Sprint(i), 1, 1))
		}
	}
	from.publish(pub("all", "everybody has a way, but one", 1, 1))
	from.publish(pub("all", "and here too", 1, 1))
	from.publish(pub("all", "no", 1, 1), mqtt.QuotaExceeded)
	for name, want := range map[string][]*mqtt.Publish{
		"newest": {told(pub("newest", "0", 1, 1), "4 queue_full"), pub("newest", "1", 1, 2)},
		"oldest": {told(pub("all", "everybody has a way, but one", 1, 1), "4 queue_full"), pub("all", "and here too", 1, 2)},
		"refuse": {pub("all", "everybody has a way, but one", 1, 1), pub("all", "and here too", 1, 2)},
	} {
		p := join(t, b, as(name, lasting(name)))
		for _, w := range want {
			p.expect(w)
		}
		p.quiet()
	}
}

// One turn of a publisher may overflow several stored queues several times; its
// messages and the answers to it keep their order.
// Shows [B6c].
func TestOverflowInOneTurn(t *testing.T) {
	b := start(t, Options{Limits: Limits{QueueMessages: 3, Window: 2}, Listeners: by(DropOldest)})
	for _, id := range []string{"a", "b"} {
		p := join(t, b, lasting(id))
		p.subscribe(2, "t")
		p.drop(b, id)
	}
	all, from := join(t, b, clean("all")), join(t, b, clean("from"))
	all.subscribe(0, "t")
	const n = 200
	var batch []byte
	var err error
	for i := range n {
		if batch, err = pub("t", fmt.Sprint(i), 1, uint16(i+1)).Append(batch, mqtt.V5); err != nil {
			t.Fatal(err)
		}
	}
	from.write(batch)
	for i := range n {
		from.expect(ack(mqtt.TypePuback, uint16(i+1)))
		all.expect(pub("t", fmt.Sprint(i), 0, 0))
	}
	for _, id := range []string{"a", "b"} {
		p := join(t, b, lasting(id))
		p.expect(told(pub("t", "197", 1, 1), "197 queue_full"), pub("t", "198", 1, 2), pub("t", "199", 1, 3))
	}
}

// What a share lends to a member is taken by its full queue. When that drops it
// later, the share lends on.
// Shows [B6d].
func TestOverflowOfShare(t *testing.T) {
	b := start(t, Options{Limits: Limits{QueueMessages: 2}, Listeners: by(DropOldest)})
	c := lasting("a")
	c.ReceiveMaximum = 1
	a, from := join(t, b, c), join(t, b, clean("from"))
	a.subscribe(2, "own", "$share/g/t")
	from.publish(pub("own", "1", 1, 1))
	a.expect(pub("own", "1", 1, 1))
	from.send(pub("t", "1", 2, 1))
	from.expect(ack(mqtt.TypePubrec, 1))
	from.publish(pub("own", "2", 1, 2)) // drops the one that was lent
	from.send(pub("t", "2", 2, 3))
	from.expect(ack(mqtt.TypePubrec, 3))
	a.send(ack(mqtt.TypePuback, 1))
	a.expect(told(pub("own", "2", 1, 2), "1 queue_full"))
	a.send(ack(mqtt.TypePuback, 2))
	a.expect(pub("t", "2", 2, 3))
}

// A will has nobody who could be told to send it again: it goes to those who
// have room.
// Shows [B5e].
func TestOverflowByWill(t *testing.T) {
	b := start(t, Options{Limits: Limits{QueueMessages: 1}})
	full, live := join(t, b, lasting("full")), join(t, b, clean("live"))
	full.subscribe(1, "t")
	live.subscribe(1, "t")
	full.drop(b, "full")
	c := clean("dying")
	c.Will = &mqtt.Will{Topic: "t", Payload: []byte("bye"), QoS: 1}
	from := join(t, b, c)
	from.publish(pub("t", "first", 1, 1))
	live.expect(pub("t", "first", 1, 1))
	live.send(ack(mqtt.TypePuback, 1))
	live.quiet()
	from.drop(b, "dying")
	live.expect(pub("t", "bye", 1, 2))
	join(t, b, lasting("full")).expect(told(pub("t", "first", 1, 1), "1 queue_full"))
}

// The note counts against the client's Maximum Packet Size: when it does not
// fit, the message comes without it, and another one tells.
// Shows [B5b].
func TestGapNoteAndPacketSize(t *testing.T) {
	b := start(t, Options{})
	c := lasting("sub")
	c.MaximumPacketSize = 60
	sub, from := join(t, b, c), join(t, b, clean("from"))
	sub.subscribe(1, "t")
	large := func(n int) string { return fmt.Sprintf("%0*d", n, 0) }
	from.publish(pub("t", large(100), 1, 1))
	from.publish(pub("t", large(40), 1, 1))
	sub.expect(pub("t", large(40), 1, 1))
	p := pub("t", "x", 1, 1)
	p.User = []mqtt.BorrowedProperty{{Key: []byte("a"), Value: []byte("b")}}
	from.publish(p)
	want := pub("t", "x", 1, 2)
	want.User = append(want.User, p.User...)
	sub.expect(told(want, "1 too_large")) // after those of the publisher [MQTT-3.3.2-18]
	from.publish(pub("t", "y", 1, 1))
	sub.expect(pub("t", "y", 1, 3))
}

// tight is a store that may be full, and does not say so beforehand.
type tight struct {
	*store.Memory
	full atomic.Bool
}

func (s *tight) Commit(b *store.Batch, done func(error)) {
	var rest store.Batch
	for _, op := range b.Ops {
		message := op.Kind == store.Append && !op.Moved || op.Kind == store.PutRetained
		if !s.full.Load() || !message && (op.Kind != store.Step || op.Change.Kind != session.Received) {
			rest.Add(op)
		}
	}
	if len(rest.Ops) == len(b.Ops) {
		s.Memory.Commit(b, done)
		return
	}
	s.Memory.Commit(&rest, nil)
	done(store.ErrFull)
}

// When the store finds only at the commit that it is full, the publisher is told
// all the same, whatever else its turn had, and keeps its connection.
// Shows [B5d].
func TestStoreFullAtCommit(t *testing.T) {
	s := &tight{Memory: store.NewMemory()}
	b := start(t, Options{Store: s})
	sub, from := join(t, b, lasting("sub")), join(t, b, lasting("from"))
	sub.subscribe(2, "t")
	sub.drop(b, "sub")
	from.subscribe(1, "mine")
	from.publish(pub("mine", "x", 1, 1))
	from.expect(pub("mine", "x", 1, 1))
	s.full.Store(true)
	from.send(ack(mqtt.TypePuback, 1), pub("t", "no", 1, 1), pub("t", "no", 2, 2), pub("nobody", "x", 1, 3), &mqtt.Pingreq{})
	from.expect(&mqtt.Pingresp{}, ack(mqtt.TypePuback, 1, mqtt.QuotaExceeded), ack(mqtt.TypePubrec, 2, mqtt.QuotaExceeded),
		ack(mqtt.TypePuback, 3, mqtt.NoMatchingSubscribers))
	if list, _ := s.Queue(nil, "from", 0, 9); len(list) != 0 {
		t.Error("what the client acknowledged is still there")
	}
	old := open(t, b)
	old.connect(mqtt.Connect{Version: mqtt.V311, ClientID: "old"})
	old.send(pub("t", "no", 1, 1))
	old.closed()
	s.full.Store(false)
	from.send(pub("t", "2", 2, 2)) // the same packet id
	from.expect(ack(mqtt.TypePubrec, 2))
	sub = open(t, b)
	sub.connect(lasting("sub"))
	sub.expect(pub("t", "2", 2, 1))
	counted(t, b, session.DropStoreFull, 3)
}

// Who cannot be told that there is no room to retain a message has it delivered all
// the same, and what it would have replaced, which it has outdated, is gone.
// Shows [B5e].
func TestNoRoomToRetainAndNobodyToTell(t *testing.T) {
	b := start(t, Options{Limits: Limits{RetainedMessages: 2, RetainedBytes: 1000}})
	live, from := join(t, b, clean("live")), join(t, b, clean("from"))
	live.subscribe(0, "will", "zero")
	from.publish(retainedPub("will", "here", 1, 1))
	live.expect(pub("will", "here", 0, 0))
	from.publish(retainedPub("other", "x", 1, 1), mqtt.NoMatchingSubscribers)
	from.send(retainedPub("zero", "x", 0, 0))
	live.expect(pub("zero", "x", 0, 0))
	c := clean("dying")
	gone := strings.Repeat("gone", 300)
	c.Will = &mqtt.Will{Topic: "will", Payload: []byte(gone), Retain: true}
	join(t, b, c).drop(b, "dying")
	live.expect(pub("will", gone, 0, 0))
	late := join(t, b, clean("late"))
	late.subscribe(0, "#")
	late.expect(retainedPub("other", "x", 0, 0))
	late.quiet()
	counted(t, b, session.DropRetainRefused, 2)
}

// A will that the store has no room for is lost, and its subscriber is told.
// Shows [B5e].
func TestWillOnFullStore(t *testing.T) {
	s := &tight{Memory: store.NewMemory()}
	b := start(t, Options{Store: s})
	sub := join(t, b, lasting("sub"))
	sub.subscribe(1, "t", "other")
	c := clean("dying")
	c.Will = &mqtt.Will{Topic: "t", QoS: 1}
	dying := join(t, b, c)
	s.full.Store(true)
	dying.drop(b, "dying")
	s.full.Store(false)
	join(t, b, clean("from")).publish(pub("other", "x", 1, 1))
	sub.expect(told(pub("other", "x", 1, 1), "1 store_full"))
}

// QoS 0 gives way when QoS 1 needs the bytes.
// Shows [B6b].
func TestQoS0ShedFirst(t *testing.T) {
	virtual(t, Options{Limits: Limits{QueueBytes: 64 << 10}}, func(t *testing.T, b *Broker) {
		slow, from := join(t, b, clean("slow")), join(t, b, clean("from"))
		slow.subscribe(1, "t")
		payload := string(make([]byte, 8<<10))
		dropped := func() uint64 {
			synctest.Wait()
			return b.Stats().Dropped[session.DropQoS0Full]
		}
		const n = 10
		for before := dropped(); ; before = dropped() { // until the connection and the queue are full
			for range n {
				from.send(pub("t", payload, 0, 0))
			}
			if dropped() == before+n {
				break
			}
		}
		before := dropped()
		from.publish(pub("t", payload, 1, 1)) // is taken
		if after := dropped(); after != before+1 {
			t.Errorf("QoS 0 dropped: %d, then %d", before, after)
		}
	})
}

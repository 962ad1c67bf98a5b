package broker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// taker is a connection of a client that keeps its messages itself.
func taker(t *testing.T, b *Broker, c mqtt.Connect) *peer {
	t.Helper()
	nc, err := b.DialHandover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	p := newPeer(t, nc)
	p.connect(c)
	return p
}

// owing tells whether PUBACKs to a client wait.
func owing(b *Broker, id string) bool {
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	cl := b.hub.clients[id]
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.conn.owes()
}

// queuedFor is what the store has for a session.
func queuedFor(t *testing.T, s store.Store, id string) (payloads []string) {
	t.Helper()
	list, err := s.Queue(nil, id, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		payloads = append(payloads, string(d.Message.Payload))
		d.Message.Release()
	}
	return payloads
}

// A PUBACK waits for the one who takes the message, and for what else has to be
// stored; nothing is stored for the taker. Other words do not wait.
// Shows [B4d].
func TestHandover(t *testing.T) {
	disk := &lagging{Memory: store.NewMemory()}
	b := start(t, Options{Store: disk})
	srv, sub, from := taker(t, b, lasting("srv")), join(t, b, lasting("sub")), join(t, b, clean("from"))
	srv.subscribe(1, "t/#")
	sub.subscribe(1, "+/both")
	from.send(pub("t/x", "a", 1, 1), pub("nobody", "b", 1, 2)) // the second waits for its turn [MQTT-4.6.0-2]
	srv.expect(pub("t/x", "a", 1, 1))
	from.quiet()
	from.subscribe(1, "mine")
	if q := queuedFor(t, disk, "srv"); len(q) > 0 {
		t.Errorf("stored as well: %q", q)
	}
	srv.send(ack(mqtt.TypePuback, 1))
	from.expect(ack(mqtt.TypePuback, 1), ack(mqtt.TypePuback, 2, mqtt.NoMatchingSubscribers))

	from.send(pub("t/x", "c", 1, 3))
	from.send(pub("t/x", "d", 1, 4))
	srv.expect(pub("t/x", "c", 1, 2), pub("t/x", "d", 1, 3))
	srv.send(ack(mqtt.TypePuback, 3))
	srv.quiet()
	from.quiet()
	srv.send(ack(mqtt.TypePuback, 2))
	from.expect(ack(mqtt.TypePuback, 3), ack(mqtt.TypePuback, 4))

	for _, first := range []string{"disk", "taker"} {
		disk.stall()
		from.send(pub("t/both", first, 1, 5))
		x := srv.must().(*mqtt.Publish)
		eventually(t, func() bool { return disk.waiting() == 1 })
		if first == "taker" {
			srv.send(ack(mqtt.TypePuback, x.PacketID))
			srv.quiet()
			if !owing(b, "from") {
				t.Error("acknowledged before it was stored")
			}
			disk.settle(nil)
		} else {
			disk.settle(nil)
			from.quiet()
			srv.send(ack(mqtt.TypePuback, x.PacketID))
		}
		from.expect(ack(mqtt.TypePuback, 5))
	}
}

// Wills and QoS 2 have nobody who could wait for the taker alone: they are stored
// for it, and keep their place among what is handed over.
// Shows [B4d].
func TestHandoverStoresTheRest(t *testing.T) {
	disk := store.NewMemory()
	b := start(t, Options{Store: disk, Limits: Limits{Window: 1}})
	srv := taker(t, b, lasting("srv"))
	srv.subscribe(1, "t")
	from := join(t, b, clean("from"))
	var want []mqtt.Packet
	for i, qos := range []mqtt.QoS{1, 2, 1, 2, 1} {
		from.send(pub("t", fmt.Sprint(i), qos, uint16(i+1)))
		if want = append(want, pub("t", fmt.Sprint(i), 1, uint16(i+1))); qos == 2 {
			from.expect(ack(mqtt.TypePubrec, uint16(i+1)))
		}
	}
	from.quiet() // all are read
	dying := join(t, b, mqtt.Connect{ClientID: "dying", CleanStart: true, Will: &mqtt.Will{Topic: "t", Payload: []byte("will"), QoS: 1}})
	dying.drop(b, "dying")
	from.send(pub("t", "last", 1, 6))
	srv.expect(append(want, pub("t", "will", 1, 6), pub("t", "last", 1, 7))...)
	from.quiet()
	if got := queuedFor(t, disk, "srv"); !slices.Equal(got, []string{"1", "3", "will"}) {
		t.Errorf("stored: %q", got)
	}
	for id := range uint16(7) {
		srv.send(ack(mqtt.TypePuback, id+1))
	}
	from.expect(ack(mqtt.TypePuback, 1), ack(mqtt.TypePuback, 3), ack(mqtt.TypePuback, 5), ack(mqtt.TypePuback, 6))
	srv.quiet()
	if got := queuedFor(t, disk, "srv"); len(got) > 0 {
		t.Errorf("still stored: %q", got)
	}
}

// When the taker goes, who waits for it is cut off without an answer; while it is
// away messages are stored for it, and come before what is handed over later.
// Shows [B4d].
func TestHandoverTakerGoes(t *testing.T) {
	disk := store.NewMemory()
	b := start(t, Options{Store: disk})
	srv := taker(t, b, lasting("srv"))
	srv.subscribe(1, "t")
	from, other := join(t, b, lasting("from")), join(t, b, clean("other"))
	from.send(pub("t", "a", 1, 1))
	srv.expect(pub("t", "a", 1, 1))
	srv.drop(b, "srv")
	from.expect(&mqtt.Disconnect{Reason: mqtt.ServerBusy})
	from.closed()
	if n := b.Queued("srv"); n != 0 {
		t.Errorf("%d messages are left that were promised to nobody", n)
	}
	other.send(pub("t", "away", 1, 1))
	other.expect(ack(mqtt.TypePuback, 1))
	from = open(t, b)
	from.connect(lasting("from"))
	from.send(dup(pub("t", "a", 1, 1)))
	from.expect(ack(mqtt.TypePuback, 1))

	srv = taker(t, b, lasting("srv"))
	srv.expect(pub("t", "away", 1, 2), pub("t", "a", 1, 3))
	from.send(pub("t", "b", 1, 2))
	srv.send(ack(mqtt.TypePuback, 2), ack(mqtt.TypePuback, 3))
	x := srv.must().(*mqtt.Publish)
	if string(x.Payload) != "b" || x.Dup {
		t.Fatal(show(x))
	}
	srv.send(ack(mqtt.TypePuback, x.PacketID))
	from.expect(ack(mqtt.TypePuback, 2))
	other.quiet()
}

// A taker that does not come on costs bounded memory: then publishers are refused,
// and one that asks for more than it may is not read from. Who publishes to others
// is not held up, and all goes on when the taker does.
// Shows [B4d].
func TestHandoverStalls(t *testing.T) {
	b := start(t, Options{Store: store.NewMemory(), Limits: Limits{QueueMessages: 20, ReceiveMaximum: 4}})
	srv := taker(t, b, lasting("srv"))
	srv.subscribe(1, "t")
	keen := join(t, b, mqtt.Connect{ClientID: "keen", CleanStart: true, Version: mqtt.V311})
	for id := range uint16(10) {
		keen.send(pub("t", "x", 1, id+1))
		if id < 5 {
			eventually(t, func() bool { return b.Queued("srv") == int(id)+1 })
		}
	}
	polite, other := join(t, b, clean("polite")), join(t, b, clean("other"))
	var many []*peer
	for i := range 4 {
		p := join(t, b, clean(fmt.Sprint("many", i)))
		for id := range uint16(4) {
			p.send(pub("t", "y", 1, id+1))
		}
		many = append(many, p)
		if i < 3 {
			p.quiet()
		}
	}
	eventually(t, func() bool { return b.Queued("srv") == 20 })
	polite.send(pub("t", "z", 1, 1))
	polite.expect(ack(mqtt.TypePuback, 1, mqtt.QuotaExceeded))
	other.send(pub("u", "z", 1, 1))
	other.expect(ack(mqtt.TypePuback, 1, mqtt.NoMatchingSubscribers))

	acked := make(chan int, 1)
	go func() {
		n := 0
		for {
			x, err := srv.next()
			if err != nil {
				acked <- n
				return
			}
			n++
			raw, _ := ack(mqtt.TypePuback, x.(*mqtt.Publish).PacketID).Append(nil, mqtt.V5)
			if _, err := srv.nc.Write(raw); err != nil {
				acked <- n
				return
			}
		}
	}()
	for id := range uint16(10) {
		keen.expect(ack(mqtt.TypePuback, id+1))
	}
	for _, p := range many[:3] {
		for id := range uint16(4) {
			p.expect(ack(mqtt.TypePuback, id+1))
		}
	}
	_ = srv.nc.Close()
	if n := <-acked; n < 20 {
		t.Errorf("%d taken", n)
	}
}

// Whatever the store says, and whoever comes and goes: what a publisher was told is
// taken is either committed by the taker or in its stored queue, and the first
// copies of each publisher's messages are in their order while the store works.
// Shows [B4d].
func TestHandoverLosesNothing(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { handoverRun(t, rand.New(rand.NewPCG(seed, 7))) })
	}
}

// auditor is what a run of TestHandoverLosesNothing knows.
type auditor struct {
	t         *testing.T
	b         *Broker
	disk      *lagging
	srv       *peer
	ids       []uint16 // sent to the taker and not acknowledged, oldest first
	seen      []string // of those
	committed []string
	pubs      [3]*peer
	sent      [3][]string // not acknowledged, in order
	next      [3]int
	told      []string // acknowledged to a publisher
}

func handoverRun(t *testing.T, r *rand.Rand) {
	a := &auditor{t: t, disk: &lagging{Memory: store.NewMemory()}}
	a.b = start(t, Options{Store: a.disk, Limits: Limits{Window: 2, Takeovers: 1000}})
	a.srv = taker(t, a.b, lasting("srv"))
	a.srv.subscribe(1, "t/#")
	rest := join(t, a.b, lasting("stored"))
	rest.subscribe(1, "t/0/#")
	rest.drop(a.b, "stored")
	for i := range a.pubs {
		a.pubs[i] = join(t, a.b, lasting(fmt.Sprint("p", i)))
	}
	faulty := r.IntN(2) == 0
	for range 60 {
		i := r.IntN(len(a.pubs))
		switch r.IntN(8) {
		case 0, 1, 2:
			a.publish(i)
		case 3, 4:
			a.take(1 + r.IntN(3))
		case 5:
			a.resume(i)
		case 6:
			if r.IntN(3) == 0 {
				a.srv.drop(a.b, "srv")
				a.back()
			}
		case 7:
			a.read() // its own turns are not what fails
			a.disk.stall()
			a.publish(i)
			var err error
			if faulty && r.IntN(2) == 0 {
				err = errors.New("disk")
			}
			a.disk.settle(err)
		}
	}
	for i := range a.pubs {
		a.resume(i)
	}
	stop(t, a.b) // nothing is written that kill -9 would not have left
	kept := slices.Concat(a.committed, queuedFor(t, a.disk, "srv"))
	for _, m := range a.told {
		if !slices.Contains(kept, m) {
			t.Errorf("%s was acknowledged and is nowhere", m)
		}
	}
	last := [3]int{-1, -1, -1}
	for _, m := range kept {
		var i, n int
		if _, err := fmt.Sscanf(m, "%d/%d", &i, &n); err != nil {
			t.Fatal(err)
		}
		if n > last[i]+1 && !faulty {
			t.Errorf("%s came after %d/%d: %q", m, i, last[i], kept)
		}
		last[i] = max(last[i], n)
	}
}

func (a *auditor) publish(i int) {
	m := fmt.Sprintf("%d/%d", i, a.next[i])
	a.next[i]++
	a.sent[i] = append(a.sent[i], m)
	raw, _ := pub("t/"+m, m, 1, uint16(a.next[i])).Append(nil, mqtt.V5)
	_, _ = a.pubs[i].nc.Write(raw) // it may be cut off, and sends again
}

// take has the taker read and commit n messages; what more has come waits.
func (a *auditor) take(n int) {
	a.t.Helper()
	a.read()
	for range min(n, len(a.ids)) {
		a.committed = append(a.committed, a.seen[0])
		a.srv.send(ack(mqtt.TypePuback, a.ids[0]))
		a.ids, a.seen = a.ids[1:], a.seen[1:]
	}
}

// read takes note of all that the taker has been sent so far.
func (a *auditor) read() {
	a.t.Helper()
	a.srv.send(&mqtt.Pingreq{})
	for {
		switch x := a.srv.must().(type) {
		case *mqtt.Publish:
			a.ids, a.seen = append(a.ids, x.PacketID), append(a.seen, string(x.Payload))
		case *mqtt.Pingresp:
			return
		}
	}
}

func (a *auditor) back() {
	a.t.Helper()
	a.ids, a.seen = nil, nil
	a.srv = taker(a.t, a.b, lasting("srv"))
}

// resume reads what publisher i was told, cuts it, and has it send the rest again.
func (a *auditor) resume(i int) {
	a.t.Helper()
	raw, _ := (&mqtt.Pingreq{}).Append(nil, mqtt.V5)
	_, _ = a.pubs[i].nc.Write(raw)
	for {
		x, err := a.pubs[i].next()
		if err != nil {
			break
		}
		if _, ok := x.(*mqtt.Pingresp); ok {
			break
		}
		if p, ok := x.(*mqtt.Ack); ok && !p.Reason.Failed() {
			if id := int(p.PacketID); fmt.Sprintf("%d/%d", i, id-1) != a.sent[i][0] {
				a.t.Fatalf("PUBACK %d is out of order: %q", id, a.sent[i])
			}
			a.told = append(a.told, a.sent[i][0])
			a.sent[i] = a.sent[i][1:]
		}
	}
	a.pubs[i].drop(a.b, fmt.Sprint("p", i))
	a.pubs[i] = open(a.t, a.b)
	a.pubs[i].connect(lasting(fmt.Sprint("p", i)))
	for _, m := range a.sent[i] {
		var n int
		_, _ = fmt.Sscanf(m[2:], "%d", &n)
		raw, _ := dup(pub("t/"+m, m, 1, uint16(n+1))).Append(nil, mqtt.V5)
		_, _ = a.pubs[i].nc.Write(raw)
	}
}

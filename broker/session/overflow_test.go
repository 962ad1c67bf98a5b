package session_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// crowd is a session with little room, its store, and a client. What must become
// of each message is worked out by hand beside it, on plain lists: sent, zero
// and untold.
type crowd struct {
	t      *rapid.T
	lim    session.Limits
	s      *session.Session
	stored bool
	policy session.Overflow
	v5     bool
	mem    *store.Memory
	now    time.Time
	seq    uint64

	sent   []*parcel // QoS 1 and 2 that were taken and are not acknowledged, in order
	zero   []*parcel // QoS 0 that wait
	newest int       // number of the last QoS 1 or 2 message that came for the first time
	heard  map[int]bool
	owes   []mqtt.Ack         // answers of the client
	ids    map[uint16]*parcel // on this connection
	untold map[string]int

	// What was read of the store, and is given to the session only later.
	feed, scout reading
}

type reading struct {
	of    *session.Session
	after uint64
	safe  uint64
	list  []session.Delivery
}

type parcel struct {
	n, size int
	qos     mqtt.QoS
	flight  bool           // may not be dropped
	note    map[string]int // what came with its first copy
}

func (*crowd) MayReceive(string) bool { return true }

func newCrowd(t *rapid.T) *crowd {
	c := &crowd{
		t: t, mem: store.NewMemory(), now: time.Unix(0, 0), heard: map[int]bool{}, untold: map[string]int{},
		stored: rapid.IntRange(0, 3).Draw(t, "stored") > 0,
		lim: session.Limits{
			ReceiveMaximum: 10, Inflight: rapid.IntRange(1, 4).Draw(t, "inflight"), InflightBytes: 1 << 20, TopicAliases: 2,
			QueueMessages: rapid.IntRange(1, 9).Draw(t, "messages"), QueueBytes: rapid.IntRange(100, 1500).Draw(t, "bytes"),
			QoS0Messages: 5, QoS0Bytes: 700, Window: rapid.IntRange(1, 4).Draw(t, "window"),
		},
	}
	c.s = session.New(&c.lim)
	c.attach()
	return c
}

func (c *crowd) attach() {
	c.policy = session.Overflow(rapid.IntRange(0, 2).Draw(c.t, "policy"))
	c.v5 = rapid.IntRange(0, 3).Draw(c.t, "version") > 0
	l := session.Link{Version: c.version(), Overflow: c.policy, ReceiveMaximum: uint16(rapid.IntRange(1, 5).Draw(c.t, "receive"))}
	if c.stored {
		l.ExpirySeconds = 1000
		c.mem.Commit(&store.Batch{Ops: []store.Op{{Kind: store.PutSession, Record: &store.Record{
			ClientID: "c", ExpirySeconds: 1000, Overflow: c.policy}}}}, nil)
	}
	c.owes, c.ids, c.feed = nil, map[uint16]*parcel{}, reading{}
	c.s.Attach(l)
}

func (c *crowd) version() mqtt.Version {
	if c.v5 {
		return mqtt.V5
	}
	return mqtt.V311
}

func (*crowd) sizes(list []*parcel) (bytes int) {
	for _, p := range list {
		bytes += p.size
	}
	return bytes
}

func (c *crowd) publish(qos mqtt.QoS) {
	c.send(qos, rapid.IntRange(0, 250).Draw(c.t, "size"))
}

// send gives the session one message, as the hub does, and holds what it says
// against the oracle.
func (c *crowd) send(qos mqtt.QoS, size int) {
	c.seq++
	n := int(c.seq)
	payload := append(fmt.Append(nil, n, " "), bytes.Repeat([]byte{'x'}, size)...)
	m := session.NewMessage(&mqtt.Publish{Payload: payload, QoS: qos}, fmt.Sprint("t", n), "p", "o", c.now)
	defer m.Release()
	p := &parcel{n: n, qos: qos, size: m.Size()}
	d := session.Delivery{Message: m, Seq: c.seq, QoS: qos, Stored: qos > 0 && c.stored}
	want, take := c.decide(p)
	for qos > 0 {
		fit := c.s.Offer(m.Size())
		if (fit == session.NoRoom) != (want == nil && !take) {
			c.t.Fatalf("message %d: %d, want taken %v, dropped %v", n, fit, take, want)
		}
		if fit == session.NoRoom {
			return
		}
		if fit == session.Fits {
			break
		}
		after, limit, ok := c.s.Unread()
		if !ok {
			c.t.Fatal("nothing to be read, and unknown")
		}
		list, _ := c.mem.Queue(nil, "c", after, min(limit, rapid.IntRange(1, 3).Draw(c.t, "read")))
		c.s.Scout(after, c.seq, list)
	}
	var acts session.Actions
	if ok := c.s.Enqueue(d, &acts); ok != take {
		c.t.Fatalf("message %d: taken %v, want %v", n, ok, take)
	}
	c.dropped(&acts, want)
	c.commit(&acts)
	if take && d.Stored {
		c.mem.Commit(&store.Batch{Ops: []store.Op{{Kind: store.Append, Seq: c.seq, Message: m.Hold(),
			Targets: []store.Target{{Client: "c", QoS: qos}}}}}, nil)
	}
	c.check()
}

// decide is the oracle: which messages have to go for p, and whether p is taken.
// Nothing dropped and not taken means refused.
func (c *crowd) decide(p *parcel) (drops []*parcel, take bool) {
	waiting := c.sizes(c.sent)
	if p.qos == 0 {
		zero := c.sizes(c.zero)
		if !c.s.Attached() || len(c.zero) == c.lim.QoS0Messages || zero+p.size > c.lim.QoS0Bytes || waiting+zero+p.size > c.lim.QueueBytes {
			return []*parcel{p}, false
		}
		c.zero = append(c.zero, p)
		return nil, true
	}
	left := slices.Clone(c.sent)
	fits := func() bool {
		return len(left) < c.lim.QueueMessages && c.sizes(left)+p.size <= c.lim.QueueBytes
	}
	for c.policy == session.DropOldest && !fits() {
		i := slices.IndexFunc(left, func(p *parcel) bool { return !p.flight })
		if i < 0 {
			break
		}
		drops = append(drops, left[i])
		left = slices.Delete(left, i, i+1)
	}
	if !fits() {
		if c.policy == session.Refuse {
			return nil, false
		}
		return []*parcel{p}, false
	}
	c.sent = append(left, p)
	for len(c.zero) > 0 && c.sizes(c.sent)+c.sizes(c.zero) > c.lim.QueueBytes {
		drops, c.zero = append(drops, c.zero[0]), c.zero[1:]
	}
	return drops, true
}

// dropped compares drops, and takes note of what is to be told.
func (c *crowd) dropped(acts *session.Actions, want []*parcel) {
	if len(acts.Drops) != len(want) {
		c.t.Fatalf("dropped %v, want %d", acts.Drops, len(want))
	}
	for i, d := range acts.Drops {
		reason := session.DropQueueFull
		switch {
		case want[i].qos == 0 && !c.s.Attached():
			reason = session.DropOffline
		case want[i].qos == 0:
			reason = session.DropQoS0Full
		}
		if d.Reason != reason || d.Topic != "" && d.Topic != fmt.Sprint("t", want[i].n) {
			c.t.Fatalf("dropped %v, want message %d", d, want[i].n)
		}
		c.untold[reason.String()]++
	}
}

func (c *crowd) commit(acts *session.Actions) {
	b := &store.Batch{}
	b.Steps("c", acts.Store)
	c.mem.Commit(b, nil)
}

// pump writes all there is to be written, and feeds from the store.
func (c *crowd) pump() {
	for {
		var acts session.Actions
		b, _ := c.s.Next(nil, 1<<20, c.now, c.seq, c, &acts)
		c.commit(&acts)
		if len(acts.Drops) > 0 {
			c.t.Fatal(acts.Drops)
		}
		for _, a := range acts.Store {
			if a.Kind == session.Reserved {
				c.s.Confirm(a.Seq)
			}
		}
		list, err := decode(b, c.version())
		if err != nil {
			c.t.Fatal(err)
		}
		for _, p := range list {
			c.got(p)
		}
		fed := false
		if after, limit, ok := c.s.Missing(); ok {
			list, _ := c.mem.Queue(nil, "c", after, limit)
			fed = c.s.Feed(list, c.seq)
		}
		if len(list) == 0 && len(acts.Store) == 0 && !fed {
			break
		}
	}
	if len(c.zero) > 0 && c.s.Attached() {
		c.t.Fatalf("QoS 0 messages are left: %d", len(c.zero))
	}
	c.check()
}

// got takes a packet at the client.
func (c *crowd) got(p mqtt.Packet) {
	if a, ok := p.(*mqtt.Ack); ok { // PUBREL
		c.owes = append(c.owes, mqtt.Ack{Kind: mqtt.TypePubcomp, PacketID: a.PacketID})
		return
	}
	m := p.(*mqtt.Publish)
	var n int
	if _, err := fmt.Sscan(string(m.Payload), &n); err != nil {
		c.t.Fatal(err)
	}
	if m.QoS == 0 {
		if len(c.zero) == 0 || c.zero[0].n != n {
			c.t.Fatalf("QoS 0 message %d came out of turn", n)
		}
		c.told(m, c.zero[0])
		c.zero = c.zero[1:]
		return
	}
	i := slices.IndexFunc(c.sent, func(p *parcel) bool { return p.n == n })
	if i < 0 {
		c.t.Fatalf("message %d came, and is not to", n)
	}
	if !c.heard[n] && n < c.newest {
		c.t.Fatalf("message %d after %d", n, c.newest)
	}
	c.newest, c.heard[n] = max(n, c.newest), true
	c.sent[i].flight = true
	c.told(m, c.sent[i])
	kind := mqtt.TypePuback
	if m.QoS == 2 {
		kind = mqtt.TypePubrec
	}
	c.owes = append(c.owes, mqtt.Ack{Kind: kind, PacketID: m.PacketID})
	c.ids[m.PacketID] = c.sent[i]
}

// told holds the notes of m against what was lost: a first copy tells all that
// was not told, a repeat what its first copy told.
func (c *crowd) told(m *mqtt.Publish, p *parcel) {
	note, want := map[string]int{}, map[string]int{}
	for _, u := range m.User {
		var count int
		var reason string
		if _, err := fmt.Sscan(string(u.Value), &count, &reason); err != nil || string(u.Key) != session.GapProperty {
			c.t.Fatalf("note %s", u.Value)
		}
		note[reason] += count
	}
	switch {
	case !c.v5: // another has to tell
		for r, n := range p.note {
			c.untold[r] += n
		}
		p.note = nil
	case m.Dup:
		want = p.note
	default:
		want, p.note, c.untold = c.untold, c.untold, map[string]int{}
	}
	if fmt.Sprint(note) != fmt.Sprint(want) {
		c.t.Fatalf("message %d told %v, want %v", p.n, note, want)
	}
}

// read reads the store for the session, which gets it by late.
func (c *crowd) read() {
	if after, limit, ok := c.s.Missing(); ok && c.feed.of == nil {
		c.feed = reading{of: c.s, safe: c.seq}
		c.feed.list, _ = c.mem.Queue(nil, "c", after, limit)
	}
	if after, limit, ok := c.s.Unread(); ok && c.scout.of == nil {
		c.scout = reading{of: c.s, after: after, safe: c.seq}
		c.scout.list, _ = c.mem.Queue(nil, "c", after, limit)
	}
}

func (c *crowd) late() {
	if c.feed.of == c.s {
		c.s.Feed(c.feed.list, c.feed.safe)
	}
	if c.scout.of == c.s {
		c.s.Scout(c.scout.after, c.scout.safe, c.scout.list)
	}
	c.feed, c.scout = reading{}, reading{}
}

// answer sends one of the client's answers.
func (c *crowd) answer() {
	if len(c.owes) == 0 || !c.s.Attached() {
		return
	}
	i := rapid.IntRange(0, len(c.owes)-1).Draw(c.t, "which")
	a := c.owes[i]
	c.owes = slices.Delete(c.owes, i, i+1)
	if a.Kind != mqtt.TypePubcomp {
		done := c.ids[a.PacketID]
		c.sent = slices.DeleteFunc(c.sent, func(p *parcel) bool { return p == done })
	}
	var acts session.Actions
	c.s.Receive(&a, c.now, &acts)
	if acts.Close {
		c.t.Fatalf("closed after %s", show(&a))
	}
	c.commit(&acts)
	list, err := decode(acts.Send, c.version())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, p := range list {
		c.got(p)
	}
	c.check()
}

// cut ends the connection.
func (c *crowd) cut() {
	if !c.stored || !c.s.Attached() {
		return
	}
	var acts session.Actions
	c.s.Detach(c.now, &acts)
	if n := len(c.zero); n > 0 {
		if len(acts.Drops) != 1 || acts.Drops[0] != (session.Drop{Reason: session.DropOffline, Count: n}) {
			c.t.Fatal(acts.Drops)
		}
		c.untold["offline"] += n
	}
	c.zero = nil
	c.commit(&acts)
	c.check()
}

// crash loses the broker. What is stored comes back, and with it what was lost
// of QoS 1 and 2; a note that was not acknowledged is told again.
func (c *crowd) crash() {
	if !c.stored {
		return
	}
	for s := range c.mem.Sessions() {
		c.s = session.Restore(&c.lim, s.Saved)
	}
	if c.s.Overflow() != c.policy {
		c.t.Fatalf("policy %v, want %v", c.s.Overflow(), c.policy)
	}
	full := session.DropQueueFull.String()
	lost := c.untold[full]
	for _, p := range c.sent {
		lost += p.note[full]
		p.note, p.flight = nil, p.flight && p.qos == 2 // its packet id is stored
	}
	c.zero, c.untold = nil, map[string]int{}
	if lost > 0 {
		c.untold[full] = lost
	}
	c.check()
}

// check compares totals, and what the store has.
func (c *crowd) check() {
	if n, bytes := c.s.Queued(); n != len(c.sent) || bytes != c.sizes(c.sent) {
		c.t.Fatalf("the session has %d messages of %d bytes, want %d of %d", n, bytes, len(c.sent), c.sizes(c.sent))
	}
	if !c.stored {
		return
	}
	list, _ := c.mem.Queue(nil, "c", 0, 1000)
	var have, want []int
	for _, d := range list {
		have = append(have, int(d.Seq))
	}
	for _, p := range c.sent {
		want = append(want, p.n)
	}
	if !slices.Equal(have, want) {
		c.t.Fatalf("the store has %v, want %v", have, want)
	}
}

// TestOverflow checks the three policies over random traffic, limits, answers,
// cuts and crashes: what is refused, dropped and kept, that no message in flight
// is dropped, the order of what comes, the totals, the store, and the notes.
// Shows [B5b] [B6c].
func TestOverflow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCrowd(t)
		rarely := func(f func()) func(*rapid.T) {
			return func(t *rapid.T) {
				if rapid.IntRange(0, 3).Draw(t, "rare") == 0 {
					f()
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"publish 0": func(*rapid.T) { c.publish(0) },
			"publish 1": func(*rapid.T) { c.publish(1) },
			"publish 2": func(*rapid.T) { c.publish(2) },
			"pump":      func(*rapid.T) { c.pump() },
			"answer":    func(*rapid.T) { c.answer() },
			"read":      func(*rapid.T) { c.read() },
			"late":      func(*rapid.T) { c.late() },
			"cut":       rarely(c.cut),
			"crash":     rarely(c.crash),
			"join": func(*rapid.T) {
				if !c.s.Attached() {
					c.attach()
				}
			},
		})
		if !c.s.Attached() {
			c.attach()
		}
		for range 3 * (len(c.sent) + len(c.owes) + 1) {
			for c.pump(); len(c.owes) > 0; {
				c.answer()
			}
		}
		if len(c.sent) > 0 || c.v5 && len(c.untold) > 0 && c.last() {
			t.Fatalf("%d messages never came; not told: %v", len(c.sent), c.untold)
		}
	})
}

// last sends one more message, which tells what is left to be told.
func (c *crowd) last() bool {
	c.send(0, 0)
	c.pump()
	return len(c.untold) > 0
}

// What came after the store was found empty is known to wait all the same: it is
// dropped as the oldest when that is due, and not left out without a word.
func TestScoutBeforeCommit(t *testing.T) {
	lim := session.Limits{Inflight: 1, InflightBytes: 1000, QueueMessages: 2, QueueBytes: 1 << 20, Window: 1}
	s := session.New(&lim)
	s.Attach(session.Link{Version: mqtt.V5, ExpirySeconds: 1, Overflow: session.DropOldest})
	s.Detach(time.Time{}, new(session.Actions))
	m := session.NewMessage(&mqtt.Publish{QoS: 1}, "t", "", "", time.Time{})
	var acts session.Actions
	add := func(seq uint64) session.Delivery {
		d := session.Delivery{Message: m, Seq: seq, QoS: 1, Stored: true}
		if !s.Enqueue(d, &acts) {
			t.Fatal("not taken")
		}
		return d
	}
	first := add(1)
	after, _, _ := s.Unread()
	s.Scout(after, 0, nil) // read before 1 was committed
	second := add(2)
	if fit := s.Offer(m.Size()); fit != session.Unknown {
		t.Fatalf("offer: %d", fit)
	}
	after, _, _ = s.Unread()
	s.Scout(after, 2, []session.Delivery{first, second}[after:])
	if fit := s.Offer(m.Size()); fit != session.Fits {
		t.Fatalf("offer: %d", fit)
	}
	add(3)
	if want := []session.Change{{Kind: session.Removed, Seq: 1}, {Kind: session.Lost, ID: uint16(session.DropQueueFull), Seq: 1}}; !slices.Equal(acts.Store, want) {
		t.Errorf("store: %v, want %v", acts.Store, want)
	}
}

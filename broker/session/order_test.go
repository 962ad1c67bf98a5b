package session_test

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

func init() {
	// The library's default of 100 is too few for histories of this length; the
	// flag still decides when it is given.
	if err := flag.Set("rapid.checks", "2000"); err != nil {
		panic(err)
	}
}

// world is a session, the store behind it, and a client at the other end of a
// connection that may be cut at any time. The client is the oracle: it knows
// nothing of how the session works, and holds what it sees against what was
// published.
type world struct {
	t    *rapid.T
	lim  session.Limits
	s    *session.Session
	mem  *store.Memory
	disk []func() // commits that are not durable yet, in order
	now  time.Time
	seq  uint64
	safe uint64 // durable up to here

	down, up []mqtt.Packet // on the wire, each way
	window   uint16        // the client's Receive Maximum on this connection

	published []*sentMessage // QoS 1 and 2, in order
	c         oracle
}

type sentMessage struct {
	payload string
	qos     mqtt.QoS
	durable bool
	lost    bool // the broker crashed before it was durable, or dropped it
}

// oracle is a client, slow and by the book.
type oracle struct {
	got     []string          // payloads of QoS 1 and 2 in the order of their first copies
	done2   map[string]int    // QoS 2 payloads handed to the application, and how often
	open2   map[uint16]string // QoS 2 ids between PUBLISH and PUBREL
	pending []mqtt.Packet     // answers it has not given yet
	unacked map[uint16]bool   // PUBLISH ids of this connection not fully answered
	copies  []string          // all copies on this connection
	zero    int               // number of the last QoS 0 message seen
}

func (w *world) MayReceive(string) bool { return true }

func newWorld(t *rapid.T) *world {
	w := &world{
		t: t, mem: store.NewMemory(), now: time.Unix(0, 0),
		lim: session.Limits{
			ReceiveMaximum: 10, Inflight: rapid.IntRange(1, 6).Draw(t, "inflight"), InflightBytes: 1 << 20, TopicAliases: 2,
			QueueMessages: 1 << 20, QueueBytes: 1 << 30, QoS0Messages: 1000, QoS0Bytes: 1 << 20,
			Window: rapid.IntRange(1, 5).Draw(t, "memory"),
		},
	}
	w.c.done2, w.c.open2 = map[string]int{}, map[uint16]string{}
	w.s = session.New(&w.lim)
	w.mem.Commit(&store.Batch{Ops: []store.Op{{Kind: store.PutSession, Record: &store.Record{ClientID: "c", ExpirySeconds: 1000}}}}, nil)
	w.attach()
	return w
}

func (w *world) attach() {
	w.window = uint16(rapid.IntRange(1, 8).Draw(w.t, "receive maximum"))
	w.c.unacked, w.c.copies, w.c.pending = map[uint16]bool{}, nil, nil
	w.down, w.up = nil, nil
	w.s.Attach(session.Link{
		Version: mqtt.V5, ReceiveMaximum: w.window, ExpirySeconds: 1000,
		TopicAliasMaximum: uint16(rapid.IntRange(0, 1).Draw(w.t, "alias")),
	})
	// What a client has received of QoS 2 it may still answer by PUBREC again,
	// but only when it gets the PUBLISH again.
}

// publish queues one message, durable later for QoS above 0.
func (w *world) publish(qos mqtt.QoS) {
	w.seq++
	m := session.NewMessage(&mqtt.Publish{Payload: fmt.Append(nil, w.seq), QoS: qos}, "t", "p", "o", w.now)
	defer m.Release()
	d := session.Delivery{Message: m, Seq: w.seq, QoS: qos, Stored: qos > 0}
	w.s.Enqueue(d, new(session.Actions))
	if qos == 0 {
		return
	}
	sent := &sentMessage{payload: fmt.Sprint(w.seq), qos: qos}
	w.published = append(w.published, sent)
	b := &store.Batch{Ops: []store.Op{{
		Kind: store.Append, Seq: w.seq, Message: m.Hold(), Targets: []store.Target{{Client: "c", QoS: qos}},
	}}}
	seq := w.seq
	w.disk = append(w.disk, func() {
		w.mem.Commit(b, nil)
		w.safe, sent.durable = seq, true
	})
}

// commit stores what a step asks for; send leaves when it is durable.
func (w *world) commit(acts *session.Actions, confirm uint64) {
	list, err := decode(acts.Send, mqtt.V5)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(acts.Store) == 0 && len(list) == 0 {
		return
	}
	b := &store.Batch{}
	b.Steps("c", acts.Store)
	was := w.s
	w.disk = append(w.disk, func() {
		w.mem.Commit(b, nil)
		if was == w.s {
			w.down = append(w.down, list...)
			w.s.Confirm(confirm)
		}
	})
}

func (w *world) sync(n int) {
	for ; n > 0 && len(w.disk) > 0; n-- {
		w.disk[0]()
		w.disk = w.disk[1:]
	}
}

// pump lets the session write.
func (w *world) pump() {
	var acts session.Actions
	b, _ := w.s.Next(nil, 1+rapid.IntRange(0, 100).Draw(w.t, "limit"), w.now, w.safe, w, &acts)
	list, err := decode(b, mqtt.V5)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range list { // before, not after, what the store still holds up
		w.down = append(w.down, clonePacket(p))
	}
	var confirm uint64
	for _, c := range acts.Store {
		if c.Kind == session.Reserved {
			confirm = c.Seq
		}
	}
	w.commit(&acts, confirm)
	if after, limit, ok := w.s.Missing(); ok {
		list, _ := w.mem.Queue(nil, "c", after, limit)
		w.s.Feed(list, w.safe)
		for _, d := range list {
			d.Message.Release()
		}
	}
}

func clonePacket(p mqtt.Packet) mqtt.Packet {
	if p, ok := p.(*mqtt.Publish); ok {
		return p.Clone()
	}
	return p
}

// receive lets the client take one packet.
func (w *world) receive() {
	if len(w.down) == 0 {
		return
	}
	p := w.down[0]
	w.down = w.down[1:]
	switch p := p.(type) {
	case *mqtt.Publish:
		w.received(p)
	case *mqtt.Ack: // PUBREL
		if p.Kind != mqtt.TypePubrel {
			w.t.Fatalf("client got %v", p.Kind)
		}
		delete(w.c.open2, p.PacketID)
		w.c.pending = append(w.c.pending, &mqtt.Ack{Kind: mqtt.TypePubcomp, PacketID: p.PacketID})
	}
}

func (w *world) received(p *mqtt.Publish) {
	c, payload := &w.c, string(p.Payload)
	if p.QoS == 0 {
		var n int
		if _, err := fmt.Sscan(payload, &n); err != nil || n <= c.zero {
			w.t.Fatalf("QoS 0 message %s after %d", payload, c.zero)
		}
		c.zero = n
		return
	}
	i := slices.IndexFunc(w.published, func(m *sentMessage) bool { return m.payload == payload })
	if i < 0 || !w.published[i].durable {
		w.t.Fatalf("got %s, which is not durable", payload)
	}
	if c.unacked[p.PacketID] {
		w.t.Fatalf("packet id %d reused while in use", p.PacketID)
	}
	c.unacked[p.PacketID] = true
	if len(c.unacked) > int(w.window) {
		w.t.Fatalf("%d unacknowledged, Receive Maximum %d", len(c.unacked), w.window)
	}
	if slices.Contains(c.copies, payload) {
		w.t.Fatalf("%s twice on one connection", payload)
	}
	if n := len(c.copies); n > 0 && w.index(c.copies[n-1]) > i {
		w.t.Fatalf("%s after %s", payload, c.copies[n-1])
	}
	c.copies = append(c.copies, payload)
	first := !slices.Contains(c.got, payload)
	if first {
		if n := len(c.got); n > 0 && w.index(c.got[n-1]) > i {
			w.t.Fatalf("first copy of %s after that of %s", payload, c.got[n-1])
		}
		c.got = append(c.got, payload)
	} else if !p.Dup && p.QoS == 2 {
		w.t.Fatalf("%s again without DUP", payload)
	}
	kind := mqtt.TypePuback
	if p.QoS == 2 {
		kind = mqtt.TypePubrec
		if had, open := c.open2[p.PacketID]; !open { // [MQTT-4.3.3-10]
			c.open2[p.PacketID] = payload
			c.done2[payload]++
		} else if had != payload {
			w.t.Fatalf("id %d stands for %s, and now for %s", p.PacketID, had, payload)
		}
	}
	c.pending = append(c.pending, &mqtt.Ack{Kind: kind, PacketID: p.PacketID})
}

func (w *world) index(payload string) int {
	return slices.IndexFunc(w.published, func(m *sentMessage) bool { return m.payload == payload })
}

// answer lets the client send one of its answers, not always the oldest.
func (w *world) answer() {
	n := len(w.c.pending)
	if n == 0 {
		return
	}
	i := rapid.IntRange(0, n-1).Draw(w.t, "which answer")
	if rapid.Bool().Draw(w.t, "oldest") {
		i = 0
	}
	a := w.c.pending[i].(*mqtt.Ack)
	w.c.pending = slices.Delete(w.c.pending, i, i+1)
	if a.Kind != mqtt.TypePubrec {
		delete(w.c.unacked, a.PacketID)
	}
	w.up = append(w.up, a)
}

// hear lets the session take one packet of the client.
func (w *world) hear() {
	if len(w.up) == 0 {
		return
	}
	var acts session.Actions
	p := w.up[0]
	w.up = w.up[1:]
	w.s.Receive(p, w.now, &acts)
	if acts.Close {
		w.t.Fatalf("closed 0x%02X after %s", byte(acts.Code), show(p))
	}
	w.commit(&acts, 0)
}

// cut loses what is on the wire, both ways, and resumes.
func (w *world) cut() {
	var acts session.Actions
	w.s.Detach(w.now, &acts)
	// Answers that wait for the store are for a connection that is gone.
	w.sync(len(w.disk))
	w.attach()
}

// crash loses the broker and what is not durable.
func (w *world) crash() {
	w.disk = nil
	for _, m := range w.published {
		m.lost = m.lost || !m.durable
	}
	for s := range w.mem.Sessions() {
		w.s = session.Restore(&w.lim, s.Saved)
	}
	w.attach()
}

// TestOrder checks, over random traffic with cuts, crashes, lost and reordered
// answers: first copies come in publish order, and so do the copies of each
// connection; nothing durable is lost; QoS 2 arrives exactly once; ids and
// windows are kept; nothing comes before it is durable.
// Shows [MQTT-4.3.2-2] [MQTT-4.3.2-3] [MQTT-4.3.3-2] [MQTT-4.3.3-3] [MQTT-4.3.3-10]
// [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-4.9.0-2] [MQTT-3.3.4-9].
// Shows [B1a] [B1b] [B3a] [B4a] [B7a].
func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(map[string]func(*rapid.T){
			"publish 0": func(*rapid.T) { w.publish(0) },
			"publish 1": func(*rapid.T) { w.publish(1) },
			"publish 2": func(*rapid.T) { w.publish(2) },
			"sync":      func(t *rapid.T) { w.sync(rapid.IntRange(1, 5).Draw(t, "commits")) },
			"pump":      func(*rapid.T) { w.pump() },
			"receive":   func(*rapid.T) { w.receive() },
			"answer":    func(*rapid.T) { w.answer() },
			"hear":      func(*rapid.T) { w.hear() },
			"cut": func(t *rapid.T) {
				if rapid.IntRange(0, 3).Draw(t, "rare") == 0 {
					w.cut()
				}
			},
			"crash": func(t *rapid.T) {
				if rapid.IntRange(0, 7).Draw(t, "rarer") == 0 {
					w.crash()
				}
			},
		})
		w.finish()
	})
}

// finish lets everything flow, and checks that nothing is missing.
func (w *world) finish() {
	for range 20 * (len(w.published) + 10) {
		w.sync(len(w.disk))
		w.pump()
		w.sync(len(w.disk))
		w.receive()
		w.answer()
		w.hear()
	}
	for _, m := range w.published {
		switch n := w.c.done2[m.payload]; {
		case m.lost:
			if slices.Contains(w.c.got, m.payload) {
				w.t.Fatalf("%s was not durable and came", m.payload)
			}
		case !slices.Contains(w.c.got, m.payload):
			w.t.Fatalf("%s (QoS %d) never came", m.payload, m.qos)
		case m.qos == 2 && n != 1:
			w.t.Fatalf("%s came %d times", m.payload, n)
		}
	}
	if n, bytes := w.s.Queued(); n != 0 || bytes != 0 {
		w.t.Fatalf("%d messages, %d bytes left in the session", n, bytes)
	}
	list, _ := w.mem.Queue(nil, "c", 0, 10)
	if len(list) != 0 {
		w.t.Fatalf("%d messages left in the store", len(list))
	}
}

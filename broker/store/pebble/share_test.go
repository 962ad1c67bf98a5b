package pebblestore

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/order"
)

// TestShares has members of a share join, leave, answer slowly, be cut, come
// back and end their sessions, at random, on both stores, and in one of them the
// broker crash. An oracle that knows nothing but what members got and answered
// says whether the order per key was kept, whether a key ever was with two
// members, and whether anything was lost.
// Shows [B8c] [B8d].
func TestShares(t *testing.T) {
	seeds := 8
	if testing.Short() {
		seeds = 3
	}
	for _, how := range []broker.Share{broker.RoundRobin, broker.Sticky, broker.ByTopic, broker.ByPublisher} {
		for _, disk := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/%v", how, map[bool]string{false: "memory", true: "disk"}[disk]), func(t *testing.T) {
				for seed := range seeds {
					world := &shareWorld{t: t, how: how, rng: rand.New(rand.NewPCG(uint64(seed), uint64(how)))}
					if disk {
						world.fs = vfs.NewCrashableMem()
					}
					world.run(250)
					if t.Failed() {
						t.Fatalf("seed %d", seed)
					}
				}
			})
		}
	}
}

// shareWorld is a broker, the members of one share, and what was seen of them.
type shareWorld struct {
	t   *testing.T
	how broker.Share
	rng *rand.Rand
	fs  *vfs.MemFS // nil: in memory
	s   store.Store
	b   *broker.Broker

	members    []*shareMember
	publishers []*sharePublisher

	mu     sync.Mutex
	log    []order.Shared[string]
	got    map[string]bool   // payloads
	firm   map[string]string // payload of QoS 2: the session that it went to
	acked  map[string]mqtt.QoS
	lost   uint64 // session_ended of earlier brokers
	frozen bool   // the broker has crashed
	moved  chan struct{}
}

// shareMember is a client that answers when it is told to.
type shareMember struct {
	w          *shareWorld
	n          int
	lasting    bool
	qos        mqtt.QoS
	subscribed bool
	nc         net.Conn // nil: away
	life       int      // counts its sessions

	// guarded by shareWorld.mu
	link  int // counts its connections
	open  map[uint16]shareOpen
	turns []uint16 // ids of PUBLISHes to be answered, in order
	rels  []uint16 // ids of PUBRELs to be answered
	auto  bool     // answers at once
	heard chan mqtt.Packet
}

// shareOpen is a message that a member has not done with.
type shareOpen struct {
	key string
	qos mqtt.QoS
}

type sharePublisher struct {
	w    *shareWorld
	id   string
	peer *linePeer
	next uint16
	sent map[string]uint64 // per key
}

// linePeer writes packets and reads them one by one.
type linePeer struct {
	nc net.Conn
	in *mqtt.Reader
}

func (p *linePeer) send(list ...mqtt.Packet) error {
	var b []byte
	for _, x := range list {
		var err error
		if b, err = x.Append(b, mqtt.V5); err != nil {
			return err
		}
	}
	_, err := p.nc.Write(b)
	return err
}

func (p *linePeer) next() (mqtt.Packet, error) {
	h, body, err := p.in.Next()
	if err != nil {
		return nil, err
	}
	return mqtt.DecodePacket(h, bytes.Clone(body), mqtt.V5)
}

const sharePatience = time.Minute

func (w *shareWorld) start() {
	w.t.Helper()
	o := broker.Options{Authority: broker.AllowAnonymous(), Shares: map[string]broker.ShareRule{"g": {How: w.how}},
		Limits: broker.Limits{Takeovers: 1_000_000}}
	if w.fs != nil {
		s := mustOpen(w.t, "data", Options{fs: w.fs, Reserve: -1})
		w.s, o.Store = s, s
	}
	b, err := broker.New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.b = b
}

func (w *shareWorld) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), sharePatience)
	defer cancel()
	if err := w.b.Stop(ctx); err != nil {
		w.t.Error(err)
	}
	w.lost += w.b.Stats().Dropped[session.DropSessionEnded]
	if w.s != nil {
		if err := w.s.Close(); err != nil {
			w.t.Error(err)
		}
	}
}

func (w *shareWorld) dial(c mqtt.Connect) *linePeer {
	w.t.Helper()
	nc, err := w.b.Dial(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	p := &linePeer{nc: nc, in: mqtt.NewReader(nc, 0)}
	c.Version = mqtt.V5
	if err := p.send(&c); err != nil {
		w.t.Fatal(err)
	}
	a, err := p.next()
	if err != nil {
		w.t.Fatal(err)
	}
	if a, ok := a.(*mqtt.Connack); !ok || a.Reason != mqtt.Success {
		w.t.Fatalf("CONNACK %+v", a)
	}
	return p
}

func (w *shareWorld) run(steps int) {
	w.got, w.firm, w.acked = map[string]bool{}, map[string]string{}, map[string]mqtt.QoS{}
	w.moved = make(chan struct{}, 1)
	w.start()
	for n := range 4 {
		m := &shareMember{w: w, n: n, lasting: n < 2, qos: mqtt.QoS(1 + w.rng.IntN(2))}
		w.members = append(w.members, m)
		m.connect(true)
		m.subscribe(true)
	}
	for n := range 2 {
		p := &sharePublisher{w: w, id: fmt.Sprint("p", n), sent: map[string]uint64{}}
		p.peer = w.dial(mqtt.Connect{ClientID: p.id, SessionExpirySeconds: 3600})
		w.publishers = append(w.publishers, p)
	}
	for range steps {
		w.step()
		if w.t.Failed() {
			break
		}
	}
	w.finish()
	w.stop()
	w.judge()
}

// step does one thing. The first member is always subscribed, or the share
// would end with all it has.
func (w *shareWorld) step() {
	m := w.members[w.rng.IntN(len(w.members))]
	switch n := w.rng.IntN(100); {
	case n < 40:
		p := w.publishers[w.rng.IntN(2)]
		p.await(p.publish(1 + w.rng.IntN(6)))
	case n < 72:
		m.answer(1 + w.rng.IntN(4))
	case n < 78:
		m.answer(1000)
	case n < 86 && m.nc != nil:
		m.cut()
	case n < 94 && m.nc == nil:
		m.connect(false)
		m.subscribe(true)
	case n < 96 && m.n > 0:
		m.connect(true) // the session ends, and so does its part in the share
		m.subscribe(true)
	case n < 98 && m.n > 0 && m.nc != nil:
		m.subscribe(!m.subscribed)
	case n == 99 && w.fs != nil:
		w.crash()
	}
	if m.nc != nil {
		m.ping()
	}
}

// crash is a power cut with messages under way, and a new start.
func (w *shareWorld) crash() {
	w.t.Helper()
	batches := map[*sharePublisher][]*mqtt.Publish{}
	for _, p := range w.publishers {
		batches[p] = p.publish(1 + w.rng.IntN(5))
	}
	first := w.publishers[0]
	first.answers(batches[first][:w.rng.IntN(len(batches[first])+1)], false)
	w.mu.Lock()
	w.frozen = true
	clone := w.fs.CrashClone(vfs.CrashCloneCfg{})
	for _, m := range w.members {
		m.forget(!m.lasting)
	}
	w.mu.Unlock()
	for _, m := range w.members {
		m.nc = nil
		m.subscribed = m.subscribed && m.lasting
	}
	w.stop()
	w.frozen, w.fs = false, clone
	w.start()
	for _, p := range w.publishers {
		p.peer = w.dial(mqtt.Connect{ClientID: p.id, SessionExpirySeconds: 3600})
		p.again(batches[p])
	}
}

// publish sends n messages, each with its number in its key.
func (p *sharePublisher) publish(n int) (list []*mqtt.Publish) {
	for range n {
		topic := fmt.Sprint("k/", p.w.rng.IntN(5))
		key := p.w.keyOf(topic, p.id)
		p.sent[topic]++
		p.next = p.next%60000 + 1
		m := &mqtt.Publish{Topic: []byte(topic), QoS: mqtt.QoS(1 + p.w.rng.IntN(2)), PacketID: p.next}
		m.Payload = fmt.Appendf(nil, "%s %s %d", key, topic+p.id, p.sent[topic])
		list = append(list, m)
		if err := p.peer.send(m); err != nil {
			p.w.t.Fatal(err)
		}
	}
	return list
}

// keyOf is the key by which the share keeps order.
func (w *shareWorld) keyOf(topic, publisher string) string {
	switch w.how {
	case broker.ByTopic:
		return topic
	case broker.ByPublisher:
		return publisher
	}
	return "all"
}

// await takes the answers to all of list.
func (p *sharePublisher) await(list []*mqtt.Publish) { p.answers(list, true) }

// answers takes the first answer to each of list and, with all, the whole of
// the handshakes.
func (p *sharePublisher) answers(list []*mqtt.Publish, all bool) {
	p.w.t.Helper()
	open := map[uint16]*mqtt.Publish{}
	for _, m := range list {
		open[m.PacketID] = m
	}
	first := len(list)
	for first > 0 || all && len(open) > 0 {
		x, err := p.peer.next()
		if err != nil {
			p.w.t.Fatal(err)
		}
		a, ok := x.(*mqtt.Ack)
		if !ok || a.Reason.Failed() && a.Kind != mqtt.TypePubcomp {
			p.w.t.Fatalf("publisher got %+v", x)
		}
		m := open[a.PacketID]
		if a.Kind != mqtt.TypePubcomp {
			first--
			p.w.mu.Lock()
			p.w.acked[string(m.Payload)] = m.QoS
			p.w.mu.Unlock()
		}
		if a.Kind != mqtt.TypePubrec {
			delete(open, a.PacketID)
		} else if all {
			if err := p.peer.send(&mqtt.Ack{Kind: mqtt.TypePubrel, PacketID: a.PacketID}); err != nil {
				p.w.t.Fatal(err)
			}
		}
	}
}

// again sends what was under way once more.
func (p *sharePublisher) again(list []*mqtt.Publish) {
	var open []*mqtt.Publish
	for _, m := range list {
		if p.w.acked[string(m.Payload)] == mqtt.AtLeastOnce {
			continue
		}
		m.Dup = true
		open = append(open, m)
		if err := p.peer.send(m); err != nil {
			p.w.t.Fatal(err)
		}
	}
	p.await(open)
}

// name is a session of the member.
func (m *shareMember) name() string { return fmt.Sprintf("m%d session %d", m.n, m.life) }

// connect joins; clean ends the session first.
func (m *shareMember) connect(clean bool) {
	w := m.w
	w.t.Helper()
	c := mqtt.Connect{ClientID: fmt.Sprint("m", m.n), CleanStart: clean, ReceiveMaximum: uint16(1 + w.rng.IntN(5))}
	if m.lasting {
		c.SessionExpirySeconds = 3600
	}
	w.mu.Lock()
	if clean || !m.lasting {
		m.life++
		m.subscribed = false
	}
	m.forget(clean || !m.lasting)
	m.heard = make(chan mqtt.Packet, 1)
	heard, link := m.heard, m.link
	w.mu.Unlock()
	p := w.dial(c)
	m.nc = p.nc
	go m.read(p, heard, link)
}

// forget is what the end of a connection, or of the session, does to what the
// member has not answered. The world's mutex is held.
func (m *shareMember) forget(session bool) {
	m.link++
	if m.open == nil {
		m.open = map[uint16]shareOpen{}
	}
	for id, o := range m.open {
		if session || o.qos == mqtt.AtLeastOnce {
			delete(m.open, id)
		}
	}
	m.turns, m.rels = nil, nil
}

func (m *shareMember) cut() {
	m.w.mu.Lock()
	m.forget(!m.lasting)
	m.w.mu.Unlock()
	_ = m.nc.Close()
	m.nc = nil
	m.subscribed = m.subscribed && m.lasting
}

func (m *shareMember) write(x mqtt.Packet) {
	m.w.t.Helper()
	if err := (&linePeer{nc: m.nc}).send(x); err != nil {
		m.w.t.Fatal(err)
	}
}

// hear waits for an answer that is not about messages.
func (m *shareMember) hear() mqtt.Packet {
	m.w.t.Helper()
	select {
	case x := <-m.heard:
		return x
	case <-time.After(sharePatience):
		m.w.t.Fatalf("m%d hears nothing", m.n)
		return nil
	}
}

func (m *shareMember) ping() {
	m.write(&mqtt.Pingreq{})
	m.hear()
}

func (m *shareMember) subscribe(on bool) {
	if on == m.subscribed {
		return
	}
	if m.subscribed = on; on {
		m.write(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "$share/g/k/#", QoS: m.qos}}})
	} else {
		m.write(&mqtt.Unsubscribe{PacketID: 1, Filters: []string{"$share/g/k/#"}})
	}
	m.hear()
}

// read takes what comes on one connection.
func (m *shareMember) read(p *linePeer, heard chan mqtt.Packet, link int) {
	for {
		x, err := p.next()
		if err != nil {
			return
		}
		var answer mqtt.Packet
		switch x := x.(type) {
		case *mqtt.Publish:
			answer = m.arrived(x, link)
		case *mqtt.Ack:
			answer = m.released(x, link)
		case *mqtt.Disconnect:
		default:
			heard <- x
		}
		if answer != nil {
			if err := p.send(answer); err != nil {
				return
			}
		}
	}
}

// arrived is the oracle. It sees a message before anybody can answer it.
func (m *shareMember) arrived(p *mqtt.Publish, link int) mqtt.Packet {
	w := m.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if link != m.link || w.frozen {
		return nil
	}
	var key, stream string
	var seq uint64
	if _, err := fmt.Sscan(string(p.Payload), &key, &stream, &seq); err != nil {
		w.t.Error(err)
	}
	w.log = append(w.log, order.Shared[string]{Key: stream, Seq: seq, Member: m.n})
	w.got[string(p.Payload)] = true
	for _, o := range w.members {
		for _, x := range o.open {
			if o != m && x.key == key && w.how != broker.RoundRobin {
				w.t.Errorf("m%d gets %s while m%d has not done with %s", m.n, p.Payload, o.n, key)
			}
		}
	}
	if p.QoS == mqtt.ExactlyOnce {
		if had := w.firm[string(p.Payload)]; had != "" && (had != m.name() || !p.Dup) {
			w.t.Errorf("%s gets %s at QoS 2, which %s has had", m.name(), p.Payload, had)
		}
		w.firm[string(p.Payload)] = m.name()
	}
	m.open[p.PacketID] = shareOpen{key, p.QoS}
	select {
	case w.moved <- struct{}{}:
	default:
	}
	m.turns = append(m.turns, p.PacketID)
	if m.auto {
		return m.answerFirst()
	}
	return nil
}

func (m *shareMember) released(a *mqtt.Ack, link int) mqtt.Packet {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	if link != m.link || a.Kind != mqtt.TypePubrel {
		return nil
	}
	if m.rels = append(m.rels, a.PacketID); m.auto {
		return m.complete()
	}
	return nil
}

// answerFirst is the answer to the oldest PUBLISH. The world's mutex is held.
func (m *shareMember) answerFirst() mqtt.Packet {
	id := m.turns[0]
	m.turns = m.turns[1:]
	if m.open[id].qos == mqtt.ExactlyOnce {
		return &mqtt.Ack{Kind: mqtt.TypePubrec, PacketID: id}
	}
	delete(m.open, id)
	return &mqtt.Ack{Kind: mqtt.TypePuback, PacketID: id}
}

func (m *shareMember) complete() mqtt.Packet {
	id := m.rels[0]
	m.rels = m.rels[1:]
	delete(m.open, id)
	return &mqtt.Ack{Kind: mqtt.TypePubcomp, PacketID: id}
}

// answer answers up to n packets.
func (m *shareMember) answer(n int) {
	if m.nc == nil {
		return
	}
	for range n {
		m.w.mu.Lock()
		var x mqtt.Packet
		switch {
		case len(m.rels) > 0:
			x = m.complete()
		case len(m.turns) > 0:
			x = m.answerFirst()
		}
		m.w.mu.Unlock()
		if x == nil {
			return
		}
		m.write(x)
	}
}

// finish brings all members back, has them answer, and waits for all there is
// to come, up to a last message of each topic of each publisher.
func (w *shareWorld) finish() {
	w.t.Helper()
	if w.t.Failed() {
		return
	}
	for _, m := range w.members {
		if m.nc == nil {
			m.connect(false)
		}
		m.subscribe(true)
		w.mu.Lock()
		m.auto = true
		w.mu.Unlock()
		m.answer(1000)
	}
	for _, p := range w.publishers {
		for i := range 5 {
			topic := fmt.Sprint("k/", i)
			p.sent[topic]++
			p.next = p.next%60000 + 1
			m := &mqtt.Publish{Topic: []byte(topic), QoS: 1, PacketID: p.next}
			m.Payload = fmt.Appendf(nil, "%s %s %d", w.keyOf(topic, p.id), topic+p.id, p.sent[topic])
			if err := p.peer.send(m); err != nil {
				w.t.Fatal(err)
			}
			p.await([]*mqtt.Publish{m})
		}
	}
	end := time.After(sharePatience)
	for {
		lost, missing := w.missing()
		if len(lost) == 0 && missing <= w.lost+w.b.Stats().Dropped[session.DropSessionEnded] {
			return
		}
		select {
		case <-w.moved:
		case <-end:
			w.t.Errorf("%d messages of QoS 2 are lost, and of QoS 1 %q", missing, lost)
			return
		}
	}
}

// judge looks at the whole of it.
func (w *shareWorld) judge() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t.Failed() {
		return
	}
	if at, ok := order.KeyOrderShared(w.log); !ok && w.how != broker.RoundRobin {
		w.t.Errorf("arrival %d, %+v, is out of order", at, w.log[at])
	}
}

// missing is what was acknowledged to a publisher and came nowhere: messages of
// QoS 1, which must all come, and how many of QoS 2, which may end with a
// session, and are counted then.
func (w *shareWorld) missing() (lost []string, of2 uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for payload, qos := range w.acked {
		switch {
		case w.got[payload]:
		case qos == mqtt.AtLeastOnce:
			lost = append(lost, payload)
		default:
			of2++
		}
	}
	return lost, of2
}

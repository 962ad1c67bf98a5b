package broker

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// hub is where all messages meet. One mutex makes the order that everybody
// sees: a message gets its number, its receivers and its place in their queues
// in one critical section, so any two subscribers of two messages see them the
// same way round, and a publisher's messages stay in their order across topics.
// A turn takes the mutex once for everything that one read brought in. Nothing
// inside waits for a socket or a disk.
type hub struct {
	mu       sync.Mutex
	clients  map[string]*client
	owners   map[string]int // sessions, by the name of their identity
	index    index
	retained retained
	status   status
	seq      uint64
	waited   map[*client]*waited // who waits for clients of DialHandover to acknowledge
	most     int                 // the most work that a turn has done for a share

	// durable is the number up to which all stored messages are durable.
	durable atomic.Uint64
}

// add takes a session in.
func (h *hub) add(cl *client) {
	h.clients[cl.id] = cl
	h.owners[cl.owner]++
}

// remove takes a session out.
func (h *hub) remove(cl *client) {
	delete(h.clients, cl.id)
	if h.owners[cl.owner]--; h.owners[cl.owner] == 0 {
		delete(h.owners, cl.owner)
	}
}

// op is one thing of a turn that the hub has to do.
type op struct {
	kind        session.Request
	message     *session.Message // Route; nil when code says why not
	qos         mqtt.QoS
	id          uint16
	code        mqtt.ReasonCode
	subscribe   *mqtt.Subscribe
	unsubscribe *mqtt.Unsubscribe
}

// turn is the work that one read, or one event such as a will, brings. Turns
// are pooled: see newTurn.
type turn struct {
	b        *Broker
	from     *client // nil for the broker's own
	conn     *conn
	ops      []op
	acts     session.Actions
	batch    store.Batch
	targets  []store.Target
	offer    session.Delivery
	shed     session.Actions // of the client that offer went to
	lapsed   []lostLoan      // of those, what a share has to be told
	thinned  []*lane         // of shares that have dropped what waited in them
	work     int             // done for shares, see mostWork
	unread   *client         // of which the store has to be asked what may be dropped
	wake     []*conn         // writers to start after the turn
	stored   []queued        // deliveries that wait for the store
	retained []change        // of retained messages, that wait for the store
	handed   []delivered     // that wait for a client which keeps them itself
	acks     []byte          // PUBACKs that wait for handed, or behind what does
	drops    []Drop          // to be told after the turn
	over     []string        // sessions that ended, to be told after the turn
	joined   *conn           // accepted by this turn, to be told after it
	present  bool            // with a session that was there before
	received []uint16        // inbound QoS 2 ids answered by this turn
	held     int             // how often conn.hold was raised
	refused  bool            // the rest of the turn is not taken
	auth     *mqtt.Auth      // ends the turn; borrows the reader's buffer

	packet  mqtt.Publish
	ack     mqtt.Ack
	ping    mqtt.Pingreq
	topics  map[string]string
	publish int
	most    int  // messages that the turn may take from its connection, 0: all
	scanned int  // places looked at for retained messages
	waiting held // see turn.count
	last    uint64
}

// queued is a stored delivery, for the case that the store fails.
type queued struct {
	to   *client
	seq  uint64
	size int

	shared *entry // of a share; without to, it is in the share's queue only
	moved  bool   // its message has been in the store before
}

var turns = sync.Pool{New: func() any { return &turn{topics: make(map[string]string)} }}

func (b *Broker) newTurn(c *conn) *turn {
	t := turns.Get().(*turn)
	t.b, t.conn = b, c
	if c != nil {
		if t.from = c.client; !c.system {
			t.most = b.most
		}
	}
	return t
}

// free gives t back. Nothing of it may be used after that.
func (t *turn) free() {
	clear(t.ops)
	clear(t.wake)
	clear(t.stored)
	clear(t.handed)
	clear(t.drops)
	clear(t.targets)
	t.batch.Reset()
	t.acts.Reset()
	t.shed.Reset()
	t.retained = nil
	t.over, t.joined, t.unread, t.auth = nil, nil, nil, nil
	t.b, t.from, t.conn, t.offer = nil, nil, nil, session.Delivery{}
	t.ops, t.wake, t.stored, t.drops, t.targets = t.ops[:0], t.wake[:0], t.stored[:0], t.drops[:0], t.targets[:0]
	t.received, t.handed, t.acks = t.received[:0], t.handed[:0], t.acks[:0]
	t.waiting, t.work = held{}, 0
	t.held, t.publish, t.most, t.scanned, t.last, t.refused = 0, 0, 0, 0, 0, false
	if len(t.topics) == maxTopics {
		clear(t.topics) // others may be in use by now
	}
	turns.Put(t)
}

// A turn remembers up to maxTopics topics of up to maxTopic bytes, so that a
// repeated one costs no allocation.
const (
	maxTopics = 1024
	maxTopic  = 128
)

// topic returns b as a string.
func (t *turn) topic(b []byte) string {
	if s, ok := t.topics[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(t.topics) < maxTopics && len(s) <= maxTopic {
		t.topics[s] = s
	}
	return s
}

// run does the turn's ops for its client, unless another connection has taken
// the session over: then the client never saw an answer, and sends again there.
func (t *turn) run() {
	h := &t.b.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if !t.from.ended {
		t.taken(t.from, t.acts.Ended)
		t.returned(t.from, t.acts.Ended, t.acts.Store)
	}
	t.refused = t.cut()
	for i := range t.ops {
		o := &t.ops[i]
		for t.mine() && !t.refused && !t.do(o) {
			t.scout()
		}
		if o.message != nil {
			o.message.Release()
		}
	}
	switch {
	case t.mine():
		t.commit()
	case !t.from.ended:
		t.conn = nil // what the client acknowledged counts all the same
		t.commit()
	}
}

// cut tells whether the connection was ended before its turn came, as by abandon:
// what it says now must not overtake what it has to say again.
func (t *turn) cut() bool {
	t.from.mu.Lock()
	defer t.from.mu.Unlock()
	return t.conn.ending || t.conn.closed
}

// mine tells whether the session is still with the connection of the turn. It can
// change only while the hub's mutex is free.
func (t *turn) mine() bool { return t.from.conn == t.conn }

// aside lets others at the hub in the middle of the turn, while meanwhile runs.
// What the turn has done so far is committed before, so that the store sees
// everything in the order of its numbers.
func (t *turn) aside(meanwhile func()) {
	h := &t.b.hub
	t.commit()
	t.acts.Send, t.acts.Store = t.acts.Send[:0], t.acts.Store[:0]
	clear(t.stored)
	clear(t.targets)
	clear(t.handed)
	t.stored, t.targets, t.received, t.held = t.stored[:0], t.targets[:0], t.received[:0], 0
	t.retained = nil
	t.handed, t.acks = t.handed[:0], t.acks[:0]
	h.mu.Unlock()
	meanwhile()
	h.mu.Lock()
}

// yield lets others have their turn in the middle of a SUBSCRIBE. The hold of the
// SUBACK that is to come stays. It says false when the session was taken away
// meanwhile.
func (t *turn) yield() bool {
	t.held--
	t.aside(t.tell)
	t.held = 1
	return t.mine()
}

// do does one op. It says false when that has to be tried again after scout.
func (t *turn) do(o *op) bool {
	switch o.kind {
	case session.Route:
		if o.message != nil {
			if o.code = t.route(o.message); t.unread != nil {
				return false
			}
		}
		if o.qos > 0 {
			t.answer(o)
		}
	case session.Subscribe:
		t.subscribe(o.subscribe)
	case session.Unsubscribe:
		t.unsubscribe(o.unsubscribe)
	}
	return true
}

// answer acknowledges a PUBLISH. MQTT 3.1.1 has no word for a failure: what
// was refused for want of room is not acknowledged, and the connection closes,
// so that the client sends it again, as for who is InOrder; what was not allowed is
// acknowledged, and dropped [MQTT-3.3.5-2 v3.1.1].
func (t *turn) answer(o *op) {
	code := o.code
	if code == mqtt.QuotaExceeded && t.conn.endsRefused() {
		// Nothing after it is routed, or it would come in another order
		// when the client sends again. A QoS 2 id that is not answered is
		// forgotten with the connection.
		t.acts.Close, t.acts.Tell, t.acts.Code, t.refused = true, t.conn.info.Version == mqtt.V5, code, true
		return
	}
	if t.conn.info.Version == mqtt.V311 && code.Failed() {
		code = mqtt.Success
	}
	if o.qos == mqtt.ExactlyOnce && !code.Failed() {
		t.received = append(t.received, o.id)
	}
	t.from.mu.Lock()
	before := len(t.acts.Send)
	t.from.core.Answer(o.qos, o.id, code, &t.acts)
	if o.qos == mqtt.AtLeastOnce && (len(t.handed)+len(t.acks) > 0 || t.conn.owes()) {
		t.acks = append(t.acks, t.acts.Send[before:]...)
		t.acts.Send = t.acts.Send[:before]
	}
	t.from.mu.Unlock()
}

// route gives a message its number and puts it in the queues of all who are to
// get it. It returns the code for the publisher, and nothing is done yet when
// t.unread is set. A message without a publisher to be told goes to those who
// have room, whether it can be retained or not. The hub's mutex is held.
func (t *turn) route(m *session.Message) mqtt.ReasonCode {
	h := &t.b.hub
	h.index.match(m.Topic, m.Publisher) // [MQTT-4.5.0-1] [MQTT-3.3.2-3]
	if m.QoS > mqtt.AtMostOnce && t.conn != nil && !t.room(m) {
		return mqtt.QuotaExceeded
	}
	if m.Retain && !t.retain(m) { // [MQTT-3.3.1-8]
		if m.QoS > mqtt.AtMostOnce && t.conn != nil {
			return mqtt.QuotaExceeded
		}
		t.unretain(m.Topic) // nobody can be told: better none than one that is out of date
	}
	h.seq++
	t.last = h.seq
	d := &t.offer
	from := len(t.targets)
	for i := range h.index.hits {
		x := &h.index.hits[i]
		*d = session.Delivery{
			Message: m, Seq: h.seq, QoS: min(m.QoS, x.qos), // [MQTT-3.8.4-8]
			Retain: m.Retain && x.asIs, SubscriptionIDs: x.ids, // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
		}
		t.enqueue(x.client)
	}
	hits := len(h.index.hits)
	for _, g := range h.index.groups {
		if t.share(g, m) {
			hits++
		}
	}
	t.append(m, from)
	for _, g := range h.index.groups {
		t.lendFresh(g)
	}
	t.settleLoans()
	if hits == 0 && m.QoS > 0 && t.conn != nil && t.conn.info.Version == mqtt.V5 {
		return mqtt.NoMatchingSubscribers
	}
	return mqtt.Success
}

// enqueue puts t.offer into the client's queues.
func (t *turn) enqueue(c *client) {
	d := &t.offer
	if c.conn == nil && d.QoS == mqtt.AtMostOnce && isStatus(d.Message.Topic) {
		return // it is retained, so nothing is lost
	}
	c.mu.Lock()
	d.Stored = d.QoS > mqtt.AtMostOnce && c.core.Stored() && !d.Lent
	handed := d.Stored && t.hands(c, d.Message)
	if handed {
		d.Lent, d.Stored = true, false
	}
	ok := c.core.Enqueue(*d, &t.shed)
	t.count(c)
	if ok && !d.Stored {
		if w := c.wake(); w != nil {
			t.wake = append(t.wake, w)
		}
	}
	c.mu.Unlock()
	if len(t.shed.Drops) > 0 {
		t.lost(c)
	}
	if ok && handed {
		t.handed = append(t.handed, delivered{c, d.Seq})
	}
	if ok && d.Stored {
		t.stored = append(t.stored, queued{to: c, seq: d.Seq, size: d.Message.Size()})
		t.targets = append(t.targets, store.Target{
			Client: c.id, QoS: d.QoS, Retain: d.Retain, SubscriptionIDs: d.SubscriptionIDs,
		})
	}
}

// append stores m for the targets collected since from.
func (t *turn) append(m *session.Message, from int) {
	if len(t.targets) > from {
		// A later message may make t.targets grow, and so move; what was stored
		// keeps the memory that it points to.
		t.batch.Add(store.Op{Kind: store.Append, Seq: t.last, Message: m.Hold(), Targets: t.targets[from:len(t.targets):len(t.targets)]})
	}
}

// appendMoved is append for the delivery that was queued last, when its message
// has been in the store before, and so needs no more room there.
func (t *turn) appendMoved(m *session.Message, from int) {
	t.append(m, from)
	t.batch.Ops[len(t.batch.Ops)-1].Moved = true
	t.stored[len(t.stored)-1].moved = true
}

func (t *turn) note(r session.DropReason, client string, m *session.Message) {
	t.drops = append(t.drops, Drop{Reason: r, ClientID: client, Topic: m.Topic, QoS: m.QoS, Count: 1})
}

// retain makes m the retained message of its topic, or deletes that
// [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7]. It says false for want of room.
func (t *turn) retain(m *session.Message) bool {
	r := &t.b.hub.retained
	if len(m.Payload) == 0 {
		t.unretain(m.Topic)
		return true
	}
	if isStatus(m.Topic) {
		r.put(m, &putting{seq: t.b.hub.seq + 1})
		return true
	}
	if t.b.full() {
		t.note(session.DropStoreFull, m.Publisher, m)
		return false
	}
	if !r.room(m, &t.b.options.Limits) {
		for _, topic := range r.sweep(time.Now()) {
			t.unretain(topic)
		}
		if !r.room(m, &t.b.options.Limits) {
			t.note(session.DropRetainRefused, m.Publisher, m)
			return false
		}
	}
	t.retained = append(t.retained, r.change(m, t.b.hub.seq+1))
	t.batch.Add(store.Op{Kind: store.PutRetained, Message: m.Hold()})
	return true
}

// unretain deletes the retained message of a topic, if there is one.
func (t *turn) unretain(topic string) {
	if t.b.hub.retained.remove(topic) && !isStatus(topic) {
		t.batch.Add(store.Op{Kind: store.DeleteRetained, Topic: topic})
	}
}

// commit hands the turn to the store, and lets its answers out when that is
// done. When the turn changes anything, the hub's mutex is held, so that the
// store sees turns in their order.
func (t *turn) commit() {
	t.tellWaiting()
	if t.from != nil {
		t.batch.Steps(t.from.id, t.acts.Store)
	}
	wait := !t.batch.Empty() || len(t.stored) > 0
	owed := t.owe(wait)
	if t.conn != nil {
		t.from.mu.Lock()
		wait = wait || owed != nil || t.from.pending > 0 && len(t.acts.Send) > 0
		if wait {
			t.from.pending++
		}
		t.from.mu.Unlock()
	}
	if !wait {
		if t.conn.answer(t.acts.Send, t.held) {
			t.wake = append(t.wake, t.conn)
		}
		return
	}
	p := t.promise()
	p.debt = owed
	t.b.store.Commit(&t.batch, p.done)
	t.releaseBatch()
}

// promise is what the store's answer has to set going.
func (t *turn) promise() *promise {
	p := &promise{
		b: t.b, conn: t.conn, last: t.last, held: t.held, retained: t.retained,
		answers: slices.Clone(t.acts.Send), stored: slices.Clone(t.stored), received: slices.Clone(t.received),
	}
	for _, c := range t.acts.Store {
		if c.Kind == session.Reserved {
			p.reserved = c.Seq
		}
	}
	return p
}

// releaseBatch gives back the references that kept the batch's messages alive
// until the store had them.
func (t *turn) releaseBatch() {
	for i := range t.batch.Ops {
		if m := t.batch.Ops[i].Message; m != nil {
			m.Release()
		}
	}
	t.batch.Reset()
}

// tell writes for whom the turn has woken, and tells of its drops. The
// hub's mutex is free.
func (t *turn) tell() {
	t.write()
	for _, d := range t.drops {
		t.b.drop(d)
	}
	clear(t.wake)
	clear(t.drops)
	t.wake, t.drops = t.wake[:0], t.drops[:0]
}

// finish does what has to wait until the hub's mutex is free, and frees t.
func (t *turn) finish() {
	t.tellWaiting()
	t.tell()
	if t.from != nil {
		t.b.drops(t.from.id, t.acts.Drops)
	}
	for _, id := range t.over {
		if t.b.options.Events.SessionEnded != nil {
			t.b.options.Events.SessionEnded(id)
		}
	}
	if t.joined != nil {
		t.b.connected(t.joined, t.present)
	}
	t.free()
}

package broker

import (
	"encoding/binary"
	"slices"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// Overflow says what becomes of a message for a session whose queue is full.
type Overflow = session.Overflow

// The policies; see package session.
const (
	Refuse     = session.Refuse
	DropNewest = session.DropNewest
	DropOldest = session.DropOldest
)

// ParseOverflow reads refuse, newest or oldest; "" is Refuse.
func ParseOverflow(name string) (Overflow, error) { return session.ParseOverflow(name) }

// GapProperty is the name of the user property by which an MQTT 5 subscriber is
// told what its session has lost: "<count> <reason>", with the name of a
// session.DropReason, one property for each reason, behind those of the
// publisher. It comes with the next message that is delivered to the session
// and has room for it in the client's Maximum Packet Size. What it counts is
// each QoS 0 message that was dropped while the client was away or slow
// (offline, qos0_full), and each message of any QoS that was expired, too_large
// or denied when its turn came, that queue_full dropped, or that the broker had
// to drop because of store_full; not what was refused to its publisher.
//
// What a shared subscription has lost is told with its messages, to whoever gets them:
// of a key that has messages waiting or lent, with the next of that key, so that its
// owner is told; of any other, with the next message of the share. A message that
// goes to another member takes its note along.
//
// A message that is sent again carries the note that it had, so a receiver that
// leaves out repeats counts right. Of a session that is stored, losses of QoS 1
// and 2 are told after a restart of the broker, those of QoS 0 and of store_full
// are not; a note whose message was not acknowledged before a crash is told
// anew, with another message. MQTT 3.1.1 has no place for it: there the counters,
// the log and Events tell. A publisher can send a property of this name, which is
// forwarded like any other [MQTT-3.3.2-17]: it can fool a subscriber about why
// something is missing, not about what is.
const GapProperty = session.GapProperty

// Overflowing is what an Identity may implement besides: the policy for the
// sessions of this identity, in place of that of the listener.
type Overflowing interface {
	// Overflow is asked when the client connects. The session keeps the answer
	// until the next connection, also over a restart of the broker.
	Overflow() Overflow
}

// overflow is the policy for what c connects to.
func (c *conn) overflow() Overflow {
	if o, ok := c.identity.(Overflowing); ok {
		return o.Overflow()
	}
	for i := range c.b.options.Listeners {
		if l := &c.b.options.Listeners[i]; l.Name == c.info.Listener {
			return l.Overflow
		}
	}
	return c.queue.Overflow
}

// InOrder is what an Identity may implement besides: whether what it publishes must keep
// its order also over a refusal for want of room.
type InOrder interface {
	// InOrder is asked when there is no room. True: an MQTT 5 client is told 0x97 by
	// DISCONNECT in place of PUBACK or PUBREC, and nothing of what it sent behind the
	// message is taken. So it is for every client of MQTT 3.1.1.
	InOrder() bool
}

// endsRefused tells whether a refusal for want of room ends the connection.
func (c *conn) endsRefused() bool {
	if c.info.Version == mqtt.V311 {
		return true
	}
	i, ok := c.identity.(InOrder)
	return ok && i.InOrder()
}

// full tells whether the store has no room for messages.
func (b *Broker) full() bool {
	l, ok := b.store.(store.Limited)
	return ok && l.Full()
}

// room tells whether everybody who is to get m can take it, as far as their
// policies want that. A message that is refused goes to nobody, so that its
// publisher can simply send it again. When it must be looked up first what would
// make room, t.unread is set.
func (t *turn) room(m *session.Message) bool {
	h := &t.b.hub
	for i := range h.index.hits {
		x := &h.index.hits[i]
		if min(m.QoS, x.qos) > mqtt.AtMostOnce && !t.fits(x, m) {
			return false
		}
	}
	for _, g := range h.index.groups {
		if min(m.QoS, g.qos) == mqtt.AtMostOnce || !g.wants(m) {
			continue
		}
		if g.Overflow == Refuse && !g.room(m.Size(), &t.b.limits) {
			t.note(session.DropQueueFull, g.String(), m)
			return false
		}
		if g.stored && t.b.full() {
			t.note(session.DropStoreFull, g.String(), m)
			return false
		}
	}
	return t.unread == nil
}

// fits is room for one client.
func (t *turn) fits(x *hit, m *session.Message) bool {
	c := x.client
	c.mu.Lock()
	stored := c.core.Stored()
	size := m.Size()
	if len(x.ids) > 1 {
		size = (&session.Delivery{Message: m, SubscriptionIDs: x.ids, Stored: stored}).Size()
	}
	fit := c.core.Offer(size)
	c.mu.Unlock()
	switch {
	case fit == session.NoRoom:
		t.note(session.DropQueueFull, c.id, m)
		return false
	case stored && t.b.full():
		t.note(session.DropStoreFull, c.id, m)
		return false
	case fit == session.Unknown:
		t.unread = c
	}
	return true
}

// lost takes over what making room in c's queue has dropped.
func (t *turn) lost(c *client) {
	for _, d := range t.shed.Drops {
		t.drops = append(t.drops, Drop{Reason: d.Reason, ClientID: c.id, Topic: d.Topic, QoS: d.QoS, Count: d.Count})
	}
	t.batch.Steps(c.id, t.shed.Store)
	if len(c.lent) > 0 {
		for _, x := range t.shed.Store {
			if x.Kind == session.Removed && c.lent[x.Seq] != nil {
				t.lapsed = append(t.lapsed, lostLoan{c, x.Seq})
			}
		}
	}
	t.shed.Reset()
}

// lostLoan is a message of a share that a member's full queue has dropped.
type lostLoan struct {
	from *client
	seq  uint64
}

// settleLoans has the shares go on where members have dropped what was lent to
// them, or the shares themselves what waited.
func (t *turn) settleLoans() {
	for len(t.thinned) > 0 {
		last := len(t.thinned) - 1
		l := t.thinned[last]
		t.thinned[last] = nil
		t.thinned = t.thinned[:last]
		t.deal(l)
	}
	for len(t.lapsed) > 0 {
		x := t.lapsed[0]
		t.lapsed = t.lapsed[1:]
		t.returnOne(x.from, x.seq)
		t.refillMember(x.from)
	}
	t.lapsed = nil
}

// scout reads which messages of t.unread's stored queue are the oldest: only this
// publisher waits for that.
func (t *turn) scout() {
	c := t.unread
	t.unread = nil
	upto := t.b.hub.seq // aside commits what is left of that
	t.aside(func() { c.scout(t.b, upto) })
}

func (c *client) scout(b *Broker, upto uint64) {
	c.mu.Lock()
	after, limit, ok := c.core.Unread()
	c.mu.Unlock()
	if !ok {
		return
	}
	list, err := b.store.Queue(nil, c.id, after, limit)
	if err != nil {
		b.storeFailed(err) // with nothing to be dropped, the newest is
		list = nil
	}
	c.mu.Lock()
	c.core.Scout(after, upto, list)
	c.mu.Unlock()
	for i := range list {
		list[i].Message.Release()
	}
}

// withhold undoes what a turn wanted of a store that had no room for it: nobody
// gets its stored messages, and their publisher is told 0x97, or, in MQTT 3.1.1,
// finds its connection closed without an answer. The rest of the turn holds.
func (p *promise) withhold(err error) {
	p.b.storeFailed(err)
	p.undo(true)
	for _, q := range p.stored {
		if q.moved {
			continue
		}
		if q.to == nil {
			p.b.drop(Drop{Reason: session.DropStoreFull, ClientID: q.shared.lane.g.String(), Count: 1})
			continue
		}
		if p.conn == nil { // nobody can be told to send it again
			q.to.mu.Lock()
			q.to.core.Missed(session.DropStoreFull)
			q.to.mu.Unlock()
		}
		p.b.drop(Drop{Reason: session.DropStoreFull, ClientID: q.to.id, Count: 1})
	}
	p.stored = slices.DeleteFunc(p.stored, func(q queued) bool { return !q.moved })
	if p.conn == nil {
		return
	}
	cl := p.conn.client
	answers, refused := p.refusals(p.answers)
	p.answers = answers
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if p.debt != nil {
		acks, any := p.refusals(p.debt.acks)
		p.debt.acks, refused = acks, refused || any
	}
	for _, id := range p.received {
		cl.core.Unanswer(id)
	}
	if refused && p.conn.endsRefused() {
		p.answers = nil
		p.conn.endLocked(mqtt.QuotaExceeded, err)
	}
	if len(p.received) > 0 && cl.conn != nil && cl.conn != p.conn {
		// It may have been told that a QoS 2 message is known which now is not.
		cl.conn.endLocked(mqtt.UnspecifiedError, err)
	}
}

// refusals is what the turn says in place of b when its messages were not kept:
// 0x97 for each that it was to acknowledge. It tells whether there is one. A PUBREC that
// repeats an earlier answer stays.
func (p *promise) refusals(b []byte) (answers []byte, any bool) {
	for len(b) > 0 {
		h, n, err := mqtt.ParseHeader(b, 0)
		if err != nil || n == 0 || len(b) < n+h.Length { // it is our own encoding
			return answers, any
		}
		packet := b[:n+h.Length]
		b = b[len(packet):]
		if h.Type == mqtt.TypePuback || h.Type == mqtt.TypePubrec {
			id := binary.BigEndian.Uint16(packet[n:])
			accepted := h.Length == 2 || packet[n+2] == byte(mqtt.Success)
			if accepted && (h.Type == mqtt.TypePuback || slices.Contains(p.received, id)) {
				answers, any = mqtt.AppendAck(answers, mqtt.V5, h.Type, id, mqtt.QuotaExceeded), true
				continue
			}
		}
		answers = append(answers, packet...)
	}
	return answers, any
}

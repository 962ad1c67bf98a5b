package broker

import (
	"math"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// share queues m, which has just got its number, for the members of g, and tells
// whether there are any for it. When the turn has appended m to the store,
// lendFresh goes on.
func (t *turn) share(g *group, m *session.Message) bool {
	zero := min(m.QoS, g.qos) == mqtt.AtMostOnce
	if !g.wants(m) {
		t.unwanted(g, m)
		return false
	}
	l := g.laneOf(g.keyOf(m), false)
	if zero && (l == nil || l.head == nil && l.given == 0) {
		return t.passZero(g, l, m)
	}
	e := t.admit(g, l, m, zero)
	if e == nil {
		return true
	}
	e.lane = g.laneOf(g.keyOf(m), true)
	e.lane.push(e)
	g.fresh = e.lane
	return true
}

// passZero gives a message at QoS 0 to a member without a stay in the queue.
func (t *turn) passZero(g *group, l *lane, m *session.Message) bool {
	to := g.pick(hash(g.keyOf(m)), m)
	if to == nil {
		t.unwanted(g, m)
		return false
	}
	t.offer = session.Delivery{
		Message: m, Seq: t.b.hub.seq, QoS: mqtt.AtMostOnce,
		Retain: m.Retain && to.asIs, SubscriptionIDs: to.ids,
	}
	if g.tells(l) {
		t.tellGap(g, l, nil, to.client, false)
	}
	t.enqueue(to.client)
	return true
}

// store makes the share's queue a target of the message that is being routed.
func (t *turn) store(g *group, e *entry) {
	if !g.kept {
		g.kept = true
		t.batch.Add(store.Op{Kind: store.PutSession, Record: &store.Record{ClientID: g.id, ExpirySeconds: math.MaxUint32}})
	}
	e.seq = t.b.hub.seq
	t.targets = append(t.targets, store.Target{Client: g.id, QoS: e.m.QoS, Retain: e.m.Retain})
	t.stored = append(t.stored, queued{seq: e.seq, shared: e})
}

// lendFresh lends what share has queued.
func (t *turn) lendFresh(g *group) {
	if l := g.fresh; l != nil {
		g.fresh = nil
		t.deal(l)
	}
}

// deal lends the messages of a lane to their owners until one has to wait.
func (t *turn) deal(l *lane) {
	g := l.g
	drains, work := false, t.work
	for e := l.head; e != nil && !g.gone; e = l.head {
		if t.work-work >= mostWork {
			g.lap.cut = append(g.lap.cut, l)
			t.goOn(g)
			break
		}
		if t.gone(e) {
			continue
		}
		t.work++
		to := g.pick(l.hash, e.m)
		if l.owner = nil; to != nil {
			l.owner = to.client
		}
		if to == nil && !g.ordered() {
			l.awaitAny(e.m)
		}
		if to == nil {
			break
		}
		if drains = g.ordered() && l.given > 0 && l.holder != to.client; drains {
			break
		}
		copied := t.copies(e, to)
		// The member may have what is copied in its stored queue, and a crash takes
		// back only what is lent: neither may overtake the other.
		if drains = g.ordered() && (copied && l.loans > 0 || !copied && l.given > l.loans); drains {
			break
		}
		if !e.zero && to.client.credit() <= 0 && to.qos > mqtt.AtMostOnce {
			l.await(to.client)
			break
		}
		l.pop()
		t.lend(e, to, copied)
	}
	if l.drain(drains); l.head == nil && l.given == 0 {
		g.forget(l)
	}
}

// gone takes e, which is the head of its lane, out of it when it is not to be delivered
// any more.
func (t *turn) gone(e *entry) bool {
	failed := e.failed.Load()
	switch {
	case failed == missed:
		t.untell(e)
		t.lose(e.lane, session.DropStoreFull, false)
		fallthrough
	case failed == notKept: // its drop was told when that was found out
		e.lane.pop()
		t.end(e)
	case e.m.HasExpiry && e.m.Expired(time.Now()):
		e.lane.pop()
		t.discard(e, session.DropExpired)
	default:
		return false
	}
	return true
}

// copies tells whether e, lent to a member, is copied into its stored queue.
func (t *turn) copies(e *entry, to *holder) bool {
	if min(e.m.QoS, to.qos) < mqtt.ExactlyOnce {
		return false
	}
	to.client.mu.Lock()
	defer to.client.mu.Unlock()
	return to.client.core.Stored()
}

// lend gives e to a member.
func (t *turn) lend(e *entry, to *holder, copied bool) {
	h, cl, g := &t.b.hub, to.client, e.lane.g
	h.seq++ // a session's numbers rise
	t.last = h.seq
	d := &t.offer
	*d = session.Delivery{
		Message: e.m, Seq: h.seq, QoS: min(e.m.QoS, to.qos), // [MQTT-4.8.2-3]
		Retain: e.m.Retain && to.asIs, SubscriptionIDs: to.ids, Forced: true,
	}
	if e.gap != nil || g.tells(e.lane) {
		t.tellGap(g, e.lane, e, cl, copied)
	}
	if d.QoS == mqtt.AtMostOnce {
		t.enqueue(cl)
		t.end(e)
		return
	}
	e.lend(cl, h.seq, copied)
	if copied {
		t.copyOver(e, cl)
		return
	}
	d.Lent, d.After = true, e.seq
	if d.QoS == mqtt.ExactlyOnce && e.seq != 0 {
		// Once it may have been sent, nobody else may ever get it, and only the
		// store remembers that over a crash.
		t.mark(e, true)
		d.After = e.lent
	}
	t.enqueue(cl)
	if d.After > h.durable.Load() {
		t.stored = append(t.stored, queued{to: cl, seq: e.lent, shared: e})
	}
}

// lend notes that cl has e, as the number seq.
func (e *entry) lend(cl *client, seq uint64, copied bool) {
	e.to, e.lent, e.copied = cl, seq, copied
	e.lane.given++
	e.lane.g.stats.Lent++
	e.lane.holder = cl
	if !copied {
		e.lane.loans++
	}
	if cl.lent == nil {
		cl.lent = make(map[uint64]*entry)
	}
	cl.lent[seq] = e
}

// await puts l at the end of the lanes that wait for the client's window.
func (l *lane) await(cl *client) {
	switch {
	case l.g.ordered():
		if l.waits != cl {
			l.waits, l.claim = cl, cl.claims(l)
		}
	default:
		if x := l.g.members.of(cl); x != nil && x.due == 0 {
			x.due = cl.claims(l)
		}
	}
}

// awaitAny puts the lane of a round robin at the end of those that wait for the
// windows of the members that may have m.
func (l *lane) awaitAny(m *session.Message) {
	for i := range l.g.members.list {
		if x := &l.g.members.list[i]; x.due == 0 && x.connected(m) {
			x.due = x.client.claims(l)
		}
	}
}

// claims puts l at the end of those that wait for the client's window. Claims that are
// void are taken out when they are most of the list.
func (c *client) claims(l *lane) uint64 {
	if len(c.ready) >= c.tidy {
		c.ready = slices.DeleteFunc(c.ready, func(x claim) bool { return !x.holds(c) })
		c.tidy = 2*len(c.ready) + 64
	}
	c.claimed++
	c.ready = append(c.ready, claim{l, c.claimed})
	return c.claimed
}

// holds tells whether the lane still waits for the client's window by this claim.
func (x claim) holds(cl *client) bool {
	if x.lane.g.ordered() {
		return x.lane.waits == cl && x.lane.claim == x.number
	}
	h := x.lane.g.members.of(cl)
	return h != nil && h.due == x.number
}

// give gives up the claim, which holds.
func (x claim) give(cl *client) {
	if h := x.lane.g.members.of(cl); h != nil {
		h.due = 0
	}
	x.lane.waits = nil
}

// copyOver puts a QoS 2 message into the member's stored queue too, which has
// the handshake, and gives it the same new number in the share's.
func (t *turn) copyOver(e *entry, cl *client) {
	from := len(t.targets)
	t.enqueue(cl)
	old := e.seq
	if old != 0 {
		e.seq = e.lent
		t.targets = append(t.targets, store.Target{Client: e.lane.g.id, QoS: e.m.QoS, Retain: e.m.Retain})
	}
	t.appendMoved(e.m, from)
	if old != 0 {
		t.step(e.lane.g, session.Change{Kind: session.Removed, Seq: old})
		t.mark(e, true)
	}
}

// mark notes in the stored queue whether e is lent at QoS 2.
func (t *turn) mark(e *entry, lent bool) {
	c := session.Change{Kind: session.Reserved, Seq: e.seq}
	if e.marked = lent; lent {
		c.ID = 1
	}
	t.step(e.lane.g, c)
}

func (t *turn) step(g *group, c session.Change) {
	if !g.gone {
		t.batch.Add(store.Op{Kind: store.Step, Client: g.id, Change: c})
	}
}

// end takes e, which is in no lane and lent to nobody any more, out of its share.
func (t *turn) end(e *entry) {
	g := e.lane.g
	if e.zero {
		g.zero--
		g.zeroMem -= e.m.Size()
	} else {
		g.count--
		g.bytes -= e.m.Size()
	}
	if e.seq != 0 {
		t.step(g, session.Change{Kind: session.Removed, Seq: e.seq})
	}
	e.m.Release()
}

// done ends e, with which a member has done.
func (t *turn) done(e *entry) {
	if e.gap != nil {
		t.heard(e.lane.g, e.gap)
	}
	t.end(e)
}

// returned takes note that cl has done with messages that were lent to it, and
// lends what can follow. The changes are those of its session.
func (t *turn) returned(cl *client, ended []uint64, changes []session.Change) {
	if len(cl.lent) == 0 {
		return
	}
	for _, seq := range ended {
		t.returnOne(cl, seq)
	}
	for _, c := range changes {
		if c.Kind == session.Removed { // of a message that was copied over
			t.returnOne(cl, c.Seq)
		}
	}
	t.refillMember(cl)
}

func (t *turn) returnOne(cl *client, seq uint64) {
	if e := cl.lent[seq]; e != nil {
		l := e.unlend()
		t.done(e)
		if l.next(cl) {
			l.await(cl) // after the lanes that have waited longer
			return
		}
		t.deal(l)
	}
}

// next tells whether what waits in the lane is for the client, when it has room.
func (l *lane) next(cl *client) bool {
	switch {
	case l.head == nil:
		return false
	case !l.g.ordered():
		return l.g.members.of(cl) != nil
	}
	to := l.g.pick(l.hash, l.head.m)
	return to != nil && to.client == cl
}

// unlend takes e from its member, and returns its lane.
func (e *entry) unlend() *lane {
	delete(e.to.lent, e.lent)
	e.lane.g.stats.Lent--
	if e.lane.given--; !e.copied {
		e.lane.loans--
	}
	e.to, e.lent, e.copied, e.sent = nil, 0, false, false
	return e.lane
}

// refillMember lends from the lanes that have waited for the client's window.
func (t *turn) refillMember(cl *client) {
	for len(cl.ready) > 0 && cl.credit() > 0 {
		x := cl.ready[0]
		if cl.ready = cl.ready[1:]; len(cl.ready) == 0 {
			cl.ready = nil
		}
		if x.holds(cl) {
			x.give(cl)
			t.deal(x.lane)
		}
	}
}

// takeBack returns messages that were lent to cl, by their numbers there, to
// their lanes. It lends nothing.
func (t *turn) takeBack(cl *client, seqs []uint64) {
	for _, seq := range slices.Backward(seqs) { // each goes to the front
		if e := cl.lent[seq]; e != nil {
			l := e.unlend()
			if e.marked {
				t.mark(e, false)
			}
			l.putBack(e)
		}
	}
}

// restamp gives the messages that wait in a lane new numbers in the stored
// queue, so that they are in their order there.
func (t *turn) restamp(l *lane) {
	h := &t.b.hub
	for e := l.head; e != nil; e = e.next {
		if e.seq == 0 {
			continue
		}
		h.seq++
		t.last = h.seq
		from, old := len(t.targets), e.seq
		t.store(l.g, e)
		t.appendMoved(e.m, from)
		t.step(l.g, session.Change{Kind: session.Removed, Seq: old})
	}
}

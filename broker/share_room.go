package broker

import (
	"slices"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
)

// room tells whether the share's queue takes a message of QoS 1 or 2 of that size, in
// bytes. It has the bounds of a session's queue.
func (g *group) room(size int, l *session.Limits) bool {
	return g.count < l.QueueMessages && g.bytes+size <= l.QueueBytes
}

// roomZero is room for QoS 0, which has what the others leave of the bytes, and gives
// it back when they need it.
func (g *group) roomZero(size int, l *session.Limits) bool {
	return g.zero < l.QoS0Messages && g.zeroMem+size <= l.QoS0Bytes && g.bytes+g.zeroMem+size <= l.QueueBytes
}

// makeRoom drops what has waited longest, never what is lent, until a message of that
// size fits. It says false, and drops nothing, when that is not to be had.
func (t *turn) makeRoom(g *group, size int) bool {
	l := &t.b.limits
	if g.count-g.idle.count >= l.QueueMessages || g.bytes-g.idle.bytes+size > l.QueueBytes {
		return false
	}
	for !g.room(size, l) {
		t.expel(g.byAge.pop(), session.DropQueueFull)
	}
	return true
}

// shedZero drops QoS 0 messages, oldest first, while they and the others together have
// more bytes than the queue may.
func (t *turn) shedZero(g *group) {
	for g.zero > 0 && g.bytes+g.zeroMem > t.b.limits.QueueBytes {
		t.expel(g.zeros.pop(), session.DropQoS0Full)
	}
}

// expel drops e, which waits in its lane. What waits behind it is dealt by
// settleLoans, since the message that is being routed is not in the store yet.
func (t *turn) expel(e *entry, r session.DropReason) {
	l := e.lane
	l.cut(e)
	l.owner = nil
	t.discard(e, r)
	t.thinned = append(t.thinned, l)
}

// discard drops e, which is in no lane any more, and takes note of the loss.
func (t *turn) discard(e *entry, r session.DropReason) {
	g := e.lane.g
	t.note(r, g.String(), e.m)
	t.untell(e)
	t.lose(e.lane, r, !e.zero)
	t.end(e)
}

// admit puts m, which is being routed, into the queue, under the share's policy. It
// returns nil when it was dropped. The lane may not exist yet.
func (t *turn) admit(g *group, l *lane, m *session.Message, zero bool) *entry {
	e := &entry{m: m, order: t.b.hub.seq, zero: zero}
	size := m.Size()
	switch {
	case zero && !g.roomZero(size, &t.b.limits):
		t.miss(g, l, m, session.DropQoS0Full, false)
		return nil
	case zero:
		g.zero++
		g.zeroMem += size
	case !g.room(size, &t.b.limits) && (g.Overflow != DropOldest || !t.makeRoom(g, size)):
		t.miss(g, l, m, session.DropQueueFull, true)
		return nil
	default:
		g.count++
		g.bytes += size
		t.shedZero(g)
		if g.stored {
			t.store(g, e)
		}
	}
	m.Hold()
	return e
}

// miss takes note that the share does not get m.
func (t *turn) miss(g *group, l *lane, m *session.Message, r session.DropReason, keep bool) {
	if l == nil {
		l = &g.all
	}
	t.note(r, g.String(), m)
	t.lose(l, r, keep)
}

// unwanted takes note of m when the share has nobody who may have it now.
func (t *turn) unwanted(g *group, m *session.Message) {
	if isStatus(m.Topic) { // it is retained, so nothing is lost
		return
	}
	reason := session.DropDenied
	for i := range g.members.list {
		if g.members.list[i].client.mayReceive(m.Topic) {
			reason = session.DropOffline
			break
		}
	}
	t.miss(g, nil, m, reason, min(m.QoS, g.qos) > mqtt.AtMostOnce)
}

// ages is entries that wait in lanes, the oldest first: a heap by order, which costs
// nothing where they come in order. One that was lent meanwhile stays in it, and is
// there once when it waits again; those that are over are taken out when they are most
// of it.
type ages []*entry

// add puts e in, which waits. waiting is how many do.
func (a *ages) add(e *entry, waiting int) {
	if e.aged {
		return
	}
	if len(*a) > 2*waiting+64 {
		*a = slices.DeleteFunc(*a, func(x *entry) bool {
			x.aged = x.waits
			return !x.waits
		})
		for i := len(*a)/2 - 1; i >= 0; i-- {
			a.down(i)
		}
	}
	e.aged = true
	*a = append(*a, e)
	h := *a
	for i := len(h) - 1; i > 0 && h[i].order < h[(i-1)/2].order; i = (i - 1) / 2 {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
	}
}

// pop takes out the oldest that waits. There must be one.
func (a *ages) pop() *entry {
	for {
		h := *a
		e, last := h[0], len(h)-1
		h[0], h[last] = h[last], nil
		*a = h[:last]
		a.down(0)
		if e.aged = false; e.waits {
			return e
		}
	}
}

// down moves the entry at i to where no younger one is above it.
func (a ages) down(i int) {
	for child := 2*i + 1; child < len(a); child = 2*i + 1 {
		if child+1 < len(a) && a[child+1].order < a[child].order {
			child++
		}
		if a[i].order <= a[child].order {
			return
		}
		a[i], a[child] = a[child], a[i]
		i = child
	}
}

package broker

import (
	"cmp"
	"errors"
	"slices"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
)

// A client of DialHandover keeps its messages itself. Those of QoS 1 that come
// while it is connected are lent to its session and not stored for it, and the
// PUBACK of each waits until the session says that the client has done with it:
//
//	publisher ─▶ turn ─▶ route: lent ─────────▶ client, which makes it durable
//	                │      └ waited (seq, debt)          │ PUBACK
//	                └▶ debt: PUBACKs ◀────── taken ◀─────┘
//	                      │ and the store is done, and those before it have left
//	publisher ◀───────────┘
//
// A debt is what one turn owes. Those of a connection are paid in their order
// [MQTT-4.6.0-2]; what has no order among PUBACKs, such as SUBACK or PINGRESP,
// goes past them. QoS 2 is no part of it: that its identifier is known must become
// durable together with the message, or a repeat after a crash would be taken for
// one that everybody has had.

// delivered is a message lent to a client that keeps it itself.
type delivered struct {
	to  *client
	seq uint64
}

// debt is the PUBACKs of one turn. Guarded by the mutex of the client of conn.
type debt struct {
	conn   *conn
	acks   []byte
	few    [8]byte // what acks is in when the turn had one message
	weight int     // messages, at least 1
	left   int     // of those, not taken yet
	stored bool    // the store is done with the turn
	next   *debt
}

// debts are those of one connection, in order.
type debts struct {
	first, last *debt
	weight      int
}

// waited is who waits for one client: list[from:] in the order of seq, the first
// of them not taken. Guarded by the hub's mutex.
type waited struct {
	list []wait
	from int
}

type wait struct {
	seq  uint64
	debt *debt // nil: taken
}

// hands tells whether m is lent to c in place of being stored for it. c.mu is
// held. Wills and the client's own messages have nobody to wait.
func (t *turn) hands(c *client, m *session.Message) bool {
	return t.conn != nil && t.from != c && m.QoS == mqtt.AtLeastOnce && c.core.Takes()
}

// owe makes a debt of the turn's PUBACKs when somebody has to take its messages
// first, or owes the connection's publisher earlier ones. It returns the debt if
// that waits for the store besides. The hub's mutex is held.
func (t *turn) owe(store bool) *debt {
	if len(t.handed) == 0 && len(t.acks) == 0 {
		return nil
	}
	h, c := &t.b.hub, t.conn
	d := &debt{conn: c, weight: max(1, len(t.handed)), left: len(t.handed)}
	d.acks = append(d.few[:0], t.acks...)
	for _, x := range t.handed {
		w := h.waited[x.to]
		if w == nil {
			w = new(waited)
			h.waited[x.to] = w
		}
		w.add(wait{x.seq, d})
	}
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	d.stored = !store && c.client.pending == 0
	if c.debts == nil {
		c.debts = new(debts)
	}
	c.debts.add(d)
	if d.stored {
		if c.payLocked() { // nothing of it waits, and nothing before it any more
			t.wake = append(t.wake, c)
		}
		return nil
	}
	return d
}

func (l *debts) add(d *debt) {
	if l.first == nil {
		l.first = d
	} else {
		l.last.next = d
	}
	l.last = d
	l.weight += d.weight
}

// stored notes that the store is done with d, and tells whether the caller has to
// start the writer.
func (c *conn) stored(d *debt) bool {
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	d.stored = true
	return c.payLocked()
}

// payLocked lets out the PUBACKs that nothing keeps any more. It tells whether the
// caller has to start the writer. client.mu is held.
func (c *conn) payLocked() (start bool) {
	l := c.debts
	for d := l.first; d != nil && d.left == 0 && d.stored; d = l.first {
		l.first = d.next
		l.weight -= d.weight
		if !c.ending && !c.closed { // nothing comes after DISCONNECT [MQTT-3.14.4-1]
			start = c.sayLocked(d.acks) || start
		}
		c.room.Broadcast()
	}
	return start
}

// owes tells whether PUBACKs wait that others must not pass. client.mu is held.
func (c *conn) owes() bool { return c.debts != nil && c.debts.first != nil }

// indebted tells whether so much waits to be taken that the connection is not read
// from. An MQTT 5 client that keeps to our Receive Maximum never gets there.
func (c *conn) indebted() bool {
	return c.debts != nil && c.debts.weight > int(c.b.options.Limits.ReceiveMaximum)
}

// taken takes note that cl has done with messages, by their numbers, and lets out
// the PUBACKs that waited for that. The hub's mutex is held.
func (t *turn) taken(cl *client, ended []uint64) {
	if len(ended) == 0 {
		return
	}
	w := t.b.hub.waited[cl]
	if w == nil {
		return
	}
	for _, seq := range ended {
		d := w.take(seq)
		if d == nil {
			continue
		}
		d.conn.client.mu.Lock()
		if d.left--; d.conn.payLocked() {
			t.wake = append(t.wake, d.conn)
		}
		d.conn.client.mu.Unlock()
	}
}

// take removes seq, and returns whose it was, nil when it is not there.
func (w *waited) take(seq uint64) *debt {
	i, ok := w.find(seq)
	if !ok {
		return nil
	}
	d := w.list[i].debt
	w.list[i].debt = nil
	for w.from < len(w.list) && w.list[w.from].debt == nil {
		w.from++
	}
	switch {
	case w.from < len(w.list):
	case cap(w.list) > roomy:
		*w = waited{}
	default:
		w.list, w.from = w.list[:0], 0
	}
	return d
}

// roomy is how many places waited keeps for what comes next.
const roomy = 4096

// add appends x, and moves all to the front when half of the places are free.
func (w *waited) add(x wait) {
	if len(w.list) == cap(w.list) && w.from > len(w.list)/2 {
		n := copy(w.list, w.list[w.from:])
		clear(w.list[n:])
		w.list, w.from = w.list[:n], 0
	}
	w.list = append(w.list, x)
}

// find is the place of seq, which may have been taken.
func (w *waited) find(seq uint64) (int, bool) {
	if w.from < len(w.list) && w.list[w.from].seq == seq {
		return w.from, true // a client acknowledges in order
	}
	i, ok := slices.BinarySearchFunc(w.list[w.from:], seq, func(x wait, seq uint64) int { return cmp.Compare(x.seq, seq) })
	return w.from + i, ok
}

// errNotTaken is why the connection of a publisher ends.
var errNotTaken = errors.New("who was to take its message has gone")

// abandon is called before cl loses its connection. What it has not acknowledged
// was promised to nobody: who waits is cut off, and sends again.
func (t *turn) abandon(cl *client) {
	w := t.b.hub.waited[cl]
	if w == nil {
		return
	}
	delete(t.b.hub.waited, cl)
	cl.mu.Lock()
	cl.core.Recall(nil, true, func(seq uint64) bool {
		i, ok := w.find(seq)
		return ok && w.list[i].debt != nil
	})
	t.count(cl)
	cl.mu.Unlock()
	for _, x := range w.list[w.from:] {
		if x.debt != nil {
			x.debt.conn.end(mqtt.ServerBusy, errNotTaken)
		}
	}
}

package broker

import (
	"net"
	"slices"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
)

// outBuffer is how much is written at once, in bytes. A client that does not
// read pins one such buffer.
const outBuffer = 16 << 10

// outSlack is room for the frame that crosses the mark.
const outSlack = 8 << 10

// outbox is what a writer works with: the bytes to be written next, and behind
// them a payload that was too large to be copied.
type outbox struct {
	mem     [outBuffer + outSlack]byte
	out     []byte // part of mem
	big     *session.Message
	acts    session.Actions
	attempt func(fd uintptr) bool // o.write, made once
}

var outboxes = sync.Pool{New: func() any {
	o := new(outbox)
	o.attempt = o.write
	return o
}}

// pending tells whether there is something that has not been written.
func (o *outbox) pending() bool { return len(o.out) > 0 || o.big != nil }

// startWriter starts the writer of a connection for which writing was just
// set. The caller's own goroutine is counted by the broker, so the count cannot
// be zero.
func (c *conn) startWriter() { c.startWith(outboxes.Get().(*outbox)) }

func (c *conn) startWith(o *outbox) {
	if !c.b.begin() {
		// The broker has stopped: all connections are closed.
		o.drop()
		return
	}
	go c.write(o)
}

// write writes o, and then until there is nothing left to be written.
func (c *conn) write(o *outbox) {
	defer c.b.running.Done()
	for o.pending() || c.next(o) {
		if err := c.send(o); err != nil {
			c.fail(err)
			break
		}
		c.refill()
	}
	o.drop()
}

// drop lets go of o.
func (o *outbox) drop() {
	if o.out = nil; o.big != nil {
		o.big.Release()
		o.big = nil
	}
	outboxes.Put(o)
}

// write writes for the connections that the turn has woken. Where little comes,
// it does so itself, as far as nobody has to be waited for: a goroutine would
// cost a message more time than all the rest of its way.
func (t *turn) write() {
	const few = 2 // the receiver and the publisher
	brief := t.conn != nil && t.conn.in.pooled == nil && len(t.wake) <= few
	for _, c := range t.wake {
		if brief && c.raw != nil {
			c.writeBriefly()
		} else {
			c.startWriter()
		}
	}
}

// writeBriefly is a writer that never waits, neither for the client nor for the
// store: what is left goes to one that may.
func (c *conn) writeBriefly() {
	o := outboxes.Get().(*outbox)
	for range 2 { // the second time there is nothing, as a rule
		if !c.next(o) {
			o.drop()
			return
		}
		c.try(o)
		if o.pending() {
			break
		}
	}
	c.startWith(o)
}

// next fills o with what is to be written next. It says false when there is
// nothing; then the writer is over.
func (c *conn) next(o *outbox) bool {
	o.acts.Reset()
	if !c.collect(o) {
		return false
	}
	acts := &o.acts
	c.b.drops(c.client.id, acts.Drops)
	c.b.count.publishOut.Add(uint64(acts.Published))
	c.b.count.packetsOut.Add(uint64(acts.Published))
	if len(acts.Store) > 0 {
		c.keep(acts)
	}
	if len(acts.Store)+len(acts.Ended) > 0 {
		c.returned(acts)
	}
	return true
}

func (c *conn) collect(o *outbox) bool {
	cl := c.client
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if c.closed {
		c.writing = false
		return false
	}
	out := o.mem[:0]
	if len(c.ctl) > 0 {
		out = append(out, c.ctl...)
		c.b.count.packetsOut.Add(packets(out))
		if c.ctl = c.ctl[:0]; cap(c.ctl) > 1<<10 {
			c.ctl = nil
		}
		c.room.Broadcast()
	}
	open := cl.conn == c && c.hold == 0 && !c.ending
	if open {
		out, o.big = cl.core.Next(out, outBuffer, time.Now(), c.b.hub.durable.Load(), c.identity, &o.acts)
		c.b.count.waiting.add(cl.change())
	}
	o.out = out
	_, _, fetch := cl.core.Missing()
	fetch = fetch && open && !c.starved
	if !o.pending() && len(o.acts.Store) == 0 && len(o.acts.Drops) == 0 && len(o.acts.Ended) == 0 && !fetch {
		c.writing = false
		c.starved = false
		if c.ending {
			c.closeLocked()
		}
		c.room.Broadcast()
		return false
	}
	return true
}

// packets counts the packets in b, which are whole.
func packets(b []byte) (n uint64) {
	for len(b) > 0 {
		h, head, err := mqtt.ParseHeader(b, 0)
		if err != nil || head == 0 || len(b) < head+h.Length {
			return n
		}
		b = b[head+h.Length:]
		n++
	}
	return n
}

// keep hands what the session wants stored to the store, unless it has ended: another
// may have its name by now. Removals need nobody to wait; reserved packet ids do, and
// then the writer is started again.
func (c *conn) keep(acts *session.Actions) {
	t := c.b.newTurn(c)
	defer t.free()
	t.batch.Steps(c.client.id, acts.Store)
	done := c.b.stored
	for _, s := range acts.Store {
		if s.Kind == session.Reserved {
			t.acts.Store = append(t.acts.Store, s)
		}
	}
	c.b.hub.mu.Lock()
	defer c.b.hub.mu.Unlock()
	if c.client.ended {
		return
	}
	if len(t.acts.Store) > 0 {
		c.client.mu.Lock()
		c.client.pending++
		c.client.mu.Unlock()
		done = t.promise().done
	}
	c.b.store.Commit(&t.batch, done)
}

// returned tells the shares of messages that will not be sent.
func (c *conn) returned(acts *session.Actions) {
	removed := slices.ContainsFunc(acts.Store, func(s session.Change) bool { return s.Kind == session.Removed })
	if !removed && len(acts.Ended) == 0 {
		return
	}
	t := c.b.newTurn(nil)
	c.b.hub.mu.Lock()
	if !c.client.ended {
		t.taken(c.client, acts.Ended)
		t.returned(c.client, acts.Ended, acts.Store)
	}
	t.commit()
	c.b.hub.mu.Unlock()
	t.finish()
}

// send writes o: what the socket takes at once, and the rest as the client takes
// it.
func (c *conn) send(o *outbox) error {
	c.try(o)
	if !o.pending() {
		return nil
	}
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.b.options.Limits.WriteStall)); err != nil {
		return err
	}
	n := len(o.out)
	var err error
	if o.big == nil {
		_, err = c.nc.Write(o.out)
	} else {
		both := net.Buffers{o.out, o.big.Payload} // in one go where the transport can
		n += len(o.big.Payload)
		_, err = both.WriteTo(c.nc)
		o.big.Release()
	}
	o.out, o.big = nil, nil
	c.b.count.bytesOut.Add(uint64(n))
	if err == nil && c.raw != nil { // which would see a deadline that has passed
		err = c.nc.SetWriteDeadline(time.Time{})
	}
	return err
}

// try writes what the socket takes at once. An error comes again with the rest.
func (c *conn) try(o *outbox) {
	n := len(o.out)
	if c.raw != nil && o.big == nil && n > 0 {
		_ = c.raw.Write(o.attempt)
		c.b.count.bytesOut.Add(uint64(n - len(o.out)))
	}
}

// fail ends a connection that cannot be written to.
func (c *conn) fail(err error) {
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	if !c.ending && !c.closed {
		c.code, c.err = mqtt.UnspecifiedError, err
	}
	c.writing = false
	c.closeLocked()
}

// refill reads the stored queue when the session has used up what it had of it.
func (c *conn) refill() {
	cl := c.client
	cl.mu.Lock()
	after, limit, ok := cl.core.Missing()
	ok = ok && cl.conn == c && c.hold == 0
	durable, wakes := c.b.hub.durable.Load(), c.wakes
	cl.mu.Unlock()
	if !ok {
		return
	}
	list, err := c.b.store.Queue(nil, cl.id, after, limit)
	if err != nil {
		c.b.storeFailed(err)
		c.end(mqtt.UnspecifiedError, err)
		return
	}
	cl.mu.Lock()
	c.starved = cl.conn != c || !cl.core.Feed(list, durable) && c.wakes == wakes
	cl.mu.Unlock()
	for i := range list {
		list[i].Message.Release()
	}
}

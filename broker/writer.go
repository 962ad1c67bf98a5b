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

var outBuffers = sync.Pool{New: func() any { return new([outBuffer + outSlack]byte) }}

// startWriter starts the writer of a connection for which writing was just
// set. The caller's own goroutine is counted by the broker, so the count cannot
// be zero.
func (c *conn) startWriter() {
	if !c.b.begin() {
		// The broker has stopped: all connections are closed.
		return
	}
	go c.write()
}

// write writes until there is nothing left to be written.
func (c *conn) write() {
	defer c.b.running.Done()
	mem := outBuffers.Get().(*[outBuffer + outSlack]byte)
	defer outBuffers.Put(mem)
	var acts session.Actions
	for {
		acts.Reset()
		out, big, more := c.collect(mem[:0], &acts)
		if !more {
			return
		}
		c.b.drops(c.client.id, acts.Drops)
		c.b.count.publishOut.Add(uint64(acts.Published))
		c.b.count.packetsOut.Add(uint64(acts.Published))
		if len(acts.Store) > 0 {
			c.keep(&acts)
		}
		if len(acts.Store)+len(acts.Ended) > 0 {
			c.returned(&acts)
		}
		err := c.send(out, big)
		if big != nil {
			big.Release()
		}
		if err != nil {
			c.fail(err)
			return
		}
		c.refill()
	}
}

// collect gathers what is to be written next. It says false when that is
// nothing; then the writer is over.
func (c *conn) collect(out []byte, acts *session.Actions) (_ []byte, big *session.Message, more bool) {
	cl := c.client
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if c.closed {
		c.writing = false
		return nil, nil, false
	}
	if len(c.ctl) > 0 {
		out = append(out, c.ctl...)
		c.b.count.packetsOut.Add(packets(out))
		if c.ctl = c.ctl[:0]; cap(c.ctl) > 1<<10 {
			c.ctl = nil
		}
		c.room.Broadcast()
	}
	if cl.conn == c && c.hold == 0 && !c.ending {
		out, big = cl.core.Next(out, outBuffer, time.Now(), c.b.hub.durable.Load(), c.identity, acts)
	}
	_, _, fetch := cl.core.Missing()
	fetch = fetch && cl.conn == c && !c.starved
	if len(out) == 0 && big == nil && len(acts.Store) == 0 && len(acts.Drops) == 0 && len(acts.Ended) == 0 && !fetch {
		c.writing = false
		c.starved = false
		if c.ending {
			c.closeLocked()
		}
		c.room.Broadcast()
		return nil, nil, false
	}
	return out, big, true
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

// keep hands what the session wants stored to the store. Removals need nobody
// to wait; reserved packet ids do, and then the writer is started again.
func (c *conn) keep(acts *session.Actions) {
	t := c.b.newTurn(c)
	t.batch.Steps(c.client.id, acts.Store)
	done := c.b.stored
	for _, s := range acts.Store {
		if s.Kind == session.Reserved {
			t.acts.Store = append(t.acts.Store, s)
		}
	}
	if len(t.acts.Store) > 0 {
		c.client.mu.Lock()
		c.client.pending++
		c.client.mu.Unlock()
		done = t.promise().done
	}
	c.b.store.Commit(&t.batch, done)
	t.free()
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
		t.returned(c.client, acts.Ended, acts.Store)
	}
	t.commit()
	c.b.hub.mu.Unlock()
	t.finish()
}

// send writes out, and then the payload of big, in one go where the transport
// can.
func (c *conn) send(out []byte, big *session.Message) error {
	if len(out) == 0 && big == nil {
		return nil
	}
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.b.options.Limits.WriteStall)); err != nil {
		return err
	}
	n := int64(len(out))
	var err error
	if big == nil {
		_, err = c.nc.Write(out)
	} else {
		both := net.Buffers{out, big.Payload}
		n += int64(len(big.Payload))
		_, err = both.WriteTo(c.nc)
	}
	c.b.count.bytesOut.Add(uint64(n))
	return err
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

package client

import (
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client/internal/flow"
	"github.com/wilco-iot/wilco/mqtt/client/internal/ring"
)

// deliverLoop is the goroutine that calls OnMessage.
func (c *Client) deliverLoop() {
	handle := c.opts.OnMessage
	if handle == nil {
		handle = (*Delivery).Ack
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for !c.stopped && (c.inbox.Len() == 0 || c.paused) {
			c.arrived.Wait()
		}
		if c.stopped {
			return
		}
		d := c.inbox.Pop()
		c.inboxBytes -= len(d.Payload)
		if d.QoS == mqtt.AtMostOnce {
			c.inboxZeros--
		}
		if c.link != nil && c.link.readerWaits {
			c.drained.Broadcast()
		}
		c.mu.Unlock()
		handle(d)
		c.mu.Lock()
	}
}

// ack passes an acknowledgement of the application to the core.
func (c *Client) ack(t flow.Ticket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.live()
	if l == nil {
		c.rcv.Ack(nil, t) // nothing leaves, but a QoS 2 message is known to be done
		return
	}
	l.out = c.rcv.Ack(l.out, t)
	if len(l.out) > 0 {
		l.ready.Signal()
	}
}

// dropInbox forgets the messages that OnMessage has not seen and that the
// server, which kept the session, sends again. Had they stayed, they would be
// seen twice, and in the order 1 2 3 2 3 4 rather than 1 2 2 3 4. mu is held.
func (c *Client) dropInbox() {
	var rest ring.Queue[*Delivery]
	for c.inbox.Len() > 0 {
		d := c.inbox.Pop()
		if d.QoS == mqtt.AtMostOnce {
			rest.Push(d)
			continue
		}
		c.inboxBytes -= len(d.Payload)
		c.rcv.Forget(d.ticket)
	}
	c.inbox = rest
}

// resultLoop is the goroutine that calls the functions given to PublishAsync.
func (c *Client) resultLoop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for !c.stopped && c.finished.Len() == 0 {
			c.results.Wait()
		}
		if c.finished.Len() == 0 {
			return
		}
		f := c.finished.Pop()
		if c.room != nil {
			c.madeRoom()
		}
		c.mu.Unlock()
		f.done(f.result)
		c.mu.Lock()
	}
}

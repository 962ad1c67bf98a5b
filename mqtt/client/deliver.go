package client

import (
	"github.com/wilco-iot/wilco/mqtt"
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
		for !c.stopped && !c.deliverable() {
			c.arrived.Wait()
		}
		if c.stopped {
			return
		}
		d := c.fromInbox()
		if d.QoS > mqtt.AtMostOnce && d.epoch == c.epoch {
			c.unacked++
		}
		if c.link != nil && c.link.readerWaits {
			c.drained.Broadcast()
		}
		c.mu.Unlock()
		handle(d)
		c.mu.Lock()
	}
}

// deliverable reports whether the next message may be shown to OnMessage. Not
// more than our Receive Maximum are shown without an Ack, also if the server
// sends more: MQTT 3.1.1 knows no limit, and Mosquitto 2.0 forgets that of
// MQTT 5 when it resumes a session. mu is held.
func (c *Client) deliverable() bool {
	if c.inbox.Len() == 0 || c.paused {
		return false
	}
	d := *c.inbox.At(c.inbox.First())
	return d.QoS == mqtt.AtMostOnce || c.unacked < int(c.opts.ReceiveMaximum)
}

// toInbox puts a message where OnMessage finds it. mu is held.
func (c *Client) toInbox(d *Delivery) {
	d.epoch = c.epoch
	if d.QoS == mqtt.AtMostOnce {
		c.inboxZeros++
	}
	c.inboxBytes += d.size()
	c.inbox.Push(d)
	c.arrived.Signal()
}

func (c *Client) fromInbox() *Delivery {
	d := c.inbox.Pop()
	c.inboxBytes -= d.size()
	if d.QoS == mqtt.AtMostOnce {
		c.inboxZeros--
	}
	return d
}

// ack passes an acknowledgement of the application to the core.
func (c *Client) ack(d *Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.acked {
		return
	}
	d.acked = true
	if d.epoch == c.epoch {
		if c.unacked == int(c.opts.ReceiveMaximum) {
			c.arrived.Signal()
		}
		c.unacked--
	}
	l := c.live()
	if l == nil {
		c.rcv.Ack(nil, d.ticket) // nothing leaves, but a QoS 2 message is known to be done
		return
	}
	l.out = c.rcv.Ack(l.out, d.ticket)
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
		if d := c.fromInbox(); d.QoS == mqtt.AtMostOnce {
			rest.Push(d)
		} else {
			c.rcv.Forget(d.ticket)
		}
	}
	for rest.Len() > 0 {
		c.toInbox(rest.Pop())
	}
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
		c.madeRoom()
		c.mu.Unlock()
		f.done(f.result)
		c.mu.Lock()
	}
}

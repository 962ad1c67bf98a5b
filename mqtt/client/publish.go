package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// PublishAsync takes a message and returns at once. Messages leave in the order
// of the calls. done, which may be nil, is called exactly once if the error is
// nil, and never else; the calls of done come one after the other, in the order
// of the calls to PublishAsync, from a goroutine of the client that waits for
// nothing else: a slow done delays later ones, and counts as queued, but not
// the connection.
//
// With QoS 1 and 2 the result is the server's, and the message survives the
// loss of the connection and, with a Store, of the process; while there is no
// connection it waits. With QoS 0 the result is that it was written; while not
// connected it is refused with ErrDown, as is one that was queued but not
// written when the connection ended.
//
// The slices in m must not be changed before the result. Errors: ErrFull,
// ErrStopped, ErrDown, an *mqtt.Error for a topic that is not valid, and that
// of a Store.
func (c *Client) PublishAsync(m Message, done func(Result)) error {
	return c.enqueue(&m, call{done: done})
}

// Publish sends a message and waits for its result: nil when the server has
// accepted it (QoS 1 and 2) or it was written (QoS 0), a *ReasonError when the
// server refused it, else as PublishAsync, except that it waits while the queue
// is full. When ctx ends first, its error is returned; a message that was
// already queued is still sent.
func (c *Client) Publish(ctx context.Context, m Message) error {
	wait, ok := c.waiters.Get().(chan Result)
	if !ok {
		wait = make(chan Result, 1)
	}
	for {
		err := c.enqueue(&m, call{wait: wait})
		if err == nil {
			break
		}
		if errors.Is(err, ErrFull) {
			err = c.awaitRoom(ctx, &m)
		}
		if err != nil {
			c.waiters.Put(wait)
			return err
		}
	}
	select {
	case r := <-wait:
		c.waiters.Put(wait)
		return r.Err
	case <-ctx.Done():
		return ctx.Err() // the channel is left to who will send into it
	}
}

func (c *Client) enqueue(m *Message, who call) error {
	if err := mqtt.ValidTopic(m.Topic); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if m.QoS > mqtt.ExactlyOnce {
		return fmt.Errorf("publish: QoS %d does not exist", m.QoS)
	}
	var now time.Time
	if m.Expiry > 0 {
		now = time.Now()
	}
	msg := m.outgoing(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.stopping:
		return ErrStopped
	case m.QoS == mqtt.AtMostOnce && c.live() == nil:
		return ErrDown
	case c.full(msg.Size()):
		return ErrFull
	}
	if c.opts.Store != nil && m.QoS > mqtt.AtMostOnce {
		r := Record{Seq: c.snd.NextSeq(), Message: *m, Expires: msg.Expires}
		if err := c.opts.Store.Add(r); err != nil {
			return fmt.Errorf("publish: store: %w", err)
		}
		c.unsynced = true
	}
	c.snd.Push(msg)
	c.calls.Push(who)
	c.step()
	return nil
}

// full counts the results that are not told yet, too, or a slow done would let
// them grow without bound. mu is held.
func (c *Client) full(size int) bool {
	return c.snd.Len()+c.finished.Len() >= c.opts.MaxQueued || c.snd.Full(size)
}

// awaitRoom blocks while the queue has no room for m.
func (c *Client) awaitRoom(ctx context.Context, m *Message) error {
	msg := m.outgoing(time.Time{})
	for {
		c.mu.Lock()
		if c.stopping || !c.full(msg.Size()) {
			c.mu.Unlock()
			return nil // the next attempt says more
		}
		if c.room == nil {
			c.room = make(chan struct{})
		}
		room := c.room
		c.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// madeRoom wakes who waits for a place in the queue. mu is held.
func (c *Client) madeRoom() {
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
}

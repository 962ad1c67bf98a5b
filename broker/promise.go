package broker

import (
	"errors"
	"slices"

	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// promise is what a turn owes once the store has it: its answers, and the
// messages it queued.
type promise struct {
	b        *Broker
	conn     *conn // nil for the broker's own turns
	answers  []byte
	held     int
	last     uint64
	stored   []queued
	received []uint16 // inbound QoS 2 ids
	retained []change
	reserved uint64 // highest message that a packet id was reserved for
	debt     *debt  // PUBACKs that wait for more than the store, or nil
}

// done is called by the store, in the order of the commits.
func (p *promise) done(err error) {
	switch {
	case errors.Is(err, store.ErrFull):
		p.withhold(err)
	case err != nil:
		p.fail(err)
		return
	default:
		p.release()
	}
	if p.conn != nil {
		cl := p.conn.client
		cl.mu.Lock()
		cl.pending--
		if p.conn.room.Broadcast(); cl.conn != nil {
			cl.conn.room.Broadcast() // it may be another by now
		}
		if p.reserved > 0 {
			cl.core.Confirm(p.reserved)
		}
		w := cl.wake()
		cl.mu.Unlock()
		if w != nil {
			w.startWriter()
		}
		if p.conn.answer(p.answers, p.held) {
			p.conn.startWriter()
		}
		if p.debt != nil && p.conn.stored(p.debt) {
			p.conn.startWriter()
		}
	}
	p.settled()
	for _, q := range p.stored {
		if q.to != nil {
			q.to.rouse()
		}
	}
}

// release lets go of the retained messages that were replaced.
func (p *promise) release() {
	for _, c := range p.retained {
		if c.old != nil {
			c.old.Release()
		}
	}
}

// settled notes that up to p.last nothing is undecided any more: it is durable, or
// nobody's. What was only undone counts too, or a session would wait for it.
func (p *promise) settled() {
	if d := &p.b.hub.durable; p.last > d.Load() { // what took long was let in aside
		d.Store(p.last)
	}
}

// answer lets answers out, and lifts the holds that waited for them. It tells
// whether the caller has to start the writer. c may be nil, for the broker's own
// turns.
func (c *conn) answer(answers []byte, held int) bool {
	if c == nil || len(answers) == 0 && held == 0 {
		return false
	}
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	c.hold -= held
	if c.ending || c.closed { // nothing comes after DISCONNECT [MQTT-3.14.4-1]
		return false
	}
	return c.sayLocked(answers)
}

// sayLocked appends to what the connection answers. It tells whether the caller
// has to start the writer. client.mu is held.
func (c *conn) sayLocked(answers []byte) bool {
	c.ctl = append(c.ctl, answers...)
	start := !c.writing
	c.writing = true
	return start
}

// fail undoes a turn that the store could not keep: nobody gets its messages,
// and its answers never leave.
func (p *promise) fail(err error) {
	p.b.storeFailed(err)
	p.undo(false)
	if p.conn == nil {
		return
	}
	cl := p.conn.client
	cl.mu.Lock()
	cl.pending--
	p.conn.hold -= p.held
	p.conn.room.Broadcast()
	for _, id := range p.received {
		cl.core.Unanswer(id)
	}
	if p.reserved > 0 {
		cl.core.Deny()
	}
	p.conn.endLocked(mqtt.UnspecifiedError, err) // [MQTT-4.8.0-2 v3.1.1]
	if cl.conn != nil {
		// One that took over meanwhile may have been told that a QoS 2 message
		// is known which now is not; that must not leave.
		cl.conn.endLocked(mqtt.UnspecifiedError, err)
	}
	cl.mu.Unlock()
}

// undo takes what the turn has stored out of the queues in memory, but for what
// was only moved when that is to stay.
func (p *promise) undo(stays bool) {
	for _, q := range p.stored {
		if stays && q.moved {
			continue
		}
		if q.to == nil {
			if stays && p.conn == nil {
				q.shared.failed.Store(missed)
			} else {
				q.shared.failed.Store(notKept)
			}
			continue
		}
		q.to.mu.Lock()
		if q.shared != nil {
			q.to.core.Lose(q.seq)
		} else {
			q.to.core.Discard(q.seq, q.size)
		}
		p.b.count.waiting.add(q.to.change())
		q.to.mu.Unlock()
	}
	p.settled()
	for _, q := range p.stored {
		if q.to != nil {
			q.to.rouse()
		}
	}
	if len(p.retained) > 0 && p.b.begin() {
		go func() { // done may be called under the hub's mutex
			defer p.b.running.Done()
			p.b.hub.mu.Lock()
			for _, c := range slices.Backward(p.retained) {
				p.b.hub.retained.undo(c)
			}
			p.b.hub.mu.Unlock()
		}()
	}
}

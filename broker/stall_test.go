package broker

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/pipe"
)

// A member of two shares gets from both in turn, when its window holds up both.
func TestSharesOfOneMember(t *testing.T) {
	for how := RoundRobin; how <= ByPublisher; how++ {
		t.Run(how.String(), func(t *testing.T) {
			b := start(t, Options{Shares: map[string]ShareRule{"": {How: how}}})
			from := join(t, b, clean("from"))
			c := clean("sub")
			c.ReceiveMaximum = 1
			sub := join(t, b, c)
			sub.subscribe(1, "$share/a/a", "$share/b/b")
			for _, m := range []string{"a1", "a2", "a3", "b1", "b2"} {
				from.publish(pub(m[:1], m, 1, 1))
			}
			for i, m := range []string{"a1", "a2", "b1", "a3", "b2"} {
				sub.expect(pub(m[:1], m, 1, uint16(i+1)))
				sub.send(ack(mqtt.TypePuback, uint16(i+1)))
			}
			sub.quiet()
		})
	}
}

// blind is a store whose queues cannot be read yet.
type blind struct{ store.Store }

func (blind) Queue(dst []session.Delivery, _ string, _ uint64, _ int) ([]session.Delivery, error) {
	return dst, nil
}

// A wake between the moment when a writer has found the stored queue empty and the
// moment when it ends is not lost.
func TestWakeOfAWriterThatFoundNothing(t *testing.T) {
	b := start(t, Options{Store: blind{store.NewMemory()}})
	join(t, b, lasting("sub"))
	b.hub.mu.Lock()
	cl := b.hub.clients["sub"]
	b.hub.mu.Unlock()
	c := cl.conn
	eventually(t, func() bool {
		cl.mu.Lock()
		defer cl.mu.Unlock()
		if c.writing {
			return false
		}
		c.writing = true // the test is the writer
		return true
	})
	m := session.NewMessage(&mqtt.Publish{QoS: 1}, "t", "", "", time.Now())
	cl.mu.Lock()
	for seq := range uint64(b.limits.Window) + 1 { // the last one is in the store only
		cl.core.Enqueue(session.Delivery{Message: m, Seq: seq + 1, QoS: 1, Stored: true}, &session.Actions{})
		cl.core.Discard(seq+1, m.Size())
	}
	cl.mu.Unlock()
	b.hub.durable.Store(uint64(b.limits.Window))
	o := outboxes.Get().(*outbox)
	if !c.collect(o) {
		t.Fatal("did not look into the store")
	}
	c.refill()
	cl.mu.Lock()
	starved := c.starved
	if cl.wake() != nil {
		t.Error("two writers")
	}
	cl.mu.Unlock()
	if !starved {
		t.Fatal("something was found")
	}
	if !c.collect(o) {
		t.Error("the wake was lost")
	}
	cl.mu.Lock()
	c.writing = false
	cl.mu.Unlock()
	o.drop()
}

// A writer ends while a SUBACK that waits for the store holds everything back.
func TestWriterDoesNotSpinOnHold(t *testing.T) {
	b := start(t, Options{Limits: Limits{Window: 2}})
	sub, from := join(t, b, lasting("sub")), join(t, b, clean("from"))
	sub.subscribe(1, "t")
	sub.drop(b, "sub")
	for range 3 {
		from.publish(pub("t", "x", 1, 1))
	}
	b.hub.mu.Lock()
	cl := b.hub.clients["sub"]
	b.hub.mu.Unlock()
	near, far := pipe.Pipe()
	defer near.Close()
	c := b.newConn(far, "memory", false)
	c.client, c.room.L = cl, &cl.mu
	c.identity = unrestricted("anonymous")
	b.hub.mu.Lock()
	cl.mu.Lock()
	cl.conn, c.hold = c, 1
	cl.core.Attach(session.Link{Version: mqtt.V5, ExpirySeconds: 60})
	cl.mu.Unlock()
	b.hub.mu.Unlock()
	if c.collect(new(outbox)) {
		t.Error("the writer goes on with nothing that it may do")
	}
	b.hub.mu.Lock()
	cl.mu.Lock()
	cl.conn = nil
	cl.core.Detach(time.Now(), &session.Actions{})
	cl.mu.Unlock()
	b.hub.mu.Unlock()
}

// moody is a memory store that fails, or has no room, when told so.
type moody struct {
	*store.Memory
	err atomic.Pointer[error]
}

func (m *moody) Commit(b *store.Batch, done func(error)) {
	if err := m.err.Load(); err != nil && done != nil {
		var kept store.Batch
		for _, op := range b.Ops {
			if errors.Is(*err, store.ErrFull) && op.Kind != store.Append && op.Kind != store.PutRetained {
				kept.Add(op)
			}
		}
		m.Memory.Commit(&kept, nil)
		done(*err)
		return
	}
	m.Memory.Commit(b, done)
}

// What the store could not keep of a session's queue does not hold back the QoS 0
// that came after it.
func TestQoS0AfterWhatWasNotKept(t *testing.T) {
	for _, fails := range []error{store.ErrFull, errors.New("broken")} {
		t.Run(fails.Error(), func(t *testing.T) {
			s := &moody{Memory: store.NewMemory()}
			b := start(t, Options{Store: s, Limits: Limits{Window: 2, Inflight: 2}})
			sub, from := join(t, b, lasting("sub")), join(t, b, clean("from"))
			sub.subscribe(1, "t")
			for i := range 5 { // more than is kept in memory
				from.publish(pub("t", "x", 1, uint16(i+1)))
			}
			s.err.Store(&fails)
			from.send(pub("t", "lost", 1, 9))
			if fails == store.ErrFull {
				from.expect(ack(mqtt.TypePuback, 9, mqtt.QuotaExceeded))
			} else {
				from.expect(&mqtt.Disconnect{Reason: mqtt.UnspecifiedError})
				from = join(t, b, clean("from2"))
			}
			s.err.Store(nil)
			for i := range 5 {
				sub.expect(pub("t", "x", 1, uint16(i+1)))
				sub.send(ack(mqtt.TypePuback, uint16(i+1)))
			}
			sub.quiet()
			from.send(pub("t", "zero", 0, 0))
			sub.expect(pub("t", "zero", 0, 0))
		})
	}
}

// What the store did not keep of the retained messages is not retained: what was
// there before is.
// Shows [B4a].
func TestRetainedThatWasNotKept(t *testing.T) {
	for _, fails := range []error{store.ErrFull, errors.New("broken")} {
		t.Run(fails.Error(), func(t *testing.T) {
			s := &moody{Memory: store.NewMemory()}
			b := start(t, Options{Store: s})
			from := join(t, b, clean("from"))
			from.publish(retainedPub("a", "1", 1, 1), mqtt.NoMatchingSubscribers)
			s.err.Store(&fails)
			from.send(retainedPub("a", "2", 0, 0), retainedPub("b", "2", 0, 0), retainedPub("a", "3", 0, 0))
			eventually(t, func() bool { return b.Stats().StoreFailures == 1 && b.Stats().Retained == 1 })
			s.err.Store(nil)
			sub := join(t, b, clean("sub"))
			sub.subscribe(1, "#")
			sub.expect(retainedPub("a", "1", 1, 1))
			sub.quiet()
		})
	}
}

package broker

import "sync/atomic"

// waiting is how many messages of QoS 1 and 2 the sessions have that their clients
// have not acknowledged, and their bytes. Who steps a session counts what that has
// changed, at latest before its turn is committed.
type waiting struct{ messages, bytes atomic.Int64 }

func (w *waiting) add(x held) {
	if x != (held{}) {
		w.messages.Add(int64(x.count))
		w.bytes.Add(int64(x.bytes))
	}
}

// change is what has come to the session since it was asked last, or has gone. c.mu
// is held.
func (c *client) change() held {
	n, bytes := c.core.Queued()
	x := held{n - c.counted.count, bytes - c.counted.bytes}
	c.counted = held{n, bytes}
	return x
}

// count takes note of a change of c, to be told with the turn's others. c.mu is held.
func (t *turn) count(c *client) {
	x := c.change()
	t.waiting.count += x.count
	t.waiting.bytes += x.bytes
}

// tellWaiting tells of the changes that the turn has counted.
func (t *turn) tellWaiting() {
	t.b.count.waiting.add(t.waiting)
	t.waiting = held{}
}

// Waiting is how many QoS 1 and 2 messages of all sessions and shares are not
// acknowledged by their clients, sent or not, and their bytes; one that a share
// has lent to a member counts once, as the member's. It is quick, and no snapshot:
// what is in the middle of a turn may be counted or not.
func (b *Broker) Waiting() (messages, bytes int) {
	b.hub.mu.Lock()
	idle := b.hub.index.idle()
	b.hub.mu.Unlock()
	w := &b.count.waiting
	return max(0, idle.count+int(w.messages.Load())), max(0, idle.bytes+int(w.bytes.Load()))
}

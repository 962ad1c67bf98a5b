package gateway

import (
	"errors"
	"slices"
	"sync"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/gateway/config"
	"github.com/wilco-iot/wilco/internal/gateway/uplink"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

// downLane is what is mirrored down by one filter: what waits of it because a client of
// the gateway's broker has no room. It is not acknowledged to the server above before it
// is at the gateway's broker, so a kill loses none; and it stands beside the commands, which
// are taken meanwhile.
type downLane struct {
	config.Mirror
	g *Gateway

	mu      sync.Mutex
	waiting []*client.Delivery
	bytes   int
	dropped uint64
	changed chan struct{} // one slot: there is something, or there is room
}

func newDownLane(g *Gateway, m config.Mirror) *downLane {
	return &downLane{Mirror: m, g: g, changed: make(chan struct{}, 1)}
}

// mirrorDown takes what is mirrored besides. It blocks while the lane is full and
// refuses, so that nothing is lost and nothing overtakes.
func (g *Gateway) mirrorDown(d *client.Delivery) {
	i := slices.IndexFunc(g.down, func(l *downLane) bool { return mqtt.Match(l.Filter, d.Topic) })
	if i < 0 {
		d.Ack() // of a subscription in the session that there is no reason for any more
		return
	}
	for l, told := g.down[i], false; !l.take(d); told = true {
		if !told {
			g.log.Warn("mirrored messages have no room at this gateway; all that comes from above waits, commands too",
				"filter", l.Filter, "cure", "see which client has a full queue, or set overflow: oldest")
		}
		if g.wait(pause / 20); g.ctx.Err() != nil {
			return // not acknowledged: it comes again
		}
	}
}

// newMouth is the client that says at the gateway's broker what is mirrored down. It has
// no lasting session: what the broker would remember of its packet identifiers after a
// kill is what it does not know itself, and a new message under one of them would pass
// for a repeat, and be lost.
func (g *Gateway) newMouth() (*client.Client, error) {
	return client.New(client.Options{Dial: g.server.Broker.Dial, ClientID: mouthClient, CleanStart: true, Logger: g.log})
}

func size(d *client.Delivery) int { return len(d.Topic) + len(d.Payload) }

// take says false when there is no room, and the policy is to refuse.
func (l *downLane) take(d *client.Delivery) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.waiting) >= l.MaxMessages || len(l.waiting) > 0 && l.bytes+size(d) > l.MaxBytes {
		switch l.Overflow {
		case broker.Refuse:
			return false
		case broker.DropNewest:
			l.drop(d)
			return true
		}
		oldest := l.waiting[0]
		l.remove(oldest)
		l.drop(oldest)
	}
	l.waiting = append(l.waiting, d)
	l.bytes += size(d)
	select {
	case l.changed <- struct{}{}:
	default:
	}
	return true
}

// drop does without a message, and tells.
func (l *downLane) drop(d *client.Delivery) {
	d.Ack()
	if l.dropped++; l.dropped&(l.dropped-1) == 0 {
		l.g.log.Warn("mirrored messages have no room at this gateway, and are dropped", "filter", l.Filter, "topic", d.Topic, "so far", l.dropped)
	}
}

// remove takes a message out, if it is still there: the first.
func (l *downLane) remove(d *client.Delivery) {
	if len(l.waiting) > 0 && l.waiting[0] == d {
		l.waiting = l.waiting[1:]
		l.bytes -= size(d)
	}
}

func (l *downLane) first() *client.Delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return nil
	}
	return l.waiting[0]
}

// run publishes what waits at the gateway's broker.
func (l *downLane) run() {
	failing := false
	for l.g.ctx.Err() == nil {
		d := l.first()
		if d == nil {
			select {
			case <-l.changed:
			case <-l.g.ctx.Done():
			}
			continue
		}
		err := l.g.mouth.Publish(l.g.ctx, d.Message)
		switch {
		case err == nil:
			failing = false
		case uplink.NeverTaken(err), errors.As(err, new(*mqtt.Error)):
			l.g.log.Error("a message from above cannot be mirrored, and is dropped", "topic", d.Topic, "error", err)
		default:
			if !failing && l.g.ctx.Err() == nil {
				l.g.log.Warn("a message from above cannot be mirrored now; what comes by its filter waits", "topic", d.Topic, "error", err)
			}
			failing = true
			l.g.wait(pause / 4)
			continue
		}
		l.mu.Lock()
		l.remove(d)
		l.mu.Unlock()
		d.Ack()
	}
}

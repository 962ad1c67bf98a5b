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

// take says false when there is no room, and the policy is to refuse.
func (l *downLane) take(d *client.Delivery) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.waiting) >= l.MaxMessages || len(l.waiting) > 0 && l.bytes+uplink.Size(&d.Message) > l.MaxBytes {
		switch l.Overflow {
		case broker.Refuse:
			return false
		case broker.DropNewest:
			l.drop(d)
			return true
		}
		l.drop(l.shift())
	}
	l.waiting = append(l.waiting, d)
	l.bytes += uplink.Size(&d.Message)
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

// shift takes out the first. l.mu is held.
func (l *downLane) shift() *client.Delivery {
	d := l.waiting[0]
	l.waiting[0] = nil
	l.waiting = l.waiting[1:]
	l.bytes -= uplink.Size(&d.Message)
	return d
}

// next takes out the first, which no policy touches any more; nil: there is none.
func (l *downLane) next() *client.Delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return nil
	}
	return l.shift()
}

// run publishes what waits at the gateway's broker.
func (l *downLane) run() {
	for l.g.ctx.Err() == nil {
		if d := l.next(); d != nil {
			l.publish(d)
			continue
		}
		select {
		case <-l.changed:
		case <-l.g.ctx.Done():
		}
	}
}

// publish returns when d is at the gateway's broker, or never can be, and acknowledges it.
func (l *downLane) publish(d *client.Delivery) {
	for failing := false; ; failing = true {
		err := l.g.mouth.Publish(l.g.ctx, d.Message)
		switch {
		case err == nil:
		case l.g.ctx.Err() != nil:
			return // not acknowledged: it comes again
		case uplink.NeverTaken(err), errors.As(err, new(*mqtt.Error)):
			l.g.log.Error("a message from above cannot be mirrored, and is dropped", "topic", d.Topic, "error", err)
		default:
			if !failing {
				l.g.log.Warn("a message from above cannot be mirrored now; what comes by its filter waits", "topic", d.Topic, "error", err)
			}
			l.g.wait(pause / 4)
			continue
		}
		d.Ack()
		return
	}
}

package gateway

import (
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// wait returns after d, or when the gateway stops.
func (g *Gateway) wait(d time.Duration) {
	select {
	case <-g.ctx.Done():
	case <-time.After(d):
	}
}

// upSubscriptions are what devices say that is kept for the server above. What is
// retained is not: see arrive.
func (g *Gateway) upSubscriptions() (list []mqtt.Subscription) {
	all := wire.Address{Group: "+", Device: "+"}
	for _, f := range []string{g.profile.AckTopic(all), g.profile.ResultTopic(all), g.profile.StateTopic(all, wire.StateReport)} {
		list = append(list, mqtt.Subscription{Filter: f, QoS: mqtt.AtLeastOnce, NoLocal: true, RetainAsPublished: true, RetainHandling: 2})
	}
	return list
}

// statuses is what devices say of their presence, of which only the last word counts
// once the server above is back.
func (g *Gateway) statuses() mqtt.Subscription {
	return mqtt.Subscription{Filter: g.profile.StatusTopic(wire.Address{Group: "+", Device: "+"}), QoS: mqtt.AtLeastOnce,
		NoLocal: true, RetainAsPublished: true}
}

// skips says whether what a device says stays here: what is of a command that was made
// here, a status while the server above is away, and what a session of before has asked for.
func (g *Gateway) skips(d *client.Delivery) bool {
	if mqtt.Match(g.statuses().Filter, d.Topic) {
		return !g.current.Load()
	}
	asked := slices.ContainsFunc(g.upSubscriptions(), func(s mqtt.Subscription) bool { return mqtt.Match(s.Filter, d.Topic) })
	return !asked || g.isOwn(d)
}

// ownTIDs remembers whose commands are whose. The zero value is ready for use.
type ownTIDs struct {
	mu    sync.Mutex
	known map[command.TID]bool
}

// isOwn says whether the message is about a command that was made here: of that
// the server above hears when it has ended.
func (g *Gateway) isOwn(d *client.Delivery) bool {
	up, err := g.profile.ParseUp(d.Topic, d.Payload)
	if err != nil {
		return false
	}
	var said string
	switch up.Kind {
	case wire.UpAck:
		said = up.Ack.TID
	case wire.UpResult:
		said = up.Result.TID
	default:
		return false
	}
	tid, err := uuid.Parse(said)
	if err != nil {
		return false
	}
	g.own.mu.Lock()
	own, known := g.own.known[tid]
	g.own.mu.Unlock()
	if known {
		return own
	}
	for {
		c, err := g.server.Store.Command(g.ctx, tid)
		switch {
		case err == nil:
			own = c.RequestedBy != Upstream
		case fault.CodeOf(err) == fault.NotFound:
			return false
		case g.ctx.Err() != nil:
			return false // it is not acknowledged any more either
		default:
			g.log.Error("a command cannot be read; what its device says waits", "tid", tid, "error", err)
			g.wait(pause)
			continue
		}
		g.own.remember(tid, own)
		return own
	}
}

// remember keeps some thousand answers.
func (o *ownTIDs) remember(tid command.TID, own bool) {
	const most = 4096
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known == nil || len(o.known) >= most {
		o.known = make(map[command.TID]bool)
	}
	o.known[tid] = own
}

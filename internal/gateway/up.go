package gateway

import (
	"context"
	"errors"
	"net"
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

// runUp keeps the lasting session connected to the gateway's own broker, and
// connects it anew when the server above has refused a message that it may take
// later: then that and all behind it come again, in their order.
func (g *Gateway) runUp() {
	joined := sync.OnceFunc(func() { close(g.joined) })
	defer joined() // who waits for it is not to wait for ever
	for g.ctx.Err() == nil {
		u := &uplink{g: g, again: make(chan struct{}, 1)}
		c, err := client.New(client.Options{Dial: g.dialLocal, ClientID: localClient, SessionExpiry: forEver,
			ReceiveMaximum: upWindow, Subscriptions: g.upSubscriptions(), OnMessage: u.take, Logger: g.log})
		if err != nil {
			g.log.Error("the gateway cannot join its own broker", "error", err)
			return
		}
		c.Start()
		g.local.Store(c)
		if c.AwaitUp(g.ctx) == nil {
			joined()
		}
		select {
		case <-g.ctx.Done():
		case <-u.again:
		}
		u.stop()
		end, cancel := context.WithTimeout(context.WithoutCancel(g.ctx), 5*time.Second)
		if err := c.Stop(end); err != nil {
			g.log.Warn("leaving the gateway's own broker took too long", "error", err)
		}
		cancel()
		g.wait(pause)
		g.tellReach(g.inReach.Load()) // the new connection has to ask for the statuses
	}
}

// dialLocal joins the gateway's own broker, under the policy of what waits.
func (g *Gateway) dialLocal(ctx context.Context) (net.Conn, error) {
	return g.server.Broker.DialOverflow(ctx, g.cfg.Queue.Overflow)
}

// wait returns after d, or when the gateway stops.
func (g *Gateway) wait(d time.Duration) {
	select {
	case <-g.ctx.Done():
	case <-time.After(d):
	}
}

// upSubscriptions are what is kept for the server above. What is
// retained is not: see arrive.
func (g *Gateway) upSubscriptions() (list []mqtt.Subscription) {
	all := wire.Address{Group: "+", Device: "+"}
	for _, f := range []string{g.profile.AckTopic(all), g.profile.ResultTopic(all), g.profile.StateTopic(all, wire.StateReport)} {
		list = append(list, mqtt.Subscription{Filter: f, QoS: mqtt.AtLeastOnce, NoLocal: true, RetainAsPublished: true, RetainHandling: 2})
	}
	for _, f := range g.cfg.Up {
		list = append(list, mqtt.Subscription{Filter: f, QoS: mqtt.ExactlyOnce, NoLocal: true, RetainAsPublished: true})
	}
	return list
}

// retained are the topics of which only the last word counts once the server above
// is back: what devices say of their presence, and what the file names as latest.
func (g *Gateway) retained() (list []mqtt.Subscription) {
	statuses := g.profile.StatusTopic(wire.Address{Group: "+", Device: "+"})
	for _, f := range append([]string{statuses}, g.cfg.Latest...) {
		list = append(list, mqtt.Subscription{Filter: f, QoS: mqtt.AtLeastOnce, NoLocal: true, RetainAsPublished: true})
	}
	return list
}

// isRetained says whether the topic is one of retained.
func (g *Gateway) isRetained(topic string) bool {
	return slices.ContainsFunc(g.retained(), func(s mqtt.Subscription) bool { return mqtt.Match(s.Filter, topic) })
}

// uplink is one connection of the lasting session.
type uplink struct {
	g     *Gateway
	again chan struct{}

	mu      sync.Mutex
	stopped bool // nothing more is acknowledged: it comes again
}

func (u *uplink) stop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stopped = true
}

// take passes a message up. It is acknowledged when the server above has it.
func (u *uplink) take(d *client.Delivery) {
	u.mu.Lock()
	stopped := u.stopped
	u.mu.Unlock()
	switch {
	case stopped:
		return
	case u.g.isOwn(d), !u.g.current.Load() && u.g.isRetained(d.Topic):
		d.Ack()
		return
	}
	for {
		err := u.g.up.PublishAsync(d.Message, func(r client.Result) { u.done(d, r) })
		if !errors.Is(err, client.ErrFull) {
			return // whatever else it is, the gateway stops, or done is told
		}
		u.g.wait(pause / 20)
		if u.g.ctx.Err() != nil {
			return
		}
	}
}

// done is how the server above has answered.
func (u *uplink) done(d *client.Delivery, r client.Result) {
	switch {
	case r.Err == nil:
	case errors.Is(r.Err, client.ErrStopped):
		return
	case neverTaken(r.Err):
		if n := u.g.dropped.Add(1); n&(n-1) == 0 { // ever more seldom: all that waits may be of this kind
			u.g.log.Error("a message cannot go up, and is dropped", "topic", d.Topic, "bytes", len(d.Payload), "error", r.Err, "so far", n)
		}
	default:
		u.stop()
		u.g.log.Warn("the server above takes nothing at present; what waits stays in its order", "topic", d.Topic, "error", r.Err)
		select {
		case u.again <- struct{}{}:
		default:
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.stopped {
		d.Ack()
	}
}

// neverTaken says whether a message that was not accepted never will be.
func neverTaken(err error) bool {
	for _, why := range []error{client.ErrExpired, client.ErrSize, client.ErrQoS, client.ErrRetain} {
		if errors.Is(err, why) {
			return true
		}
	}
	var refused *client.ReasonError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Code {
	case mqtt.NotAuthorized, mqtt.TopicNameInvalid, mqtt.PayloadFormatInvalid, mqtt.PacketTooLarge:
		return true
	}
	return false
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

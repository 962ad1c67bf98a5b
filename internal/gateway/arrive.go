package gateway

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// will is what the server above says of the gateway when it is lost: the devices
// behind it cannot be reached then.
func (g *Gateway) will() *mqtt.Will {
	payload, err := g.profile.AppendStatus(nil, wire.Status{Boot: g.boot})
	if err != nil {
		return nil
	}
	return &mqtt.Will{Topic: g.profile.StatusTopic(g.cfg.Name), Payload: payload, QoS: mqtt.AtLeastOnce, Retain: true}
}

// runArrivals does what is to be done each time that the server above is back, and
// when it is lost.
func (g *Gateway) runArrivals() {
	end := func() {}
	defer func() { end() }()
	for {
		var up bool
		select {
		case <-g.ctx.Done():
			return
		case up = <-g.reach:
		}
		end()
		g.setReach(up)
		ctx, cancel := context.WithCancel(g.ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if up {
				g.arrive(ctx)
			} else {
				g.depart(ctx)
			}
		}()
		end = func() { cancel(); <-done }
	}
}

// arrive tells the server above what it must know before it sends: that the
// gateway is there, what it did alone, and then, behind all that has waited, which
// devices are there. The broker puts the retained statuses that a subscription
// brings behind what its session holds, and what comes later behind them.
func (g *Gateway) arrive(ctx context.Context) {
	payload, err := g.profile.AppendStatus(nil, wire.Status{Online: true, Boot: g.boot, TS: time.Now()})
	if err == nil {
		err = g.link.Publish(ctx, client.Message{Topic: g.profile.StatusTopic(g.cfg.Name), Payload: payload, QoS: mqtt.AtLeastOnce, Retain: true,
			ContentType: "application/json"})
	}
	if err != nil {
		if ctx.Err() == nil {
			g.log.Error("the server above does not take the status of this gateway; it sends nothing to its devices", "error", err)
		}
		return
	}
	if !g.awaitActs(ctx) {
		return
	}
	for ctx.Err() == nil {
		g.current.Store(true)
		if _, err := g.local.Subscribe(ctx, g.statuses()); err == nil {
			return
		}
		g.wait(pause)
	}
}

// depart lets go of the statuses: what they say while the server above is
// away is not true any more when it is back.
func (g *Gateway) depart(ctx context.Context) {
	g.current.Store(false)
	for ctx.Err() == nil {
		if err := g.local.Unsubscribe(ctx, g.statuses().Filter); err == nil {
			return
		}
		g.wait(pause / 20)
	}
}

// How often the devices of this server are compared with what is asked for above,
// and how long a refusal stands.
const (
	devicesEvery  = 2 * time.Second
	refusedStands = 30 * time.Second
)

// asked are the topics whose messages the server above gives. The zero value is ready
// for use.
type asked struct {
	mu     sync.Mutex
	topics map[string]bool
}

// forget takes out what was not granted again by a server that has lost the session.
func (a *asked) forget(refused []mqtt.Subscription) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range refused {
		delete(a.topics, s.Filter)
	}
}

func (a *asked) set(topic string, is bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.topics == nil {
		a.topics = map[string]bool{}
	}
	if is {
		a.topics[topic] = true
	} else {
		delete(a.topics, topic)
	}
}

func (a *asked) list() map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.topics)
}

// runDevices asks the server above for the commands of each device that is
// registered here, and of the gateway itself, which refuses them.
func (g *Gateway) runDevices() {
	refused := map[string]time.Time{}
	for g.ctx.Err() == nil {
		asked := g.asked.list()
		want := map[string]bool{g.profile.Topic(g.cfg.Name): true}
		for d := range g.server.Fleet.All() {
			want[g.profile.Topic(d.Address)] = true
		}
		var more []mqtt.Subscription
		for topic := range want {
			if !asked[topic] && time.Since(refused[topic]) > refusedStands {
				more = append(more, mqtt.Subscription{Filter: topic, QoS: mqtt.AtLeastOnce, NoLocal: true, RetainAsPublished: true})
			}
		}
		for len(more) > 0 {
			n := min(len(more), 64)
			codes, err := g.up.Subscribe(g.ctx, more[:n]...)
			if err != nil {
				break // the gateway stops
			}
			for i, code := range codes {
				if topic := more[i].Filter; code.Failed() {
					if _, told := refused[topic]; !told {
						g.log.Error("the server above gives no commands for a device; register it there with: wilco device add GROUP/DEVICE --via "+
							g.cfg.Name.String(), "topic", topic, "code", code)
					}
					refused[topic] = time.Now()
				} else {
					g.asked.set(topic, true)
					delete(refused, topic)
				}
			}
			more = more[n:]
		}
		for topic := range asked {
			if !want[topic] {
				if g.up.Unsubscribe(g.ctx, topic) == nil {
					g.asked.set(topic, false)
				}
			}
		}
		g.wait(devicesEvery)
	}
}

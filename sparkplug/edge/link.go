package edge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/edge/internal/node"
)

// commandLimits bound what a command may cost, far above what one holds.
var commandLimits = sparkplug.Limits{Bytes: 1 << 20, Elements: 1 << 14}

// link is one MQTT connection, made by a client that makes no other: which
// server is next, and when, is decided here.
type link struct {
	node   *Node
	client *client.Client
	poke   chan struct{} // the core may have another time to be woken at
	over   chan ending   // the first one says how it ended

	// Of the goroutine that delivers.
	inflater sparkplug.Inflater
	payload  sparkplug.Payload
}

func (n *Node) newLink(place string) (*link, error) {
	l := &link{node: n, poke: make(chan struct{}, 1), over: make(chan ending, 1)}
	o := client.Options{
		Dial: n.cfg.Dial, TLS: n.cfg.TLS, Version: n.cfg.Version, ClientID: n.cfg.ClientID,
		Username: n.cfg.Username, Password: n.cfg.Password, KeepAlive: n.cfg.KeepAlive,
		// MQTT 5: Clean Start, and no session expiry; MQTT 3.1.1: Clean Session
		// [tck-id-principles-persistence-clean-session-50] [tck-id-principles-persistence-clean-session-311]
		CleanStart: true, SessionExpiry: 0,
		Once: true, MaxQueued: maxQueued, Subscriptions: n.cfg.subscriptions(),
		OnConnect: l.connecting, OnUp: l.up, OnDown: func(err error) { l.finish(ending{err: err}) }, OnMessage: l.message,
		Logger: n.cfg.Logger,
	}
	if place != "" {
		o.Servers = []string{place}
	}
	var err error
	l.client, err = client.New(o)
	return l, err
}

// subscriptions are made before the births.
//
// [tck-id-message-flow-edge-node-ncmd-subscribe] [tck-id-message-flow-device-dcmd-subscribe]
// [tck-id-operational-behavior-primary-application-state-with-multiple-servers-state-subs]
func (c *Config) subscriptions() []mqtt.Subscription {
	filters := []string{
		sparkplug.Namespace + "/" + c.Group + "/NCMD/" + c.Node,
		sparkplug.Namespace + "/" + c.Group + "/DCMD/" + c.Node + "/+",
	}
	if c.PrimaryHost != "" {
		filters = append(filters, sparkplug.Topic{Type: sparkplug.State, Host: c.PrimaryHost}.String())
		if c.LegacyState {
			filters = append(filters, sparkplug.Topic{Type: sparkplug.State, Host: c.PrimaryHost, Legacy: true}.String())
		}
	}
	subs := make([]mqtt.Subscription, len(filters))
	for i, f := range filters {
		subs[i] = mqtt.Subscription{Filter: f, QoS: mqtt.AtLeastOnce}
	}
	return subs
}

// connecting gives a CONNECT its Will, with a number that is on disk.
//
// [tck-id-payloads-ndeath-will-message-qos] [tck-id-payloads-ndeath-will-message-retain]
func (l *link) connecting(p *mqtt.Connect) error {
	bdSeq, err := l.node.bdSeq.take()
	if err != nil {
		return err
	}
	l.node.mu.Lock()
	defer l.node.mu.Unlock()
	will := l.node.core.Connecting(bdSeq, time.Now())
	p.Will = &mqtt.Will{Topic: will.Topic, Payload: will.Payload, QoS: mqtt.QoS(will.QoS), Retain: will.Retain}
	l.node.flush()
	return nil
}

func (l *link) up(up client.Up) {
	if len(up.Refused) > 0 { // without them the node could neither be asked for births nor see its host
		l.finish(ending{walk: true, err: fmt.Errorf("the server refuses the subscription to %q", up.Refused[0].Filter)})
		return
	}
	l.node.mu.Lock()
	defer l.node.mu.Unlock()
	l.node.core.Connected(int(up.Connack.MaximumPacketSize), time.Now())
	l.node.flush()
}

// publish hands one message to the connection. mu of the node is held.
func (n *Node) publish(m sparkplug.Message) error {
	if n.link == nil {
		return client.ErrDown
	}
	return n.link.client.PublishAsync(client.Message{Topic: m.Topic, Payload: m.Payload, QoS: mqtt.QoS(m.QoS), Retain: m.Retain}, n.link.written)
}

// written takes the results of the messages, in their order. What the end of
// the connection kept from being written stays with the core.
func (l *link) written(r client.Result) {
	l.node.mu.Lock()
	defer l.node.mu.Unlock()
	switch {
	case errors.Is(r.Err, client.ErrDown), errors.Is(r.Err, client.ErrStopped):
		return
	case r.Err != nil:
		l.node.cfg.Logger.Error("sparkplug: message not sent", "error", r.Err)
		l.node.core.Resync(time.Now())
	}
	l.node.core.Written()
	l.node.flush()
}

// message is one that the server brought.
func (l *link) message(d *client.Delivery) {
	defer d.Ack()
	t, err := sparkplug.ParseTopic(d.Topic)
	switch {
	case err != nil:
	case t.Type == sparkplug.State:
		var s sparkplug.HostState
		if s, err = sparkplug.ParseState(d.Payload); err == nil {
			l.locked(func(c *node.Core) { c.Host(t.Host, s) })
		}
	case d.Retain:
		err = errors.New("a command that was retained is not obeyed")
	case t.Type == sparkplug.NCmd || t.Type == sparkplug.DCmd:
		if err = l.inflater.Decode(d.Payload, &l.payload, commandLimits); err == nil {
			l.locked(func(c *node.Core) { c.Command(t.Device, &l.payload, time.Now()) })
		}
	}
	if err != nil {
		l.node.cfg.Logger.Warn("sparkplug: message ignored", "topic", d.Topic, "error", err)
	}
}

func (l *link) locked(f func(*node.Core)) {
	l.node.mu.Lock()
	defer l.node.mu.Unlock()
	f(l.node.core)
	l.node.flush()
}

// finish says how the connection ended, if nobody has.
func (l *link) finish(e ending) {
	select {
	case l.over <- e:
	default:
	}
}

func (l *link) wake() {
	select {
	case l.poke <- struct{}{}:
	default:
	}
}

// stop ends the connection, cutting it off after patience, and waits for its
// results. After our NDEATH an MQTT 5
// server is asked to publish the Will as well; one of 3.1.1 is only told good-bye.
//
// [tck-id-operational-behavior-edge-node-intentional-disconnect-packet]
// [tck-id-payloads-ndeath-will-message-publisher-disconnect-mqtt50]
// [tck-id-payloads-ndeath-will-message-publisher-disconnect-mqtt311]
func (l *link) stop(death bool, patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	end := l.client.Stop
	if death {
		end = l.client.StopWithWill
	}
	if err := end(ctx); err != nil {
		if patience > 0 {
			l.node.cfg.Logger.Warn("sparkplug: not a clean end", "error", err)
		}
		_ = l.client.Stop(context.Background()) // it is cut off; this waits for its goroutines
	}
}

// Package link joins the engine to a broker, embedded or not, as an MQTT client.
//
// It subscribes to what devices say and hands it over unread; publishes what the
// engine has committed, in the order of the calls; and watches the command
// topics, where nobody but this server may speak and nothing may be retained.
//
// A Link is safe for concurrent use. It owns its client and the client's
// goroutines, which Stop waits for.
package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// Options configure a Link.
type Options struct {
	// Client says how to connect. Subscriptions, OnMessage, OnUp and OnDown are
	// the link's own; the other zero fields take what suits a server.
	Client   client.Options
	Profiles []wire.Profile
	Logger   *slog.Logger // default slog.Default
}

// Peer is who the link works for: the engine.
type Peer interface {
	Receive(engine.Message)
	LinkUp()
	LinkDown()
}

// Link is one connection to a broker, made again when it is lost.
type Link struct {
	opt    Options
	client *client.Client
	log    *slog.Logger
	peer   Peer
	broken atomic.Pointer[error]

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// sessionExpiry is how long the broker keeps what devices say while the link is
// away. What they said before is asked for when it is back.
const sessionExpiry = time.Hour

// New makes a link that does nothing until Start.
func New(o Options) *Link {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	l := &Link{opt: o, log: o.Logger}
	l.broken.Store(&errNotYet)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Start connects in the background and goes on trying until Stop. The error is
// about the options.
func (l *Link) Start(p Peer) error {
	l.peer = p
	o := l.opt.Client
	if o.SessionExpiry == 0 {
		o.SessionExpiry = sessionExpiry
	}
	if o.ReceiveMaximum == 0 {
		o.ReceiveMaximum = 16384 // a turn's worth of messages for each shard
	}
	if o.Logger == nil {
		o.Logger = l.log
	}
	for _, profile := range l.opt.Profiles {
		for _, f := range profile.Filters() {
			o.Subscriptions = append(o.Subscriptions, mqtt.Subscription{Filter: f, QoS: mqtt.AtLeastOnce})
		}
		if o.Version != mqtt.V311 {
			// No Local keeps our own commands away; Retain As Published tells a
			// retained one from one that is only somebody else's.
			o.Subscriptions = append(o.Subscriptions, mqtt.Subscription{Filter: commandFilter(profile),
				QoS: mqtt.AtLeastOnce, NoLocal: true, RetainAsPublished: true})
		}
	}
	o.OnMessage = l.receive
	o.OnUp = l.up
	o.OnDown = l.down
	c, err := client.New(o)
	if err != nil {
		return fmt.Errorf("link to the broker: %w", err)
	}
	l.client = c
	c.Start()
	return nil
}

var errNotYet = errors.New("not connected yet")

// Err says why the broker cannot be reached at present; nil when it can.
func (l *Link) Err() error {
	if err := l.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// AwaitUp blocks until the link is up, and returns why the broker refuses it
// when trying again is of no use.
func (l *Link) AwaitUp(ctx context.Context) error { return l.client.AwaitUp(ctx) }

// Stop disconnects in good order and waits for it, at most until ctx ends.
func (l *Link) Stop(ctx context.Context) error {
	l.cancel()
	if l.client == nil {
		return nil
	}
	defer l.wg.Wait()
	return l.client.Stop(ctx)
}

// Publish implements engine.Link.
func (l *Link) Publish(p engine.Publication, done func(error)) {
	err := l.client.PublishAsync(client.Message{
		Topic: p.Topic, Payload: p.Payload, QoS: mqtt.AtLeastOnce, Expiry: p.Expiry,
		ContentType: "application/json", ResponseTopic: p.ResponseTopic, CorrelationData: p.Correlation,
	}, func(r client.Result) { done(outcome(r.Err)) })
	if err != nil {
		done(outcome(err))
	}
}

// outcome marks the errors after which the broker certainly has not taken the message.
func outcome(err error) error {
	var reason *client.ReasonError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &reason), errors.Is(err, client.ErrFull), errors.Is(err, client.ErrSize),
		errors.Is(err, client.ErrQoS), errors.Is(err, client.ErrExpired):
		return fmt.Errorf("%w: %w", engine.ErrRefused, err)
	}
	return err
}

func (l *Link) receive(d *client.Delivery) {
	if l.opt.Client.Version == mqtt.V311 && !d.Retain && l.ours(d.Topic) {
		d.Ack() // our own command, come back while we looked for retained ones
		return
	}
	l.peer.Receive(engine.Message{Topic: d.Topic, Payload: d.Payload, Retained: d.Retain, Ack: d.Ack})
}

func (l *Link) ours(topic string) bool {
	for _, p := range l.opt.Profiles {
		if mqtt.Match(commandFilter(p), topic) {
			return true
		}
	}
	return false
}

func (l *Link) up(u client.Up) {
	for _, s := range u.Refused {
		l.log.Error("the broker refuses a subscription; grant the server's user the right to it", "filter", s.Filter)
	}
	l.broken.Store(nil)
	l.peer.LinkUp()
	if l.opt.Client.Version == mqtt.V311 {
		l.wg.Go(l.lookForRetained)
	}
}

// lookForRetained finds retained commands over MQTT 3.1.1, which has no No
// Local: it subscribes for as long as the broker takes to send what is retained.
func (l *Link) lookForRetained() {
	ctx, cancel := context.WithTimeout(l.ctx, 30*time.Second)
	defer cancel()
	for _, p := range l.opt.Profiles {
		f := commandFilter(p)
		_, err := l.client.Subscribe(ctx, mqtt.Subscription{Filter: f, QoS: mqtt.AtLeastOnce})
		if err == nil {
			err = l.client.Unsubscribe(ctx, f)
		}
		if err != nil {
			l.log.Warn("cannot look for retained commands", "filter", f, "error", err)
		}
	}
}

func (l *Link) down(err error) {
	if l.ctx.Err() == nil {
		l.log.Warn("connection to the broker lost", "error", err)
	}
	l.broken.Store(&err)
	l.peer.LinkDown()
}

// commandFilter matches the command topics of all devices of a profile.
func commandFilter(p wire.Profile) string { return p.Topic(wire.Address{Group: "+", Device: "+"}) }

package device

import (
	"context"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// connect makes the client; it does not start it.
func (r *run) connect() error {
	cfg := r.cfg
	o := client.Options{
		Servers: cfg.Servers, TLS: cfg.TLS, Version: cfg.Version,
		ClientID: cfg.ClientID, Username: cfg.Username, Password: cfg.Password,
		SessionExpiry: cfg.SessionExpiry, KeepAlive: cfg.KeepAlive,
		ReceiveMaximum: receiveMaximum,
		// RetainAsPublished lets us see that somebody retains commands; 3.1.1
		// shows that only of those that were there before.
		Subscriptions: append([]mqtt.Subscription{{Filter: r.topic, QoS: mqtt.AtLeastOnce,
			RetainAsPublished: cfg.Version != mqtt.V311}}, r.stateSubscriptions()...),
		OnMessage: r.onMessage,
		OnUp:      func(u client.Up) { r.posted.put(func() { r.onUp(u) }) },
		OnDown:    func(error) { r.posted.put(r.onDown) },
		Will:      r.will,
		Logger:    cfg.Logger,
	}
	if cfg.Dial != nil {
		o.Dial = r.link.wrap(cfg.Dial)
	}
	c, err := client.New(o)
	r.client = c
	return err
}

// onMessage is called by the client. It blocks while commands arrive faster
// than they are journalled.
func (r *run) onMessage(d *client.Delivery) {
	a := arrival{delivery: d}
	if d.Topic != r.topic {
		if r.onState(d) {
			return
		}
		// A subscription of a former life in the same session.
		d.Ack()
		return
	}
	var err error
	a.command, err = r.cfg.Profile.ParseCommand(d.Payload)
	switch {
	case err != nil:
		a.problem = &wire.Reason{Code: wire.ReasonBadDocument, Text: err.Error()}
	case a.command.Status == wire.Request:
		a.problem = r.validate(&a.command)
	}
	select {
	case r.arrivals <- a:
	case <-r.closing: // not acknowledged: it comes again
	}
}

// validate tells what is wrong with the parameters of a request, if anything.
func (r *run) validate(c *wire.Command) *wire.Reason {
	if len(c.Params) == 0 {
		c.Params = []byte("{}")
	}
	h := r.commands[c.Cmd]
	if h.validate == nil {
		return nil
	}
	if err := h.validate(c.Params); err != nil {
		return &wire.Reason{Code: wire.ReasonBadParams, Text: clean(err.Error())}
	}
	return nil
}

func (r *run) onUp(u client.Up) {
	r.cameUp = true
	for _, s := range u.Refused {
		r.cfg.Logger.Error("device: the server refuses the subscription; no command will arrive", "filter", s.Filter)
	}
}

func (r *run) onDown() { r.up, r.cameUp = false, false }

// greet tells a server that has us again all that it should know: first what
// has ended, then what goes on, then that we are there.
func (r *run) greet() {
	r.pump()
	for _, tid := range r.ledger.InProgress() {
		r.sayAck(wire.Ack{TID: tid, Status: wire.Received})
	}
	r.sayOnline(time.Now())
	r.askState()
}

// tick does what is due by the clock.
func (r *run) tick() {
	now := time.Now()
	for _, j := range r.jobs {
		if !now.Before(j.due(r.cfg.Heartbeat)) {
			r.sayRunning(j, now)
		}
	}
	if r.up && !now.Before(r.nextPresence) {
		r.oweAll() // what the server refused
		r.pump()
		r.sayOnline(now)
		r.pumpState() // what the server refused
	}
}

// untilNext returns how long nothing will be due.
func (r *run) untilNext() time.Duration {
	next := time.Now().Add(time.Hour)
	if r.up {
		next = r.nextPresence
	}
	for _, j := range r.jobs {
		if due := j.due(r.cfg.Heartbeat); due.Before(next) {
			next = due
		}
	}
	return time.Until(next)
}

func (r *run) sayOnline(now time.Time) {
	r.nextPresence = now.Add(r.cfg.Presence)
	tids := r.ledger.InProgress()
	m, ok := r.status(wire.Status{Online: true, TS: r.cfg.Clock(), InProgress: tids[:min(len(tids), wire.MaxRunning)]})
	if !ok {
		return
	}
	if err := r.client.PublishAsync(m, nil); err != nil {
		r.cfg.Logger.Warn("device: cannot publish its status", "error", err)
	}
}

// status returns the message of a status document, or false when the profile
// has none.
func (r *run) status(s wire.Status) (client.Message, bool) {
	topic := r.cfg.Profile.StatusTopic(r.cfg.Address)
	if topic == "" {
		return client.Message{}, false
	}
	s.Boot = r.boot
	if s.Online {
		s.Firmware, s.Commands = r.cfg.Firmware, r.known()
	}
	b, err := r.cfg.Profile.AppendStatus(nil, s)
	if err != nil {
		r.cfg.Logger.Error("device: cannot write its status", "error", err)
		return client.Message{}, false
	}
	return client.Message{Topic: topic, Payload: b, QoS: mqtt.AtLeastOnce, Retain: true, ContentType: "application/json"}, true
}

// known lists the commands that have a handler; none when the list could not be
// whole, because the server refuses what is not in it.
func (r *run) known() []string {
	if len(r.commands) > wire.MaxCommands {
		return nil
	}
	names := slices.Sorted(maps.Keys(r.commands))
	if slices.ContainsFunc(names, func(n string) bool { return len(n) > wire.MaxCommand }) {
		return nil
	}
	return names
}

// will is what the server says when the device is gone without a word. It has
// no time: the server knows when, the device does not.
func (r *run) will() *mqtt.Will {
	m, ok := r.status(wire.Status{})
	if !ok {
		return nil
	}
	w := &mqtt.Will{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: true}
	if r.cfg.Version != mqtt.V311 {
		w.ContentType = m.ContentType
	}
	return w
}

// cutter remembers the connection, to cut it as a loss of power would.
type cutter struct {
	mu   sync.Mutex
	conn net.Conn
	cut  bool
}

func (c *cutter) wrap(dial func(context.Context) (net.Conn, error)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.cut {
			conn.Close()
			return nil, ErrPowerLoss
		}
		c.conn = conn
		return conn, nil
	}
}

// sever cuts the connection and lets no other be made.
func (c *cutter) sever() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	if c.conn != nil {
		c.conn.Close()
	}
}

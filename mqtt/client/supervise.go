package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client/internal/flow"
)

// supervise is the goroutine that owns the others: it connects, serves the
// connection until it ends, waits, and connects again.
func (c *Client) supervise() {
	defer close(c.done)
	defer c.kill()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(c.deliverLoop)
	wg.Go(c.resultLoop)
	defer c.abandon()

	failures := 0
	for {
		err := c.connectAndServe()
		if c.running.Err() != nil {
			return
		}
		if c.opts.Once {
			c.end(err)
			return
		}
		if lost, ok := errors.AsType[*lostError](err); ok && lost.after >= stable {
			failures = 0
		}
		failures++
		wait := c.opts.Backoff.after(failures, rand.Float64())
		if r, ok := errors.AsType[*ReasonError](err); ok && r.Permanent() {
			wait = c.opts.Backoff.hopeless(rand.Float64())
			c.setRefusal(err)
		}
		c.opts.Logger.Warn("mqtt: not connected", "error", err, "retry", wait)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-c.running.Done():
			timer.Stop()
			return
		}
	}
}

func (c *Client) setRefusal(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusal = err
	c.notify()
}

// end closes the client to new messages because of err. mu is not held.
func (c *Client) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping, c.refusal = true, err
	c.notify()
}

// lostError is the end of a connection that was up.
type lostError struct {
	cause error
	after time.Duration
}

func (e *lostError) Error() string { return "connection lost: " + e.cause.Error() }
func (e *lostError) Unwrap() error { return e.cause }

// connectAndServe tries each server in order and serves the first that takes
// us. It returns why there is no connection, or why it ended.
func (c *Client) connectAndServe() error {
	var failed []error
	for i := range c.servers {
		s := &c.servers[i]
		l, connack, err := c.connect(s)
		if err == nil {
			c.opts.Logger.Info("mqtt: connected", "server", s.name(), "session", connack.SessionPresent)
			return c.serve(l, connack)
		}
		if c.running.Err() != nil {
			return ErrStopped
		}
		failed = append(failed, fmt.Errorf("%s: %w", s.name(), err))
	}
	if len(failed) == 1 {
		return failed[0]
	}
	return errors.Join(failed...)
}

// connect dials one server and exchanges CONNECT and CONNACK.
func (c *Client) connect(s *server) (*link, *mqtt.Connack, error) {
	ctx, cancel := context.WithTimeout(c.running, c.opts.ConnectTimeout)
	defer cancel()
	conn, err := c.dial(ctx, s)
	if err != nil {
		return nil, nil, fmt.Errorf("dial: %w", err)
	}
	unhook := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	l := newLink(conn, int(c.opts.MaximumPacketSize), &c.mu)
	connack, err := c.handshake(l, s)
	if !unhook() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return l, connack, nil
}

// [MQTT-3.1.0-1]
func (c *Client) handshake(l *link, s *server) (*mqtt.Connack, error) {
	packet := c.connectPacket(s)
	var step AuthStep
	if c.opts.Auth != nil {
		step = c.opts.Auth()
		var err error
		if packet.AuthData, err = step(nil, false); err != nil {
			return nil, fmt.Errorf("authenticate: %w", err)
		}
		packet.AuthMethod = c.opts.AuthMethod
	}
	if c.opts.OnConnect != nil {
		if err := c.opts.OnConnect(packet); err != nil {
			return nil, fmt.Errorf("before CONNECT: %w", err)
		}
	}
	b, err := packet.Append(nil, c.opts.Version)
	if err != nil {
		return nil, fmt.Errorf("encode CONNECT: %w", err)
	}
	if _, err := l.conn.Write(b); err != nil {
		return nil, fmt.Errorf("write CONNECT: %w", err)
	}
	h, body, err := l.in.Next()
	for err == nil && h.Type == mqtt.TypeAuth {
		if err := c.answerAuth(l, step, h, body); err != nil {
			return nil, err
		}
		h, body, err = l.in.Next()
	}
	if err != nil {
		return nil, fmt.Errorf("read CONNACK: %w", err)
	}
	if h.Type != mqtt.TypeConnack { // [MQTT-3.2.0-1]
		return nil, &mqtt.Error{Code: mqtt.ProtocolError, Text: "the server's first packet is not CONNACK"}
	}
	connack := new(mqtt.Connack)
	if err := connack.Decode(h, body, c.opts.Version); err != nil {
		return nil, fmt.Errorf("decode CONNACK: %w", err)
	}
	if connack.Reason.Failed() {
		if connack.ServerReference != "" {
			c.opts.Logger.Warn("mqtt: the server refers to another", "reference", connack.ServerReference)
		}
		return nil, &ReasonError{mqtt.TypeConnack, connack.Reason, connack.ReasonString}
	}
	if connack.SessionPresent && packet.CleanStart { // [MQTT-3.2.2-4]
		return nil, &mqtt.Error{Code: mqtt.ProtocolError, Text: "the server resumes a session that was to start clean"}
	}
	if err := c.sameMethod(connack.AuthMethod); err != nil {
		return nil, err
	}
	if step != nil {
		if _, err := step(connack.AuthData, true); err != nil {
			return nil, fmt.Errorf("authenticate: %w", err)
		}
	}
	return connack, nil
}

func (c *Client) connectPacket(s *server) *mqtt.Connect {
	o := &c.opts
	c.mu.Lock()
	p := &mqtt.Connect{
		Version: o.Version, ClientID: c.clientID, CleanStart: !c.resumes(),
		KeepAlive:   uint16(wholeSeconds(o.KeepAlive)),
		HasUsername: o.Username != "", Username: o.Username,
		HasPassword: o.Password != nil, Password: o.Password,
	}
	c.mu.Unlock()
	if s.hasUser {
		p.HasUsername, p.Username = true, s.username
	}
	if s.hasPass {
		p.HasPassword, p.Password = true, s.password
	}
	if o.Will != nil {
		p.Will = o.Will()
	}
	if o.Version == mqtt.V5 {
		p.SessionExpirySeconds = wholeSeconds(o.SessionExpiry)
		p.ReceiveMaximum = o.ReceiveMaximum
		p.MaximumPacketSize = o.MaximumPacketSize
	}
	return p
}

// resumes reports whether the next CONNECT asks for the former session. mu is
// held.
func (c *Client) resumes() bool {
	switch {
	case !c.opts.CleanStart:
		return c.clientID != ""
	case c.opts.Version == mqtt.V311:
		return false
	}
	return c.connected && c.sessionExpiry > 0
}

// serve runs one connection until it ends, and returns why.
func (c *Client) serve(l *link, connack *mqtt.Connack) error {
	c.establish(l, connack)
	var wg sync.WaitGroup
	wg.Go(func() { c.writeLoop(l); close(l.writerDone) })
	wg.Go(func() { c.readLoop(l); close(l.readerDone) })

	refused, err := c.renew(l)
	wasUp := err == nil
	if wasUp {
		began := time.Now()
		c.setUp(true)
		if c.opts.OnUp != nil {
			c.opts.OnUp(Up{SessionPresent: connack.SessionPresent, Connack: *connack, Refused: refused})
		}
		err = &lostError{c.watch(l, c.keepAlive(connack)), time.Since(began)}
		c.setUp(false)
	}
	c.tearDown(l, err)
	wg.Wait()
	c.forgetLink()
	if wasUp && c.opts.OnDown != nil {
		if errors.Is(err, ErrStopped) {
			err = ErrStopped
		}
		c.opts.OnDown(err)
	}
	return err
}

func (c *Client) keepAlive(connack *mqtt.Connack) *flow.KeepAlive {
	k := &flow.KeepAlive{Interval: c.opts.KeepAlive}
	if connack.HasServerKeepAlive { // [MQTT-3.2.2-21] [MQTT-3.1.2-21]
		k.Interval = time.Duration(connack.ServerKeepAlive) * time.Second
	}
	k.Patience = min(max(k.Interval/2, time.Second), 10*time.Second)
	return k
}

func (c *Client) setUp(up bool) {
	c.mu.Lock()
	c.up = up
	if up {
		c.refusal = nil
	}
	c.notify()
	c.mu.Unlock()
}

// establish makes l the link: the core learns of it, and what is due goes into
// its buffer.
func (c *Client) establish(l *link, connack *mqtt.Connack) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if connack.AssignedClientID != "" {
		c.clientID = connack.AssignedClientID
	}
	c.sessionExpiry = wholeSeconds(c.opts.SessionExpiry)
	if connack.HasSessionExpiry {
		c.sessionExpiry = connack.SessionExpirySeconds
	}
	if connack.SessionPresent {
		c.dropInbox()
	}
	c.connected = true
	c.subscribed = c.subscribed && connack.SessionPresent
	c.link = l
	c.rcv.Up(connack.SessionPresent)
	limits := flow.LimitsOf(connack)
	limits.ReceiveMaximum = min(limits.ReceiveMaximum, c.opts.MaxInflight)
	l.maxPacket = int(limits.MaximumPacketSize)
	c.snd.Up(limits, connack.SessionPresent)
	c.paused = false
	c.epoch, c.unacked = c.epoch+1, 0
	c.arrived.Signal()
	// The publishes that wait are not yet pumped, see link.open: SUBSCRIBE goes
	// first, so that an answer to one of them finds its subscription made.
}

// watch keeps the connection alive until it fails, or Stop was called and what
// was published has its results.
func (c *Client) watch(l *link, keep *flow.KeepAlive) error {
	var tick <-chan time.Time
	var timer *time.Timer
	if keep.Interval > 0 {
		timer = time.NewTimer(time.Until(keep.Start(time.Now())))
		defer timer.Stop()
		tick = timer.C
	}
	stop := c.running.Done()
	var changed <-chan struct{} // nil until Stop
	for {
		select {
		case <-l.failed:
			return l.err
		case <-stop:
			stop = nil
			changed = c.flushed(l)
		case <-changed:
			changed = c.flushed(l)
		case <-c.life.Done():
			return ErrStopped
		case <-tick:
			timer.Reset(time.Until(c.tick(l, keep)))
		}
	}
}

// flushed ends the link if nothing is left to send or to wait for. Else the
// channel it returns says when to look again.
func (c *Client) flushed(l *link) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.snd.Len() == 0 && len(l.out) == 0 {
		c.fail(l, ErrStopped)
	}
	return c.changed
}

// tick is one look at the keep-alive.
func (c *Client) tick(l *link, keep *flow.KeepAlive) (next time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.readerWaits { // for OnMessage: silence is our own doing
		l.received++
	}
	ping, dead, next := keep.Tick(time.Now(), l.sent, l.received)
	switch {
	case dead:
		c.fail(l, errSilent)
	case ping && !l.dead:
		l.out, _ = (&mqtt.Pingreq{}).Append(l.out, c.opts.Version)
		l.ready.Signal()
	}
	return next
}

var errSilent = errors.New("the server does not answer PINGREQ")

package broker

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
)

// conn is one network connection. One goroutine reads it, from accept to close;
// a second one writes while there is something to write, and ends when there is
// not, so an idle connection costs one goroutine and no buffers but its own
// small one.
type conn struct {
	b        *Broker
	nc       net.Conn
	raw      syscall.RawConn // of nc, nil if it is more than a socket
	info     ConnInfo
	host     string      // for the count of half-open connections
	joined   atomic.Bool // client is set
	system   bool
	halved   bool    // counted as half-open
	handover bool    // see Broker.DialHandover
	queue    Queue   // of a connection of Dial
	deep     bool    // the turn that was taken needed much stack: of the reader
	client   *client // set once, when CONNECT is accepted
	identity Identity
	// challenge is set when the client has named an authentication method.
	challenge *challenge
	in        inbox
	small     [216]byte // what in reads into while little comes; with it a conn has 640 bytes
	timer     *time.Timer
	seen      atomic.Int64 // when something came last, as time since broker.epoch
	alive     time.Duration
	until     time.Time // when the certificate that the client came with is over; zero: never

	// guarded by client.mu, once there is a client
	ctl     []byte // answers to be written
	writing bool   // a writer is running or about to
	starved bool   // the store had nothing new; the next wake looks again
	ending  bool   // close when ctl is written
	closed  bool
	code    mqtt.ReasonCode
	wakes   uint // counts wake
	hold    int  // turns whose answers go before any message
	err     error
	room    sync.Cond // ctl, client.pending or debts went down, or closed
	debts   *debts    // PUBACKs that wait for a client which keeps its messages itself; nil: none
}

// Bounds of what one connection may have under way: beyond them it is not read
// from until the client takes its answers, and the store catches up.
const (
	maxAnswers = 64 << 10 // bytes
	maxPending = 16       // turns
)

// serve brings the connection in, and leaves it to a goroutine of its own that
// reads it to its end. That is a fresh one, because CONNECT needs a stack twice
// as large as waiting does, and a stack shrinks only when hardly used.
func (c *conn) serve() {
	c.in = newInbox(c.small[:], min(preAuthPacket, c.b.options.Limits.MaxPacketSize))
	if !c.handshake(&c.in) {
		c.b.forget(c)
		return
	}
	c.in.max = c.b.options.Limits.MaxPacketSize
	go c.read()
}

// drain waits until the last words are written, or the timer has closed.
func (c *conn) drain() {
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	for c.ending && c.writing && !c.closed {
		c.room.Wait()
	}
	c.closeLocked()
}

// read takes turns until the connection ends. What is on the stack while it
// waits for bytes is what an idle connection costs, so it is kept short; and
// after a turn that needed more, the wait goes to a fresh goroutine.
func (c *conn) read() {
	for c.turn() {
		if c.deep {
			c.deep = false
			go c.read()
			return
		}
		if !c.fill() {
			break
		}
	}
	c.in.drop()
	code, err := c.why()
	c.b.detach(c, code, err)
	c.drain()
	c.b.forget(c)
}

// fill reads once, and says false when nothing more will come.
func (c *conn) fill() bool {
	n, err := c.in.fill(c.nc)
	if err != nil {
		c.lost(err)
		return false
	}
	c.seen.Store(int64(time.Since(c.b.epoch)))
	c.b.count.bytesIn.Add(uint64(n))
	return true
}

// lost notes why reading failed, when no other reason for the end was found
// before.
func (c *conn) lost(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		err = nil
	}
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	if !c.ending && !c.closed && c.code == 0 {
		c.code, c.err = mqtt.UnspecifiedError, err
	}
}

// why is the reason for the end of the connection.
func (c *conn) why() (mqtt.ReasonCode, error) {
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	return c.code, c.err
}

// turn takes all packets that have arrived in full, as one turn, or as several
// when messages are limited by rate. It says false when the connection is to
// end.
func (c *conn) turn() bool {
	if len(c.in.rest()) == 0 {
		return true
	}
	for {
		more, ok := c.takeTurn()
		if !ok || !more {
			return ok
		}
	}
}

// takeTurn takes one turn. It says whether there are packets for another one,
// and whether the connection goes on.
func (c *conn) takeTurn() (more, ok bool) {
	if !c.waitRoom() {
		return false, false
	}
	t := c.b.newTurn(c)
	err := t.takeAll(&c.in)
	c.b.count.publishIn.Add(uint64(t.publish))
	t.settle()
	closing, tell, code := t.acts.Close, t.acts.Tell, t.acts.Code
	published, scanned, auth := t.publish, t.scanned, t.auth
	more = auth != nil || t.most > 0 && t.publish >= t.most
	t.finish()
	if err == nil && !closing && auth != nil {
		err = c.reauthenticate(auth)
	}
	switch {
	case closing && tell:
		c.end(code, nil)
	case closing:
		c.leave(code)
	case err != nil:
		c.end(codeOf(err), err) // [MQTT-4.12.1-2]
	default:
		c.pace(published, scanned)
		return more, true
	}
	return false, false
}

// takeAll takes the packets that are there in full, until one ends the
// connection or the turn has its share of messages.
func (t *turn) takeAll(in *inbox) error {
	now := time.Now()
	packets := uint64(0)
	defer func() { t.b.count.packetsIn.Add(packets) }()
	for !t.acts.Close && t.auth == nil && (t.most == 0 || t.publish < t.most) {
		h, body, ok, err := in.next()
		if err != nil || !ok {
			return err
		}
		packets++
		if err := t.take(h, body, now); err != nil {
			return err
		}
	}
	return nil
}

// settle does what the turn's packets asked for. What is stored goes through
// the hub as well, since the session may have ended meanwhile, and another have
// begun under its name.
func (t *turn) settle() {
	switch {
	case len(t.ops) > 0 || len(t.acts.Store) > 0 || len(t.acts.Ended) > 0:
		t.run()
	case len(t.acts.Send) > 0:
		t.commit()
	}
}

// waitRoom waits until the client has taken enough of its answers, and says
// false when the connection is to end instead.
func (c *conn) waitRoom() bool {
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	for !c.closed && !c.ending && (len(c.ctl) > maxAnswers || c.backlogged()) {
		c.room.Wait()
		c.seen.Store(int64(c.b.now())) // it was we who did not listen
	}
	return !c.closed && !c.ending
}

// backlogged tells whether the connection is not read from because the store, or who
// takes its messages, lags behind them. client.mu is held.
func (c *conn) backlogged() bool { return c.client.pending > maxPending || c.indebted() }

// codeOf is the reason code that an error brings to the client.
func codeOf(err error) mqtt.ReasonCode {
	var e *mqtt.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return mqtt.UnspecifiedError
}

// take decodes one packet and steps the session with it.
func (t *turn) take(h mqtt.Header, body []byte, now time.Time) error {
	var p mqtt.Packet
	switch h.Type {
	case mqtt.TypePublish:
		p = &t.packet
	case mqtt.TypePuback, mqtt.TypePubrec, mqtt.TypePubrel, mqtt.TypePubcomp:
		t.ack.Kind = h.Type
		p = &t.ack
	case mqtt.TypePingreq:
		t.conn.deep = true // an idle client sends it and is idle again
		p = &t.ping
	case mqtt.TypeConnect, mqtt.TypeConnack, mqtt.TypeSuback, mqtt.TypeUnsuback, mqtt.TypePingresp:
		// Not from a client that is connected [MQTT-3.1.0-2].
		return &mqtt.Error{Code: mqtt.ProtocolError, Text: "packet that no connected client sends"}
	default:
		p = mqtt.NewPacket(h.Type)
	}
	if err := p.Decode(h, body, t.conn.info.Version); err != nil { // [MQTT-4.13.1-1]
		return err
	}
	if a, ok := p.(*mqtt.Auth); ok && t.conn.challenge != nil {
		t.auth = a
		return nil
	}
	cl := t.from
	cl.mu.Lock()
	if cl.conn != t.conn {
		cl.mu.Unlock()
		t.acts.Close, t.acts.Code = true, mqtt.SessionTakenOver
		return nil
	}
	send := len(t.acts.Send)
	request := cl.core.Receive(p, now, &t.acts)
	t.count(cl)
	if h.Type >= mqtt.TypePuback && h.Type <= mqtt.TypePubcomp && len(t.acts.Send) == send {
		// The client's window may be open again.
		if w := cl.wake(); w != nil {
			t.wake = append(t.wake, w)
		}
	}
	cl.mu.Unlock()
	switch request {
	case session.Route:
		t.published(now)
	case session.Subscribe:
		t.conn.deep = true
		t.ops = append(t.ops, op{kind: request, subscribe: p.(*mqtt.Subscribe)})
	case session.Unsubscribe:
		t.ops = append(t.ops, op{kind: request, unsubscribe: p.(*mqtt.Unsubscribe)})
	}
	return nil
}

// published makes the PUBLISH in t.packet an op: a message to be routed, or the
// code why not.
func (t *turn) published(now time.Time) {
	p := &t.packet
	t.publish++
	topic := t.acts.Aliased
	if t.acts.Aliased = ""; topic == "" {
		topic = t.topic(p.Topic)
	}
	o := op{kind: session.Route, qos: p.QoS, id: p.PacketID}
	o.code = t.conn.mayPublish(topic) // of the topic an alias stands for, at every message
	if o.code.Failed() {
		t.drops = append(t.drops, Drop{Reason: session.DropDeniedPublish, ClientID: t.from.id, Topic: topic, QoS: p.QoS, Count: 1})
		t.ops = append(t.ops, o)
		return
	}
	if p.Retain && len(p.Payload) > 0 && t.b.retainRefused(topic) {
		t.b.count.retained.Add(1)
		t.drops = append(t.drops, Drop{Reason: session.DropRetainRefused, ClientID: t.from.id, Topic: topic, QoS: p.QoS, Count: 1})
		if t.conn.info.Version == mqtt.V5 {
			// No acknowledgement may carry 0x9A; the standard's answer is to
			// disconnect (3.14.2.1).
			t.acts.Close, t.acts.Tell, t.acts.Code = true, true, mqtt.RetainNotSupported
			return
		}
		p.Retain = false
	}
	t.conn.sign(p)
	o.message = session.NewMessage(p, topic, t.from.id, t.conn.info.Identity, now)
	t.ops = append(t.ops, o)
}

// mayPublish says whether the client may publish to a topic. Topics that begin
// with "$" belong to the broker.
func (c *conn) mayPublish(topic string) mqtt.ReasonCode {
	if topic[0] == '$' && (!c.system || isShare(topic)) {
		return mqtt.TopicNameInvalid
	}
	if !c.identity.MayPublish(topic) {
		return mqtt.NotAuthorized
	}
	return mqtt.Success
}

func isShare(topic string) bool {
	_, _, shared := mqtt.ParseShare(topic)
	return shared || topic == "$share"
}

// end tells the client why, and closes the connection when that is written.
func (c *conn) end(code mqtt.ReasonCode, err error) {
	c.client.mu.Lock()
	c.endLocked(code, err)
	c.client.mu.Unlock()
}

// linger is how long a client has to take the last words.
const linger = 2 * time.Second

func (c *conn) endLocked(code mqtt.ReasonCode, err error) {
	if c.ending || c.closed {
		return
	}
	c.ending = true
	c.code, c.err = code, err
	if c.info.Version == mqtt.V5 && code.ListedIn(mqtt.TypeDisconnect) { // [MQTT-3.14.2-1]
		c.ctl, _ = (&mqtt.Disconnect{Reason: code}).Append(c.ctl, mqtt.V5)
	}
	c.room.Broadcast()
	c.timer.Reset(linger)
	if !c.writing {
		c.writing = true
		c.startWriter()
	}
}

// leave closes the connection as the client asked, without a word
// [MQTT-3.14.4-2].
func (c *conn) leave(code mqtt.ReasonCode) {
	c.client.mu.Lock()
	if !c.ending {
		c.ending, c.code = true, code
		c.timer.Reset(linger)
		if !c.writing {
			c.writing = true
			c.startWriter()
		}
	}
	c.client.mu.Unlock()
}

// tick is called when the connection's timer runs out: before CONNECT is
// accepted that ends it; afterwards it looks when the client was heard last
// [MQTT-3.1.2-22].
func (c *conn) tick() {
	if !c.joined.Load() {
		_ = c.nc.Close()
		return
	}
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	switch {
	case c.closed:
	case c.ending:
		c.closeLocked()
	case c.over():
		c.endLocked(mqtt.NotAuthorized, errCertificate)
	case c.silence() <= 0 && c.backlogged(): // it is not read from
		c.timer.Reset(c.alive)
	case c.silence() <= 0:
		c.endLocked(mqtt.KeepAliveTimeout, nil)
	default:
		c.client.core.Trim()
		c.watch()
	}
}

// watch sets the timer to when tick has something to do next, if ever.
func (c *conn) watch() {
	wait := c.silence()
	if !c.until.IsZero() {
		wait = min(wait, time.Until(c.until))
	}
	if wait == never {
		c.timer.Stop()
		return
	}
	c.timer.Reset(wait)
}

const never = time.Duration(1<<63 - 1)

// errCertificate is why a connection ends whose certificate is over.
var errCertificate = errors.New("certificate expired")

func (c *conn) over() bool { return !c.until.IsZero() && !time.Now().Before(c.until) }

// silence is how long the client may still be silent.
func (c *conn) silence() time.Duration {
	if c.alive == 0 {
		return never
	}
	return c.alive - (time.Since(c.b.epoch) - time.Duration(c.seen.Load()))
}

// closeLocked closes the connection at once. client.mu is held.
func (c *conn) closeLocked() {
	if !c.closed {
		c.closed = true
		c.room.Broadcast()
		_ = c.nc.Close() // nothing is left to be told of a failure
	}
}

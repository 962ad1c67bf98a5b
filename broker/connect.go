package broker

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base32"
	"errors"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// handshake reads CONNECT, authenticates, and joins the session. It says false
// when the connection is over; then it is closed.
func (c *conn) handshake(in *inbox) bool {
	p, err := c.readConnect(in)
	if err == nil {
		err = c.accept(in, p)
	}
	if err == nil {
		return true
	}
	in.drop()
	c.refuse(p, err)
	return false
}

// errSilent is for peers that are owed no answer.
var errSilent = errors.New("closed before CONNECT")

// readConnect waits for the first packet, which must be CONNECT [MQTT-3.1.0-1].
// On an error the packet, if any, says what version was spoken.
func (c *conn) readConnect(in *inbox) (*mqtt.Connect, error) {
	if t, ok := c.nc.(*tls.Conn); ok {
		ctx, cancel := context.WithTimeout(context.Background(), c.b.options.Limits.ConnectTimeout)
		defer cancel()
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, err
		}
	}
	for {
		if rest := in.rest(); len(rest) > 0 && rest[0] != byte(mqtt.TypeConnect)<<4 {
			return nil, errSilent
		}
		h, body, ok, err := in.next()
		if err != nil {
			return nil, err
		}
		if ok {
			p := new(mqtt.Connect)
			err := p.Decode(h, body, 0)
			c.info.Version, c.info.ClientID = p.Version, p.ClientID
			return p, err
		}
		n, err := in.fill(c.nc)
		if err != nil {
			return nil, errSilent
		}
		c.b.count.bytesIn.Add(uint64(n))
	}
}

// refuse answers a CONNECT that is not accepted, where the standard has an
// answer, and closes [MQTT-3.2.2-7].
func (c *conn) refuse(p *mqtt.Connect, err error) {
	code := codeOf(err)
	if p != nil && p.Version != 0 && !errors.Is(err, errSilent) {
		_ = c.nc.SetWriteDeadline(time.Now().Add(linger))
		ack := mqtt.Connack{Reason: code}
		version := mqtt.V5
		if p.Version <= mqtt.V311 {
			version = mqtt.V311
		}
		// A 3.1.1 client whose CONNECT was malformed gets no answer: there is
		// no return code for it [MQTT-3.2.2-6 v3.1.1].
		if b, err := ack.Append(nil, version); err == nil {
			_, _ = c.nc.Write(b)
		}
	}
	_ = c.nc.Close() // [MQTT-3.1.4-1] [MQTT-3.1.4-6] [MQTT-3.14.0-1]
	c.timer.Stop()
	c.b.refused(c.info, code, err)
}

// refused counts a connection that was refused and tells of it: whoever wonders why
// a device does not come looks into the log. Those who ask for nothing, as probes do,
// are only counted.
func (b *Broker) refused(info ConnInfo, code mqtt.ReasonCode, err error) {
	if b.options.Events.Refused != nil {
		b.options.Events.Refused(info, code, err)
	}
	if errors.Is(err, errSilent) {
		b.count.silent.Add(1)
		return
	}
	switch now, soon := b.happened(&b.count.refused, 1); {
	case now:
		b.tellRefused("client", info.ClientID, "remote", info.Remote, "error", err)
	case soon:
		b.in(&b.count.refused, func() { b.tellRefused() })
	}
}

// tellRefused writes the line about the connections that were refused since the last one.
func (b *Broker) tellRefused(more ...any) {
	if n, total := b.count.refused.untold(); n > 0 {
		b.log.Warn("connections refused", append([]any{"count", n, "total", total}, more...)...)
	}
}

func refusal(code mqtt.ReasonCode, text string) error { return &mqtt.Error{Code: code, Text: text} }

// accept checks p, and gives the connection its session. Who the client is
// comes before anything is read or changed of any session.
func (c *conn) accept(in *inbox, p *mqtt.Connect) error {
	keepWill(p.Will)
	authenticate := c.authenticate // [MQTT-4.12.0-6]
	if p.AuthMethod != "" {
		authenticate = func(p *mqtt.Connect) (Identity, error) { return c.challenged(in, p) }
	}
	id, err := authenticate(p) // [MQTT-3.1.4-2]
	if err != nil {
		return err
	}
	c.identity, c.info.Identity = id, id.Name()
	if !c.system && !c.b.connects.allow("identity "+c.info.Identity, c.b.now()) {
		return refusal(mqtt.ConnectionRateExceeded, "identity connects too often")
	}
	if err := c.checkWill(p); err != nil {
		return err
	}
	assigned := ""
	if p.ClientID == "" { // [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16] [MQTT-3.1.3-5]
		var raw [15]byte
		_, _ = rand.Read(raw[:]) // never fails
		assigned = "auto-" + base32.HexEncoding.EncodeToString(raw[:])
		p.ClientID, c.info.ClientID = assigned, assigned
	}
	c.signWill(p.Will)
	return c.b.join(c, p, assigned)
}

func (c *conn) authenticate(p *mqtt.Connect) (Identity, error) {
	if c.system {
		return system, nil
	}
	ctx := &loginTime{Context: context.Background(), until: time.Now().Add(c.b.options.Limits.ConnectTimeout)}
	defer ctx.end()
	id, err := c.b.options.Authority.Authenticate(ctx, c.credentials(p))
	if err == nil && id == nil {
		err = errors.New("authority gave no identity")
	}
	return id, coded(err)
}

// credentials is what the client has shown.
func (c *conn) credentials(p *mqtt.Connect) Credentials {
	cred := Credentials{
		ClientID: p.ClientID, Username: p.Username, HasPassword: p.HasPassword, Password: p.Password,
		Remote: c.info.Remote, Listener: c.info.Listener,
	}
	switch nc := c.nc.(type) {
	case *tls.Conn:
		state := nc.ConnectionState()
		cred.TLS = &state
	case *webSocket:
		cred.TLS = nc.tls
	}
	if cert := cred.Certificate(); cert != nil {
		c.until = cert.NotAfter
	}
	return cred
}

// loginTime is a context that ends at a deadline. Most who get it never wait, and
// the timer, which is half of the garbage of a CONNECT, is made for the others.
type loginTime struct {
	context.Context
	until  time.Time
	begin  sync.Once
	timed  context.Context // set by begin
	cancel context.CancelFunc
}

func (p *loginTime) started() context.Context {
	p.begin.Do(func() { p.timed, p.cancel = context.WithDeadline(p.Context, p.until) })
	return p.timed
}

func (p *loginTime) Deadline() (time.Time, bool) { return p.until, true }
func (p *loginTime) Done() <-chan struct{}       { return p.started().Done() }
func (p *loginTime) Err() error                  { return p.started().Err() }

// end ends the context, for those who still have it.
func (p *loginTime) end() {
	p.begin.Do(func() { p.timed, p.cancel = ended, func() {} })
	p.cancel()
}

// ended is a context that is over.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// checkWill holds the will to what its publication will need.
func (c *conn) checkWill(p *mqtt.Connect) error {
	w := p.Will
	if w == nil {
		return nil
	}
	if code := c.mayPublish(w.Topic); code.Failed() {
		return refusal(code, "will topic")
	}
	if w.Retain && len(w.Payload) > 0 && c.b.retainRefused(w.Topic) {
		c.b.count.retained.Add(1)
		if p.Version == mqtt.V5 {
			return refusal(mqtt.RetainNotSupported, "retained will")
		}
		w.Retain = false
	}
	return nil
}

// keepWill copies what a will, which may be nil, borrows of its packet: it outlives
// that.
func keepWill(w *mqtt.Will) {
	if w == nil {
		return
	}
	w.Payload = append([]byte{}, w.Payload...)
	if w.CorrelationData != nil {
		w.CorrelationData = append([]byte{}, w.CorrelationData...)
	}
}

// granted is the session expiry interval that p gets, in seconds. The embedding
// program gets what it asks for: what is queued for it waits as long as it is
// stopped.
func (c *conn) granted(p *mqtt.Connect) uint32 {
	limit := uint32(min(c.b.options.Limits.SessionExpiry/time.Second, 1<<32-1))
	if c.system {
		limit = 1<<32 - 1
	}
	if p.Version == mqtt.V311 { // [MQTT-3.1.2-5 v3.1.1]
		if p.CleanStart {
			return 0
		}
		return limit
	}
	return min(p.SessionExpirySeconds, limit)
}

// join gives an authenticated connection its session, old or new.
func (b *Broker) join(c *conn, p *mqtt.Connect, assigned string) error {
	t := b.newTurn(nil)
	defer t.finish()
	h := &b.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if b.stopping.Load() {
		return refusal(mqtt.ServerUnavailable, "shutting down")
	}
	now := time.Now()
	cl := h.clients[p.ClientID] // [MQTT-3.1.3-2] [MQTT-3.1.4-4]
	if cl != nil && cl.owner != c.info.Identity {
		return refusal(mqtt.NotAuthorized, "client identifier belongs to another identity") // [MQTT-3.1.3-8]
	}
	if cl != nil && cl.conn != nil && !b.takeovers.allow(p.ClientID, b.now()) {
		return refusal(mqtt.ConnectionRateExceeded, "client identifier is fought over")
	}
	if cl == nil { // else nothing is added, also when this begins a session anew
		if err := b.roomForSession(c); err != nil {
			return err
		}
	} else {
		t.takeOver(cl, p.CleanStart, now)
		if cl.ended {
			cl = nil
		}
	}
	present := cl != nil // [MQTT-3.1.2-5]
	if cl == nil {
		cl = &client{id: p.ClientID, owner: c.info.Identity, core: session.New(&b.limits)} // [MQTT-3.1.2-6]
		h.add(cl)
	}
	t.move(cl, tenantOf(c.identity))
	t.attach(cl, c, p)
	t.connectedShares(cl)
	t.from, t.conn = cl, c
	t.acts.Send = c.connack(t.acts.Send, p, present, assigned) // [MQTT-3.1.4-5] [MQTT-3.2.0-2]
	t.held++
	t.commit()
	t.joined, t.present = c, present
	return nil
}

// roomForSession tells whether there may be one more session, of c's identity. The
// hub's mutex is held.
func (b *Broker) roomForSession(c *conn) error {
	switch h, l := &b.hub, &b.options.Limits; {
	case len(h.clients) >= l.Sessions:
		return refusal(mqtt.QuotaExceeded, "too many sessions")
	case !c.system && h.owners[c.info.Identity] >= l.IdentitySessions:
		return refusal(mqtt.QuotaExceeded, "identity has too many sessions")
	}
	return nil
}

// takeOver makes a session free for a new connection: an old one is told and
// closed [MQTT-3.1.4-3], and a clean start ends the session [MQTT-3.1.2-4].
func (t *turn) takeOver(cl *client, clean bool, now time.Time) {
	if old := cl.conn; old != nil {
		cl.mu.Lock()
		old.endLocked(mqtt.SessionTakenOver, nil)
		cl.mu.Unlock()
		t.detach(cl, now)
	}
	if cl.ended {
		return
	}
	if cl.timer != nil {
		cl.timer.Stop()
		cl.timer = nil
	}
	if clean {
		t.endSession(cl, now)
	}
}

// attach connects c to cl.
func (t *turn) attach(cl *client, c *conn, p *mqtt.Connect) {
	expiry := c.granted(p)
	cl.mu.Lock()
	cl.conn, cl.identity = c, c.identity
	cl.core.Attach(session.Link{
		Version: p.Version, ReceiveMaximum: p.ReceiveMaximum, MaximumPacketSize: p.MaximumPacketSize,
		TopicAliasMaximum: p.TopicAliasMaximum, ExpirySeconds: expiry, Will: p.Will,
		Overflow: c.overflow(), Handover: c.handover,
		QueueMessages: c.queue.Messages, QueueBytes: c.queue.Bytes, Numbered: c.queue.Numbered,
	})
	cl.window = cl.core.Window()
	if cl.kept || cl.core.Stored() || p.Will != nil {
		cl.kept = true
		t.batch.Add(store.Op{Kind: store.PutSession, Record: cl.record(time.Time{})})
	}
	c.client, c.room.L = cl, &cl.mu
	c.hold++ // CONNACK comes first [MQTT-3.2.0-1]
	c.joined.Store(true)
	c.seen.Store(int64(time.Since(t.b.epoch)))
	c.alive = t.b.keepAlive(p) * 3 / 2
	c.watch()
	cl.mu.Unlock()
}

// keepAlive is the keep alive in force for p, 0 for none.
func (b *Broker) keepAlive(p *mqtt.Connect) time.Duration {
	asked := time.Duration(p.KeepAlive) * time.Second
	if limit := b.options.Limits.KeepAlive; p.Version == mqtt.V5 && (asked == 0 || asked > limit) {
		return limit
	}
	return asked // [MQTT-3.2.2-22]
}

// connack encodes the acceptance of p.
func (c *conn) connack(dst []byte, p *mqtt.Connect, present bool, assigned string) []byte {
	a := mqtt.Connack{SessionPresent: present} // [MQTT-3.2.2-2] [MQTT-3.2.2-3] [MQTT-3.1.2-28]
	if p.Version == mqtt.V5 {
		l := &c.b.options.Limits
		a.AssignedClientID = assigned
		a.ReceiveMaximum = l.ReceiveMaximum
		a.MaximumPacketSize = uint32(l.MaxPacketSize)
		a.TopicAliasMaximum = l.TopicAliasMaximum
		if granted := c.granted(p); granted != p.SessionExpirySeconds {
			a.HasSessionExpiry, a.SessionExpirySeconds = true, granted
		}
		if keep := c.b.keepAlive(p); keep != time.Duration(p.KeepAlive)*time.Second {
			a.HasServerKeepAlive, a.ServerKeepAlive = true, uint16(keep/time.Second)
		}
		if x := c.challenge; x != nil { // [MQTT-4.12.0-5]
			a.AuthMethod, a.AuthData, x.last = x.method, x.last, nil
		}
	}
	dst, err := a.Append(dst, p.Version)
	if err != nil {
		c.b.log.Error("CONNACK cannot be encoded", "error", err)
	}
	return dst
}

package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/pipe"
)

func TestMain(m *testing.M) {
	// net/http sleeps for half a second after it has refused a request.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// start runs a broker for the length of a test.
func start(t testing.TB, o Options) *Broker {
	t.Helper()
	if o.Authority == nil {
		o.Authority = AllowAnonymous()
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, b) })
	return b
}

func stop(t testing.TB, b *Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
	want := b.hub.index.idle()
	for _, c := range b.hub.clients {
		n, bytes := c.core.Queued()
		want.count, want.bytes = want.count+n, want.bytes+bytes
	}
	if n, bytes := b.Waiting(); n != want.count || bytes != want.bytes {
		t.Errorf("%d messages of %d bytes were counted as waiting, and %v are", n, bytes, want)
	}
}

// peer is a client that says exactly what a test tells it to.
type peer struct {
	t       testing.TB
	nc      net.Conn
	in      *mqtt.Reader
	version mqtt.Version
}

// open gives a connection that came in like one of a listener, but in memory.
func open(t testing.TB, b *Broker) *peer {
	t.Helper()
	near, far := pipe.Pipe()
	c := b.newConn(far, "memory", false)
	if !b.admit(c) {
		t.Fatal("not admitted")
	}
	go c.serve()
	t.Cleanup(func() { _ = near.Close() })
	return newPeer(t, near)
}

func newPeer(t testing.TB, nc net.Conn) *peer {
	return &peer{t: t, nc: nc, in: mqtt.NewReader(nc, 0), version: mqtt.V5}
}

// patience is how long a peer waits for what must come.
const patience = time.Minute

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.nc.Write(b); err != nil {
		p.t.Fatalf("write: %v", err)
	}
}

func (p *peer) send(list ...mqtt.Packet) {
	p.t.Helper()
	var b []byte
	for _, x := range list {
		var err error
		if b, err = x.Append(b, p.version); err != nil {
			p.t.Fatalf("encode %T: %v", x, err)
		}
	}
	p.write(b)
}

// next reads one packet, which owns its bytes.
func (p *peer) next() (mqtt.Packet, error) {
	if err := p.nc.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	h, body, err := p.in.Next()
	if err != nil {
		return nil, err
	}
	return mqtt.DecodePacket(h, bytes.Clone(body), p.version)
}

func (p *peer) must() mqtt.Packet {
	p.t.Helper()
	x, err := p.next()
	if err != nil {
		p.t.Fatalf("read: %v", err)
	}
	return x
}

// expect reads as many packets as are wanted, and compares.
func (p *peer) expect(want ...mqtt.Packet) {
	p.t.Helper()
	for _, w := range want {
		got := p.must()
		if !reflect.DeepEqual(plain(got), plain(w)) {
			p.t.Fatalf("got  %s\nwant %s", show(got), show(w))
		}
	}
}

// plain makes packets comparable: empty slices are nil.
func plain(x mqtt.Packet) string { return show(x) }

func show(x mqtt.Packet) string {
	if p, ok := x.(*mqtt.Publish); ok {
		s := fmt.Sprintf("PUBLISH %s %q id=%d qos=%d dup=%v retain=%v", p.Topic, p.Payload, p.PacketID, p.QoS, p.Dup, p.Retain)
		if p.HasExpiry {
			s += fmt.Sprintf(" expiry=%d", p.ExpirySeconds)
		}
		if p.TopicAlias != 0 {
			s += fmt.Sprintf(" alias=%d", p.TopicAlias)
		}
		if len(p.SubscriptionIDs) > 0 {
			s += fmt.Sprintf(" subs=%v", p.SubscriptionIDs)
		}
		if p.PayloadUTF8 {
			s += " utf8"
		}
		if p.ContentType != nil {
			s += fmt.Sprintf(" type=%s", p.ContentType)
		}
		if len(p.ResponseTopic) > 0 {
			s += fmt.Sprintf(" response=%s", p.ResponseTopic)
		}
		if p.HasCorrelation {
			s += fmt.Sprintf(" correlation=%q", p.CorrelationData)
		}
		for _, u := range p.User {
			s += fmt.Sprintf(" %s=%s", u.Key, u.Value)
		}
		return s
	}
	return fmt.Sprintf("%s %+v", x.Type(), x)
}

// closed expects that the broker closes the connection without another word.
func (p *peer) closed() {
	p.t.Helper()
	x, err := p.next()
	if err == nil {
		p.t.Fatalf("got %s, want the end", show(x))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatal("still open")
	}
}

// quiet expects that nothing comes: a PINGREQ is answered first.
func (p *peer) quiet() {
	p.t.Helper()
	p.send(&mqtt.Pingreq{})
	p.expect(&mqtt.Pingresp{})
}

// finished waits until the broker has done with what p sent, and with what has to
// wait for its answers; a first PINGREQ may be read together with what came before.
func (p *peer) finished() {
	p.t.Helper()
	p.quiet()
	p.quiet()
}

// connect sends CONNECT, and expects to be let in; it returns CONNACK.
func (p *peer) connect(c mqtt.Connect) *mqtt.Connack {
	p.t.Helper()
	p.sendConnect(c)
	a, ok := p.must().(*mqtt.Connack)
	if !ok || a.Reason != mqtt.Success {
		p.t.Fatalf("CONNACK: %+v", a)
	}
	return a
}

func (p *peer) sendConnect(c mqtt.Connect) {
	p.t.Helper()
	if c.Version == 0 {
		c.Version = mqtt.V5
	}
	p.version = c.Version
	p.send(&c)
}

// join opens a connection and connects.
func join(t testing.TB, b *Broker, c mqtt.Connect) *peer {
	t.Helper()
	p := open(t, b)
	p.connect(c)
	return p
}

func clean(id string) mqtt.Connect { return mqtt.Connect{ClientID: id, CleanStart: true} }

// lasting is a session of an hour.
func lasting(id string) mqtt.Connect {
	return mqtt.Connect{ClientID: id, SessionExpirySeconds: 3600}
}

func (p *peer) subscribe(qos mqtt.QoS, filters ...string) {
	p.t.Helper()
	s := mqtt.Subscribe{PacketID: 9}
	a := mqtt.Suback{PacketID: 9}
	for _, f := range filters {
		s.Subscriptions = append(s.Subscriptions, mqtt.Subscription{Filter: f, QoS: qos})
		a.Reasons = append(a.Reasons, mqtt.ReasonCode(qos))
	}
	p.send(&s)
	p.expect(&a)
}

func pub(topic, payload string, qos mqtt.QoS, id uint16) *mqtt.Publish {
	return &mqtt.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, PacketID: id}
}

func dup(p *mqtt.Publish) *mqtt.Publish {
	p.Dup = true
	return p
}

func ack(kind mqtt.Type, id uint16, code ...mqtt.ReasonCode) *mqtt.Ack {
	a := &mqtt.Ack{Kind: kind, PacketID: id}
	if len(code) > 0 {
		a.Reason = code[0]
	}
	return a
}

// drop cuts the connection without DISCONNECT, and waits until the broker knows.
func (p *peer) drop(b *Broker, id string) {
	p.t.Helper()
	_ = p.nc.Close()
	eventually(p.t, func() bool {
		b.hub.mu.Lock()
		defer b.hub.mu.Unlock()
		cl := b.hub.clients[id]
		return cl == nil || cl.conn == nil
	})
}

// eventually polls; it is for states that no signal tells of.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		if ok() {
			return
		}
	}
	t.Fatal("did not happen")
}

// counted waits until so many messages are counted as dropped, which is after
// clients have seen what came of it.
func counted(t testing.TB, b *Broker, reason session.DropReason, want uint64) {
	t.Helper()
	eventually(t, func() bool { return b.Stats().Dropped[reason] >= want })
	if n := b.Stats().Dropped[reason]; n != want {
		t.Errorf("%d dropped: %s; want %d", n, reason, want)
	}
}

package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/pipe"
)

// The tests named by a letter and two digits are the rows of docs/attacks.csv.

// rest is everything that still comes until the broker closes.
func (p *peer) rest() []byte {
	p.t.Helper()
	_ = p.nc.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(p.nc)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// refused expects that CONNECT is answered with a code, and the end.
func refused(t *testing.T, b *Broker, c mqtt.Connect, code mqtt.ReasonCode) {
	t.Helper()
	p := open(t, b)
	p.sendConnect(c)
	p.expect(&mqtt.Connack{Reason: code})
	p.closed()
}

func TestA08_FirstPacketIsNotConnect(t *testing.T) {
	b := start(t, Options{})
	for kind := range byte(16) {
		if kind == byte(mqtt.TypeConnect) {
			continue
		}
		for _, body := range []string{"\x00", "\x02\x00\x01", "\x03\x00\x00\x00"} {
			p := open(t, b)
			_, _ = p.nc.Write(append([]byte{kind << 4}, body...)) // may be closed before its end
			if out := p.rest(); len(out) > 0 {
				t.Errorf("type %d is answered with %x", kind, out)
			}
		}
	}
	eventually(t, func() bool { s := b.Stats(); return s.Connections == 0 && s.Sessions == 0 })
}

func TestA09_ServerPacketsFromAClient(t *testing.T) {
	b := start(t, Options{})
	for _, in := range []string{"20 03 00 00 00", "90 04 0001 00 00", "b0 04 0001 00 00", "d0 00"} {
		p := join(t, b, clean("x"))
		p.write(unhex(t, in))
		p.expect(&mqtt.Disconnect{Reason: mqtt.ProtocolError})
		p.closed()
	}
}

func TestA20_SlowSenderBeforeConnect(t *testing.T) {
	virtual(t, Options{Limits: Limits{ConnectTimeout: 5 * time.Second, HalfOpen: 2}}, func(t *testing.T, b *Broker) {
		slow := open(t, b)
		from := time.Now()
		for _, x := range []byte{0x10, 0x0d, 0, 4} {
			slow.write([]byte{x})
			pass(time.Second)
		}
		silent := open(t, b)
		if near, far := net.Pipe(); b.admit(b.newConn(far, "", false)) {
			t.Error("a third half-open connection of one address")
		} else {
			_ = near.Close()
		}
		slow.closed()
		if d := time.Since(from); d != 5*time.Second {
			t.Errorf("bytes kept the connection for %v", d)
		}
		silent.closed()
		join(t, b, clean("welcome")) // the places are free again
	})
}

func TestB01_SecondConnect(t *testing.T) {
	b := start(t, Options{})
	sub := join(t, b, clean("sub"))
	sub.subscribe(0, "will")
	p := join(t, b, withWill(lasting("x"), 0))
	p.subscribe(1, "t")
	c := lasting("x")
	c.Version = mqtt.V5
	p.send(&c)
	p.expect(&mqtt.Disconnect{Reason: mqtt.ProtocolError})
	p.closed()
	sub.expect(pub("will", "gone", 0, 0))
	again := open(t, b)
	if !again.connect(lasting("x")).SessionPresent {
		t.Error("the session is gone")
	}
}

// victim is a session with a queued message that others are after.
func victim(t *testing.T) (*Broker, *peer) {
	b := start(t, Options{Authority: door{"alice": trusted("alice"), "mallory": trusted("mallory")}})
	alice := join(t, b, as("alice", lasting("a")))
	alice.subscribe(1, "t", "will")
	alice.drop(b, "a")
	from := join(t, b, as("alice", clean("from")))
	from.publish(pub("t", "secret", 1, 1))
	return b, from
}

// unharmed shows that the victim's session has what it had.
func unharmed(t *testing.T, b *Broker) {
	t.Helper()
	alice := open(t, b)
	if !alice.connect(as("alice", lasting("a"))).SessionPresent {
		t.Fatal("the session is gone")
	}
	alice.expect(pub("t", "secret", 1, 1))
	alice.quiet()
}

func TestB05_AnotherUserTakesTheClientIdentifier(t *testing.T) {
	b, _ := victim(t)
	refused(t, b, as("mallory", lasting("a")), mqtt.NotAuthorized)
	unharmed(t, b)
	live := join(t, b, as("alice", lasting("live")))
	refused(t, b, as("mallory", lasting("live")), mqtt.NotAuthorized)
	live.quiet() // still connected
}

func TestB06_AnotherUserStartsClean(t *testing.T) {
	b, _ := victim(t)
	refused(t, b, as("mallory", clean("a")), mqtt.NotAuthorized)
	unharmed(t, b)
}

func TestB07_BadPasswordAndCleanStart(t *testing.T) {
	b, _ := victim(t)
	c := as("alice", clean("a"))
	c.Password = []byte("guess")
	refused(t, b, c, mqtt.BadUserNameOrPassword)
	unharmed(t, b)
}

func TestB08_BadPasswordAndWill(t *testing.T) {
	b, _ := victim(t)
	c := as("alice", withWill(clean("other"), 0))
	c.Password = []byte("guess")
	refused(t, b, c, mqtt.BadUserNameOrPassword)
	unharmed(t, b) // it is subscribed to the topic of the will
}

func TestB09_TakeoverFight(t *testing.T) {
	var alarms atomic.Int32
	o := Options{Limits: Limits{Takeovers: 5}, Events: Events{Refused: func(c ConnInfo, code mqtt.ReasonCode, _ error) {
		if c.ClientID == "x" && code == mqtt.ConnectionRateExceeded {
			alarms.Add(1)
		}
	}}}
	virtual(t, o, func(t *testing.T, b *Broker) {
		p := join(t, b, lasting("x"))
		p.subscribe(1, "t")
		for range 5 {
			q := join(t, b, lasting("x"))
			p.expect(&mqtt.Disconnect{Reason: mqtt.SessionTakenOver})
			p.closed()
			p = q
		}
		for range 100 {
			refused(t, b, lasting("x"), mqtt.ConnectionRateExceeded)
		}
		p.quiet() // the one that is there stays
		synctest.Wait()
		if n := alarms.Load(); n != 100 {
			t.Errorf("%d were told of", n)
		}
		from := join(t, b, clean("from"))
		from.publish(pub("t", "1", 1, 1))
		p.expect(pub("t", "1", 1, 1))
		pass(time.Second)
		q := join(t, b, lasting("x")) // slowly, it may
		p.expect(&mqtt.Disconnect{Reason: mqtt.SessionTakenOver})
		q.expect(dup(pub("t", "1", 1, 1)))
		q.drop(b, "x")
		for range 50 { // to come back to what nobody holds is no fight
			p = open(t, b)
			p.connect(lasting("x"))
			p.drop(b, "x")
		}
	})
}

func TestB13_AssignedIdentifiers(t *testing.T) {
	b := start(t, Options{})
	seen := map[string]bool{}
	for range 200 {
		id := open(t, b).connect(mqtt.Connect{CleanStart: true}).AssignedClientID
		if seen[id] || len(id) < len("auto-")+24 {
			t.Fatalf("%q", id)
		}
		seen[id] = true
	}
}

func TestB14_KeepAlive(t *testing.T) {
	virtual(t, Options{Limits: Limits{KeepAlive: time.Minute}}, func(t *testing.T, b *Broker) {
		sub := join(t, b, mqtt.Connect{ClientID: "sub", Version: mqtt.V311, CleanStart: true})
		sub.subscribe(0, "will")
		for _, asked := range []uint16{0, 65535} {
			c := withWill(clean("x"), 0)
			c.KeepAlive = asked
			p := open(t, b)
			if a := p.connect(c); !a.HasServerKeepAlive || a.ServerKeepAlive != 60 {
				t.Errorf("%+v", a)
			}
			if d := p.elapsed(&mqtt.Disconnect{Reason: mqtt.KeepAliveTimeout}); d != 90*time.Second {
				t.Errorf("after %v", d)
			}
			p.closed()
			sub.expect(pub("will", "gone", 0, 0))
		}
	})
}

// Shows [B10g].
func TestB15_SessionsThatNeverEnd(t *testing.T) {
	b := start(t, Options{Limits: Limits{Sessions: 3, SessionExpiry: time.Hour}})
	for i := range 3 {
		p := open(t, b)
		c := lasting(fmt.Sprint("x", i))
		c.SessionExpirySeconds = 0xFFFFFFFF
		if a := p.connect(c); !a.HasSessionExpiry || a.SessionExpirySeconds != 3600 {
			t.Errorf("%+v", a)
		}
		p.drop(b, c.ClientID)
	}
	refused(t, b, lasting("one too many"), mqtt.QuotaExceeded) // the newest is refused, none is ended for it
	p := open(t, b)
	if !p.connect(lasting("x0")).SessionPresent {
		t.Error("a session was ended for a newcomer")
	}
	// One identity does not take the room of the others.
	c := start(t, Options{Limits: Limits{IdentitySessions: 2}, Authority: door{"a": trusted("a"), "b": trusted("b")}})
	one := join(t, c, as("a", clean("1")))
	join(t, c, as("a", lasting("2")))
	refused(t, c, as("a", clean("3")), mqtt.QuotaExceeded)
	join(t, c, as("b", clean("4")))
	one.send(&mqtt.Disconnect{})
	one.closed()
	eventually(t, func() bool { return c.Stats().Sessions == 2 })
	join(t, c, as("a", clean("3")))
}

func TestB16_ExpiryRaisedAtDisconnect(t *testing.T) {
	b := start(t, Options{})
	p := join(t, b, clean("x"))
	p.send(&mqtt.Disconnect{HasSessionExpiry: true, SessionExpirySeconds: 60})
	p.expect(&mqtt.Disconnect{Reason: mqtt.ProtocolError})
	p.closed()
	if open(t, b).connect(lasting("x")).SessionPresent {
		t.Error("the session lived on")
	}
}

func TestB17_AuthenticationMethods(t *testing.T) {
	b := start(t, Options{})
	refused(t, b, mqtt.Connect{ClientID: "x", AuthMethod: "SCRAM-SHA-256"}, mqtt.BadAuthenticationMethod)
	for _, code := range []mqtt.ReasonCode{mqtt.ContinueAuthentication, mqtt.ReAuthenticate} {
		p := join(t, b, clean("x"))
		p.send(&mqtt.Auth{Reason: code, Method: "SCRAM-SHA-256"})
		p.expect(&mqtt.Disconnect{Reason: mqtt.ProtocolError})
		p.closed()
	}
}

func TestB18_RevokedWhileConnected(t *testing.T) {
	var revoked atomic.Bool
	u := trusted("u")
	u.noPublish, u.noDelivery = revoked.Load, revoked.Load
	b := start(t, Options{Authority: door{"u": u, "all": trusted("all")}})
	sub := join(t, b, as("all", clean("sub")))
	sub.subscribe(0, "#")
	p := join(t, b, as("u", withWill(lasting("x"), 0)))
	p.subscribe(1, "t")
	revoked.Store(true)
	sub.publish(pub("t", "late", 1, 1))
	sub.expect(pub("t", "late", 0, 0))
	if b.Disconnect("u", mqtt.NotAuthorized) != 1 {
		t.Error("not found")
	}
	p.expect(&mqtt.Disconnect{Reason: mqtt.NotAuthorized}) // and no message before it
	p.closed()
	eventually(t, func() bool { return b.Stats().Dropped[session.DropDeniedPublish] == 1 })
	sub.quiet() // no will
}

// A slow or failing authority refuses, and holds up nobody else.
func TestE10_AuthorityThatHangs(t *testing.T) {
	hang := authorityFunc2(func(ctx context.Context, c Credentials) (Identity, error) {
		if c.Username == "" {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return trusted("all"), nil
	})
	virtual(t, Options{Authority: hang, Limits: Limits{ConnectTimeout: 5 * time.Second, HalfOpen: 10}}, func(t *testing.T, b *Broker) {
		var waiting []*peer
		for i := range 9 {
			p := open(t, b)
			p.sendConnect(clean(fmt.Sprint(i)))
			waiting = append(waiting, p)
		}
		other := join(t, b, as("all", clean("other")))
		other.quiet()
		if b.admit(b.newConn(nopConn{}, "", false)) != true || b.admit(b.newConn(nopConn{}, "", false)) {
			t.Error("the number of open questions is not bounded")
		}
		for _, p := range waiting {
			if x, err := p.next(); err == nil {
				if a, ok := x.(*mqtt.Connack); !ok || !a.Reason.Failed() {
					t.Errorf("let in: %s", show(x))
				}
			}
		}
		b.mu.Lock()
		var stuck []*conn
		for c := range b.conns {
			if _, ok := c.nc.(nopConn); ok {
				stuck = append(stuck, c)
			}
		}
		b.mu.Unlock()
		for _, c := range stuck {
			b.forget(c)
		}
	})
}

type authorityFunc2 func(context.Context, Credentials) (Identity, error)

func (f authorityFunc2) Authenticate(ctx context.Context, c Credentials) (Identity, error) {
	return f(ctx, c)
}

// nopConn is a connection that came from the same address as those of open.
type nopConn struct{ net.Conn }

func (nopConn) Close() error         { return nil }
func (nopConn) RemoteAddr() net.Addr { near, _ := net.Pipe(); return near.RemoteAddr() }

func TestF01_ConnectFlood(t *testing.T) {
	virtual(t, Options{Limits: Limits{ConnectRate: 10}}, func(t *testing.T, b *Broker) {
		there := join(t, b, clean("there"))
		admitted := 1
		for range 100_000 {
			near, far := net.Pipe()
			if c := b.newConn(far, "", false); b.admit(c) {
				admitted++
				b.forget(c)
			}
			_ = near.Close()
		}
		if admitted != 20 {
			t.Errorf("%d admitted at once, want twice the rate", admitted)
		}
		there.quiet()
		pass(time.Second)
		join(t, b, clean("later"))
	})
}

// Everybody is back at once with a full queue: each gets its own, in order.
func TestF02_EverybodyComesBack(t *testing.T) {
	const clients, messages = 200, 50
	b := start(t, Options{Limits: Limits{Window: 16}})
	for i := range clients {
		p := join(t, b, lasting(fmt.Sprint(i)))
		p.subscribe(1, "all")
		p.drop(b, fmt.Sprint(i))
	}
	from := join(t, b, clean("from"))
	for i := range messages {
		from.publish(pub("all", fmt.Sprint(i), 1, 1))
	}
	done := make(chan error, clients)
	for i := range clients {
		p := open(t, b)
		go func() { done <- p.drain(lasting(fmt.Sprint(i)), messages) }()
	}
	for range clients {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// drain connects, and takes n numbered messages in order.
func (p *peer) drain(c mqtt.Connect, n int) error {
	c.Version = mqtt.V5
	out, err := c.Append(nil, mqtt.V5)
	if err != nil {
		return err
	}
	if _, err := p.nc.Write(out); err != nil {
		return err
	}
	for i := -1; i < n; i++ {
		x, err := p.next()
		if err != nil {
			return err
		}
		m, ok := x.(*mqtt.Publish)
		if i < 0 || ok && string(m.Payload) == fmt.Sprint(i) {
			if ok {
				out, _ = ack(mqtt.TypePuback, m.PacketID).Append(out[:0], mqtt.V5)
				if _, err := p.nc.Write(out); err != nil {
					return err
				}
			}
			continue
		}
		return fmt.Errorf("%s instead of message %d", show(x), i)
	}
	return nil
}

// A certificate that is over ends its connection.
func TestB18_CertificateExpires(t *testing.T) {
	virtual(t, Options{}, func(t *testing.T, b *Broker) {
		ca := testkit.NewCA(t)
		near, far := pipe.Pipe()
		defer near.Close()
		c := b.newConn(tls.Server(far, &tls.Config{
			Certificates: []tls.Certificate{ca.Sign("server", nil)}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
		}), "tls", false)
		if !b.admit(c) {
			t.Fatal("not admitted")
		}
		go c.serve()
		soon := ca.Sign("device", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(3 * time.Second) })
		p := newPeer(t, tls.Client(near, &tls.Config{RootCAs: ca.Pool(), ServerName: "server", Certificates: []tls.Certificate{soon}}))
		p.connect(clean("device"))
		if d := p.elapsed(&mqtt.Disconnect{Reason: mqtt.NotAuthorized}); d != 3*time.Second {
			t.Errorf("closed after %v", d)
		}
		p.closed()
	})
}

// The identity comes from the certificate, and so client identifier and user
// name can claim nothing else.
func TestB19_CertificateOfAnother(t *testing.T) {
	a := authorityFunc2(func(_ context.Context, c Credentials) (Identity, error) {
		cert := c.Certificate()
		if cert == nil || c.ClientID != cert.DNSNames[0] || c.Username != "" && c.Username != c.ClientID {
			return nil, errors.New("not yours")
		}
		return trusted(cert.DNSNames[0]), nil
	})
	b, dialTLS := secure(t, a)
	p := dialTLS("device-a")
	p.connect(clean("device-a"))
	p.quiet()
	for _, c := range []mqtt.Connect{clean("device-b"), as("device-b", clean("device-a")), as("device-b", clean("device-b")), {CleanStart: true}} {
		q := dialTLS("device-a")
		q.sendConnect(c)
		q.expect(&mqtt.Connack{Reason: mqtt.NotAuthorized})
		q.closed()
	}
	p.quiet()
	if (&Credentials{}).Certificate() != nil {
		t.Error("a certificate without TLS")
	}
	_ = b
}

func TestF07_NamesInLogs(t *testing.T) {
	var out strings.Builder
	b := start(t, Options{Logger: lines(&out), Authority: door{}})
	c := as("x\nlevel=ERROR msg=forged", clean("y\nlevel=ERROR msg=forged"))
	c.Password = []byte("hunter2")
	refused(t, b, c, mqtt.BadUserNameOrPassword)
	stop(t, b)
	if s := out.String(); strings.Contains(s, "\nlevel=ERROR") || strings.Contains(s, "hunter2") || !strings.Contains(s, "refused") {
		t.Errorf("log:\n%s", s)
	}
}

// Shows [B4a].
func TestF09_DiskFull(t *testing.T) {
	disk := &lagging{Memory: store.NewMemory()}
	b := start(t, Options{Store: disk})
	sub, from := join(t, b, lasting("sub")), join(t, b, clean("from"))
	sub.subscribe(1, "t")
	disk.stall()
	from.send(pub("t", "lost", 1, 1))
	eventually(t, func() bool { return disk.waiting() == 1 })
	disk.settle(errors.New("no space left on device"))
	from.expect(&mqtt.Disconnect{Reason: mqtt.UnspecifiedError}) // and no PUBACK before it
	from.closed()
	from = join(t, b, clean("from"))
	from.publish(pub("t", "kept", 1, 1))
	sub.expect(pub("t", "kept", 1, 1))
}

package app

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/wire"
)

// talk is an MQTT 5 connection, byte for byte.
type talk struct {
	t  *testing.T
	nc net.Conn
}

const patience = time.Minute

// say sends a packet.
func (k talk) say(p interface {
	Append([]byte, mqtt.Version) ([]byte, error)
}) {
	k.t.Helper()
	b, err := p.Append(nil, mqtt.V5)
	if err != nil {
		k.t.Fatal(err)
	}
	if _, err := k.nc.Write(b); err != nil {
		k.t.Fatal(err)
	}
}

// hear reads one short packet: its first byte and its body. An error is the end
// of the connection.
func (k talk) hear() (first byte, body []byte, err error) {
	k.t.Helper()
	_ = k.nc.SetReadDeadline(time.Now().Add(patience))
	var head [2]byte
	if _, err := io.ReadFull(k.nc, head[:]); err != nil {
		return 0, nil, err
	}
	if head[1] >= 0x80 {
		k.t.Fatalf("a long packet: % x", head)
	}
	body = make([]byte, head[1])
	_, err = io.ReadFull(k.nc, body)
	return head[0], body, err
}

// enter sends CONNECT and gives the reason code of CONNACK; what is not answered
// is unanswered.
func (k talk) enter(id, username, password string) mqtt.ReasonCode {
	k.t.Helper()
	b, err := (&mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: id, HasUsername: username != "", Username: username,
		HasPassword: password != "", Password: []byte(password)}).Append(nil, mqtt.V5)
	if err != nil {
		k.t.Fatal(err)
	}
	_, _ = k.nc.Write(b) // a refused handshake is seen at the read
	first, body, err := k.hear()
	if err != nil || first != byte(mqtt.TypeConnack)<<4 || len(body) < 2 {
		return unanswered
	}
	return mqtt.ReasonCode(body[1])
}

const unanswered mqtt.ReasonCode = 0xFF

// secured is a server whose TLS listener asks for certificates of ca.
func secured(t *testing.T, ca, devices *testkit.CA) (s *Server, dial func(...tls.Certificate) (talk, error)) {
	t.Helper()
	dir := t.TempDir()
	cert, key := testkit.WriteCert(t, dir, ca.Sign("server", nil))
	certs, _, err := newCertificates(TLSFiles{Cert: cert, Key: key, ClientCA: devices.Write(dir)})
	if err != nil {
		t.Fatal(err)
	}
	s = New(Options{Data: t.TempDir(), HTTP: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
		Listeners: []broker.Listener{{Name: "tls", Network: "tls", Address: "127.0.0.1:0", TLS: certs.config()}}})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopServer(t, s) })
	return s, func(own ...tls.Certificate) (talk, error) {
		nc, err := tls.Dial("tcp", s.MQTTAddr("tls").String(), &tls.Config{RootCAs: ca.Pool(),
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(own) == 0 {
					return &tls.Certificate{}, nil
				}
				return &own[0], nil // also when it is of an authority that the server did not ask for
			}})
		if err != nil {
			return talk{}, err
		}
		t.Cleanup(func() { nc.Close() })
		return talk{t, nc}, nil
	}
}

// named makes a certificate carry wilco:NAME.
func named(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.URIs = []*url.URL{{Scheme: fleet.CertificateScheme, Opaque: name}}
	}
}

// TestDevicesLogInByCertificate: over the real listener, a device is whom its
// certificate says, and nobody else.
// Shows [B10e].
func TestDevicesLogInByCertificate(t *testing.T) {
	ca, devices, other := testkit.NewCA(t), testkit.NewCA(t), testkit.NewCA(t)
	s, dial := secured(t, ca, devices)
	pump, valve := wire.Address{Group: "site", Device: "pump"}, wire.Address{Group: "site", Device: "valve"}
	if _, _, err := s.Fleet.Add(t.Context(), fleet.NewDevice{Address: pump, Certificate: true}); err != nil {
		t.Fatal(err)
	}
	_, secret, err := s.Fleet.Add(t.Context(), fleet.NewDevice{Address: valve})
	if err != nil {
		t.Fatal(err)
	}
	over := func(c *x509.Certificate) { named("site/pump")(c); c.NotAfter = time.Now().Add(-time.Minute) }
	servers := func(c *x509.Certificate) {
		named("site/pump")(c)
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	one := func(c tls.Certificate) []tls.Certificate { return []tls.Certificate{c} }
	for name, c := range map[string]struct {
		show                   []tls.Certificate
		id, username, password string
		want                   mqtt.ReasonCode
	}{
		"certificate":                      {one(devices.Sign("", named("site/pump"))), "site/pump", "", "", mqtt.Success},
		"certificate and user name":        {one(devices.Sign("", named("site/pump"))), "site/pump", "site/pump", "", mqtt.Success},
		"certificate and secret":           {one(devices.Sign("", named("site/valve"))), "site/valve", "site/valve", secret, mqtt.Success},
		"certificate without its secret":   {one(devices.Sign("", named("site/valve"))), "site/valve", "site/valve", "", mqtt.BadUserNameOrPassword},
		"certificate with a wrong secret":  {one(devices.Sign("", named("site/pump"))), "site/pump", "site/pump", "x", mqtt.BadUserNameOrPassword},
		"client id of another":             {one(devices.Sign("", named("site/pump"))), "site/valve", "", "", mqtt.ClientIdentifierNotValid},
		"secret and name of another":       {one(devices.Sign("", named("site/pump"))), "site/valve", "site/valve", secret, mqtt.NotAuthorized},
		"common name of a device, no URI":  {one(devices.Sign("site/pump", nil)), "site/pump", "", "", mqtt.NotAuthorized},
		"common name of one, URI of other": {one(devices.Sign("site/pump", named("site/valve"))), "site/pump", "site/pump", "", mqtt.NotAuthorized},
		"not registered":                   {one(devices.Sign("", named("site/none"))), "site/none", "", "", mqtt.BadUserNameOrPassword},
		"another authority":                {one(other.Sign("", named("site/pump"))), "site/pump", "", "", unanswered},
		"the server's authority":           {one(ca.Sign("", named("site/pump"))), "site/pump", "", "", unanswered},
		"expired":                          {one(devices.Sign("", over)), "site/pump", "", "", unanswered},
		"a server's":                       {one(devices.Sign("", servers)), "site/pump", "", "", unanswered},
		"none":                             {nil, "site/pump", "", "", unanswered},
		"none, but a secret":               {nil, "site/valve", "site/valve", secret, unanswered},
	} {
		t.Run(name, func(t *testing.T) {
			got := unanswered
			if k, err := dial(c.show...); err == nil {
				k.t = t
				got = k.enter(c.id, c.username, c.password)
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}

	// Removal is the revocation: of the connection, and of the next one.
	k, err := dial(devices.Sign("", named("site/pump")))
	if err != nil {
		t.Fatal(err)
	}
	if code := k.enter("site/pump", "", ""); code != mqtt.Success {
		t.Fatal(code)
	}
	if err := s.Fleet.Remove(t.Context(), pump); err != nil {
		t.Fatal(err)
	}
	if first, body, err := k.hear(); err != nil || first != byte(mqtt.TypeDisconnect)<<4 || mqtt.ReasonCode(body[0]) != mqtt.AdministrativeAction {
		t.Errorf("% x % x %v", first, body, err)
	}
	if k, err = dial(devices.Sign("", named("site/pump"))); err != nil {
		t.Fatal(err)
	}
	if code := k.enter("site/pump", "", ""); code != mqtt.BadUserNameOrPassword {
		t.Errorf("a removed device: %s", code)
	}
}

// TestRightsEndWithTheDevice: what is done to a device holds for its live
// connection at once, before anything that it sends afterwards.
// Shows [B10d].
func TestRightsEndWithTheDevice(t *testing.T) {
	for name, change := range map[string]struct {
		do   func(*Server, wire.Address) error
		want mqtt.ReasonCode
	}{
		"removed": {func(s *Server, a wire.Address) error { return s.Fleet.Remove(t.Context(), a) }, mqtt.AdministrativeAction},
		"rotated": {func(s *Server, a wire.Address) error { _, _, err := s.Fleet.Rotate(t.Context(), a); return err }, mqtt.NotAuthorized},
		"disabled": {func(s *Server, a wire.Address) error {
			yes := true
			_, err := s.Fleet.Change(t.Context(), a, fleet.DeviceChange{Disabled: &yes})
			return err
		}, mqtt.NotAuthorized},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, t.TempDir())
			defer stopServer(t, s)
			a := wire.Address{Group: "site", Device: "pump"}
			_, secret, err := s.Fleet.Add(t.Context(), fleet.NewDevice{Address: a})
			if err != nil {
				t.Fatal(err)
			}
			heard := listen(t, s.Broker, "wilco/site/pump/ack")
			nc, err := net.Dial("tcp", s.MQTTAddr("tcp").String())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			k := talk{t, nc}
			if code := k.enter("site/pump", "site/pump", secret); code != mqtt.Success {
				t.Fatal(code)
			}
			k.say(&mqtt.Publish{Topic: []byte("wilco/site/pump/ack"), QoS: 1, PacketID: 1, Payload: []byte("before")})
			if first, _, err := k.hear(); err != nil || first != byte(mqtt.TypePuback)<<4 {
				t.Fatalf("% x %v", first, err)
			}
			heard.next("before")
			if err := change.do(s, a); err != nil {
				t.Fatal(err)
			}
			b, _ := (&mqtt.Publish{Topic: []byte("wilco/site/pump/ack"), QoS: 1, PacketID: 2, Payload: []byte("after")}).Append(nil, mqtt.V5)
			_, _ = nc.Write(b) // the connection may be closed by now
			for said := false; ; {
				first, body, err := k.hear()
				if err != nil {
					if !said {
						t.Error("closed without a word: ", err)
					}
					break
				}
				said = first == byte(mqtt.TypeDisconnect)<<4 && mqtt.ReasonCode(body[0]) == change.want
				if !said && (first != byte(mqtt.TypePuback)<<4 || len(body) < 3 || mqtt.ReasonCode(body[2]) != mqtt.NotAuthorized) {
					t.Errorf("% x % x", first, body)
				}
			}
			heard.say(&mqtt.Publish{Topic: []byte("wilco/site/pump/ack"), Payload: []byte("mark")})
			heard.next("mark")
		})
	}
}

// listen subscribes to a topic from inside the process.
func listen(t *testing.T, b *broker.Broker, topic string) talk {
	t.Helper()
	nc, err := b.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	k := talk{t, nc}
	if code := k.enter("listener", "", ""); code != mqtt.Success {
		t.Fatal(code)
	}
	k.say(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: topic}}})
	if first, body, err := k.hear(); err != nil || first != byte(mqtt.TypeSuback)<<4 {
		t.Fatalf("% x % x %v", first, body, err)
	}
	return k
}

// next expects a PUBLISH that ends in payload.
func (k talk) next(payload string) {
	k.t.Helper()
	if first, body, err := k.hear(); err != nil || first>>4 != byte(mqtt.TypePublish) || !bytes.HasSuffix(body, []byte(payload)) {
		k.t.Errorf("% x %q %v in place of %q", first, body, err, payload)
	}
}

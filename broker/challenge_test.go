package broker

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// toy is an authority with a method in the manner of SCRAM: the client sends its
// name and a nonce, gets a challenge, proves that it knows the secret, and is
// shown that the server does.
type toy struct {
	door
	secret  string
	begun   atomic.Int64
	revoked atomic.Bool
}

func proof(secret, text string) []byte {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(text))
	return h.Sum(nil)
}

type toyExchange struct {
	of    *toy
	name  string
	nonce string
	n     int64
}

func (a *toy) Challenge(_ context.Context, c Credentials, method string) (Exchange, error) {
	switch method {
	case "TOY":
		return &toyExchange{of: a, n: a.begun.Add(1)}, nil
	case "ENDLESS":
		return endless{}, nil
	case "NONE":
		return nil, nil
	case "SLOW":
		return slow{}, nil
	case "PASSWORD":
		if string(c.Password) != "pass" {
			return nil, &mqtt.Error{Code: mqtt.BadUserNameOrPassword, Text: "wrong"}
		}
		return endless{}, nil
	}
	return nil, &mqtt.Error{Code: mqtt.BadAuthenticationMethod, Text: "not known"}
}

func (x *toyExchange) Step(_ context.Context, data []byte) ([]byte, Identity, error) {
	if x.name == "" {
		var ok bool
		if x.name, x.nonce, ok = strings.Cut(string(data), " "); !ok {
			return nil, nil, errors.New("no nonce")
		}
		return fmt.Append(nil, "challenge ", x.n), nil, nil
	}
	text := fmt.Sprint(x.nonce, "challenge ", x.n)
	if !hmac.Equal(data, proof(x.of.secret, text)) || x.of.revoked.Load() {
		return nil, nil, &mqtt.Error{Code: mqtt.BadUserNameOrPassword, Text: "wrong proof"}
	}
	return proof(x.of.secret, text+" server"), toyIdentity{x.name, x.n}, nil
}

// toyIdentity may publish to a topic that is numbered as its login.
type toyIdentity struct {
	name string
	n    int64
}

func (i toyIdentity) Name() string                 { return i.name }
func (i toyIdentity) MayPublish(topic string) bool { return topic == fmt.Sprint("login/", i.n) }
func (i toyIdentity) MaySubscribe(string) bool     { return true }
func (i toyIdentity) MayReceive(topic string) bool { return true }

type endless struct{}

func (endless) Step(context.Context, []byte) ([]byte, Identity, error) { return nil, nil, nil }

type slow struct{}

func (slow) Step(ctx context.Context, _ []byte) ([]byte, Identity, error) {
	<-ctx.Done()
	return nil, nil, ctx.Err()
}

func auth(code mqtt.ReasonCode, data string) *mqtt.Auth {
	a := &mqtt.Auth{Reason: code, Method: "TOY"}
	if data != "" {
		a.Data = []byte(data)
	}
	return a
}

func with(method, data string) mqtt.Connect {
	return mqtt.Connect{ClientID: "x", SessionExpirySeconds: 60, AuthMethod: method, AuthData: []byte(data)}
}

// login goes through the n-th exchange, from its challenge on, and returns what
// the server proves.
func (p *peer) login(n int, secret string) []byte {
	p.t.Helper()
	p.expect(auth(mqtt.ContinueAuthentication, fmt.Sprint("challenge ", n)))
	text := fmt.Sprint("nonce", "challenge ", n)
	p.send(auth(mqtt.ContinueAuthentication, string(proof(secret, text))))
	return proof(secret, text+" server")
}

// Shows [MQTT-4.12.0-2] [MQTT-4.12.0-3] [MQTT-4.12.0-5] [MQTT-4.12.1-1] [B11d].
func TestChallenge(t *testing.T) {
	b := start(t, Options{Authority: &toy{secret: "s"}})
	p := open(t, b)
	hello := with("TOY", "ann nonce")
	hello.Will = &mqtt.Will{Topic: "login/1", Payload: []byte("gone"), CorrelationData: []byte("corr")}
	p.sendConnect(hello)
	want := p.login(1, "s")
	a := p.must().(*mqtt.Connack)
	if a.Reason != mqtt.Success || a.AuthMethod != "TOY" || !bytes.Equal(a.AuthData, want) {
		t.Fatalf("%+v", a)
	}
	may := func(n int, code mqtt.ReasonCode) {
		t.Helper()
		p.send(pub(fmt.Sprint("login/", n), "x", 1, 1))
		p.expect(ack(mqtt.TypePuback, 1, code))
	}
	may(1, mqtt.NoMatchingSubscribers)
	// Again, while other things go on in the same write.
	p.send(auth(mqtt.ReAuthenticate, "ann nonce"), pub("login/1", "x", 1, 1), &mqtt.Pingreq{})
	got := map[mqtt.Type]bool{}
	var challenge *mqtt.Auth
	for len(got) < 3 {
		x := p.must()
		if got[x.Type()] = true; x.Type() == mqtt.TypeAuth {
			challenge = x.(*mqtt.Auth)
		}
	}
	if show(challenge) != show(auth(mqtt.ContinueAuthentication, "challenge 2")) {
		t.Fatal(show(challenge))
	}
	may(1, mqtt.NoMatchingSubscribers) // the old rights, until it is over
	p.send(auth(mqtt.ContinueAuthentication, string(proof("s", "noncechallenge 2"))))
	p.expect(auth(mqtt.Success, string(proof("s", "noncechallenge 2 server"))))
	may(1, mqtt.NotAuthorized)
	may(2, mqtt.NoMatchingSubscribers)
	// The will of CONNECT is whole, though AUTH came over its bytes.
	b.hub.mu.Lock()
	w := b.hub.clients["x"].core.Will()
	b.hub.mu.Unlock()
	if string(w.Payload) != "gone" || string(w.CorrelationData) != "corr" {
		t.Errorf("%+v", w)
	}
}

// Shows [MQTT-4.12.0-1] [MQTT-4.12.0-4] [MQTT-3.1.2-30] [B11d].
func TestChallengeRefused(t *testing.T) {
	b := start(t, Options{Authority: &toy{secret: "s"}, Limits: Limits{MaxPacketSize: 1 << 10}})
	for name, c := range map[string]struct {
		hello mqtt.Connect
		then  []mqtt.Packet // after the first AUTH
		code  mqtt.ReasonCode
	}{
		"unknown method":      {hello: with("OTHER", ""), code: mqtt.BadAuthenticationMethod},
		"no exchange":         {hello: with("NONE", ""), code: mqtt.NotAuthorized},
		"refused at once":     {hello: with("TOY", "ann"), code: mqtt.NotAuthorized},
		"password":            {hello: with("PASSWORD", ""), code: mqtt.BadUserNameOrPassword},
		"wrong proof":         {with("TOY", "ann n"), []mqtt.Packet{auth(mqtt.ContinueAuthentication, "guess")}, mqtt.BadUserNameOrPassword},
		"another method":      {with("TOY", "ann n"), []mqtt.Packet{&mqtt.Auth{Reason: mqtt.ContinueAuthentication, Method: "toy"}}, mqtt.ProtocolError},
		"starts again":        {with("TOY", "ann n"), []mqtt.Packet{auth(mqtt.ReAuthenticate, "ann n")}, mqtt.ProtocolError},
		"says success itself": {with("TOY", "ann n"), []mqtt.Packet{auth(mqtt.Success, "ann n")}, mqtt.ProtocolError},
		"PUBLISH meanwhile":   {with("TOY", "ann n"), []mqtt.Packet{pub("t", "x", 0, 0)}, mqtt.ProtocolError},
		"CONNECT meanwhile":   {with("TOY", "ann n"), []mqtt.Packet{&mqtt.Connect{Version: mqtt.V5, ClientID: "x"}}, mqtt.ProtocolError},
		"larger than allowed": {with("TOY", "ann n"), []mqtt.Packet{auth(mqtt.ContinueAuthentication, strings.Repeat("x", 2<<10))}, mqtt.PacketTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t, b)
			p.sendConnect(c.hello)
			if c.then != nil {
				if _, ok := p.must().(*mqtt.Auth); !ok {
					t.Fatal("no AUTH")
				}
				p.send(c.then...)
			}
			if a, ok := p.must().(*mqtt.Connack); !ok || a.Reason != c.code || a.AuthMethod != "" {
				t.Errorf("%+v, want %v", a, c.code)
			}
			p.closed()
		})
	}
	t.Run("leaves", func(t *testing.T) {
		p := open(t, b)
		p.sendConnect(with("TOY", "ann n"))
		p.must()
		p.send(&mqtt.Disconnect{})
		p.closed()
	})
	t.Run("a client that takes little", func(t *testing.T) {
		hello := with("TOY", "ann n")
		hello.MaximumPacketSize = 10
		p := open(t, b)
		p.sendConnect(hello)
		if a, ok := p.must().(*mqtt.Connack); !ok || a.Reason != mqtt.PacketTooLarge {
			t.Errorf("%+v", a)
		}
	})
	t.Run("endless", func(t *testing.T) {
		p := open(t, b)
		p.sendConnect(with("ENDLESS", ""))
		for range maxSteps {
			p.must()
			p.send(&mqtt.Auth{Reason: mqtt.ContinueAuthentication, Method: "ENDLESS"})
		}
		if a, ok := p.must().(*mqtt.Connack); !ok || a.Reason != mqtt.NotAuthorized {
			t.Errorf("%+v", a)
		}
	})
	if s := b.Stats(); s.Sessions != 0 {
		t.Errorf("%d sessions", s.Sessions)
	}
}

// Who is silent in the middle, or whose authority is, is gone with the connect
// timeout.
func TestChallengeTakesTooLong(t *testing.T) {
	for _, method := range []string{"TOY", "SLOW"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, Options{Authority: &toy{}, Limits: Limits{ConnectTimeout: time.Second}})
				p := open(t, b)
				p.sendConnect(with(method, "ann nonce"))
				begin := time.Now()
				_ = p.nc.SetReadDeadline(time.Time{})
				_, _ = io.Copy(io.Discard, p.nc)
				if took := time.Since(begin); took != time.Second {
					t.Errorf("closed after %s", took)
				}
			})
		})
	}
}

// Shows [MQTT-4.12.1-2] [MQTT-4.12.0-5] [B11d].
func TestChallengeAgainRefused(t *testing.T) {
	for name, c := range map[string]struct {
		send    []mqtt.Packet
		revoked bool
		code    mqtt.ReasonCode
	}{
		"wrong proof":     {send: []mqtt.Packet{auth(mqtt.ReAuthenticate, "ann nonce"), auth(mqtt.ContinueAuthentication, "guess")}, code: mqtt.NotAuthorized},
		"revoked":         {send: []mqtt.Packet{auth(mqtt.ReAuthenticate, "ann nonce"), auth(mqtt.ContinueAuthentication, string(proof("s", "noncechallenge 2")))}, revoked: true, code: mqtt.NotAuthorized},
		"another":         {send: []mqtt.Packet{auth(mqtt.ReAuthenticate, "bob nonce"), auth(mqtt.ContinueAuthentication, string(proof("s", "noncechallenge 2")))}, code: mqtt.NotAuthorized},
		"another method":  {send: []mqtt.Packet{&mqtt.Auth{Reason: mqtt.ReAuthenticate, Method: "ENDLESS"}}, code: mqtt.ProtocolError},
		"out of turn":     {send: []mqtt.Packet{auth(mqtt.ContinueAuthentication, "x")}, code: mqtt.ProtocolError},
		"twice at a time": {send: []mqtt.Packet{auth(mqtt.ReAuthenticate, "ann nonce"), auth(mqtt.ReAuthenticate, "ann nonce")}, code: mqtt.ProtocolError},
	} {
		t.Run(name, func(t *testing.T) {
			a := &toy{secret: "s"}
			b := start(t, Options{Authority: a})
			p := open(t, b)
			p.sendConnect(with("TOY", "ann nonce"))
			p.login(1, "s")
			p.must()
			a.revoked.Store(c.revoked)
			p.send(c.send...)
			x := p.must()
			if _, ok := x.(*mqtt.Auth); ok {
				x = p.must()
			}
			if show(x) != show(&mqtt.Disconnect{Reason: c.code}) {
				t.Errorf("%s, want %v", show(x), c.code)
			}
			p.closed()
		})
	}
}

func TestB17_AnotherIdentity(t *testing.T) {
	b := start(t, Options{Authority: &toy{secret: "s"}})
	p := open(t, b)
	p.sendConnect(with("TOY", "ann nonce"))
	p.login(1, "s")
	p.must()
	p.send(auth(mqtt.ReAuthenticate, "bob nonce"))
	p.login(2, "s") // bob knows the secret as well
	p.expect(&mqtt.Disconnect{Reason: mqtt.NotAuthorized})
	p.closed()
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	if owner := b.hub.clients["x"].owner; owner != "ann" {
		t.Errorf("the session is of %s", owner)
	}
}

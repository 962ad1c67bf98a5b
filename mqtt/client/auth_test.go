package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

var errServer = errors.New("the server proves nothing")

// riddle is an authentication: the client says hello, answers each riddle by the
// riddle turned round, and wants "welcome" in the end.
func riddle() client.AuthStep {
	begun := false
	return func(data []byte, done bool) ([]byte, error) {
		switch {
		case !begun:
			begun = true
			return []byte("hello"), nil
		case done && string(data) != "welcome":
			return nil, errServer
		}
		return []byte("answer to " + string(data)), nil
	}
}

func (n *network) riddled() client.Options {
	o := n.options()
	o.AuthMethod, o.Auth = "RIDDLE", riddle
	return o
}

func authOf(code mqtt.ReasonCode, data string) *mqtt.Auth {
	return &mqtt.Auth{Reason: code, Method: "RIDDLE", Data: []byte(data)}
}

func (p *peer) isAuth(code mqtt.ReasonCode, data string) {
	p.t.Helper()
	a, ok := p.read().(*mqtt.Auth)
	if !ok || a.Reason != code || a.Method != "RIDDLE" || string(a.Data) != data {
		p.t.Fatalf("got %+v, want %v %q", a, code, data)
	}
}

func (p *peer) admit() {
	p.t.Helper()
	if c := p.read().(*mqtt.Connect); c.AuthMethod != "RIDDLE" || string(c.AuthData) != "hello" {
		p.t.Fatalf("%+v", c)
	}
	p.send(authOf(mqtt.ContinueAuthentication, "1"))
	p.isAuth(mqtt.ContinueAuthentication, "answer to 1")
	p.send(&mqtt.Connack{AuthMethod: "RIDDLE", AuthData: []byte("welcome")})
}

// Shows [MQTT-4.12.0-3] [MQTT-4.12.0-5] [MQTT-4.12.1-1] [B11d].
func TestAuth(t *testing.T) {
	n := newNetwork(t, mqtt.V5)
	c := start(t, n.riddled())
	p := n.next()
	p.admit()
	if err := c.AwaitUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		done := make(chan error, 1)
		go func() { done <- c.Reauthenticate(t.Context()) }()
		p.isAuth(mqtt.ReAuthenticate, "hello")
		if err := c.Reauthenticate(t.Context()); err == nil {
			t.Error("two at a time")
		}
		p.send(authOf(mqtt.ContinueAuthentication, "2"))
		p.isAuth(mqtt.ContinueAuthentication, "answer to 2")
		p.send(authOf(mqtt.Success, "welcome"))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// A server that does not keep to the method, or does not prove itself, is left
// before anything is sent to it.
// Shows [MQTT-4.12.0-5] [MQTT-4.12.0-6].
func TestAuthOfAServerThatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		send mqtt.Packet
		says string
	}{
		"no proof":             {&mqtt.Connack{AuthMethod: "RIDDLE", AuthData: []byte("no")}, errServer.Error()},
		"CONNACK says nothing": {&mqtt.Connack{}, "another authentication method"},
		"another method":       {&mqtt.Auth{Reason: mqtt.ContinueAuthentication, Method: "OTHER"}, "another authentication method"},
		"success in AUTH":      {authOf(mqtt.Success, "welcome"), "out of turn"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t, mqtt.V5)
			o := n.riddled()
			o.Once = true
			cl := start(t, o)
			p := n.next()
			p.read()
			p.send(c.send)
			if rest := p.gone(); len(rest) > 0 {
				t.Error("sent", rest)
			}
			if err := cl.AwaitUp(t.Context()); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
		})
	}
	n := newNetwork(t, mqtt.V5)
	o := n.options()
	o.Once = true
	cl := start(t, o)
	n.accept(mqtt.Connack{AuthMethod: "RIDDLE"}) // which nobody asked for
	if err := cl.AwaitUp(t.Context()); err == nil || !strings.Contains(err.Error(), "another") {
		t.Error(err)
	}
}

// Shows [MQTT-4.12.1-2].
func TestReauthenticateFails(t *testing.T) {
	for name, c := range map[string]struct {
		send     mqtt.Packet
		want     error
		farewell string
	}{
		"no proof":              {authOf(mqtt.Success, "no"), errServer, "DISCONNECT 0x87"},
		"server starts one":     {authOf(mqtt.ReAuthenticate, "x"), client.ErrDown, "DISCONNECT 0x82"},
		"another method":        {&mqtt.Auth{Reason: mqtt.Success, Method: "OTHER"}, client.ErrDown, "DISCONNECT 0x82"},
		"refused by the server": {&mqtt.Disconnect{Reason: mqtt.NotAuthorized}, client.ErrDown, ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t, mqtt.V5)
			cl := start(t, n.riddled())
			p := n.next()
			p.admit()
			if err := cl.AwaitUp(t.Context()); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- cl.Reauthenticate(context.Background()) }()
			p.isAuth(mqtt.ReAuthenticate, "hello")
			p.send(c.send)
			if err := <-done; !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if rest := strings.Join(p.gone(), ", "); rest != c.farewell {
				t.Errorf("farewell %q, want %q", rest, c.farewell)
			}
		})
	}
	t.Run("nobody asked", func(t *testing.T) {
		n := newNetwork(t, mqtt.V5)
		cl := start(t, n.options())
		p, _ := n.accept(mqtt.Connack{})
		if err := cl.AwaitUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := cl.Reauthenticate(t.Context()); err == nil {
			t.Error("without a method")
		}
		p.send(authOf(mqtt.ContinueAuthentication, ""))
		if rest := strings.Join(p.gone(), ", "); rest != "DISCONNECT 0x82" {
			t.Error(rest)
		}
	})
	for name, o := range map[string]client.Options{
		"no method": {Auth: riddle}, "no Auth": {AuthMethod: "X"}, "3.1.1": {Auth: riddle, AuthMethod: "X", Version: mqtt.V311},
	} {
		o.ClientID, o.Servers = "x", []string{"mqtt://localhost"}
		if _, err := client.New(o); err == nil {
			t.Error(name)
		}
	}
}

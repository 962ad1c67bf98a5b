package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/wilco-iot/wilco/mqtt"
)

// AuthStep is the client's part of one enhanced authentication (MQTT 5.0, 4.12).
// It is called with nil for what CONNECT, or the first AUTH, is to say, then with
// each answer of the server, which is borrowed, and returns the next thing to say,
// nil for nothing. done is set with the last answer, when the server has accepted;
// what is returned then is not sent. An error ends the connection: so a client
// refuses a server that does not prove itself. Calls come one after the other,
// from goroutines that read from the network, so they should not block for long.
type AuthStep func(data []byte, done bool) (answer []byte, err error)

// authCall is an authentication under way on a connection.
type authCall struct {
	step AuthStep
	over chan error // has room for one
}

// Errors of Reauthenticate.
var (
	errNoAuth   = errors.New("no authentication method")
	errAuthBusy = errors.New("an authentication is under way")
)

// Reauthenticate goes through Options.Auth once more on the connection that is up,
// without interrupting it, and waits for the end. When it fails the connection
// ends [MQTT-4.12.1-2]. The error is that of ctx, which leaves the exchange to go
// on; ErrDown when there is no connection, or none any more; or that of AuthStep.
func (c *Client) Reauthenticate(ctx context.Context) error {
	call, l, err := c.beginAuth()
	if err == nil {
		select {
		case err = <-call.over:
		case <-l.failed:
			if err = ErrDown; len(call.over) > 0 {
				err = <-call.over
			}
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("authenticate again: %w", err)
	}
	return nil
}

func (c *Client) beginAuth() (*authCall, *link, error) {
	if c.opts.Auth == nil {
		return nil, nil, errNoAuth
	}
	call := &authCall{step: c.opts.Auth(), over: make(chan error, 1)}
	data, err := call.step(nil, false)
	if err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.live()
	switch {
	case l == nil || !c.up:
		return nil, nil, ErrDown
	case l.auth != nil:
		return nil, nil, errAuthBusy
	}
	if err := c.sayAuth(l, mqtt.ReAuthenticate, data); err != nil { // [MQTT-4.12.1-1]
		return nil, nil, err
	}
	l.auth = call
	return call, l, nil
}

// sayAuth puts an AUTH into the link's buffer. mu is held.
func (c *Client) sayAuth(l *link, code mqtt.ReasonCode, data []byte) error {
	out, err := (&mqtt.Auth{Reason: code, Method: c.opts.AuthMethod, Data: data}).Append(l.out, c.opts.Version)
	if err != nil {
		return err
	}
	l.out = out
	l.ready.Signal()
	return nil
}

// receiveAuth takes the server's part while the connection is up.
func (c *Client) receiveAuth(l *link, p *mqtt.Auth) error {
	c.mu.Lock()
	call, dead := l.auth, l.dead
	l.received++
	c.mu.Unlock()
	switch {
	case dead:
		return errLinkDead
	case call == nil:
		return &mqtt.Error{Code: mqtt.ProtocolError, Text: "AUTH that was not asked for"}
	case p.Reason == mqtt.ReAuthenticate: // a server does not ask for it
		return &mqtt.Error{Code: mqtt.ProtocolError, Text: "AUTH out of turn"}
	}
	if err := c.sameMethod(p.Method); err != nil {
		return err
	}
	done := p.Reason == mqtt.Success
	data, err := call.step(p.Data, done)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil: // [MQTT-4.12.1-2]
		call.over <- err
		return &mqtt.Error{Code: mqtt.NotAuthorized, Text: err.Error()}
	case done:
		l.auth = nil
		call.over <- nil
		return nil
	}
	return c.sayAuth(l, mqtt.ContinueAuthentication, data) // [MQTT-4.12.0-3]
}

// sameMethod holds a packet of the server to the method of CONNECT, "" for none
// [MQTT-4.12.0-5] [MQTT-4.12.0-6].
func (c *Client) sameMethod(method string) error {
	if method != c.opts.AuthMethod {
		return &mqtt.Error{Code: mqtt.ProtocolError, Text: "the server has another authentication method"}
	}
	return nil
}

// answerAuth takes an AUTH before CONNACK.
func (c *Client) answerAuth(l *link, step AuthStep, h mqtt.Header, body []byte) error {
	var p mqtt.Auth
	if err := p.Decode(h, body, c.opts.Version); err != nil {
		return fmt.Errorf("decode AUTH: %w", err)
	}
	if step == nil || p.Reason != mqtt.ContinueAuthentication {
		return &mqtt.Error{Code: mqtt.ProtocolError, Text: "AUTH out of turn before CONNACK"}
	}
	if err := c.sameMethod(p.Method); err != nil {
		return err
	}
	data, err := step(p.Data, false)
	if err != nil {
		return fmt.Errorf("authenticate: %w", err)
	}
	b, err := (&mqtt.Auth{Reason: mqtt.ContinueAuthentication, Method: c.opts.AuthMethod, Data: data}).Append(nil, c.opts.Version)
	if err != nil {
		return fmt.Errorf("encode AUTH: %w", err)
	}
	if _, err := l.conn.Write(b); err != nil {
		return fmt.Errorf("write AUTH: %w", err)
	}
	return nil
}

package broker

import (
	"context"
	"errors"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// Challenger is what an Authority may implement besides: enhanced
// authentication, for MQTT 5 clients whose CONNECT names a method (MQTT 5.0,
// 4.12; docs/adr/0022-enhanced-authentication.md). Without it such a CONNECT is refused with 0x8C. Authenticate is not
// asked about those clients.
type Challenger interface {
	// Challenge begins an authentication by a method: at CONNECT, and whenever
	// the client, once connected, authenticates itself again, where c is what
	// CONNECT said, without the password. Errors are as of Authenticate; for a
	// method that is not known, one with the code mqtt.BadAuthenticationMethod.
	Challenge(ctx context.Context, c Credentials, method string) (Exchange, error)
}

// Exchange is one authentication under way. Its calls come one after the other.
// One that its client leaves halfway is dropped without a word.
type Exchange interface {
	// Step takes what the client sent, nil for nothing and borrowed, and gives
	// what it gets for that, nil for nothing. While more is wanted of the client
	// id is nil. Errors are as of Authenticate. It may block until ctx ends, with
	// the connect timeout: that holds up this client.
	Step(ctx context.Context, data []byte) (answer []byte, id Identity, err error)
}

// maxSteps bounds what an exchange can cost.
const maxSteps = 16

// challenge is the enhanced authentication of a connection: its reader's alone.
type challenge struct {
	method   string
	with     Challenger
	cred     Credentials
	exchange Exchange // nil when none is under way
	steps    int
	largest  uint32 // packet that the client takes; 0: any
	last     []byte // what goes into CONNACK
}

// challenged authenticates a client whose CONNECT names a method. Until CONNACK
// it may send AUTH and DISCONNECT alone [MQTT-3.1.2-30].
func (c *conn) challenged(in *inbox, p *mqtt.Connect) (Identity, error) {
	with, ok := c.b.options.Authority.(Challenger)
	if !ok || c.system {
		return nil, refusal(mqtt.BadAuthenticationMethod, "no enhanced authentication") // [MQTT-4.12.0-1]
	}
	c.challenge = &challenge{method: p.AuthMethod, with: with, cred: c.credentials(p), largest: p.MaximumPacketSize}
	until := time.Now().Add(c.b.options.Limits.ConnectTimeout)
	if err := c.challenge.begin(until); err != nil {
		return nil, err
	}
	for data := p.AuthData; ; {
		answer, id, err := c.challenge.step(data, until)
		if err != nil { // [MQTT-4.12.0-4]
			return nil, err
		}
		if id != nil {
			c.challenge.last = answer
			return id, nil
		}
		out, err := c.challenge.packet(mqtt.ContinueAuthentication, answer) // [MQTT-4.12.0-2]
		if err != nil {
			return nil, err
		}
		n, err := c.nc.Write(out)
		c.b.count.bytesOut.Add(uint64(n))
		if err != nil {
			return nil, errSilent
		}
		if data, err = c.readAuth(in); err != nil {
			return nil, err
		}
	}
}

// readAuth waits for the client's part of an exchange. The connect timeout ends
// the wait.
func (c *conn) readAuth(in *inbox) ([]byte, error) {
	for {
		h, body, ok, err := in.next()
		switch {
		case err != nil:
			return nil, err
		case ok && h.Type == mqtt.TypeDisconnect:
			return nil, errSilent
		case ok && h.Type != mqtt.TypeAuth:
			return nil, refusal(mqtt.ProtocolError, "packet in the middle of an authentication")
		case ok:
			var a mqtt.Auth
			if err := a.Decode(h, body, mqtt.V5); err != nil {
				return nil, err
			}
			return a.Data, c.challenge.check(&a)
		}
		n, err := in.fill(c.nc)
		if err != nil {
			return nil, errSilent
		}
		c.b.count.bytesIn.Add(uint64(n))
	}
}

func (x *challenge) begin(until time.Time) (err error) {
	ctx := &loginTime{Context: context.Background(), until: until}
	defer ctx.end()
	x.exchange, err = x.with.Challenge(ctx, x.cred, x.method)
	if err == nil && x.exchange == nil {
		err = errors.New("authority gave no exchange")
	}
	x.steps, x.cred.Password = 0, nil // that was borrowed
	return coded(err)
}

// step is one Step of the exchange, which is over when that says so.
func (x *challenge) step(data []byte, until time.Time) ([]byte, Identity, error) {
	if x.steps++; x.steps > maxSteps {
		return nil, nil, refusal(mqtt.NotAuthorized, "authentication has too many steps")
	}
	ctx := &loginTime{Context: context.Background(), until: until}
	defer ctx.end()
	answer, id, err := x.exchange.Step(ctx, data)
	if err != nil || id != nil {
		x.exchange = nil
	}
	return answer, id, coded(err)
}

// check holds an AUTH of the client to its place in the exchange
// [MQTT-4.12.0-3] [MQTT-4.12.0-5] [MQTT-4.12.1-1].
func (x *challenge) check(a *mqtt.Auth) error {
	switch {
	case a.Method != x.method:
		return refusal(mqtt.ProtocolError, "AUTH with another method than CONNECT")
	case x.exchange == nil && a.Reason != mqtt.ReAuthenticate || x.exchange != nil && a.Reason != mqtt.ContinueAuthentication:
		return refusal(mqtt.ProtocolError, "AUTH out of turn")
	}
	return nil
}

// packet encodes an AUTH for the client.
func (x *challenge) packet(code mqtt.ReasonCode, data []byte) ([]byte, error) {
	out, err := (&mqtt.Auth{Reason: code, Method: x.method, Data: data}).Append(nil, mqtt.V5)
	if err == nil && x.largest != 0 && len(out) > int(x.largest) { // [MQTT-3.1.2-24]
		err = refusal(mqtt.PacketTooLarge, "the client does not take the AUTH that it would need")
	}
	return out, err
}

// reauthenticate takes an AUTH of a client that is connected, between two turns.
// What the client does meanwhile has the rights that it had. The new identity
// must be the same one, with the same tenant, since the session stays.
func (c *conn) reauthenticate(a *mqtt.Auth) error {
	err := c.again(a)
	if err != nil && !codeOf(err).ListedIn(mqtt.TypeDisconnect) {
		return &mqtt.Error{Code: mqtt.NotAuthorized, Text: err.Error()}
	}
	return err
}

func (c *conn) again(a *mqtt.Auth) error {
	x := c.challenge
	if err := x.check(a); err != nil {
		return err
	}
	until := time.Now().Add(c.b.options.Limits.ConnectTimeout)
	if a.Reason == mqtt.ReAuthenticate {
		if !c.b.connects.allow("identity "+c.info.Identity, c.b.now()) {
			return refusal(mqtt.ConnectionRateExceeded, "identity authenticates too often")
		}
		if err := x.begin(until); err != nil {
			return err
		}
	}
	answer, id, err := x.step(a.Data, until)
	if err != nil {
		return err
	}
	code := mqtt.ContinueAuthentication
	if id != nil {
		if id.Name() != c.info.Identity || tenantOf(id) != tenantOf(c.identity) {
			return refusal(mqtt.NotAuthorized, "another identity than that of the session")
		}
		code = mqtt.Success
	}
	out, err := x.packet(code, answer)
	if err != nil {
		return err
	}
	if id != nil {
		c.become(id)
	}
	if c.answer(out, 0) {
		c.startWriter()
	}
	return nil
}

// become gives the connection and its session the rights of id.
func (c *conn) become(id Identity) {
	cl, t := c.client, c.b.newTurn(nil)
	c.b.hub.mu.Lock()
	if cl.conn == c {
		cl.mu.Lock()
		c.identity, cl.identity = id, id
		cl.mu.Unlock()
		t.connectedShares(cl) // what waits there may be for it now
		t.commit()
	}
	c.b.hub.mu.Unlock()
	t.finish()
}

// coded is err of an Authority as an error with a code for CONNACK; nil stays nil.
func coded(err error) error {
	var e *mqtt.Error
	if err == nil || errors.As(err, &e) && e.Code.Failed() && e.Code.ListedIn(mqtt.TypeConnack) {
		return err
	}
	return &mqtt.Error{Code: mqtt.NotAuthorized, Text: err.Error()}
}

package bench

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/wilco-iot/wilco/mqtt"
)

// link is a client's connection at its barest: what comes is read in large
// pieces and taken a piece at a time, and the answers to a piece leave in one
// write. It is so much cheaper than a broker that the broker is what a
// measurement shows; what it costs is reported all the same.
//
// One goroutine reads. Writing, and the packet identifiers, are guarded by mu,
// which is held while a piece is taken and during writes: a broker that stops
// reading for a while cannot block the reader for good, since it has at most a
// window of answers to get rid of, and these fit the socket buffers.
type link struct {
	nc      net.Conn
	id      string // client identifier
	version mqtt.Version
	connack mqtt.Connack
	in      []byte
	r, w    int // in[r:w] is what has been read and not yet taken

	mu    sync.Mutex
	out   []byte
	free  []uint16    // packet identifiers to be used
	await []mqtt.Type // by identifier: the answer that is due, 0 for none
}

// role is what a client makes of what comes.
type role interface {
	// message takes the payload of a PUBLISH, which is borrowed. link.mu is held.
	message(payload []byte) error
	// acknowledged says that the handshake of one of its own messages has ended.
	// link.mu is held.
	acknowledged(code mqtt.ReasonCode) error
	// settled says that all of a piece has been taken. link.mu is free.
	settled()
}

var defaultPorts = map[string]string{
	"mqtt": "1883", "tcp": "1883", "mqtts": "8883", "ssl": "8883", "tls": "8883", "ws": "80", "wss": "443",
}

// setUp bounds the making of one connection and its subscription.
const setUp = 20 * time.Second

// dial connects. The connection is closed with the load.
func (l *load) dial(ctx context.Context, id string, persistent bool) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, setUp)
	defer cancel()
	nc, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	c := &link{nc: nc, id: id, version: l.o.Version, in: make([]byte, l.piece)}
	l.mu.Lock()
	l.links[c] = struct{}{}
	l.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	defer stop()
	connect := mqtt.Connect{Version: l.o.Version, ClientID: id, CleanStart: !persistent}
	if persistent && l.o.Version == mqtt.V5 {
		connect.SessionExpirySeconds = 3600
	}
	if u := l.url.User; u != nil {
		connect.HasUsername, connect.Username = true, u.Username()
		password, has := u.Password()
		connect.HasPassword, connect.Password = has, []byte(password)
	}
	b, err := connect.Append(nil, l.o.Version)
	if err != nil {
		return nil, err
	}
	if err := c.ask(b, &c.connack); err != nil {
		if cause := ctx.Err(); cause != nil {
			err = cause // it has closed the connection
		}
		return nil, fmt.Errorf("connect %s: %w", id, err)
	}
	if c.connack.Reason.Failed() {
		return nil, fmt.Errorf("connect %s: refused: %s", id, c.connack.Reason)
	}
	return c, nil
}

// open opens the byte stream.
func (l *load) open(ctx context.Context) (net.Conn, error) {
	if l.o.dial != nil {
		return l.o.dial(ctx)
	}
	u := l.url
	port := u.Port()
	if port == "" {
		port = defaultPorts[u.Scheme]
	}
	address := net.JoinHostPort(u.Hostname(), port)
	var d net.Dialer
	switch u.Scheme {
	case "mqtts", "ssl", "tls":
		return (&tls.Dialer{NetDialer: &d}).DialContext(ctx, "tcp", address)
	case "ws", "wss":
		bare := *u
		bare.User = nil                                                                                          // these are MQTT credentials, not HTTP's
		ws, _, err := websocket.Dial(ctx, bare.String(), &websocket.DialOptions{Subprotocols: []string{"mqtt"}}) // [MQTT-6.0.0-3]
		if err != nil {
			return nil, err
		}
		ws.SetReadLimit(-1) // a frame may hold many packets
		return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
	}
	return d.DialContext(ctx, "tcp", address)
}

// ask writes a packet and waits for its answer.
func (c *link) ask(packet []byte, answer mqtt.Packet) error {
	if _, err := c.nc.Write(packet); err != nil {
		return err
	}
	for {
		h, body, ok, err := c.next()
		if err != nil {
			return err
		}
		if !ok {
			if err := c.fill(); err != nil {
				return err
			}
			continue
		}
		if h.Type != answer.Type() {
			return unexpected(h, body, c.version)
		}
		return answer.Decode(h, body, c.version)
	}
}

// subscribe asks for everything on filter, and insists on the QoS.
func (c *link) subscribe(filter string, qos mqtt.QoS) error {
	b, err := (&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: filter, QoS: qos}}}).Append(nil, c.version)
	if err != nil {
		return err
	}
	var answer mqtt.Suback
	if err := c.ask(b, &answer); err != nil {
		return fmt.Errorf("subscribe %s: %w", c.id, err)
	}
	if len(answer.Reasons) != 1 || answer.Reasons[0] != mqtt.ReasonCode(qos) {
		return fmt.Errorf("subscribe %s with QoS %d: the broker answered %v", c.id, qos, answer.Reasons)
	}
	return nil
}

// window prepares n packet identifiers, or as many as the broker allows.
func (c *link) window(n int) {
	if most := int(c.connack.ReceiveMaximum); most != 0 { // [MQTT-3.3.4-7]
		n = min(n, most)
	}
	c.await = make([]mqtt.Type, n+1)
	c.free = make([]uint16, 0, n)
	for id := n; id > 0; id-- {
		c.free = append(c.free, uint16(id))
	}
}

// next cuts one packet off what has been read.
func (c *link) next() (h mqtt.Header, body []byte, ok bool, err error) {
	h, n, err := mqtt.ParseHeader(c.in[c.r:c.w], 0)
	if err != nil || n == 0 || c.w-c.r < n+h.Length {
		return h, nil, false, err
	}
	body = c.in[c.r+n : c.r+n+h.Length]
	c.r += n + h.Length
	return h, body, true, nil
}

// fill reads once, after it has made room.
func (c *link) fill() error {
	if c.r > 0 {
		c.w = copy(c.in, c.in[c.r:c.w])
		c.r = 0
	}
	if c.w == len(c.in) { // one packet larger than the buffer
		c.in = append(c.in, make([]byte, len(c.in))...)
	}
	n, err := c.nc.Read(c.in[c.w:])
	c.w += n
	if n > 0 {
		return nil // an error with it comes again
	}
	return err
}

// receive takes what comes until the connection ends.
func (c *link) receive(r role) error {
	for {
		if err := c.take(r); err != nil {
			return fmt.Errorf("client %s: %w", c.id, err)
		}
		r.settled()
		if err := c.fill(); err != nil {
			return fmt.Errorf("client %s: %w", c.id, err)
		}
	}
}

// take takes all packets that have been read, and writes the answers.
func (c *link) take(r role) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		h, body, ok, err := c.next()
		if err != nil {
			return err
		}
		if !ok {
			return c.flush()
		}
		switch h.Type {
		case mqtt.TypePublish:
			err = c.published(h, body, r)
		case mqtt.TypePuback, mqtt.TypePubrec, mqtt.TypePubrel, mqtt.TypePubcomp:
			err = c.answered(h, body, r)
		default:
			err = unexpected(h, body, c.version)
		}
		if err != nil {
			return err
		}
	}
}

// published answers a PUBLISH and hands on its payload. The usual one, without
// properties, is taken apart here: the full decoder costs as much as all the
// rest of a subscriber.
func (c *link) published(h mqtt.Header, body []byte, r role) error {
	qos := mqtt.QoS(h.Flags >> 1 & 3)
	at := 2 // the payload's
	if len(body) >= 2 {
		at += int(binary.BigEndian.Uint16(body))
	}
	idAt := at
	if qos > 0 {
		at += 2
	}
	plain := len(body) > at
	if c.version == mqtt.V5 {
		plain = plain && body[at] == 0
		at++
	}
	var id uint16
	var payload []byte
	if plain {
		payload = body[at:]
		if qos > 0 {
			id = binary.BigEndian.Uint16(body[idAt:])
		}
	} else {
		var p mqtt.Publish
		if err := p.Decode(h, body, c.version); err != nil {
			return err
		}
		id, payload = p.PacketID, p.Payload
	}
	switch qos {
	case mqtt.AtLeastOnce:
		c.out = mqtt.AppendAck(c.out, c.version, mqtt.TypePuback, id, mqtt.Success) // [MQTT-4.3.2-4]
	case mqtt.ExactlyOnce:
		c.out = mqtt.AppendAck(c.out, c.version, mqtt.TypePubrec, id, mqtt.Success) // [MQTT-4.3.3-8]
	}
	return r.message(payload)
}

// answered goes on with a handshake.
func (c *link) answered(h mqtt.Header, body []byte, r role) error {
	var id uint16
	code := mqtt.Success
	if h.Length == 2 {
		id = binary.BigEndian.Uint16(body)
	} else {
		var a mqtt.Ack
		if err := a.Decode(h, body, c.version); err != nil {
			return err
		}
		id, code = a.PacketID, a.Reason
	}
	if h.Type == mqtt.TypePubrel {
		c.out = mqtt.AppendAck(c.out, c.version, mqtt.TypePubcomp, id, mqtt.Success) // [MQTT-4.3.3-11]
		return nil
	}
	if int(id) >= len(c.await) || id == 0 || c.await[id] != h.Type {
		return fmt.Errorf("%s for packet identifier %d, which does not await it", h.Type, id)
	}
	if h.Type == mqtt.TypePubrec && !code.Failed() {
		c.await[id] = mqtt.TypePubcomp
		c.out = mqtt.AppendAck(c.out, c.version, mqtt.TypePubrel, id, mqtt.Success) // [MQTT-4.3.3-4]
		return nil
	}
	c.await[id] = 0
	c.free = append(c.free, id)
	return r.acknowledged(code)
}

// flush writes what has gathered. mu is held.
func (c *link) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	return err
}

// unexpected says what a packet that should not come means.
func unexpected(h mqtt.Header, body []byte, v mqtt.Version) error {
	if h.Type == mqtt.TypeDisconnect {
		var d mqtt.Disconnect
		if err := d.Decode(h, body, v); err != nil {
			return err
		}
		return fmt.Errorf("the broker disconnected: %s", d.Reason)
	}
	return errors.New("the broker sent an unexpected " + h.Type.String())
}

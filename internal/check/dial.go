package check

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"sync"

	"github.com/coder/websocket"

	"github.com/wilco-iot/wilco/internal/fault"
)

var defaultPorts = map[string]string{
	"mqtt": "1883", "tcp": "1883", "mqtts": "8883", "ssl": "8883", "tls": "8883", "ws": "80", "wss": "443",
}

// parseURL reads the URL of a broker.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || defaultPorts[u.Scheme] == "" {
		return nil, fault.Field("url", "must be a URL like mqtt://127.0.0.1:1883; schemes are mqtt, mqtts, tcp, ssl, tls, ws, wss")
	}
	return u, nil
}

// dial opens the byte stream.
func (r *run) dial(ctx context.Context, u *url.URL) (*gated, error) {
	if r.o.open != nil {
		nc, err := r.o.open(ctx, u)
		if err != nil {
			return nil, err
		}
		return newGated(nc, nil), nil
	}
	port := u.Port()
	if port == "" {
		port = defaultPorts[u.Scheme]
	}
	address := net.JoinHostPort(u.Hostname(), port)
	var d net.Dialer
	switch u.Scheme {
	case "ws", "wss":
		bare := *u
		bare.User = nil // these are MQTT credentials, not HTTP's
		// [MQTT-6.0.0-3]
		ws, _, err := websocket.Dial(ctx, bare.String(), &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
		if err != nil {
			return nil, err
		}
		ws.SetReadLimit(-1) // a frame may hold many packets
		return newGated(websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil), nil
	}
	raw, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	nc := raw
	switch u.Scheme {
	case "mqtts", "ssl", "tls":
		secure := tls.Client(raw, &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12})
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		nc = secure
	}
	return newGated(nc, raw), nil
}

// gated is a connection whose reader can be stopped, so that to the broker it
// looks like a client that has gone away without a word.
type gated struct {
	net.Conn
	raw net.Conn // the TCP connection below, nil when it is not known

	mu     sync.Mutex
	open   chan struct{} // closed: reading is allowed
	closed chan struct{}
	once   sync.Once
}

func newGated(nc, raw net.Conn) *gated {
	g := &gated{Conn: nc, raw: raw, open: make(chan struct{}), closed: make(chan struct{})}
	close(g.open)
	return g
}

// pause stops the reader: what a Read in progress brings is held back too.
func (g *gated) pause() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
		g.open = make(chan struct{})
	default:
	}
}

func (g *gated) resume() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
	default:
		close(g.open)
	}
}

func (g *gated) pass() error {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
		return nil
	case <-g.closed:
		return net.ErrClosed
	}
}

// Read waits while the gate is shut, before and after reading.
func (g *gated) Read(b []byte) (int, error) {
	if err := g.pass(); err != nil {
		return 0, err
	}
	n, err := g.Conn.Read(b)
	acknowledgeAtOnce(g.raw)
	if e := g.pass(); e != nil {
		return 0, e
	}
	return n, err
}

func (g *gated) Close() error {
	g.once.Do(func() { close(g.closed) })
	return g.Conn.Close()
}

// reset closes so that the broker sees an RST, where the transport has one.
func (g *gated) reset() {
	if tcp, ok := g.raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
		_ = tcp.Close()
	}
	_ = g.Close()
}

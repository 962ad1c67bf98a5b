package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"
)

// dial opens the byte stream to one server [MQTT-4.2.0-1].
func (c *Client) dial(ctx context.Context, s *server) (net.Conn, error) {
	if c.opts.Dial != nil {
		return c.opts.Dial(ctx)
	}
	host := s.url.Hostname()
	port := s.url.Port()
	if port == "" {
		port = defaultPorts[s.url.Scheme]
	}
	address := net.JoinHostPort(host, port)
	var d net.Dialer
	switch s.url.Scheme {
	case "mqtts", "ssl", "tls":
		return (&tls.Dialer{NetDialer: &d, Config: c.tlsConfig(host)}).DialContext(ctx, "tcp", address)
	case "ws", "wss":
		return c.dialWebSocket(ctx, s.url)
	}
	return d.DialContext(ctx, "tcp", address)
}

func (c *Client) tlsConfig(host string) *tls.Config {
	config := c.opts.TLS.Clone()
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.ServerName == "" {
		config.ServerName = host
	}
	return config
}

// dialWebSocket opens a WebSocket whose binary messages carry the stream; a
// text message ends the connection [MQTT-6.0.0-1].
func (c *Client) dialWebSocket(ctx context.Context, u *url.URL) (net.Conn, error) {
	bare := *u
	bare.User = nil // these are MQTT credentials, not HTTP's
	transport := &http.Transport{TLSClientConfig: c.opts.TLS.Clone(), Proxy: http.ProxyFromEnvironment}
	defer transport.CloseIdleConnections()
	ws, _, err := websocket.Dial(ctx, bare.String(), &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: transport},
		Subprotocols: []string{"mqtt"}, // [MQTT-6.0.0-3]
	})
	if err != nil {
		return nil, err
	}
	if ws.Subprotocol() != "mqtt" {
		ws.CloseNow()
		return nil, fmt.Errorf("websocket: the server chose sub-protocol %.50q, not mqtt", ws.Subprotocol())
	}
	ws.SetReadLimit(-1) // the packet reader has its own bound, frames need none
	return webSocketConn{websocket.NetConn(context.Background(), ws, websocket.MessageBinary), ws}, nil
}

// webSocketConn closes without the closing handshake of WebSocket, which waits
// for a peer that may be gone; MQTT has said its own farewell.
type webSocketConn struct {
	net.Conn
	ws *websocket.Conn
}

func (c webSocketConn) Close() error {
	c.SetDeadline(time.Time{}) // or its timer would fire after the end
	return c.ws.CloseNow()
}

package broker

import (
	"context"
	"crypto/tls"
	"log"
	"log/slog"
	"net"
	"net/http"

	"github.com/coder/websocket"
)

// subprotocol is what a client must offer [MQTT-6.0.0-3].
const subprotocol = "mqtt"

// maxRequest bounds the headers of a WebSocket request, in bytes.
const maxRequest = 16 << 10

func (l *listener) webSocketServer() *http.Server {
	return &http.Server{
		Handler:           http.HandlerFunc(l.upgrade),
		ReadHeaderTimeout: l.b.options.Limits.ConnectTimeout,
		IdleTimeout:       l.b.options.Limits.ConnectTimeout,
		MaxHeaderBytes:    maxRequest,
		ErrorLog:          log.New(logWriter{l.b.log}, "", 0),
	}
}

// logWriter takes the lines of net/http's log.
type logWriter struct{ *slog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.Debug("http", "text", string(p))
	return len(p), nil
}

func (l *listener) serveWebSocket() {
	in := l.Listener
	if l.tls != nil {
		in = tls.NewListener(in, l.tls)
	}
	_ = l.server.Serve(in) // always ends with an error, after close
}

// upgrade makes an HTTP request a connection, which it then serves.
func (l *listener) upgrade(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols:    []string{subprotocol}, // [MQTT-6.0.0-4]
		OriginPatterns:  l.config.Origins,
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return // Accept has answered
	}
	if ws.Subprotocol() != subprotocol {
		_ = ws.Close(websocket.StatusPolicyViolation, "sub-protocol mqtt required")
		return
	}
	// Packets need not align with frames [MQTT-6.0.0-2], so a frame may be of
	// any size; the bytes are bounded where packets are cut. NetConn refuses
	// frames that are not binary [MQTT-6.0.0-1].
	ws.SetReadLimit(-1)
	nc := &webSocket{
		Conn: websocket.NetConn(context.Background(), ws, websocket.MessageBinary),
		ws:   ws, remote: remote(r.RemoteAddr), tls: r.TLS,
	}
	c := l.b.newConn(nc, l.config.Name, false)
	if !l.b.admit(c) {
		_ = nc.Close()
		return
	}
	c.serve()
}

// webSocket is a WebSocket as a net.Conn.
type webSocket struct {
	net.Conn
	ws     *websocket.Conn
	remote remote
	tls    *tls.ConnectionState
}

// Read leaves out what came of a frame that was cut off: the library gives that out
// together with the error, still masked.
func (w *webSocket) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil {
		return 0, err
	}
	return n, nil
}

// Close does not wait for the peer: the MQTT DISCONNECT has said it all.
func (w *webSocket) Close() error { return w.ws.CloseNow() }

func (w *webSocket) RemoteAddr() net.Addr { return w.remote }

// remote is the host and port of a WebSocket's peer.
type remote string

func (remote) Network() string  { return "tcp" }
func (r remote) String() string { return string(r) }

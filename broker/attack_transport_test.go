package broker

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
)

// secure is a broker that asks for certificates, and a way to come with one.
func secure(t *testing.T, a Authority) (*Broker, func(name string) *peer) {
	t.Helper()
	ca := testkit.NewCA(t)
	b := start(t, Options{Authority: a, Listeners: []Listener{{Name: "tls", Network: "tls", Address: "127.0.0.1:0", TLS: &tls.Config{
		Certificates: []tls.Certificate{ca.Sign("server", nil)}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
	}}}})
	return b, func(name string) *peer {
		nc, err := tls.Dial("tcp", b.Addr("tls").String(), &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{ca.Sign(name, nil)}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		return newPeer(t, nc)
	}
}

// lines is a logger that writes to out, which may be read when the broker has
// stopped.
func lines(out io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(&locked{w: out}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func TestG01_BadCertificates(t *testing.T) {
	ca, other := testkit.NewCA(t), testkit.NewCA(t)
	b := start(t, Options{Listeners: []Listener{{Name: "tls", Network: "tls", Address: "127.0.0.1:0", TLS: &tls.Config{
		Certificates: []tls.Certificate{ca.Sign("server", nil)}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
	}}}})
	for name, cert := range map[string]*tls.Certificate{
		"none":            nil,
		"expired":         at(ca.Sign("x", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })),
		"not yet valid":   at(ca.Sign("x", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })),
		"wrong authority": at(other.Sign("x", nil)),
		"for servers":     at(ca.Sign("x", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })),
	} {
		t.Run(name, func(t *testing.T) {
			config := &tls.Config{RootCAs: ca.Pool()}
			if cert != nil {
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
			}
			nc, err := tls.Dial("tcp", b.Addr("tls").String(), config)
			if err != nil {
				return
			}
			defer nc.Close()
			frame, _ := (&mqtt.Connect{ClientID: "x", CleanStart: true, Version: mqtt.V5}).Append(nil, mqtt.V5)
			_, _ = nc.Write(frame) // TLS 1.3 tells the client only now
			_ = nc.SetReadDeadline(time.Now().Add(patience))
			if out, err := io.ReadAll(nc); err == nil || len(out) > 0 {
				t.Errorf("got %x, %v", out, err)
			}
		})
	}
	if s := b.Stats(); s.Sessions != 0 || s.BytesIn != 0 {
		t.Errorf("%+v", s)
	}
}

func at(c tls.Certificate) *tls.Certificate { return &c }

func TestG02_OldTLS(t *testing.T) {
	ca := testkit.NewCA(t)
	server := []tls.Certificate{ca.Sign("server", nil)}
	b := start(t, Options{Listeners: []Listener{
		{Name: "default", Network: "tls", Address: "127.0.0.1:0", TLS: &tls.Config{Certificates: server}},
		{Name: "asked for 1.2", Network: "tls", Address: "127.0.0.1:0", TLS: &tls.Config{Certificates: server, MinVersion: tls.VersionTLS12}},
		{Name: "chosen late", Network: "tls", Address: "127.0.0.1:0", TLS: &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{Certificates: server, MinVersion: tls.VersionTLS10}, nil
		}}},
		{Name: "asked for 1.0", Network: "tls", Address: "127.0.0.1:0", TLS: &tls.Config{Certificates: server, MinVersion: tls.VersionTLS10}},
	}})
	for _, c := range []struct {
		listener string
		version  uint16
		ok       bool
	}{
		{"default", tls.VersionTLS13, true}, {"default", tls.VersionTLS12, false},
		{"asked for 1.2", tls.VersionTLS12, true}, {"asked for 1.2", tls.VersionTLS11, false},
		{"asked for 1.0", tls.VersionTLS12, true}, {"asked for 1.0", tls.VersionTLS11, false}, {"asked for 1.0", tls.VersionTLS10, false},
		{"chosen late", tls.VersionTLS12, true}, {"chosen late", tls.VersionTLS11, false},
	} {
		nc, err := tls.Dial("tcp", b.Addr(c.listener).String(), &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS10, MaxVersion: c.version})
		if (err == nil) != c.ok {
			t.Errorf("%s, %s: %v", c.listener, tls.VersionName(c.version), err)
		}
		if err == nil {
			_ = nc.Close()
		}
	}
}

func TestG03_TheWrongPort(t *testing.T) {
	ca := testkit.NewCA(t)
	var out strings.Builder
	b := start(t, Options{Logger: lines(&out), Listeners: []Listener{
		{Name: "tls", Network: "tls", Address: "127.0.0.1:0", TLS: &tls.Config{Certificates: []tls.Certificate{ca.Sign("server", nil)}}},
		{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"},
	}})
	plain := dial(t, b, "tls")
	plain.sendConnect(clean("x"))
	if got := plain.rest(); bytes.Contains(got, []byte{0x20, 0x03}) {
		t.Errorf("answered with %x", got)
	}
	if nc, err := tls.Dial("tcp", b.Addr("tcp").String(), &tls.Config{RootCAs: ca.Pool()}); err == nil {
		_ = nc.Close()
		t.Error("TLS on the plain port")
	}
	stop(t, b)
	if !strings.Contains(out.String(), "tls: first record does not look like a TLS handshake") {
		t.Errorf("log:\n%s", out.String())
	}
}

func TestG04_WebSocketAbuse(t *testing.T) {
	b := start(t, Options{Listeners: []Listener{{Name: "ws", Network: "ws", Address: "127.0.0.1:0", Origins: []string{"*.example.com"}}}})
	url := "http://" + b.Addr("ws").String()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dialWS := func(origin string, protocols ...string) (*websocket.Conn, error) {
		o := &websocket.DialOptions{Subprotocols: protocols, HTTPHeader: http.Header{}, CompressionMode: websocket.CompressionContextTakeover}
		if origin != "" {
			o.HTTPHeader.Set("Origin", origin)
		}
		ws, _, err := websocket.Dial(ctx, url, o)
		return ws, err
	}
	for origin, ok := range map[string]bool{
		"": true, "https://app.example.com": true, url: true,
		"https://evil.example": false, "https://app.example.com.evil.example": false, "null": false,
	} {
		ws, err := dialWS(origin, "mqtt")
		if (err == nil) != ok {
			t.Errorf("origin %q: %v", origin, err)
		}
		if err == nil {
			_ = ws.CloseNow()
		}
	}
	for _, protocols := range [][]string{nil, {"mqttv3.1"}, {"chat"}} {
		ws, err := dialWS("", protocols...)
		if err != nil {
			continue
		}
		if _, _, err := ws.Read(ctx); err == nil {
			t.Errorf("sub-protocols %v were accepted", protocols)
		}
	}
	ws, err := dialWS("", "mqtt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	if err := ws.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.Read(ctx); err == nil {
		t.Error("a text frame was accepted")
	}
	// No compression is agreed on, and headers are bounded.
	ask := "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
	raw := dial(t, b, "ws")
	raw.write([]byte(ask + "\r\n"))
	buf := make([]byte, 4096)
	_ = raw.nc.SetReadDeadline(time.Now().Add(patience))
	n, err := raw.nc.Read(buf)
	if err != nil || !bytes.Contains(buf[:n], []byte(" 101 ")) || bytes.Contains(buf[:n], []byte("deflate")) {
		t.Errorf("%s %v", buf[:n], err)
	}
	big := dial(t, b, "ws")
	_, _ = big.nc.Write([]byte(ask + "X: " + strings.Repeat("x", 64<<10) + "\r\n\r\n"))
	_ = big.nc.SetReadDeadline(time.Now().Add(patience))
	if n, _ := big.nc.Read(buf); bytes.Contains(buf[:n], []byte(" 101 ")) {
		t.Error("a header of 64 KiB was accepted")
	}
}

func TestG05_ProxyHeader(t *testing.T) {
	b := start(t, Options{Listeners: loopback})
	for _, header := range []string{
		"PROXY TCP4 192.0.2.1 192.0.2.2 1 1883\r\n", "PROXY UNKNOWN\r\n",
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x00\x01\x07\x5b",
	} {
		p := dial(t, b, "tcp")
		_, _ = p.nc.Write([]byte(header))
		_ = p.nc.SetReadDeadline(time.Now().Add(patience))
		if out, _ := io.ReadAll(p.nc); len(out) > 0 {
			t.Errorf("%q is answered with %x", header, out)
		}
	}
	if n := b.Stats().Sessions; n != 0 {
		t.Errorf("%d sessions", n)
	}
}

func TestG06_ForwardedFor(t *testing.T) {
	joined := make(chan ConnInfo, 1)
	b := start(t, Options{
		Events:    Events{Connected: func(c ConnInfo, _ bool) { joined <- c }},
		Listeners: []Listener{{Name: "ws", Network: "ws", Address: "127.0.0.1:0"}},
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "http://"+b.Addr("ws").String(), &websocket.DialOptions{
		Subprotocols: []string{"mqtt"}, HTTPHeader: http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Forwarded": {"for=192.0.2.1"}, "X-Real-Ip": {"192.0.2.1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	newPeer(t, websocket.NetConn(ctx, ws, websocket.MessageBinary)).connect(clean("x"))
	if c := <-joined; !strings.HasPrefix(c.Remote.String(), "127.0.0.1:") {
		t.Errorf("the address is said to be %v", c.Remote)
	}
}

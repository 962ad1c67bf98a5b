package broker

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/coder/websocket"

	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
)

// byCertificate names clients by the name in their certificate.
type byCertificate struct{}

func (byCertificate) Authenticate(_ context.Context, c Credentials) (Identity, error) {
	if c.TLS == nil || len(c.TLS.PeerCertificates) == 0 {
		return nil, &mqtt.Error{Code: mqtt.NotAuthorized, Text: "no certificate"}
	}
	return trusted(c.TLS.PeerCertificates[0].DNSNames[0]), nil
}

// Shows [MQTT-4.2.0-1] [MQTT-6.0.0-2] [B11b].
func TestTransports(t *testing.T) {
	servers, devices := testkit.NewCA(t), testkit.NewCA(t)
	roots := servers.Pool()
	config := &tls.Config{Certificates: []tls.Certificate{servers.Sign("server", nil)}, ClientCAs: devices.Pool(), ClientAuth: tls.VerifyClientCertIfGiven}
	joined := make(chan ConnInfo, 9)
	b := start(t, Options{
		Authority: byCertificate{},
		Events:    Events{Connected: func(c ConnInfo, _ bool) { joined <- c }},
		Listeners: []Listener{
			{Name: "tls", Network: "tls", Address: "127.0.0.1:0", TLS: config},
			{Name: "wss", Network: "wss", Address: "127.0.0.1:0", TLS: config},
		},
	})
	client := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{devices.Sign("device", nil)}}
	raw, err := tls.Dial("tcp", b.Addr("tls").String(), client)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	first := newPeer(t, raw)
	first.connect(clean("one"))
	first.subscribe(1, "t")

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "wss://"+b.Addr("wss").String(), &websocket.DialOptions{
		Subprotocols: []string{"mqtt"}, HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: client}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	second := newPeer(t, websocket.NetConn(ctx, ws, websocket.MessageBinary))
	second.connect(clean("two"))
	for range 2 {
		if c := testkit.Receive(t, joined); c.Identity != "device" || c.Remote == nil || c.Listener == "" {
			t.Errorf("%+v", c)
		}
	}
	// A packet in many frames.
	frame, _ := pub("t", "x", 1, 1).Append(nil, mqtt.V5)
	for _, x := range frame {
		second.write([]byte{x})
	}
	second.expect(ack(mqtt.TypePuback, 1))
	first.expect(pub("t", "x", 1, 1))

	nobody, err := tls.Dial("tcp", b.Addr("tls").String(), &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	p := newPeer(t, nobody)
	p.sendConnect(clean("one"))
	p.expect(&mqtt.Connack{Reason: mqtt.NotAuthorized})
	first.quiet()

	plain, err := net.Dial("tcp", b.Addr("tls").String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	q := newPeer(t, plain)
	q.sendConnect(clean("plain"))
	q.closed()

	if _, err := tls.Dial("tcp", b.Addr("tls").String(), &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

// Shows [MQTT-6.0.0-1] [MQTT-6.0.0-3] [MQTT-6.0.0-4] [B11b].
func TestWebSocketRules(t *testing.T) {
	b := start(t, Options{Listeners: []Listener{{Name: "ws", Network: "ws", Address: "127.0.0.1:0"}}})
	url := "http://" + b.Addr("ws").String()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if r, err := http.Get(url); err != nil || r.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("plain GET: %v %v", r, err)
	} else {
		_ = r.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	other := http.Header{"Origin": {"http://evil.example"}}
	if _, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{"mqtt"}, HTTPHeader: other}); err == nil {
		t.Error("a foreign origin was accepted")
	}
	ws, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.Read(ctx); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("without sub-protocol: %v", err)
	}
	ws, _, err = websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	if ws.Subprotocol() != "mqtt" {
		t.Error("sub-protocol not returned")
	}
	frame, _ := (&mqtt.Connect{ClientID: "x", CleanStart: true, Version: mqtt.V5}).Append(nil, 0)
	if err := ws.Write(ctx, websocket.MessageText, frame); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.Read(ctx); err == nil {
		t.Error("a text frame was accepted")
	}
}

// TestWebSocketFrameCutOff: a connection that is lost in the middle of a frame has
// sent no part of that frame. What a library hands out of it may still be masked.
func TestWebSocketFrameCutOff(t *testing.T) {
	gone := make(chan struct{}, 9)
	b := start(t, Options{
		Listeners: []Listener{{Name: "ws", Network: "ws", Address: "127.0.0.1:0"}},
		Events:    Events{Disconnected: func(ConnInfo, mqtt.ReasonCode, error) { gone <- struct{}{} }},
	})
	sub := open(t, b)
	sub.connect(clean("sub"))
	sub.subscribe(0, "t")

	nc, err := net.Dial("tcp", b.Addr("ws").String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fmt.Fprintf(nc, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n", nc.RemoteAddr())
	r := bufio.NewReader(nc)
	if answer, err := http.ReadResponse(r, nil); err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", answer, err)
	}
	// frame writes what there is of a frame of a length, masked.
	frame := func(length int, part []byte) {
		t.Helper()
		out := []byte{0x82, 0x80 | byte(length), 1, 2, 3, 4}
		for i, x := range part {
			out = append(out, x^byte(i%4+1))
		}
		if _, err := nc.Write(out); err != nil {
			t.Fatal(err)
		}
	}
	connect := clean("pub")
	hello, _ := connect.Append(nil, mqtt.V5)
	frame(len(hello), hello)
	if _, err := r.ReadByte(); err != nil { // of the CONNACK
		t.Fatal(err)
	}
	said, _ := pub("t", "the whole truth", 0, 0).Append(nil, mqtt.V5)
	half := len(said) - 6
	frame(half, said[:half])
	frame(100, said[half:])
	if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, gone)
	other := open(t, b)
	other.connect(clean("other"))
	other.send(pub("t", "next", 0, 0))
	sub.expect(pub("t", "next", 0, 0))
}

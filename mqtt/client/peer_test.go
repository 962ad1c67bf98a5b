package client_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/mqtt/pipe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network hands the server's ends of a client's connections to a test.
type network struct {
	t       testing.TB
	version mqtt.Version
	dialled chan net.Conn
	refuse  error // what Dial returns, if set before the client starts
}

func newNetwork(t testing.TB, v mqtt.Version) *network {
	return &network{t: t, version: v, dialled: make(chan net.Conn, 100)}
}

func (n *network) dial(context.Context) (net.Conn, error) {
	if n.refuse != nil {
		return nil, n.refuse
	}
	near, far := pipe.Pipe()
	n.dialled <- far
	return near, nil
}

// options are those of a client of this network with a fixed identifier.
func (n *network) options() client.Options {
	return client.Options{Dial: n.dial, Version: n.version, ClientID: "c", KeepAlive: -1}
}

// peer is the server's end of one connection, moved by hand.
type peer struct {
	t       testing.TB
	version mqtt.Version
	conn    net.Conn
	in      *mqtt.Reader
}

// next waits for the client to dial.
func (n *network) next() *peer {
	conn := <-n.dialled
	return &peer{n.t, n.version, conn, mqtt.NewReader(conn, 0)}
}

// accept waits for the client to dial, and answers its CONNECT.
func (n *network) accept(answer mqtt.Connack) (*peer, *mqtt.Connect) {
	n.t.Helper()
	p := n.next()
	connect, ok := p.read().(*mqtt.Connect)
	if !ok {
		n.t.Fatal("the first packet is not CONNECT")
	}
	p.send(&answer)
	return p, connect
}

func (p *peer) read() mqtt.Packet {
	p.t.Helper()
	h, body, err := p.in.Next()
	if err != nil {
		p.t.Fatalf("server reads: %v", err)
	}
	packet, err := mqtt.DecodePacket(h, body, p.version)
	if err != nil {
		p.t.Fatalf("server decodes type %d: %v", h.Type, err)
	}
	if publish, ok := packet.(*mqtt.Publish); ok {
		packet = publish.Clone()
	}
	return packet
}

func (p *peer) send(packets ...mqtt.Packet) {
	p.t.Helper()
	var b []byte
	for _, packet := range packets {
		var err error
		if b, err = packet.Append(b, p.version); err != nil {
			p.t.Fatalf("server encodes: %v", err)
		}
	}
	p.conn.Write(b)
}

// expect reads as many packets as there are descriptions, and compares.
func (p *peer) expect(want ...string) {
	p.t.Helper()
	for i, w := range want {
		if got := describe(p.read()); got != w {
			p.t.Fatalf("packet %d is %q, want %q", i+1, got, w)
		}
	}
}

// again is the same connection with a fresh reader, after a read that was
// meant to find nothing.
func (p *peer) again() *peer {
	return &peer{p.t, p.version, p.conn, mqtt.NewReader(p.conn, 0)}
}

// gone reads up to the end of the connection and returns what came before.
func (p *peer) gone() (rest []string) {
	p.t.Helper()
	for {
		h, body, err := p.in.Next()
		if err != nil {
			return rest
		}
		packet, err := mqtt.DecodePacket(h, body, p.version)
		if err != nil {
			p.t.Fatalf("server decodes: %v", err)
		}
		rest = append(rest, describe(packet))
	}
}

// describe is a packet in words: kind, identifier, what matters.
func describe(p mqtt.Packet) string {
	switch p := p.(type) {
	case *mqtt.Publish:
		s := fmt.Sprintf("PUBLISH %d q%d %s=%s", p.PacketID, p.QoS, p.Topic, p.Payload)
		if p.Dup {
			s += " dup"
		}
		if p.Retain {
			s += " retain"
		}
		if p.HasExpiry {
			s += fmt.Sprintf(" expiry=%d", p.ExpirySeconds)
		}
		return s
	case *mqtt.Ack:
		kind := map[mqtt.Type]string{mqtt.TypePuback: "PUBACK", mqtt.TypePubrec: "PUBREC", mqtt.TypePubrel: "PUBREL", mqtt.TypePubcomp: "PUBCOMP"}[p.Kind]
		s := fmt.Sprintf("%s %d", kind, p.PacketID)
		if p.Reason != mqtt.Success {
			s += fmt.Sprintf(" %#x", byte(p.Reason))
		}
		return s
	case *mqtt.Subscribe:
		var filters []string
		for _, sub := range p.Subscriptions {
			filters = append(filters, fmt.Sprintf("%s:%d", sub.Filter, sub.QoS))
		}
		return fmt.Sprintf("SUBSCRIBE %d %s", p.PacketID, strings.Join(filters, " "))
	case *mqtt.Unsubscribe:
		return fmt.Sprintf("UNSUBSCRIBE %d %s", p.PacketID, strings.Join(p.Filters, " "))
	case *mqtt.Disconnect:
		return fmt.Sprintf("DISCONNECT %#x", byte(p.Reason))
	case *mqtt.Pingreq:
		return "PINGREQ"
	}
	return fmt.Sprintf("%T", p)
}

// start makes a client that runs until the test's end.
func start(t testing.TB, o client.Options) *client.Client {
	t.Helper()
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // do not flush
		c.Stop(ctx)
	})
	return c
}

func message(topic, payload string, qos mqtt.QoS) client.Message {
	return client.Message{Topic: topic, Payload: []byte(payload), QoS: qos}
}

func puback(id uint16) *mqtt.Ack  { return &mqtt.Ack{Kind: mqtt.TypePuback, PacketID: id} }
func pubrec(id uint16) *mqtt.Ack  { return &mqtt.Ack{Kind: mqtt.TypePubrec, PacketID: id} }
func pubrel(id uint16) *mqtt.Ack  { return &mqtt.Ack{Kind: mqtt.TypePubrel, PacketID: id} }
func pubcomp(id uint16) *mqtt.Ack { return &mqtt.Ack{Kind: mqtt.TypePubcomp, PacketID: id} }

func publish(id uint16, qos mqtt.QoS, topic, payload string) *mqtt.Publish {
	return &mqtt.Publish{PacketID: id, QoS: qos, Topic: []byte(topic), Payload: []byte(payload)}
}

package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
)

// caller is a client over a connection inside the process.
type caller struct {
	t       *testing.T
	nc      net.Conn
	in      *mqtt.Reader
	version mqtt.Version
}

func call(t *testing.T, b *broker.Broker, c mqtt.Connect) *caller {
	t.Helper()
	nc, err := b.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return talk(t, nc, c)
}

// reach is call from outside.
func reach(t *testing.T, b *broker.Broker, c mqtt.Connect) *caller {
	t.Helper()
	nc, err := net.Dial("tcp", b.Addr("tcp").String())
	if err != nil {
		t.Fatal(err)
	}
	return talk(t, nc, c)
}

func talk(t *testing.T, nc net.Conn, c mqtt.Connect) *caller {
	t.Helper()
	t.Cleanup(func() { _ = nc.Close() })
	x := &caller{t: t, nc: nc, in: mqtt.NewReader(nc, 0), version: c.Version}
	x.send(&c)
	x.want("CONNACK")
	return x
}

func (c *caller) send(p mqtt.Packet) {
	c.t.Helper()
	b, err := p.Append(nil, c.version)
	if err == nil {
		_, err = c.nc.Write(b)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *caller) next() (mqtt.Packet, error) {
	if err := c.nc.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	h, body, err := c.in.Next()
	if err != nil {
		return nil, err
	}
	return mqtt.DecodePacket(h, bytes.Clone(body), c.version)
}

// want reads a packet and compares it: its type, with a code or a payload.
func (c *caller) want(text string) {
	c.t.Helper()
	p, err := c.next()
	if err != nil {
		c.t.Fatalf("%v, want %s", err, text)
	}
	got := p.Type().String()
	switch p := p.(type) {
	case *mqtt.Ack:
		got += fmt.Sprintf(" %02X", byte(p.Reason))
	case *mqtt.Publish:
		got += fmt.Sprintf(" %s", p.Payload)
	}
	if got != text {
		c.t.Fatalf("got %s, want %s", got, text)
	}
}

func (c *caller) publish(payload string, qos mqtt.QoS) {
	c.t.Helper()
	p := mqtt.Publish{Topic: []byte("t"), Payload: []byte(payload), QoS: qos}
	if qos > 0 {
		p.PacketID = 7
	}
	c.send(&p)
}

// TestBrokerOnFullDisk takes the space from under a broker: MQTT 5 publishers are
// told 0x97 and stay, the connection of a 3.1.1 publisher closes, subscribers
// are served and make room, what needs no disk goes on; and when there is space
// again so does the rest. Nothing that was accepted is lost.
// Shows [B5d].
func TestBrokerOnFullDisk(t *testing.T) {
	fs := vfs.NewMem()
	space := func(bytes uint64) { fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: bytes}) }
	space(1 << 30)
	s := mustOpen(t, "data", Options{fs: fs})
	b, err := broker.New(broker.Options{Authority: broker.AllowAnonymous(), Store: s})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := errors.Join(b.Stop(ctx), s.Close()); err != nil {
			t.Error(err)
		}
	}()
	sub := call(t, b, mqtt.Connect{Version: mqtt.V5, ClientID: "sub", SessionExpirySeconds: 60, ReceiveMaximum: 1})
	sub.send(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "t", QoS: 2}}})
	sub.want("SUBACK")
	five := call(t, b, mqtt.Connect{Version: mqtt.V5, ClientID: "five", CleanStart: true})
	old := call(t, b, mqtt.Connect{Version: mqtt.V311, ClientID: "old", CleanStart: true})
	for _, payload := range []string{"1", "2"} {
		five.publish(payload, 1)
		five.want("PUBACK 00")
	}

	space(1 << 20)
	commit(t, s, putSession("other", false)) // the store looks after each group
	five.publish("no", 1)
	five.want("PUBACK 97")
	five.publish("no", 2)
	five.want("PUBREC 97")
	old.publish("no", 1)
	if p, err := old.next(); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("3.1.1: %v %v", p, err)
	}
	sub.want("PUBLISH 1")
	five.publish("zero", 0)
	sub.want("PUBLISH zero") // passes while the window is closed
	sub.send(&mqtt.Ack{Kind: mqtt.TypePuback, PacketID: 1})
	sub.want("PUBLISH 2")
	if got := queueOf(t, s, "sub", 0, 9); len(got) != 1 || !strings.Contains(got[0], "t=2") {
		t.Errorf("queue: %v", got)
	}
	live := call(t, b, mqtt.Connect{Version: mqtt.V5, ClientID: "live", CleanStart: true})
	live.send(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "live", QoS: 1}}})
	live.want("SUBACK")
	five.send(&mqtt.Publish{Topic: []byte("live"), QoS: 1, PacketID: 7})
	five.want("PUBACK 00")
	live.want("PUBLISH ")
	if n := b.Stats().Dropped[session.DropStoreFull]; n != 3 {
		t.Errorf("%d counted", n)
	}

	space(1 << 30)
	five.publish("3", 2)
	five.want("PUBREC 00")
	sub.send(&mqtt.Ack{Kind: mqtt.TypePuback, PacketID: 2})
	sub.want("PUBLISH 3")
}

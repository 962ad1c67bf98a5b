package client_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

// A filter given up while its SUBSCRIBE is under way is not made again later.
func TestUnsubscribeDuringTheRenewal(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		o := n.options()
		o.Subscriptions = []mqtt.Subscription{{Filter: "a"}, {Filter: "b"}}
		c := start(t, o)
		s, _ := n.accept(mqtt.Connack{})
		s.expect("SUBSCRIBE 1 a:0 b:0")
		done := make(chan error, 1)
		go func() { done <- c.Unsubscribe(t.Context(), "a") }()
		synctest.Wait()
		s.send(&mqtt.Suback{PacketID: 1, Reasons: []mqtt.ReasonCode{0, 0}})
		s.expect("UNSUBSCRIBE 2 a")
		answer := &mqtt.Unsuback{PacketID: 2}
		if n.version == mqtt.V5 {
			answer.Reasons = []mqtt.ReasonCode{mqtt.Success}
		}
		s.send(answer)
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.conn.Close()
		s, _ = n.accept(mqtt.Connack{})
		s.expect("SUBSCRIBE 3 b:0")
	})
}

// Shows [MQTT-3.2.2-15] for SUBSCRIBE: the renewal takes smaller packets, and a
// filter that fits in none is told.
func TestSubscribeWithinTheServersPacketSize(t *testing.T) {
	bubble5(t, func(t *testing.T, n *network) {
		o := n.options()
		for i := range 3 {
			o.Subscriptions = append(o.Subscriptions, mqtt.Subscription{Filter: fmt.Sprint(i, strings.Repeat("x", 19))})
		}
		c := start(t, o)
		s, _ := n.accept(mqtt.Connack{MaximumPacketSize: 60})
		for range 2 {
			h, body, err := s.in.Next()
			if err != nil {
				t.Fatal(err)
			}
			var p mqtt.Subscribe
			if err := p.Decode(h, body, mqtt.V5); err != nil || len(body)+2 > 60 {
				t.Fatalf("a SUBSCRIBE of %d bytes: %v", len(body)+2, err)
			}
			s.send(&mqtt.Suback{PacketID: p.PacketID, Reasons: make([]mqtt.ReasonCode, len(p.Subscriptions))})
		}
		if err := c.AwaitUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Subscribe(t.Context(), mqtt.Subscription{Filter: strings.Repeat("y", 60)}); !errors.Is(err, client.ErrSize) {
			t.Errorf("a filter above the server's Maximum Packet Size: %v", err)
		}
	})
}

// A former process may have left as many messages as there are identifiers; the
// subscriptions of this one are made all the same.
func TestIdentifiersLeftForSubscriptions(t *testing.T) {
	store := new(client.MemoryStore)
	const all = 65535
	bubble5(t, func(t *testing.T, n *network) {
		o := n.options()
		o.Store, o.MaxQueued = store, all
		c := start(t, o)
		s, _ := n.accept(mqtt.Connack{})
		if err := c.AwaitUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range all {
			if err := c.PublishAsync(message("t", "x", 1), nil); err != nil {
				t.Fatal(err)
			}
		}
		s.conn.SetReadDeadline(time.Now().Add(time.Second))
		s.gone() // all that comes without an answer
		stopNow(c)
	})
	bubble5(t, func(t *testing.T, n *network) {
		o := n.options()
		o.Store, o.MaxQueued = store, all
		o.Subscriptions = []mqtt.Subscription{{Filter: "a"}}
		start(t, o)
		s, _ := n.accept(mqtt.Connack{SessionPresent: true})
		if _, ok := s.read().(*mqtt.Subscribe); !ok {
			t.Error("the first packet is no SUBSCRIBE")
		}
	})
}

// The session expiry that one server imposed is not that of the next.
func TestSessionExpiryOfEachServer(t *testing.T) {
	bubble5(t, func(t *testing.T, n *network) {
		o := n.options()
		o.CleanStart, o.SessionExpiry = true, time.Hour
		start(t, o)
		for i, clean := range []bool{true, true, false} {
			answer := mqtt.Connack{HasSessionExpiry: i == 0} // 0 s, then what was asked for
			s, connect := n.accept(answer)
			if connect.CleanStart != clean {
				t.Errorf("connection %d: clean start %v", i+1, connect.CleanStart)
			}
			synctest.Wait()
			s.conn.Close()
		}
	})
}

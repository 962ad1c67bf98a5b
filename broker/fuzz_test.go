package broker

import (
	"io"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/pipe"
)

// FuzzBroker sends arbitrary bytes into a whole broker, raw and after a good
// CONNECT, while another client must go on as if nothing were.
// Shows [B10a].
func FuzzBroker(f *testing.F) {
	seeds := []mqtt.Packet{
		&mqtt.Connect{Version: mqtt.V5, ClientID: "x", CleanStart: true},
		&mqtt.Connect{Version: mqtt.V311, ClientID: "victim"},
		pub("victim/t", "x", 2, 1), pub("t", "x", 1, 1), retainedPub("t", "x", 0, 0),
		ack(mqtt.TypePuback, 1), ack(mqtt.TypePubrec, 1), ack(mqtt.TypePubrel, 1), ack(mqtt.TypePubcomp, 1),
		&mqtt.Subscribe{PacketID: 1, SubscriptionID: 7, Subscriptions: []mqtt.Subscription{{Filter: "#", QoS: 2}, {Filter: "$share/g/+"}}},
		&mqtt.Unsubscribe{PacketID: 2, Filters: []string{"#"}}, &mqtt.Pingreq{}, &mqtt.Disconnect{Reason: 4}, &mqtt.Auth{Reason: mqtt.ReAuthenticate, Method: "m"},
		&mqtt.Connect{Version: mqtt.V5, ClientID: "x", CleanStart: true, AuthMethod: "TOY", AuthData: []byte("ann nonce")},
		auth(mqtt.ContinueAuthentication, "guess"), auth(mqtt.ReAuthenticate, "ann nonce"),
	}
	var all []byte
	for _, s := range seeds {
		b, err := s.Append(nil, mqtt.V5)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
		f.Add(b, false)
		all = append(all, b...)
	}
	f.Add(all, false)
	f.Add(all[len(all)/3:], true)
	b := start(f, Options{
		Authority: &toy{secret: "s", door: door{"victim": trusted("victim"), "": {name: "stranger", publish: "#", subscribe: "#", receive: "#"}}},
		Limits:    Limits{RetainedMessages: 100, Sessions: 50, QueueMessages: 50},
	})
	victim := join(f, b, as("victim", lasting("victim")))
	victim.subscribe(1, "safe")
	victim.send(ack(mqtt.TypePuback, 1))
	f.Fuzz(func(t *testing.T, data []byte, connected bool) {
		near, far := pipe.Pipe()
		c := b.newConn(far, "fuzz", false)
		if !b.admit(c) {
			t.Fatal("not admitted")
		}
		go c.serve()
		if connected {
			hello, _ := (&mqtt.Connect{Version: mqtt.V5, ClientID: "fuzz", CleanStart: true, ReceiveMaximum: 3}).Append(nil, 0)
			_, _ = near.Write(hello)
		}
		_ = near.SetDeadline(time.Now().Add(patience))
		_, _ = near.Write(data)
		go func() { // whatever it answers, until it is closed below
			_, _ = io.Copy(io.Discard, near)
		}()
		m := pub("safe", "x", 1, 1)
		victim.t = t
		victim.send(m)
		sent, answered := false, false
		for !sent || !answered {
			switch p := victim.must().(type) {
			case *mqtt.Publish:
				victim.send(ack(mqtt.TypePuback, p.PacketID))
				sent = sent || p.Topic[0] == 's'
			case *mqtt.Ack:
				answered = p.Kind == mqtt.TypePuback
			default:
				t.Fatalf("victim got %s", show(p))
			}
		}
		_ = near.Close()
	})
}

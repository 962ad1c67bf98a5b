package pebblestore

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/mqtt"
)

// bold is an authority whose identity has a policy; connections inside the
// process are all the system's, which has none.
type bold struct {
	broker.Authority
	policy broker.Overflow
}

type boldIdentity struct {
	broker.Identity
	policy broker.Overflow
}

func (b boldIdentity) Overflow() broker.Overflow { return b.policy }

func (b bold) Authenticate(ctx context.Context, c broker.Credentials) (broker.Identity, error) {
	id, err := b.Authority.Authenticate(ctx, c)
	return boldIdentity{id, b.policy}, err
}

// TestOverflowOnDisk overflows the queue of a session that is away, over a
// restart of broker and store: policy, order, totals and what is to be told of
// losses are kept on the disk.
func TestOverflowOnDisk(t *testing.T) {
	for _, version := range []mqtt.Version{mqtt.V5, mqtt.V311} {
		for _, policy := range []broker.Overflow{broker.DropOldest, broker.DropNewest} {
			t.Run(fmt.Sprint(version, policy), func(t *testing.T) { overflowOnDisk(t, version, policy) })
		}
	}
}

func overflowOnDisk(t *testing.T, version mqtt.Version, policy broker.Overflow) {
	const room, n = 150, 400 // more than what a session knows of its oldest, and less than all
	dir := t.TempDir()
	var b *broker.Broker
	begin := func() (end func()) {
		s := mustOpen(t, dir, Options{Durability: OS})
		var err error
		b, err = broker.New(broker.Options{Authority: bold{broker.AllowAnonymous(), policy}, Store: s,
			Limits:    broker.Limits{QueueMessages: room, Window: 16},
			Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}}})
		if err == nil {
			err = b.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := b.Stop(ctx); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	hello := mqtt.Connect{Version: version, ClientID: "sub"}
	if version == mqtt.V5 {
		hello.SessionExpirySeconds = 3600
	}
	end := begin()
	sub := reach(t, b, hello)
	sub.send(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "t", QoS: 1}}})
	sub.want("SUBACK")
	sub.send(&mqtt.Disconnect{})
	if _, err := sub.next(); err == nil {
		t.Fatal("still there")
	}
	for i := range n {
		if i == n/2 { // the second half meets what the disk has
			end()
			end = begin()
		}
		if i%(n/2) == 0 {
			sub = call(t, b, mqtt.Connect{Version: mqtt.V5, ClientID: "pub", CleanStart: true})
		}
		sub.publish(fmt.Sprint(i), 1)
		sub.want("PUBACK 00")
	}
	end()
	end = begin()
	defer func() { end() }()
	sub = reach(t, b, hello)
	first := 0
	if policy == broker.DropOldest {
		first = n - room
	}
	for i := range room {
		p, err := sub.next()
		if err != nil {
			t.Fatal(i, err)
		}
		m := p.(*mqtt.Publish)
		note := ""
		for _, u := range m.User {
			note += fmt.Sprintf("%s=%s", u.Key, u.Value)
		}
		want := ""
		if version == mqtt.V5 && i == 0 {
			want = fmt.Sprintf("%s=%d queue_full", broker.GapProperty, n-room)
		}
		if string(m.Payload) != fmt.Sprint(first+i) || note != want {
			t.Fatalf("message %d is %s, and tells %q", i, m.Payload, note)
		}
		sub.send(&mqtt.Ack{Kind: mqtt.TypePuback, PacketID: m.PacketID})
	}
	sub.send(&mqtt.Pingreq{})
	sub.want("PINGRESP")
}

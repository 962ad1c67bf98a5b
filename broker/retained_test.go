package broker

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
)

// amid is a broker with retained messages r/0 to r/1999 of value "old", and a
// moment in the middle of reading them: a few more are of somebody who may not
// publish them any more, and the first of those is told of while the hub is free.
func amid(t *testing.T, during func(b *Broker)) *Broker {
	t.Helper()
	var revoked, armed atomic.Bool
	gone := trusted("gone")
	gone.noPublish = revoked.Load
	var b *Broker
	b = start(t, Options{
		Authority: registry{door{"gone": gone, "all": trusted("all")}},
		Events: Events{Dropped: func(Drop) {
			if armed.CompareAndSwap(true, false) {
				during(b)
			}
		}},
	})
	p, q := join(t, b, as("all", clean("from"))), join(t, b, as("gone", clean("gone")))
	for i := range topics {
		p.publish(retainedPub(fmt.Sprint("r/", i), "old", 1, 1), mqtt.NoMatchingSubscribers)
	}
	for i := range 200 {
		q.publish(retainedPub(fmt.Sprint("r/gone/", i), "x", 1, 1), mqtt.NoMatchingSubscribers)
	}
	revoked.Store(true)
	armed.Store(true)
	return b
}

const topics = 2000

// O32: the first copy of a topic is the retained one and what follows is newer,
// or all are newer; never an older one after a newer one [MQTT-3.3.1-5]. Another
// client is served while the retained messages are read.
// Shows [B2b] [B10h].
func TestRetainedChangesWhileItIsRead(t *testing.T) {
	b := amid(t, func(b *Broker) {
		p := join(t, b, as("all", clean("other")))
		for i := range topics {
			if i%4 == 3 { // cleared
				p.publish(retainedPub(fmt.Sprint("r/", i), "", 1, 1))
				continue
			}
			p.publish(retainedPub(fmt.Sprint("r/", i), "new", 1, 1))
		}
	})
	sub := join(t, b, as("all", clean("sub")))
	sub.send(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "r/#"}}})
	sub.expect(&mqtt.Suback{PacketID: 1, Reasons: []mqtt.ReasonCode{0}})
	sub.send(pub("r/end", "", 0, 0)) // comes behind all others
	got := map[string][]string{}
	for {
		m, ok := sub.must().(*mqtt.Publish)
		if !ok {
			t.Fatal("not a message")
		}
		if string(m.Topic) == "r/end" {
			break
		}
		copy := string(m.Payload)
		if m.Retain {
			copy += " retained"
		}
		got[string(m.Topic)] = append(got[string(m.Topic)], copy)
	}
	both := 0
	for i := range topics {
		last := "new"
		if i%4 == 3 {
			last = ""
		}
		copies := got[fmt.Sprint("r/", i)]
		switch {
		case len(copies) == 1 && copies[0] == last:
		case len(copies) == 2 && copies[0] == "old retained" && copies[1] == last:
			both++
		default:
			t.Errorf("r/%d: %q", i, copies)
		}
	}
	if both == 0 || both == topics {
		t.Errorf("%d topics were read before the change: it was not in the middle", both)
	}
	if len(got) != topics {
		t.Errorf("%d topics", len(got))
	}
}

// Who takes the session over in the middle is not told of the subscription, and
// asks again; the one before gets no answer.
func TestTakeoverWhileRetainedIsRead(t *testing.T) {
	next := make(chan *peer, 1)
	b := amid(t, func(b *Broker) {
		c := lasting("sub")
		c.Username, c.HasUsername, c.Password, c.HasPassword = "all", true, []byte("all"), true
		next <- join(t, b, c)
	})
	first := join(t, b, as("all", lasting("sub")))
	first.send(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "r/#", QoS: 1}}}, &mqtt.Subscribe{PacketID: 2, Subscriptions: []mqtt.Subscription{{Filter: "x"}}})
	first.expect(&mqtt.Disconnect{Reason: mqtt.SessionTakenOver})
	first.closed()
	p := testkit.Receive(t, next)
	p.send(&mqtt.Subscribe{PacketID: 3, Subscriptions: []mqtt.Subscription{{Filter: "r/#", QoS: 1}}})
	got := map[string]bool{}
	for subscribed := false; len(got) < topics || !subscribed; {
		switch m := p.must().(type) {
		case *mqtt.Publish:
			got[string(m.Topic)] = true
			p.send(ack(mqtt.TypePuback, m.PacketID))
		case *mqtt.Suback:
			subscribed = m.PacketID == 3
		default:
			t.Fatalf("%s", show(m))
		}
	}
}

// A session that is wiped in the middle gets nothing more, and takes nothing
// with it.
func TestForgetWhileRetainedIsRead(t *testing.T) {
	b := amid(t, func(b *Broker) { b.Forget("all") })
	p := join(t, b, as("all", lasting("sub")))
	p.send(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "r/#", QoS: 1}}})
	p.expect(&mqtt.Disconnect{Reason: mqtt.AdministrativeAction})
	p.closed()
	eventually(t, func() bool { s := b.Stats(); return s.Sessions == 1 && s.Subscriptions == 0 && s.Retained == 200 })
}

// Messages of one topic that came in several turns, and were not kept, leave what was
// there before, in whichever order that is found out; what was kept stays.
func TestRetainedIsUndoneInAnyOrder(t *testing.T) {
	for _, kept := range []int{-1, 0, 1, 2} {
		for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
			for _, want := range []string{"", "before"} {
				var r retained
				message := func(payload string) *session.Message {
					return session.NewMessage(retainedPub("a", payload, 1, 1), "a", "", "", time.Time{})
				}
				if want != "" {
					r.put(message(want), &putting{seq: 1})
				}
				var changes []change
				for i := range 3 {
					changes = append(changes, r.change(message(fmt.Sprint(i)), uint64(i+2)))
				}
				for _, i := range order {
					if i != kept {
						r.undo(changes[i])
					}
				}
				if kept >= 0 {
					want = fmt.Sprint(kept)
				}
				got := ""
				if m := r.get("a"); m != nil {
					got = string(m.Payload)
				}
				if got != want {
					t.Errorf("%d kept, undone in the order %v: %q is retained, not %q", kept, order, got, want)
				}
			}
		}
	}
}

package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

// matrix runs f for each network and version.
func matrix(t *testing.T, networks []string, f func(t *testing.T, network string, v mqtt.Version)) {
	for _, network := range networks {
		for name, version := range versions {
			t.Run(network+" "+name, func(t *testing.T) {
				t.Parallel()
				f(t, network, version)
			})
		}
	}
}

var (
	all  = []string{"tcp", "tls", "ws", "wss", "memory"}
	some = []string{"tcp", "memory"} // where the transport is not the point
)

// What one client publishes reaches another in order, across topics and across
// QoS 1 and 2.
// Shows [B1a].
func TestClientOrder(t *testing.T) {
	matrix(t, all, func(t *testing.T, network string, version mqtt.Version) {
		r := newRig(t, network, broker.Limits{})
		for i, qos := range [][]mqtt.QoS{{0}, {1}, {2}, {1, 2, 2}} {
			const n = 500
			seen := newJournal(n)
			o := r.client(network, version, fmt.Sprint("sub", i), nil)
			o.Subscriptions = []mqtt.Subscription{{Filter: "x/+", QoS: 2}}
			o.OnMessage = func(d *client.Delivery) { seen.add(d); d.Ack() }
			sub := open(t, o)
			pub := newPublisher(t, open(t, r.client(network, version, fmt.Sprint("pub", i), nil)), n)
			pub.send(n, qos...)
			pub.settled(0)
			seen.await(t)
			if copies := seen.ordered(t); copies > 0 {
				t.Errorf("%d repetitions", copies)
			}
			for _, a := range seen.seen {
				if want := (arrival{a.n, fmt.Sprintf("x/%d", a.n%3), qos[a.n%len(qos)], false}); a != want {
					t.Fatalf("got %+v, want %+v", a, want)
				}
			}
			shut(t, sub)
		}
	})
}

// Acknowledgements leave in the order of receipt, whatever the order of Ack;
// what has not left when the connection ends is not lost.
func TestClientAcksOutOfOrder(t *testing.T) {
	matrix(t, some, func(t *testing.T, network string, version mqtt.Version) {
		for _, qos := range []mqtt.QoS{1, 2} {
			t.Run(qosName([]mqtt.QoS{qos}), func(t *testing.T) {
				acksOutOfOrder(t, newRig(t, network, broker.Limits{}), network, version, qos)
			})
		}
	})
}

func acksOutOfOrder(t *testing.T, r *rig, network string, version mqtt.Version, qos mqtt.QoS) {
	const n = 100
	wire := newTap(version)
	seen := newJournal(n)
	shown := make(chan *client.Delivery, 3*n)
	o := r.client(network, version, "sub", nil)
	o.Servers, o.Dial = nil, dialTapped(r, network, wire)
	o.Subscriptions = []mqtt.Subscription{{Filter: "x/#", QoS: 2}}
	o.OnMessage = func(d *client.Delivery) { seen.add(d); shown <- d }
	downs := make(chan error, 10)
	o.OnDown = func(err error) { downs <- err }
	sub := open(t, o)
	pub := newPublisher(t, open(t, r.client(network, version, "pub", nil)), n)
	pub.send(n, qos)
	seen.await(t)

	deliveries := take(t, shown, n)
	random := rand.New(rand.NewPCG(9, uint64(qos)))
	random.Shuffle(n-1, func(i, j int) { // the first stays
		deliveries[i+1], deliveries[j+1] = deliveries[j+1], deliveries[i+1]
	})
	ackAll(deliveries[1:])
	answer := mqtt.TypePuback
	if qos == mqtt.ExactlyOnce {
		answer = mqtt.TypePubrec
	}
	// What leaves now would leave behind any acknowledgement that went astray.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := sub.Publish(ctx, client.Message{Topic: "other", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	if ids := wire.await(t, true, answer, 0); len(ids) > 0 {
		t.Fatalf("acknowledged %v though the first was not", ids)
	}
	wire.sever()
	take(t, downs, 1)            // before that, an Ack might still be written to nobody
	if qos == mqtt.AtLeastOnce { // all come again, and the old deliveries' Ack is void
		ackAll(deliveries[:1])
		deliveries = take(t, shown, n)
		for i, d := range deliveries {
			if string(d.Payload) != fmt.Sprint(i) || !d.Dup {
				t.Fatalf("repetition %d is %q, dup %v", i, d.Payload, d.Dup)
			}
		}
		slices.Reverse(deliveries)
		ackAll(deliveries)
	} else { // known already; the acknowledgements given count on
		wire.await(t, false, mqtt.TypePublish, n)
		ackAll(deliveries[:1])
		released := wire.await(t, false, mqtt.TypePubrel, n)
		if completed := wire.await(t, true, mqtt.TypePubcomp, n); !slices.Equal(released, completed) {
			t.Errorf("released\n%v\ncompleted\n%v", released, completed)
		}
	}
	came, left := wire.await(t, false, mqtt.TypePublish, n), wire.await(t, true, answer, n)
	if !slices.Equal(came, left) {
		t.Errorf("received\n%v\nacknowledged\n%v", came, left)
	}
	if copies := seen.ordered(t); qos == mqtt.AtLeastOnce && copies != n {
		t.Errorf("%d repetitions, not %d", copies, n)
	}
	pub.settled(0)
}

// ackAll acknowledges from several goroutines.
func ackAll(list []*client.Delivery) {
	var running sync.WaitGroup
	for part := range slices.Chunk(list, max(1, len(list)/4)) {
		running.Go(func() {
			for _, d := range part {
				d.Ack()
			}
		})
	}
	running.Wait()
}

// With Receive Maximum 1, each side has one message under way, until its
// handshake is over.
// Shows [B7a].
func TestClientReceiveMaximumOne(t *testing.T) {
	matrix(t, some, func(t *testing.T, network string, version mqtt.Version) {
		const n = 100
		limits := broker.Limits{ReceiveMaximum: 1}
		if version == mqtt.V311 {
			limits.Inflight = 1
		}
		r := newRig(t, network, limits)
		down, up := newTap(version), newTap(version)
		seen := newJournal(n)
		o := r.client(network, version, "sub", nil)
		o.Servers, o.Dial = nil, dialTapped(r, network, down)
		o.ReceiveMaximum = 1
		o.Subscriptions = []mqtt.Subscription{{Filter: "x/#", QoS: 2}}
		acks := newShuffler(t, 4)
		o.OnMessage = func(d *client.Delivery) { seen.add(d); acks.take(d) }
		open(t, o)
		o = r.client(network, version, "pub", nil)
		o.Servers, o.Dial = nil, dialTapped(r, network, up)
		if version == mqtt.V311 {
			o.MaxInflight = 1
		}
		pub := newPublisher(t, open(t, o), n)
		pub.send(n, 1, 2, 2)
		pub.settled(0)
		seen.await(t)
		seen.ordered(t)
		down.await(t, false, mqtt.TypePublish, n)
		up.await(t, true, mqtt.TypePublish, n)
		if a, b := up.underway(true), down.underway(false); a != 1 || b != 1 {
			t.Errorf("%d messages under way from the publisher, %d to the subscriber", a, b)
		}
	})
}

// Many requests at once each get their own answer, also while requester and
// responder are cut off again and again.
func TestClientRequests(t *testing.T) {
	for _, network := range all {
		for _, cuts := range []int{0, 10} {
			t.Run(fmt.Sprintf("%s %d cuts", network, cuts), func(t *testing.T) {
				t.Parallel()
				manyRequests(t, network, cuts)
			})
		}
	}
}

func manyRequests(t *testing.T, network string, cuts int) {
	r := newRig(t, network, broker.Limits{Inflight: window, ReceiveMaximum: window})
	var responder *client.Client
	ready := make(chan struct{})
	o := r.client(network, mqtt.V5, "responder", newCutter(network, 11, cuts).wrap)
	o.Subscriptions = []mqtt.Subscription{{Filter: "ask", QoS: 1}}
	o.OnMessage = func(d *client.Delivery) {
		<-ready
		if err := responder.PublishAsync(client.Message{
			Topic: d.ResponseTopic, CorrelationData: d.CorrelationData, QoS: 1,
			Payload: append([]byte("re: "), d.Payload...),
		}, nil); err != nil {
			t.Errorf("respond: %v", err)
		}
		d.Ack()
	}
	responder = open(t, o)
	close(ready)
	var running sync.WaitGroup
	defer running.Wait()
	for i := range 3 {
		c := open(t, r.client(network, mqtt.V5, fmt.Sprint("asker", i), newCutter(network, uint64(20+i), cuts).wrap))
		for j := range 40 {
			running.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				ask := fmt.Appendf(nil, "%d-%d", i, j)
				d, err := c.Request(ctx, client.Message{Topic: "ask", Payload: ask, QoS: 1})
				if err != nil {
					t.Errorf("request %s: %v", ask, err)
				} else if want := append([]byte("re: "), ask...); !bytes.Equal(d.Payload, want) {
					t.Errorf("request %s was answered %q", ask, d.Payload)
				}
			})
		}
	}
}

func TestClientRequestNeedsVersion5(t *testing.T) {
	r := newRig(t, "memory", broker.Limits{})
	c := open(t, r.client("memory", mqtt.V311, "c", nil))
	if _, err := c.Request(t.Context(), client.Message{Topic: "ask", QoS: 1}); !errors.Is(err, client.ErrNoRequests) {
		t.Errorf("request: %v", err)
	}
}

package interop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

// A session goes from client to client in the middle of its messages; each goes
// on with the first one that its forerunner left unacknowledged.
// Shows [B3b].
func TestClientTakeover(t *testing.T) {
	matrix(t, all, func(t *testing.T, network string, version mqtt.Version) {
		const takers, acked, held = 5, 20, 10
		const n = takers*acked + 100
		r := newRig(t, network, broker.Limits{})
		seen := newJournal(n)
		pub := newPublisher(t, open(t, r.client(network, version, "pub", nil)), n)
		var down chan error
		for i := range takers {
			ended := make(chan error, 1)
			enough := make(chan struct{})
			var count int
			var first string
			o := r.client(network, version, "same", nil)
			o.Backoff = client.Backoff{Min: time.Hour, Max: time.Hour} // it must not take it back
			o.ReceiveMaximum = held
			o.Subscriptions = []mqtt.Subscription{{Filter: "x/#", QoS: 1}}
			o.OnDown = func(err error) { ended <- err }
			present := make(chan bool, 1)
			o.OnUp = func(u client.Up) { present <- u.SessionPresent }
			o.OnMessage = func(d *client.Delivery) {
				seen.add(d)
				if count == 0 {
					first = string(d.Payload)
				}
				if count++; count <= acked || i == takers-1 {
					d.Ack()
				}
				if count == acked+held {
					close(enough)
				}
			}
			open(t, o)
			if <-present != (i > 0) {
				t.Errorf("session present at client %d: %v", i, i == 0)
			}
			if down != nil {
				err := take(t, down, 1)[0]
				reason, ok := errors.AsType[*client.ReasonError](err)
				if version == mqtt.V5 && (!ok || reason.Code != mqtt.SessionTakenOver) {
					t.Errorf("client %d was told %v", i-1, err)
				}
			}
			down = ended
			if i == 0 {
				pub.send(n, 1)
			}
			take(t, enough, 1)
			if want := fmt.Sprint(i * acked); version == mqtt.V5 && first != want {
				t.Errorf("client %d begins with %s, not %s", i, first, want)
			}
		}
		pub.settled(0)
		seen.await(t)
		seen.ordered(t)
	})
}

// The broker stops and starts over the same store, again and again, while a
// client publishes and another receives.
// Shows [B3c].
func TestClientBrokerRestarts(t *testing.T) {
	matrix(t, all, func(t *testing.T, network string, version mqtt.Version) {
		const rounds, each = 4, 60
		const n = 2 * rounds * each
		same := func(nc net.Conn) net.Conn { return nc }
		r := newRig(t, network, broker.Limits{})
		seen := newJournal(n)
		o := r.client(network, version, "sub", same)
		o.Subscriptions = []mqtt.Subscription{{Filter: "x/#", QoS: 2}}
		o.OnMessage = func(d *client.Delivery) { seen.add(d); d.Ack() }
		open(t, o)
		pub := newPublisher(t, open(t, r.client(network, version, "pub", same)), n)
		downs := make(chan error, 10*rounds)
		ups := make(chan bool, 10*rounds)
		o = r.client(network, version, "idle", same)
		o.OnDown = func(err error) { downs <- err }
		o.OnUp = func(u client.Up) { ups <- u.SessionPresent }
		idle := open(t, o)
		take(t, ups, 1)
		for range rounds {
			pub.send(each, 1, 2, 2)
			r.stop()
			err := take(t, downs, 1)[0]
			reason, ok := errors.AsType[*client.ReasonError](err)
			if version == mqtt.V5 && (!ok || reason.Code != mqtt.ServerShuttingDown) {
				t.Errorf("told at the end: %v", err)
			}
			pub.send(each, 2, 1, 2)
			r.start()
			if !take(t, ups, 1)[0] {
				t.Error("the session is gone after the restart")
			}
		}
		pub.settled(0)
		seen.await(t)
		seen.ordered(t)
		shut(t, idle)
	})
}

// bubble runs f in virtual time, for each version, with a broker that has no
// listeners.
func bubble(t *testing.T, f func(t *testing.T, r *rig, v mqtt.Version)) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, newRig(t, "memory", broker.Limits{}), version) })
		})
	}
}

// A will is published when its delay is over and its client has not come back;
// 3.1.1 knows no delay. A client that stops in good order has no will.
func TestClientWill(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig, version mqtt.Version) {
		const delay = 30 * time.Second
		wills := make(chan string, 10)
		o := r.client("memory", mqtt.V5, "watcher", nil)
		o.Subscriptions = []mqtt.Subscription{{Filter: "will", QoS: 2}}
		o.OnMessage = func(d *client.Delivery) { wills <- string(d.Payload); d.Ack() }
		open(t, o)
		mortal := func(id string, back time.Duration) (*client.Client, *tap) {
			wire := newTap(version)
			o := r.client("memory", version, id, wire.wrap)
			o.Backoff = client.Backoff{Min: back, Max: back}
			o.Will = func() *mqtt.Will {
				w := &mqtt.Will{Topic: "will", Payload: []byte(id), QoS: 1}
				if version == mqtt.V5 {
					w.DelaySeconds = uint32(delay / time.Second)
				}
				return w
			}
			return open(t, o), wire
		}
		expect := func(want ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for len(wills) > 0 {
				got = append(got, <-wills)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("wills %v, want %v", got, want)
			}
		}
		_, gone := mortal("gone", 24*time.Hour)
		_, back := mortal("back", 10*time.Second)
		leaves, _ := mortal("leaves", time.Second)
		shut(t, leaves)
		time.Sleep(2 * delay)
		expect()

		gone.sever()
		if version == mqtt.V311 {
			expect("gone")
			back.sever()
			expect("back")
			return
		}
		back.sever()
		time.Sleep(delay - time.Second)
		expect()
		time.Sleep(2 * time.Second)
		expect("gone")
		time.Sleep(2 * delay)
		expect() // it was back in time
	})
}

// The time that a message waits, in the client and in the broker, is taken off
// its expiry; when nothing is left it is not delivered.
// Shows [B9a].
func TestClientMessageExpiry(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig, version mqtt.Version) {
		shown := make(chan *client.Delivery, 10)
		o := r.client("memory", version, "sub", nil)
		o.Subscriptions = []mqtt.Subscription{{Filter: "e", QoS: 1}}
		o.OnMessage = func(d *client.Delivery) { shown <- d; d.Ack() }
		shut(t, open(t, o))

		pub, err := client.New(r.client("memory", mqtt.V5, "pub", nil))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { shut(t, pub) })
		results := make(chan error, 10)
		for _, expiry := range []time.Duration{100 * time.Second, 20 * time.Second, 60 * time.Second, 0} {
			m := client.Message{Topic: "e", Payload: []byte(expiry.String()), QoS: 1, Expiry: expiry}
			if err := pub.PublishAsync(m, func(r client.Result) { results <- r.Err }); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(30 * time.Second) // in the client's queue, where 20 s is over
		pub.Start()
		for i, err := range take(t, results, 4) {
			if want := []error{nil, client.ErrExpired, nil, nil}[i]; !errors.Is(err, want) {
				t.Errorf("result %d: %v, want %v", i, err, want)
			}
		}
		time.Sleep(40 * time.Second) // in the broker's queue, where 60 s is over
		open(t, o)
		left := 30 * time.Second
		if version == mqtt.V311 {
			left = 0 // it cannot be told
		}
		for i, want := range []struct {
			payload string
			expiry  time.Duration
		}{{"1m40s", left}, {"0s", 0}} {
			if d := take(t, shown, 1)[0]; string(d.Payload) != want.payload || d.Expiry != want.expiry {
				t.Errorf("message %d is %s with %v left, want %s with %v", i, d.Payload, d.Expiry, want.payload, want.expiry)
			}
		}
		synctest.Wait()
		if len(shown) > 0 {
			t.Errorf("%d more messages", len(shown))
		}
		if n := r.current().Stats().Dropped[session.DropExpired]; n != 1 {
			t.Errorf("%d drops counted for expiry", n)
		}
	})
}

// A client that stops says so; its session stays, and what comes meanwhile
// waits.
func TestClientStopsInGoodOrder(t *testing.T) {
	matrix(t, all, func(t *testing.T, network string, version mqtt.Version) {
		const n = 100
		ended := make(chan mqtt.ReasonCode, 10)
		r := newRig(t, network, broker.Limits{})
		r.stop()
		r.options.Events.Disconnected = func(c broker.ConnInfo, code mqtt.ReasonCode, _ error) {
			if c.ClientID == "sub" {
				ended <- code
			}
		}
		r.start()
		seen := newJournal(n)
		o := r.client(network, version, "sub", nil)
		o.Subscriptions = []mqtt.Subscription{{Filter: "x/#", QoS: 2}}
		o.OnMessage = func(d *client.Delivery) { seen.add(d); d.Ack() }
		shut(t, open(t, o))
		if code := take(t, ended, 1)[0]; code != mqtt.NormalDisconnection {
			t.Errorf("the broker saw the end as %v", code)
		}
		c := open(t, r.client(network, version, "pub", nil))
		pub := newPublisher(t, c, n)
		pub.send(n, 1, 2)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := c.Stop(ctx); err != nil { // which flushes
			t.Error(err)
		}
		pub.settled(0)
		open(t, o)
		seen.await(t)
		if copies := seen.ordered(t); copies > 0 {
			t.Errorf("%d repetitions", copies)
		}
	})
}

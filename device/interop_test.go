package device_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// mosquitto runs Eclipse Mosquitto until the end of the test and returns its URL.
func mosquitto(t *testing.T) string {
	t.Helper()
	address := testkit.FreeAddress(t)
	testkit.StartMosquitto(t, testkit.MosquittoConfig(t, testkit.MosquittoListener(address)))
	return "mqtt://" + address
}

// ownBroker runs the broker of this module and returns its URL.
func ownBroker(t *testing.T) string {
	t.Helper()
	b, err := broker.New(broker.Options{
		Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}},
		Authority: broker.AllowAnonymous(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Stop(context.Background()) })
	return "mqtt://" + b.Addr("tcp").String()
}

// ups listens to all devices, as a server does.
func ups(t *testing.T, url string) (*client.Client, <-chan wire.Up) {
	t.Helper()
	said := make(chan wire.Up, 1000)
	var subs []mqtt.Subscription
	for _, f := range profile.Filters() {
		subs = append(subs, mqtt.Subscription{Filter: f, QoS: mqtt.AtLeastOnce})
	}
	c, err := client.New(client.Options{Servers: []string{url}, ClientID: "server", Subscriptions: subs,
		Backoff: client.Backoff{Min: 10 * time.Millisecond, Max: 100 * time.Millisecond},
		OnMessage: func(d *client.Delivery) {
			up, err := profile.ParseUp(d.Topic, d.Payload)
			if err != nil {
				t.Errorf("%s on %s: %v", d.Payload, d.Topic, err)
			}
			said <- up
			d.Ack()
		}})
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.AwaitUp(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		dead, kill := context.WithCancel(context.Background())
		kill()
		c.Stop(dead)
	})
	return c, said
}

// await returns the first document that fits.
func await(t *testing.T, said <-chan wire.Up, fits func(wire.Up) bool) wire.Up {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		select {
		case up := <-said:
			if fits(up) {
				return up
			}
		case <-deadline:
			t.Fatal("the device did not say it")
		}
	}
}

func online(yes bool) func(wire.Up) bool {
	return func(up wire.Up) bool { return up.Kind == wire.UpStatus && up.Status.Online == yes }
}

func final(tid string) func(wire.Up) bool {
	return func(up wire.Up) bool {
		return up.Kind == wire.UpResult && up.Result.TID == tid && wire.Final(up.Result.Status)
	}
}

// TestWithRealBrokers: a device executes, is offline while commands come,
// executes them in order when it is back, and is missed when it vanishes.
func TestWithRealBrokers(t *testing.T) {
	for name, start := range map[string]func(*testing.T) string{"mosquitto": mosquitto, "wilco": ownBroker} {
		for _, version := range []mqtt.Version{mqtt.V5, mqtt.V311} {
			t.Run(fmt.Sprintf("%s %d", name, version), func(t *testing.T) { realBroker(t, start(t), version) })
		}
	}
}

func realBroker(t *testing.T, url string, version mqtt.Version) {
	server, said := ups(t, url)
	var order []string
	var dialer net.Dialer
	d, err := device.New(device.Config{Address: address, Dir: t.TempDir(), Version: version,
		Dial: func(ctx context.Context) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", url[len("mqtt://"):])
		}})
	if err != nil {
		t.Fatal(err)
	}
	d.Handle("x", func(_ context.Context, r *device.Request) (any, error) {
		order = append(order, r.TID)
		return r.TID, nil
	})
	run := func() (context.CancelCauseFunc, chan error) {
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error, 1)
		go func() { result <- d.Run(ctx) }()
		return cancel, result
	}
	seq := int64(0)
	send := func(tid string) {
		t.Helper()
		seq++
		b, err := profile.AppendCommand(nil, wire.Command{TID: tid, Cmd: "x", Status: wire.Request, Epoch: 1, Seq: seq})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := server.Publish(ctx, client.Message{Topic: profile.Topic(address), Payload: b, QoS: mqtt.AtLeastOnce}); err != nil {
			t.Fatal(err)
		}
	}

	cancel, result := run()
	await(t, said, online(true))
	send("first")
	if up := await(t, said, final("first")); up.Result.Status != wire.Success || string(up.Result.Result) != `"first"` {
		t.Errorf("%+v", up.Result)
	}
	cancel(nil)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	await(t, said, online(false))
	want := []string{"first"}
	for i := range 50 {
		want = append(want, fmt.Sprint("t", i))
		send(want[i+1])
	}
	send("t0") // a retry
	cancel, result = run()
	await(t, said, final("t49"))
	cancel(device.ErrPowerLoss)
	if err := <-result; !errors.Is(err, device.ErrPowerLoss) {
		t.Fatal(err)
	}
	await(t, said, online(false)) // the Will
	if !slices.Equal(order, want) {
		t.Errorf("executed %q, want %q", order, want)
	}
}

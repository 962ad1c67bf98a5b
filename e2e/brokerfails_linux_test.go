package e2e

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

// TestBrokerEndsWhenItsStoreFails has a broker that may write no file above a
// limit: it ends by itself, says why, and a new start has what it acknowledged.
// Shows [B4a].
func TestBrokerEndsWhenItsStoreFails(t *testing.T) {
	t.Parallel()
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	argv := []string{program("wilco"), "broker", "--tcp", address, "--anonymous", "--data", data}
	broker, err := spawn("wilco broker", nil, nil, append([]string{"sh", "-c", `ulimit -f 2048; exec "$@"`, "sh"}, argv...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.kill() })
	got := make(chan int, 1000)
	lasting := client.Options{Servers: []string{"mqtt://" + address}, ClientID: "hears", Version: mqtt.V5,
		Subscriptions: []mqtt.Subscription{{Filter: "t", QoS: mqtt.AtLeastOnce}}, OnMessage: func(d *client.Delivery) {
			got <- int(d.Payload[0])<<8 | int(d.Payload[1])
			d.Ack()
		}}
	hears := dialBroker(t, lasting)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := hears.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	speaks := dialBroker(t, client.Options{Servers: []string{"mqtt://" + address}, ClientID: "speaks", Version: mqtt.V5})
	acked := 0
	for n := range 1000 { // more than the broker can write
		say, done := context.WithTimeout(t.Context(), patience)
		go func() {
			select {
			case <-broker.exited:
				done()
			case <-say.Done():
			}
		}()
		payload := append([]byte{byte(n >> 8), byte(n)}, bytes.Repeat([]byte{'x'}, 16<<10)...)
		err := speaks.Publish(say, client.Message{Topic: "t", QoS: mqtt.AtLeastOnce, Payload: payload})
		done()
		if err != nil {
			break
		}
		acked++
	}
	select {
	case <-broker.exited:
	case <-time.After(patience):
		t.Fatalf("it goes on after %d messages", acked)
	}
	if broker.err == nil || acked == 0 || acked == 1000 || !strings.Contains(broker.out.String(), "the disk failed") {
		t.Fatalf("%d acknowledged; %v\n%s", acked, broker.err, broker.out.String())
	}
	if broker, err = startBroker(address, data, "fsync"); err != nil {
		t.Fatal(err)
	}
	dialBroker(t, lasting)
	for want := range acked {
		select {
		case n := <-got:
			if n != want {
				t.Fatalf("message %d in place of %d", n, want)
			}
		case <-time.After(patience):
			t.Fatalf("message %d of %d that were acknowledged is lost", want, acked)
		}
	}
	if err := broker.stop(); err != nil {
		t.Error(err)
	}
}

package host_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// TestMosquitto is the life of a node, with the death of its connection, and
// STATE with the death of the host's process, over Eclipse Mosquitto and both
// versions of MQTT. Shows [tck-id-payloads-state-will-message]
// [tck-id-operational-behavior-host-application-connect-will-payload].
func TestMosquitto(t *testing.T) {
	for name, version := range map[string]mqtt.Version{"3.1.1": mqtt.V311, "5.0": mqtt.V5} {
		t.Run(name, func(t *testing.T) {
			address := testkit.FreeAddress(t)
			testkit.StartMosquitto(t, testkit.MosquittoConfig(t, testkit.MosquittoListener(address)))
			o := client.Options{Servers: []string{"mqtt://" + address}, Version: version}
			testLife(t, o)
		})
	}
}

func testLife(t *testing.T, o client.Options) {
	said := make(chan string, 100)
	watch := o
	watch.ClientID, watch.CleanStart = "watch", true
	watch.Subscriptions = []mqtt.Subscription{{Filter: "spBv1.0/STATE/scada", QoS: 1}}
	watch.OnMessage = func(d *client.Delivery) { said <- string(d.Payload); d.Ack() }
	startClient(t, watch)

	h, err := host.New(host.Options{
		HostID: "scada", Servers: []host.Server{{Name: "mosquitto", Client: o}},
		Session: session.Config{ReorderTimeout: 200 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	w := h.Watch(1000)
	h.Start()
	defer stopHost(t, h)
	birth := await(t, said, func(s string) bool { return strings.HasPrefix(s, `{"online":true`) })

	// The node's connection can be cut, so that its Will speaks.
	death, err := sparkplug.NodeDeath("g", "n", 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	will := o
	will.Will = func() *mqtt.Will {
		return &mqtt.Will{Topic: death.Topic, Payload: death.Payload, QoS: mqtt.QoS(death.QoS)}
	}
	proxy, cut := cuttable(t, strings.TrimPrefix(o.Servers[0], "mqtt://"))
	will.Servers = []string{"mqtt://" + proxy}
	e := startEdge(t, will, "edge")
	e.birth("n")
	e.data("n", 21)
	is := func(k session.Kind) func(host.Event) bool { return func(ev host.Event) bool { return ev.Kind == k } }
	await(t, w.C, is(session.NodeBirth))
	await(t, w.C, is(session.DeviceBirth))
	await(t, w.C, is(session.Data))
	expect(t, h, "n", "online temp=21 speed=5")
	e.next("n")
	e.data("n", 22)
	await(t, w.C, is(session.Stale))
	await(t, w.C, is(session.NodeBirth)) // as the host has asked
	await(t, w.C, is(session.DeviceBirth))
	expect(t, h, "n", "online temp=20 speed=5")
	cut()
	await(t, w.C, is(session.NodeDeath))
	expect(t, h, "n", "offline ~temp=20 ~speed=5(offline)")

	stopHost(t, h)
	last := await(t, said, func(s string) bool { return strings.HasPrefix(s, `{"online":false`) })
	if last < strings.Replace(birth, "true", "false", 1) {
		t.Errorf("death %s is older than birth %s", last, birth)
	}
}

// await is the first of what comes that fits.
func await[T any](t *testing.T, c <-chan T, fits func(T) bool) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		select {
		case x := <-c:
			if fits(x) {
				return x
			}
		case <-ctx.Done():
			t.Fatal("it did not come")
		}
	}
}

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/mqtt"
	mqttclient "github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// resident is a device with a lasting session, that says it is online whenever
// it connects, and has a Will that says it is not.
type resident struct {
	t   *testing.T
	id  string
	c   *mqttclient.Client
	got chan wire.Command
}

func moveIn(t *testing.T, s *site, i int, broker string, v mqtt.Version) *resident {
	t.Helper()
	m := s.members[i]
	r := &resident{t: t, id: m.Address.String(), got: make(chan wire.Command, 100)}
	w := &mqtt.Will{Topic: "wilco/" + r.id + "/status", QoS: 1, Retain: true, Payload: []byte(`{"online":false,"boot":"b1"}`)}
	var err error
	r.c, err = mqttclient.New(mqttclient.Options{Servers: []string{"mqtt://" + broker}, Version: v, ClientID: r.id, Username: r.id,
		Password: []byte(m.Secret), SessionExpiry: time.Hour, Will: func() *mqtt.Will { return w },
		Subscriptions: []mqtt.Subscription{{Filter: "wilco/" + r.id + "/command", QoS: 1}},
		OnMessage:     r.take,
		OnUp:          func(mqttclient.Up) { _ = r.c.PublishAsync(r.online("1"), func(mqttclient.Result) {}) }})
	if err != nil {
		t.Fatal(err)
	}
	r.c.Start()
	t.Cleanup(r.vanish)
	return r
}

// online is a status that no earlier one has made superfluous.
func (r *resident) online(firmware string) mqttclient.Message {
	return mqttclient.Message{Topic: "wilco/" + r.id + "/status", QoS: 1, Retain: true,
		Payload: fmt.Appendf(nil, `{"online":true,"boot":"b1","firmware":%q}`, firmware)}
}

func (r *resident) vanish() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = r.c.Stop(ctx)
}

func (r *resident) take(d *mqttclient.Delivery) {
	d.Ack()
	c, err := wire.NewWilco("").ParseCommand(d.Payload)
	if err != nil {
		r.t.Error(err)
	}
	r.got <- c
}

// command wants this command as the next one.
func (r *resident) command(name string) wire.Command {
	r.t.Helper()
	select {
	case c := <-r.got:
		if c.Cmd != name {
			r.t.Errorf("%s got %s, attempt %d; want %s", r.id, c.Cmd, c.Attempt, name)
		}
		return c
	case <-time.After(patience):
		r.t.Fatalf("no command came for %s", r.id)
		return wire.Command{}
	}
}

// await waits until the server says of a device that it is there, or not.
func (s *site) awaitPresence(id string, online bool) {
	s.t.Helper()
	if err := within(patience, func() error {
		d, err := s.api.Device(s.t.Context(), id)
		if err == nil && (!d.Presence.Known || d.Presence.Online != online) {
			err = fmt.Errorf("presence of %s is %+v", id, d.Presence)
		}
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
}

// TestPresenceAfterKill kills the server, and with it its broker, which has kept
// the retained statuses, and acknowledged none that the server had not yet taken.
// A device that does not come back ends as offline, one that does as online; and
// what was out is published again once, when its device is there, and not on the
// word of a status from before.
func TestPresenceAfterKill(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		t.Run(fmt.Sprint("version ", v), func(t *testing.T) {
			t.Parallel()
			presenceAfterKill(t, v)
		})
	}
}

func presenceAfterKill(t *testing.T, v mqtt.Version) {
	data := t.TempDir()
	web, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"WILCO_DATA=" + data, "WILCO_HTTP_ADDRESS=" + web, "WILCO_MQTT_TCP=" + tcp, "WILCO_LOG_LEVEL=error", "WILCO_POLICY_ACK_BY=5m"}
	srv, err := serve(env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.kill() })
	s := newSite(t, 1, web, adminToken(t, data), 2)
	stays, goes := moveIn(t, s, 0, tcp, v), moveIn(t, s, 1, tcp, v)
	s.awaitPresence(stays.id, true)
	s.awaitPresence(goes.id, true)
	for _, r := range []*resident{stays, goes} {
		if _, err := s.api.Send(t.Context(), r.id, client.Order{Name: "open"}); err != nil {
			t.Fatal(err)
		}
		r.command("open")
	}
	release := lockDatabase(t, filepath.Join(data, "wilco.db"))
	t.Cleanup(release)
	var killed atomic.Bool
	for _, r := range []*resident{stays, goes} { // the broker retains it, the server cannot keep it
		if err := r.c.PublishAsync(r.online("2"), func(res mqttclient.Result) {
			if res.Err == nil && !killed.Load() {
				t.Errorf("%s was told that its status is kept", r.id)
			}
		}); err != nil {
			t.Fatal(err)
		}
		// Its SUBACK says that the PUBLISH before has been routed.
		if _, err := r.c.Subscribe(t.Context(), mqtt.Subscription{Filter: "wilco/" + r.id + "/command", QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	killed.Store(true)
	srv.kill()
	release()
	goes.vanish()
	if srv, err = serve(env); err != nil {
		t.Fatal(err)
	}
	s.awaitPresence(goes.id, false)
	s.awaitPresence(stays.id, true)
	back := moveIn(t, s, 1, tcp, v)
	s.awaitPresence(back.id, true)
	for _, r := range []*resident{stays, back} {
		again := r.command("open")
		if err := r.c.Publish(t.Context(), mqttclient.Message{Topic: "wilco/" + r.id + "/result", QoS: 1,
			Payload: fmt.Appendf(nil, `{"tid":%q,"status":"SUCCESS"}`, again.TID)}); err != nil {
			t.Fatal(err)
		}
		// It comes after all that was sent before.
		if _, err := s.api.Send(t.Context(), r.id, client.Order{Name: "last"}); err != nil {
			t.Fatal(err)
		}
		if r.command("last"); again.Attempt != 2 {
			t.Errorf("%s got it again as attempt %d", r.id, again.Attempt)
		}
	}
	if err := srv.stop(); err != nil {
		t.Error(err)
	}
}

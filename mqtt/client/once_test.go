package client_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

// Each CONNECT can have another Will, and what OnConnect refuses is not sent.
func TestOnConnectChangesTheWill(t *testing.T) {
	n := newNetwork(t, mqtt.V5)
	o := n.options()
	o.Backoff = client.Backoff{Min: 1, Max: 1}
	asked := 0
	o.Will = func() *mqtt.Will { return &mqtt.Will{Topic: "first"} }
	o.OnConnect = func(p *mqtt.Connect) error {
		asked++
		if asked == 2 {
			return errors.New("not now")
		}
		if p.Will.Topic != "first" {
			t.Errorf("attempt %d: asked before Will, which made %q", asked, p.Will.Topic)
		}
		p.Will = &mqtt.Will{Topic: "dead", Payload: []byte{byte(asked)}}
		return nil
	}
	start(t, o)
	s, connect := n.accept(mqtt.Connack{})
	if connect.Will == nil || connect.Will.Topic != "dead" || connect.Will.Payload[0] != 1 {
		t.Fatalf("first Will: %+v", connect.Will)
	}
	s.conn.Close()
	if rest := n.next().gone(); len(rest) > 0 {
		t.Fatalf("sent although refused: %q", rest)
	}
	_, connect = n.accept(mqtt.Connack{})
	if connect.Will == nil || connect.Will.Payload[0] != 3 {
		t.Fatalf("third Will: %+v", connect.Will)
	}
}

// With Once the first connection is the last one, whether it came to be or not,
// and its end ends everything.
func TestOnce(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		n := newNetwork(t, mqtt.V5)
		n.refuse = errors.New("nobody there")
		o := n.options()
		o.Once = true
		c := start(t, o)
		if err := c.AwaitUp(t.Context()); !errors.Is(err, n.refuse) {
			t.Errorf("AwaitUp: %v", err)
		}
		if err := c.Stop(t.Context()); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	t.Run("lost", func(t *testing.T) {
		n := newNetwork(t, mqtt.V5)
		o := n.options()
		down := make(chan error, 1)
		o.Once, o.OnDown = true, func(err error) { down <- err }
		c := start(t, o)
		s, _ := n.accept(mqtt.Connack{})
		if err := c.AwaitUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		told := make(chan error, 1)
		if err := c.PublishAsync(message("t", "x", mqtt.AtLeastOnce), func(r client.Result) { told <- r.Err }); err != nil {
			t.Fatal(err)
		}
		s.expect("PUBLISH 1 q1 t=x")
		s.conn.Close()
		if err := <-down; err == nil || errors.Is(err, client.ErrStopped) {
			t.Errorf("OnDown: %v", err)
		}
		if err := c.Stop(t.Context()); err != nil {
			t.Fatalf("Stop: %v", err)
		}
		select {
		case err := <-told:
			if !errors.Is(err, client.ErrStopped) {
				t.Errorf("result: %v", err)
			}
		default:
			t.Error("Stop returned before the result was told")
		}
		if err := c.Publish(t.Context(), message("t", "x", mqtt.AtLeastOnce)); !errors.Is(err, client.ErrStopped) {
			t.Errorf("Publish after the end: %v", err)
		}
		if len(n.dialled) > 0 {
			t.Error("dialled again")
		}
	})
}

// MQTT 5 can leave and have the Will published; MQTT 3.1.1 only leaves.
func TestStopWithWill(t *testing.T) {
	for version, want := range map[mqtt.Version]string{mqtt.V5: "DISCONNECT 0x4", mqtt.V311: "DISCONNECT 0x0"} {
		n := newNetwork(t, version)
		c := start(t, n.options())
		s, _ := n.accept(mqtt.Connack{})
		if err := c.AwaitUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		stopped := make(chan error, 1)
		go func() { stopped <- c.StopWithWill(context.Background()) }()
		if rest := s.gone(); !slices.Equal(rest, []string{want}) {
			t.Errorf("version %d: %q, want %s", version, rest, want)
		}
		s.conn.Close()
		if err := <-stopped; err != nil {
			t.Errorf("version %d: stop: %v", version, err)
		}
	}
}

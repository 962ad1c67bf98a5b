package client

import (
	"context"
	"net"
	"testing"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/pipe"
)

// What is published just when a connection begins waits for the SUBSCRIBE, or an
// answer to it would find no subscription.
func TestNothingLeavesBeforeTheSubscriptions(t *testing.T) {
	c, err := New(Options{Dial: func(context.Context) (net.Conn, error) { return nil, ErrDown }, ClientID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop(t.Context())
	near, far := pipe.Pipe()
	defer near.Close()
	defer far.Close()
	l := newLink(near, 0, &c.mu)
	c.establish(l, &mqtt.Connack{})
	for _, qos := range []mqtt.QoS{0, 1} {
		if err := c.PublishAsync(Message{Topic: "t", QoS: qos}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.out) > 0 {
		t.Errorf("%d bytes are on their way before SUBSCRIBE", len(l.out))
	}
	if _, err := c.renew(l); err != nil {
		t.Fatal(err)
	}
	if len(l.out) == 0 {
		t.Error("nothing leaves after SUBSCRIBE")
	}
}

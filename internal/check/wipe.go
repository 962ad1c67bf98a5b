package check

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// refusal is a CONNACK that says no.
type refusal struct{ code mqtt.ReasonCode }

func (r *refusal) Error() string { return "connection refused: " + r.code.String() }

// wipe connects with a clean start and leaves no session behind; meanwhile it
// clears the retained messages of topics.
func (r *run) wipe(ctx context.Context, at *url.URL, id string, topics ...string) error {
	nc, err := r.dial(ctx, at)
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }()
	if limit, ok := ctx.Deadline(); ok {
		_ = nc.SetDeadline(limit)
	} else {
		_ = nc.SetDeadline(time.Now().Add(r.o.Patience))
	}
	c := &client{t: &trial{run: r}, id: id, url: at, clean: true}
	b, err := c.packet().Append(nil, r.version)
	if err != nil {
		return err
	}
	if _, err := nc.Write(b); err != nil {
		return err
	}
	in := mqtt.NewReader(nc, 0)
	h, body, err := in.Next()
	if err != nil {
		return fmt.Errorf("no CONNACK: %w", err)
	}
	var ack mqtt.Connack
	if h.Type != mqtt.TypeConnack {
		return fmt.Errorf("%s in place of CONNACK", h.Type)
	}
	if err := ack.Decode(h, body, r.version); err != nil {
		return err
	}
	if ack.Reason.Failed() {
		return &refusal{ack.Reason}
	}
	b = b[:0]
	for i, topic := range topics {
		p := mqtt.Publish{Topic: []byte(topic), QoS: mqtt.AtLeastOnce, PacketID: uint16(i + 1), Retain: true} // [MQTT-3.3.1-6]
		if b, err = p.Append(b, r.version); err != nil {
			return err
		}
	}
	if b, err = (&mqtt.Disconnect{}).Append(b, r.version); err != nil {
		return err
	}
	if _, err = nc.Write(b); err != nil {
		return err
	}
	for { // until the broker has read all of it, and closes [MQTT-3.14.4-1]
		if _, _, err := in.Next(); err != nil {
			return nil
		}
	}
}

package edge_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/edge"
)

// What a node says to a server before its birth: nothing is left there from
// another time, the death is known there, and commands will come.
// Shows [tck-id-principles-persistence-clean-session-311]
// [tck-id-principles-persistence-clean-session-50]
// [tck-id-message-flow-edge-node-birth-publish-will-message]
// [tck-id-message-flow-edge-node-birth-publish-connect]
// [tck-id-principles-birth-certificates-order].
func TestConnect(t *testing.T) {
	for name, v := range map[string]mqtt.Version{"3.1.1": mqtt.V311, "5": mqtt.V5} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer ours.Close()
			conns := make(chan net.Conn, 1)
			conns <- theirs
			run(t, edge.Config{Version: v, Metrics: []edge.Metric{edge.Readable("temp", 20.0)}, Dial: func(context.Context) (net.Conn, error) {
				select {
				case c := <-conns:
					return c, nil
				default:
					return nil, errors.New("one connection is enough")
				}
			}})
			c, ok := testkit.ReadPacket(t, ours, v).(*mqtt.Connect)
			if !ok || !c.CleanStart || c.SessionExpirySeconds != 0 || c.Version != v {
				t.Fatalf("CONNECT %+v", c)
			}
			if c.Will == nil {
				t.Fatal("no Will")
			}
			// [tck-id-payloads-ndeath-will-message-qos] [tck-id-payloads-ndeath-will-message-retain]
			if topic, err := sparkplug.ParseTopic(c.Will.Topic); err != nil || topic.Type != sparkplug.NDeath || c.Will.QoS != 1 || c.Will.Retain {
				t.Fatalf("Will %+v, %v", c.Will, err)
			}
			testkit.WritePacket(t, ours, v, &mqtt.Connack{})
			s, ok := testkit.ReadPacket(t, ours, v).(*mqtt.Subscribe)
			if !ok {
				t.Fatal("no SUBSCRIBE after CONNECT")
			}
			testkit.WritePacket(t, ours, v, &mqtt.Suback{PacketID: s.PacketID, Reasons: []mqtt.ReasonCode{1, 1}})
			p, ok := testkit.ReadPacket(t, ours, v).(*mqtt.Publish)
			if !ok || string(p.Topic) != "spBv1.0/G/NBIRTH/N" {
				t.Fatalf("no NBIRTH after SUBSCRIBE: %+v", p)
			}
		})
	}
}

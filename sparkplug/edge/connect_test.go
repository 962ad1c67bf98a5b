package edge_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

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
			c, ok := readPacket(t, ours, v).(*mqtt.Connect)
			if !ok || !c.CleanStart || c.SessionExpirySeconds != 0 || c.Version != v {
				t.Fatalf("CONNECT %+v", c)
			}
			if c.Will == nil {
				t.Fatal("no Will")
			}
			if topic, err := sparkplug.ParseTopic(c.Will.Topic); err != nil || topic.Type != sparkplug.NDeath {
				t.Fatalf("Will %+v, %v", c.Will, err)
			}
			answer(t, ours, v, &mqtt.Connack{})
			s, ok := readPacket(t, ours, v).(*mqtt.Subscribe)
			if !ok {
				t.Fatal("no SUBSCRIBE after CONNECT")
			}
			answer(t, ours, v, &mqtt.Suback{PacketID: s.PacketID, Reasons: []mqtt.ReasonCode{1, 1}})
			p, ok := readPacket(t, ours, v).(*mqtt.Publish)
			if !ok || string(p.Topic) != "spBv1.0/G/NBIRTH/N" {
				t.Fatalf("no NBIRTH after SUBSCRIBE: %+v", p)
			}
		})
	}
}

func readPacket(t *testing.T, c net.Conn, v mqtt.Version) mqtt.Packet {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var head []byte
	for {
		head = append(head, 0)
		if _, err := io.ReadFull(c, head[len(head)-1:]); err != nil {
			t.Fatal(err)
		}
		h, n, err := mqtt.ParseHeader(head, 0)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			continue
		}
		body := make([]byte, h.Length)
		if _, err := io.ReadFull(c, body); err != nil {
			t.Fatal(err)
		}
		p, err := mqtt.DecodePacket(h, body, v)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}

func answer(t *testing.T, c net.Conn, v mqtt.Version, p mqtt.Packet) {
	t.Helper()
	b, err := p.Append(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

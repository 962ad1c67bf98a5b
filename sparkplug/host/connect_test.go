package host_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/host"
)

// TestConnect is what a primary says to a server, in its order: CONNECT with a
// Will of this moment, its subscriptions, and then STATE with the time of the
// Will; and the same anew on the next connection. Shows
// [tck-id-message-flow-phid-sparkplug-clean-session-311]
// [tck-id-message-flow-phid-sparkplug-clean-session-50]
// [tck-id-host-topic-phid-death-required]
// [tck-id-operational-behavior-host-application-connect-will]
// [tck-id-host-topic-phid-death-payload-timestamp-connect]
// [tck-id-host-topic-phid-birth-sub-required] [tck-id-payloads-state-subscribe]
// [tck-id-message-flow-phid-sparkplug-subscription]
// [tck-id-host-topic-phid-birth-payload-timestamp] [tck-id-host-topic-phid-birth-required].
func TestConnect(t *testing.T) {
	for name, v := range map[string]mqtt.Version{"3.1.1": mqtt.V311, "5": mqtt.V5} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testConnect(t, v) })
		})
	}
}

func testConnect(t *testing.T, v mqtt.Version) {
	conns := make(chan net.Conn)
	dial := func(ctx context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		select {
		case conns <- ours:
			return theirs, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	h, err := host.New(host.Options{HostID: "scada", Servers: []host.Server{{Name: "a", Client: client.Options{Dial: dial, ClientID: "host", Version: v}}}})
	if err != nil {
		t.Fatal(err)
	}
	h.Start()
	defer stopHost(t, h)
	for range 2 {
		c := <-conns
		connect, ok := testkit.ReadPacket(t, c, v).(*mqtt.Connect)
		if !ok || !connect.CleanStart || connect.SessionExpirySeconds != 0 || connect.Will == nil || connect.Will.Topic != "spBv1.0/STATE/scada" {
			t.Fatalf("CONNECT %+v", connect)
		}
		will, err := sparkplug.ParseState(connect.Will.Payload)
		if err != nil || will.Online || will.Timestamp != uint64(time.Now().UnixMilli()) {
			t.Fatalf("Will %+v at %d, %v", will, time.Now().UnixMilli(), err)
		}
		testkit.WritePacket(t, c, v, &mqtt.Connack{})
		s, ok := testkit.ReadPacket(t, c, v).(*mqtt.Subscribe)
		if !ok || len(s.Subscriptions) != 2 || s.Subscriptions[0].Filter != "spBv1.0/#" || s.Subscriptions[1].Filter != "spBv1.0/STATE/scada" {
			t.Fatalf("SUBSCRIBE %+v", s)
		}
		testkit.WritePacket(t, c, v, &mqtt.Suback{PacketID: s.PacketID, Reasons: []mqtt.ReasonCode{1, 1}})
		p, ok := testkit.ReadPacket(t, c, v).(*mqtt.Publish)
		if !ok || string(p.Topic) != connect.Will.Topic || !strings.Contains(string(p.Payload), "true") {
			t.Fatalf("PUBLISH %+v", p)
		}
		if birth, err := sparkplug.ParseState(p.Payload); err != nil || birth.Timestamp != will.Timestamp {
			t.Fatalf("%s is not of the Will's time %d, %v", p.Payload, will.Timestamp, err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNasty73TwoHosts: two hosts see the same hole. What either asks for heals
// both, and the births that the other one asked for are no reason to ask again.
func TestNasty73TwoHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		other := s.options()
		other.ClientID = "other"
		hosts := []*host.Host{
			startHost(t, one(s, host.Options{})),
			startHost(t, host.Options{Role: host.Active, Servers: []host.Server{{Name: "a", Client: other}}}),
		}
		e := startEdge(t, s.options(), "edge")
		e.birth("n")
		e.next("n")
		e.data("n", 22)
		settle(time.Minute)
		asked := e.timesAsked("n")
		if asked < 1 || asked > 2 {
			t.Errorf("asked %d times", asked)
		}
		settle(time.Hour)
		if n := e.timesAsked("n"); n != asked {
			t.Errorf("asked %d times more", n-asked)
		}
		for _, h := range hosts {
			expect(t, h, "n", "online temp=20 speed=5")
		}
	})
}

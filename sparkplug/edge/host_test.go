package edge_test

import (
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/edge"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// Our own host application follows the node through cuts of its connection, and
// never has a reason to ask for births: no gap, nothing malformed, nothing that
// is in no birth. It has each value once or more, the live ones in order.
func TestOurHost(t *testing.T) {
	address := startBroker(t, broker.AllowAnonymous())
	type heard struct {
		x    float64
		past bool
	}
	values := make(chan heard, 100_000)
	complaints := make(chan session.Event, 1000)
	h, err := host.New(host.Options{
		Role: host.Primary, HostID: "scada",
		Servers: []host.Server{{Name: "one", Client: client.Options{Servers: []string{"mqtt://" + address}}}},
		OnEvent: func(e *host.Event) {
			switch e.Kind {
			case session.NodeBirth, session.DeviceBirth, session.Data:
				for _, v := range e.Values {
					if v.Metric.Name == "temp" {
						x, _ := v.Raw.Value.Float(sparkplug.TypeDouble)
						values <- heard{x, v.Raw.Historical}
					}
				}
			case session.NodeDeath, session.DeviceDeath:
			default:
				complaints <- e.Event
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Start()
	t.Cleanup(func() { h.Stop(soon(t)) })
	if err := h.AwaitUp(soon(t)); err != nil {
		t.Fatal(err)
	}

	way := &wire{address: address}
	n, _ := run(t, edge.Config{
		Dial: way.dial, PrimaryHost: "scada", Aliases: true,
		Metrics: []edge.Metric{edge.Readable("temp", 0.0)}, Devices: []edge.Device{press()},
	})
	if err := n.AwaitOnline(soon(t)); err != nil {
		t.Fatal(err)
	}
	const rounds, each = 4, 200
	x := 0.0
	live, told := -1.0, map[float64]bool{}
	for round := range rounds {
		if round > 0 {
			way.cut()
		}
		for i := range each {
			x++
			if err := n.Update("", edge.Sample("temp", x)); err != nil {
				t.Fatal(err)
			}
			if round > 0 && i == each/2 {
				way.mend()
			}
		}
		limit := time.After(patience)
		for live < x || len(told) < int(x)+1 { // what is under way when the wire is cut may be lost
			select {
			case v := <-values:
				told[v.x] = true
				switch {
				case v.past:
				case v.x < live:
					t.Fatalf("live %g after %g", v.x, live)
				default:
					live = v.x
				}
			case e := <-complaints:
				t.Fatalf("the host complains: %s %s %v", e.Kind, e.Reason, e.Err)
			case <-limit:
				t.Fatalf("round %d: the host knows %g, it is %g; %d values told", round, live, x, len(told))
			}
		}
	}
}

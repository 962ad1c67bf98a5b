package edge_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/edge"
)

// deaf lets everybody do everything but subscribe to commands for devices.
type deaf struct{ broker.Authority }

func (d deaf) Authenticate(ctx context.Context, c broker.Credentials) (broker.Identity, error) {
	id, err := d.Authority.Authenticate(ctx, c)
	return deafIdentity{id}, err
}

type deafIdentity struct{ broker.Identity }

func (i deafIdentity) MaySubscribe(filter string) bool { return !strings.Contains(filter, "DCMD") }

// A server that refuses a subscription is no place to be born at.
func TestRefusedSubscription(t *testing.T) {
	bad, good := startBroker(t, deaf{broker.AllowAnonymous()}), startBroker(t, broker.AllowAnonymous())
	atBad, atGood := watch(t, bad), watch(t, good)
	run(t, edge.Config{Servers: []string{"mqtt://" + bad, "mqtt://" + good}, Metrics: []edge.Metric{edge.Readable("temp", 20.0)}})
	atGood.expect("NBIRTH seq=0 bdSeq=1 temp=20")
	if n := len(atBad.messages); n > 0 {
		t.Errorf("%d messages at the server that refuses", n)
	}
}

// What is retained or is no command is not obeyed, and harms nobody.
func TestStrangeCommands(t *testing.T) {
	address := startBroker(t, broker.AllowAnonymous())
	w := watch(t, address)
	rebirth := sparkplug.Payload{Metrics: []sparkplug.Metric{sparkplug.RebirthMetric(true, 1)}}
	w.publish(client.Message{Topic: "spBv1.0/G/NCMD/N", Payload: rebirth.Append(nil), QoS: 1, Retain: true})
	n, stop := run(t, edge.Config{Servers: []string{"mqtt://" + address}, Metrics: []edge.Metric{edge.Writable("temp", 20.0, set)}})
	w.expect("NBIRTH seq=0 bdSeq=0 temp=20")
	for qos := range mqtt.QoS(2) {
		w.publish(client.Message{Topic: "spBv1.0/G/NCMD/N", QoS: qos, Payload: []byte("{}")})
		w.publish(client.Message{Topic: "spBv1.0/G/NCMD/N", QoS: qos})
		w.publish(client.Message{Topic: "spBv1.0/G/DCMD/N/nobody", QoS: qos, Payload: rebirth.Append(nil)})
	}
	w.command("", edge.Sample("temp", 22.0))
	w.expect("NDATA seq=1 temp=22")
	stop()
	if s := n.Stats(); s.Births != 1 || s.Writes != 1 {
		t.Errorf("stats: %+v", s)
	}
}

// A second Run of a Node goes on where the first one ended, and two at a time are
// refused.
func TestRunAgain(t *testing.T) {
	address := startBroker(t, broker.AllowAnonymous())
	w := watch(t, address)
	n, stop := run(t, edge.Config{Servers: []string{"mqtt://" + address}, Metrics: []edge.Metric{edge.Readable("temp", 20.0)}})
	w.expect("NBIRTH seq=0 bdSeq=0 temp=20")
	if err := n.Run(t.Context()); err == nil {
		t.Error("two Runs at a time")
	}
	stop()
	w.expect("NDEATH bdSeq=0", "NDEATH bdSeq=0")
	for _, x := range []float64{1, 2} {
		if err := n.Update("", edge.Sample("temp", x)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- n.Run(ctx) }()
	w.expect("NBIRTH seq=0 bdSeq=1 temp=2", "NDATA seq=1 temp=1 (past)")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	w.expect("NDEATH bdSeq=1")
}

// A configuration that cannot work is refused at once.
func TestConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bdseq")
	good := edge.Config{Group: "G", Node: "N", Servers: []string{"mqtt://x"}, File: file}
	for name, change := range map[string]func(*edge.Config){
		"no file":       func(c *edge.Config) { c.File = "" },
		"no server":     func(c *edge.Config) { c.Servers = nil },
		"bad group":     func(c *edge.Config) { c.Group = "a/b" },
		"bad host":      func(c *edge.Config) { c.PrimaryHost = "+" },
		"history":       func(c *edge.Config) { c.History = -1 },
		"bad server":    func(c *edge.Config) { c.Servers = []string{"http://x"} },
		"same device":   func(c *edge.Config) { c.Devices = []edge.Device{press(), press()} },
		"one file":      func(c *edge.Config) { c.HistoryFile = filepath.Dir(file) + "/./bdseq" },
		"a directory":   func(c *edge.Config) { c.File = t.TempDir() },
		"MQTT 9":        func(c *edge.Config) { c.Version = 9 },
		"long interval": func(c *edge.Config) { c.KeepAlive = 100_000 * 1e9 },
	} {
		c := good
		change(&c)
		if _, err := edge.New(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := edge.New(good); err != nil {
		t.Error(err)
	}
}

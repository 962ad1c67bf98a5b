package edge_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/edge"
)

// set takes what it is asked for, but for negative numbers.
func set(_ context.Context, want float64) (float64, error) {
	if want < 0 {
		return 0, errors.New("negative")
	}
	return want, nil
}

// press is a device with one metric that can be written, and one that cannot.
func press() edge.Device {
	return edge.Device{Name: "press", Metrics: []edge.Metric{edge.Writable("goal", 5.0, set), edge.Readable("force", 1.0)}}
}

// The life of a node, from its births to its death.
// Shows [tck-id-topics-nbirth-mqtt] [tck-id-topics-dbirth-mqtt]
// [tck-id-message-flow-edge-node-ncmd-subscribe] [tck-id-message-flow-device-dcmd-subscribe]
// [tck-id-operational-behavior-edge-node-intentional-disconnect-ndeath]
// [tck-id-payloads-ndeath-will-message-publisher-disconnect-mqtt311]
// [tck-id-payloads-ndeath-will-message-publisher-disconnect-mqtt50]
// [tck-id-operational-behavior-edge-node-intentional-disconnect-packet]
// [tck-id-topics-ndata-payload] [tck-id-topics-ddata-payload].
func TestLife(t *testing.T) {
	everywhere(t, func(t *testing.T, address string, v mqtt.Version) {
		w := watch(t, address)
		n, stop := run(t, edge.Config{
			Servers: []string{"mqtt://" + address}, Version: v, Aliases: true,
			Metrics: []edge.Metric{edge.Readable("temp", 20.0)}, Devices: []edge.Device{press()},
		})
		w.expect("NBIRTH seq=0 bdSeq=0 temp#1=20", "DBIRTH press seq=1 goal#2=5 force#3=1")
		if err := n.Update("", edge.Sample("temp", 21.0)); err != nil {
			t.Fatal(err)
		}
		w.expect("NDATA seq=2 #1=21")

		w.command("press", edge.Sample("force", 9.0)) // refused
		w.command("press", edge.Sample("goal", -1.0)) // the handler refuses
		goal := edge.Sample("goal", 7.0)
		goal.Name, goal.Datatype, goal.Alias, goal.HasAlias = nil, 0, 2, true
		w.command("press", goal)
		w.expect("DDATA press seq=3 #2=7")

		w.command("", sparkplug.RebirthMetric(true, 1))
		w.expect("NBIRTH seq=0 bdSeq=0 temp#1=21", "DBIRTH press seq=1 goal#2=7 force#3=1") // oldest first

		if err := n.SetDevice("press", false); err != nil {
			t.Fatal(err)
		}
		w.expect("DDEATH press seq=2")
		if err := n.AddDevice(edge.Device{Name: "saw", Metrics: []edge.Metric{edge.Readable("speed", 3.0)}}); err != nil {
			t.Fatal(err)
		}
		w.expect("DBIRTH saw seq=3 speed#4=3")
		stop()
		w.expect("NDEATH bdSeq=0")
		if v == mqtt.V5 {
			w.expect("NDEATH bdSeq=0") // the Will
		}
		if s := n.Stats(); s.Refused != 1 || s.Writes != 2 || s.Births != 2 || s.Waiting != 0 {
			t.Errorf("stats: %+v", s)
		}
	})
}

// A connection that is cut: the server publishes the Will; what is given
// meanwhile comes as history after births with the next bdSeq.
// Shows [tck-id-topics-nbirth-bdseq-increment] [tck-id-payloads-ndeath-will-message]
// [tck-id-topics-nbirth-bdseq-matching].
func TestCut(t *testing.T) {
	everywhere(t, func(t *testing.T, address string, v mqtt.Version) {
		w := watch(t, address)
		way := &wire{address: address}
		file := filepath.Join(t.TempDir(), "bdseq")
		if err := os.WriteFile(file, []byte("254\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		n, _ := run(t, edge.Config{Dial: way.dial, Version: v, File: file, Metrics: []edge.Metric{edge.Readable("temp", 20.0)}})
		w.expect("NBIRTH seq=0 bdSeq=255 temp=20")
		for _, bdSeq := range []string{"0", "1"} {
			was := describe(message{topic: sparkplug.Topic{Type: sparkplug.NDeath}, payload: death(t, file)})
			way.cut()
			w.expect(was)
			for _, x := range []float64{1, 2, 3} {
				if err := n.Update("", edge.Sample("temp", x)); err != nil {
					t.Fatal(err)
				}
			}
			way.mend()
			w.expect("NBIRTH seq=0 bdSeq="+bdSeq+" temp=3", "NDATA seq=1 temp=1 (past) temp=2 (past)")
			if err := n.Update("", edge.Sample("temp", 9.0)); err != nil {
				t.Fatal(err)
			}
			w.expect("NDATA seq=2 temp=9")
		}
	})
}

// death is the NDEATH that the number in the file promises.
func death(t *testing.T, file string) *sparkplug.Payload {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var n uint8
	for _, c := range b[:len(b)-1] {
		n = n*10 + c - '0'
	}
	return &sparkplug.Payload{Metrics: []sparkplug.Metric{sparkplug.BdSeqMetric(n, 0)}}
}

// The primary host is waited for, and when it leaves so does the node; samples
// wait for it.
// Shows [tck-id-message-flow-edge-node-birth-publish-phid-wait]
// [tck-id-message-flow-edge-node-birth-publish-phid-offline]
// [tck-id-message-flow-edge-node-birth-publish-phid-wait-online]
// [tck-id-operational-behavior-edge-node-birth-sequence-wait]
// [tck-id-operational-behavior-edge-node-termination-host-offline]
// [tck-id-operational-behavior-edge-node-termination-host-offline-timestamp].
func TestPrimaryHost(t *testing.T) {
	everywhere(t, func(t *testing.T, address string, v mqtt.Version) {
		w := watch(t, address)
		w.state(false, 100)
		n, _ := run(t, edge.Config{
			Servers: []string{"mqtt://" + address}, Version: v, PrimaryHost: "scada",
			Metrics: []edge.Metric{edge.Readable("temp", 20.0)},
		})
		w.state(true, 101)
		w.expect("NBIRTH seq=0 bdSeq=0 temp=20")
		w.state(false, 100) // old
		if err := n.Update("", edge.Sample("temp", 21.0)); err != nil {
			t.Fatal(err)
		}
		w.expect("NDATA seq=1 temp=21")
		w.state(false, 102)
		w.expect("NDEATH bdSeq=0")
		if v == mqtt.V5 {
			w.expect("NDEATH bdSeq=0") // the Will
		}
		for _, x := range []float64{1, 2} {
			if err := n.Update("", edge.Sample("temp", x)); err != nil {
				t.Fatal(err)
			}
		}
		w.state(true, 103)
		w.expect("NBIRTH seq=0 bdSeq=1 temp=2", "NDATA seq=1 temp=1 (past)")
	})
}

// The node is at one server at a time, and goes to the one where its host is.
// Shows [tck-id-operational-behavior-edge-node-termination-host-offline-reconnect]
// [tck-id-operational-behavior-primary-application-state-with-multiple-servers-walk]
// [tck-id-operational-behavior-primary-application-state-with-multiple-servers-single-server]
// [tck-id-operational-behavior-primary-application-state-with-multiple-servers-state-subs].
func TestServers(t *testing.T) {
	a, b := startBroker(t, broker.AllowAnonymous()), startBroker(t, broker.AllowAnonymous())
	atA, atB := watch(t, a), watch(t, b)
	atA.state(true, 10)
	atB.state(true, 20)
	nobody := "127.0.0.1:1" // a server that takes nobody is passed by
	run(t, edge.Config{
		Servers: []string{"mqtt://" + nobody, "mqtt://" + a, "mqtt://" + b}, PrimaryHost: "scada",
		Metrics: []edge.Metric{edge.Readable("temp", 20.0)},
	})
	atA.expect("NBIRTH seq=0 bdSeq=0 temp=20")
	atA.state(false, 11)
	atA.expect("NDEATH bdSeq=0", "NDEATH bdSeq=0")
	atB.expect("NBIRTH seq=0 bdSeq=1 temp=20")
	atA.state(true, 12)
	atB.command("", edge.Sample(sparkplug.MetricNextServer, true))
	atB.expect("NDEATH bdSeq=1", "NDEATH bdSeq=1")
	atA.expect("NBIRTH seq=0 bdSeq=2 temp=20")
}

// More samples at once than the connection takes: all of them come, in order.
func TestBurst(t *testing.T) {
	address := startBroker(t, broker.AllowAnonymous())
	w := watch(t, address)
	n, _ := run(t, edge.Config{Servers: []string{"mqtt://" + address}, Metrics: []edge.Metric{edge.Readable("temp", 0.0)}})
	w.expect("NBIRTH seq=0 bdSeq=0 temp=0")
	const count = 5000
	for i := range count {
		if err := n.Update("", edge.Sample("temp", float64(i+1))); err != nil {
			t.Fatal(err)
		}
	}
	seq, last := uint64(0), 0.0
	for last < count {
		m := w.next()
		if seq = (seq + 1) % 256; m.payload.Seq != seq {
			t.Fatalf("seq %d, want %d", m.payload.Seq, seq)
		}
		for i := range m.payload.Metrics {
			x, err := m.payload.Metrics[i].Value.Float(sparkplug.TypeDouble)
			if err != nil || x != last+1 {
				t.Fatalf("%g after %g, %v", x, last, err)
			}
			last = x
		}
	}
}

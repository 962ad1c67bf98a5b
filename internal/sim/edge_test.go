package sim

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/wire"
)

// TestFaultsOfEdgeNodes: each kind of fault is made, and a host that looks at the
// messages counts as many as the simulation says that it has made.
func TestFaultsOfEdgeNodes(t *testing.T) {
	for name, tt := range map[string]struct {
		faults EdgeOptions
		every  time.Duration
		made   func(EdgeReport) int64
		seen   func(host.Node) uint64
	}{
		// Far apart, and with a seed that loses nothing behind a hole or at the end: those
		// leave no trace of their own.
		"lost":       {EdgeOptions{Lose: 0.05, Seed: 7}, 10 * time.Minute, func(r EdgeReport) int64 { return r.Lost }, func(n host.Node) uint64 { return n.Missing }},
		"duplicated": {EdgeOptions{Duplicate: 0.3}, time.Second, func(r EdgeReport) int64 { return r.Duplicated }, func(n host.Node) uint64 { return n.Late }},
		"reordered":  {EdgeOptions{Reorder: 0.3}, time.Second, func(r EdgeReport) int64 { return r.Reordered }, func(n host.Node) uint64 { return n.Reordered }},
		"none":       {EdgeOptions{}, time.Second, func(EdgeReport) int64 { return 1 }, func(n host.Node) uint64 { return 1 + n.Missing + n.Late + n.Reordered }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				o := tt.faults
				o.Dir, o.Every, o.Members = dir, tt.every, []Member{{Address: wire.Address{Group: "g", Device: "n"}}}
				report, n := runEdges(t, o, 100*tt.every)
				made, seen := tt.made(report), tt.seen(n)
				if made == 0 || uint64(made) != seen || report.Data < 190 {
					t.Errorf("made %d, seen %d; %+v, %+v", made, seen, report, n)
				}
				for _, other := range []int64{report.Lost, report.Duplicated, report.Reordered} {
					if other != 0 && other != made {
						t.Errorf("a fault that nobody asked for: %+v", report)
					}
				}
			})
		})
	}
}

// runEdges runs nodes for so long, at a broker with a host, and gives what they say
// they did and what the host knows of the first.
func runEdges(t *testing.T, o EdgeOptions, limit time.Duration) (EdgeReport, host.Node) {
	b, err := broker.New(broker.Options{Authority: broker.AllowAnonymous()})
	if err == nil {
		err = b.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Stop(context.Background()) }()
	h, err := host.New(host.Options{HostID: "scada", Servers: []host.Server{{Name: "one", Client: client.Options{Dial: b.Dial, ClientID: "host"}}}})
	if err != nil {
		t.Fatal(err)
	}
	h.Start()
	defer func() { _ = h.Stop(context.Background()) }()
	if err := h.AwaitUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.Dial = b.Dial
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	report, err := RunEdges(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	a := o.Members[0].Address
	n, _, ok := h.Node(host.NodeID{Group: a.Group, Node: a.Device})
	if !ok {
		t.Fatal("the host does not know the node")
	}
	return report, n
}

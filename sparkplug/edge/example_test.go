package edge_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/sparkplug/edge"
)

// A node with one device, at a broker in the same process.
func Example() {
	b, err := broker.New(broker.Options{Authority: broker.AllowAnonymous()})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := b.Start(); err != nil {
		fmt.Println(err)
		return
	}
	defer b.Stop(context.Background())
	dir, err := os.MkdirTemp("", "edge")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	n, err := edge.New(edge.Config{
		Group: "plant", Node: "line-1", Dial: b.Dial, File: filepath.Join(dir, "bdseq"),
		Devices: []edge.Device{{Name: "press", Metrics: []edge.Metric{
			edge.Readable("temperature", 20.0),
			edge.Writable("setpoint", 20.0, func(_ context.Context, want float64) (float64, error) {
				return min(want, 120), nil // told as DATA
			}),
		}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error)
	go func() { ended <- n.Run(ctx) }()
	if err := n.AwaitOnline(ctx); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(n.Update("press", edge.Sample("temperature", 21.5)))
	fmt.Println(n.Update("press", edge.Sample("temperature", "warm")))
	s := n.Stats()
	fmt.Println("births:", s.Births, "samples:", s.Samples)
	stop()
	fmt.Println(<-ended)
	// Output:
	// <nil>
	// metric "temperature": is Double, not String
	// births: 1 samples: 1
	// <nil>
}

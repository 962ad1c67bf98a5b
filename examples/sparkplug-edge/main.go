// Command sparkplug-edge is a Sparkplug B edge node with one device behind it:
// the shortest useful program on top of package sparkplug/edge.
//
//	go run ./examples/sparkplug-edge --server mqtt://localhost:1883 --group plant --node line-1 --file ./bdseq
//
// The device press has a temperature, which is told when it has moved by half a
// degree, and a setpoint, which an application writes with a DCMD:
//
//	spBv1.0/plant/DCMD/line-1/press   setpoint, Double
//
// Take the network away for a while: what was measured meanwhile comes as
// history after the next births.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/wilco-iot/wilco/sparkplug/edge"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "sparkplug-edge:", err)
		os.Exit(1)
	}
}

func run() error {
	server := flag.String("server", "mqtt://localhost:1883", "URL of the MQTT server")
	group := flag.String("group", "plant", "group id")
	node := flag.String("node", "line-1", "edge node id")
	host := flag.String("host", "", "primary host id; empty: wait for nobody")
	file := flag.String("file", "./bdseq", "file of bdSeq, which must survive restarts")
	flag.Parse()

	p := &press{scan: time.NewTicker(time.Second)}
	defer p.scan.Stop()
	p.setpoint.Store(math.Float64bits(20))
	n, err := edge.New(edge.Config{
		Group: *group, Node: *node, PrimaryHost: *host, Servers: []string{*server}, File: *file, Aliases: true,
		Metrics: []edge.Metric{edge.ScanRate(time.Second, p.setScanRate)},
		Devices: []edge.Device{{Name: "press", Metrics: []edge.Metric{
			edge.Readable("temperature", 20.0),
			edge.Writable("setpoint", 20.0, p.setSetpoint),
		}}},
		Logger: slog.Default(),
	})
	if err != nil {
		return err
	}
	// The first Ctrl-C ends the node cleanly: it publishes its NDEATH.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	measured := make(chan error, 1)
	go func() { measured <- p.measure(ctx, n) }()
	err = n.Run(ctx)
	stop()
	if failed := <-measured; failed != nil {
		return failed
	}
	return err
}

// press is the thing that is controlled. Handlers are called one after the
// other, but beside measure.
type press struct {
	setpoint atomic.Uint64 // bits of a float64
	scan     *time.Ticker
}

// setSetpoint takes what the press can do, and says what it has taken.
func (p *press) setSetpoint(_ context.Context, want float64) (float64, error) {
	if math.IsNaN(want) {
		return 0, fmt.Errorf("a setpoint of %g", want)
	}
	got := min(max(want, 0), 120)
	p.setpoint.Store(math.Float64bits(got))
	return got, nil
}

func (p *press) setScanRate(_ context.Context, d time.Duration) error {
	p.scan.Reset(max(d, 10*time.Millisecond))
	return nil
}

// measure tells the temperature when it has moved by half a degree: that
// deadband is the program's own business.
func (p *press) measure(ctx context.Context, n *edge.Node) error {
	temperature, told := 20.0, 20.0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.scan.C:
		}
		temperature += 0.1 * (math.Float64frombits(p.setpoint.Load()) - temperature)
		if math.Abs(temperature-told) < 0.5 {
			continue
		}
		told = temperature
		if err := n.Update("press", edge.Sample("temperature", told)); err != nil {
			return err
		}
	}
}

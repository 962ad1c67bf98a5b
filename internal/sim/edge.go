package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/pipe"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/edge"
)

// EdgeOptions configure simulated Sparkplug edge nodes. All but the chances are
// required.
type EdgeOptions struct {
	Members []Member // each is the edge node of its group and name, with one device
	Seed    uint64
	Dir     string // files that keep bdSeq; it must exist
	// Lose, Duplicate and Reorder are chances, 0 to 1, for each DATA.
	Lose, Duplicate, Reorder float64
	Every                    time.Duration // between two samples of a node
	Dial                     func(context.Context) (net.Conn, error)
}

// RunEdges is the edge nodes until ctx ends, and returns when they have left, with
// why any of them could not be.
func RunEdges(ctx context.Context, o EdgeOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(o.Members))
	var wg sync.WaitGroup
	for i := range o.Members {
		wg.Go(func() {
			if errs[i] = runEdge(ctx, &o, i); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func runEdge(ctx context.Context, o *EdgeOptions, i int) error {
	m := o.Members[i]
	rnd := rand.New(rand.NewPCG(o.Seed, uint64(i)))
	n, err := edge.New(edge.Config{Group: m.Address.Group, Node: m.Address.Device, Username: m.Address.String(), Password: []byte(m.Secret),
		File: filepath.Join(o.Dir, fmt.Sprintf("bdseq-%d", i)), Aliases: true,
		Dial: func(ctx context.Context) (net.Conn, error) {
			c, err := o.Dial(ctx)
			if err != nil {
				return nil, err
			}
			return lossy(c, o, rand.New(rand.NewPCG(rnd.Uint64(), uint64(i)))), nil
		},
		Metrics: []edge.Metric{edge.Readable("temperature", 20.0)},
		Devices: []edge.Device{{Name: "pump", Metrics: []edge.Metric{edge.Readable("speed", int32(0))}}}})
	if err != nil {
		return fmt.Errorf("edge node %s: %w", m.Address, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	ticker := time.NewTicker(o.Every)
	defer ticker.Stop()
	samples := rand.New(rand.NewPCG(o.Seed, ^uint64(i)))
	for {
		select {
		case err := <-done:
			return err
		case <-ticker.C:
		}
		if err := errors.Join(n.Update("", edge.Sample("temperature", 20+10*samples.Float64())),
			n.Update("pump", edge.Sample("speed", samples.Int32N(3000)))); err != nil {
			cancel()
			return errors.Join(err, <-done)
		}
	}
}

// lossy stands between an edge node and its server and passes packets on, DATA
// with faults. Two goroutines, which end when either side closes. It returns the
// node's end.
func lossy(server net.Conn, o *EdgeOptions, rnd *rand.Rand) net.Conn {
	a, node := pipe.Pipe()
	pass := func(from, to net.Conn, out func([]byte, bool) [][]byte) {
		defer from.Close()
		defer to.Close()
		r := mqtt.NewReader(from, 16<<20)
		for {
			h, body, err := r.Next()
			if err != nil {
				return
			}
			for _, b := range out(frame(h, body), data(h, body)) {
				if _, err := to.Write(b); err != nil {
					return
				}
			}
		}
	}
	var held []byte
	up := func(b []byte, isData bool) [][]byte {
		roll := func(p float64) bool { return isData && p > 0 && rnd.Float64() < p }
		out := [][]byte{b}
		switch {
		case roll(o.Lose):
			return nil
		case roll(o.Duplicate):
			out = append(out, b)
		case held == nil && roll(o.Reorder):
			held = b
			return nil
		}
		if held != nil {
			out, held = append(out, held), nil
		}
		return out
	}
	go pass(node, server, up)
	go pass(server, node, func(b []byte, _ bool) [][]byte { return [][]byte{b} })
	return a
}

// data tells whether a packet is NDATA or DDATA.
func data(h mqtt.Header, body []byte) bool {
	var p mqtt.Publish
	if h.Type != mqtt.TypePublish || p.Decode(h, body, mqtt.V5) != nil {
		return false
	}
	t, err := sparkplug.ParseTopic(string(p.Topic))
	return err == nil && (t.Type == sparkplug.NData || t.Type == sparkplug.DData)
}

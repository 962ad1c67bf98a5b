package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
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
	// Username and Password log all of them in; "" means each by its name and secret.
	Username, Password string
	Seed               uint64
	Dir                string // files that keep bdSeq; it must exist
	// Lose, Duplicate and Reorder are chances, 0 to 1, for each DATA.
	Lose, Duplicate, Reorder float64
	Every                    time.Duration // between two samples of a node
	Dial                     func(context.Context) (net.Conn, error)
}

// EdgeReport is what simulated edge nodes have done, and what was done to their DATA.
type EdgeReport struct {
	Data       int64 `json:"dataMessages"` // NDATA and DDATA that were sent
	Lost       int64 `json:"messagesLost"`
	Duplicated int64 `json:"messagesDuplicated"`
	Reordered  int64 `json:"messagesReordered"` // overtaken by the next
	Writes     int64 `json:"writes"`            // taken by a metric
}

// edgeCounts is an EdgeReport in the making.
type edgeCounts struct{ data, lost, duplicated, reordered, writes atomic.Int64 }

func (c *edgeCounts) report() EdgeReport {
	return EdgeReport{c.data.Load(), c.lost.Load(), c.duplicated.Load(), c.reordered.Load(), c.writes.Load()}
}

// RunEdges is the edge nodes until ctx ends, and returns when they have left, with
// why any of them could not be. Each has a temperature, and behind it a pump with a
// speed, and with a setpoint, a recipe that is a table and a motor that is a template,
// which can be written.
func RunEdges(ctx context.Context, o EdgeOptions) (EdgeReport, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var counts edgeCounts
	errs := make([]error, len(o.Members))
	var wg sync.WaitGroup
	for i := range o.Members {
		wg.Go(func() {
			if errs[i] = runEdge(ctx, &o, i, &counts); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return counts.report(), errors.Join(errs...)
}

func runEdge(ctx context.Context, o *EdgeOptions, i int, counts *edgeCounts) error {
	m := o.Members[i]
	user, password := m.Address.String(), m.Secret
	if o.Username != "" {
		user, password = o.Username, o.Password
	}
	rnd := rand.New(rand.NewPCG(o.Seed, uint64(i)))
	n, err := edge.New(edge.Config{Group: m.Address.Group, Node: m.Address.Device, Username: user, Password: []byte(password),
		File: filepath.Join(o.Dir, fmt.Sprintf("bdseq-%d", i)), Aliases: true,
		Dial: func(ctx context.Context) (net.Conn, error) {
			c, err := o.Dial(ctx)
			if err != nil {
				return nil, err
			}
			return lossy(c, o, counts, rand.New(rand.NewPCG(rnd.Uint64(), uint64(i)))), nil
		},
		Metrics: []edge.Metric{edge.Readable("temperature", 20.0), edgeMotor},
		Devices: []edge.Device{{Name: "pump", Metrics: edgePump(counts)}}})
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

// edgeMotor is the definition of a template.
var edgeMotor = edge.Metric{Metric: sparkplug.Metric{Name: []byte("Motor"), Datatype: sparkplug.TypeTemplate,
	Template: &sparkplug.Template{Definition: true, Members: []sparkplug.Metric{edge.Sample("rpm", int32(0)), edge.Sample("reverse", false)}}}}

// edgePump are the metrics of a pump. Those that can be written become what is asked for.
func edgePump(counts *edgeCounts) []edge.Metric {
	taking := func(m sparkplug.Metric) edge.Metric {
		return edge.Metric{Metric: m, Write: func(_ context.Context, want sparkplug.Metric) (sparkplug.Metric, error) {
			counts.writes.Add(1)
			return want, nil
		}}
	}
	motor := sparkplug.Template{Ref: edgeMotor.Name, Members: edgeMotor.Template.Members}
	return []edge.Metric{
		edge.Readable("speed", int32(0)),
		taking(edge.Sample("setpoint", 0.0)),
		taking(sparkplug.Metric{Name: []byte("recipe"), Datatype: sparkplug.TypeDataSet, DataSet: &sparkplug.DataSet{}}),
		taking(sparkplug.Metric{Name: []byte("motor"), Datatype: sparkplug.TypeTemplate, Template: &motor}),
	}
}

// lossy stands between an edge node and its server and passes packets on, DATA
// with faults. Two goroutines, which end when either side closes. It returns the
// node's end.
func lossy(server net.Conn, o *EdgeOptions, counts *edgeCounts, rnd *rand.Rand) net.Conn {
	a, node := pipe.Pipe()
	pass := func(from, to net.Conn, out func([]byte, bool) [][]byte, end func()) {
		defer end()
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
	f := edgeFaults{o: o, counts: counts, rnd: rnd}
	go pass(node, server, f.up, f.end)
	go pass(server, node, func(b []byte, _ bool) [][]byte { return [][]byte{b} }, func() {})
	return a
}

// edgeFaults is what happens to the packets of one connection of an edge node.
type edgeFaults struct {
	o      *EdgeOptions
	counts *edgeCounts
	rnd    *rand.Rand
	held   []byte // DATA that the next one is to overtake
}

// up gives what arrives in the place of b.
func (f *edgeFaults) up(b []byte, isData bool) [][]byte {
	held := f.held
	if !isData {
		// What is no DATA overtakes nothing: there would be no sign of it.
		if f.held = nil; held != nil {
			return [][]byte{held, b}
		}
		return [][]byte{b}
	}
	f.counts.data.Add(1)
	roll := func(p float64) bool { return p > 0 && f.rnd.Float64() < p }
	out := [][]byte{b}
	switch {
	case roll(f.o.Lose):
		f.counts.lost.Add(1)
		return nil
	case roll(f.o.Duplicate):
		f.counts.duplicated.Add(1)
		out = append(out, b)
	case held == nil && roll(f.o.Reorder):
		f.held = b
		return nil
	}
	if held != nil {
		f.counts.reordered.Add(1)
		out, f.held = append(out, held), nil
	}
	return out
}

// end loses what was held when the connection ends.
func (f *edgeFaults) end() {
	if f.held != nil {
		f.counts.lost.Add(1)
	}
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

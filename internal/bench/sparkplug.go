package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	mqttclient "github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// SparkplugOptions say how a Sparkplug host is measured. Zero fields but
// Reordered have defaults.
type SparkplugOptions struct {
	URL       string        // of the broker
	BrokerPID int           // its process, to measure its CPU
	For       time.Duration // default 10 s
	Nodes     int           // default 1000
	Metrics   int           // in each message; default 10
	Reordered float64       // share of the messages that come one place late, 0 to 0.5
	Progress  func(string)  // told what goes on; may be nil
}

// SparkplugReport is what was measured: messages with doubles by alias from
// bytes to values that readers of the host see.
type SparkplugReport struct {
	CPUs              int     `json:"cpus"`
	Nodes             int     `json:"nodes"`
	Metrics           int     `json:"metrics"`
	Reordered         float64 `json:"reordered"`
	Bytes             int     `json:"bytes"` // of a payload
	Seconds           float64 `json:"seconds"`
	Messages          int64   `json:"messages"`
	PerSecond         float64 `json:"messagesPerSecond"`
	MetricsPerSecond  float64 `json:"metricsPerSecond"`
	CPUPerMillion     float64 `json:"cpuSecondsPerMillion"` // of the host, with its MQTT client
	BrokerPerMillion  float64 `json:"brokerCpuSecondsPerMillion"`
	LoadPerMillion    float64 `json:"loadCpuSecondsPerMillion"`
	PeakMemoryMiB     float64 `json:"peakMemoryMiB"` // of the host, the load included
	Lost              int64   `json:"lost"`          // sent, and never a value
	Gaps              uint64  `json:"gaps"`          // times that a node's values became stale
	Rebirths          uint64  `json:"rebirths"`      // asked for
	PurePerSecond     float64 `json:"pureMessagesPerSecond"`
	PureCPUPerMillion float64 `json:"pureCpuSecondsPerMillion"` // of one core
}

// sparkplugLinks are the connections over which all edge nodes publish: who
// publishes is not what is measured.
const sparkplugLinks = 4

// sparkplugLead is how many messages may be under way. Edge nodes publish with
// QoS 0, so a broker may drop what a host does not take in time.
const sparkplugLead = 2048

// sparkplugQuiet is how long nothing comes before what is missing is lost.
const sparkplugQuiet = 5 * time.Second

// Sparkplug measures a host over a broker, and then the pure path in it. It
// blocks for o.For and a few seconds more.
//
// Host and load are in this process. The load has threads of its own, whose CPU
// time is known and taken off.
func Sparkplug(ctx context.Context, o SparkplugOptions) (r SparkplugReport, err error) {
	o = o.withDefaults()
	r = SparkplugReport{CPUs: runtime.NumCPU(), Nodes: o.Nodes, Metrics: o.Metrics, Reordered: o.Reordered}
	traffic, err := newSparkplugTraffic(o.Metrics)
	if err != nil {
		return r, err
	}
	r.Bytes = len(traffic.data[0])
	b := &sparkplugBench{o: o, traffic: traffic, over: make(chan struct{})}
	if err := b.join(ctx); err != nil {
		return r, errors.Join(err, b.leave())
	}
	o.Progress(fmt.Sprintf("%d edge nodes", o.Nodes))
	if err := errors.Join(b.measure(ctx, &r), b.leave()); err != nil {
		return r, err
	}
	o.Progress("without a network")
	return r, traffic.pure(ctx, o, &r)
}

func (o SparkplugOptions) withDefaults() SparkplugOptions {
	if o.For == 0 {
		o.For = 10 * time.Second
	}
	if o.Nodes == 0 {
		o.Nodes = 1000
	}
	if o.Metrics == 0 {
		o.Metrics = 10
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return o
}

// sparkplugBench is one measurement over a broker.
type sparkplugBench struct {
	o       SparkplugOptions
	traffic *sparkplugTraffic
	host    *host.Host
	edges   []*sparkplugEdges
	born    atomic.Int64
	sent    atomic.Int64
	taken   atomic.Int64 // messages that became values
	values  atomic.Int64
	over    chan struct{}
}

func (b *sparkplugBench) join(ctx context.Context) (err error) {
	b.host, err = host.New(host.Options{
		Role: host.Active, OnEvent: b.event,
		Servers: []host.Server{{Name: "bench", Client: mqttclient.Options{Servers: []string{b.o.URL}, ClientID: "bench-host"}}},
	})
	if err != nil {
		return err
	}
	b.host.Start()
	if err := b.host.AwaitUp(ctx); err != nil {
		return err
	}
	for i := range min(sparkplugLinks, b.o.Nodes) {
		e, err := b.newEdges(ctx, i)
		if err != nil {
			return err
		}
		b.edges = append(b.edges, e)
		if err := e.births(); err != nil {
			return err
		}
	}
	return b.await(ctx, func() bool { return b.born.Load() == int64(b.o.Nodes) }, "births")
}

func (b *sparkplugBench) leave() error {
	for _, e := range b.edges {
		_ = e.link.nc.Close() // nothing that was sent is still of interest
	}
	if b.host == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return b.host.Stop(ctx)
}

// event counts. It comes from every shard.
func (b *sparkplugBench) event(e *host.Event) {
	switch e.Kind {
	case session.NodeBirth:
		b.born.Add(1)
	case session.Data:
		b.values.Add(int64(len(e.Values)))
		// The load is woken now and then; there are more under way than that.
		if b.taken.Add(1)%64 == 0 {
			for _, edges := range b.edges {
				signal(edges.more)
			}
		}
	}
}

// await waits until done says so, or nothing has come for a while.
func (b *sparkplugBench) await(ctx context.Context, done func() bool, what string) error {
	const look = 5 * time.Millisecond
	last, since := int64(-1), time.Now()
	for !done() {
		if n := b.born.Load() + b.taken.Load(); n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) > sparkplugQuiet {
			return fmt.Errorf("%s did not come within %s", what, sparkplugQuiet)
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (b *sparkplugBench) measure(ctx context.Context, r *SparkplugReport) error {
	before, err := b.used()
	if err != nil {
		return err
	}
	begin, ended := time.Now(), make(chan error, len(b.edges))
	for _, e := range b.edges {
		go func() { ended <- e.publish() }()
	}
	select {
	case <-time.After(b.o.For):
	case <-ctx.Done():
		err = ctx.Err()
	}
	close(b.over)
	for range b.edges {
		err = errors.Join(err, <-ended)
	}
	if err != nil {
		return err
	}
	// What is lost does not come: then this waits in vain, and the report says it.
	_ = b.await(ctx, func() bool { return b.taken.Load() == b.sent.Load() }, "messages")
	r.Seconds = time.Since(begin).Seconds()
	after, err := b.used()
	if err != nil {
		return err
	}
	r.Messages = b.taken.Load()
	r.Lost = b.sent.Load() - r.Messages
	if r.Messages == 0 {
		return errors.New("no message came")
	}
	millions := float64(r.Messages) / 1e6
	load := 0.0
	for _, e := range b.edges {
		load += e.cpu
	}
	r.PerSecond, r.MetricsPerSecond = float64(r.Messages)/r.Seconds, float64(b.values.Load())/r.Seconds
	r.LoadPerMillion = load / millions
	r.CPUPerMillion = (after[0] - before[0] - load) / millions
	r.BrokerPerMillion = (after[1] - before[1]) / millions
	st := b.host.Stats()
	for _, c := range st.Rebirths {
		r.Rebirths += c.N
	}
	for _, c := range st.Events {
		if c.Kind == session.Stale {
			r.Gaps += c.N
		}
	}
	r.PeakMemoryMiB, err = peakMiB(os.Getpid())
	return err
}

// used is the CPU time of this process and of the broker so far.
func (b *sparkplugBench) used() (seconds [2]float64, err error) {
	if seconds[0], err = cpuSeconds(os.Getpid()); err != nil {
		return seconds, err
	}
	seconds[1], err = cpuSeconds(b.o.BrokerPID)
	return seconds, err
}

// Print writes the report for people.
func (r SparkplugReport) Print(w io.Writer) {
	fmt.Fprintf(w, "%d edge nodes, %d metrics in %d bytes, %g%% reordered, %d CPUs, everything on this machine\n",
		r.Nodes, r.Metrics, r.Bytes, 100*r.Reordered, r.CPUs)
	fmt.Fprintf(w, "  messages             %10.0f /s, %.0f metrics/s\n", r.PerSecond, r.MetricsPerSecond)
	fmt.Fprintf(w, "  CPU of the host      %10.2f s per million (broker: %.2f, load: %.2f)\n", r.CPUPerMillion, r.BrokerPerMillion, r.LoadPerMillion)
	fmt.Fprintf(w, "  memory of the host   %10.0f MiB at most, the load included\n", r.PeakMemoryMiB)
	fmt.Fprintf(w, "  without a network    %10.0f messages/s of CPU time of one core\n", r.PurePerSecond)
	fmt.Fprintf(w, "  lost %d, gaps %d, rebirths %d\n", r.Lost, r.Gaps, r.Rebirths)
}

// place is which message a node sends as its i-th when each so many'th is late.
func place(i, each int) int {
	switch {
	case each > 0 && i%each == 0:
		return i + 1
	case each > 0 && i%each == 1:
		return i - 1
	}
	return i
}

// late is each how many'th message is to come late; 0: none.
func (o SparkplugOptions) late() int {
	if o.Reordered <= 0 {
		return 0
	}
	return max(int(1/o.Reordered+0.5), 2)
}

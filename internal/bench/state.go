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

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/mqtt"
	mqttclient "github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// StateOptions say how reports are measured. Zero fields have defaults.
type StateOptions struct {
	Binary   string        // the wilco to measure; default this program
	Data     string        // where the server keeps its data; default a temporary directory that is removed
	For      time.Duration // default 10 s
	Devices  int           // default 200
	Window   int           // reports of one device that are not answered yet; default 1
	Progress func(string)  // told what goes on; may be nil
}

// StateReport is what was measured: reports that were published, committed with
// their history, and answered as accepted.
type StateReport struct {
	CPUs                  int     `json:"cpus"`
	Devices               int     `json:"devices"`
	Window                int     `json:"window"`
	Seconds               float64 `json:"seconds"`
	Reports               int64   `json:"reports"`
	PerSecond             float64 `json:"reportsPerSecond"`
	CPUSecondsPerThousand float64 `json:"cpuSecondsPerThousand"` // of the server
	LoadCPUPerThousand    float64 `json:"loadCpuSecondsPerThousand"`
	PeakMemoryMiB         float64 `json:"peakMemoryMiB"`
	Rejected              int64   `json:"rejected"`
}

// State measures. It blocks for o.For and a little more.
func State(ctx context.Context, o StateOptions) (r StateReport, err error) {
	if o.Devices == 0 {
		o.Devices = 200
	}
	if o.Window == 0 {
		o.Window = 1
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	c, err := CommandsOptions{Binary: o.Binary, Data: o.Data, For: o.For, Devices: o.Devices, Progress: o.Progress}.withDefaults()
	if err != nil {
		return r, err
	}
	if c.Data == "" {
		if c.Data, err = os.MkdirTemp("", "wilco-bench-"); err != nil {
			return r, err
		}
		defer os.RemoveAll(c.Data)
	}
	s, err := startServer(ctx, c.Binary, c.Data)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	b := &reports{o: o, server: s}
	defer b.leave()
	if err := b.join(ctx); err != nil {
		return r, err
	}
	o.Progress("reports")
	return b.measure(ctx, c.For)
}

// reports is one measurement.
type reports struct {
	o        StateOptions
	server   *server
	devices  []*reporter
	over     atomic.Bool
	accepted atomic.Int64
	rejected atomic.Int64
}

// reporter is one device: it publishes the next report when one is answered.
type reporter struct {
	b       *reports
	address wire.Address
	client  *mqttclient.Client
	n       int // of the client's goroutine, once it has begun
}

var stateProfile = wire.NewWilco("").(wire.StateProfile)

func (b *reports) join(ctx context.Context) error {
	b.o.Progress(fmt.Sprintf("registering %d devices", b.o.Devices))
	for i := range b.o.Devices {
		d := &reporter{b: b, address: wire.Address{Group: "bench", Device: fmt.Sprintf("device-%d", i)}}
		made, err := b.server.api.AddDevice(ctx, client.NewDevice{Device: d.address.String()})
		if err != nil {
			return err
		}
		name := d.address.String()
		d.client, err = mqttclient.New(mqttclient.Options{Servers: []string{"mqtt://" + b.server.mqtt}, ClientID: name, Username: name,
			Password: []byte(made.Secret), OnMessage: d.answered, Subscriptions: []mqtt.Subscription{
				{Filter: stateProfile.StateTopic(d.address, wire.StateReportAccepted), QoS: mqtt.AtLeastOnce},
				{Filter: stateProfile.StateTopic(d.address, wire.StateReportRejected), QoS: mqtt.AtLeastOnce}}})
		if err != nil {
			return err
		}
		d.client.Start()
		b.devices = append(b.devices, d)
		if err := d.client.AwaitUp(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *reports) leave() {
	b.over.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, d := range b.devices {
		_ = d.client.Stop(ctx) // the server is measured, not the goodbye
	}
}

func (b *reports) measure(ctx context.Context, d time.Duration) (StateReport, error) {
	pid := b.server.cmd.Process.Pid
	r := StateReport{CPUs: runtime.NumCPU(), Devices: b.o.Devices, Window: b.o.Window}
	used := func() (server, load float64, err error) {
		server, err = cpuSeconds(pid)
		load, err2 := cpuSeconds(os.Getpid())
		return server, load, errors.Join(err, err2)
	}
	server, load, err := used()
	if err != nil {
		return r, err
	}
	begin := time.Now()
	for range b.o.Window {
		for _, d := range b.devices {
			d.report(0)
		}
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return r, ctx.Err()
	}
	r.Reports, r.Rejected, r.Seconds = b.accepted.Load(), b.rejected.Load(), time.Since(begin).Seconds()
	serverAfter, loadAfter, err := used()
	if err != nil {
		return r, err
	}
	if r.Reports == 0 {
		return r, errors.New("no report was accepted")
	}
	r.PerSecond = float64(r.Reports) / r.Seconds
	r.CPUSecondsPerThousand = (serverAfter - server) / float64(r.Reports) * 1000
	r.LoadCPUPerThousand = (loadAfter - load) / float64(r.Reports) * 1000
	r.PeakMemoryMiB, err = peakMiB(pid)
	return r, err
}

// report publishes one: six values, of which one is new.
func (d *reporter) report(n int) {
	doc := fmt.Appendf(nil, `{"state":{"position":%d,"mode":"auto","motor":{"on":true,"speed":1450},"temperature":21.5,"firmware":"1.4.2"}}`, n)
	_ = d.client.PublishAsync(mqttclient.Message{Topic: stateProfile.StateTopic(d.address, wire.StateReport), Payload: doc, QoS: mqtt.AtLeastOnce}, nil)
}

func (d *reporter) answered(m *mqttclient.Delivery) {
	m.Ack()
	if d.b.over.Load() {
		return
	}
	if on, _ := stateProfile.StateReplyTopic(d.address, m.Topic); on != wire.StateReportAccepted {
		d.b.rejected.Add(1)
	} else {
		d.b.accepted.Add(1)
	}
	d.n++
	d.report(d.n)
}

// Print writes the report for people.
func (r StateReport) Print(w io.Writer) {
	fmt.Fprintf(w, "%d devices, %d reports under way for each, %d CPUs, everything on this machine, all durable\n", r.Devices, r.Window, r.CPUs)
	fmt.Fprintf(w, "  reports              %10.0f /s\n", r.PerSecond)
	fmt.Fprintf(w, "  CPU of the server    %10.3f s per thousand (load: %.3f)\n", r.CPUSecondsPerThousand, r.LoadCPUPerThousand)
	fmt.Fprintf(w, "  memory of the server %10.0f MiB at most\n", r.PeakMemoryMiB)
	fmt.Fprintf(w, "  rejected             %10d\n", r.Rejected)
}

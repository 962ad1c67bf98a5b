package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/mqtt"
	mqttclient "github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// RolloutOptions say how a roll-out is measured. Zero fields have defaults.
type RolloutOptions struct {
	Binary      string // the wilco to measure; default this program
	Data        string // where broker and server keep their data; default a temporary directory that is removed
	Targets     int    // default 100,000
	Concurrency int    // commands under way at once; 0: any number
	// Failing is the share of devices that answer FAILURE; then the roll-out is to
	// abort when more than half of that share has failed.
	Failing  float64
	Progress func(string) // told what goes on; may be nil
}

// RolloutReport is what was measured, from the request that begins the roll-out until
// the server says that it has ended.
type RolloutReport struct {
	CPUs                int     `json:"cpus"`
	Targets             int     `json:"targets"`
	State               string  `json:"state"`
	Reason              string  `json:"reason"`
	Seconds             float64 `json:"seconds"`
	Started             int     `json:"started"`
	Executed            int     `json:"executed"`
	Failed              int     `json:"failed"`
	PerSecond           float64 `json:"commandsPerSecond"` // started ones
	ServerCPUSeconds    float64 `json:"serverCpuSeconds"`
	BrokerCPUSeconds    float64 `json:"brokerCpuSeconds"`
	LoadCPUSeconds      float64 `json:"loadCpuSeconds"`
	ServerPeakMemoryMiB float64 `json:"serverPeakMemoryMiB"`
	BrokerPeakMemoryMiB float64 `json:"brokerPeakMemoryMiB"`
	Twice               int     `json:"devicesWithTwoCommands"` // by what the devices have seen
}

// connections carry all devices: what is measured is the roll-out, and not how many
// connections a broker can hold.
const connections = 8

// Rollout measures. The devices speak MQTT over a few connections to a broker in a
// process of its own, which lets everybody in; the server is another process and a
// client of it. Both are durable.
func Rollout(ctx context.Context, o RolloutOptions) (r RolloutReport, err error) {
	if o.Targets == 0 {
		o.Targets = 100_000
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	c, err := CommandsOptions{Binary: o.Binary, Data: o.Data}.withDefaults()
	if err != nil {
		return r, err
	}
	if c.Data == "" {
		if c.Data, err = os.MkdirTemp("", "wilco-bench-"); err != nil {
			return r, err
		}
		defer os.RemoveAll(c.Data)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	broker, err := startChild(ctx, c.Binary, nil, "broker", "--tcp", "127.0.0.1:0", "--anonymous", "--data", filepath.Join(c.Data, "broker"))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, broker.stop()) }()
	s, err := startServer(ctx, c.Binary, filepath.Join(c.Data, "server"), "WILCO_BROKER_URL=mqtt://"+broker.mqtt)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	b := &rolloutBench{o: o, server: s, broker: broker, seen: make([]atomic.Int32, o.Targets)}
	defer b.leave()
	for _, phase := range []func(context.Context) error{b.register, b.join, b.allOnline} {
		if err := phase(ctx); err != nil {
			return r, err
		}
	}
	return b.measure(ctx)
}

type rolloutBench struct {
	o      RolloutOptions
	server *server
	broker *child
	links  []*mqttclient.Client
	seen   []atomic.Int32 // commands by device, each tid once
	tids   sync.Map       // by device: the last tid
}

// address of device n, which is on the connection n%connections.
func (b *rolloutBench) address(n int) wire.Address {
	return wire.Address{Group: fmt.Sprintf("bench-%d", n%connections), Device: strconv.Itoa(n)}
}

func (b *rolloutBench) register(ctx context.Context) error {
	b.o.Progress(fmt.Sprintf("registering %d devices", b.o.Targets))
	const atOnce = 64
	var next atomic.Int64
	errs := make([]error, atOnce)
	var wg sync.WaitGroup
	for i := range atOnce {
		wg.Go(func() {
			for errs[i] == nil {
				n := int(next.Add(1)) - 1
				if n >= b.o.Targets {
					return
				}
				_, errs[i] = b.server.api.AddDevice(ctx, client.NewDevice{Device: b.address(n).String()})
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

var rolloutProfile = wire.NewWilco("")

func (b *rolloutBench) join(ctx context.Context) error {
	b.o.Progress("devices come online")
	for k := range connections {
		c, err := mqttclient.New(mqttclient.Options{Servers: []string{"mqtt://" + b.broker.mqtt}, ClientID: fmt.Sprintf("devices-%d", k),
			OnMessage: b.command, Subscriptions: []mqtt.Subscription{{Filter: fmt.Sprintf("wilco/bench-%d/+/command", k), QoS: mqtt.AtLeastOnce}}})
		if err != nil {
			return err
		}
		c.Start()
		b.links = append(b.links, c)
		if err := c.AwaitUp(ctx); err != nil {
			return err
		}
	}
	for n := range b.o.Targets {
		doc, err := rolloutProfile.AppendStatus(nil, wire.Status{Online: true, Boot: "boot-" + strconv.Itoa(n), TS: time.Now()})
		if err != nil {
			return err
		}
		if err := b.links[n%connections].PublishAsync(mqttclient.Message{Topic: rolloutProfile.StatusTopic(b.address(n)), Payload: doc, QoS: mqtt.AtLeastOnce, Retain: true}, nil); err != nil {
			return err
		}
	}
	return nil
}

func (b *rolloutBench) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, c := range b.links {
		_ = c.Stop(ctx) // the server is measured, not the goodbye
	}
}

// command is what every device does with one: it acknowledges it, and does it at once.
func (b *rolloutBench) command(m *mqttclient.Delivery) {
	defer m.Ack()
	c, err := rolloutProfile.ParseCommand(m.Payload)
	levels := strings.Split(m.Topic, "/")
	if err != nil || c.Status != wire.Request || len(levels) != 4 {
		return
	}
	n, err := strconv.Atoi(levels[2])
	if err != nil || n >= b.o.Targets {
		return
	}
	if was, _ := b.tids.Swap(n, c.TID); was != c.TID {
		b.seen[n].Add(1)
	}
	a := wire.Address{Group: levels[1], Device: levels[2]}
	result := wire.Result{TID: c.TID, Status: wire.Success}
	if every := b.o.Failing; every > 0 && (n/connections)%int(1/every) == 0 {
		result = wire.Result{TID: c.TID, Status: wire.Failure, Reason: &wire.Reason{Code: "no_space"}}
	}
	ack, err1 := rolloutProfile.AppendAck(nil, wire.Ack{TID: c.TID, Status: wire.Received})
	end, err2 := rolloutProfile.AppendResult(nil, result)
	if err1 != nil || err2 != nil {
		return
	}
	link := b.links[n%connections]
	_ = link.PublishAsync(mqttclient.Message{Topic: rolloutProfile.AckTopic(a), Payload: ack, QoS: mqtt.AtLeastOnce}, nil) // a command without an answer shows in the report
	_ = link.PublishAsync(mqttclient.Message{Topic: rolloutProfile.ResultTopic(a), Payload: end, QoS: mqtt.AtLeastOnce}, nil)
}

func (b *rolloutBench) spec() client.RolloutSpec {
	s := client.RolloutSpec{Name: "bench", Command: "set", Params: []byte(`{"valve":"open","percent":40}`),
		Targets: client.RolloutTargets{All: true}, Concurrency: b.o.Concurrency}
	if b.o.Failing > 0 {
		s.Abort = &client.RolloutThreshold{Share: b.o.Failing / 2, Minimum: 100}
	}
	return s
}

// allOnline waits until the server knows every device to be there.
func (b *rolloutBench) allOnline(ctx context.Context) error {
	for {
		p, err := b.server.api.PlanRollout(ctx, b.spec())
		if err != nil {
			return err
		}
		if p.Kinds["offline"] == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (b *rolloutBench) measure(ctx context.Context) (r RolloutReport, err error) {
	b.o.Progress("roll-out")
	r = RolloutReport{CPUs: runtime.NumCPU(), Targets: b.o.Targets}
	pids := []int{b.server.cmd.Process.Pid, b.broker.cmd.Process.Pid, os.Getpid()}
	var before, after [3]float64
	for i, pid := range pids {
		if before[i], err = cpuSeconds(pid); err != nil {
			return r, err
		}
	}
	begin := time.Now()
	now, err := b.server.api.StartRollout(ctx, b.spec())
	for err == nil && !now.Final() {
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
		now, err = b.server.api.Rollout(ctx, "bench")
	}
	if err != nil {
		return r, err
	}
	r.Seconds = time.Since(begin).Seconds()
	for i, pid := range pids {
		if after[i], err = cpuSeconds(pid); err != nil {
			return r, err
		}
	}
	r.ServerCPUSeconds, r.BrokerCPUSeconds, r.LoadCPUSeconds = after[0]-before[0], after[1]-before[1], after[2]-before[2]
	if r.ServerPeakMemoryMiB, err = peakMiB(pids[0]); err != nil {
		return r, err
	}
	if r.BrokerPeakMemoryMiB, err = peakMiB(pids[1]); err != nil {
		return r, err
	}
	r.State, r.Reason, r.Started, r.Executed, r.Failed = now.State, now.Reason, now.Started, now.Counts["executed"], now.Counts["failed"]
	r.PerSecond = float64(r.Started) / r.Seconds
	for n := range b.seen {
		if b.seen[n].Load() > 1 {
			r.Twice++
		}
	}
	return r, nil
}

// Print writes the report for people.
func (r RolloutReport) Print(w io.Writer) {
	fmt.Fprintf(w, "%d devices over %d connections, %d CPUs, broker and server on this machine, all durable\n", r.Targets, connections, r.CPUs)
	fmt.Fprintf(w, "  %s (%s) after   %10.1f s\n", r.State, r.Reason, r.Seconds)
	fmt.Fprintf(w, "  started              %10d, %.0f /s\n", r.Started, r.PerSecond)
	fmt.Fprintf(w, "  executed, failed     %10d, %d\n", r.Executed, r.Failed)
	fmt.Fprintf(w, "  given two commands   %10d\n", r.Twice)
	fmt.Fprintf(w, "  CPU of the server    %10.1f s (broker: %.1f, load: %.1f)\n", r.ServerCPUSeconds, r.BrokerCPUSeconds, r.LoadCPUSeconds)
	fmt.Fprintf(w, "  memory of the server %10.0f MiB at most (broker: %.0f)\n", r.ServerPeakMemoryMiB, r.BrokerPeakMemoryMiB)
}

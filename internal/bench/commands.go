package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/sim"
	"github.com/wilco-iot/wilco/wire"
)

// CommandsOptions say how lifecycles are measured. Zero fields have defaults.
type CommandsOptions struct {
	Binary  string        // the wilco to measure; default this program
	Data    string        // where the server keeps its data; default a temporary directory that is removed
	For     time.Duration // of each phase; default 10 s
	Devices int           // default 1,000
	// InFlight is how many commands are under way at once at full load; default
	// two for each device, so that one is on its way while the next one waits.
	InFlight int
	// Backlog, if above 0, measures this many commands that wait for offline
	// devices, and a restart with them, and nothing else.
	Backlog int
	// Progress is told what goes on; may be nil.
	Progress func(string)
}

// CommandsReport is what was measured. CPU is that of the server's process alone
// where nothing else is said.
type CommandsReport struct {
	CPUs     int     `json:"cpus"`
	Devices  int     `json:"devices"`
	Commands int     `json:"commands"` // all that were sent
	Seconds  float64 `json:"seconds"`  // of full load

	LifecyclesPerSecond   float64 `json:"lifecyclesPerSecond"`   // at full load: created, delivered, acknowledged, executed, all durable
	CPUSecondsPerThousand float64 `json:"cpuSecondsPerThousand"` // at full load
	LoadCPUPerThousand    float64 `json:"loadCpuSecondsPerThousand"`
	P50Ms                 float64 `json:"p50Ms"` // one command at a time, HTTP request to answer "executed"
	OneAtATimeP99Ms       float64 `json:"oneAtATimeP99Ms"`
	HalfLoadPerSecond     float64 `json:"halfLoadPerSecond"`
	HalfLoadP50Ms         float64 `json:"halfLoadP50Ms"`
	P99Ms                 float64 `json:"p99Ms"` // at half load, creation to executed, by the server's clock
	PeakMemoryMiB         float64 `json:"peakMemoryMiB"`

	Backlog *BacklogReport `json:"backlog,omitempty"`
	sim.Verdict
}

// BacklogReport is what many commands that wait cost.
type BacklogReport struct {
	Commands         int     `json:"commands"`
	CreatedPerSecond float64 `json:"createdPerSecond"`
	MemoryMiB        float64 `json:"memoryMiB"`
	RestartSeconds   float64 `json:"restartSeconds"` // from the start of the process until it is ready
	MemoryAfterMiB   float64 `json:"memoryAfterRestartMiB"`
}

func (o CommandsOptions) withDefaults() (CommandsOptions, error) {
	if o.Binary == "" {
		self, err := os.Executable()
		if err != nil {
			return o, err
		}
		o.Binary = self
	}
	if o.For == 0 {
		o.For = 10 * time.Second
	}
	if o.Devices == 0 {
		o.Devices = 1000
	}
	if o.InFlight == 0 {
		o.InFlight = 2 * o.Devices
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return o, nil
}

// bulk is the size of one bulk request.
const bulk = 200

// Commands measures. It blocks for three phases of o.For, or for as long as a
// backlog takes.
func Commands(ctx context.Context, o CommandsOptions) (CommandsReport, error) {
	o, err := o.withDefaults()
	if err != nil {
		return CommandsReport{}, err
	}
	if o.Data == "" {
		dir, err := os.MkdirTemp("", "wilco-bench-")
		if err != nil {
			return CommandsReport{}, err
		}
		defer os.RemoveAll(dir)
		o.Data = dir
	}
	// The load shares the processors with what it measures: it should be cheap.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	s, err := startServer(ctx, o.Binary, o.Data)
	if err != nil {
		return CommandsReport{}, err
	}
	b := &commands{o: o, server: s, report: CommandsReport{CPUs: runtime.NumCPU(), Devices: o.Devices}}
	if o.Backlog > 0 {
		err = b.backlog(ctx)
	} else {
		err = b.lifecycles(ctx)
	}
	return b.report, errors.Join(err, b.server.stop())
}

// commands is one measurement.
type commands struct {
	o       CommandsOptions
	server  *server
	fleet   *sim.Fleet
	members []sim.Member
	report  CommandsReport

	sent atomic.Int64
	mu   sync.Mutex
	tids []string
}

func (b *commands) register(ctx context.Context) error {
	b.o.Progress(fmt.Sprintf("registering %d devices", b.o.Devices))
	for i := range b.o.Devices {
		a := wire.Address{Group: "bench", Device: fmt.Sprintf("device-%d", i)}
		d, err := b.server.api.AddDevice(ctx, client.NewDevice{Device: a.String()})
		if err != nil {
			return err
		}
		b.members = append(b.members, sim.Member{Address: a, Secret: d.Secret})
	}
	return nil
}

func (b *commands) lifecycles(ctx context.Context) error {
	if err := b.register(ctx); err != nil {
		return err
	}
	b.fleet = sim.New(sim.Options{Members: b.members, Dial: b.dial, Heartbeat: 10 * time.Second})
	life, end := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() { b.fleet.Run(life); close(stopped) }()
	defer func() { end(); <-stopped }()
	for _, phase := range []func(context.Context) error{b.allOnline, b.oneAtATime, b.fullLoad, b.halfLoad} {
		if err := phase(ctx); err != nil {
			return err
		}
	}
	peak, err := peakMiB(b.server.cmd.Process.Pid)
	if err != nil {
		return err
	}
	b.report.PeakMemoryMiB = peak
	return b.audit(ctx)
}

func (b *commands) dial(ctx context.Context, _ wire.Address) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", b.server.mqtt)
}

// allOnline waits until the server knows every device to be online, by one
// command to each.
func (b *commands) allOnline(ctx context.Context) error {
	b.o.Progress("waiting for the devices")
	var last string
	for chunk := range slices.Chunk(b.members, bulk) {
		results, err := b.bulk(ctx, chunk)
		if err != nil {
			return err
		}
		last = results[len(results)-1].TID
	}
	if _, err := b.server.api.Await(ctx, last); err != nil {
		return err
	}
	return b.drain(ctx)
}

// bulk sends one command to each of the members.
func (b *commands) bulk(ctx context.Context, members []sim.Member) ([]client.BulkResult, error) {
	orders := make([]client.BulkOrder, len(members))
	for i, m := range members {
		orders[i] = client.BulkOrder{Device: m.Address.String(), Name: sim.Set, Params: []byte(`{"valve":"open","percent":40}`)}
	}
	results, err := b.server.api.SendBulk(ctx, orders)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range results {
		if r.Error != nil {
			return nil, r.Error
		}
		b.tids = append(b.tids, r.TID)
	}
	b.sent.Add(int64(len(results)))
	return results, nil
}

// underWay is how many commands the devices have not ended yet, by their own count.
func (b *commands) underWay() int64 { return b.sent.Load() - b.fleet.Executed() }

// drain waits until the server says that every command has ended.
func (b *commands) drain(ctx context.Context) error {
	for {
		open, err := b.open(ctx)
		if err != nil || open == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// oneAtATime measures how long a person waits for one command.
func (b *commands) oneAtATime(ctx context.Context) error {
	b.o.Progress("one command at a time")
	var took []time.Duration
	for begin := time.Now(); time.Since(begin) < b.o.For/2 || len(took) < 20; {
		t0 := time.Now()
		m := b.members[len(took)%len(b.members)]
		c, err := b.server.api.Send(ctx, m.Address.String(), client.Order{Name: sim.Set})
		if err == nil {
			c, err = b.server.api.Await(ctx, c.TID)
		}
		if err != nil {
			return err
		}
		if c.State != client.Executed {
			return fmt.Errorf("command %s ended as %s (%s)", c.TID, c.State, c.Reason)
		}
		took = append(took, time.Since(t0))
		b.sent.Add(1)
		b.tids = append(b.tids, c.TID)
	}
	b.report.P50Ms, b.report.OneAtATimeP99Ms = percentile(took, 0.50), percentile(took, 0.99)
	return nil
}

// fullLoad keeps InFlight commands under way.
func (b *commands) fullLoad(ctx context.Context) error {
	b.o.Progress("full load")
	before, pid := b.sent.Load(), b.server.cmd.Process.Pid
	cpu, err := cpuSeconds(pid)
	if err != nil {
		return err
	}
	own, err := cpuSeconds(os.Getpid())
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := b.post(ctx, begin.Add(b.o.For)); err != nil {
		return err
	}
	if err := b.drain(ctx); err != nil {
		return err
	}
	took := time.Since(begin).Seconds()
	cpuAfter, err := cpuSeconds(pid)
	if err != nil {
		return err
	}
	ownAfter, err := cpuSeconds(os.Getpid())
	if err != nil {
		return err
	}
	n := float64(b.sent.Load() - before)
	b.report.Seconds = took
	b.report.LifecyclesPerSecond = n / took
	b.report.CPUSecondsPerThousand = (cpuAfter - cpu) / n * 1000
	b.report.LoadCPUPerThousand = (ownAfter - own) / n * 1000
	return nil
}

// posters is how many bulk requests are under way at once at full load: one
// alone would wait most of the time for its own commit.
const posters = 8

// post sends bulk requests until the time has come, and keeps InFlight commands
// under way.
func (b *commands) post(ctx context.Context, until time.Time) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	size := min(bulk, max(b.o.InFlight/posters, 1))
	for p := range posters {
		wg.Go(func() {
			for at := p * size; time.Now().Before(until) && ctx.Err() == nil; at += (posters - 1) * size {
				if b.underWay()+int64(size) > int64(b.o.InFlight) {
					at -= (posters - 1) * size
					<-time.After(time.Millisecond)
					continue
				}
				if _, err := b.bulk(ctx, b.next(&at, size)); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// next gives n members in turn.
func (b *commands) next(at *int, n int) []sim.Member {
	out := make([]sim.Member, n)
	for i := range out {
		out[i] = b.members[*at%len(b.members)]
		*at++
	}
	return out
}

// halfLoad sends at half of the rate of full load and looks at the times.
func (b *commands) halfLoad(ctx context.Context) error {
	rate := b.report.LifecyclesPerSecond / 2
	b.o.Progress(fmt.Sprintf("half load, %.0f commands/s", rate))
	const size = 25
	ticker := time.NewTicker(time.Duration(float64(size) / rate * float64(time.Second)))
	defer ticker.Stop()
	first := len(b.tids)
	begin := time.Now()
	for at := 0; time.Since(begin) < b.o.For; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if _, err := b.bulk(ctx, b.next(&at, size)); err != nil {
			return err
		}
	}
	b.report.HalfLoadPerSecond = float64(len(b.tids)-first) / time.Since(begin).Seconds()
	if err := b.drain(ctx); err != nil {
		return err
	}
	var took []time.Duration
	for c, err := range b.server.api.All(ctx, client.ListOptions{Since: begin.Add(-time.Millisecond), Limit: 1000}) {
		if err != nil {
			return err
		}
		took = append(took, c.Finished.Sub(c.Created))
	}
	b.report.HalfLoadP50Ms, b.report.P99Ms = percentile(took, 0.50), percentile(took, 0.99)
	return nil
}

// audit compares what the server says of every command with what the devices
// wrote down.
func (b *commands) audit(ctx context.Context) error {
	b.o.Progress("audit")
	b.report.Commands = len(b.tids)
	known := make(map[string]sim.Claim, len(b.tids))
	for c, err := range b.server.api.All(ctx, client.ListOptions{Limit: 1000}) {
		if err != nil {
			return err
		}
		a, err := wire.ParseAddress(c.Device)
		if err != nil {
			return err
		}
		known[c.TID] = sim.Claim{TID: c.TID, Device: a, Known: true, State: string(c.State), Final: c.Ended, Sent: !c.Sent.IsZero()}
	}
	claims := make([]sim.Claim, 0, len(b.tids))
	for _, tid := range b.tids {
		claim, ok := known[tid]
		if !ok {
			claim.TID = tid
		}
		claims = append(claims, claim)
	}
	b.report.Verdict = sim.Audit(claims, b.fleet.Logs())
	return nil
}

// percentile gives the p-th share of d in milliseconds, by the nearest rank.
func percentile(d []time.Duration, p float64) float64 {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	i := int(math.Ceil(float64(len(d))*p)) - 1
	return float64(d[min(max(i, 0), len(d)-1)].Microseconds()) / 1000
}

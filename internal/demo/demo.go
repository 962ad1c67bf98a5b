// Package demo shows wilco at work: a broker, a server and a fleet of simulated
// devices, over real MQTT, in one process. Some devices are offline, some slow,
// some lose power in the middle of a command, and the network loses, repeats and
// reorders. Meanwhile people do what people do: agree to a command that is held,
// take one back, roll a firmware out that fails; and a gateway is cut off, acts
// alone, and returns. In the end an auditor reads the devices' own logs and says
// whether every command ended in a state that is true.
package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/app"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/sim"
	"github.com/wilco-iot/wilco/wire"
)

// Options of a demo. Zero fields have defaults.
type Options struct {
	For     time.Duration // how long commands are sent; default 30 s
	Devices int           // default 50
	Seed    uint64        // of every fault; default random
	Data    string        // directory of the server; default a temporary one that is removed
	Settle  time.Duration // how long after the last command everything must have ended; default 60 s
	Logger  *slog.Logger  // default: silent
	// Progress is called a few times a second, by the goroutine of Run.
	Progress func(Progress)
}

// Progress is the state of a demo that is running.
type Progress struct {
	Elapsed, For time.Duration
	Settling     bool // no more commands are sent; the last ones are coming to an end
	Devices      int
	Online       int
	Sent         int
	Engine       engine.Stats
	Faults       FaultCounts
	Reboots      int64
	Recent       []Line // the last commands that ended
	Acts         []Act
}

// Line is one command that ended.
type Line struct {
	TID, Device, Name, State, Reason string
	Attempts                         int
	Took                             time.Duration
}

// FaultCounts is what the simulated networks did.
type FaultCounts struct {
	CommandsLost       int64 `json:"commandsLost"`
	CommandsDuplicated int64 `json:"commandsDuplicated"`
	AnswersLost        int64 `json:"answersLost"`
	AnswersDuplicated  int64 `json:"answersDuplicated"`
	AnswersReordered   int64 `json:"answersReordered"`
	ConnectionsCut     int64 `json:"connectionsCut"`
}

// Report is what a demo has shown.
type Report struct {
	Seed       uint64         `json:"seed"`
	Devices    int            `json:"devices"`
	Seconds    float64        `json:"seconds"`
	Total      int            `json:"total"`
	Commands   map[string]int `json:"commands"` // by end state
	Retries    int64          `json:"retries"`
	Duplicates int64          `json:"duplicatesAbsorbed"`
	Reboots    int64          `json:"rebootsSurvived"`
	Reordered  int64          `json:"reorderingsSeen"`
	Faults     FaultCounts    `json:"faults"`
	P50Ms      float64        `json:"p50Ms"` // creation to executed
	P99Ms      float64        `json:"p99Ms"`
	Acts       []Act          `json:"acts"`
	sim.Verdict
}

// Good says whether nothing is wrong, and every act went as it should.
func (r *Report) Good() bool {
	return r.Verdict.Good() && !slices.ContainsFunc(r.Acts, func(a Act) bool { return !a.Good })
}

// faults is the weather of the demo.
var faults = sim.Faults{Down: sim.Direction{Lose: 0.02, Duplicate: 0.05},
	Up: sim.Direction{Lose: 0.02, Duplicate: 0.05, Reorder: 0.08}, Cut: 0.004}

// policy makes clocks short enough for an audience.
var policy = command.Policy{
	DeliverBy: command.Duration(20 * time.Second), AckBy: command.Duration(700 * time.Millisecond),
	Heartbeat: command.Duration(2 * time.Second), FinishBy: command.Duration(15 * time.Second),
	Settle: command.Duration(20 * time.Second), Backoff: command.Exponential, MaxAttempts: 4, Jitter: 0.2,
}

func (o Options) withDefaults() Options {
	if o.For == 0 {
		o.For = 30 * time.Second
	}
	if o.Devices == 0 {
		o.Devices = 50
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64N(1 << 32)
	}
	if o.Settle == 0 {
		o.Settle = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Run shows the demo and reports. It blocks for about Options.For, and until
// every command has ended. When ctx ends early the commands so far are brought
// to their ends and reported. The report may be bad: see Report.Good.
func Run(ctx context.Context, o Options) (Report, error) {
	o = o.withDefaults()
	if o.Data == "" {
		dir, err := os.MkdirTemp("", "wilco-demo-")
		if err != nil {
			return Report{}, err
		}
		defer os.RemoveAll(dir)
		o.Data = dir
	}
	server, err := start(ctx, o)
	if err != nil {
		return Report{}, err
	}
	defer func() {
		if err := within(server.Stop); err != nil {
			o.Logger.Error("stop", "error", err)
		}
	}()
	members, err := register(ctx, server, o)
	if err != nil {
		return Report{}, err
	}
	d := &director{o: o, server: server}
	actors, err := d.actors(ctx)
	if err != nil {
		return Report{}, err
	}
	d.fleet = sim.New(sim.Options{Members: slices.Concat(members, actors), Dial: d.dial, Seed: o.Seed, Faults: faults,
		Crash: 0.2, Away: 0.15, Slow: 0.2, Heartbeat: 500 * time.Millisecond, Logger: o.Logger})
	return d.run(ctx, members)
}

// start starts a server over o.Data.
func start(ctx context.Context, o Options) (*app.Server, error) {
	s := app.New(app.Options{Data: o.Data, HTTP: "127.0.0.1:0", Logger: o.Logger, Policy: actPolicy(),
		Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}}})
	return s, s.Start(ctx)
}

// within gives a stop the time that it may take.
func within(stop func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return stop(ctx)
}

// register makes the fleet known to the server.
func register(ctx context.Context, s *app.Server, o Options) ([]sim.Member, error) {
	members := make([]sim.Member, o.Devices)
	for i := range members {
		a := wire.Address{Group: "demo", Device: fmt.Sprintf("device-%03d", i+1)}
		_, secret, err := s.Fleet.Add(ctx, fleet.NewDevice{Address: a})
		if err != nil {
			return nil, err
		}
		members[i] = sim.Member{Address: a, Secret: secret}
	}
	return members, nil
}

// director runs the show.
type director struct {
	o      Options
	server *app.Server
	fleet  *sim.Fleet
	began  time.Time // of what is shown
	tids   []command.TID
	recent []Line
	shown  int // of tids, already looked at for recent

	mu   sync.Mutex // guards acts
	acts []Act
}

func (d *director) dial(ctx context.Context, _ wire.Address) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", d.server.MQTTAddr("tcp").String())
}

func (d *director) run(ctx context.Context, members []sim.Member) (Report, error) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { d.fleet.Run(life) })
	stop := func() { end(); running.Wait() }
	defer stop()

	s, err := d.stage(ctx)
	if err != nil {
		return Report{}, err
	}
	s.site, err = d.site(ctx, s)
	defer s.site.close()
	if err != nil {
		return Report{}, fmt.Errorf("gateway: %w", err)
	}
	acting, cancel := context.WithTimeout(life, d.o.For+d.o.Settle)
	defer cancel()
	d.began = time.Now() // what came before may have taken long, and nothing was sent
	played := make(chan struct{})
	running.Go(func() { d.play(acting, s); close(played) })
	if err := d.send(ctx, members); err != nil {
		return Report{}, err
	}
	d.fleet.Calm()
	<-played
	tids, err := s.commands(life)
	if err != nil {
		return Report{}, err
	}
	for _, tid := range tids {
		d.tids = append(d.tids, uuid.MustParse(tid))
	}
	if err := d.settle(life); err != nil {
		return Report{}, err
	}
	stop() // the devices' logs are whole
	if err := s.site.close(); err != nil {
		return Report{}, fmt.Errorf("gateway: %w", err)
	}
	behind, _ := s.site.done()
	return d.report(context.WithoutCancel(ctx), append(d.fleet.Logs(), behind))
}

// send makes commands for random devices until the time is over.
func (d *director) send(ctx context.Context, members []sim.Member) error {
	rnd := rand.New(rand.NewPCG(d.o.Seed, 1<<40))
	names := []string{sim.Set, sim.Set, sim.Move, sim.Flaky}
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for time.Since(d.began) < d.o.For {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		var reqs []engine.Request
		for range max(len(members)/25, 1) { // 0.8 commands a second for each device
			m := members[rnd.IntN(len(members))]
			reqs = append(reqs, engine.Request{Device: m.Address, Name: names[rnd.IntN(len(names))], Policy: policy, By: "demo"})
		}
		made, err := d.server.Engine.Create(ctx, reqs)
		if err != nil {
			return nil // ctx ended
		}
		for _, c := range made {
			if c.Err != nil {
				return c.Err
			}
			d.tids = append(d.tids, c.Command.TID)
		}
		if rnd.Float64() < 0.05 {
			// It may have ended already; the machine says so.
			_, _ = d.server.Engine.Cancel(ctx, d.tids[len(d.tids)-1-rnd.IntN(min(len(d.tids), 20))], "demo", "somebody changed their mind")
		}
		d.show(ctx, false)
	}
	return nil
}

// settle waits until every command has ended.
func (d *director) settle(ctx context.Context) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(d.o.Settle)
	for d.server.Engine.Stats().Open > 0 && time.Now().Before(deadline) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		d.show(ctx, true)
	}
	return nil
}

func (d *director) show(ctx context.Context, settling bool) {
	if d.o.Progress == nil {
		return
	}
	for ; d.shown < len(d.tids) && len(d.tids)-d.shown > 400; d.shown++ {
	}
	for i := d.shown; i < len(d.tids) && i < d.shown+40; i++ {
		c, err := d.server.Store.Command(ctx, d.tids[i])
		if err != nil || !c.Final() {
			break
		}
		d.shown = i + 1
		d.recent = append(d.recent, Line{TID: c.TID.String(), Device: c.Device.String(), Name: c.Name, State: string(c.State),
			Reason: string(c.Reason), Attempts: c.Attempt, Took: c.Ended.Sub(c.Created)})
	}
	if n := len(d.recent); n > 10 {
		d.recent = d.recent[n-10:]
	}
	d.o.Progress(Progress{Elapsed: time.Since(d.began), For: d.o.For, Settling: settling, Devices: d.o.Devices + actorCount,
		Online: d.fleet.Online() + 1, Sent: len(d.tids), Engine: d.server.Engine.Stats(), Faults: counts(d.fleet),
		Reboots: d.fleet.Reboots(), Recent: d.recent, Acts: d.played()})
}

func counts(f *sim.Fleet) FaultCounts {
	c := f.Faults()
	return FaultCounts{CommandsLost: c.LostDown.Load(), CommandsDuplicated: c.DuplicatedDown.Load(), AnswersLost: c.LostUp.Load(),
		AnswersDuplicated: c.DuplicatedUp.Load(), AnswersReordered: c.SwappedUp.Load(), ConnectionsCut: c.Cut.Load()}
}

// report asks the server what it says of each command, and the auditor whether
// that is true by the devices' own logs.
func (d *director) report(ctx context.Context, logs []sim.Log) (Report, error) {
	claims := make([]sim.Claim, 0, len(d.tids))
	var took []time.Duration
	for batch := range slices.Chunk(d.tids, 500) {
		found, err := d.server.Store.Commands(ctx, batch)
		if err != nil {
			return Report{}, fmt.Errorf("read the commands: %w", err)
		}
		known := make(map[command.TID]*command.Command, len(found))
		for i := range found {
			known[found[i].TID] = &found[i]
		}
		for _, tid := range batch {
			c, ok := known[tid]
			if !ok {
				claims = append(claims, sim.Claim{TID: tid.String()})
				continue
			}
			claims = append(claims, sim.Claim{TID: tid.String(), Device: c.Device, Known: true, State: string(c.State),
				Final: c.Final(), Sent: !c.FirstSent.IsZero()})
			if c.State == command.Executed {
				took = append(took, c.Ended.Sub(c.Created))
			}
		}
	}
	st, f := d.server.Engine.Stats(), counts(d.fleet)
	r := Report{Seed: d.o.Seed, Devices: d.o.Devices + actorCount, Seconds: time.Since(d.began).Seconds(), Total: len(d.tids),
		Retries: st.Retries, Duplicates: st.Duplicates, Reboots: d.fleet.Reboots(), Reordered: f.AnswersReordered, Faults: f,
		Acts: d.played(), Verdict: sim.Audit(claims, logs)}
	r.Commands = r.Verdict.ByState
	r.P50Ms, r.P99Ms = percentile(took, 0.50), percentile(took, 0.99)
	if len(d.tids) == 0 {
		return r, errors.New("no command was sent: the demo was stopped at once")
	}
	return r, nil
}

// percentile gives the p-th share of d in milliseconds.
func percentile(d []time.Duration, p float64) float64 {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return float64(d[min(int(float64(len(d))*p), len(d)-1)].Microseconds()) / 1000
}

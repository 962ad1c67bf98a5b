// Package sim makes a fleet of devices that behave as devices do: some offline,
// some slow, some rebooting in the middle of a command, behind networks that
// lose, repeat, overtake and break. They are the real device library over real
// MQTT; only the faults are made, out of one seed.
//
// Each device keeps a log of its own of what it really did. [Audit] compares
// these logs with what the server says, and so tells whether it says the truth.
//
// A Fleet's methods are safe for concurrent use. Run owns all goroutines.
package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/wire"
)

// Member is one device of a fleet, as it was registered.
type Member struct {
	Address wire.Address
	Secret  string
	Kind    *Kind // shared with others of its kind; nil: one that knows Set, Move and Flaky
}

// Options describe a fleet. Members and Dial are required.
type Options struct {
	Members []Member
	// Dial connects one device to the broker. It gets its address for logs.
	Dial func(context.Context, wire.Address) (net.Conn, error)
	Root string // first level of the topics
	Seed uint64
	// Faults of the network between devices and broker; Weather, if set, says in
	// place of it what they are when the fleet has run for so long.
	Faults  Faults
	Weather func(time.Duration) Faults
	// Crash, Away and Slow are the shares of devices, 0 to 1, that lose power
	// now and then, that are offline for long, and that take long.
	Crash, Away, Slow float64
	// Journal gives a device's journal; default one in memory.
	Journal func(wire.Address) device.Journal
	// Heartbeat is the interval of RUNNING; default 1 s.
	Heartbeat time.Duration
	Logger    *slog.Logger // default: silent
}

// Fleet is simulated devices. Make one with New.
type Fleet struct {
	opt      Options
	counts   Counts
	calm     chan struct{} // closed by Calm
	once     sync.Once
	members  []*member
	began    time.Time // of Run
	online   atomic.Int64
	reboots  atomic.Int64
	executed atomic.Int64
}

// member is one device with its own log.
type member struct {
	f       *Fleet
	address wire.Address
	secret  string
	kind    *Kind
	journal device.Journal
	crashes bool
	away    bool
	slow    bool
	skew    clock

	mu    sync.Mutex // guards what follows
	rnd   *rand.Rand // of its life
	work  *rand.Rand // of what it does; one of its own, so that it does the same whatever its life is
	conns *rand.Rand // of its connections
	mute  map[string]bool
	power func() // takes it away; nil while it is off
	valve valve  // where it stands, also without power
	log   Log
}

// Log is what a device itself wrote down of what it did.
type Log struct {
	Address wire.Address
	// Effects are the tids whose effect began, in the order of the beginnings:
	// a tid that stands here twice was executed twice.
	Effects []string
	// Unordered: nothing is promised about that order.
	Unordered bool
	// Ends is the status each tid ended with, as the device knows it.
	Ends map[string]string
}

// New makes a fleet.
func New(o Options) *Fleet {
	if o.Heartbeat == 0 {
		o.Heartbeat = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Fleet{opt: o, calm: make(chan struct{})}
	for i, m := range o.Members {
		rnd := rand.New(rand.NewPCG(o.Seed, uint64(i)))
		d := &member{f: f, address: m.Address, secret: m.Secret, kind: m.Kind, rnd: rnd,
			crashes: rnd.Float64() < o.Crash, away: rnd.Float64() < o.Away, slow: rnd.Float64() < o.Slow,
			work: rand.New(rand.NewPCG(o.Seed, 1<<32|uint64(i))), conns: rand.New(rand.NewPCG(o.Seed, 2<<32|uint64(i))),
			mute: make(map[string]bool), log: Log{Address: m.Address, Ends: make(map[string]string)}}
		if m.Kind != nil {
			d.skew, d.log.Unordered = m.Kind.Clock.draw(rnd), m.Kind.Unordered
		}
		d.journal = &device.MemoryJournal{}
		if o.Journal != nil {
			d.journal = o.Journal(m.Address)
		}
		f.members = append(f.members, d)
	}
	return f
}

// Run powers the devices on and blocks until ctx ends and all have stopped. A
// fleet runs once.
func (f *Fleet) Run(ctx context.Context) {
	f.began = time.Now()
	var wg sync.WaitGroup
	for _, m := range f.members {
		wg.Go(func() { m.live(ctx) })
	}
	wg.Wait()
}

// Calm ends all faults: from now on networks are good, and every device comes
// online and stays there.
func (f *Fleet) Calm() { f.once.Do(func() { close(f.calm) }) }

// Online is how many devices have power now.
func (f *Fleet) Online() int { return int(f.online.Load()) }

// Reboots is how often devices lost power and came back.
func (f *Fleet) Reboots() int64 { return f.reboots.Load() }

// Executed is how many commands the devices have brought to an end.
func (f *Fleet) Executed() int64 { return f.executed.Load() }

// Faults counts what the networks did.
func (f *Fleet) Faults() *Counts { return &f.counts }

// Logs gives copies of the devices' own logs.
func (f *Fleet) Logs() []Log {
	logs := make([]Log, 0, len(f.members))
	for _, m := range f.members {
		m.mu.Lock()
		l := Log{Address: m.log.Address, Unordered: m.log.Unordered, Effects: append([]string(nil), m.log.Effects...), Ends: make(map[string]string, len(m.log.Ends))}
		for tid, s := range m.log.Ends {
			l.Ends[tid] = s
		}
		m.mu.Unlock()
		logs = append(logs, l)
	}
	return logs
}

func (f *Fleet) isCalm() bool {
	select {
	case <-f.calm:
		return true
	default:
		return false
	}
}

func (f *Fleet) faults() Faults {
	switch {
	case f.isCalm():
		return Faults{}
	case f.opt.Weather != nil:
		return f.opt.Weather(time.Since(f.began))
	}
	return f.opt.Faults
}

// between gives a random duration.
func (m *member) between(a, b time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return a + time.Duration(m.rnd.Int64N(int64(b-a)))
}

func (m *member) chance(p float64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rnd.Float64() < p
}

// pause waits, or until the fleet is calm or ctx ends.
func (m *member) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-m.f.calm:
	case <-ctx.Done():
	}
}

// live is a device's life: power on, work for a while, lose power or be
// switched off, and again.
func (m *member) live(ctx context.Context) {
	if m.away && m.chance(0.5) {
		m.pause(ctx, m.between(2*time.Second, 8*time.Second))
	}
	for boot := 0; ctx.Err() == nil; boot++ {
		if boot > 0 {
			m.f.reboots.Add(1)
		}
		err := m.boot(ctx)
		if err != nil && !errors.Is(err, device.ErrPowerLoss) {
			m.f.opt.Logger.Error("simulated device", "device", m.address, "error", err)
		}
		m.pause(ctx, m.off())
	}
}

// off is how long it has no power.
func (m *member) off() time.Duration {
	switch {
	case m.kind != nil && m.kind.Reboots.Off != (Span{}):
		return m.pick(m.rnd, m.kind.Reboots.Off)
	case m.away:
		return m.between(2*time.Second, 8*time.Second)
	}
	return m.between(100*time.Millisecond, time.Second)
}

// boot runs the device once.
func (m *member) boot(ctx context.Context) error {
	c := device.Config{
		Address: m.address, Password: []byte(m.secret), Root: m.f.opt.Root, Journal: m.journal,
		Heartbeat: m.f.opt.Heartbeat, Firmware: "sim-1", Dial: m.dial, StopTimeout: 2 * time.Second,
		Observer: device.Observer{
			Executed: func(r wire.Result) { m.ended(r.TID, r.Status) },
			Refused:  m.refused,
		},
	}
	if k := m.kind; k != nil {
		c.Clock = m.skew.now
		if k.Profile != nil {
			c.Profile, c.Root = k.Profile, ""
		}
	}
	d, err := device.New(c)
	if err != nil {
		return err
	}
	m.register(d)
	life, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	if after, cause := m.end(); after > 0 {
		timer := time.AfterFunc(after, func() {
			if !m.f.isCalm() {
				cut(cause)
			}
		})
		defer timer.Stop()
	}
	m.setPower(func() { cut(device.ErrPowerLoss) })
	defer m.setPower(nil)
	m.f.online.Add(1)
	defer m.f.online.Add(-1)
	return d.Run(life)
}

// end is after how long a boot ends, and how; 0: not by itself.
func (m *member) end() (after time.Duration, cause error) {
	if m.f.isCalm() {
		return 0, nil
	}
	if m.kind != nil {
		return m.nextReboot(), device.ErrPowerLoss
	}
	if !m.crashes && !m.away {
		return 0, nil
	}
	if m.away && m.chance(0.5) {
		return m.between(time.Second, 10*time.Second), nil // switched off in good order
	}
	return m.between(time.Second, 10*time.Second), device.ErrPowerLoss
}

func (m *member) setPower(off func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.power = off
}

func (m *member) dial(ctx context.Context) (net.Conn, error) {
	c, err := m.f.opt.Dial(ctx, m.address)
	if err != nil {
		return nil, err
	}
	silent := m.kind != nil && m.kind.Silent > 0
	if m.f.opt.Faults == (Faults{}) && m.f.opt.Weather == nil && !silent {
		return c, nil
	}
	n := &network{broker: c, faults: m.f.faults, counts: &m.f.counts}
	if silent {
		n.muted = m.muted
	}
	m.mu.Lock()
	n.up.rnd, n.down.rnd = rand.New(rand.NewPCG(m.conns.Uint64(), 1)), rand.New(rand.NewPCG(m.conns.Uint64(), 2))
	m.mu.Unlock()
	return n.open(), nil
}

// The commands that simulated devices understand.
const (
	Set   = "set"   // at once
	Move  = "move"  // takes a while, with progress; longer on slow devices
	Flaky = "flaky" // fails half of the times
)

func (m *member) register(d *device.Device) {
	if m.kind != nil {
		m.understand(d)
		return
	}
	d.Handle(Set, func(_ context.Context, r *device.Request) (any, error) {
		m.effect(r.TID)
		return map[string]bool{"set": true}, nil
	})
	d.Handle(Move, func(ctx context.Context, r *device.Request) (any, error) {
		m.effect(r.TID)
		steps, step := 4, m.between(5*time.Millisecond, 40*time.Millisecond)
		if m.slow {
			step *= 8
		}
		for i := range steps {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(step):
			}
			r.Progress(float64(i+1)/float64(steps)*100, fmt.Sprintf("step %d of %d", i+1, steps))
		}
		return map[string]int{"steps": steps}, nil
	})
	d.Handle(Flaky, func(_ context.Context, r *device.Request) (any, error) {
		m.effect(r.TID)
		if m.chance(0.5) {
			return nil, device.Fail("motor_stuck", "the motor did not move")
		}
		return nil, nil
	})
}

func (m *member) effect(tid string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log.Effects = append(m.log.Effects, tid)
}

func (m *member) refused(tid string, why wire.Reason) {
	if why.Code == wire.ReasonCancelled {
		m.ended(tid, wire.Cancelled) // before it began
		return
	}
	m.ended(tid, wire.Rejected)
}

func (m *member) ended(tid, status string) {
	m.f.executed.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log.Ends[tid] = status
}

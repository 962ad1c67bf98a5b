package scenario

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/sim"
	"github.com/wilco-iot/wilco/wire"
)

// World is what a scenario is run against. API and Broker are required.
type World struct {
	API *client.Client // with a token that may register devices
	// Broker connects a device.
	Broker func(context.Context) (net.Conn, error)
	// Restart ends the server, in good order or as by kill -9, and starts it again
	// after a while. Nil: it cannot be.
	Restart func(ctx context.Context, kill bool, down time.Duration) error
}

// Options of a run. All have defaults.
type Options struct {
	Seed     uint64       // 0: the scenario's
	Logger   *slog.Logger // default: silent
	Progress func(string) // a line every few seconds, from one goroutine
}

// How often a run looks, and says, how far it is.
const (
	lookEvery = 200 * time.Millisecond
	sayEvery  = 5 * time.Second
)

// giveUp is how long a server may not answer before a run is given up.
const giveUp = 2 * time.Minute

// run is one run.
type run struct {
	s     *Scenario
	w     World
	o     Options
	plan  *plan
	fleet *sim.Fleet
	began time.Time

	sent     atomic.Int64
	restarts atomic.Int64

	mu sync.Mutex // guards the tids of orders
}

// Run runs s against w and reports. It registers the devices, sends commands for
// as long as the scenario says, ends all faults, and waits until every command
// has come to its end. It blocks until then, or until ctx ends. The report may be
// bad: see Report.Good. Errors are about the world, not about what came out.
func Run(ctx context.Context, s *Scenario, w World, o Options) (*Report, error) {
	if o.Seed == 0 {
		o.Seed = s.Seed
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if s.Restarts() && w.Restart == nil {
		return nil, fault.Field("server", "restarts and kills need a server of the run's own")
	}
	p, err := s.plan(o.Seed)
	if err != nil {
		return nil, err
	}
	r := &run{s: s, w: w, o: o, plan: p}
	members, err := r.register(ctx)
	if err != nil {
		return nil, fmt.Errorf("register the devices: %w", err)
	}
	r.fleet = sim.New(sim.Options{Members: members, Seed: o.Seed, Weather: s.weather, Heartbeat: s.heartbeat(), Logger: o.Logger,
		Dial: func(ctx context.Context, _ wire.Address) (net.Conn, error) { return w.Broker(ctx) }})
	return r.do(ctx)
}

// heartbeat is how often devices say RUNNING: well within what is expected.
func (s *Scenario) heartbeat() time.Duration {
	least := s.Load[0].Policy.Heartbeat.D()
	for _, l := range s.Load {
		least = min(least, l.Policy.Heartbeat.D())
	}
	return max(least/3, 10*time.Millisecond)
}

// register makes the devices known to the server; those of an earlier scenario
// are taken over with a new secret.
func (r *run) register(ctx context.Context) ([]sim.Member, error) {
	var members []sim.Member
	for i := range r.s.Devices {
		d := &r.s.Devices[i]
		kind, err := r.s.kind(d)
		if err != nil {
			return nil, err
		}
		for n := range d.Count {
			a := d.address(n)
			got, err := sim.Register(ctx, r.w.API, client.NewDevice{Device: a.String(), Profile: d.Profile, Window: d.Window})
			if err != nil {
				return nil, err
			}
			members = append(members, sim.Member{Address: a, Secret: got.Secret, Kind: kind})
		}
	}
	return members, nil
}

// do runs devices and plan side by side, waits for the ends and reports.
func (r *run) do(ctx context.Context) (*Report, error) {
	life, end := context.WithCancel(ctx)
	defer end()
	r.began = time.Now()
	var devices, acts sync.WaitGroup
	devices.Go(func() { r.fleet.Run(life) })
	defer func() { end(); devices.Wait() }()

	failed := make(chan error, 3)
	for _, act := range []func(context.Context) error{r.send, r.takeBack, r.outages} {
		acts.Go(func() {
			if err := act(life); err != nil {
				failed <- err
			}
		})
	}
	over := make(chan struct{})
	go func() { acts.Wait(); close(over) }()
	stop := func(err error) (*Report, error) { end(); <-over; return nil, err }
	if err := r.watch(ctx, over, failed, "", func() bool { return time.Since(r.began) >= r.s.Duration.D() }); err != nil {
		return stop(err)
	}
	if err := r.watch(ctx, over, failed, "the last commands are asked for", func() bool { return false }); err != nil {
		return stop(err)
	}
	r.fleet.Calm()
	said, err := r.settle(ctx)
	if err != nil {
		return nil, err
	}
	end()
	devices.Wait()
	return r.report(said), nil
}

// watch says how far the run is, until done says yes or over is closed.
func (r *run) watch(ctx context.Context, over <-chan struct{}, failed <-chan error, doing string, done func() bool) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for said := time.Now(); !done(); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case <-over:
			select {
			case err := <-failed: // was there first
				return err
			default:
			}
			if doing != "" {
				return nil
			}
			over = nil // the plan is done before its time is over
		case <-tick.C:
		}
		if time.Since(said) >= sayEvery {
			said = time.Now()
			r.say(doing)
		}
	}
	return nil
}

func (r *run) say(doing string) {
	if doing != "" {
		doing = "  " + doing
	}
	c := r.fleet.Faults()
	r.o.Progress(fmt.Sprintf("%5.1fs of %.0fs  %d of %d devices with power, %d commands asked for, %d brought to an end, %d reboots, %d messages lost%s",
		time.Since(r.began).Seconds(), r.s.Duration.D().Seconds(), r.fleet.Online(), r.s.Count(), r.sent.Load(), r.fleet.Executed(),
		r.fleet.Reboots(), c.LostDown.Load()+c.LostUp.Load(), doing))
}

// until waits for a time of the plan.
func (r *run) until(ctx context.Context, at time.Duration) error {
	return pause(ctx, time.Until(r.began.Add(at)))
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// most is how many orders go in one request.
const most = 500

// send asks for every command of the plan when its time has come. While the
// server does not answer they wait, and are asked for with the same keys.
func (r *run) send(ctx context.Context) error {
	for left := r.plan.orders; len(left) > 0; {
		if err := r.until(ctx, left[0].at); err != nil {
			return err
		}
		n, now := 1, time.Since(r.began)
		for n < min(len(left), most) && left[n].at <= now {
			n++
		}
		if err := r.make(ctx, left[:n]); err != nil {
			return fmt.Errorf("ask for commands: %w", err)
		}
		r.sent.Add(int64(n))
		left = left[n:]
	}
	return nil
}

func (r *run) make(ctx context.Context, orders []*order) error {
	bulk := make([]client.BulkOrder, len(orders))
	for i, o := range orders {
		bulk[i] = client.BulkOrder{Device: o.device.String(), Name: o.name, Params: o.params, Policy: o.policy, Key: r.key(o), Priority: o.priority}
	}
	return persist(ctx, func() error {
		made, err := r.w.API.SendBulk(ctx, bulk)
		if err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for i := range made {
			if made[i].Error != nil {
				return made[i].Error
			}
			orders[i].tid = made[i].TID
		}
		return nil
	})
}

// tidOf waits until an order is a command.
func (r *run) tidOf(ctx context.Context, o *order) (string, error) {
	for {
		r.mu.Lock()
		tid := o.tid
		r.mu.Unlock()
		if tid != "" {
			return tid, nil
		}
		if err := pause(ctx, lookEvery); err != nil {
			return "", err
		}
	}
}

// key is the order's own in this run: another run over the same server must not
// be given its command.
func (r *run) key(o *order) string { return fmt.Sprintf("%s-%d", o.key, r.began.UnixNano()) }

// persist tries again while the server is away, for so long.
func persist(ctx context.Context, try func() error) error {
	for began := time.Now(); ; {
		err := try()
		var e *client.Error
		if err == nil || ctx.Err() != nil || errors.As(err, &e) && e.Status != 503 && e.Status != 429 || time.Since(began) > giveUp {
			return err
		}
		if err := pause(ctx, lookEvery); err != nil {
			return err
		}
	}
}

// takeBack cancels what somebody changes their mind about.
func (r *run) takeBack(ctx context.Context) error {
	var list []*order
	for _, o := range r.plan.orders {
		if o.cancel > 0 {
			list = append(list, o)
		}
	}
	slices.SortStableFunc(list, func(a, b *order) int { return int(a.cancel - b.cancel) })
	for _, o := range list {
		if err := r.until(ctx, o.cancel); err != nil {
			return err
		}
		tid, err := r.tidOf(ctx, o)
		if err != nil {
			return err
		}
		err = persist(ctx, func() error { _, err := r.w.API.Cancel(ctx, tid, "somebody changed their mind"); return err })
		var e *client.Error
		if errors.As(err, &e) && e.Code == string(fault.Conflict) {
			continue // it has ended already
		}
		if err != nil {
			return fmt.Errorf("cancel: %w", err)
		}
	}
	return nil
}

// outages stops the server, and starts it again, when the plan says so.
func (r *run) outages(ctx context.Context) error {
	for _, o := range r.plan.outages {
		if err := r.until(ctx, o.at); err != nil {
			return err
		}
		if err := r.w.Restart(ctx, o.kill, r.s.Server.Down.D()); err != nil {
			return fmt.Errorf("restart the server: %w", err)
		}
		r.restarts.Add(1)
	}
	return nil
}

// settle waits until every command has ended, at most as long as the scenario
// says, and gives what the server says of each; nil: it does not know it.
func (r *run) settle(ctx context.Context) ([]*client.Command, error) {
	out := make([]*client.Command, len(r.plan.orders))
	deadline, said := time.Now().Add(r.s.Settle.D()), time.Now()
	for i, o := range r.plan.orders {
		for {
			err := persist(ctx, func() (err error) { out[i], err = r.w.API.Get(ctx, o.tid); return err })
			if err != nil && !errors.Is(err, &client.Error{Code: string(fault.NotFound)}) {
				return nil, fmt.Errorf("look at %s: %w", o.tid, err)
			}
			if out[i] == nil || out[i].Ended || !time.Now().Before(deadline) {
				break
			}
			if time.Since(said) >= sayEvery {
				said = time.Now()
				r.say("no more faults; the last commands come to their ends")
			}
			if err := pause(ctx, lookEvery); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

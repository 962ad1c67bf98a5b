package scenario

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/sim"
	"github.com/wilco-iot/wilco/wire"
)

// order is one command that will be asked for.
type order struct {
	at       time.Duration
	device   wire.Address
	name     string
	params   json.RawMessage
	policy   *client.Policy
	priority *int
	cancel   time.Duration // when it is taken back; 0: it is not
	key      string
	tid      string // once it is made
}

// outage is one time that the server is down.
type outage struct {
	at   time.Duration
	kill bool
}

// plan is everything that is done to the server and the devices, in the order of
// time. A seed has one plan.
type plan struct {
	orders  []*order
	outages []outage
}

func (s *Scenario) plan(seed uint64) (*plan, error) {
	p := &plan{}
	for i := range s.Load {
		if err := p.load(s, i, seed); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(p.orders, func(a, b *order) int { return cmp.Compare(a.at, b.at) })
	for _, at := range s.Server.Restarts {
		p.outages = append(p.outages, outage{at.D(), false})
	}
	for _, at := range s.Server.Kills {
		p.outages = append(p.outages, outage{at.D(), true})
	}
	slices.SortFunc(p.outages, func(a, b outage) int { return cmp.Compare(a.at, b.at) })
	return p, nil
}

// load adds the orders of one load, which come as strangers do: each when it
// likes, so many a second on average.
func (p *plan) load(s *Scenario, i int, seed uint64) error {
	l := &s.Load[i]
	rnd := rand.New(rand.NewPCG(seed, 1<<40+uint64(i)))
	var devices []wire.Address
	for _, d := range s.Devices {
		if len(l.Groups) == 0 || slices.Contains(l.Groups, d.Group) {
			for n := range d.Count {
				devices = append(devices, d.address(n))
			}
		}
	}
	policy := client.Policy{DeliverBy: client.Duration(l.Policy.DeliverBy), AckBy: client.Duration(l.Policy.AckBy),
		Heartbeat: client.Duration(l.Policy.Heartbeat), FinishBy: client.Duration(l.Policy.FinishBy), Settle: client.Duration(l.Policy.Settle),
		Backoff: string(l.Policy.Backoff), MaxAttempts: l.Policy.MaxAttempts, Jitter: l.Policy.Jitter, Supersede: l.Policy.Supersede,
		MaxBackoff: client.Duration(l.Policy.MaxBackoff)}
	gap := float64(time.Second) / l.Rate
	for at := l.From.D(); ; {
		if at += time.Duration(rnd.ExpFloat64() * gap); at >= l.To.D() {
			return nil
		}
		n := len(p.orders) + 1
		o := &order{at: at, device: devices[rnd.IntN(len(devices))], name: l.Names[rnd.IntN(len(l.Names))], policy: &policy,
			key: fmt.Sprintf("scenario-%d-%d", i, n)}
		if l.Priority != 0 {
			o.priority = &l.Priority
		}
		if rnd.Float64() < l.Cancel {
			o.cancel = at + max(between(rnd, l.CancelAfter), 1)
		}
		var err error
		if o.params, err = l.params(n, o.device.String(), rnd.Float64); err != nil {
			return err
		}
		p.orders = append(p.orders, o)
	}
}

func between(rnd *rand.Rand, s sim.Span) time.Duration {
	return s.Min + time.Duration(rnd.Int64N(int64(s.Max-s.Min)+1))
}

// address is that of the n-th device, from 0.
func (d *Devices) address(n int) wire.Address {
	return wire.Address{Group: d.Group, Device: fmt.Sprintf("sim-%04d", n+1)}
}

// kind is how the devices behave, for package sim. They understand all names.
func (s *Scenario) kind(d *Devices) (*sim.Kind, error) {
	k := &sim.Kind{Work: d.Work, Fail: d.Fail, Reject: d.Reject, Silent: d.NeverAnswer, Unordered: s.unordered(d),
		Reboots: sim.Reboots{Every: d.Reboots.Every.D(), Midway: d.Reboots.MidCommand, Off: d.Reboots.Off},
		Clock:   sim.Clock{Offset: d.Clock.Offset.D(), Drift: d.Clock.Drift}}
	for _, at := range d.Reboots.At {
		k.Reboots.At = append(k.Reboots.At, at.D())
	}
	for _, l := range s.Load {
		k.Commands = append(k.Commands, l.Names...)
	}
	slices.Sort(k.Commands)
	k.Commands = slices.Compact(k.Commands)
	if d.Profile != "" && d.Profile != "wilco" {
		var err error
		if k.Profile, err = wire.Lookup(d.Profile, ""); err != nil {
			return nil, err
		}
	}
	return k, nil
}

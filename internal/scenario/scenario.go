// Package scenario runs fleets of simulated devices through what somebody has
// written down: their kinds, the faults of their networks over time, what is
// asked of them, when the server goes down, and what must be true in the end.
//
//	file ─ Parse ─► Scenario ─ plan(seed) ─► orders, cancels, outages, by time
//	                                │
//	          World: API, broker ◄──┴── Run ─► Report: the auditor's verdict,
//	          and a way to restart              and what was expected
//
// Everything that is random comes out of the seed: who is asked for what and
// when, and each fault. What a seed cannot fix is how goroutines, sockets and the
// clients' back-off race, so in real time two runs of a seed are alike, and not
// the same; see the tests of this package for what holds in virtual time.
//
// A Scenario is read-only once parsed, and may be run many times at once.
package scenario

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/sim"
)

// Scenario is a file. Times are from its start.
type Scenario struct {
	Name     string   `json:"name"`
	Seed     uint64   `json:"seed"`     // of a run that is given none
	Duration Duration `json:"duration"` // how long commands are sent
	// Settle is how long after Duration, when all faults have ended, every command
	// must have come to its end; default: what the longest policy needs.
	Settle  Duration  `json:"settle"`
	Devices []Devices `json:"devices"`
	Network Network   `json:"network"` // when no phase says otherwise
	Phases  []Phase   `json:"phases"`  // in the order of time; they do not overlap
	Load    []Load    `json:"load"`
	Server  Server    `json:"server"`
	Expect  []Expect  `json:"expect"`
}

// Devices are some of one kind.
type Devices struct {
	Group       string   `json:"group"`
	Count       int      `json:"count"`
	Profile     string   `json:"profile"` // wilco or atlas; default wilco
	Window      int      `json:"window"`  // commands in flight; default 1
	Work        sim.Span `json:"work"`    // how long a command takes
	Fail        float64  `json:"fail"`    // shares of commands, 0 to 1
	Reject      float64  `json:"reject"`
	NeverAnswer float64  `json:"neverAnswer"`
	Reboots     Reboots  `json:"reboots"`
	Clock       Clock    `json:"clock"`
}

// Reboots are as in package sim.
type Reboots struct {
	Every      Duration   `json:"every"`
	At         []Duration `json:"at"`
	MidCommand float64    `json:"midCommand"`
	Off        sim.Span   `json:"off"`
}

// Clock is as in package sim.
type Clock struct {
	Offset Duration `json:"offset"`
	Drift  float64  `json:"drift"`
}

// Network is the faults between devices and broker.
type Network struct {
	Down sim.Direction `json:"down"`
	Up   sim.Direction `json:"up"`
	Cut  float64       `json:"cut"`
}

func (n Network) faults() sim.Faults { return sim.Faults{Down: n.Down, Up: n.Up, Cut: n.Cut} }

// Phase is a time with a network of its own.
type Phase struct {
	Name    string   `json:"name"`
	From    Duration `json:"from"`
	To      Duration `json:"to"`
	Network Network  `json:"network"`
}

// Load is what is asked of the devices.
type Load struct {
	Names       []string       `json:"names"`  // each as likely as the others
	Groups      []string       `json:"groups"` // default: all
	Rate        float64        `json:"rate"`   // commands a second, over all devices
	From        Duration       `json:"from"`
	To          Duration       `json:"to"`     // default: the scenario's duration
	Params      any            `json:"params"` // a template, see fill
	Priority    int            `json:"priority"`
	Cancel      float64        `json:"cancel"`      // share that somebody takes back
	CancelAfter sim.Span       `json:"cancelAfter"` // default 0s..1s
	Policy      command.Policy `json:"policy"`      // zero fields: defaultPolicy
}

// Server is when the server goes down, and for how long each time.
type Server struct {
	Restarts []Duration `json:"restarts"` // stopped in good order
	Kills    []Duration `json:"kills"`    // as by kill -9
	Down     Duration   `json:"down"`     // default 1 s
}

// Duration is one that files write as "1m30s".
type Duration = command.Duration

// defaultPolicy is the clocks of commands that name none: short, so that a
// scenario need not be long.
var defaultPolicy = command.Policy{
	DeliverBy: Duration(time.Minute), AckBy: Duration(2 * time.Second), Heartbeat: Duration(10 * time.Second),
	FinishBy: Duration(30 * time.Second), Settle: Duration(30 * time.Second),
	Backoff: command.Exponential, MaxAttempts: 5, Jitter: 0.2, MaxBackoff: Duration(30 * time.Second),
}

// complete puts the defaults in place.
func (s *Scenario) complete() {
	longest := time.Duration(0)
	for i := range s.Load {
		l := &s.Load[i]
		if l.To == 0 {
			l.To = s.Duration
		}
		if l.CancelAfter == (sim.Span{}) {
			l.CancelAfter.Max = time.Second
		}
		p := &l.Policy
		for _, c := range []struct{ mine, def *Duration }{
			{&p.DeliverBy, &defaultPolicy.DeliverBy}, {&p.AckBy, &defaultPolicy.AckBy}, {&p.Heartbeat, &defaultPolicy.Heartbeat},
			{&p.FinishBy, &defaultPolicy.FinishBy}, {&p.Settle, &defaultPolicy.Settle}, {&p.MaxBackoff, &defaultPolicy.MaxBackoff}} {
			*c.mine = cmp.Or(*c.mine, *c.def)
		}
		p.MaxAttempts = cmp.Or(p.MaxAttempts, defaultPolicy.MaxAttempts)
		if p.Backoff == "" {
			p.Backoff, p.Jitter = defaultPolicy.Backoff, cmp.Or(p.Jitter, defaultPolicy.Jitter)
		}
		asking := time.Duration(p.MaxAttempts) * min(max(p.AckBy, p.MaxBackoff).D(), maxTime) // for the answer to a cancel, behind finish-by
		longest = max(longest, p.DeliverBy.D()+p.FinishBy.D()+asking+p.Settle.D())
	}
	s.Settle = cmp.Or(s.Settle, Duration(longest+30*time.Second))
	s.Server.Down = cmp.Or(s.Server.Down, Duration(time.Second))
	for i := range s.Devices {
		s.Devices[i].Window = max(s.Devices[i].Window, 1)
		slices.Sort(s.Devices[i].Reboots.At)
	}
}

// Count is how many devices there are.
func (s *Scenario) Count() (n int) {
	for i := range s.Devices {
		n += s.Devices[i].Count
	}
	return n
}

// Restarts says whether the server has to be one that can be stopped.
func (s *Scenario) Restarts() bool { return len(s.Server.Restarts)+len(s.Server.Kills) > 0 }

// unordered says whether the devices may begin a command behind a younger one:
// their window is wide, their profile has no sequence numbers, or there are
// priorities among what they are asked for.
func (s *Scenario) unordered(d *Devices) bool {
	return d.Window > 1 || d.Profile == "atlas" || slices.ContainsFunc(s.Load, func(l Load) bool {
		return l.Priority != 0 && (len(l.Groups) == 0 || slices.Contains(l.Groups, d.Group))
	})
}

// weather is the faults at a time.
func (s *Scenario) weather(at time.Duration) sim.Faults {
	for _, p := range s.Phases {
		if p.From.D() <= at && at < p.To.D() {
			return p.Network.faults()
		}
	}
	return s.Network.faults()
}

// fill makes the params of the n-th command out of a template: in it "$n" is the
// command's number, "$device" the device's address and "$random" a number from 0
// to 1; everything else is as it stands.
func fill(template any, n int, device string, random func() float64) any {
	switch t := template.(type) {
	case string:
		switch t {
		case "$n":
			return n
		case "$device":
			return device
		case "$random":
			return random()
		}
	case []any:
		out := make([]any, len(t))
		for i := range t {
			out[i] = fill(t[i], n, device, random)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(t))
		for _, k := range sortedKeys(t) { // so that a seed gives the same numbers
			out[k] = fill(t[k], n, device, random)
		}
		return out
	}
	return template
}

func (l *Load) params(n int, device string, random func() float64) (json.RawMessage, error) {
	if l.Params == nil {
		return nil, nil
	}
	b, err := json.Marshal(fill(l.Params, n, device, random))
	return b, fault.Wrap(err, fault.Invalid, "params cannot be JSON: %v", err)
}

package service

import (
	"cmp"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
)

// tally counts commands. It is pure.
type tally struct {
	commands int
	oldest   time.Time
	types    map[string]*typeTally
	devices  map[string]*deviceTally
}

type typeTally struct {
	commands, open int
	ends           map[EndStats]int // with Count 0
	took           [4][]time.Duration
}

// What typeTally.took has.
const (
	createdToSent = iota
	sentToAcked
	sentToEnded
	createdToEnded
)

type deviceTally struct {
	commands, failed, timed int
	took                    time.Duration
}

func newTally() *tally {
	return &tally{types: make(map[string]*typeTally), devices: make(map[string]*deviceTally)}
}

func (t *tally) add(c *command.Command) {
	t.commands++
	if t.oldest.IsZero() || c.Created.Before(t.oldest) {
		t.oldest = c.Created
	}
	d := t.devices[c.Device.String()]
	if d == nil {
		d = &deviceTally{}
		t.devices[c.Device.String()] = d
	}
	d.add(c)
	t.of(c.Name).add(c)
}

// of is the tally of a name; of "" when there are too many names.
func (t *tally) of(name string) *typeTally {
	if t.types[name] == nil {
		if len(t.types) >= maxStatsNames {
			name = ""
		}
		if t.types[name] == nil {
			t.types[name] = &typeTally{ends: make(map[EndStats]int)}
		}
	}
	return t.types[name]
}

func (t *typeTally) add(c *command.Command) {
	t.commands++
	note := func(what int, from, to time.Time) {
		if !from.IsZero() && !to.IsZero() {
			t.took[what] = append(t.took[what], to.Sub(from))
		}
	}
	note(createdToSent, c.Created, c.FirstSent)
	note(sentToAcked, c.FirstSent, c.Acked)
	if !c.Final() {
		t.open++
		return
	}
	t.ends[EndStats{State: c.State, Reason: c.Reason}]++
	note(sentToEnded, c.FirstSent, c.Ended)
	note(createdToEnded, c.Created, c.Ended)
}

func (d *deviceTally) add(c *command.Command) {
	d.commands++
	if !c.Final() {
		return
	}
	switch c.State {
	case command.Failed, command.Rejected, command.Expired, command.TimedOut:
		d.failed++
	}
	if !c.FirstSent.IsZero() {
		d.timed++
		d.took += c.Ended.Sub(c.FirstSent)
	}
}

// stats are those of all that was added; From, Until and Cut are left out.
func (t *tally) stats() Stats {
	out := Stats{Commands: t.commands}
	for name, of := range t.types {
		out.Types = append(out.Types, of.stats(name))
	}
	slices.SortFunc(out.Types, func(a, b TypeStats) int { return cmp.Compare(a.Name, b.Name) })
	var all []DeviceStats
	for device, d := range t.devices {
		s := DeviceStats{Device: device, Commands: d.commands, Failed: d.failed}
		if d.timed > 0 {
			s.Mean = (d.took / time.Duration(d.timed)).Truncate(time.Millisecond)
		}
		all = append(all, s)
	}
	out.MostFailed = worst(all, func(d *DeviceStats) int64 { return int64(d.Failed) })
	out.Slowest = worst(all, func(d *DeviceStats) int64 { return int64(d.Mean) })
	return out
}

// worst gives those of which most is counted, nobody of whom nothing is.
func worst(all []DeviceStats, of func(*DeviceStats) int64) []DeviceStats {
	slices.SortFunc(all, func(a, b DeviceStats) int {
		return cmp.Or(cmp.Compare(of(&b), of(&a)), cmp.Compare(a.Device, b.Device))
	})
	n := min(len(all), maxWorst)
	for n > 0 && of(&all[n-1]) == 0 {
		n--
	}
	return slices.Clone(all[:n])
}

func (t *typeTally) stats(name string) TypeStats {
	s := TypeStats{Name: name, Commands: t.commands, Open: t.open,
		CreatedToSent: spread(t.took[createdToSent]), SentToAcked: spread(t.took[sentToAcked]),
		SentToEnded: spread(t.took[sentToEnded]), CreatedToEnded: spread(t.took[createdToEnded])}
	for e, n := range t.ends {
		e.Count = n
		s.Ends = append(s.Ends, e)
	}
	slices.SortFunc(s.Ends, func(a, b EndStats) int {
		return cmp.Or(b.Count-a.Count, cmp.Compare(a.State, b.State), cmp.Compare(a.Reason, b.Reason))
	})
	return s
}

// spread sorts took, and takes from it.
func spread(took []time.Duration) Spread {
	n := len(took)
	if n == 0 {
		return Spread{}
	}
	slices.Sort(took)
	rank := func(percent int) time.Duration { return took[(n*percent+99)/100-1] }
	return Spread{Count: n, P50: rank(50), P90: rank(90), P99: rank(99), Max: took[n-1]}
}

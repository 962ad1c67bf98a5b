package scenario

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/sim"
	"github.com/wilco-iot/wilco/wire"
)

// Bounds of a scenario.
const (
	maxDevices  = 10_000
	maxCommands = 1_000_000
	maxRate     = 10_000
	maxTime     = 30 * 24 * time.Hour
)

var commandName = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)

// checker keeps the first thing that is wrong.
type checker struct{ path, why string }

func (c *checker) that(ok bool, path, format string, args ...any) {
	if !ok && c.why == "" {
		c.path, c.why = path, fmt.Sprintf(format, args...)
	}
}

func (c *checker) share(v float64, path string) {
	c.that(v >= 0 && v <= 1, path, "is a share and must be between 0 and 1")
}

func (c *checker) time(d Duration, least time.Duration, path string) {
	c.that(d.D() >= least && d.D() <= maxTime, path, "must be between %s and %s", least, maxTime)
}

func (c *checker) span(s sim.Span, path string) {
	c.that(s.Max <= maxTime, path, "must not be above %s", maxTime)
}

// check says what is wrong with which field; why is "" when nothing is.
func (s *Scenario) check() (path, why string) {
	c := &checker{}
	c.that(s.Name != "" && len(s.Name) <= 128, "name", "is missing, or longer than 128 bytes: say in a few words what the scenario shows")
	c.that(s.Duration > 0, "duration", "is missing: say how long commands are sent, like 30s")
	c.time(s.Duration, time.Millisecond, "duration")
	c.time(s.Settle, 0, "settle")
	s.checkDevices(c)
	c.network(s.Network, "network")
	for i, p := range s.Phases {
		at := fmt.Sprintf("phases.%d", i)
		c.that(p.From >= 0 && p.To > p.From && p.To <= s.Duration, at, "must be from before to, both within the duration")
		c.that(i == 0 || p.From >= s.Phases[i-1].To, at, "begins before the phase above it has ended")
		c.network(p.Network, at+".network")
	}
	s.checkLoad(c)
	for name, list := range map[string][]Duration{"restarts": s.Server.Restarts, "kills": s.Server.Kills} {
		for i, at := range list {
			c.that(at > 0 && at < s.Duration, fmt.Sprintf("server.%s.%d", name, i), "must be within the duration")
		}
	}
	c.time(s.Server.Down, 0, "server.down")
	return c.path, c.why
}

func (s *Scenario) checkDevices(c *checker) {
	c.that(len(s.Devices) > 0, "devices", "is missing: say at least group and count of some devices")
	for i, d := range s.Devices {
		at := fmt.Sprintf("devices.%d", i)
		err := wire.Address{Group: d.Group, Device: "x"}.Valid()
		c.that(err == nil, at+".group", "must be 1 to 64 of A-Z, a-z, 0-9, dot, underscore, colon and hyphen")
		c.that(!slices.ContainsFunc(s.Devices[:i], func(o Devices) bool { return o.Group == d.Group }), at+".group", "is the group of other devices already: give each kind its own")
		c.that(d.Count > 0, at+".count", "is missing: say how many devices of this kind there are")
		c.that(d.Profile == "" || d.Profile == "wilco" || d.Profile == "atlas", at+".profile", "is none of wilco, atlas")
		c.that(d.Profile != "atlas" || d.Group == "default", at+".group", "must be default: the topics of the atlas profile have no level for a group")
		c.that(d.Window >= 0 && d.Window <= 1000, at+".window", "must be between 1 and 1000")
		c.span(d.Work, at+".work")
		c.span(d.Reboots.Off, at+".reboots.off")
		c.share(d.Fail, at+".fail")
		c.share(d.Reject, at+".reject")
		c.share(d.NeverAnswer, at+".neverAnswer")
		c.that(d.Fail+d.Reject <= 1, at+".reject", "and fail are more than 1 together")
		c.time(d.Reboots.Every, 0, at+".reboots.every")
		c.share(d.Reboots.MidCommand, at+".reboots.midCommand")
		c.that(d.Clock.Offset >= 0 && d.Clock.Offset.D() <= maxTime, at+".clock.offset", "must not be negative: it is how wrong clocks are, either way")
		c.that(d.Clock.Drift >= 0 && d.Clock.Drift < 1, at+".clock.drift", "must be at least 0 and less than 1: it is seconds a second, either way")
		for j, t := range d.Reboots.At {
			c.that(t > 0 && t < s.Duration, fmt.Sprintf("%s.reboots.at.%d", at, j), "must be within the duration")
		}
	}
	c.that(s.Count() <= maxDevices, "devices", "are more than %d", maxDevices)
}

func (c *checker) network(n Network, at string) {
	for name, d := range map[string]sim.Direction{"down": n.Down, "up": n.Up} {
		c.share(d.Lose, at+"."+name+".lose")
		c.share(d.Duplicate, at+"."+name+".duplicate")
		c.share(d.Reorder, at+"."+name+".reorder")
		c.span(d.Delay, at+"."+name+".delay")
	}
	c.share(n.Cut, at+".cut")
}

func (s *Scenario) checkLoad(c *checker) {
	c.that(len(s.Load) > 0, "load", "is missing: say at least names and rate of some commands")
	total := 0.0
	for i, l := range s.Load {
		at := fmt.Sprintf("load.%d", i)
		c.that(len(l.Names) > 0, at+".names", "is missing: say what devices are asked to do, like [set, move]")
		for j, name := range l.Names {
			c.that(commandName.MatchString(name), fmt.Sprintf("%s.names.%d", at, j), "must be 1 to 128 of A-Z, a-z, 0-9, dot, underscore, colon and hyphen")
		}
		for j, g := range l.Groups {
			c.that(slices.ContainsFunc(s.Devices, func(d Devices) bool { return d.Group == g }), fmt.Sprintf("%s.groups.%d", at, j), "is the group of no devices above")
		}
		c.that(l.Rate > 0 && l.Rate <= maxRate, at+".rate", "must be above 0 and at most %d: it is commands a second, over all devices", maxRate)
		to := l.To
		if to == 0 {
			to = s.Duration
		}
		c.that(l.From >= 0 && to > l.From && to <= s.Duration, at+".from", "must be before to, both within the duration")
		c.that(l.Priority >= -9 && l.Priority <= 9, at+".priority", "must be between -9 and 9")
		c.share(l.Cancel, at+".cancel")
		c.span(l.CancelAfter, at+".cancelAfter")
		if err, bad := l.Policy.WithDefaults().Check().(*command.PolicyError); bad {
			c.that(false, at+".policy."+err.Field, "%s", err.Text)
		}
		total += l.Rate * (to - l.From).D().Seconds()
	}
	c.that(total <= maxCommands, "load", "is about %.0f commands; a scenario has at most %d", math.Ceil(total), maxCommands)
}

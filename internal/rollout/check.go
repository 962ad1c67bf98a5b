package rollout

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
)

// Bounds of a spec.
const (
	maxParams  = 16 << 10 // bytes: they are written with each change of the roll-out
	maxWaves   = 32
	maxWindows = 32
	maxRate    = 1_000_000 // a minute
	maxTime    = 365 * 24 * time.Hour
)

// Check says what is wrong with what is asked for, by field as the API writes it,
// but for the command and the devices.
func Check(s *plan.Spec, now time.Time) error {
	switch {
	case s.Name != "" && !ValidID(s.Name):
		return fault.Field("name", "must be 1 to 64 of the characters A-Z a-z 0-9 . _ -")
	case len(s.Params) > maxParams:
		return fault.Field("params", "%d bytes; at most %d in a roll-out", len(s.Params), maxParams)
	case s.Concurrency < 0:
		return fault.Field("concurrency", "%d is not a number of commands; leave it out for any number", s.Concurrency)
	case !s.Deadline.IsZero() && !s.Deadline.After(now):
		return fault.Field("deadline", "is over already")
	case !s.Deadline.IsZero() && !s.Deadline.After(s.StartAt):
		return fault.Field("deadline", "is not after startAt")
	case s.StartAt.Sub(now) > maxTime || s.Deadline.Sub(now) > maxTime:
		return fault.Field("deadline", "startAt and deadline must be within a year")
	case s.Dynamic && s.Deadline.IsZero():
		return fault.Field("deadline", "is missing: a dynamic roll-out takes in new devices until then")
	case s.Dynamic && len(s.Targets.Devices) > 0:
		return fault.Field("dynamic", "is for a selection; no device is added to a list")
	}
	for _, check := range []func(*plan.Spec) error{checkTargets, checkWaves, checkRate, checkAbort, checkWindows} {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

func checkTargets(s *plan.Spec) error {
	t := &s.Targets
	selected := t.Group != "" || t.Tag != "" || t.Online != nil
	said := 0
	for _, there := range []bool{t.All, selected, len(t.Devices) > 0} {
		if there {
			said++
		}
	}
	switch {
	case said == 0:
		return fault.Field("targets", "are missing: give group, tag or online, a list of devices, or all")
	case said > 1:
		return fault.Field("targets", "give one of: a selection by group, tag and online; a list of devices; all")
	case t.Listed:
		return fault.Field("targets.listed", "is the server's to say; leave it out")
	case len(t.Devices) > MaxTargets:
		return fault.Field("targets.devices", "%d devices; at most %d", len(t.Devices), MaxTargets)
	}
	return nil
}

func checkWaves(s *plan.Spec) error {
	if len(s.Waves) > maxWaves {
		return fault.Field("waves", "are %d; at most %d", len(s.Waves), maxWaves)
	}
	for i, w := range s.Waves {
		field := "waves." + strconv.Itoa(i)
		switch {
		case (w.Share > 0) == (w.Count > 0), w.Share < 0 || w.Share > 1 || w.Count < 0, w.Count > MaxTargets:
			return fault.Field(field, "give share, above 0 and up to 1, or count, from 1 to %d", MaxTargets)
		case w.Success < 0 || w.Success > 1:
			return fault.Field(field+".success", "%g is not between 0 and 1", w.Success)
		case w.Soak < 0 || w.Soak.D() > maxTime:
			return fault.Field(field+".soak", "%s is not between 0 and a year", w.Soak)
		}
	}
	return nil
}

func checkRate(s *plan.Spec) error {
	r := s.Rate
	switch {
	case r == nil:
	case r.PerMinute < 1 || r.PerMinute > maxRate:
		return fault.Field("rate.perMinute", "%d is not between 1 and %d", r.PerMinute, maxRate)
	case r.Factor == 0 && r.Every == 0 && r.Max == 0:
	case r.Factor <= 1 || r.Factor > 100:
		return fault.Field("rate.factor", "%g is not above 1 and at most 100; leave factor, every and max out for a constant rate", r.Factor)
	case r.Every < 1:
		return fault.Field("rate.every", "%d is not a number of successes from 1", r.Every)
	case r.Max < r.PerMinute || r.Max > maxRate:
		return fault.Field("rate.max", "%d is not between perMinute and %d", r.Max, maxRate)
	}
	return nil
}

func checkAbort(s *plan.Spec) error {
	a := s.Abort
	switch {
	case a == nil:
	case a.Share < 0 || a.Share >= 1:
		return fault.Field("abort.share", "%g is not at least 0 and below 1", a.Share)
	case a.Minimum < 0:
		return fault.Field("abort.minimum", "%d is not a number of devices", a.Minimum)
	}
	return nil
}

func checkWindows(s *plan.Spec) error {
	if len(s.Windows) > maxWindows {
		return fault.Field("windows", "are %d; at most %d", len(s.Windows), maxWindows)
	}
	for i, w := range s.Windows {
		field := "windows." + strconv.Itoa(i)
		for _, d := range w.Days {
			if !slices.Contains(plan.Days, d) {
				return fault.Field(field+".days", "%q is none of %s", d, strings.Join(plan.Days, ", "))
			}
		}
		if _, err := plan.ParseClock(w.From); err != nil {
			return fault.Field(field+".from", "%v", err)
		}
		if _, err := plan.ParseClock(w.To); err != nil {
			return fault.Field(field+".to", "%v", err)
		}
		if _, err := time.LoadLocation(w.Zone); err != nil || w.Zone == "Local" {
			return fault.Field(field+".zone", "%q is no time zone like Europe/Vienna", w.Zone)
		}
	}
	return nil
}

package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Days are the names of the days in windows, as time.Weekday counts them.
var Days = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// ParseClock reads HH:MM as minutes since midnight.
func ParseClock(s string) (int, error) {
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != len("15:04") {
		return 0, fmt.Errorf("%q is not a time like 22:30", s)
	}
	return t.Hour()*60 + t.Minute(), nil
}

func (w *Window) clocks() (from, to int) {
	from, _ = ParseClock(w.From) // checked when the roll-out was made
	to, _ = ParseClock(w.To)
	return from, to
}

func (w *Window) begins(d time.Weekday) bool {
	return len(w.Days) == 0 || slices.Contains(w.Days, strings.ToLower(Days[d]))
}

// open says whether t is inside, by the clocks of the zone: on the day on which
// they are changed a window is as long as they say.
func (w *Window) open(t time.Time, zone *time.Location) bool {
	t = t.In(zone)
	from, to := w.clocks()
	at := t.Hour()*60 + t.Minute()
	today, yesterday := w.begins(t.Weekday()), w.begins((t.Weekday()+6)%7)
	if from < to {
		return today && at >= from && at < to
	}
	return today && at >= from || yesterday && at < to
}

// edges gives the beginnings and ends of the window on the day of t and the nine
// days after: of any window there is one among them.
func (w *Window) edges(t time.Time, zone *time.Location) (list []time.Time) {
	t = t.In(zone)
	from, to := w.clocks()
	for day := range 10 {
		for _, minute := range []int{from, to} {
			e := time.Date(t.Year(), t.Month(), t.Day()+day, 0, minute, 0, 0, zone)
			list = append(list, e)
			// Where the clocks are changed an hour is left out, or there twice.
			if _, change := e.Add(-12 * time.Hour).ZoneBounds(); !change.IsZero() && change.Sub(e) < 12*time.Hour {
				_, was := change.Add(-time.Second).Zone()
				_, is := change.Zone()
				by := time.Duration(is-was) * time.Second
				list = append(list, change, e.Add(by), e.Add(-by))
			}
		}
	}
	return list
}

// zone is that of a window.
func (r *Rollout) zone(w *Window) *time.Location {
	if z := r.Zones[w.Zone]; z != nil {
		return z
	}
	return time.UTC
}

// InWindow says whether targets may be started, and their commands made, at t.
func (r *Rollout) InWindow(t time.Time) bool {
	if len(r.Spec.Windows) == 0 {
		return true
	}
	for i := range r.Spec.Windows {
		if w := &r.Spec.Windows[i]; w.open(t, r.zone(w)) {
			return true
		}
	}
	return false
}

// WindowTurns is when InWindow next says something else than at t; zero: never.
func (r *Rollout) WindowTurns(t time.Time) (next time.Time) {
	was := r.InWindow(t)
	for i := range r.Spec.Windows {
		w := &r.Spec.Windows[i]
		for _, e := range w.edges(t, r.zone(w)) {
			if e.After(t) && r.InWindow(e) != was && (next.IsZero() || e.Before(next)) {
				next = e
			}
		}
	}
	return next
}

// DeliverBy is how long a command that is made at t may wait for its device: as its
// policy has it, and no longer than the window is open and the deadline away.
func (r *Rollout) DeliverBy(t time.Time) time.Duration {
	d := r.Policy.DeliverBy.D()
	if turns := r.WindowTurns(t); !turns.IsZero() && r.InWindow(t) {
		d = min(d, turns.Sub(t))
	}
	if !r.Spec.Deadline.IsZero() {
		d = min(d, r.Spec.Deadline.Sub(t))
	}
	return max(d, time.Second)
}

package rollout

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
)

// What cannot be done at a target is tried again, each time after twice the pause, and
// maxTries times at most: half a minute, in which it takes the place of one that is
// being started. What is the matter with the server as a whole does not count as a try.
const (
	firstPause   = time.Second
	longestPause = time.Minute
	maxTries     = 6
)

// failing is a target of which something could not be done. It is in memory alone:
// after a restart there are all tries anew.
type failing struct {
	times int       // it has failed
	tries int       // those of them that count
	at    time.Time // of the next one
	err   error
	told  bool // in the log
}

// cancelling is what fails when the commands of one that is aborted cannot be cancelled.
const cancelling = -1

// ofServer says whether an error is about no single target.
func ofServer(err error) bool {
	switch fault.CodeOf(err) {
	case fault.Unavailable, fault.StorageFull, fault.TooMany, fault.Timeout:
		return true
	}
	return false
}

// fail notes that something could not be done, and says whether it is given up. Under mu.
func (run *run) fail(n int, now time.Time, err error) (givenUp bool) {
	f := run.failing[n]
	if f == nil {
		f = &failing{}
		if run.failing == nil {
			run.failing = map[int]*failing{}
		}
		run.failing[n] = f
	}
	f.err, f.told, f.at = err, false, now.Add(min(firstPause<<f.times, longestPause))
	f.times = min(f.times+1, 30)
	if !ofServer(err) {
		f.tries++
	}
	return f.tries >= maxTries
}

// failed has a target tried again, or gives it up.
func (r *Runner) failed(ctx context.Context, run *run, t *target, err error) {
	if ctx.Err() != nil {
		return // the next Start takes it up
	}
	r.mu.Lock()
	givenUp := run.fail(t.n, r.now(), err)
	r.mu.Unlock()
	if !givenUp {
		return
	}
	r.log.Error("a target of a roll-out is given up", "key", t.key, "device", t.who.String(), "error", err)
	cell, why, text := plan.Failed, skipUnmade, "no command could be made for "
	switch c, look := r.known(ctx, t); {
	case look != nil: // nor told whether it was made
		cell, why, text = plan.TimedOut, skipUnsure, "it cannot be told whether there is a command for "
	case c != nil:
		r.took(run, t.n, c)
		return
	}
	r.end(run, t.n, cell, why)
	r.mu.Lock()
	defer r.mu.Unlock()
	run.given = append(run.given, plan.Action{Act: plan.Alarm, Target: t.n,
		Text: fmt.Sprintf("%s%s, tried %d times: %s", text, t.who, maxTries, fault.From(err).Public())})
}

// failedCancel has what was not cancelled asked for again; err is nil when all was.
func (r *Runner) failedCancel(ctx context.Context, run *run, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		delete(run.failing, cancelling)
	case ctx.Err() == nil && run.fail(cancelling, r.now(), err):
		delete(run.failing, cancelling)
		r.log.Error("commands of a roll-out could not be cancelled; it ends when they do", "id", run.ID, "error", err)
		run.given = append(run.given, plan.Action{Act: plan.Alarm, Target: -1,
			Text: fmt.Sprintf("the roll-out %s is aborted, and not all of its commands that wait could be cancelled: %s", run.ID, fault.From(err).Public())})
	}
}

// again are the actions for what is failing and whose time has come. Under mu.
func (run *run) again(now time.Time) (list []plan.Action) {
	act := plan.Start
	switch {
	case run.State == plan.Aborting:
		act = plan.Find
	case run.State != plan.Running || !run.InWindow(now):
		return nil
	}
	for _, n := range slices.Sorted(maps.Keys(run.failing)) {
		last := len(list) - 1
		switch {
		case run.failing[n].at.After(now):
		case n == cancelling:
			list = append(list, plan.Action{Act: plan.Cancel})
		case last >= 0 && list[last].Act == act && list[last].To == n:
			list[last].To++
		default:
			list = append(list, plan.Action{Act: act, From: n, To: n + 1})
		}
	}
	return list
}

// againAt is when again has the next action; zero: never. Under mu.
func (run *run) againAt(now time.Time) (next time.Time) {
	if run.State != plan.Running && run.State != plan.Aborting {
		return next
	}
	for _, f := range run.failing {
		next = sooner(next, f.at)
	}
	if !next.IsZero() && run.State == plan.Running && !run.InWindow(now) {
		return run.WindowTurns(now)
	}
	return next
}

// report tells the log what has failed since the last time, in one line.
func (r *Runner) report(run *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := 0, error(nil)
	for _, f := range run.failing {
		if !f.told {
			f.told = true
			n, err = n+1, f.err
		}
	}
	if n > 0 {
		r.log.Warn("something of a roll-out could not be done; it is tried again", "id", run.ID, "targets", n, "one of the errors", err)
	}
}

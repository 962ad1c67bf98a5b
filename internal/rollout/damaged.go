package rollout

import (
	"context"
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/store"
)

// mendEvery is how often a damaged roll-out is read again: it may have been the store.
const mendEvery = time.Minute

// damage is a roll-out whose record cannot be read. Nothing of it is started, and what
// was made goes its way.
type damage struct {
	err   error
	known plan.Rollout // what could be read of it
	told  bool         // by an alarm
	tried time.Time
}

// shown is a damaged roll-out as people see it.
func (d *damage) shown(id string) plan.Rollout {
	p := d.known
	p.ID, p.State, p.Hold, p.Wake, p.Detail = id, plan.Damaged, plan.NoHold, time.Time{}, d.err.Error()
	return p
}

// shown is a kept roll-out as people see it.
func (r *Runner) shown(d *store.Document) plan.Rollout {
	r.mu.Lock()
	known := r.damaged[d.Key]
	r.mu.Unlock()
	if known != nil {
		return known.shown(d.Key)
	}
	run, err := decode(d)
	if err != nil {
		return (&damage{err: err}).shown(d.Key)
	}
	return run.Rollout
}

// takeUp reads a roll-out that can still change. One that cannot be read is noted as
// damaged; the error is that of ctx.
func (r *Runner) takeUp(ctx context.Context, d *store.Document) error {
	known := plan.Rollout{}
	run, err := decode(d)
	if err == nil && run.Follow() {
		known = run.Rollout
		err = r.readTargets(ctx, run)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		was := r.damaged[d.Key]
		if was == nil {
			was = &damage{}
			r.damaged[d.Key] = was
			r.log.Error("the record of a roll-out cannot be read; nothing of it is started", "id", d.Key, "error", err)
		}
		was.err, was.known, was.tried = err, known, r.now()
		return nil
	}
	delete(r.damaged, d.Key)
	if run.Follow() {
		run.doubt = !run.State.Final()
		r.active[run.ID] = run
		r.log.Info("a roll-out is taken up", "id", run.ID, "state", run.State, "targets", run.Total)
	}
	return nil
}

// mend tells people of damaged roll-outs, and reads them again now and then. Under mu.
func (r *Runner) mend(ctx context.Context) error {
	var b store.Batch
	for id, d := range r.damaged {
		if !d.told {
			b.Events = append(b.Events, store.Event{Type: store.EventAlarm, At: r.now().UTC().Truncate(time.Millisecond), By: KeyPrefix + id, Rollout: id,
				Detail: fmt.Sprintf("the record of the roll-out %s is damaged, and nothing of it is started: %v", id, d.err)})
		}
		if r.now().Before(d.tried.Add(mendEvery)) {
			continue
		}
		doc, err := r.opt.Store.Document(ctx, rolloutDoc(id))
		if fault.CodeOf(err) == fault.NotFound {
			delete(r.damaged, id)
			continue
		}
		if err != nil {
			return err
		}
		if err := r.takeUp(ctx, &doc); err != nil {
			return err
		}
		r.lost = r.lost || r.active[id] != nil
	}
	if b.Empty() {
		return nil
	}
	if _, err := r.opt.Store.Commit(ctx, &b); err != nil {
		return err
	}
	for _, d := range r.damaged {
		d.told = true
	}
	return nil
}

package rollout

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/undo"
	"github.com/wilco-iot/wilco/wire"
)

// atOnce is how many single requests to the engine are under way: they share its commits.
const atOnce = 32

// act does what was committed. What cannot be done now stays to be done.
func (r *Runner) act(ctx context.Context) error {
	r.mu.Lock()
	runs := r.runs()
	r.mu.Unlock()
	var errs []error
	for _, run := range runs {
		todo, id := r.take(run)
		for i, a := range todo {
			if err := r.do(ctx, run, a); err != nil {
				errs = append(errs, fmt.Errorf("roll-out %s: %s: %w", id, a.Act, err))
				r.mu.Lock()
				run.todo = append(todo[i:len(todo):len(todo)], run.todo...)
				r.mu.Unlock()
				break
			}
		}
	}
	return errors.Join(errs...)
}

// take takes what is to be done for a roll-out.
func (r *Runner) take(run *run) (todo []plan.Action, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	todo, run.todo = run.todo, nil
	if len(run.late) > 0 && run.InWindow(r.now()) {
		todo, run.late = append(run.late, todo...), nil
	}
	return todo, run.ID
}

func (r *Runner) do(ctx context.Context, run *run, a plan.Action) error {
	switch a.Act {
	case plan.Start:
		return r.start(ctx, run, a)
	case plan.Find:
		return r.find(ctx, run, a)
	case plan.Cancel:
		return r.cancelUnsent(ctx, run)
	}
	return nil // an alarm was committed, which is all
}

// target is one to be started.
type target struct {
	n   int
	who wire.Address
	of  command.TID // to be taken back
	key string
}

// pending are the targets of an action whose commands are still to be made, and the
// roll-out as it is now.
func (r *Runner) pending(run *run, a plan.Action) (list []*target, now plan.Rollout) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := a.From; i < a.To; i++ {
		p, k := run.pieces[i/plan.ChunkSize], i%plan.ChunkSize
		if run.Cells.At(i) == plan.Starting && p.tids[k] == (command.TID{}) {
			t := &target{n: i, who: p.who[k], key: fmt.Sprintf("%s%s/%d", KeyPrefix, run.ID, i)}
			if p.of != nil {
				t.of = p.of[k]
			}
			list = append(list, t)
		}
	}
	return list, run.Rollout
}

// start makes the commands of targets. When it was paused or aborted meanwhile, its
// Resume asks once more, and its Abort looks for them. When the window is over, as it
// may be after a restart, they are made in the next one.
func (r *Runner) start(ctx context.Context, run *run, a plan.Action) error {
	list, p := r.pending(run, a)
	now := r.now()
	switch {
	case p.State != plan.Running || len(list) == 0:
		return nil
	case !p.InWindow(now):
		r.mu.Lock()
		defer r.mu.Unlock()
		run.late = append(run.late, a)
		return nil
	}
	able := list[:0:0]
	var gone []func() error
	for _, t := range list {
		d, ok := r.opt.Directory.Device(t.who)
		if ok && !d.Disabled {
			able = append(able, t)
			continue
		}
		why := skipGone
		if ok {
			why = skipDisabled
		}
		gone = append(gone, func() error { return r.refuse(ctx, run, t, why) })
	}
	if err := each(len(gone), func(i int) error { return gone[i]() }); err != nil {
		return err
	}
	order := Order{Name: p.Spec.Command, Params: p.Spec.Params, Policy: p.Policy, Terms: p.Terms,
		Digest: p.Digest, By: p.By, Rollout: p.ID, Desires: p.Desires}
	order.Policy.DeliverBy = command.Duration(p.DeliverBy(now))
	orders := make([]Order, len(able))
	for i, t := range able {
		orders[i] = order
		orders[i].Device, orders[i].Key = t.who, t.key
	}
	if p.Undoes != "" {
		return each(len(able), func(i int) error {
			c, err := r.opt.Undo(ctx, able[i].of, orders[i], "roll-out "+p.ID)
			return r.made(ctx, run, able[i], c, err)
		})
	}
	made, err := r.opt.Create(ctx, orders)
	if err != nil {
		return err
	}
	return each(len(made), func(i int) error { return r.made(ctx, run, able[i], made[i].Command, made[i].Err) })
}

// each calls f for 0 to n-1, several at a time.
func each(n int, f func(i int) error) error {
	errs := make([]error, n)
	places := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i := range n {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			errs[i] = f(i)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err // the others say the same, or something that is asked again as well
		}
	}
	return nil
}

// made notes what became of a target that was asked for. What cannot be for ever skips
// it; any other error is returned, and the target is to be asked for again.
func (r *Runner) made(ctx context.Context, run *run, t *target, c command.Command, err error) error {
	if err == nil {
		r.took(run, t.n, &c)
		return nil
	}
	why, never := refusal(err)
	if !never {
		return err
	}
	r.log.Warn("a target of a roll-out is refused", "key", t.key, "device", t.who.String(), "error", err)
	if fault.CodeOf(err) == fault.KeyReused {
		r.skip(run, t.n, why)
		return nil
	}
	return r.refuse(ctx, run, t, why)
}

// refusal says why an error means that there is never a command; false: it may be
// asked for again.
func refusal(err error) (why skipped, never bool) {
	if no := (*undo.Refusal)(nil); errors.As(err, &no) {
		if no.Force {
			return skipChanged, true
		}
		return skipNoUndo, true
	}
	switch fault.CodeOf(err) {
	case fault.NotFound:
		return skipGone, true
	case fault.Invalid, fault.Forbidden, fault.TooLarge, fault.Conflict, fault.KeyReused:
		return skipRefused, true
	}
	return notSkipped, false
}

// took notes the command of a target.
func (r *Runner) took(run *run, n int, c *command.Command) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run.pieces[n/plan.ChunkSize].tids[n%plan.ChunkSize] = c.TID
	r.byTID[c.TID] = place{run, n}
	run.news = append(run.news, plan.Change{Target: n, Cell: plan.Open})
	if cell := plan.CellOf(c.State); cell != plan.Open {
		run.news = append(run.news, plan.Change{Target: n, Cell: cell}) // made by an earlier run
	}
}

// refuse skips a target, unless its command was made before a restart, when it could be.
func (r *Runner) refuse(ctx context.Context, run *run, t *target, why skipped) error {
	c, err := r.known(ctx, t)
	switch {
	case err != nil:
		return err
	case c == nil:
		r.skip(run, t.n, why)
	default:
		r.took(run, t.n, c)
	}
	return nil
}

func (r *Runner) skip(run *run, n int, why skipped) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run.pieces[n/plan.ChunkSize].why[n%plan.ChunkSize] = why
	run.news = append(run.news, plan.Change{Target: n, Cell: plan.Skipped})
}

// known is the command that a target's key has made; nil: none.
func (r *Runner) known(ctx context.Context, t *target) (*command.Command, error) {
	tid, _, err := r.opt.Store.CommandByKey(ctx, t.who, t.key)
	if fault.CodeOf(err) == fault.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := r.opt.Store.Commands(ctx, []command.TID{tid})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

// find looks whether the commands of targets were made, and makes none.
func (r *Runner) find(ctx context.Context, run *run, a plan.Action) error {
	list, p := r.pending(run, a)
	return each(len(list), func(i int) error {
		if p.State == plan.Aborting {
			return r.refuse(ctx, run, list[i], skipAborted)
		}
		c, err := r.known(ctx, list[i])
		if err == nil && c != nil {
			r.took(run, list[i].n, c)
		}
		return err
	})
}

// cancelUnsent cancels the commands that were not sent yet. What a device may have is
// left to it: half of a change is worse than a whole one.
func (r *Runner) cancelUnsent(ctx context.Context, run *run) error {
	var tids []command.TID
	r.mu.Lock()
	for i := range run.Next {
		if run.Cells.At(i) == plan.Open {
			tids = append(tids, run.pieces[i/plan.ChunkSize].tids[i%plan.ChunkSize])
		}
	}
	by, id := run.Log[len(run.Log)-1].By, run.ID
	r.mu.Unlock()
	if by == "" {
		by = KeyPrefix + id
	}
	const page = 500
	for len(tids) > 0 {
		some := tids[:min(page, len(tids))]
		tids = tids[len(some):]
		list, err := r.opt.Store.Commands(ctx, some)
		if err != nil {
			return err
		}
		err = each(len(list), func(i int) error {
			c := &list[i]
			if c.State != command.Created && c.State != command.AwaitingApproval || c.CancelAsked {
				return nil
			}
			err := r.opt.Cancel(ctx, c.TID, by, "the roll-out "+id+" is aborted")
			if code := fault.CodeOf(err); code == fault.Conflict || code == fault.NotFound {
				return nil // it has ended meanwhile
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

package rollout

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
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
		r.mu.Lock()
		todo := run.todo
		run.todo = nil
		r.mu.Unlock()
		for i, a := range todo {
			if err := r.do(ctx, run, a); err != nil {
				errs = append(errs, fmt.Errorf("roll-out %s: %s: %w", run.ID, a.Act, err))
				r.mu.Lock()
				run.todo = append(todo[i:len(todo):len(todo)], run.todo...)
				r.mu.Unlock()
				break
			}
		}
	}
	return errors.Join(errs...)
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

// pending are the targets of an action whose commands are still to be made.
func (r *Runner) pending(run *run, a plan.Action) (list []target, state plan.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := a.From; i < a.To; i++ {
		p, k := run.pieces[i/plan.ChunkSize], i%plan.ChunkSize
		if run.Cells.At(i) == plan.Starting && p.tids[k] == (command.TID{}) {
			t := target{n: i, who: p.who[k], key: fmt.Sprintf("%s%s/%d", KeyPrefix, run.ID, i)}
			if p.of != nil {
				t.of = p.of[k]
			}
			list = append(list, t)
		}
	}
	return list, run.State
}

// start makes the commands of targets. When it was paused or aborted meanwhile, its
// Resume asks once more, and its Abort looks for them.
func (r *Runner) start(ctx context.Context, run *run, a plan.Action) error {
	list, state := r.pending(run, a)
	if state != plan.Running || len(list) == 0 {
		return nil
	}
	able := list[:0]
	for _, t := range list {
		switch d, ok := r.opt.Directory.Device(t.who); {
		case !ok:
			r.skip(run, t.n, skipGone)
		case d.Disabled:
			r.skip(run, t.n, skipDisabled)
		default:
			able = append(able, t)
		}
	}
	if run.Undoes != "" {
		return r.undo(ctx, run, able)
	}
	orders := make([]Order, len(able))
	policy := run.Policy
	policy.DeliverBy = command.Duration(run.DeliverBy(r.now()))
	for i, t := range able {
		orders[i] = Order{Device: t.who, Name: run.Spec.Command, Params: run.Spec.Params, Policy: policy, Terms: run.Terms, Key: t.key,
			Digest: run.Digest, By: run.By, Rollout: run.ID}
	}
	made, err := r.opt.Create(ctx, orders)
	if err != nil {
		return err
	}
	for i, m := range made {
		err = errors.Join(err, r.made(run, able[i].n, m.Command, m.Err, skipRefused))
	}
	return err
}

// undo makes the commands that take others back.
func (r *Runner) undo(ctx context.Context, run *run, list []target) error {
	return r.each(len(list), func(i int) error {
		t := &list[i]
		c, err := r.opt.Undo(ctx, t.of, t.key, run.By, "roll-out "+run.ID, run.ID)
		return r.made(run, t.n, c, err, skipNoUndo)
	})
}

// each calls f for 0 to n-1, several at a time.
func (r *Runner) each(n int, f func(i int) error) error {
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

// made notes what became of a target. What cannot be for ever skips it with that
// reason; any other error is returned, and the target is to be asked for again.
func (r *Runner) made(run *run, n int, c command.Command, err error, why skipped) error {
	switch fault.CodeOf(err) {
	case "":
	case fault.NotFound:
		r.skip(run, n, skipGone)
		return nil
	case fault.Invalid, fault.Forbidden, fault.TooLarge, fault.Conflict, fault.KeyReused:
		r.log.Warn("a target of a roll-out is skipped", "rollout", run.ID, "target", n, "error", err)
		r.skip(run, n, why)
		return nil
	default:
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	run.pieces[n/plan.ChunkSize].tids[n%plan.ChunkSize] = c.TID
	r.byTID[c.TID] = place{run, n}
	run.news = append(run.news, plan.Change{Target: n, Cell: plan.Open})
	if cell := plan.CellOf(c.State); cell != plan.Open {
		run.news = append(run.news, plan.Change{Target: n, Cell: cell}) // made by an earlier run
	}
	return nil
}

func (r *Runner) skip(run *run, n int, why skipped) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run.pieces[n/plan.ChunkSize].why[n%plan.ChunkSize] = why
	run.news = append(run.news, plan.Change{Target: n, Cell: plan.Skipped})
}

// find looks whether the commands of targets were made, and makes none.
func (r *Runner) find(ctx context.Context, run *run, a plan.Action) error {
	list, state := r.pending(run, a)
	return r.each(len(list), func(i int) error {
		t := &list[i]
		tid, _, err := r.opt.Store.CommandByKey(ctx, t.who, t.key)
		if fault.CodeOf(err) == fault.NotFound {
			if state == plan.Aborting {
				r.skip(run, t.n, skipAborted)
			}
			return nil
		}
		if err != nil {
			return err
		}
		list, err := r.opt.Store.Commands(ctx, []command.TID{tid})
		if err != nil || len(list) == 0 {
			return err
		}
		return r.made(run, t.n, list[0], nil, notSkipped)
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
	by := run.Log[len(run.Log)-1].By
	r.mu.Unlock()
	if by == "" {
		by = KeyPrefix + run.ID
	}
	const page = 500
	for len(tids) > 0 {
		some := tids[:min(page, len(tids))]
		tids = tids[len(some):]
		list, err := r.opt.Store.Commands(ctx, some)
		if err != nil {
			return err
		}
		err = r.each(len(list), func(i int) error {
			c := &list[i]
			if c.State != command.Created && c.State != command.AwaitingApproval || c.CancelAsked {
				return nil
			}
			err := r.opt.Cancel(ctx, c.TID, by, "the roll-out "+run.ID+" is aborted")
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

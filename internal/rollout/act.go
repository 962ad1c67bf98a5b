package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/undo"
	"github.com/wilco-iot/wilco/wire"
)

// atOnce is how many single requests to the engine are under way: they share its commits.
const atOnce = 32

// act does what was committed. What cannot be done now is asked for again by what is
// failing.
func (r *Runner) act(ctx context.Context) {
	r.mu.Lock()
	runs := r.runs()
	r.mu.Unlock()
	for _, run := range runs {
		for _, a := range r.take(run) {
			r.do(ctx, run, a)
		}
		r.report(run)
	}
}

// take takes what is to be done for a roll-out.
func (r *Runner) take(run *run) (todo []plan.Action) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	todo, run.todo = slices.Concat(run.again(now), run.todo), nil
	if len(run.late) > 0 && run.InWindow(now) {
		todo, run.late = append(run.late, todo...), nil
	}
	return todo
}

func (r *Runner) do(ctx context.Context, run *run, a plan.Action) {
	switch a.Act { // an alarm was committed, which is all
	case plan.Start:
		r.start(ctx, run, a)
	case plan.Find:
		r.find(ctx, run, a)
	case plan.Cancel:
		r.failedCancel(ctx, run, r.cancelUnsent(ctx, run))
	}
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
	at := r.now()
	for i := a.From; i < a.To; i++ {
		if f := run.failing[i]; f != nil && f.at.After(at) {
			continue // its time will come
		}
		p, k := run.pieces[i/plan.ChunkSize], i%plan.ChunkSize
		if run.Cells.At(i) == plan.Starting && p.tids[k] == (command.TID{}) {
			t := &target{n: i, who: p.who[k], key: run.key(i)}
			if p.of != nil {
				t.of = p.of[k]
			}
			list = append(list, t)
		}
	}
	return list, run.Rollout
}

// key is the idempotency key of a target's command. Stored; never change.
func (run *run) key(i int) string {
	if run.Run == "" {
		return fmt.Sprintf("%s%s/%d", KeyPrefix, run.ID, i)
	}
	return fmt.Sprintf("%s%s/%s/%d", KeyPrefix, run.ID, run.Run, i)
}

// start makes the commands of targets. When it was paused or aborted meanwhile, its
// Resume asks once more, and its Abort looks for them. When the window is over, as it
// may be after a restart, they are made in the next one; and when nobody answers for it
// they wait for the turn that pauses it.
func (r *Runner) start(ctx context.Context, run *run, a plan.Action) {
	list, p := r.pending(run, a)
	now := r.now()
	switch {
	case p.State != plan.Running || len(list) == 0:
		return
	case !p.InWindow(now), r.orphaned(&p) != "":
		r.mu.Lock()
		defer r.mu.Unlock()
		run.late = append(run.late, a)
		return
	}
	able := list[:0:0]
	var gone []func()
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
		gone = append(gone, func() { r.refuse(ctx, run, t, why) })
	}
	each(len(gone), func(i int) { gone[i]() })
	order := Order{Name: p.Spec.Command, Params: p.Spec.Params, Policy: p.Policy, Terms: p.Terms,
		Digest: p.Digest, By: p.By, Rollout: p.ID, Desires: p.Desires}
	order.Policy.DeliverBy = command.Duration(p.DeliverBy(now))
	orders := make([]Order, len(able))
	for i, t := range able {
		orders[i] = order
		orders[i].Device, orders[i].Key = t.who, t.key
	}
	if p.Undoes != "" {
		each(len(able), func(i int) {
			c, err := r.opt.Undo(ctx, able[i].of, orders[i], "roll-out "+p.ID)
			r.made(ctx, run, able[i], c, err)
		})
		return
	}
	made := r.create(ctx, orders)
	each(len(made), func(i int) { r.made(ctx, run, able[i], made[i].Command, made[i].Err) })
}

// create makes commands. When all of them fail together each is asked for alone: it
// may be the fault of one.
func (r *Runner) create(ctx context.Context, orders []Order) []Outcome {
	if len(orders) == 0 {
		return nil
	}
	made, err := r.opt.Create(ctx, orders)
	if err == nil {
		return made
	}
	made = make([]Outcome, len(orders))
	each(len(orders), func(i int) {
		made[i].Err = err
		if len(orders) > 1 && ctx.Err() == nil && !ofServer(err) {
			made[i] = r.create(ctx, orders[i:i+1])[0]
		}
	})
	return made
}

// each calls f for 0 to n-1, several at a time.
func each(n int, f func(i int)) {
	places := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i := range n {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			f(i)
		})
	}
	wg.Wait()
}

// made notes what became of a target that was asked for. What cannot be for ever skips
// it; after any other error it is asked for again.
func (r *Runner) made(ctx context.Context, run *run, t *target, c command.Command, err error) {
	if err == nil {
		r.took(run, t.n, &c)
		return
	}
	why, never := refusal(err)
	if !never {
		r.failed(ctx, run, t, err)
		return
	}
	r.log.Warn("a target of a roll-out is refused", "key", t.key, "device", t.who.String(), "error", err)
	if fault.CodeOf(err) == fault.KeyReused {
		r.end(run, t.n, plan.Skipped, why)
		return
	}
	r.refuse(ctx, run, t, why)
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
	if r.active[run.ID] != run {
		return // read anew meanwhile: it is asked for again
	}
	delete(run.failing, n)
	run.pieces[n/plan.ChunkSize].tids[n%plan.ChunkSize] = c.TID
	if !c.Final() { // else nothing more will come of it
		r.track(run, c.TID, n)
	}
	run.news = append(run.news, plan.Change{Target: n, Cell: plan.Open})
	if cell := plan.CellOf(c.State); cell != plan.Open {
		run.news = append(run.news, plan.Change{Target: n, Cell: cell}) // made by an earlier run
	}
}

// refuse skips a target, unless its command was made before a restart, when it could be.
func (r *Runner) refuse(ctx context.Context, run *run, t *target, why skipped) {
	c, err := r.known(ctx, t)
	switch {
	case err != nil:
		r.failed(ctx, run, t, err)
	case c == nil:
		r.end(run, t.n, plan.Skipped, why)
	default:
		r.took(run, t.n, c)
	}
}

// end ends a target that has no command.
func (r *Runner) end(run *run, n int, c plan.Cell, why skipped) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(run.failing, n)
	run.pieces[n/plan.ChunkSize].why[n%plan.ChunkSize] = why
	run.news = append(run.news, plan.Change{Target: n, Cell: c})
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

// find looks whether the commands of targets were made, and makes none. While it is
// paused one that cannot be looked for is left: Resume and Abort ask again.
func (r *Runner) find(ctx context.Context, run *run, a plan.Action) {
	list, p := r.pending(run, a)
	each(len(list), func(i int) {
		if p.State == plan.Aborting {
			r.refuse(ctx, run, list[i], skipAborted)
		} else if c, err := r.known(ctx, list[i]); err == nil && c != nil {
			r.took(run, list[i].n, c)
		}
	})
}

// cancelUnsent cancels the commands that were not sent yet. What a device may have is
// left to it: half of a change is worse than a whole one. The error is one of several.
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
	var failed atomic.Pointer[error]
	for some := range slices.Chunk(tids, page) {
		list, err := r.opt.Store.Commands(ctx, some)
		if err != nil {
			failed.Store(&err)
		}
		each(len(list), func(i int) {
			c := &list[i]
			if c.State != command.Created && c.State != command.AwaitingApproval || c.CancelAsked {
				return
			}
			err := r.opt.Cancel(ctx, c.TID, by, "the roll-out "+id+" is aborted")
			if code := fault.CodeOf(err); err != nil && code != fault.Conflict && code != fault.NotFound { // else it has ended meanwhile
				failed.Store(&err)
			}
		})
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

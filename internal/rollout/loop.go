package rollout

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// loop makes turns until ctx ends.
func (r *Runner) loop(ctx context.Context) {
	for ctx.Err() == nil {
		changed := r.opt.Store.Changed() // asked before reading, so that no commit is missed between
		more, err := r.turn(ctx)
		pause := turnEvery
		if err != nil && ctx.Err() == nil {
			r.log.Error("a turn of the roll-outs failed; nothing of it is lost, it is tried again", "error", err)
			pause = pauseAfter
		}
		select { // what happens meanwhile is taken together
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if more || err != nil {
			continue
		}
		var timer <-chan time.Time
		if wake := r.wake(); !wake.IsZero() {
			timer = time.After(wake.Sub(r.now()))
		}
		if r.idle() {
			changed = nil
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer:
		case <-r.poke:
		}
	}
}

func (r *Runner) idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.active) == 0
}

// wake is when time alone changes something; zero: never.
func (r *Runner) wake() (next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	for _, d := range r.damaged {
		next = sooner(next, d.tried.Add(mendEvery))
	}
	for _, run := range r.open() {
		wake := sooner(run.Wake, run.againAt(now))
		if run.Spec.Dynamic || r.opt.Absent != nil && (run.State == plan.Running || run.State == plan.Scheduled) {
			wake = sooner(wake, r.looked.Add(lookEvery))
		}
		if len(run.late) > 0 {
			wake = sooner(wake, run.WindowTurns(now))
		}
		next = sooner(next, wake)
	}
	return next
}

// sooner is the earlier of two times, of which zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// turn takes what has happened, commits what follows from it, and does that. More
// says that there is more to do at once.
func (r *Runner) turn(ctx context.Context) (more bool, err error) {
	r.mu.Lock()
	if err = r.refresh(ctx); err == nil {
		err = r.mend(ctx)
	}
	if idle := len(r.active) == 0; idle || r.lost {
		r.at, r.lost = -1, false
	}
	r.mu.Unlock()
	if err != nil || r.idle() {
		return false, err
	}
	if r.at < 0 {
		// The place first: what ends while the commands are looked at comes as an event.
		at, err := r.opt.Store.LastEvent(ctx)
		if err == nil {
			err = r.reconcile(ctx)
		}
		if err != nil {
			return false, err
		}
		r.at = at
	}
	ends, last, full, err := r.read(ctx)
	if err != nil || last < 0 {
		r.at = min(r.at, last)
		return err == nil, err
	}
	found, err := r.look()
	if err != nil {
		return false, err
	}
	moved, err := r.decide(ctx, ends, found)
	if err != nil {
		return false, err
	}
	r.at = last
	r.act(ctx)
	return moved || full || r.busy(), nil
}

// busy says whether what was done is still to be given to the plan.
func (r *Runner) busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, run := range r.active {
		if len(run.news)+len(run.given)+len(run.todo) > 0 {
			return true
		}
	}
	return false
}

// read passes events behind the place, and gives the ends of targets' commands among
// them and the new place: -1 when events are gone, and the commands must be looked
// at. Full says that there are more.
func (r *Runner) read(ctx context.Context) (ends map[*run][]plan.Change, last int64, full bool, err error) {
	ends, last, full = map[*run][]plan.Change{}, r.at, true
	for n := 0; full && n < pagesAtOnce; n++ {
		page, err := r.opt.Store.Events(ctx, last, eventPage)
		if err != nil {
			return nil, last, false, err
		}
		if len(page) > 0 && page[0].ID != last+1 {
			r.log.Warn("events were purged before the roll-outs had seen them; the commands are looked at", "after", last)
			return nil, -1, false, nil
		}
		if len(page) > 0 {
			last = page[len(page)-1].ID
		}
		r.endsOf(page, ends)
		full = len(page) == eventPage
	}
	return ends, last, full, nil
}

// endsOf finds the ends of targets' commands among the events.
func (r *Runner) endsOf(page []store.Event, ends map[*run][]plan.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range page {
		e := &page[i]
		if e.Type != store.EventCommand || e.TID == nil {
			continue
		}
		at, ok := r.byTID[*e.TID]
		switch c := plan.CellOf(e.State); {
		case !ok:
		case e.Reason == command.NeverSettled:
			r.untrack(*e.TID)
		case e.From != e.State && c != plan.Open:
			ends[at.run] = append(ends[at.run], plan.Change{Target: at.target, Cell: c})
		}
	}
}

// reconcile looks at all commands that are not known to have ended for good.
func (r *Runner) reconcile(ctx context.Context) error {
	r.mu.Lock()
	runs := r.runs()
	r.mu.Unlock()
	for _, run := range runs {
		news, closed, err := r.lookAt(ctx, r.unended(run))
		if err != nil {
			return err
		}
		r.mu.Lock()
		for _, tid := range closed {
			r.untrack(tid)
		}
		run.news = append(run.news, news...) // behind what was done and not yet told
		r.mu.Unlock()
	}
	return nil
}

// unended are the targets whose commands have not ended for good, by command: also
// those that were made and of which the plan has not been told yet.
func (r *Runner) unended(run *run) map[command.TID]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	open := map[command.TID]int{}
	for i := range run.Next {
		tid := run.pieces[i/plan.ChunkSize].tids[i%plan.ChunkSize]
		if c := run.Cells.At(i); tid != (command.TID{}) && (c == plan.Starting || c == plan.Open || c == plan.TimedOut) {
			open[tid] = i
			r.track(run, tid, i)
		}
	}
	return open
}

// track has the events of a command looked for. Under mu.
func (r *Runner) track(run *run, tid command.TID, target int) {
	if _, ok := r.byTID[tid]; !ok {
		run.tracked++
	}
	r.byTID[tid] = place{run, target}
}

// untrack says that no more will come of a command. Under mu.
func (r *Runner) untrack(tid command.TID) {
	if at, ok := r.byTID[tid]; ok {
		at.run.tracked--
		delete(r.byTID, tid)
	}
}

// lookAt says how the commands of targets are, and which of them no answer can change
// any more.
func (r *Runner) lookAt(ctx context.Context, open map[command.TID]int) (news []plan.Change, closed []command.TID, err error) {
	for some := range slices.Chunk(slices.Collect(maps.Keys(open)), 500) {
		list, err := r.opt.Store.Commands(ctx, some)
		if err != nil {
			return nil, nil, err
		}
		for i := range list {
			c := &list[i]
			news = append(news, plan.Change{Target: open[c.TID], Cell: plan.CellOf(c.State)})
			if c.Final() {
				closed = append(closed, c.TID)
			}
			delete(open, c.TID)
		}
		for _, tid := range some {
			if i, gone := open[tid]; gone { // purged, and nobody knows
				news = append(news, plan.Change{Target: i, Cell: plan.TimedOut})
				closed = append(closed, tid)
			}
		}
	}
	return news, closed, nil
}

// open are the roll-outs that have not ended. Under mu.
func (r *Runner) open() []*run {
	return slices.DeleteFunc(r.runs(), func(run *run) bool { return run.State.Final() })
}

// runs are the roll-outs in memory in the order of their ids. Under mu.
func (r *Runner) runs() []*run {
	list := make([]*run, 0, len(r.active))
	for _, run := range r.active {
		list = append(list, run)
	}
	slices.SortFunc(list, func(a, b *run) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return list
}

// look finds new devices for the dynamic roll-outs, now and then.
func (r *Runner) look() (map[*run][]wire.Address, error) {
	now := r.now()
	if now.Sub(r.looked) < lookEvery {
		return nil, nil
	}
	r.looked = now
	r.mu.Lock()
	defer r.mu.Unlock()
	found := map[*run][]wire.Address{}
	for _, run := range r.open() {
		if !run.Spec.Dynamic {
			continue
		}
		if run.known == nil {
			run.known = make(map[wire.Address]struct{}, run.Total)
			for _, p := range run.pieces {
				for _, a := range p.who {
					run.known[a] = struct{}{}
				}
			}
		}
		all, err := r.Select(&run.Spec.Targets, run.Scope)
		if err != nil {
			return nil, err
		}
		for _, a := range all {
			if _, ok := run.known[a]; !ok && run.Total+len(found[run]) < MaxTargets {
				found[run] = append(found[run], a)
			}
		}
	}
	return found, nil
}

// decide gives each roll-out what has happened to it, and commits what follows from
// that. It says whether anything did.
func (r *Runner) decide(ctx context.Context, ends map[*run][]plan.Change, found map[*run][]wire.Address) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stale || r.lost { // since this turn has begun: the next one looks at everything anew
		return true, nil
	}
	var b store.Batch
	var adopt []func()
	now := r.now()
	for _, run := range r.runs() {
		wake := !run.Wake.IsZero() && !now.Before(run.Wake)
		orphan := r.orphaned(&run.Rollout)
		settled := run.State.Final() && run.tracked == 0 && !run.Settled
		if len(run.news)+len(run.given)+len(ends[run])+len(found[run]) == 0 && !wake && !run.doubt && orphan == "" && !settled {
			continue
		}
		r.stale = true // until it is committed: what is in memory may be ahead of the store
		b.Documents = append(b.Documents, run.grow(found[run])...)
		next, actions, err := run.play(ends[run], len(found[run]), orphan, now)
		if err != nil {
			return false, err
		}
		docs, err := run.writes(&next)
		if err != nil {
			return false, err
		}
		b.Documents = append(b.Documents, docs...)
		b.Events = append(b.Events, run.tells(&run.Rollout, &next, actions, now)...)
		adopt = append(adopt, func() { r.adopt(run, next, actions, ends[run]) })
	}
	if len(adopt) == 0 {
		return false, nil
	}
	if _, err := r.opt.Store.Commit(ctx, &b); err != nil {
		return false, err
	}
	r.stale = false
	for _, f := range adopt {
		f()
	}
	return true, nil
}

// orphaned says why nobody answers for a roll-out that would start something; "":
// somebody does.
func (r *Runner) orphaned(p *plan.Rollout) string {
	if r.opt.Absent == nil || p.State != plan.Running && p.State != plan.Scheduled {
		return ""
	}
	who := p.Answers
	if who.Name == "" {
		who.Name = p.By
	}
	return r.opt.Absent(who)
}

// play gives the plan what has happened; first, why nobody answers for it any more.
func (run *run) play(ends []plan.Change, found int, orphan string, now time.Time) (plan.Rollout, []plan.Action, error) {
	var events []plan.Event
	if orphan != "" {
		events = append(events, plan.Event{Kind: plan.Orphaned, Text: orphan})
	}
	events = append(events, plan.Event{Kind: plan.Tick})
	if to := slices.Concat(run.news, ends); len(to) > 0 {
		events = append(events, plan.Event{Kind: plan.Became, To: to})
	}
	if found > 0 {
		events = append(events, plan.Event{Kind: plan.Found, Count: found})
	}
	if run.doubt {
		events = append(events, plan.Event{Kind: plan.Restarted})
	}
	if run.tracked == 0 { // of one that has not ended it says nothing
		events = append(events, plan.Event{Kind: plan.Settled})
	}
	next, all := run.Rollout, run.givenUp()
	for _, ev := range events {
		var actions []plan.Action
		var err error
		if next, actions, err = plan.Step(next, ev, now); err != nil {
			return next, nil, fmt.Errorf("roll-out %s: %w", run.ID, err)
		}
		all = append(all, actions...)
	}
	return next, all, nil
}

// grow takes in devices that were found, and gives what is to be written of that.
func (run *run) grow(found []wire.Address) (docs []store.DocumentWrite) {
	for len(found) > 0 {
		last := len(run.pieces) - 1
		if last < 0 || len(run.pieces[last].who) == plan.ChunkSize {
			run.pieces = append(run.pieces, &piece{})
			last++
		}
		p := run.pieces[last]
		n := min(plan.ChunkSize-len(p.who), len(found))
		p.add(found[:n])
		for _, a := range found[:n] {
			run.known[a] = struct{}{}
		}
		docs = append(docs, store.DocumentWrite{DocumentID: targetDoc(run.ID, last, leafDevices), Was: p.whoVersion, Body: p.whoBody()})
		p.whoVersion++
		found = found[n:]
	}
	return docs
}

// adopt takes over what was committed. Under mu.
func (r *Runner) adopt(run *run, next plan.Rollout, actions []plan.Action, ends []plan.Change) {
	was := run.State
	run.adopt(next, actions)
	run.news, run.given, run.doubt = nil, nil, false
	for _, c := range ends {
		if c.Cell != plan.TimedOut { // which a late answer may still settle
			r.untrack(run.pieces[c.Target/plan.ChunkSize].tids[c.Target%plan.ChunkSize])
		}
	}
	if was != run.State {
		r.log.Info("a roll-out has changed its state", "id", run.ID, "from", was, "to", run.State, "reason", run.Reason, "detail", run.Detail)
	}
	for _, a := range actions {
		if a.Act == plan.Alarm {
			r.log.Warn("alarm", "rollout", run.ID, "text", a.Text)
		}
	}
	if run.State.Final() && !was.Final() {
		r.ended[run.State]++
		run.todo, run.late, run.failing = nil, nil, nil
	}
	if !run.Follow() {
		r.letGo(run.ID)
	}
}

// letGo takes a roll-out out of memory. Under mu.
func (r *Runner) letGo(id string) {
	run := r.active[id]
	if run == nil {
		return
	}
	delete(r.active, id)
	for tid, at := range r.byTID {
		if at.run == run {
			delete(r.byTID, tid)
		}
	}
}

// refresh reads everything anew when a commit has failed: it may have taken effect
// all the same, and the store knows. Under mu.
func (r *Runner) refresh(ctx context.Context) error {
	if !r.stale {
		return nil
	}
	clear(r.active)
	clear(r.byTID)
	if err := r.load(ctx); err != nil {
		return err
	}
	r.stale, r.lost = false, true
	return nil
}

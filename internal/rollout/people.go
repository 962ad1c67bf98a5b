package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// Commit writes documents and the events that tell of them, with what is to be
// recorded of them, at once.
type Commit func([]store.DocumentWrite, []store.Event) error

// Draft is a roll-out that is to be begun.
type Draft struct {
	plan.Rollout // ID, Spec, By, Scope, Policy, Terms, Digest, Undoes and Desires
	Targets      []wire.Address
	Of           []command.TID // of one that takes back, beside Targets; else nil
	Approval     *command.Approval
}

// New makes of a draft what it begins as, and begins nothing. The error is of a time
// zone.
func (r *Runner) New(d *Draft) (plan.Rollout, error) {
	p := d.Rollout
	p.Groups = GroupsOf(d.Targets)
	p.Spec.Targets.Listed = len(p.Spec.Targets.Devices) > 0
	p.Spec.Targets.Devices = nil
	var err error
	if p.Zones, err = zonesOf(&p.Spec); err != nil {
		return p, fault.Field("windows", "%v", err)
	}
	return plan.New(p, len(d.Targets), d.Approval, r.now().UTC().Truncate(time.Millisecond)), nil
}

// Begin makes a roll-out; its ID is that of the draft, or a new UUIDv7. When there is
// one of that id with the same digest and from the same person, that is returned, and
// existed. Errors: Exists, Conflict when what it undoes is taken back already or MaxActive
// are under way, those of commit.
func (r *Runner) Begin(ctx context.Context, d Draft, commit Commit) (begun plan.Rollout, existed bool, err error) {
	if d.ID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return begun, false, err
		}
		d.ID = id.String()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refresh(ctx); err != nil {
		return begun, false, err
	}
	if was, err := r.get(ctx, d.ID); err == nil {
		if was.Digest == d.Digest && was.By == d.By {
			return was, true, nil
		}
		return begun, false, fault.New(fault.Exists, "there is another roll-out %s already; choose another name", d.ID)
	} else if fault.CodeOf(err) != fault.NotFound {
		return begun, false, err
	}
	if n := len(r.open()); n >= MaxActive {
		return begun, false, fault.New(fault.Conflict, "%d roll-outs are under way, which is all that there may be; wait until one has ended, or abort one", n)
	}
	token, err := uuid.NewV7()
	if err != nil {
		return begun, false, err
	}
	d.Run = token.String()
	p, err := r.New(&d)
	if err != nil {
		return begun, false, err
	}
	run := &run{Rollout: p, pieces: piecesOf(d.Targets, d.Of)}
	docs, err := r.firstWrites(ctx, run)
	if err != nil {
		return begun, false, err
	}
	if err := commit(docs, run.tells(&plan.Rollout{}, &run.Rollout, nil, p.Created)); err != nil {
		r.distrust()
		return begun, false, err
	}
	run.version = 1
	r.active[run.ID] = run
	if of := r.active[run.Undoes]; of != nil { // which firstWrites has changed
		of.version++
		of.UndoneBy = run.ID
	}
	r.wakeLoop()
	return run.Rollout, false, nil
}

// firstWrites are the documents of a new roll-out, and the link from the one that it
// takes back.
func (r *Runner) firstWrites(ctx context.Context, run *run) ([]store.DocumentWrite, error) {
	body, err := json.Marshal(&run.Rollout)
	if err != nil {
		return nil, err
	}
	docs := []store.DocumentWrite{{DocumentID: rolloutDoc(run.ID), Body: body}}
	for i, p := range run.pieces {
		p.whoVersion = 1
		docs = append(docs, store.DocumentWrite{DocumentID: targetDoc(run.ID, i, leafDevices), Body: p.whoBody()})
	}
	if run.Undoes == "" {
		return docs, nil
	}
	doc, err := r.opt.Store.Document(ctx, rolloutDoc(run.Undoes))
	if err != nil {
		return nil, err
	}
	of, err := decode(&doc)
	if err != nil {
		return nil, err
	}
	if err := r.undone(ctx, &of.Rollout); err != nil {
		return nil, err
	}
	of.UndoneBy = run.ID
	body, err = json.Marshal(&of.Rollout)
	return append(docs, store.DocumentWrite{DocumentID: doc.DocumentID, Was: doc.Version, Body: body}), err
}

// undone refuses to take back what another one takes back, or has: one that was
// denied or aborted leaves it to be done. Under mu.
func (r *Runner) undone(ctx context.Context, p *plan.Rollout) error {
	if p.UndoneBy == "" {
		return nil
	}
	by, err := r.get(ctx, p.UndoneBy)
	if err == nil && (by.State == plan.Denied || by.State == plan.Aborted) {
		return nil
	}
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		return err
	}
	return fault.New(fault.Conflict, "it is taken back already, by %s", p.UndoneBy)
}

// distrust has everything read anew: a commit has failed, or only said so. Under mu.
func (r *Runner) distrust() {
	r.stale = true
	r.wakeLoop()
}

// Ask gives a roll-out what a person asks for: Pause, Resume, Abort, Approve, Deny or
// BreakGlass. It returns what it has become when that is committed; what follows from
// it is done after. Errors: NotFound; Conflict when its state forbids it; those of
// commit.
func (r *Runner) Ask(ctx context.Context, id string, ev plan.Event, commit Commit) (plan.Rollout, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refresh(ctx); err != nil {
		return plan.Rollout{}, err
	}
	run := r.active[id]
	if run == nil {
		p, err := r.get(ctx, id)
		if err != nil {
			return p, err
		}
		_, _, err = plan.Step(p, ev, r.now())
		return p, fault.Wrap(err, fault.Conflict, "%v", err)
	}
	now := r.now()
	next, actions, err := plan.Step(run.Rollout, ev, now)
	var not *plan.NotAllowedError
	if errors.As(err, &not) {
		return run.Rollout, fault.Wrap(err, fault.Conflict, "%s", not.Error())
	}
	if err != nil {
		return run.Rollout, err
	}
	docs, err := run.writes(&next)
	if err != nil {
		return run.Rollout, err
	}
	if err := commit(docs, run.tells(&run.Rollout, &next, actions, now)); err != nil {
		r.distrust()
		return run.Rollout, err
	}
	news, given, doubt := run.news, run.given, run.doubt
	r.adopt(run, next, actions, nil)
	run.news, run.given, run.doubt = news, given, doubt
	r.wakeLoop()
	return next, nil
}

// Get looks at a roll-out. Errors: NotFound.
func (r *Runner) Get(ctx context.Context, id string) (plan.Rollout, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.get(ctx, id)
}

func (r *Runner) get(ctx context.Context, id string) (plan.Rollout, error) {
	if run := r.active[id]; run != nil {
		return run.Rollout, nil
	}
	if d := r.damaged[id]; d != nil {
		return d.shown(id), nil
	}
	if !ValidID(id) {
		return plan.Rollout{}, unknown("of that id")
	}
	d, err := r.opt.Store.Document(ctx, rolloutDoc(id))
	if fault.CodeOf(err) == fault.NotFound {
		return plan.Rollout{}, unknown(id)
	}
	if err != nil {
		return plan.Rollout{}, err
	}
	run, err := decode(&d)
	if err != nil {
		return (&damage{err: err}).shown(id), nil
	}
	return run.Rollout, nil
}

// ValidID says whether a roll-out may be called so.
func ValidID(id string) bool {
	return id != "" && len(id) <= 64 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// List gives all roll-outs that are kept, the newest first.
func (r *Runner) List(ctx context.Context) (list []plan.Rollout, err error) {
	for after := ""; ; {
		page, err := r.opt.Store.Documents(ctx, kindRollout, "", after, 500)
		if err != nil {
			return nil, err
		}
		for i := range page {
			after = page[i].Key
			list = append(list, r.shown(&page[i]))
		}
		if len(page) == 0 {
			break
		}
	}
	slices.SortStableFunc(list, func(a, b plan.Rollout) int { return b.Created.Compare(a.Created) })
	return list, nil
}

// Target is one device of a roll-out.
type Target struct {
	Number int
	Device wire.Address
	State  plan.Cell
	TID    command.TID // zero: it has no command
	Why    string      // it has no command
}

// Targets lists the targets of a roll-out from number from on, up to limit: those in
// one of the states, or all. A command that had timed out is looked at once more.
// Errors: NotFound.
func (r *Runner) Targets(ctx context.Context, id string, states []plan.Cell, from, limit int) ([]Target, error) {
	run, total, ours, err := r.opened(ctx, id)
	if err != nil {
		return nil, err
	}
	const page = plan.ChunkSize / 2 // never of two pieces
	var list []Target
	for from = max(from, 0); len(list) < limit && from < total; from += page - from%page {
		if ours {
			if err := r.readPiece(ctx, run, from/plan.ChunkSize); err != nil {
				return nil, err
			}
		}
		some := r.some(run, from, page-from%page)
		if len(some) == 0 {
			break
		}
		if err := r.settle(ctx, some); err != nil {
			return nil, err
		}
		for _, t := range some {
			if len(list) < limit && (len(states) == 0 || slices.Contains(states, t.State)) {
				list = append(list, t)
			}
		}
	}
	return list, nil
}

// some gives up to limit targets from number from on.
func (r *Runner) some(run *run, from, limit int) (list []Target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := from; i < run.Total && len(list) < limit; i++ {
		p, k := run.pieces[i/plan.ChunkSize], i%plan.ChunkSize
		list = append(list, Target{Number: i, Device: p.who[k], State: run.Cells.At(i), TID: p.tids[k], Why: p.why[k].String()})
	}
	return list
}

// settle looks once more at the commands that had timed out.
func (r *Runner) settle(ctx context.Context, list []Target) error {
	at := map[command.TID]int{}
	for i, t := range list {
		if t.State == plan.TimedOut && t.TID != (command.TID{}) {
			at[t.TID] = i
		}
	}
	if len(at) == 0 {
		return nil
	}
	late, err := r.opt.Store.Commands(ctx, slices.Collect(maps.Keys(at)))
	for i := range late {
		list[at[late[i].TID]].State = plan.CellOf(late[i].State)
	}
	return err
}

// opened gives a roll-out and how many targets it has: the active one, or one that is the
// caller's, whose pieces are still to be read.
func (r *Runner) opened(ctx context.Context, id string) (of *run, total int, ours bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if of = r.active[id]; of != nil {
		return of, of.Total, false, nil
	}
	p, err := r.get(ctx, id)
	if err == nil && p.State == plan.Damaged {
		err = damagedRecord(p.Detail)
	}
	of = &run{Rollout: p}
	of.Cells = plan.NewCells(p.Total)
	return of, p.Total, true, err
}

func damagedRecord(why string) error {
	return fault.New(fault.Conflict, "the record of the roll-out is damaged: %s; look for its commands by wilco list", why)
}

// readPiece reads one piece of a roll-out that is the caller's, if it was not read.
func (r *Runner) readPiece(ctx context.Context, run *run, n int) error {
	if n < len(run.pieces) && len(run.pieces[n].who) > 0 {
		return nil
	}
	docs, err := r.opt.Store.Documents(ctx, kindTarget, fmt.Sprintf("%s/%06d/", run.ID, n), "", 2)
	if err != nil {
		return err
	}
	for i := range docs {
		if err := run.readTarget(&docs[i]); err != nil {
			return damagedRecord(err.Error())
		}
	}
	if has := min(run.Total-n*plan.ChunkSize, plan.ChunkSize); n >= len(run.pieces) || len(run.pieces[n].who) != has {
		return damagedRecord(fmt.Sprintf("piece %d has not %d targets", n, has))
	}
	return nil
}

// Select gives the devices that a selection is for, in the order of their addresses;
// those of a list in its order. Scope bounds the groups; none: all. Errors: Invalid
// for a list that names a device that is not there, not in the scope, or twice.
func (r *Runner) Select(t *plan.Targets, scope []string) ([]wire.Address, error) {
	within := func(group string) bool { return len(scope) == 0 || slices.Contains(scope, group) }
	if len(t.Devices) > 0 {
		return r.listed(t.Devices, within)
	}
	var list []wire.Address
	for d := range r.opt.Directory.All() {
		switch {
		case !within(d.Address.Group), d.Disabled,
			t.Group != "" && d.Address.Group != t.Group,
			t.Tag != "" && !slices.Contains(d.Tags, t.Tag),
			t.Online != nil && r.opt.Presence(d.Address).Online != *t.Online:
			continue
		}
		list = append(list, d.Address)
	}
	slices.SortFunc(list, func(a, b wire.Address) int {
		if c := strings.Compare(a.Group, b.Group); c != 0 {
			return c
		}
		return strings.Compare(a.Device, b.Device)
	})
	return list, nil
}

func (r *Runner) listed(names []string, within func(string) bool) ([]wire.Address, error) {
	list := make([]wire.Address, 0, len(names))
	seen := make(map[wire.Address]struct{}, len(names))
	for _, name := range names {
		a, err := wire.ParseAddress(name)
		if err != nil {
			return nil, fault.Field("targets.devices", "%q is not an address like plant/valve-1", name)
		}
		d, there := r.opt.Directory.Device(a)
		switch _, twice := seen[a]; {
		case twice:
			return nil, fault.Field("targets.devices", "%s is there twice", a)
		case !within(a.Group):
			return nil, fault.New(fault.Forbidden, "the token is not for the group %s", a.Group)
		case !there:
			return nil, fault.Field("targets.devices", "there is no device %s; register it first: wilco device add %s", a, a)
		case d.Disabled:
			return nil, fault.Field("targets.devices", "the device %s is disabled; enable it first: wilco device enable %s", a, a)
		}
		seen[a] = struct{}{}
		list = append(list, a)
	}
	return list, nil
}

// InActive says of devices in which roll-out that has not ended each is, if it still
// waits for its turn or is under way there.
func (r *Runner) InActive(list []wire.Address) map[wire.Address]string {
	wanted := make(map[wire.Address]struct{}, len(list))
	for _, a := range list {
		wanted[a] = struct{}{}
	}
	in := map[wire.Address]string{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, run := range r.open() {
		for i := range run.Total {
			if run.Cells.At(i) > plan.Open {
				continue
			}
			a := run.pieces[i/plan.ChunkSize].who[i%plan.ChunkSize]
			if _, ok := wanted[a]; ok {
				in[a] = run.ID
			}
		}
	}
	return in
}

// Forget removes the roll-outs that have ended before a time, each at once.
func (r *Runner) Forget(ctx context.Context, before time.Time) error {
	list, err := r.List(ctx)
	if err != nil {
		return err
	}
	for i := range list {
		if p := &list[i]; p.State.Final() && p.Ended.Before(before) {
			if err := r.remove(ctx, p.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Runner) remove(ctx context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, err := r.opt.Store.Document(ctx, rolloutDoc(id))
	if err != nil {
		return err
	}
	b := store.Batch{Documents: []store.DocumentWrite{{DocumentID: d.DocumentID, Was: d.Version}}}
	for after := ""; ; {
		page, err := r.opt.Store.Documents(ctx, kindTarget, id+"/", after, 100)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		for i := range page {
			after = page[i].Key
			b.Documents = append(b.Documents, store.DocumentWrite{DocumentID: page[i].DocumentID, Was: page[i].Version})
		}
	}
	if _, err := r.opt.Store.Commit(ctx, &b); err != nil {
		r.distrust()
		return err
	}
	r.letGo(id)
	return nil
}

// Executed are the targets of a roll-out in which it took effect, and their commands,
// the last one first. Errors: NotFound; Conflict when it has not ended.
func (r *Runner) Executed(ctx context.Context, id string) (list []wire.Address, of []command.TID, err error) {
	p, err := r.Get(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if !p.State.Final() {
		return nil, nil, fault.New(fault.Conflict, "the roll-out is %s; abort it first, or wait for its end", p.State)
	}
	all, err := r.Targets(ctx, id, []plan.Cell{plan.Executed}, 0, p.Total)
	if err != nil {
		return nil, nil, err
	}
	slices.Reverse(all)
	for _, t := range all {
		list, of = append(list, t.Device), append(of, t.TID)
	}
	return list, of, nil
}

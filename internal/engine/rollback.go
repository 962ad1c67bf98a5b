package engine

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/replica"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/undo"
	"github.com/wilco-iot/wilco/wire"
)

// UndoRequest asks that a command be taken back by another one, which goes the way
// of every command.
type UndoRequest struct {
	TID   command.TID
	By    string // who asks
	Why   string // for the timelines of both
	Force bool   // pass over a refusal that lets itself be passed over
	Key   string // idempotency key, unique within the device; "" for none
	// Rollout is the id of the roll-out that the new command is part of; "": none.
	Rollout string
	// How says how the command of a plan goes, or why it must not. It is asked within
	// the turn and does not block. Default: as a command without a type.
	How func(undo.Plan) (How, error)
}

// How is how a command goes that is made by the engine.
type How struct {
	Policy command.Policy    // zero fields take their defaults
	Terms  *command.Terms    // of its type; nil: none
	Hold   *command.Approval // what it waits for before it goes; nil: nothing
}

// Undo makes the command that takes another one back. Both name each other from the
// same commit on, and the guard looks at the device's state as it is in that commit,
// so that nothing comes between. A key that has made one already gives it back,
// whatever has become of it: who asks again after a restart takes nothing back twice.
// Unless it is forced the guard is asked once more when it is to be sent. It blocks
// until the command is durable. Errors: NotFound, KeyReused, those of How,
// and Conflict with an *undo.Refusal in its chain.
func (e *Engine) Undo(ctx context.Context, r UndoRequest) (Created, error) {
	j := &undoJob{req: r, reply: make(chan Created, 1)}
	if err := e.undoing(ctx, r.TID, &j.device, j); err != nil {
		return Created{}, err
	}
	select {
	case made := <-j.reply:
		return made, made.Err
	case <-ctx.Done():
		return Created{}, ctx.Err() // it may still be made
	}
}

// PlanUndo says what Undo would do now; it changes nothing. Errors: NotFound.
func (e *Engine) PlanUndo(ctx context.Context, tid command.TID) (undo.Plan, error) {
	j := &planJob{tid: tid, reply: make(chan planned, 1)}
	if err := e.undoing(ctx, tid, &j.device, j); err != nil {
		return undo.Plan{}, err
	}
	select {
	case p := <-j.reply:
		return p.plan, p.err
	case <-ctx.Done():
		return undo.Plan{}, ctx.Err()
	}
}

// undoing hands j to the shard of the command's device, which it tells j.
func (e *Engine) undoing(ctx context.Context, tid command.TID, device *wire.Address, j job) error {
	c, err := e.opt.Store.Command(ctx, tid)
	if err != nil {
		return err
	}
	*device = c.Device
	e.shard(c.Device).add(j)
	return nil
}

type undoJob struct {
	device wire.Address
	req    UndoRequest
	reply  chan Created
}

func (j *undoJob) needs(f func(command.TID)) { f(j.req.TID) }

func (j *undoJob) run(t *turn) {
	made := t.undoCommand(t.s.device(j.device), &j.req)
	t.after = append(t.after, func() { j.reply <- made })
}

func (j *undoJob) failed(err error) bool {
	j.reply <- Created{Err: err}
	return false
}

type planJob struct {
	tid    command.TID
	device wire.Address
	reply  chan planned
}

type planned struct {
	plan undo.Plan
	err  error
}

func (j *planJob) needs(f func(command.TID)) { f(j.tid) }

func (j *planJob) run(t *turn) {
	c, err := t.command(j.tid)
	var p planned
	if p.err = err; err == nil {
		p.plan, p.err = t.planUndo(t.s.device(j.device), &c)
	}
	t.after = append(t.after, func() { j.reply <- p })
}

func (j *planJob) failed(err error) bool {
	j.reply <- planned{err: err}
	return false
}

// undoCommand makes the command that takes back that of r, and links the two.
func (t *turn) undoCommand(d *device, r *UndoRequest) Created {
	fail := func(err error) Created { return Created{Err: err} }
	c, err := t.command(r.TID)
	if err != nil {
		return fail(err)
	}
	req := Request{Device: d.address, By: r.By, Rollout: r.Rollout, undoes: r}
	if r.Key != "" {
		// Looked up at once: what it has made before is in the way of a second one.
		req.Key, req.Digest = r.Key, "undo "+r.TID.String()
		if known, ok, err := t.known(&req, true); ok || err != nil {
			return Created{Command: known, Existed: ok, Err: err}
		}
	}
	plan, err := t.planUndo(d, &c)
	if err != nil {
		return fail(err)
	}
	if no := plan.Refusal; no != nil && !(no.Force && r.Force) {
		return fail(fault.Wrap(no, fault.Conflict, "%s", no.Text))
	}
	if r.How != nil {
		how, err := r.How(plan)
		if err != nil {
			return fail(err)
		}
		req.Policy, req.Terms, req.Hold = how.Policy, how.Terms, how.Hold
	}
	// Whether the old one takes the link is known before the new one is made: either
	// both have it or none.
	link := command.Event{Kind: command.Undo, By: r.By, Text: r.Why, UndoneBy: &r.TID}
	if _, _, err := command.Apply(c, link, t.now); err != nil {
		return fail(fault.Wrap(err, fault.Conflict, "%s", err))
	}
	req.Name, req.Params = plan.Name, plan.Params
	made := t.newCommand(&req)
	if made.Err != nil {
		return made
	}
	link.UndoneBy = &made.Command.TID
	if _, err := t.apply(d, c, link); err != nil {
		t.s.e.log.Error("a command that takes another back is not named by it", "tid", c.TID, "by", made.Command.TID, "error", err)
	}
	return made
}

// planUndo plans with all that the engine knows: the device's state, what has taken
// c back before, and what is on its way to the device.
func (t *turn) planUndo(d *device, c *command.Command) (undo.Plan, error) {
	ch, err := t.replica(d)
	if err != nil {
		return undo.Plan{}, err
	}
	p := undo.Of(c, &ch.Replica, t.requester)
	if c.UndoneBy != nil {
		first, err := t.command(*c.UndoneBy)
		switch no := undo.Again(&first); {
		case fault.CodeOf(err) == fault.NotFound: // purged; the state alone tells
		case err != nil:
			return undo.Plan{}, err
		case no != nil && (!no.Force || p.Refusal == nil):
			p.Refusal = no
		}
	}
	if p.Refusal == nil {
		p.Refusal, err = t.rival(d, c)
	}
	if p.Refusal == nil && err == nil {
		p.Refusal, err = t.echo(d, c, &ch.Replica)
	}
	return p, err
}

// maxEchoes bounds the commands of a device that are looked through for one that has
// asked for the same: the last ones.
const maxEchoes = 1000

// echo refuses when a command that came after c, and has ended, asked for the values
// that c has brought about.
func (t *turn) echo(d *device, c *command.Command, now *replica.Replica) (*undo.Refusal, error) {
	for _, ch := range t.order { // what the store does not have yet
		if ch.is.Device == d.address {
			if no, err := t.wished(c, &ch.is, now); no != nil || err != nil {
				return no, err
			}
		}
	}
	later, _, err := t.s.e.opt.Store.List(context.Background(), store.Query{Group: d.address.Group, Device: d.address.Device,
		Since: c.Created, States: []command.State{command.Executed, command.TimedOut}, Limit: maxEchoes})
	if err != nil {
		return nil, err
	}
	for i := range later {
		if no, err := t.wished(c, &later[i], now); no != nil || err != nil {
			return no, err
		}
	}
	return nil, nil
}

// wished refuses when other asked for what c has brought about, and that has not been
// taken back and is not about to be.
func (t *turn) wished(c, other *command.Command, now *replica.Replica) (*undo.Refusal, error) {
	no := undo.Echo(c, other, now)
	if no == nil || other.UndoneBy == nil {
		return no, nil
	}
	back, err := t.command(*other.UndoneBy)
	switch {
	case fault.CodeOf(err) == fault.NotFound: // purged
		return nil, nil
	case err != nil || undo.Again(&back) != nil:
		return nil, err
	}
	return no, nil
}

// requester is who asked for the command that a report names.
func (t *turn) requester(tid string) string {
	id, err := uuid.Parse(tid)
	if err != nil {
		return ""
	}
	c, err := t.command(id)
	if err != nil {
		return "" // no command of ours: the device may write there what it likes
	}
	return c.RequestedBy
}

// rival refuses when a command that has not ended changes the same values: what
// takes c back would be sent behind it, and take that back as well.
func (t *turn) rival(d *device, c *command.Command) (*undo.Refusal, error) {
	paths := effects(c)
	for _, list := range [][]command.TID{d.lane.InFlight(), d.lane.Queued(), d.lane.Unsettled()} {
		for some := range slices.Chunk(list, maxTurn) {
			if err := t.fetch(some); err != nil {
				return nil, err
			}
			for _, tid := range some {
				other, err := t.command(tid)
				if err != nil {
					return nil, err
				}
				if no := undo.Rival(c, &other, paths, effects(&other)); no != nil {
					return no, nil
				}
			}
		}
	}
	return nil, nil
}

// overruled says that c, which takes another command back, must not be sent any more:
// while it waited somebody else has changed the same values.
func (t *turn) overruled(d *device, c *command.Command) (ev command.Event, yes bool, err error) {
	if c.Undoes == nil || c.Forced || c.State != command.Created || !t.now.Before(c.NotAfter) {
		return ev, false, nil
	}
	old, err := t.command(*c.Undoes)
	if fault.CodeOf(err) == fault.NotFound {
		return ev, false, nil // purged
	}
	if err != nil {
		return ev, false, err
	}
	ch, err := t.replica(d)
	if err != nil {
		return ev, false, err
	}
	p := undo.Of(&old, &ch.Replica, t.requester)
	for i := range p.Changes {
		if now := &p.Changes[i]; now.Foreign && now.TID != c.TID.String() { // its own wish is desired already
			return command.Event{Kind: command.UnmetNow, Because: command.ChangedSince, Text: now.String()}, true, nil
		}
	}
	no, err := t.echo(d, &old, &ch.Replica)
	if no != nil {
		ev = command.Event{Kind: command.UnmetNow, Because: command.ChangedSince, Text: no.Text}
	}
	return ev, no != nil, err
}

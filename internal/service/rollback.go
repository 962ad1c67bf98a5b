package service

import (
	"context"
	"errors"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/undo"
)

// Rollback is what taking a command back would do now. Its Refusal is also that of
// the type, the rights and the device.
type Rollback struct {
	undo.Plan
	Command command.Command   // the one to be taken back
	Hold    *command.Approval // what the new command would wait for; nil: nothing
}

// RollbackOptions say how a command is taken back.
type RollbackOptions struct {
	Force bool   // also what others have changed since; needs Why
	Why   string // for the timelines of both commands
	Key   string // idempotency key, unique within the device; "": none
	// Rollout is the id of the roll-out that is taken back by the new command; "": none.
	Rollout string
}

// PlanRollback says what Rollback would do for p now, and what is in the way. It
// changes nothing; who may look at the command may ask.
func (s *Service) PlanRollback(ctx context.Context, p Principal, tid command.TID) (Rollback, error) {
	c, err := s.Command(ctx, p, tid)
	if err != nil {
		return Rollback{}, err
	}
	plan, err := s.opt.Engine.PlanUndo(ctx, tid)
	if err != nil {
		return Rollback{}, done(err)
	}
	r := Rollback{Plan: plan, Command: c}
	if plan.Name == "" {
		return r, nil
	}
	how, err := s.undoing(p, &c, &plan)
	if err != nil && (r.Refusal == nil || r.Refusal.Force) {
		f := fault.From(err)
		r.Refusal = &undo.Refusal{Text: f.Public()}
		if f.Field != "" {
			r.Refusal.Text = f.Field + ": " + f.Public()
		}
	}
	r.Hold = how.Hold
	return r, nil
}

// Rollback makes the command that brings back what the device reported before tid
// was first sent. With a key that has done so already that command is returned, and
// Existed. Errors: NotFound, Forbidden, KeyReused; Conflict when it cannot be taken
// back, or others have changed the same values since and Force is not said; Invalid
// when the former values do not fit the command's type any more.
func (s *Service) Rollback(ctx context.Context, p Principal, tid command.TID, o RollbackOptions) (Created, error) {
	c, err := s.mayMove(ctx, p, Operator, tid, o.Why)
	if err != nil {
		return Created{}, err
	}
	if o.Force && o.Why == "" {
		return Created{}, fault.Field("reason", "missing; say why it is forced")
	}
	if err := checkKey(o.Key); err != nil {
		return Created{}, err
	}
	out := Created{}
	how := func(plan undo.Plan) (engine.How, error) {
		return s.undoing(p, &c, &plan)
	}
	out.Created, err = s.opt.Engine.Undo(ctx, engine.UndoRequest{TID: tid, By: p.Name, Why: o.Why, Force: o.Force, Key: o.Key,
		Rollout: o.Rollout, How: how})
	if no := (*undo.Refusal)(nil); errors.As(err, &no) && no.Force {
		err = fault.Wrap(err, fault.Conflict, "%s; look at it, and force it with a reason if it shall be taken back all the same", no.Text)
	}
	return out, done(err)
}

// undoing says how the command of a plan goes that takes back c: by its type, as any
// command. A change of desired state has none; then people must agree as they had to
// for what is taken back.
func (s *Service) undoing(p Principal, c *command.Command, plan *undo.Plan) (engine.How, error) {
	if err := may(p, Operator, c.Device.Group, plan.Name); err != nil {
		return engine.How{}, err
	}
	return s.howToUndo(c, plan)
}

// howToUndo is undoing without the rights.
func (s *Service) howToUndo(c *command.Command, plan *undo.Plan) (engine.How, error) {
	d, err := s.mayTake(c.Device)
	if err != nil {
		return engine.How{}, err
	}
	o := Order{Device: c.Device, Name: plan.Name, Params: plan.Params}
	planner := planner{s: s, count: map[string]int{plan.Name: 1}}
	by, err := planner.of(&o, &d)
	if err == nil {
		err = s.supported(&o)
	}
	if err == nil {
		by.terms, err = s.fits(&o, &d, by.terms)
	}
	if err != nil {
		return engine.How{}, err
	}
	if plan.Name != c.Name {
		if item, ok := s.opt.Types.Version(c.Name, 0); ok {
			by.hold = s.hold(item, &Order{Device: c.Device, Name: c.Name, Params: c.Params}, &d, 1)
		}
	}
	return engine.How{Policy: by.policy, Terms: by.terms, Hold: by.hold}, nil
}

package engine

import (
	"errors"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/replica"
	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// StateDesired is the name of the command that changes what is desired of a
// device; its params are the merge patch. It changes the desired document when it
// is made, or when it is approved, in the same commit; it is executed when the
// device's report has what the patch asks for. Its end takes nothing back: what is
// desired stays so until somebody desires otherwise.
const StateDesired = wire.StateDesired

// desired checks a request that changes what is desired, and does so unless c
// waits for approval.
func (t *turn) desired(d *device, c *command.Command, ifVersion *int64) error {
	patch, err := state.Parse(c.Params)
	if err != nil {
		return badParams(err)
	}
	if len(patch) == 0 {
		return fault.Field("params", "is empty; say what is desired")
	}
	ch, err := t.replica(d)
	if err != nil {
		return err
	}
	r, rev, err := ch.Desire(replica.Change{Patch: patch, By: c.RequestedBy, TID: c.TID.String(), IfVersion: ifVersion}, t.now)
	var conflict *replica.ConflictError
	switch {
	case errors.As(err, &conflict):
		return &fault.Error{Code: fault.Changed, Field: "If-Match", Message: conflict.Error()}
	case err != nil:
		return badParams(err)
	}
	if rev != nil && c.State == command.Created {
		t.revise(ch, r, rev)
	}
	return nil
}

func badParams(err error) error {
	var se *state.Error
	if errors.As(err, &se) {
		field := "params"
		if se.Path != "" {
			field += "." + se.Path
		}
		return fault.Field(field, "%s", se.Text)
	}
	return err
}

// approved changes what is desired, now that c need not wait any more.
func (t *turn) approved(d *device, c *command.Command) {
	if _, ok := t.s.e.opt.Directory.Device(d.address); !ok {
		return // removed: there is no state to be changed
	}
	if err := t.desired(d, c, nil); err != nil {
		t.s.e.log.Error("an approved change of the desired state could not be made; the command goes on", "tid", c.TID, "error", err)
	}
}

// asks gives what c asks the device's reported state to have; nil when that is nothing.
func asks(c *command.Command) state.Object {
	if c.Name != StateDesired {
		return nil
	}
	patch, err := state.Parse(c.Params)
	if err != nil {
		return nil // made by a server that did not know the name
	}
	return patch
}

// effects lists the paths that c says it changes: those that its type declares, else
// what its patch names.
func effects(c *command.Command) (paths []string) {
	for _, e := range c.Effects() {
		paths = append(paths, e.Path)
	}
	if paths == nil {
		for path := range asks(c).Leaves() {
			paths = append(paths, path)
		}
	}
	return paths
}

// shown completes the word that c is done with what the device's report has of it.
func (t *turn) shown(d *device, c *command.Command, ev *command.Event) error {
	patch := asks(c)
	if ev.Kind != command.Succeeded || patch == nil {
		return nil
	}
	ch, err := t.replica(d)
	if err == nil {
		ev.Unconverged = !state.Within(patch, ch.Reported)
	}
	return err
}

// followReport does what a report asks for: it ends commands, and what has
// drifted away from what is desired is asked for anew. What was outstanding
// before is not said again with each report.
func (t *turn) followReport(ch *replicaChange) {
	if !ch.reported {
		return // what was reported before says nothing of what was sent since
	}
	t.settleByReport(ch)
	if ch.drifted {
		t.sayDelta(ch, t.outstanding(ch), "")
	}
	ch.reported, ch.drifted = false, false
}

// settleByReport ends the commands that are on their way and whose patch the
// device has now reported, whether it has said so or only knows the delta.
func (t *turn) settleByReport(ch *replicaChange) {
	d := ch.device
	for _, list := range [][]command.TID{d.lane.InFlight(), d.lane.Unsettled()} {
		for _, tid := range append([]command.TID(nil), list...) {
			c, err := t.command(tid)
			if err != nil {
				t.s.e.log.Error("a command cannot be read, and so not compared with a report; its clocks go on", "tid", tid, "error", err)
				continue
			}
			if patch := asks(&c); patch == nil || !state.Within(patch, ch.Reported) {
				continue
			}
			ev := command.Event{Kind: command.Succeeded, Reported: true, By: "server", Text: "the device's report has it"}
			if _, err := t.apply(d, c, ev); err != nil {
				t.s.e.log.Error("a command could not be settled by a report", "tid", tid, "error", err)
			}
		}
	}
}

// deltaOf publishes what c asks for on the delta topic too, for firmware that
// knows nothing else.
func (t *turn) deltaOf(d *device, c *command.Command) {
	patch := asks(c)
	if patch == nil {
		return
	}
	if ch, err := t.replica(d); err == nil {
		t.sayDelta(ch, state.Delta(state.Merge(nil, patch), ch.Reported), c.TID.String())
	}
}

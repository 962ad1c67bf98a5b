package engine

import (
	"github.com/wilco-iot/wilco/internal/command"
)

// maxHeld bounds the commands of one device that its terms hold: each is looked at
// again whenever something happens to the device. What comes behind them waits.
const maxHeld = 64

// hindered says what becomes of a command whose turn has come: Dispatch, or
// UnmetNow when its condition does not hold of what the device has reported, or
// others have the places that it needs. Free is false when it must stay where it is,
// at the head of the queue. Places are asked for last: who has one goes.
func (t *turn) hindered(d *device, c *command.Command) (ev command.Event, free bool, err error) {
	ev = command.Event{Kind: command.Dispatch}
	terms := c.Terms
	if terms == nil || c.State != command.Created {
		return ev, true, nil
	}
	if !t.now.Before(c.NotAfter) {
		return ev, true, nil // it expires
	}
	aside := terms.Unmet != command.Hold || len(d.lane.Held()) < maxHeld
	if terms.If != nil {
		ch, err := t.replica(d)
		if err != nil {
			return ev, false, err
		}
		if unmet := terms.If.Check(ch.AsOf(t.now)); unmet != nil {
			return command.Event{Kind: command.UnmetNow, Because: command.PreconditionUnmet, Text: unmet.Error()}, aside, nil
		}
	}
	if full, err := t.windowFull(d, c); full || err != nil {
		return ev, false, err
	}
	if c.Interlocked() {
		if why, ok := t.place(d, c); !ok {
			return command.Event{Kind: command.UnmetNow, Because: command.NoPlace, Text: why}, aside, nil
		}
	}
	return ev, true, nil
}

// windowFull says whether as many commands of c's name are in flight on d as its
// type allows.
func (t *turn) windowFull(d *device, c *command.Command) (bool, error) {
	if c.Terms.Window == 0 {
		return false, nil
	}
	same := 0
	for _, tid := range d.lane.InFlight() {
		other, err := t.command(tid)
		if err != nil {
			return false, err
		}
		if other.Name == c.Name {
			same++
		}
	}
	return same >= c.Terms.Window, nil
}

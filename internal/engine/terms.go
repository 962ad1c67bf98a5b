package engine

import (
	"github.com/wilco-iot/wilco/internal/command"
)

// maxHeld bounds the commands of one device that its terms hold: each is looked at
// again whenever something happens to the device. What comes behind them waits.
const maxHeld = 64

// hindered says what becomes of a command whose turn has come: Dispatch, or
// UnmetNow when its condition does not hold of what the device has reported. Free is
// false when it must stay where it is, at the head of the queue.
func (t *turn) hindered(d *device, c *command.Command) (ev command.Event, free bool, err error) {
	ev = command.Event{Kind: command.Dispatch}
	terms := c.Terms
	if terms == nil || c.State != command.Created {
		return ev, true, nil
	}
	if terms.If != nil && t.now.Before(c.NotAfter) {
		ch, err := t.replica(d)
		if err != nil {
			return ev, false, err
		}
		if unmet := terms.If.Check(ch.AsOf(t.now)); unmet != nil {
			held := terms.Unmet != command.Hold || len(d.lane.Held()) < maxHeld
			return command.Event{Kind: command.UnmetNow, Because: command.PreconditionUnmet, Text: unmet.Error()}, held, nil
		}
	}
	if terms.Window > 0 {
		same := 0
		for _, tid := range d.lane.InFlight() {
			other, err := t.command(tid)
			if err != nil {
				return ev, false, err
			}
			if other.Name == c.Name {
				same++
			}
		}
		return ev, same < terms.Window, nil
	}
	return ev, true, nil
}

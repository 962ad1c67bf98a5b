package engine

import (
	"testing"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire/state"
)

// ask makes a command with terms.
func (r *rig) ask(name string, terms *command.Terms) command.Command {
	r.t.Helper()
	out, err := r.e.Create(r.t.Context(), []Request{{Device: valve, Name: name, By: "ann", Terms: terms, Policy: command.Defaults}})
	if err == nil {
		err = out[0].Err
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return out[0].Command
}

func closedDoor(unmet command.Unmet) *command.Terms {
	return &command.Terms{TypeVersion: 1, If: &state.Condition{Path: "door", Op: state.Eq, Value: "closed"}, Unmet: unmet}
}

// TestAHeldCommandLetsOthersPass and goes when the report that it waits for comes,
// also over a restart.
func TestAHeldCommandLetsOthersPass(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		r.reports(`{"door":"open"}`)
		held := r.ask("start", closedDoor(command.Hold))
		r.pass(0)
		if c := r.expect(held.TID, command.Created, command.PreconditionUnmet); !c.Held || c.Detail != `door is "open", must be "closed"` {
			t.Errorf("%+v", c)
		}
		other := r.ask("close", nil)
		r.pass(0)
		r.expect(other.TID, command.Sent, command.TurnCame)
		r.answer(valve, other.TID.String(), "result", "SUCCESS")
		r.reports(`{"door":"ajar"}`)
		if c := r.expect(held.TID, command.Created, command.PreconditionUnmet); c.Version != 2 {
			t.Errorf("it was written anew each time it was looked at: version %d", c.Version)
		}
		r.stop()
		r.restart()
		r.online(valve, "b1")
		r.expect(held.TID, command.Created, command.PreconditionUnmet)
		r.reports(`{"door":"closed"}`)
		if c := r.expect(held.TID, command.Sent, command.TurnCame); c.Held {
			t.Error("still held")
		}
	})
}

func TestARefusedConditionEndsIt(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		c := r.ask("start", closedDoor("")) // nothing was ever reported
		r.pass(0)
		r.expect(c.TID, command.Denied, command.PreconditionUnmet)
		r.reports(`{"door":"closed"}`)
		c = r.ask("start", closedDoor(""))
		r.pass(0)
		r.expect(c.TID, command.Sent, command.TurnCame)
	})
}

// TestHeldCommandsAreBounded: what comes behind as many as are looked at waits in
// its place, and nothing is lost.
func TestHeldCommandsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.change(valve, func(d *store.Device) { d.Window = 1000 })
		r.online(valve, "b1")
		var all []command.Command
		for range maxHeld + 5 {
			all = append(all, r.ask("start", closedDoor(command.Hold)))
		}
		r.pass(0)
		r.expect(all[maxHeld-1].TID, command.Created, command.PreconditionUnmet)
		r.expect(all[maxHeld].TID, command.Created, command.Requested)
		r.reports(`{"door":"closed"}`)
		for i := range all {
			r.expect(all[i].TID, command.Sent, command.TurnCame)
		}
	})
}

// TestTheWindowOfAType keeps the order: what is behind the one that waits, waits.
func TestTheWindowOfAType(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.change(valve, func(d *store.Device) { d.Window = 10 })
		r.online(valve, "b1")
		terms := &command.Terms{TypeVersion: 1, Window: 2}
		a, b, c, d := r.ask("move", terms), r.ask("move", terms), r.ask("move", terms), r.ask("look", nil)
		r.pass(0)
		r.expect(a.TID, command.Sent, command.TurnCame)
		r.expect(b.TID, command.Sent, command.TurnCame)
		r.expect(c.TID, command.Created, command.Requested)
		r.expect(d.TID, command.Created, command.Requested)
		r.answer(valve, b.TID.String(), "result", "SUCCESS")
		r.pass(0)
		r.expect(c.TID, command.Sent, command.TurnCame)
		r.expect(d.TID, command.Sent, command.TurnCame)
	})
}

// TestTheHighestPriorityGoesFirst, and of one priority the oldest, also over a
// restart.
func TestTheHighestPriorityGoesFirst(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var want [4]command.Command
		want[2] = r.ask("a", nil)
		want[3] = r.ask("b", &command.Terms{Priority: -1})
		want[0] = r.ask("c", &command.Terms{Priority: 2})
		want[1] = r.ask("d", &command.Terms{Priority: 2})
		r.stop()
		r.restart()
		r.online(valve, "b1")
		for _, c := range want {
			r.expect(c.TID, command.Sent, command.TurnCame)
			r.answer(valve, c.TID.String(), "result", "SUCCESS")
		}
	})
}

// TestTheConditionGoesAlong, so that the device can ask again; what it then refuses
// is told as what it is.
func TestTheConditionGoesAlong(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		r.reports(`{"door":"closed"}`)
		c := r.ask("start", closedDoor(""))
		r.pass(0)
		docs := r.link.take()
		if len(docs) != 1 || string(docs[0].If) != `{"eq":"closed","path":"door"}` {
			t.Fatalf("%+v", docs)
		}
		r.says(valve, "result", `{"tid":"`+c.TID.String()+`","status":"REJECTED","reason":{"code":"precondition_unmet","text":"door is open"}}`, "r")
		r.expect(c.TID, command.Rejected, command.PreconditionUnmet)
	})
}

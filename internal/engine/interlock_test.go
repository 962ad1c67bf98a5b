package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// press names one of many devices, which are in both shards.
func press(n int) wire.Address {
	return wire.Address{Group: "plant", Device: fmt.Sprintf("press-%d", n)}
}

// presses registers n devices that are online.
func (r *rig) presses(n int) {
	for i := range n {
		r.register(press(i), 1)
		r.online(press(i), "b1")
	}
}

// askOf makes a command with terms for a device.
func (r *rig) askOf(a wire.Address, name string, terms *command.Terms) command.Command {
	r.t.Helper()
	out, err := r.e.Create(r.t.Context(), []Request{{Device: a, Name: name, By: "ann", Terms: terms, Policy: command.Defaults}})
	if err == nil {
		err = out[0].Err
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.pass(0)
	return out[0].Command
}

func atMost(n int, unmet command.Unmet) *command.Terms {
	return &command.Terms{TypeVersion: 1, AtMost: &command.AtMost{Count: n}, Unmet: unmet}
}

func exclusive(word string, unmet command.Unmet) *command.Terms {
	return &command.Terms{TypeVersion: 1, Exclusive: word, Unmet: unmet}
}

// TestPlacesAreGivenInTheOrderOfTheLine, the highest priority first, over devices
// of several shards.
func TestPlacesAreGivenInTheOrderOfTheLine(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.presses(6)
		terms := atMost(2, command.Hold)
		var all []command.Command
		for i := range 5 {
			all = append(all, r.askOf(press(i), "drill", terms))
		}
		urgent := *terms
		urgent.Priority = 1
		all = append(all, r.askOf(press(5), "drill", &urgent))
		for i, next := range []int{5, 2, 3, 4} {
			c := r.expect(all[next].TID, command.Created, command.NoPlace)
			if !c.Held || next == 2 && c.Detail != fmt.Sprintf("at most 2 of drill, group plant: taken by plant/press-0 (%s), plant/press-1 (%s)", all[0].TID, all[1].TID) {
				t.Errorf("%+v", c)
			}
			ends := []int{0, 5, 1, 2}[i]
			r.expect(all[ends].TID, command.Sent, command.TurnCame)
			r.answer(press(ends), all[ends].TID.String(), "result", "SUCCESS")
			r.expect(all[next].TID, command.Sent, command.TurnCame)
		}
	})
}

func TestARefusedInterlockNamesWhoHasThePlace(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.presses(2)
		first := r.askOf(press(0), "lift", exclusive("crane", ""))
		second := r.askOf(press(1), "turn", exclusive("crane", ""))
		c := r.expect(second.TID, command.Denied, command.NoPlace)
		if want := fmt.Sprintf("exclusive crane, group plant: taken by plant/press-0 (%s)", first.TID); c.Detail != want {
			t.Errorf("%q, want %q", c.Detail, want)
		}
		other := wire.Address{Group: "other", Device: "press"}
		r.register(other, 1)
		r.online(other, "b1")
		r.expect(r.askOf(other, "lift", exclusive("crane", "")).TID, command.Sent, command.TurnCame)
	})
}

// TestOnOneDeviceAPlacePassesOn: commands that wait for one another anyway are not
// refused for the place of the one before.
func TestOnOneDeviceAPlacePassesOn(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.presses(1)
		a, b := r.askOf(press(0), "lift", exclusive("crane", "")), r.askOf(press(0), "lift", exclusive("crane", ""))
		r.expect(b.TID, command.Created, command.Requested)
		r.answer(press(0), a.TID.String(), "result", "SUCCESS")
		r.expect(b.TID, command.Sent, command.TurnCame)
	})
}

// TestADeviceThatIsAwayStandsInNoLine, and finds its place again when it is back.
func TestADeviceThatIsAwayStandsInNoLine(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.presses(4)
		terms := exclusive("crane", command.Hold)
		a, b, c, d := r.askOf(press(0), "lift", terms), r.askOf(press(1), "lift", terms), r.askOf(press(2), "lift", terms), r.askOf(press(3), "lift", terms)
		r.says(press(1), "status", `{"online":false,"boot":"b1"}`, "status")
		r.answer(press(0), a.TID.String(), "result", "SUCCESS")
		r.expect(c.TID, command.Sent, command.TurnCame)
		r.online(press(1), "b1")
		r.expect(b.TID, command.Created, command.NoPlace)
		r.answer(press(2), c.TID.String(), "result", "SUCCESS")
		r.expect(b.TID, command.Sent, command.TurnCame)
		r.expect(d.TID, command.Created, command.NoPlace)
	})
}

// TestABusyDeviceGivesItsPlaceOn: a held command lets others of its device pass, and
// what they keep it from sending keeps no place.
func TestABusyDeviceGivesItsPlaceOn(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.presses(3)
		terms := exclusive("crane", command.Hold)
		a, b, c := r.askOf(press(0), "lift", terms), r.askOf(press(1), "lift", terms), r.askOf(press(2), "lift", terms)
		busy := r.askOf(press(1), "wash", nil)
		r.expect(busy.TID, command.Sent, command.TurnCame)
		r.answer(press(0), a.TID.String(), "result", "SUCCESS")
		r.expect(b.TID, command.Created, command.NoPlace)
		r.expect(c.TID, command.Sent, command.TurnCame)
		r.answer(press(1), busy.TID.String(), "result", "SUCCESS")
		r.expect(b.TID, command.Created, command.NoPlace)
		r.answer(press(2), c.TID.String(), "result", "SUCCESS")
		r.expect(b.TID, command.Sent, command.TurnCame)
	})
}

// TestAnUnknownOutcomeKeepsItsPlace until it is settled or its window closes, also
// over a restart; and what waits for it may expire meanwhile.
func TestAnUnknownOutcomeKeepsItsPlace(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.presses(3)
		terms := exclusive("crane", command.Hold)
		a := r.askOf(press(0), "lift", terms)
		b := r.askOf(press(1), "lift", terms)
		r.pass(30 * time.Minute)
		if c, err := r.store.Command(t.Context(), a.TID); err != nil || c.State != command.TimedOut {
			t.Fatalf("%s, %v", c.State, err)
		}
		r.stop()
		r.restart()
		r.online(press(1), "b1")
		r.expect(b.TID, command.Created, command.NoPlace)
		r.pass(23*time.Hour + 31*time.Minute)
		r.expect(b.TID, command.Expired, command.DeliverByPassed)
		c := r.askOf(press(2), "lift", terms)
		r.expect(c.TID, command.Created, command.NoPlace)
		r.pass(10 * time.Minute)
		if c, err := r.store.Command(t.Context(), a.TID); err != nil || !c.Closed {
			t.Fatalf("%+v, %v", c, err)
		}
		if c, err := r.store.Command(t.Context(), c.TID); err != nil || c.FirstSent.IsZero() {
			t.Fatalf("%+v, %v", c, err)
		}
	})
}

// TestWhatCannotBeReadMayHaveThePlace: after a restart nobody is given one until the
// commands that have them are all known.
func TestWhatCannotBeReadMayHaveThePlace(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.presses(3)
		terms := exclusive("crane", command.Hold)
		a := r.askOf(press(0), "lift", terms)
		r.expect(a.TID, command.Sent, command.TurnCame)
		r.stop()
		r.store.damage(a.TID)
		r.restart()
		b := r.askOf(press(1), "lift", terms)
		refused := r.askOf(press(2), "lift", exclusive("crane", ""))
		r.pass(time.Minute)
		c := r.expect(b.TID, command.Created, command.NoPlace)
		if !c.Held || !strings.Contains(c.Detail, a.TID.String()) {
			t.Errorf("%+v", c)
		}
		r.expect(refused.TID, command.Denied, command.NoPlace)
		r.store.damage(command.TID{})
		r.pass(time.Minute)
		r.expect(b.TID, command.Created, command.NoPlace)
		r.answer(press(0), a.TID.String(), "result", "SUCCESS")
		r.expect(b.TID, command.Sent, command.TurnCame)
	})
}

// TestPlacesAreGivenWhenAllIsRead, also those that nobody has.
func TestPlacesAreGivenWhenAllIsRead(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.presses(3)
		a := r.askOf(press(0), "lift", exclusive("crane", command.Hold))
		r.stop()
		r.store.damage(a.TID)
		r.restart()
		b, c := r.askOf(press(1), "drill", atMost(1, command.Hold)), r.askOf(press(2), "drill", atMost(1, command.Hold))
		r.expect(b.TID, command.Created, command.NoPlace)
		r.store.damage(command.TID{})
		r.pass(time.Second)
		r.expect(b.TID, command.Sent, command.TurnCame)
		r.answer(press(1), b.TID.String(), "result", "SUCCESS")
		r.expect(c.TID, command.Sent, command.TurnCame)
	})
}

func TestACancelledCommandLeavesTheLine(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.presses(3)
		terms := exclusive("crane", command.Hold)
		a, b, c := r.askOf(press(0), "lift", terms), r.askOf(press(1), "lift", terms), r.askOf(press(2), "lift", terms)
		if _, err := r.e.Cancel(t.Context(), b.TID, "ann", ""); err != nil {
			t.Fatal(err)
		}
		r.answer(press(0), a.TID.String(), "result", "SUCCESS")
		r.expect(c.TID, command.Sent, command.TurnCame)
	})
}

// TestAConditionIsAskedBeforeThePlace: what must not go yet takes no place from others.
func TestAConditionIsAskedBeforeThePlace(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.presses(2)
		r.online(valve, "b1")
		terms := *exclusive("crane", command.Hold)
		terms.If = &state.Condition{Path: "door", Op: state.Eq, Value: "closed"}
		shut := r.askOf(valve, "lift", &terms)
		r.expect(shut.TID, command.Created, command.PreconditionUnmet)
		a := r.askOf(press(0), "lift", exclusive("crane", command.Hold))
		r.expect(a.TID, command.Sent, command.TurnCame)
		r.reports(`{"door":"closed"}`)
		r.expect(shut.TID, command.Created, command.NoPlace)
		r.answer(press(0), a.TID.String(), "result", "SUCCESS")
		r.expect(shut.TID, command.Sent, command.TurnCame)
	})
}

// TestACommitThatFailsKeepsNoPlace, neither for a command that was not made nor for
// one that was not sent; what it would have sent is sent all the same.
func TestACommitThatFailsKeepsNoPlace(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.presses(2)
		lost := func(a wire.Address, terms *command.Terms) {
			t.Helper()
			r.store.failWith(errors.New("disk"))
			out, err := r.e.Create(t.Context(), []Request{{Device: a, Name: "lift", Terms: terms}})
			if err != nil || out[0].Err == nil {
				t.Fatal(out, err)
			}
			r.store.failWith(nil)
		}
		lost(press(0), exclusive("crane", ""))
		r.expect(r.askOf(press(1), "lift", exclusive("crane", "")).TID, command.Sent, command.TurnCame)

		r.expect(r.askOf(press(0), "wash", nil).TID, command.Sent, command.TurnCame)
		behind := r.askOf(press(0), "drill", exclusive("power", ""))
		r.expect(behind.TID, command.Created, command.Requested)
		r.change(press(0), func(d *store.Device) { d.Window = 2 })
		lost(press(0), nil)
		r.pass(time.Second)
		r.expect(behind.TID, command.Sent, command.TurnCame)
	})
}

// TestPlacesOverFaults: commits fail, devices come and go, the process dies between
// any two commits; at no commit has anybody a place too many, and in the end every
// command has had its turn.
func TestPlacesOverFaults(t *testing.T) {
	const devices, commands, limit = 8, 40, 2
	bubble(t, func(t *testing.T, r *rig) {
		rnd := rand.New(rand.NewPCG(1, 2))
		busy := map[command.TID]command.Command{} // what the store has as outstanding
		r.store.after = func(b *store.Batch) {
			for _, w := range b.Commands {
				delete(busy, w.Command.TID)
				if w.Command.Outstanding() {
					busy[w.Command.TID] = w.Command
				}
			}
			words := 0
			for _, c := range busy {
				if c.Terms.Exclusive != "" {
					words++
				}
			}
			if len(busy) > limit || words > 1 {
				t.Errorf("%d are outstanding, %d of them exclusive", len(busy), words)
			}
		}
		r.presses(devices)
		all := make([]command.Command, commands)
		for i := range all {
			terms := *atMost(limit, command.Hold)
			terms.Priority = rnd.IntN(3)
			if i%3 == 0 {
				terms.Exclusive = "crane"
			}
			all[i] = r.askOf(press(rnd.IntN(devices)), "drill", &terms)
		}
		for round := 0; r.unfinished(all); round++ {
			if round > 400 {
				t.Fatal("some never had their turn")
			}
			a := press(rnd.IntN(devices))
			switch rnd.IntN(8) {
			case 0:
				r.store.failWith(errors.New("disk"))
				r.online(a, "b1")
				r.execute(a)
				if rnd.IntN(2) == 0 {
					r.stop()
					r.store.failWith(nil)
					r.restart()
				}
				r.store.failWith(nil)
				r.pass(2 * time.Second)
			case 1:
				r.says(a, "status", `{"online":false,"boot":"b1"}`, "status")
			case 2:
				r.stop()
				r.restart()
			default:
				r.online(a, "b1")
				r.execute(a)
			}
		}
	})
}

// execute answers for everything that is outstanding on a device.
func (r *rig) execute(a wire.Address) {
	page, _, err := r.store.List(r.t.Context(), store.Query{Group: a.Group, Device: a.Device,
		States: []command.State{command.Sent, command.TimedOut}})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, c := range page {
		r.answer(a, c.TID.String(), "result", "SUCCESS")
	}
}

func (r *rig) unfinished(all []command.Command) bool {
	for _, c := range all {
		now, err := r.store.Command(r.t.Context(), c.TID)
		if err != nil {
			r.t.Fatal(err)
		}
		if now.State != command.Executed {
			return true
		}
	}
	return false
}

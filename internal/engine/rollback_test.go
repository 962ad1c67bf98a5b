package engine

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/undo"
)

// moves are the terms of a type that says what it changes.
var moves = &command.Terms{TypeVersion: 1, Effects: []command.PathEffect{{Path: "pos", Param: "to"}}}

// byType is how commands of that type go.
func byType(hold *command.Approval) func(undo.Plan) (How, error) {
	return func(p undo.Plan) (How, error) {
		if p.Name != "move" {
			return How{}, fmt.Errorf("%s is no command of the type", p.Name)
		}
		return How{Terms: moves, Hold: hold}, nil
	}
}

// move asks the valve to go somewhere; nothing answers yet.
func (r *rig) move(params string) command.Command {
	r.t.Helper()
	out, err := r.e.Create(r.t.Context(), []Request{{Device: valve, Name: "move", By: "ann", Terms: moves, Params: []byte(params)}})
	if err == nil {
		err = out[0].Err
	}
	if err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
	return out[0].Command
}

// does answers SUCCESS, with the state.
func (r *rig) does(tid command.TID, state string) {
	r.says(valve, "result", `{"tid":"`+tid.String()+`","status":"SUCCESS","state":`+state+`}`, "result")
}

// moved is a valve that was at 10 and has been sent to 40.
func (r *rig) moved() command.Command {
	r.t.Helper()
	r.online(valve, "b1")
	r.reports(`{"pos":10}`)
	c := r.move(`{"to":40}`)
	r.does(c.TID, `{"pos":40}`)
	r.link.take()
	return r.expect(c.TID, command.Executed, command.DeviceSucceeded)
}

func (r *rig) undo(req UndoRequest) (Created, error) {
	r.t.Helper()
	if req.By == "" {
		req.By = "bo"
	}
	made, err := r.e.Undo(r.t.Context(), req)
	synctest.Wait()
	return made, err
}

func (r *rig) mustUndo(req UndoRequest) command.Command {
	r.t.Helper()
	made, err := r.undo(req)
	if err != nil {
		r.t.Fatal(err)
	}
	return made.Command
}

// TestWhoAskedForTheSame since has a wish too, though nothing changed by it.
func TestWhoAskedForTheSame(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		first := r.moved()
		second := r.move(`{"to":40}`)
		r.does(second.TID, `{"pos":40}`)
		r.refused(UndoRequest{TID: first.TID, How: byType(nil)}, second.TID.String())
		plan, err := r.e.PlanUndo(t.Context(), first.TID)
		if err != nil || plan.Refusal == nil || !plan.Refusal.Force {
			t.Fatalf("%+v, %v", plan.Refusal, err)
		}
		made := r.mustUndo(UndoRequest{TID: first.TID, Force: true, How: byType(nil)})
		r.expect(made.TID, command.Sent, command.TurnCame)
	})
}

// TestAWishStandsWhenItsRollbackWasDenied: only what has been taken back is none any more.
func TestAWishStandsWhenItsRollbackWasDenied(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		first := r.moved()
		between := r.move(`{"to":30}`)
		r.does(between.TID, `{"pos":30}`)
		second := r.move(`{"to":40}`)
		r.does(second.TID, `{"pos":40}`)
		held := r.mustUndo(UndoRequest{TID: second.TID, How: byType(&command.Approval{Quorum: 1})})
		if _, err := r.e.Deny(t.Context(), held.TID, "eve", "no"); err != nil {
			t.Fatal(err)
		}
		r.refused(UndoRequest{TID: first.TID, How: byType(nil)}, second.TID.String())
	})
}

// TestWhoAsksForTheSameWhileItWaits: others have agreed to what takes the first back
// when the second was done.
func TestWhoAsksForTheSameWhileItWaits(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		first := r.moved()
		made := r.mustUndo(UndoRequest{TID: first.TID, How: byType(&command.Approval{Quorum: 1})})
		second := r.move(`{"to":40}`)
		r.does(second.TID, `{"pos":40}`)
		r.expect(second.TID, command.Executed, command.DeviceSucceeded)
		held := r.expect(made.TID, command.AwaitingApproval, command.Requested)
		if _, err := r.e.Approve(t.Context(), made.TID, "eve", "", held.Approval.Digest); err != nil {
			t.Fatal(err)
		}
		r.pass(0)
		r.expect(made.TID, command.Denied, command.ChangedSince)
	})
}

// refused wants a refusal that says so, and that nothing was made.
func (r *rig) refused(req UndoRequest, text string) {
	r.t.Helper()
	before := r.all()
	made, err := r.undo(req)
	var no *undo.Refusal
	if !errors.As(err, &no) || fault.CodeOf(err) != fault.Conflict || !strings.Contains(no.Text, text) {
		r.t.Errorf("got %s, %v; want a refusal with %q", made.Command.TID, err, text)
	}
	if after := r.all(); len(after) != len(before) {
		r.t.Errorf("%d commands have become %d", len(before), len(after))
	}
}

func (r *rig) all() []command.Command {
	r.t.Helper()
	list, _, err := r.store.List(r.t.Context(), store.Query{Limit: 1000, OldestFirst: true})
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// linked checks that no link is one-sided: what a command undoes names it, or one
// that was made later.
func (r *rig) linked() {
	r.t.Helper()
	last := map[command.TID]command.TID{}
	all := r.all()
	for _, c := range all {
		if c.Undoes != nil {
			last[*c.Undoes] = c.TID
		}
	}
	for _, c := range all {
		by, ok := last[c.TID]
		if ok != (c.UndoneBy != nil) || ok && *c.UndoneBy != by {
			r.t.Errorf("%s is undone by %v, and the last to undo it is %s", c.TID, c.UndoneBy, by)
		}
	}
}

func TestUndoBringsTheFormerValueBack(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		c := r.moved()
		if string(c.Former) != `{"version":1,"values":[{"path":"pos","value":10}]}` || string(c.After) != `{"version":2,"values":[{"path":"pos","value":40}]}` {
			t.Errorf("former %s, after %s", c.Former, c.After)
		}
		plan, err := r.e.PlanUndo(t.Context(), c.TID)
		if err != nil || plan.Name != "move" || string(plan.Params) != `{"to":10}` || plan.Refusal != nil || len(plan.Changes) != 1 {
			t.Errorf("%+v, %v", plan, err)
		}
		if got := r.expect(c.TID, command.Executed, command.DeviceSucceeded); got.Version != c.Version || len(r.all()) != 1 {
			t.Error("to look has changed something")
		}
		back := r.mustUndo(UndoRequest{TID: c.TID, Why: "wrong valve", How: byType(nil), Rollout: "r1"})
		docs := r.link.take()
		if len(docs) != 1 || docs[0].Cmd != "move" || string(docs[0].Params) != `{"to":10}` || docs[0].TID != back.TID.String() {
			t.Fatalf("sent %+v", docs)
		}
		r.does(back.TID, `{"pos":10}`)
		if got := r.replica(valve); got.Reported.String() != `{"pos":10}` {
			t.Errorf("reported %s", got.Reported)
		}
		back = r.expect(back.TID, command.Executed, command.DeviceSucceeded)
		c = r.expect(c.TID, command.Executed, command.DeviceSucceeded)
		if back.Rollout != "r1" || c.Rollout != "" {
			t.Errorf("of the roll-outs %q and %q", back.Rollout, c.Rollout)
		}
		if line := back.Timeline[0]; line.By != "bo" || line.Detail != "undoes "+c.TID.String()+": wrong valve" {
			t.Errorf("%+v", line)
		}
		if line := c.Timeline[len(c.Timeline)-1]; line.Kind != command.Undo || line.By != "bo" || line.Detail != "by "+back.TID.String()+": wrong valve" {
			t.Errorf("%+v", line)
		}
		r.linked()
		r.refused(UndoRequest{TID: c.TID, Force: true}, back.TID.String()+" has taken it back already")

		// What takes back can be taken back.
		again := r.mustUndo(UndoRequest{TID: back.TID, How: byType(nil)})
		if docs := r.link.take(); len(docs) != 1 || string(docs[0].Params) != `{"to":40}` {
			t.Errorf("sent %+v", docs)
		}
		r.does(again.TID, `{"pos":40}`)
		r.linked()
	})
}

func TestUndoOfADesiredState(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		r.reports(`{"pos":10}`)
		c := r.mustDesire(`{"pos":40,"new":1}`)
		r.does(c.TID, `{"pos":40,"new":1}`)
		r.expect(c.TID, command.Executed, command.DeviceSucceeded)
		back := r.mustUndo(UndoRequest{TID: c.TID})
		if got := r.replica(valve); got.Desired.String() != `{"pos":10}` {
			t.Errorf("desired %s", got.Desired)
		}
		r.does(back.TID, `{"pos":10,"new":null}`)
		r.expect(back.TID, command.Executed, command.DeviceSucceeded)
		r.linked()
	})
}

// The guard sees what is decided in the same turn, and nothing before it is lost.
func TestAChangeByOthersIsNotTakenBackUnasked(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		c := r.moved()
		r.reports(`{"pos":60}`)
		r.refused(UndoRequest{TID: c.TID}, "changed since: pos was 10 before it, 40 after it, and is 60 now")
		if got := r.expect(c.TID, command.Executed, command.DeviceSucceeded); got.UndoneBy != nil || got.Version != c.Version {
			t.Error("a refusal has left something")
		}
		back := r.mustUndo(UndoRequest{TID: c.TID, Force: true, Why: "I know", How: byType(nil)})
		r.expect(back.TID, command.Sent, command.TurnCame)

		second := r.move(`{"to":70}`)
		r.does(back.TID, `{"pos":10}`)
		r.does(second.TID, `{"pos":70}`)
		third := r.move(`{"to":80}`)
		r.does(third.TID, `{"pos":80}`)
		r.refused(UndoRequest{TID: second.TID}, "is 80 now (ann, with "+third.TID.String()+")")
		r.linked()
	})
}

// What is changed while the new command waits, for its device or for people, is
// found out when it is to be sent.
func TestAChangeWhileItWaitsOverrulesIt(t *testing.T) {
	for _, force := range []bool{false, true} {
		bubble(t, func(t *testing.T, r *rig) {
			c := r.moved()
			back := r.mustUndo(UndoRequest{TID: c.TID, Force: force, Why: "w", How: byType(&command.Approval{Quorum: 1})})
			r.stop()
			r.restart()
			r.online(valve, "b1")
			r.reports(`{"pos":60}`)
			if _, err := r.e.Approve(t.Context(), back.TID, "cy", "", back.Approval.Digest); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if force {
				r.expect(back.TID, command.Sent, command.TurnCame)
				return
			}
			if got := r.expect(back.TID, command.Denied, command.ChangedSince); got.Detail != "pos was 10 before it, 40 after it, and is 60 now" {
				t.Errorf("%q", got.Detail)
			}
			r.refused(UndoRequest{TID: c.TID}, "is 60 now")
			r.reports(`{"pos":40}`)
			r.mustUndo(UndoRequest{TID: c.TID, How: byType(nil)})
			r.linked()
		})
	}
}

// A wish of its own does not overrule what takes back, however it is nested.
func TestItsOwnWishDoesNotOverruleIt(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		r.reports(`{"m":{"a":1}}`)
		r.does(r.mustDesire(`{"m":{"x":7}}`).TID, `{"m":{"x":7}}`)
		terms := &command.Terms{TypeVersion: 1, Effects: []command.PathEffect{{Path: "m"}}}
		c := r.ask("push", terms)
		r.pass(0)
		r.does(c.TID, `{"m":{"a":2,"b":3}}`)
		r.link.take()
		back := r.mustUndo(UndoRequest{TID: c.TID})
		docs := r.link.take()
		if len(docs) != 1 || string(docs[0].Params) != `{"m":{"a":1,"b":null,"x":7}}` {
			t.Fatalf("sent %+v", docs)
		}
		r.does(back.TID, `{"m":{"a":1,"b":null}}`)
		r.expect(back.TID, command.Executed, command.DeviceSucceeded)
	})
}

func TestWhatWaitsForTheDeviceIsARival(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		c := r.moved()
		first, queued := r.send(valve, "look", command.Policy{}), r.move(`{"to":60}`)
		r.refused(UndoRequest{TID: c.TID}, queued.TID.String()+" (move) changes pos too, and is created")
		r.stop()
		r.restart() // nothing of the queue is in memory
		r.refused(UndoRequest{TID: c.TID}, queued.TID.String()+" (move) changes pos too, and is created")
		if _, err := r.e.Cancel(t.Context(), queued.TID, "ann", ""); err != nil {
			t.Fatal(err)
		}
		back := r.mustUndo(UndoRequest{TID: c.TID, How: byType(nil)})
		r.online(valve, "b1")
		r.answer(valve, first.TID.String(), "result", "SUCCESS")
		r.expect(back.TID, command.Sent, command.TurnCame)
		r.linked()
	})
}

func TestOneInFlightIsNotTakenBack(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		r.reports(`{"pos":10}`)
		c := r.move(`{"to":40}`)
		r.refused(UndoRequest{TID: c.TID, Force: true}, "it is sent; cancel it first")
		r.answer(valve, c.TID.String(), "ack", "RECEIVED")
		r.pass(2 * time.Hour) // finish-by
		r.expect(c.TID, command.TimedOut, command.FinishByPassed)
		r.reports(`{"pos":40}`)
		back := r.mustUndo(UndoRequest{TID: c.TID, How: byType(nil)})
		if _, err := r.e.Retry(t.Context(), c.TID, "ann", ""); fault.CodeOf(err) != fault.Conflict {
			t.Errorf("what is being taken back is sent once more: %v", err)
		}
		r.does(back.TID, `{"pos":10}`)
		r.does(c.TID, `{"pos":10}`) // late
		got := r.expect(c.TID, command.Executed, command.DeviceSucceeded)
		if got.UndoneBy == nil || *got.UndoneBy != back.TID {
			t.Error("the late answer has lost the link")
		}
		r.linked()
		if _, err := r.e.Undo(t.Context(), UndoRequest{TID: command.TID{1}}); fault.CodeOf(err) != fault.NotFound {
			t.Errorf("of no command: %v", err)
		}
		if _, err := r.e.PlanUndo(t.Context(), command.TID{1}); fault.CodeOf(err) != fault.NotFound {
			t.Errorf("of no command: %v", err)
		}
	})
}

func TestHowCanRefuse(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		c := r.moved()
		why := fault.Field("params", "do not fit the type")
		if _, err := r.undo(UndoRequest{TID: c.TID, How: func(undo.Plan) (How, error) { return How{}, why }}); !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
		r.linked()
		if len(r.all()) != 1 {
			t.Error("it was made all the same")
		}
	})
}

func TestOneUndoAtATime(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		c := r.moved()
		held := r.mustUndo(UndoRequest{TID: c.TID, How: byType(&command.Approval{Rule: "type move", Quorum: 1}), Key: "k1"})
		r.expect(held.TID, command.AwaitingApproval, command.Requested)
		if docs := r.link.take(); len(docs) != 0 {
			t.Fatalf("sent %+v", docs)
		}
		r.refused(UndoRequest{TID: c.TID, Force: true}, held.TID.String()+" takes it back already, and is awaiting_approval")
		if _, err := r.e.Deny(t.Context(), held.TID, "cy", ""); err != nil {
			t.Fatal(err)
		}
		failing := r.mustUndo(UndoRequest{TID: c.TID, How: byType(nil), Key: "k2"})
		r.refused(UndoRequest{TID: c.TID}, failing.TID.String())
		r.answer(valve, failing.TID.String(), "result", "FAILURE")
		third := r.mustUndo(UndoRequest{TID: c.TID, How: byType(nil), Key: "k3"})
		r.linked()
		for key, want := range map[string]command.TID{"k1": held.TID, "k2": failing.TID, "k3": third.TID} {
			made, err := r.undo(UndoRequest{TID: c.TID, Key: key})
			if err != nil || !made.Existed || made.Command.TID != want {
				t.Errorf("%s again: %+v, %v", key, made, err)
			}
		}
		if _, err := r.undo(UndoRequest{TID: third.TID, Key: "k1"}); fault.CodeOf(err) != fault.KeyReused {
			t.Errorf("the key of another: %v", err)
		}
		if got := r.expect(c.TID, command.Executed, command.DeviceSucceeded); len(got.Timeline) != len(c.Timeline)+3 {
			t.Errorf("%d lines, %d before", len(got.Timeline), len(c.Timeline))
		}
	})
}

// TestUndoOverFailingCommitsAndRestarts lets each commit in turn fail, and restarts
// the engine after each, while somebody asks again and again under one key: one
// command is made, and both name each other whenever one looks.
func TestUndoOverFailingCommitsAndRestarts(t *testing.T) {
	for fails := range 6 {
		bubble(t, func(t *testing.T, r *rig) {
			c := r.moved()
			var n atomic.Int64
			r.store.setHook(func(*store.Batch) error {
				if n.Add(1) == int64(fails) {
					return errors.New("disk")
				}
				return nil
			})
			req := UndoRequest{TID: c.TID, Key: "rollout-7/" + valve.String(), How: byType(nil)}
			for range 4 {
				_, err := r.undo(req)
				if err != nil && fault.CodeOf(err) == fault.Conflict {
					t.Fatalf("commit %d failed: %v", fails, err)
				}
				r.linked()
				r.stop()
				r.restart()
				r.online(valve, "b1")
				for _, doc := range r.link.take() {
					if doc.TID != c.TID.String() && string(doc.Params) == `{"to":10}` {
						r.says(valve, "result", `{"tid":"`+doc.TID+`","status":"SUCCESS","state":{"pos":10}}`, "result")
					}
				}
				r.pass(2 * time.Second)
				r.linked()
			}
			all := r.all()
			if len(all) != 2 || all[1].State != command.Executed {
				t.Errorf("commit %d failed: %d commands, the last %s", fails, len(all), all[len(all)-1].State)
			}
			if got := r.replica(valve); got.Reported.String() != `{"pos":10}` {
				t.Errorf("commit %d failed: reported %s", fails, got.Reported)
			}
		})
	}
}

// TestAFailedCommitLeavesNoLink: what was refused by the disk has not happened, on
// either side, and is asked for again with success.
func TestAFailedCommitLeavesNoLink(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		c := r.moved()
		r.store.failWith(errors.New("disk"))
		if _, err := r.undo(UndoRequest{TID: c.TID, How: byType(nil)}); err == nil {
			t.Error("what was not kept was promised")
		}
		r.store.failWith(nil)
		if got := r.expect(c.TID, command.Executed, command.DeviceSucceeded); got.UndoneBy != nil || len(r.all()) != 1 {
			t.Errorf("undone by %v, %d commands", got.UndoneBy, len(r.all()))
		}
		r.pass(2 * time.Second)
		if docs := r.link.take(); len(docs) != 0 {
			t.Errorf("sent %+v", docs)
		}
		r.mustUndo(UndoRequest{TID: c.TID, How: byType(nil)})
		r.linked()
	})
}

// Two who ask at once: one is first, also when somebody else writes in between.
func TestTwoAskAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		c := r.moved()
		var meddled atomic.Bool
		r.store.setHook(func(b *store.Batch) error {
			if meddled.Swap(true) {
				return nil
			}
			now, err := r.store.Store.Command(t.Context(), c.TID)
			if err != nil {
				return err
			}
			was := now.Version
			now.Version++
			_, err = r.store.Store.Commit(t.Context(), &store.Batch{Commands: []store.CommandWrite{{Command: now, Was: was}}})
			return err
		})
		results := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := r.e.Undo(t.Context(), UndoRequest{TID: c.TID, By: "bo", How: byType(nil)})
				results <- err
			}()
		}
		synctest.Wait()
		first, second := <-results, <-results
		if (first == nil) == (second == nil) {
			t.Errorf("%v and %v", first, second)
		}
		if len(r.all()) != 2 {
			t.Errorf("%d commands", len(r.all()))
		}
		r.linked()
	})
}

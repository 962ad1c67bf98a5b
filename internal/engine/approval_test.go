package engine

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
)

// hold makes a command that waits for quorum people for a minute.
func (r *rig) hold(quorum int) command.Command {
	r.t.Helper()
	out, err := r.e.Create(context.Background(), []Request{{Device: valve, Name: "open", By: "ann",
		Hold: &command.Approval{Rule: "always", Quorum: quorum, Expires: time.Now().Add(time.Minute)}}})
	if err != nil || out[0].Err != nil {
		r.t.Fatal(err, out)
	}
	return out[0].Command
}

// TestAHeldCommandGoesWithItsLastVote restarts between every two steps: a vote is
// in the command's own row, so that no step can be half done.
func TestAHeldCommandGoesWithItsLastVote(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		ctx := context.Background()
		r.online(valve, "b1")
		c := r.hold(2)
		young := r.send(valve, "close", command.Policy{})
		refused := func(err error) {
			t.Helper()
			if fault.CodeOf(err) != fault.Conflict {
				t.Errorf("not refused: %v", err)
			}
		}
		r.stop()
		r.restart()
		r.online(valve, "b1")
		_, err := r.e.Approve(ctx, c.TID, "ann", "", c.Approval.Digest)
		refused(err)
		_, err = r.e.Approve(ctx, c.TID, "bo", "", "something else")
		refused(err)
		if _, err = r.e.Approve(ctx, c.TID, "bo", "looks right", c.Approval.Digest); err != nil {
			t.Fatal(err)
		}
		r.stop()
		r.restart()
		r.online(valve, "b1")
		held := r.expect(c.TID, command.AwaitingApproval, command.VoteCounted)
		if len(held.Approval.Votes) != 1 || held.Approval.Votes[0].Why != "looks right" {
			t.Fatalf("votes %+v", held.Approval)
		}
		for _, d := range r.link.take() {
			if d.TID == c.TID.String() {
				t.Fatal("it was sent before all had agreed")
			}
		}
		if _, err = r.e.Approve(ctx, c.TID, "bo", "", c.Approval.Digest); err != nil {
			t.Errorf("the same vote again: %v", err)
		}
		r.expect(c.TID, command.AwaitingApproval, command.VoteCounted)
		if _, err = r.e.Approve(ctx, c.TID, "cy", "", c.Approval.Digest); err != nil {
			t.Fatal(err)
		}
		r.answer(valve, young.TID.String(), "result", "SUCCESS") // makes room in the window
		r.expect(c.TID, command.Sent, command.TurnCame)
		_, err = r.e.Deny(ctx, c.TID, "cy", "on second thoughts")
		refused(err)
	})
}

func TestAHeldCommandEndsUnsent(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		ctx := context.Background()
		r.online(valve, "b1")
		denied, late, broken := r.hold(1), r.hold(1), r.hold(1)
		if _, err := r.e.Deny(ctx, denied.TID, "bo", "not on a friday"); err != nil {
			t.Fatal(err)
		}
		if c := r.expect(denied.TID, command.Denied, command.NotApproved); c.Detail != "not on a friday" {
			t.Errorf("detail %q", c.Detail)
		}
		if _, err := r.e.BreakGlass(ctx, broken.TID, "bo", ""); fault.CodeOf(err) != fault.Conflict {
			t.Errorf("without a reason: %v", err)
		}
		if _, err := r.e.BreakGlass(ctx, broken.TID, "bo", "fire"); err != nil {
			t.Fatal(err)
		}
		if docs := r.link.take(); len(docs) != 1 || docs[0].TID != broken.TID.String() {
			t.Errorf("published %+v", docs)
		}
		events, err := r.store.Events(ctx, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		var alarms []string
		for _, e := range events {
			if e.Type == store.EventAlarm && *e.TID == broken.TID {
				alarms = append(alarms, e.By+" "+string(e.Reason)+" "+e.Detail)
			}
		}
		if want := []string{"bo break_glass let go without the approval that it needs: fire"}; !slices.Equal(alarms, want) {
			t.Errorf("alarms %q", alarms)
		}
		r.stop()
		r.restart()
		r.pass(2 * time.Minute)
		r.expect(late.TID, command.Expired, command.ApprovalExpired)
	})
}

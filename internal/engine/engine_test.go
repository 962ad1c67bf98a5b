package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

func TestACommandIsExecutedOnlyWhenTheDeviceSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		c := r.send(valve, "open", command.Policy{})
		docs := r.link.take()
		if len(docs) != 1 || docs[0].TID != c.TID.String() || docs[0].Attempt != 1 || docs[0].Seq != 1 || docs[0].Status != wire.Request {
			t.Fatalf("published %+v", docs)
		}
		r.expect(c.TID, command.Sent, command.TurnCame)
		r.answer(valve, docs[0].TID, "ack", "RECEIVED")
		r.expect(c.TID, command.Acknowledged, command.DeviceReceived)
		r.answer(valve, docs[0].TID, "result", "RUNNING")
		r.expect(c.TID, command.Running, command.DeviceRunning)
		r.answer(valve, docs[0].TID, "result", "SUCCESS")
		c = r.expect(c.TID, command.Executed, command.DeviceSucceeded)
		if len(c.Timeline) != 5 || r.acked["SUCCESS"] != 1 || r.e.Stats().Open != 0 {
			t.Fatalf("timeline %v, acked %v, stats %+v", c.Timeline, r.acked, r.e.Stats())
		}
	})
}

func TestI05ResultBeforeAckTwiceAndAfterTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		c := r.send(valve, "open", command.Policy{})
		tid := c.TID.String()
		r.answer(valve, tid, "result", "SUCCESS")
		r.answer(valve, tid, "ack", "RECEIVED")
		r.answer(valve, tid, "result", "SUCCESS")
		r.expect(c.TID, command.Executed, command.DeviceSucceeded)
		r.answer(valve, tid, "result", "FAILURE")
		got := r.expect(c.TID, command.Executed, command.DeviceSucceeded)
		if got.Anomalies != 1 || !slices.Equal(r.anomalies(valve), []string{"contradicts_end"}) {
			t.Fatalf("anomalies %d %v", got.Anomalies, r.anomalies(valve))
		}
		if r.e.Stats().Duplicates != 2 {
			t.Fatalf("stats %+v", r.e.Stats())
		}
	})
}

func TestWhatADeviceMustNotSayIsKeptAndNotObeyed(t *testing.T) {
	other := wire.Address{Group: "plant", Device: "valve-2"}
	bubble(t, func(t *testing.T, r *rig) {
		r.register(other, 1)
		r.online(valve, "b1")
		c := r.send(valve, "open", command.Policy{})
		r.says(valve, "ack", `{"tid":`, "malformed")
		r.says(valve, "ack", `{"tid":"`+uuid.NewString()+`","status":"RECEIVED"}`, "unknown")
		r.says(valve, "ack", `{"tid":"not-one-of-ours","status":"RECEIVED"}`, "foreign")
		r.answer(other, c.TID.String(), "result", "SUCCESS")
		r.says(wire.Address{Group: "plant", Device: "nobody"}, "ack", `{"tid":"x","status":"RECEIVED"}`, "unregistered")
		r.receive(Message{Topic: "wilco/plant/valve-1/command", Payload: []byte("{}"), Retained: true}, "retained")
		r.receive(Message{Topic: "wilco/plant/valve-1/command", Payload: []byte("{}")}, "intruder")
		r.receive(Message{Topic: "something/else"}, "else")
		r.expect(c.TID, command.Sent, command.TurnCame)
		if got, want := r.anomalies(valve), []string{"foreign_command", "malformed", "retained_command", "unknown_tid", "unknown_tid"}; !slices.Equal(got, want) {
			t.Errorf("anomalies %v, want %v", got, want)
		}
		if got := r.anomalies(other); !slices.Equal(got, []string{"wrong_device"}) {
			t.Errorf("anomalies of the other %v", got)
		}
		for _, id := range []string{"malformed", "unknown", "foreign", "SUCCESS", "unregistered", "retained", "intruder", "else"} {
			if r.acked[id] != 1 {
				t.Errorf("%s acknowledged %d times: it would come again for ever", id, r.acked[id])
			}
		}
	})
}

func TestAnOfflineDeviceCostsNoAttemptAndGetsItsCommandsInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var want []string
		for i := range 5 {
			want = append(want, r.send(valve, fmt.Sprint("step-", i), command.Policy{}).TID.String())
		}
		r.pass(time.Hour)
		if docs := r.link.take(); len(docs) != 0 {
			t.Fatalf("published to an offline device: %+v", docs)
		}
		r.online(valve, "b1")
		var got []string
		for range 5 {
			docs := r.link.take()
			if len(docs) != 1 || docs[0].Attempt != 1 || docs[0].Seq != int64(len(got)+1) {
				t.Fatalf("window of one broken, or numbers wrong: %+v", docs)
			}
			got = append(got, docs[0].TID)
			r.answer(valve, docs[0].TID, "result", "SUCCESS")
		}
		if !slices.Equal(got, want) {
			t.Fatalf("order %v, want %v", got, want)
		}
	})
}

func TestADeviceThatGoesOnWithNonsenseStopsCostingWrites(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		for range 500 {
			r.says(valve, "ack", "nonsense", "nonsense")
		}
		if got := len(r.anomalies(valve)); got > 2*notesAtOnce || got < notesAtOnce/2 {
			t.Errorf("%d anomalies written", got)
		}
		if got := r.e.Stats().Anomalies[AnomalyMalformed]; got != 500 || r.acked["nonsense"] != 500 {
			t.Errorf("%d counted, %d acknowledged", got, r.acked["nonsense"])
		}
	})
}

func TestADeviceThatWasCutOffGetsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		r.e.Gone(valve)
		synctest.Wait()
		c := r.send(valve, "open", command.Policy{})
		if docs := r.link.take(); len(docs) != 0 || r.e.Presence(valve).Online {
			t.Fatalf("published %+v", docs)
		}
		r.online(valve, "b2")
		r.expect(c.TID, command.Sent, command.TurnCame)
	})
}

func TestAStoppedEngineAnswersAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.stop()
		out, err := r.e.Create(t.Context(), []Request{{Device: valve, Name: "open"}})
		if err != nil || fault.CodeOf(out[0].Err) != fault.Unavailable {
			t.Fatalf("%v %v", out, err)
		}
	})
}

// TestWhatADeviceKnows is what it said last while it was online.
func TestWhatADeviceKnows(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		for _, c := range []struct{ status, want string }{
			{`{"online":true,"boot":"b1","commands":["move","stop"]}`, "move stop"},
			{`{"online":false,"boot":"b1"}`, "move stop"},
			{`{"online":true,"boot":"b1","commands":["move"]}`, "move"},
			{`{"online":true,"boot":"b1","commands":["stop"]}`, "stop"}, // at once, though nothing else is new
			{`{"online":true,"boot":"b2"}`, ""},
		} {
			r.says(valve, "status", c.status, "status")
			kept, err := r.store.Device(t.Context(), valve)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range []store.Presence{kept.Presence, r.e.Presence(valve)} {
				if got := strings.Join(p.Commands, " "); got != c.want {
					t.Errorf("%s: %q, want %q", c.status, got, c.want)
				}
			}
		}
	})
}

func TestReplayedStatusOfAnOldBoot(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		r.online(valve, "b2")
		r.says(valve, "status", `{"online":false,"boot":"b1"}`, "old will")
		r.online(valve, "b1")
		if p := r.e.Presence(valve); !p.Online || p.Boot != "b2" {
			t.Fatalf("presence %+v", p)
		}
		if got := r.anomalies(valve); !slices.Equal(got, []string{"stale_status", "stale_status"}) {
			t.Fatalf("anomalies %v", got)
		}
		r.says(valve, "status", `{"online":false,"boot":"b2"}`, "will")
		if p := r.e.Presence(valve); p.Online || p.Boot != "b2" {
			t.Fatalf("presence %+v", p)
		}
	})
}

func TestRetriesKeepTheTidAndRaiseAttemptAndSeq(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		c := r.send(valve, "open", command.Policy{AckBy: command.Duration(time.Second), Backoff: command.Linear, MaxAttempts: 3})
		r.pass(time.Minute)
		docs := r.link.take()
		if len(docs) < 3 {
			t.Fatalf("published %d times", len(docs))
		}
		for i, d := range docs[:3] {
			if d.TID != c.TID.String() || d.Attempt != i+1 || d.Seq != int64(i+1) || d.Status != wire.Request {
				t.Errorf("attempt %d: %+v", i+1, d)
			}
		}
		for _, d := range docs[3:] {
			if d.Status != wire.Query || d.TID != c.TID.String() {
				t.Errorf("after the attempts: %+v", d)
			}
		}
		r.expect(c.TID, command.TimedOut, command.NoAck)
		// The honest answer can still be settled by a late one.
		r.answer(valve, c.TID.String(), "result", "SUCCESS")
		r.expect(c.TID, command.Executed, command.DeviceSucceeded)
	})
}

func TestIdempotencyKeys(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		reqs := []Request{
			{Device: valve, Name: "open", Key: "k1", Digest: "d1"},
			{Device: valve, Name: "open", Key: "k1", Digest: "d1"}, // in the same turn
			{Device: valve, Name: "shut", Key: "k1", Digest: "d2"},
			{Device: wire.Address{Group: "plant", Device: "nobody"}, Name: "open"},
		}
		first, err := r.e.Create(t.Context(), reqs)
		if err != nil {
			t.Fatal(err)
		}
		again, err := r.e.Create(t.Context(), reqs[:1])
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case first[0].Err != nil || first[0].Existed:
			t.Errorf("first: %+v", first[0])
		case first[1].Command.TID != first[0].Command.TID || !first[1].Existed:
			t.Errorf("same turn: %+v", first[1])
		case fault.CodeOf(first[2].Err) != fault.KeyReused:
			t.Errorf("other body: %v", first[2].Err)
		case fault.CodeOf(first[3].Err) != fault.NotFound:
			t.Errorf("no such device: %v", first[3].Err)
		case again[0].Command.TID != first[0].Command.TID || !again[0].Existed:
			t.Errorf("again: %+v", again[0])
		}
	})
}

func TestDiskFullAnswersCallersAndKeepsWhatDevicesSaid(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		c := r.send(valve, "open", command.Policy{})
		r.link.take()
		r.store.failWith(fault.New(fault.StorageFull, "disk full"))
		out, err := r.e.Create(t.Context(), []Request{{Device: valve, Name: "shut"}})
		if err != nil || fault.CodeOf(out[0].Err) != fault.StorageFull {
			t.Fatalf("create: %v %v", out, err)
		}
		r.answer(valve, c.TID.String(), "ack", "RECEIVED")
		if r.acked["RECEIVED"] != 0 {
			t.Fatal("acknowledged what is not durable")
		}
		if docs := r.link.take(); len(docs) != 0 {
			t.Fatalf("acted without a commit: %+v", docs)
		}
		r.pass(3 * time.Second)
		r.store.failWith(nil)
		r.pass(3 * time.Second)
		if r.acked["RECEIVED"] != 1 {
			t.Fatalf("acknowledged %d times after the disk had room", r.acked["RECEIVED"])
		}
		r.expect(c.TID, command.Acknowledged, command.DeviceReceived)
	})
}

func TestRestartTakesUpWhatWasOutstanding(t *testing.T) {
	second := wire.Address{Group: "plant", Device: "valve-2"}
	bubble(t, func(t *testing.T, r *rig) {
		r.register(second, 1)
		r.online(valve, "b1")
		r.online(second, "b1")
		policy := command.Policy{AckBy: command.Duration(10 * time.Second)}
		sent := r.send(valve, "open", policy)
		waiting := r.send(valve, "shut", policy)
		working := r.send(second, "open", command.Policy{FinishBy: command.Duration(time.Minute)})
		r.answer(second, working.TID.String(), "ack", "RECEIVED")
		r.stop()
		before := r.link.take()
		r.restart()
		docs := r.link.take()
		var request, query *wire.Command
		for i := range docs {
			switch docs[i].Status {
			case wire.Request:
				request = &docs[i]
			case wire.Query:
				query = &docs[i]
			}
		}
		if len(docs) != 2 || request == nil || query == nil || request.TID != sent.TID.String() || request.Attempt != 2 || query.TID != working.TID.String() {
			t.Fatalf("after the restart: %+v", docs)
		}
		if request.Epoch < before[0].Epoch || request.Epoch == before[0].Epoch && request.Seq <= before[0].Seq {
			t.Fatalf("the numbers do not rise: %+v after %+v", request, before[0])
		}
		r.pass(2 * time.Minute)
		r.expect(working.TID, command.TimedOut, command.FinishByPassed)
		r.answer(valve, sent.TID.String(), "result", "SUCCESS")
		r.expect(sent.TID, command.Executed, command.DeviceSucceeded)
		r.expect(waiting.TID, command.Sent, command.TurnCame)
	})
}

func TestBrokerGoneForAMinute(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		r.e.LinkDown()
		c := r.send(valve, "open", command.Policy{})
		r.pass(time.Minute)
		r.expect(c.TID, command.Created, command.Requested)
		r.e.LinkUp()
		synctest.Wait()
		if docs := r.link.take(); len(docs) != 1 || docs[0].Attempt != 1 {
			t.Fatalf("published %+v", docs)
		}
	})
}

func TestABrokerThatRefusesEverythingMakesNoUnknownOutcome(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		r.link.fail = fmt.Errorf("%w: quota exceeded", ErrRefused)
		c := r.send(valve, "open", command.Policy{AckBy: command.Duration(time.Second), MaxAttempts: 2})
		r.pass(time.Minute)
		r.expect(c.TID, command.Expired, command.BrokerWouldNot)
	})
}

func TestSupersedeReplacesOnlyWhatWaits(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		p := command.Policy{Supersede: true}
		first, second := r.send(valve, "set", p), r.send(valve, "set", p)
		other, third := r.send(valve, "other", p), r.send(valve, "set", p)
		r.expect(first.TID, command.Sent, command.TurnCame)
		r.expect(other.TID, command.Created, command.Requested)
		r.expect(third.TID, command.Created, command.Requested)
		c := r.expect(second.TID, command.Cancelled, command.Superseded)
		if c.SupersededBy == nil || *c.SupersededBy != third.TID {
			t.Fatalf("superseded by %v", c.SupersededBy)
		}
	})
}

func TestCancelAndWait(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		sent, waiting := r.send(valve, "a", command.Policy{}), r.send(valve, "b", command.Policy{})
		ended := make(chan command.Command, 1)
		go func() {
			c, err := r.e.Wait(t.Context(), sent.TID, func(c *command.Command) bool { return c.Final() })
			if err != nil {
				t.Error(err)
			}
			ended <- c
		}()
		synctest.Wait()
		if c, err := r.e.Cancel(t.Context(), waiting.TID, "ann", "not needed"); err != nil || c.State != command.Cancelled {
			t.Fatalf("cancel of a waiting one: %s %v", c.State, err)
		}
		if c, err := r.e.Cancel(t.Context(), sent.TID, "ann", ""); err != nil || c.State != command.Cancelling {
			t.Fatalf("cancel of a sent one: %s %v", c.State, err)
		}
		synctest.Wait()
		if docs := r.link.take(); len(docs) != 2 || docs[1].Status != wire.Cancel || docs[1].Seq != 0 {
			t.Fatalf("published %+v", docs)
		}
		r.answer(valve, sent.TID.String(), "result", "CANCELLED")
		if c := <-ended; c.State != command.Cancelled || c.Reason != command.DeviceCancelled {
			t.Fatalf("waited for %s (%s)", c.State, c.Reason)
		}
		if _, err := r.e.Retry(t.Context(), sent.TID, "ann", ""); fault.CodeOf(err) != fault.Conflict {
			t.Fatalf("retry of an ended one: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if c, err := r.e.Wait(ctx, waiting.TID, func(*command.Command) bool { return false }); !errors.Is(err, context.DeadlineExceeded) || c.TID != waiting.TID {
			t.Fatalf("wait with a deadline: %v %v", c.TID, err)
		}
	})
}

package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
)

// together makes all that f brings be decided in one turn: the shard is held in
// a commit while it collects.
func (r *rig) together(f func()) {
	r.t.Helper()
	entered, leave := make(chan struct{}), make(chan struct{})
	r.store.setHook(func(*store.Batch) error {
		r.store.setHook(nil)
		close(entered)
		<-leave
		return nil
	})
	go r.e.Create(r.t.Context(), []Request{{Device: valve, Name: "gate"}})
	<-entered
	f()
	synctest.Wait()
	close(leave)
	synctest.Wait()
}

func TestAKeyThatIsTakenDoesNotHarmTheRestOfItsTurn(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		keyed := []Request{{Device: valve, Name: "open", Key: "k", Digest: "d"}}
		first, err := r.e.Create(t.Context(), keyed)
		if err != nil || first[0].Err != nil {
			t.Fatal(err, first)
		}
		victim := r.send(valve, "shut", command.Policy{})
		var again []Created
		var cancelled command.Command
		var cancelErr, waitErr error
		waited := make(chan struct{})
		r.together(func() {
			go func() { again, _ = r.e.Create(t.Context(), keyed) }()
			go func() { cancelled, cancelErr = r.e.Cancel(t.Context(), victim.TID, "ann", "") }()
			go func() {
				defer close(waited)
				_, waitErr = r.e.Wait(t.Context(), victim.TID, func(c *command.Command) bool { return c.Final() })
			}()
		})
		<-waited
		if cancelErr != nil || cancelled.State != command.Cancelled {
			t.Errorf("cancel beside it: %s %v", cancelled.State, cancelErr)
		}
		if waitErr != nil {
			t.Errorf("wait beside it: %v", waitErr)
		}
		if again[0].Err != nil || !again[0].Existed || again[0].Command.TID != first[0].Command.TID {
			t.Errorf("again: %+v", again[0])
		}
	})
}

// Clients that repeat requests after a timeout bring a taken key to every turn.
func TestTakenKeysThatGoOnComingDoNotHoldUpAShard(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		const n = 20
		var keyed []Request
		for i := range n {
			keyed = append(keyed, Request{Device: valve, Name: "open", Key: string(rune('a' + i)), Digest: "d"})
		}
		if _, err := r.e.Create(t.Context(), keyed); err != nil {
			t.Fatal(err)
		}
		answers := make(chan Created, n)
		repeat := func(i int) {
			go func() {
				out, _ := r.e.Create(t.Context(), keyed[i:i+1])
				answers <- out[0]
			}()
		}
		commits, next := 0, 1
		r.store.setHook(func(*store.Batch) error {
			if commits++; next < n {
				repeat(next) // is in the inbox before this turn is over
				next++
				<-time.After(time.Millisecond)
			}
			return nil
		})
		repeat(0)
		synctest.Wait()
		r.pass(time.Minute)
		for range next {
			if a := <-answers; a.Err != nil || !a.Existed {
				t.Errorf("repeated: %+v", a)
			}
		}
		if got := r.e.Stats().FailedTurns; got != 0 {
			t.Errorf("%d turns failed", got)
		}
	})
}

func TestWhatSomebodyElseHasWrittenIsLearnt(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		c := r.send(valve, "open", command.Policy{})
		waits := r.send(valve, "shut", command.Policy{})
		// Another server over the same store hears the end.
		was, err := r.store.Command(t.Context(), c.TID)
		if err != nil {
			t.Fatal(err)
		}
		ended, _, err := command.Apply(was, command.Event{Kind: command.SaidFailed}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.store.Store.Commit(t.Context(), &store.Batch{Commands: []store.CommandWrite{{Command: ended, Was: was.Version}}})
		if err != nil {
			t.Fatal(err)
		}
		r.answer(valve, c.TID.String(), "ack", "RECEIVED")
		if r.acked["RECEIVED"] != 1 {
			t.Errorf("acknowledged %d times", r.acked["RECEIVED"])
		}
		r.expect(c.TID, command.Failed, command.DeviceFailed)
		r.expect(waits.TID, command.Sent, command.TurnCame)
	})
}

func TestConflictsWithoutEndBecomeAFailure(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		c := r.send(valve, "open", command.Policy{})
		commits := 0
		r.store.setHook(func(*store.Batch) error {
			commits++
			return &store.ConflictError{TIDs: []command.TID{c.TID}}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := r.e.Cancel(ctx, c.TID, "ann", ""); err == nil || ctx.Err() != nil {
			t.Errorf("cancel: %v", err)
		}
		if commits != maxConflicts || r.e.Err() == nil {
			t.Errorf("%d commits, %v", commits, r.e.Err())
		}
	})
}

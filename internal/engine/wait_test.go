package engine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
)

func never(*command.Command) bool { return false }

func (r *rig) waiters() int {
	n := 0
	for _, s := range r.e.shards {
		for _, ws := range s.waiters {
			n += len(ws)
		}
	}
	return n
}

func TestAWaiterThatGoesBeforeItWasTakenUpIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		c := r.send(valve, "open", command.Policy{})
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		r.together(func() {
			go func() { _, err := r.e.Wait(ctx, c.TID, never); gone <- err }()
			synctest.Wait()
			cancel()
		})
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if n := r.waiters(); n != 0 {
			t.Errorf("%d waiters are left", n)
		}
	})
}

func TestAWaiterOutlivesAFullDisk(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.online(valve, "b1")
		c := r.send(valve, "open", command.Policy{})
		r.store.failWith(fault.New(fault.StorageFull, "disk full"))
		r.answer(valve, c.TID.String(), "ack", "RECEIVED") // from now on turns fail
		got := make(chan error, 1)
		go func() {
			_, err := r.e.Wait(t.Context(), c.TID, func(c *command.Command) bool { return c.State == command.Acknowledged })
			got <- err
		}()
		r.pass(3 * time.Second)
		r.store.failWith(nil)
		r.pass(3 * time.Second)
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

func TestStopAnswersWhoeverWaits(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		c := r.send(valve, "open", command.Policy{})
		got := make(chan error, 1)
		go func() { _, err := r.e.Wait(t.Context(), c.TID, never); got <- err }()
		synctest.Wait()
		r.stop()
		if err := <-got; !errors.Is(err, ErrStopped) {
			t.Error(err)
		}
	})
}

// A store that hangs outlasts the patience of Stop; callers are answered all the
// same when it comes back, and nothing goes on behind it.
func TestStopThatGivesUpStillAnswersInTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		hang, entered := make(chan struct{}), make(chan struct{})
		r.store.setHook(func(*store.Batch) error { close(entered); <-hang; return errors.New("too late") })
		first, second := make(chan error, 1), make(chan error, 1)
		create := func(out chan<- error) {
			made, err := r.e.Create(context.Background(), []Request{{Device: valve, Name: "open"}})
			if err == nil {
				err = made[0].Err
			}
			out <- err
		}
		go create(first)
		<-entered
		go create(second)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.e.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop: %v", err)
		}
		close(hang)
		if err := <-first; err == nil {
			t.Error("made by a commit that failed")
		}
		if err := <-second; !errors.Is(err, ErrStopped) {
			t.Errorf("second: %v", err)
		}
	})
}

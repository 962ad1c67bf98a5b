package device

import (
	"context"
	"errors"
	"fmt"

	"github.com/wilco-iot/wilco/wire"
)

// stop ends a run in good order, within Config.StopTimeout.
func (r *run) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.StopTimeout)
	defer cancel()
	r.stopping = true
	r.posted.setKeen(true)
	close(r.closing)
	r.end(ErrStopping)
	if err := r.settle(ctx); err != nil {
		return err
	}
	if m, ok := r.status(wire.Status{TS: r.cfg.Clock()}); ok && r.up {
		if err := r.client.PublishAsync(m, nil); err != nil { // Stop waits for it
			r.cfg.Logger.Warn("device: cannot say that it goes offline", "error", err)
		}
	}
	r.up = false
	if err := r.client.Stop(ctx); err != nil {
		r.cfg.Logger.Warn("device: connection not closed in good order", "error", err)
	}
	r.takePosted()
	if err := r.commit(); err != nil {
		return err
	}
	if n := len(r.jobs); n > 0 {
		return fmt.Errorf("device: %d handlers did not stop within %v", n, r.cfg.StopTimeout)
	}
	return nil
}

// settle waits until the handlers have returned and the server, if there is
// one, has all answers.
func (r *run) settle(ctx context.Context) error {
	for {
		r.takePosted()
		if err := r.commit(); err != nil {
			return err
		}
		answered := !r.up || (len(r.outbox) == 0 && r.onTheWay == 0 && !r.talk.busy)
		if len(r.jobs)+r.talk.bringing == 0 && answered {
			return nil
		}
		select {
		case <-r.posted.ready:
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *run) takePosted() {
	for _, f := range r.posted.take() {
		f()
	}
}

// abandon ends a run at once, as far as the server can see.
func (r *run) abandon(why error) {
	if !r.stopping {
		close(r.closing)
	}
	r.end(why)
	r.link.sever()
	dead, kill := context.WithCancel(context.Background())
	kill()
	r.client.Stop(dead) // only ends it; its error is the cancelled context's
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.StopTimeout)
	defer cancel()
	if err := r.client.Stop(ctx); err != nil {
		r.cfg.Logger.Warn("device: the client did not end", "error", err)
	}
	if !errors.Is(why, ErrPowerLoss) {
		r.awaitHandlers(ctx)
	}
}

// awaitHandlers waits for the handlers to return, but not for ever.
func (r *run) awaitHandlers(ctx context.Context) {
	returned := make(chan struct{})
	go func() { // ends when the handlers do, and there is nobody else to wait for them
		r.handlers.Wait()
		close(returned)
	}()
	select {
	case <-returned:
	case <-ctx.Done():
	}
}

package service

import (
	"context"
	"errors"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
)

// Command looks at one command.
func (s *Service) Command(ctx context.Context, p Principal, tid command.TID) (command.Command, error) {
	if err := must(p, Viewer); err != nil {
		return command.Command{}, err
	}
	c, err := s.opt.Store.Command(ctx, tid)
	if err != nil {
		if fault.CodeOf(err) == fault.NotFound {
			err = unknownCommand(tid)
		}
		return command.Command{}, done(err)
	}
	if !p.May(Viewer, c.Device.Group, "") {
		// Not Forbidden: that would tell other groups which tids exist.
		return command.Command{}, unknownCommand(tid)
	}
	return c, nil
}

func unknownCommand(tid command.TID) error {
	return &fault.Error{Code: fault.NotFound, Field: "tid", Message: "there is no command " + tid.String() + "; list them with wilco list"}
}

// Settled says whether waiting longer makes no sense by itself: the command has
// ended, or its outcome is unknown.
func Settled(c *command.Command) bool { return c.Final() || c.State == command.TimedOut }

// Wait returns the command as soon as its version is above after (0: as soon as
// it is settled), or as it is when d is over. d is at most ten minutes.
func (s *Service) Wait(ctx context.Context, p Principal, tid command.TID, d time.Duration, after int64) (command.Command, error) {
	c, err := s.Command(ctx, p, tid)
	if err != nil {
		return c, err
	}
	until := Settled
	if after > 0 {
		until = func(c *command.Command) bool { return c.Version > after || c.Final() }
	}
	if until(&c) || d <= 0 {
		return c, nil
	}
	if d > MaxWait {
		return c, fault.Field("wait", "%s is more than %s", d, MaxWait)
	}
	wctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	last, err := s.opt.Engine.Wait(wctx, tid, until)
	if err != nil && wctx.Err() != nil && ctx.Err() == nil {
		return s.Command(ctx, p, tid) // only the time for the wait is over
	}
	return last, done(err)
}

// MaxWait bounds how long one call of Wait waits.
const MaxWait = 10 * time.Minute

// List selects commands, newest first unless the query says otherwise.
func (s *Service) List(ctx context.Context, p Principal, q store.Query) ([]command.Command, string, error) {
	if err := must(p, Viewer); err != nil {
		return nil, "", err
	}
	var err error
	if q.Group, q.Groups, err = narrow(p, q.Group, q.Device); err != nil {
		return nil, "", err
	}
	if q.Limit < 0 || q.Limit > MaxPage {
		return nil, "", fault.Field("limit", "%d is not between 1 and %d", q.Limit, MaxPage)
	}
	page, next, err := s.opt.Store.List(ctx, q)
	return page, next, done(err)
}

// MaxPage bounds the items of one page.
const MaxPage = 1000

// Cancel asks that a command be not done. One that was never sent ends at once;
// otherwise the device must confirm.
func (s *Service) Cancel(ctx context.Context, p Principal, tid command.TID, why string) (command.Command, error) {
	if _, err := s.mayMove(ctx, p, Operator, tid, why); err != nil {
		return command.Command{}, err
	}
	c, err := s.opt.Engine.Cancel(ctx, tid, p.Name, why)
	return c, done(err)
}

// Retry tries a command again. While it is open it is published once more with
// the same tid; when it has ended without having been executed, a new command
// with the same content is made, whose RetryOf names the old one; then isNew.
// What was executed is not repeated: Conflict.
func (s *Service) Retry(ctx context.Context, p Principal, tid command.TID, why string) (c command.Command, isNew bool, err error) {
	old, err := s.mayMove(ctx, p, Operator, tid, why)
	if err != nil {
		return command.Command{}, false, err
	}
	if old.State == command.Executed {
		return old, false, fault.New(fault.Conflict, "the command was executed; to do it once more send a new one")
	}
	if !old.Final() {
		c, err := s.opt.Engine.Retry(ctx, tid, p.Name, why)
		return c, false, done(err)
	}
	if old.Undoes != nil {
		return old, false, fault.New(fault.Conflict, "it was to take back %s; do that anew, with a look at how things stand now: wilco rollback %s", old.Undoes, old.Undoes)
	}
	if _, err := s.mayTake(old.Device); err != nil {
		return command.Command{}, false, err
	}
	made, err := s.opt.Engine.Create(ctx, []Request{{Device: old.Device, Name: old.Name, Params: old.Params,
		Policy: old.Policy, Terms: old.Terms, By: p.Name, RetryOf: &old.TID}})
	if err != nil {
		return command.Command{}, false, done(err)
	}
	return made[0].Command, true, done(made[0].Err)
}

// mayMove gives a command that p may move by the role r.
func (s *Service) mayMove(ctx context.Context, p Principal, r Role, tid command.TID, why string) (command.Command, error) {
	if err := must(p, r); err != nil {
		return command.Command{}, err
	}
	if len(why) > maxWhy {
		return command.Command{}, fault.Field("reason", "is longer than %d bytes", maxWhy)
	}
	c, err := s.Command(ctx, p, tid)
	if err != nil {
		return command.Command{}, err
	}
	return c, may(p, r, c.Device.Group, c.Name)
}

// done gives errors of the layers below the code that a caller can act on.
func done(err error) error {
	var not *command.NotAllowedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &not):
		return fault.Wrap(err, fault.Conflict, "%s", not.Error())
	case hasCode(err):
		return err
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fault.Wrap(err, fault.Timeout, "not done in the time given; it may still happen")
	}
	return err
}

func hasCode(err error) bool {
	var f *fault.Error
	return errors.As(err, &f)
}

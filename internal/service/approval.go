package service

import (
	"context"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
)

// Approve counts p's agreement to a held command, which goes on with the last one
// that it needs. Digest is the Approval.Digest of what p has looked at. Errors:
// Forbidden for who has requested it; Conflict when it is not held, or not what
// was looked at.
func (s *Service) Approve(ctx context.Context, p Principal, tid command.TID, digest, why string) (command.Command, error) {
	c, err := s.mayMove(ctx, p, Approver, tid, why)
	if err != nil {
		return command.Command{}, err
	}
	switch {
	case digest == "":
		return command.Command{}, fault.Field("digest", "missing; it is in the command's approval, and says what you have looked at")
	case c.RequestedBy == p.Name:
		return command.Command{}, fault.New(fault.Forbidden, "%q has requested it, and cannot approve it; somebody else must", p.Name)
	}
	c, err = s.opt.Engine.Approve(ctx, tid, p.Name, why, digest)
	return c, done(err)
}

// Deny ends a held command. Errors: Conflict when it is not held.
func (s *Service) Deny(ctx context.Context, p Principal, tid command.TID, why string) (command.Command, error) {
	if _, err := s.mayMove(ctx, p, Approver, tid, why); err != nil {
		return command.Command{}, err
	}
	c, err := s.opt.Engine.Deny(ctx, tid, p.Name, why)
	return c, done(err)
}

// BreakGlass lets a held command go without the votes that it needs, for an
// emergency. Why must be said; the log has an alarm. Errors: Conflict when it is
// not held.
func (s *Service) BreakGlass(ctx context.Context, p Principal, tid command.TID, why string) (command.Command, error) {
	if _, err := s.mayMove(ctx, p, Approver, tid, why); err != nil {
		return command.Command{}, err
	}
	if why == "" {
		return command.Command{}, fault.Field("reason", "missing; say what the emergency is")
	}
	c, err := s.opt.Engine.BreakGlass(ctx, tid, p.Name, why)
	if err == nil {
		s.log.Warn("a command was let go without its approval", "tid", tid, "device", c.Device, "name", c.Name, "by", p.Name, "why", why)
	}
	return c, done(err)
}

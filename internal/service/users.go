package service

import (
	"context"
	"slices"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
)

// User acts, as the audit log has them. Stored; never change.
const (
	actAddUser     = "user.add"
	actChangeUser  = "user.change"
	actSetPassword = "user.password"
	actRemoveUser  = "user.remove"
	actLogin       = "session.login"
	actLogout      = "session.logout"
)

// AddUser makes a user. Nobody gives what it has not; a grant that names no groups
// is for all that p has as admin.
func (s *Service) AddUser(ctx context.Context, p Principal, n NewUser) (User, error) {
	if err := must(p, Admin); err != nil {
		return User{}, err
	}
	n.Grants = within(p, n.Grants)
	if err := mayGive(p, n.Grants); err != nil {
		return User{}, err
	}
	u, err := s.opt.Fleet.AddUser(ctx, n)
	return u, done(err)
}

// Users lists the users that p may change, by name.
func (s *Service) Users(_ context.Context, p Principal) ([]User, error) {
	if err := must(p, Admin); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(s.opt.Fleet.Users(), func(u User) bool { return !p.Covers(u.Grants) }), nil
}

// User looks at a user: one that p may change, or itself.
func (s *Service) User(_ context.Context, p Principal, name string) (User, error) {
	if name != p.Name {
		if err := must(p, Admin); err != nil {
			return User{}, err
		}
	}
	return s.userOf(p, name)
}

// userOf is a user that p may look at. That others exist is told to nobody.
func (s *Service) userOf(p Principal, name string) (User, error) {
	u, ok := s.opt.Fleet.User(name)
	if !ok || name != p.Name && !p.Covers(u.Grants) {
		return User{}, &fault.Error{Code: fault.NotFound, Field: "name", Message: "there is no such user; list them with wilco user list"}
	}
	return u, nil
}

// ChangeUser changes what a user may do, at once for all who are logged in as it.
func (s *Service) ChangeUser(ctx context.Context, p Principal, name string, c UserChange) (User, error) {
	if err := s.manageUser(p, name); err != nil {
		return User{}, err
	}
	if c.Grants == nil && c.Disabled == nil {
		return User{}, fault.New(fault.Invalid, "nothing to change; give grants or disabled")
	}
	if c.Grants != nil {
		c.Grants = within(p, c.Grants)
		if err := mayGive(p, c.Grants); err != nil {
			return User{}, err
		}
	}
	u, err := s.opt.Fleet.ChangeUser(ctx, name, c)
	return u, done(err)
}

// SetPassword gives a user another password and ends its sessions. Who changes the
// own one says the old one too.
func (s *Service) SetPassword(ctx context.Context, p Principal, name, password, old, remote string) (User, error) {
	if name != p.Name {
		if err := s.manageUser(p, name); err != nil {
			return User{}, err
		}
	} else if err := s.ownPassword(ctx, p, old, remote); err != nil {
		return User{}, err
	}
	u, err := s.opt.Fleet.SetPassword(ctx, name, password)
	return u, done(err)
}

func (s *Service) ownPassword(ctx context.Context, p Principal, old, remote string) error {
	if _, err := s.userOf(p, p.Name); err != nil {
		return err
	}
	if old == "" {
		return fault.Field("old", "missing; give the password that you have")
	}
	_, err := s.opt.Fleet.CheckPassword(ctx, p.Name, old, remote)
	if fault.CodeOf(err) == fault.Unauthenticated {
		return fault.Field("old", "is not your password")
	}
	return done(err)
}

// RemoveUser forgets a user, with all its sessions and tokens.
func (s *Service) RemoveUser(ctx context.Context, p Principal, name string) error {
	if err := s.manageUser(p, name); err != nil {
		return err
	}
	return done(s.opt.Fleet.RemoveUser(ctx, name))
}

// manageUser checks that p may change the user: as an admin who has all that the
// user has.
func (s *Service) manageUser(p Principal, name string) error {
	if err := must(p, Admin); err != nil {
		return err
	}
	u, err := s.userOf(p, name)
	if err == nil && !p.Covers(u.Grants) {
		err = fault.New(fault.Forbidden, "%q may do more than %q gives as admin", name, p.Name)
	}
	return err
}

// Login makes a session of a user: a token that is told this once. Remote is the
// address that the password comes from. Errors: Unauthenticated, the same for a
// user that does not exist; TooMany, after too many that failed.
func (s *Service) Login(ctx context.Context, name, password, remote string) (Token, string, error) {
	t, secret, err := s.opt.Fleet.LoginUser(ctx, name, password, remote)
	if code := fault.CodeOf(err); code == fault.Unauthenticated || code == fault.TooMany {
		if _, known := s.opt.Fleet.User(name); !known {
			name = "(unknown)" // people type their passwords there
		}
		s.log.Warn("a login was refused", "user", name, "address", remote, "code", code)
	}
	return t, secret, done(err)
}

// Logout ends the session that p came by.
func (s *Service) Logout(ctx context.Context, p Principal) error {
	all, err := s.opt.Fleet.Tokens(ctx)
	if err != nil {
		return done(err)
	}
	for _, t := range all {
		if t.ID == p.Token && t.Kind == fleet.KindSession {
			return done(s.opt.Fleet.RemoveToken(ctx, t.ID))
		}
	}
	return fault.New(fault.Conflict, "this is not a session of a login; remove a token with wilco token remove")
}

// AddUser makes a user.
func (a *Audited) AddUser(ctx context.Context, p Principal, n NewUser) (User, error) {
	u, err := a.Service.AddUser(ctx, p, n)
	return u, a.record(ctx, entryOf(p, actAddUser, n.Name, "grants="+fleet.Text(given(u.Grants, n.Grants, err))), err)
}

// ChangeUser changes what a user may do.
func (a *Audited) ChangeUser(ctx context.Context, p Principal, name string, c UserChange) (User, error) {
	u, err := a.Service.ChangeUser(ctx, p, name, c)
	detail := ""
	if c.Grants != nil {
		detail = "grants=" + fleet.Text(given(u.Grants, c.Grants, err))
	}
	if c.Disabled != nil && *c.Disabled {
		detail += " disabled"
	} else if c.Disabled != nil {
		detail += " enabled"
	}
	return u, a.record(ctx, entryOf(p, actChangeUser, name, detail), err)
}

// SetPassword gives a user another password.
func (a *Audited) SetPassword(ctx context.Context, p Principal, name, password, old, remote string) (User, error) {
	u, err := a.Service.SetPassword(ctx, p, name, password, old, remote)
	return u, a.record(ctx, entryOf(p, actSetPassword, name, ""), err)
}

// RemoveUser forgets a user.
func (a *Audited) RemoveUser(ctx context.Context, p Principal, name string) error {
	return a.record(ctx, entryOf(p, actRemoveUser, name, ""), a.Service.RemoveUser(ctx, p, name))
}

// Login makes a session of a user. Those that fail are in the program's log: the
// audit log is kept for ever, and anybody can fail.
func (a *Audited) Login(ctx context.Context, name, password, remote string) (Token, string, error) {
	t, secret, err := a.Service.Login(ctx, name, password, remote)
	if err != nil {
		return Token{}, "", err
	}
	u, _ := a.opt.Fleet.User(name)
	e := entryOf(Principal{Name: name, Grants: u.Grants}, actLogin, t.ID, remote)
	return t, secret, a.record(ctx, e, nil)
}

// Logout ends the session that p came by.
func (a *Audited) Logout(ctx context.Context, p Principal) error {
	return a.record(ctx, entryOf(p, actLogout, p.Token, ""), a.Service.Logout(ctx, p))
}

package service

import (
	"context"
	"slices"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/fleet"
)

// CreateToken makes a token and returns its text, which is kept nowhere. Nobody
// gives what it has not: an admin of some groups makes tokens of these, and a
// grant that names no groups is for all that the admin has. A name is one party, so
// nobody makes a token of a name that has more than it has itself: by it the answers
// to requests of others would come. Errors: NotFound also for a user that p may not
// change.
func (s *Service) CreateToken(ctx context.Context, p Principal, n NewToken) (Token, string, error) {
	if err := must(p, Admin); err != nil {
		return Token{}, "", err
	}
	given := within(p, n.Grants)
	if n.User == "" {
		n.Grants = given
	} else {
		u, err := s.userOf(p, n.User)
		if err != nil {
			return Token{}, "", err
		}
		given = u.Grants
	}
	if err := mayGive(p, given); err != nil {
		return Token{}, "", err
	}
	if n.User == "" {
		if err := s.mayName(ctx, p, n.Name); err != nil {
			return Token{}, "", err
		}
	}
	t, secret, err := s.opt.Fleet.CreateToken(ctx, n)
	return t, secret, done(err)
}

// mayName says Exists when the name is that of a token that p may not remove.
func (s *Service) mayName(ctx context.Context, p Principal, name string) error {
	all, err := s.opt.Fleet.Tokens(ctx)
	if err != nil {
		return done(err)
	}
	for i := range all {
		if t := &all[i]; t.User == "" && t.Name == name && !p.Covers(t.Grants) {
			return &fault.Error{Code: fault.Exists, Field: "name", Message: "there is a token named " + name + ", which is not yours to manage; take another name"}
		}
	}
	return nil
}

// within gives grants that are for all groups those of p, if it has only some.
func within(p Principal, grants []Grant) []Grant {
	groups, all := p.Groups(Admin)
	if all {
		return grants
	}
	grants = slices.Clone(grants)
	for i := range grants {
		if len(grants[i].Groups) == 0 {
			grants[i].Groups = groups
		}
	}
	return grants
}

// mayGive says Forbidden when p has not all that grants give.
func mayGive(p Principal, grants []Grant) error {
	if p.Covers(grants) {
		return nil
	}
	for i := range grants {
		for _, group := range grants[i].Groups {
			if err := may(p, Admin, group, ""); err != nil {
				return err
			}
		}
	}
	return fault.New(fault.Forbidden, "%q cannot give %s: that is more than it has as admin", p.Name, fleet.Text(grants))
}

// Tokens lists the tokens that the principal may remove.
func (s *Service) Tokens(ctx context.Context, p Principal) ([]Token, error) {
	if err := must(p, Admin); err != nil {
		return nil, err
	}
	all, err := s.opt.Fleet.Tokens(ctx)
	if err != nil {
		return nil, done(err)
	}
	return slices.DeleteFunc(all, func(t Token) bool {
		if t.User != "" {
			u, _ := s.opt.Fleet.User(t.User)
			return !p.Covers(u.Grants)
		}
		return !p.Covers(t.Grants)
	}), nil
}

// RemoveToken makes a token void at once.
func (s *Service) RemoveToken(ctx context.Context, p Principal, id string) error {
	mine, err := s.Tokens(ctx, p)
	if err != nil {
		return err
	}
	for _, t := range mine {
		if t.ID == id {
			return done(s.opt.Fleet.RemoveToken(ctx, id))
		}
	}
	return &fault.Error{Code: fault.NotFound, Field: "id", Message: "there is no token " + id + "; list them with wilco token list"}
}

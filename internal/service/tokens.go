package service

import (
	"context"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// CreateToken makes a token and returns its text, which is kept nowhere. An
// admin of one group makes tokens of that group only.
func (s *Service) CreateToken(ctx context.Context, p Principal, n NewToken) (store.Token, string, error) {
	if err := must(p, Admin); err != nil {
		return store.Token{}, "", err
	}
	var err error
	if n.Group, err = narrow(p, n.Group); err != nil {
		return store.Token{}, "", err
	}
	switch {
	case n.Name == "" || len(n.Name) > 64 || !validName(n.Name):
		return store.Token{}, "", fault.Field("name", "must be 1 to 64 of the characters A-Z a-z 0-9 . _ : -")
	case !n.Role.AtLeast(Viewer):
		return store.Token{}, "", fault.Field("role", "%q is not one of viewer, operator, admin", n.Role)
	case n.Group != "" && (wire.Address{Group: n.Group, Device: "x"}).Valid() != nil:
		return store.Token{}, "", fault.Field("group", "must be 1 to 64 of the characters A-Z a-z 0-9 . _ : -")
	case n.TTL < 0:
		return store.Token{}, "", fault.Field("ttl", "%s is negative", n.TTL)
	}
	t, secret, err := s.opt.Fleet.CreateToken(ctx, n)
	return t, secret, done(err)
}

// Tokens lists the tokens that the principal may remove.
func (s *Service) Tokens(ctx context.Context, p Principal) ([]store.Token, error) {
	if err := must(p, Admin); err != nil {
		return nil, err
	}
	all, err := s.opt.Fleet.Tokens(ctx)
	if err != nil {
		return nil, done(err)
	}
	mine := all[:0]
	for _, t := range all {
		if p.Group == "" || t.Group == p.Group {
			mine = append(mine, t)
		}
	}
	return mine, nil
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

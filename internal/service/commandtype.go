package service

import (
	"context"
	"time"

	"github.com/wilco-iot/wilco/internal/catalog"
	"github.com/wilco-iot/wilco/internal/catalog/shelf"
	"github.com/wilco-iot/wilco/internal/fault"
)

// Types has the command types.
type Types interface {
	// Version gives one version of a type, 0 the newest. It does not block.
	Version(name string, version int) (*shelf.Item, bool)
	// All gives the newest version of each. It does not block.
	All() []*shelf.Item
	Apply(ctx context.Context, want catalog.Type, by string, now time.Time) (*shelf.Item, bool, error)
}

// ApplyType makes a type, as catalog.Parse gives it, the one that new commands of
// its name are made by. The same content again is no new version. Types are for
// all groups, and so are those who may change them.
func (s *Service) ApplyType(ctx context.Context, p Principal, t catalog.Type) (applied catalog.Type, isNew bool, err error) {
	if err := mayAll(p, Admin); err != nil {
		return catalog.Type{}, false, err
	}
	item, isNew, err := s.opt.Types.Apply(ctx, t, p.Name, time.Now())
	if err != nil {
		return catalog.Type{}, false, done(err)
	}
	return item.Type, isNew, nil
}

// DeprecateType makes a version of a type that warns whoever sends commands of it.
func (s *Service) DeprecateType(ctx context.Context, p Principal, name, why string) (catalog.Type, error) {
	if err := mayAll(p, Admin); err != nil {
		return catalog.Type{}, err
	}
	if why == "" || len(why) > catalog.MaxText {
		return catalog.Type{}, fault.Field("reason", "must be 1 to %d bytes: why, and what to use instead", catalog.MaxText)
	}
	t, err := s.Type(ctx, p, name, 0)
	if err != nil {
		return t, err
	}
	t.Deprecated = why
	t, _, err = s.ApplyType(ctx, p, t)
	return t, err
}

// Type looks at one version of a command type; 0 is the newest.
func (s *Service) Type(_ context.Context, p Principal, name string, version int) (catalog.Type, error) {
	if err := must(p, Viewer); err != nil {
		return catalog.Type{}, err
	}
	item, ok := s.opt.Types.Version(name, version)
	switch {
	case ok:
		return item.Type, nil
	case version == 0:
		return catalog.Type{}, unknownType("name", name)
	}
	return catalog.Type{}, &fault.Error{Code: fault.NotFound, Field: "version", Message: "the command type has no such version; leave it out for the newest"}
}

func unknownType(field, name string) error {
	if !validName(name) {
		name = "of that name"
	}
	return &fault.Error{Code: fault.NotFound, Field: field, Message: "there is no command type " + name + "; list them with wilco type list"}
}

// ListTypes gives the newest version of each type, in the order of their names.
func (s *Service) ListTypes(_ context.Context, p Principal) ([]catalog.Type, error) {
	if err := must(p, Viewer); err != nil {
		return nil, err
	}
	items := s.opt.Types.All()
	list := make([]catalog.Type, len(items))
	for i := range items {
		list[i] = items[i].Type
	}
	return list, nil
}

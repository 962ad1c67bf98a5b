// Package service is what wilco does for those who ask: one method for each
// thing that a person or program can want of it.
//
//	HTTP (package api) ─► Service ─┬─► engine   create, cancel, retry, wait
//	                               ├─► store    look, list, events
//	                               └─► fleet    devices and tokens
//
// Every method takes the [Principal] who asks, checks the role and the group,
// checks the values, and does one thing. Nothing above this package checks
// rights, and nothing below does. What is refused is an error of package fault,
// with the field named as the HTTP API writes it.
//
// A Service has no state of its own. All methods are safe for concurrent use,
// and block until done or until their context ends.
package service

import (
	"context"
	"log/slog"

	"github.com/wilco-iot/wilco/internal/catalog/shelf"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/undo"
	"github.com/wilco-iot/wilco/wire"
)

// Engine makes commands and moves them.
type Engine interface {
	Create(context.Context, []Request) ([]engine.Created, error)
	Cancel(ctx context.Context, tid command.TID, by, why string) (command.Command, error)
	Retry(ctx context.Context, tid command.TID, by, why string) (command.Command, error)
	Approve(ctx context.Context, tid command.TID, by, why, digest string) (command.Command, error)
	Deny(ctx context.Context, tid command.TID, by, why string) (command.Command, error)
	BreakGlass(ctx context.Context, tid command.TID, by, why string) (command.Command, error)
	Undo(context.Context, engine.UndoRequest) (engine.Created, error)
	PlanUndo(context.Context, command.TID) (undo.Plan, error)
	Wait(ctx context.Context, tid command.TID, until func(*command.Command) bool) (command.Command, error)
	Presence(wire.Address) store.Presence
}

// Store is read; what changes it goes through the engine or the fleet.
type Store interface {
	Command(context.Context, command.TID) (command.Command, error)
	CommandByKey(context.Context, wire.Address, string) (command.TID, string, error)
	List(context.Context, store.Query) (page []command.Command, next string, err error)
	Events(ctx context.Context, after int64, limit int) ([]store.Event, error)
	FirstEvent(context.Context) (int64, error)
	LastEvent(context.Context) (int64, error)
	Changed() <-chan struct{}
	Anomalies(ctx context.Context, device wire.Address, limit int) ([]store.Anomaly, error)
	Document(context.Context, store.DocumentID) (store.Document, error)
	Documents(ctx context.Context, kind store.Kind, prefix, after string, limit int) ([]store.Document, error)
}

// Part is a part of the server that can be down. Check returns nil when it is
// up, and must not block.
type Part struct {
	Name  string
	Check func() error
}

// People knows people by the tokens of an issuer elsewhere.
type People interface {
	// Verify may block. Errors: Unauthenticated, Unavailable.
	Verify(ctx context.Context, token string) (Principal, error)
}

// Options configure a Service. Engine, Store and Fleet are required.
type Options struct {
	Engine Engine
	Store  Store
	Fleet  Fleet
	Types  Types // nil: there are none
	// People knows people by tokens that are not of the fleet; nil: there are none.
	People People
	// Sparkplug is nil when the server is no host of edge nodes.
	Sparkplug Sparkplug
	// KnownTypesOnly refuses commands whose name is no type.
	KnownTypesOnly bool
	// Policy is the default of commands that name none; zero fields take those
	// of [command.Defaults].
	Policy command.Policy
	Parts  []Part
	// Version of the program, as health tells it.
	Version string
	Logger  *slog.Logger // default slog.Default
}

// Service is the use cases. Make one with New.
type Service struct {
	opt    Options
	policy command.Policy
	log    *slog.Logger
}

// New makes a service.
func New(o Options) *Service {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Types == nil {
		o.Types = shelf.New(nil)
	}
	return &Service{opt: o, policy: o.Policy.WithDefaults(), log: o.Logger}
}

// Policy is the policy of a command that names none.
func (s *Service) Policy() command.Policy { return s.policy }

// PartHealth is how one part is.
type PartHealth struct {
	Name   string
	Detail string // why it is not ready; "" when it is
}

// Health is how the server is.
type Health struct {
	Ready   bool
	Version string
	Parts   []PartHealth
}

// Health tells how the parts are. Everybody may ask; why a part is down is told
// to those who have a token.
func (s *Service) Health(known bool) Health {
	h := Health{Ready: true, Version: s.opt.Version, Parts: make([]PartHealth, 0, len(s.opt.Parts))}
	for _, p := range s.opt.Parts {
		ph := PartHealth{Name: p.Name}
		if err := p.Check(); err != nil {
			h.Ready = false
			ph.Detail = "down"
			if known {
				ph.Detail = err.Error()
			}
		}
		h.Parts = append(h.Parts, ph)
	}
	return h
}

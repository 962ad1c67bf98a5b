// Package storetest is what every store must pass: one suite of the rules that
// package store states, and a randomised comparison with an oracle written by
// hand. A store's own tests call [Run]; what only that store can suffer, a full
// disk or a dead process, is tested beside it.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
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

	Document(ctx context.Context, id store.DocumentID) (store.Document, error)
	Documents(ctx context.Context, kind store.Kind, prefix, after string, limit int) ([]store.Document, error)

	PutDevice(ctx context.Context, d store.Device, was int64) error
	Device(ctx context.Context, a wire.Address) (store.Device, error)
	Devices(ctx context.Context, q store.DeviceQuery) (page []store.Device, next string, err error)
	AllDevices(ctx context.Context) iter.Seq2[store.Device, error]
	RemoveDevice(ctx context.Context, a wire.Address, kinds ...store.Kind) error
	Anomalies(ctx context.Context, a wire.Address, limit int) ([]store.Anomaly, error)

	Meta(ctx context.Context, key string) ([]byte, error)
	SetMeta(ctx context.Context, key string, value, was []byte) error

	Purge(ctx context.Context, before time.Time, limit int) (int, error)
	Close() error
}

// Opener opens the store of one test, anew each time it is called: what was
// committed before must be there. The caller closes what it was given before.
type Opener func() Store

// Run runs the suite. Start makes a new, empty store and gives its opener.
func Run(t *testing.T, start func(t *testing.T) Opener) {
	for _, c := range []struct {
		name string
		run  func(*suite)
	}{
		{"CommitIsWholeOrNothing", commitIsWholeOrNothing},
		{"CommitSwapsVersions", commitSwapsVersions},
		{"ConflictNamesAllCulprits", conflictNamesAllCulprits},
		{"ConflictsTouchNobodyElse", conflictsTouchNobodyElse},
		{"KeysAreUniquePerDevice", keysAreUniquePerDevice},
		{"BatchBelongsToItsCaller", batchBelongsToItsCaller},
		{"ReopenKeepsEverything", reopenKeepsEverything},
		{"CommandsKeepEverything", commandsKeepEverything},
		{"EndedContexts", endedContexts},
		{"Closed", closed},
		{"OpenCommands", openCommands},
		{"Counts", counts},
		{"ListFilters", listFilters},
		{"ListPages", listPages},
		{"ListRefuses", listRefuses},
		{"EventsAreNumbered", eventsAreNumbered},
		{"EventsOfManyCallers", eventsOfManyCallers},
		{"Changed", changed},
		{"Documents", documents},
		{"DocumentConflicts", documentConflicts},
		{"DocumentPages", documentPages},
		{"Devices", devices},
		{"DevicePages", devicePages},
		{"Presence", presence},
		{"DocumentsGoWithTheirDevice", documentsGoWithTheirDevice},
		{"Anomalies", anomalies},
		{"Meta", meta},
		{"PurgeCommands", purgeCommands},
		{"PurgeEvents", purgeEvents},
		{"Model", model},
	} {
		t.Run(c.name, func(t *testing.T) {
			open := start(t)
			s := &suite{T: t, ctx: t.Context(), open: open, Store: open()}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			c.run(s)
		})
	}
}

// suite is one test: an open store and what is asked of it again and again.
type suite struct {
	*testing.T
	Store
	ctx  context.Context
	open Opener
}

// reopen is what a new process sees.
func (s *suite) reopen() {
	s.Helper()
	s.no(s.Close())
	s.Store = s.open()
}

// no fails the test when there is an error.
func (s *suite) no(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// fails fails the test unless err has that code.
func (s *suite) fails(err error, code fault.Code) {
	s.Helper()
	if fault.CodeOf(err) != code {
		s.Errorf("got %v, want %s", err, code)
	}
}

func (s *suite) commit(b store.Batch) int64 {
	s.Helper()
	last, err := s.Commit(s.ctx, &b)
	s.no(err)
	return last
}

// conflicts commits what must be refused, and gives the culprits.
func (s *suite) conflicts(b store.Batch) []command.TID {
	s.Helper()
	_, err := s.Commit(s.ctx, &b)
	var c *store.ConflictError
	if !errors.As(err, &c) {
		s.Fatalf("got %v, want a conflict", err)
	}
	return c.TIDs
}

// put writes commands in place of the versions before theirs.
func (s *suite) put(commands ...command.Command) {
	s.Helper()
	s.commit(store.Batch{Commands: writes(commands...)})
}

func writes(commands ...command.Command) (w []store.CommandWrite) {
	for _, c := range commands {
		w = append(w, store.CommandWrite{Command: c, Was: c.Version - 1})
	}
	return w
}

// is fails the test unless the store has exactly this command.
func (s *suite) is(want command.Command) {
	s.Helper()
	got, err := s.Command(s.ctx, want.TID)
	s.no(err)
	if text(got) != text(want) {
		s.Errorf("got  %s\nwant %s", text(got), text(want))
	}
}

// text is a value to compare and to print.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// epoch is when the commands of the tests are made.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// tid is the UUIDv7 number n of a moment.
func tid(at time.Time, n int) (id command.TID) {
	ms := at.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	id[6], id[8] = 0x70, 0x80
	id[13], id[14], id[15] = byte(n>>16), byte(n>>8), byte(n)
	return id
}

var (
	pump  = wire.Address{Group: "site", Device: "pump"}
	valve = wire.Address{Group: "site", Device: "valve"}
	// A group that only differs by what comes after: no prefix must find it.
	other = wire.Address{Group: "site-2", Device: "pump"}
)

// made is a new command, number n, made n seconds after the epoch.
func made(n int, device wire.Address) command.Command {
	at := epoch.Add(time.Duration(n) * time.Second)
	c, err := command.New(tid(at, n), device, "valve.set", json.RawMessage(`{"n":1}`), command.Defaults, "ops", nil, at)
	if err != nil {
		panic(err)
	}
	return c
}

// in is c moved to a state, one version on.
func in(c command.Command, state command.State, at time.Time) command.Command {
	c.State = state
	c.Version++
	c.Timeline = append(c.Timeline[:len(c.Timeline):len(c.Timeline)], command.Entry{At: at, Kind: command.Dispatch, State: state, Reason: command.TurnCame})
	c.Wake = at.Add(time.Minute)
	if c.Final() {
		c.Ended, c.Wake = at, time.Time{}
	}
	return c
}

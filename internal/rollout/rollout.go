// Package rollout sends one command to many devices, as a plan says: see package
// plan for what it decides, and when.
//
//	events ─► loop ─► plan.Step ──one commit──► roll-out, targets, alarms
//	           ▲                                    │ then
//	           └──── what became of them ◄── make commands, cancel them
//
// A roll-out is a document of kind "rollout", and its targets are two documents of
// kind "target" for each 1,024 of them: who they are, written once, and the state and
// command of each, written when one of them has changed, at most once a turn. That
// targets are to be started is committed first; then their commands are made, with
// the idempotency key rollout/ID/RUN/NUMBER, in which RUN tells it from others that
// had its name. After kill -9 between any two steps the next Start makes those again
// that are not known to be made, and gets the ones that are.
//
// What cannot be done at one target costs that target alone: it is tried again, later
// and later, and in the end it has failed. A record that cannot be read costs its
// roll-out alone, which is shown as damaged.
//
// Ends come from the event stream. Its place is not kept: the commands themselves are
// the truth, so Start looks at those that were open, and then follows the stream from
// where it was before it looked. So it does when events were purged before it has
// seen them. One that has ended is followed until no late answer can change what it
// says of its targets any more.
//
// What runs: one loop, which Stop waits for. All that is asked for by people goes
// through the same lock as its decisions. A Runner is safe for concurrent use. One
// process owns the roll-outs of a store.
package rollout

import (
	"context"
	"encoding/json"
	"iter"
	"log/slog"
	"sync"
	"time"
	_ "time/tzdata" // windows must mean the same where the system has no zones

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// Kinds of documents. Stored; never change.
const (
	kindRollout store.Kind = "rollout" // by id
	kindTarget  store.Kind = "target"  // by id, number of the piece, and "devices" or "state"
)

// KeyPrefix begins the idempotency keys of the commands of roll-outs. Nobody else
// may use such keys. Stored; never change.
const KeyPrefix = "rollout/"

// Bounds of what is asked for.
const (
	MaxTargets = 1_000_000
	MaxActive  = 64 // roll-outs that have not ended
)

// Store is what roll-outs need of a store.
type Store interface {
	Commit(ctx context.Context, b *store.Batch) (lastEvent int64, err error)
	Document(ctx context.Context, id store.DocumentID) (store.Document, error)
	Documents(ctx context.Context, kind store.Kind, prefix, after string, limit int) ([]store.Document, error)
	Commands(ctx context.Context, tids []command.TID) ([]command.Command, error)
	CommandByKey(context.Context, wire.Address, string) (command.TID, string, error)
	Events(ctx context.Context, after int64, limit int) ([]store.Event, error)
	LastEvent(context.Context) (int64, error)
	Changed() <-chan struct{}
}

// Directory knows the registered devices.
type Directory interface {
	Device(wire.Address) (store.Device, bool)
	All() iter.Seq[store.Device]
}

// Order is a command of a roll-out.
type Order struct {
	Device  wire.Address
	Name    string
	Params  json.RawMessage
	Policy  command.Policy
	Terms   *command.Terms
	Key     string
	Digest  string
	By      string
	Rollout string
	Desires bool // with Undo: it may be a change of desired state
}

// Outcome is what became of an Order: the command, new or as it was made by the same
// key before, or why there is none.
type Outcome struct {
	Command command.Command
	Err     error
}

// Options configure a Runner. All but Undo, Absent and Logger are required.
type Options struct {
	Store     Store
	Directory Directory
	Presence  func(wire.Address) store.Presence
	// Create makes commands. The same key makes one once.
	Create func(context.Context, []Order) ([]Outcome, error)
	Cancel func(ctx context.Context, tid command.TID, by, why string) error
	// Undo makes the command that takes tid back, once for the same key, with the name
	// and params that this needs; its time for delivery is at most that of the order.
	// nil: nothing can be taken back.
	Undo func(ctx context.Context, tid command.TID, o Order, why string) (command.Command, error)
	// Absent says why somebody cannot answer for a roll-out any more; "": they can. It is
	// asked often and must not block. nil: everybody always can.
	Absent func(plan.Party) (why string)
	Logger *slog.Logger // default slog.Default
}

const (
	eventPage   = 1000
	pagesAtOnce = 20 // of a turn
	// turnEvery is how often there is a turn at most: the ends of several commits are
	// counted in one.
	turnEvery = 50 * time.Millisecond
	// pauseAfter an error of the store or the engine.
	pauseAfter = time.Second
	// lookEvery is how often a dynamic roll-out looks for new devices, and all look
	// whether those who answer for them still can.
	lookEvery = 10 * time.Second
)

// Runner runs the roll-outs. Make one with New.
type Runner struct {
	opt Options
	log *slog.Logger
	now func() time.Time

	poke    chan struct{}
	cancel  context.CancelFunc
	running sync.WaitGroup

	// Of the loop alone.
	at     int64 // id of the last event that was passed; -1: not yet known
	looked time.Time

	mu      sync.Mutex
	active  map[string]*run       // those that have not ended, and those of which a late answer can still change something
	damaged map[string]*damage    // of those that cannot be read
	byTID   map[command.TID]place // of the commands that have not ended for good
	ended   map[plan.State]int64  // since the start
	stale   bool                  // a commit has failed: what is in memory may differ from the store
	lost    bool                  // read anew: the place in the event stream is to be found again
}

// place is where a command belongs.
type place struct {
	run    *run
	target int
}

// run is a roll-out in memory, with its targets.
type run struct {
	plan.Rollout
	version int64 // of its document
	pieces  []*piece
	todo    []plan.Action // committed, and to be done
	late    []plan.Action // Starts that must wait: for the next window, or for somebody who answers
	news    []plan.Change // of what was done, to be given to the plan
	given   []plan.Action // alarms: what people are to be told of news: which targets were given up
	doubt   bool          // Restarted is to be given to the plan
	tracked int           // commands in byTID
	failing map[int]*failing
	known   map[wire.Address]struct{}
}

// New makes a runner that does nothing until Start.
func New(o Options) *Runner {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Runner{opt: o, log: o.Logger, now: time.Now, poke: make(chan struct{}, 1), cancel: func() {}, at: -1,
		active: map[string]*run{}, damaged: map[string]*damage{}, byTID: map[command.TID]place{}, ended: map[plan.State]int64{}}
}

// Start takes up the roll-outs that have not ended, and begins. It blocks while it
// reads them from the store.
func (r *Runner) Start(ctx context.Context) error {
	if err := r.load(ctx); err != nil {
		return err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	r.running.Go(func() { r.loop(run) })
	return nil
}

// Stop breaks off what is being done, which the next Start takes up, and waits for
// the loop, at most until ctx ends.
func (r *Runner) Stop(ctx context.Context) error {
	r.cancel()
	done := make(chan struct{})
	go func() { r.running.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stats is how many roll-outs and targets there are, for metrics.
type Stats struct {
	Active  map[plan.State]int   // roll-outs that have not ended, and damaged ones
	Ended   map[plan.State]int64 // roll-outs that have, since the start
	Targets plan.Counts          // of the active ones
}

// Stats counts.
func (r *Runner) Stats() Stats {
	s := Stats{Active: map[plan.State]int{}, Ended: map[plan.State]int64{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Active[plan.Damaged] = len(r.damaged)
	for _, run := range r.open() {
		s.Active[run.State]++
		for c, n := range run.Counts() {
			s.Targets[c] += n
		}
	}
	for state, n := range r.ended {
		s.Ended[state] = n
	}
	return s
}

func (r *Runner) wakeLoop() {
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

func unknown(id string) error {
	return &fault.Error{Code: fault.NotFound, Field: "id", Message: "there is no roll-out " + id + "; list them with wilco rollout list"}
}

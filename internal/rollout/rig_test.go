package rollout

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
	"github.com/wilco-iot/wilco/wire"
)

var errDead = errors.New("killed")

// rig is a store that outlives runners, an engine over it, and a clock.
type rig struct {
	t   *testing.T
	db  *sqlite.Store
	now time.Time
	dir fixed

	mu    sync.Mutex
	fuse  int  // operations until the runner is killed; 0: never
	after bool // the operation that it dies in takes effect
	dead  bool
	undos map[string]command.TID // by key

	refuse wire.Address           // takes no commands any more
	broken map[wire.Address]error // nothing can be made for them, or cancelled
	whole  bool                   // which fails all that is asked for with them
	absent map[string]string      // who cannot answer, and why
}

type fixed []store.Device

func (f fixed) Device(a wire.Address) (store.Device, bool) {
	for _, d := range f {
		if d.Address == a {
			return d, true
		}
	}
	return store.Device{}, false
}

func (f fixed) All() iter.Seq[store.Device] { return slices.Values(f) }

func newRig(t *testing.T, devices int) *rig {
	t.Helper()
	db, err := sqlite.Open(filepath.Join(t.TempDir(), "w.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	g := &rig{t: t, db: db, now: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC), undos: map[string]command.TID{}}
	for i := range devices {
		g.dir = append(g.dir, store.Device{Address: device(i), Tags: []string{"valve"}})
	}
	return g
}

func device(i int) wire.Address {
	return wire.Address{Group: "plant", Device: "v" + strconv.Itoa(1000+i)}
}

// mortal is what a runner sees of the rig: it fails for good when it is killed.
type mortal struct {
	*sqlite.Store
	g *rig
}

// op does f, unless the fuse has burnt down.
func (g *rig) op(f func() error) error {
	g.mu.Lock()
	if g.dead {
		g.mu.Unlock()
		return errDead
	}
	if g.fuse > 0 {
		if g.fuse--; g.fuse == 0 {
			g.dead = true
			g.mu.Unlock()
			if g.after {
				_ = f() // done, and nobody was told
			}
			return errDead
		}
	}
	g.mu.Unlock()
	return f()
}

func (m mortal) Commit(ctx context.Context, b *store.Batch) (last int64, err error) {
	err = m.g.op(func() error { last, err = m.Store.Commit(ctx, b); return err })
	return last, err
}

// runner is a new one over what is kept.
func (g *rig) runner() *Runner {
	g.t.Helper()
	g.mu.Lock()
	g.dead = false
	g.mu.Unlock()
	r := New(Options{Store: mortal{g.db, g}, Directory: &g.dir, Presence: func(a wire.Address) store.Presence { return store.Presence{Device: a, Online: true} },
		Create: g.create, Cancel: g.cancel, Undo: g.undo, Logger: slog.New(slog.DiscardHandler)})
	if g.absent != nil {
		r.opt.Absent = func(p plan.Party) string { return g.absent[p.Name] }
	}
	r.now = func() time.Time { return g.now }
	if err := r.load(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
	return r
}

func (g *rig) create(ctx context.Context, orders []Order) ([]Outcome, error) {
	out := make([]Outcome, len(orders))
	err := g.op(func() error {
		for i, o := range orders {
			if o.Device == g.refuse {
				out[i].Err = fault.New(fault.Invalid, "%s does not know it", o.Device)
				continue
			}
			if err := g.broken[o.Device]; err != nil && g.whole {
				return err
			} else if err != nil {
				out[i].Err = err
				continue
			}
			out[i].Command = g.make(o)
		}
		return nil
	})
	return out, err
}

func (g *rig) make(o Order) command.Command {
	ctx := g.t.Context()
	if tid, _, err := g.db.CommandByKey(ctx, o.Device, o.Key); err == nil {
		c, err := g.db.Command(ctx, tid)
		if err != nil {
			g.t.Error(err)
		}
		return c
	}
	c, err := command.New(uuid.Must(uuid.NewV7()), o.Device, o.Name, o.Params, o.Policy, o.By, nil, g.now)
	if err != nil {
		g.t.Error(err)
	}
	c.Key, c.Digest, c.Rollout = o.Key, o.Digest, o.Rollout
	g.put(c, 0, "")
	return c
}

func (g *rig) put(c command.Command, was int64, from command.State) {
	_, err := g.db.Commit(g.t.Context(), &store.Batch{Commands: []store.CommandWrite{{Command: c, Was: was}},
		Events: []store.Event{{Type: store.EventCommand, At: g.now, Device: c.Device, TID: &c.TID, Name: c.Name, From: from, State: c.State, Reason: c.Reason}}})
	if err != nil {
		g.t.Error(err)
	}
}

func (g *rig) cancel(ctx context.Context, tid command.TID, by, why string) error {
	return g.op(func() error {
		c, err := g.db.Command(ctx, tid)
		if err := errors.Join(err, g.broken[c.Device]); err != nil {
			return err
		}
		return g.end(tid, command.Cancelled)
	})
}

func (g *rig) undo(ctx context.Context, tid command.TID, o Order, why string) (c command.Command, err error) {
	err = g.op(func() error {
		of, err := g.db.Command(ctx, tid)
		if err != nil {
			return err
		}
		c = g.make(Order{Device: of.Device, Name: "undo", Key: o.Key, By: o.By, Rollout: o.Rollout})
		g.mu.Lock()
		g.undos[o.Key] = tid
		g.mu.Unlock()
		return nil
	})
	return c, err
}

// end moves a command to a state.
func (g *rig) end(tid command.TID, s command.State) error {
	c, err := g.db.Command(g.t.Context(), tid)
	if err != nil {
		return err
	}
	if c.Final() {
		return fault.New(fault.Conflict, "it has ended")
	}
	from := c.State
	c.State, c.Version = s, c.Version+1
	if s == command.TimedOut && from == s {
		c.Closed, c.Reason = true, command.NeverSettled
	}
	if s.Final() {
		c.Ended, c.Wake = g.now, time.Time{}
	}
	g.put(c, c.Version-1, from)
	return nil
}

// commands are all of them, in the order of their making.
func (g *rig) commands() []command.Command {
	g.t.Helper()
	list, _, err := g.db.List(g.t.Context(), store.Query{OldestFirst: true, Limit: 1000})
	if err != nil {
		g.t.Fatal(err)
	}
	return list
}

// endAll ends what is open as say says.
func (g *rig) endAll(say func(c *command.Command) command.State) (n int) {
	for _, c := range g.commands() {
		if s := say(&c); !c.State.Final() && s != c.State {
			if err := g.end(c.TID, s); err != nil {
				g.t.Error(err)
			}
			n++
		}
	}
	return n
}

func allExecuted(*command.Command) command.State { return command.Executed }

// turns makes turns until nothing moves, or the runner is dead.
func (g *rig) turns(r *Runner) {
	g.t.Helper()
	for more := true; more; {
		var err error
		if more, err = r.turn(g.t.Context()); err != nil {
			if !g.dead {
				g.t.Fatal(err)
			}
			return
		}
	}
}

// commit is that of a person's act.
func (g *rig) commit(docs []store.DocumentWrite, events []store.Event) error {
	return g.op(func() error {
		_, err := g.db.Commit(g.t.Context(), &store.Batch{Documents: docs, Events: events})
		return err
	})
}

func (g *rig) begin(r *Runner, id string, spec plan.Spec) (plan.Rollout, error) {
	g.t.Helper()
	spec.Command = "firmware.install"
	to, err := r.Select(&spec.Targets, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	p, _, err := r.Begin(g.t.Context(), Draft{Rollout: plan.Rollout{ID: id, Spec: spec, By: "ada", Policy: command.Defaults, Digest: "d"}, Targets: to}, g.commit)
	return p, err
}

func (g *rig) get(r *Runner, id string) plan.Rollout {
	g.t.Helper()
	p, err := r.Get(g.t.Context(), id)
	if err != nil {
		g.t.Fatal(err)
	}
	return p
}

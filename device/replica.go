package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// Replica is the device's end of its state: it reports how the device is, and
// hears how it should be. T is what the state looks like, a struct or a map, by
// its JSON.
//
//	state := device.NewReplica[Valve](d)
//	state.OnDesired("position", func(ctx context.Context, v json.RawMessage) error { ... })
//	err := state.Report(Valve{Position: 10})
//
// What is desired comes as the command "state.desired", in the order of all
// commands and with their promises; or, when it was changed while the command
// could not come, with the answer to the question that the device asks whenever it
// connects. A callback that returns nil has made it so: the device then reports
// what was desired, unless it has reported otherwise meanwhile. Its error refuses
// or fails the command as that of a [Handler] does; what came by the answer is
// then logged, and tried again with the next connection.
//
// Reports are sent one after the other, in their order; those that wait become
// one. With each connection the device compares what the server has with what it
// has itself, and reports what differs. With [KeepReports] the last report
// survives a restart of the program; otherwise the server keeps it, and the
// device begins with what it reports next.
//
// All methods are safe for concurrent use.
type Replica[T any] struct{ c *replica }

// ReplicaOption changes a [Replica].
type ReplicaOption func(*replica)

// KeepReports writes what is reported into the device's journal, the latest only,
// so that a restart in between loses no report.
func KeepReports() ReplicaOption { return func(c *replica) { c.keep = true } }

// NewReplica gives d a state, before Run. It panics when d has one already, or
// speaks a profile that knows of no state.
func NewReplica[T any](d *Device, options ...ReplicaOption) *Replica[T] {
	if _, ok := d.cfg.Profile.(wire.StateProfile); !ok {
		panic("device: the profile " + d.cfg.Profile.Name() + " has no state")
	}
	c := &replica{reported: state.Object{}}
	for _, o := range options {
		o(c)
	}
	d.Handle(wire.StateDesired, c.handle)
	d.replica = c
	return &Replica[T]{c}
}

// Report says how the device is: patch is merged into what it has reported before.
// It may be a T, a map, or JSON; null takes a member away. Report returns once it
// is noted, and does not wait for the server. It fails for what is no JSON object,
// or would make the state too large.
func (r *Replica[T]) Report(patch any) error {
	b, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("device: report: %w", err)
	}
	o, err := state.Parse(b)
	if err == nil {
		err = r.c.report(o, true)
	}
	if err != nil {
		return fmt.Errorf("device: report: %w", err)
	}
	return nil
}

// Reported is what the device has reported so far.
func (r *Replica[T]) Reported() (T, error) {
	var v T
	r.c.mu.Lock()
	b := r.c.reported.Append(nil)
	r.c.mu.Unlock()
	return v, json.Unmarshal(b, &v)
}

// OnDesired calls f when something is desired at path or below it, with the value
// there; null when it should be taken away. The empty path is the whole change,
// and is called last. Callbacks are called one after the other, in the order in
// which they were registered, from one goroutine at a time; ctx ends as that of a
// [Handler]. A change at paths that have no callback is refused as "bad_params".
func (r *Replica[T]) OnDesired(path string, f func(ctx context.Context, v json.RawMessage) error) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	r.c.wishes = append(r.c.wishes, wish{path, f})
	slices.SortStableFunc(r.c.wishes, func(a, b wish) int {
		switch {
		case a.path == "" && b.path != "":
			return 1
		case a.path != "" && b.path == "":
			return -1
		}
		return 0
	})
}

// OnChange calls f with the whole change as a T: what is not changed is zero there.
func (r *Replica[T]) OnChange(f func(ctx context.Context, change T) error) {
	r.OnDesired("", func(ctx context.Context, v json.RawMessage) error {
		var change T
		if err := json.Unmarshal(v, &change); err != nil {
			return Reject(wire.ReasonBadParams, err.Error())
		}
		return f(ctx, change)
	})
}

type wish struct {
	path string
	call func(context.Context, json.RawMessage) error
}

// replica is a Replica without its type.
type replica struct {
	keep bool

	applying sync.Mutex // held while callbacks run

	mu       sync.Mutex
	wishes   []wish
	reported state.Object
	at       map[string]time.Time // when each leaf of it was reported in this program; none: before
	owed     []state.Object       // patches that the server has yet to get, in order
	dirty    bool                 // reported is not in the journal yet
	wake     func()               // tells the run, if there is one
}

// report notes a patch; owe: the server must be told.
func (c *replica) report(patch state.Object, owe bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := state.Merge(c.reported, patch)
	if err := next.Check(); err != nil {
		return err
	}
	c.reported, c.dirty = next, true
	c.date(patch)
	if owe {
		c.owe(patch)
	}
	if c.wake != nil {
		c.wake()
	}
	return nil
}

// owe puts a patch behind those that the server has yet to get, as one with the
// last of them where that means the same.
func (c *replica) owe(patch state.Object) {
	if n := len(c.owed); n > 0 && composable(c.owed[n-1], patch) {
		c.owed[n-1] = compose(c.owed[n-1], patch)
		return
	}
	c.owed = append(c.owed, patch)
}

// composable tells whether one patch can say what both say: not where an object
// takes the place of what was another value or nothing, because merged into an
// object it would keep the members that were there before.
func composable(first, then state.Object) bool {
	for name, v := range then {
		b, isB := v.(state.Object)
		old, there := first[name]
		if !isB || !there {
			continue
		}
		if a, isA := old.(state.Object); !isA || !composable(a, b) {
			return false
		}
	}
	return true
}

// compose makes one patch of two, nulls kept.
func compose(first, then state.Object) state.Object {
	out := make(state.Object, len(first)+len(then))
	for name, v := range first {
		out[name] = v
	}
	for name, v := range then {
		a, isA := out[name].(state.Object)
		b, isB := v.(state.Object)
		if isA && isB {
			v = compose(a, b)
		}
		out[name] = v
	}
	return out
}

// handle is the handler of state.desired.
func (c *replica) handle(ctx context.Context, q *Request) (any, error) {
	patch, err := state.Parse(q.Params)
	if err != nil {
		return nil, Reject(wire.ReasonBadParams, err.Error())
	}
	c.applying.Lock()
	defer c.applying.Unlock()
	done, err := c.apply(ctx, patch)
	if len(done) > 0 {
		if stateErr := q.State(done); err == nil {
			err = stateErr
		}
	}
	return nil, err
}

// apply calls the callbacks for a change, and returns as a patch what has come of
// it: what was desired, or what the device has reported there meanwhile.
func (c *replica) apply(ctx context.Context, patch state.Object) (state.Object, error) {
	c.mu.Lock()
	wishes, before := slices.Clone(c.wishes), c.reported
	c.mu.Unlock()
	if path := uncovered(wishes, patch); path != "" {
		return nil, Reject(wire.ReasonBadParams, path+": nothing here can be set to that")
	}
	for _, w := range wishes {
		v, touched := any(patch), true
		if w.path != "" {
			v, touched = patch.Get(w.path)
		}
		if !touched {
			continue
		}
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		if err := w.call(ctx, b); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	own := state.Diff(before, c.reported)
	c.mu.Unlock()
	done := compose(patch, own)
	return done, c.report(done, false)
}

// uncovered names a leaf of the patch that no callback is for; "" when there is none.
func uncovered(wishes []wish, patch state.Object) string {
	for leaf := range patch.Leaves() {
		if !slices.ContainsFunc(wishes, func(w wish) bool {
			return w.path == "" || leaf == w.path || strings.HasPrefix(leaf, w.path+".") || strings.HasPrefix(w.path, leaf+".")
		}) {
			return leaf
		}
	}
	return ""
}

// reconcile brings about what is outstanding, if it still is.
func (c *replica) reconcile(ctx context.Context, delta state.Object) error {
	c.applying.Lock()
	defer c.applying.Unlock()
	c.mu.Lock()
	delta = state.Delta(delta, c.reported)
	c.mu.Unlock()
	if len(delta) == 0 {
		return nil
	}
	done, err := c.apply(ctx, delta)
	if err == nil {
		err = c.report(done, true)
	}
	return err
}

// differs notes as owed what the server does not have, or, when the reports are
// kept, has beyond them.
func (c *replica) differs(server state.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	missing := state.Delta(c.reported, server)
	if c.keep && len(c.reported) > 0 {
		missing = state.Diff(server, c.reported)
	}
	if len(missing) > 0 {
		c.owed = append([]state.Object{missing}, c.owed...)
	}
	if len(c.owed) > 1 && composable(c.owed[0], c.owed[1]) {
		c.owed = append([]state.Object{compose(c.owed[0], c.owed[1])}, c.owed[2:]...)
	}
}

// attach says whom to tell of a report; nil: nobody.
func (c *replica) attach(wake func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wake = wake
}

// safely is reconcile, and turns a panic of a callback into an error.
func (c *replica) safely(ctx context.Context, delta state.Object) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return c.reconcile(ctx, delta)
}

// take gives the first patch that is owed, if there is any, as on its way.
func (c *replica) take() state.Object {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.owed) == 0 {
		return nil
	}
	patch := c.owed[0]
	c.owed = c.owed[1:]
	return patch
}

// giveBack takes a patch that was not published.
func (c *replica) giveBack(patch state.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owed = append([]state.Object{patch}, c.owed...)
}

// toKeep gives what is to be journalled, if anything is.
func (c *replica) toKeep() (json.RawMessage, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dirty := c.dirty && c.keep
	c.dirty = false
	if !dirty {
		return nil, false
	}
	return c.reported.Append(nil), true
}

// restore begins with what the journal has; what has been reported since then,
// before Run, is laid over it.
func (c *replica) restore(kept json.RawMessage) error {
	if !c.keep || kept == nil {
		return nil
	}
	was, err := state.Parse(kept)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reported = state.Merge(was, c.reported)
	for _, patch := range c.owed {
		c.reported = state.Merge(c.reported, patch)
	}
	return nil
}

var errNoState = errors.New("device: an answer about the state cannot be read")

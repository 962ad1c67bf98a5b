package hook

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/hook/schedule"
	"github.com/wilco-iot/wilco/internal/store"
)

// Store is what hooks need of a store.
type Store interface {
	Commit(ctx context.Context, b *store.Batch) (lastEvent int64, err error)
	Document(ctx context.Context, id store.DocumentID) (store.Document, error)
	Documents(ctx context.Context, kind store.Kind, prefix, after string, limit int) ([]store.Document, error)
	Commands(ctx context.Context, tids []command.TID) ([]command.Command, error)
	Events(ctx context.Context, after int64, limit int) ([]store.Event, error)
	LastEvent(context.Context) (int64, error)
	Changed() <-chan struct{}
}

// Options configure a Runner. Store and Send are required.
type Options struct {
	Store Store
	// Send makes a follow-up command. The same key makes it once; KeyReused counts
	// as made. NotFound, Invalid, Forbidden and TooLarge are for ever, other errors
	// are tried again.
	Send   func(context.Context, Order) error
	Logger *slog.Logger // default slog.Default
}

// perHook is how many deliveries of one hook are tried at a time.
const perHook = 8

// Runner runs the hooks. Make one with New.
type Runner struct {
	opt             Options
	log             *slog.Logger
	public, private *http.Client
	within          time.Duration // a call of a receiver
	now             func() time.Time
	after           func(since, now time.Time, attempt int, asked time.Duration, r float64) (time.Time, bool)

	follow follower // owned by the follower

	reloading sync.Mutex // so that what was read last is in force last

	mu      sync.Mutex
	rules   map[string]*Rule
	queue   *schedule.Queue
	tallies map[string]*Tally
	removed map[string]int64 // hooks whose deliveries for events up to this one are to be forgotten

	kick, poke chan struct{} // wake the dispatcher and the follower
	cancel     context.CancelFunc
	running    sync.WaitGroup
}

// New makes a runner that does nothing until Start.
func New(o Options) *Runner {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Runner{opt: o, log: o.Logger, public: newHTTP(false), private: newHTTP(true), within: callWithin, now: time.Now, after: schedule.After,
		rules: map[string]*Rule{}, queue: schedule.New(perHook), tallies: map[string]*Tally{}, removed: map[string]int64{},
		kick: make(chan struct{}, 1), poke: make(chan struct{}, 1), cancel: func() {}}
}

// Start takes up what was not delivered, and begins. It blocks while it reads that
// from the store.
func (r *Runner) Start(ctx context.Context) error {
	rules, err := r.load(ctx)
	if err != nil {
		return err
	}
	r.rules = rules
	if err := r.takeUp(ctx); err != nil {
		return err
	}
	if err := r.loadCursor(ctx); err != nil {
		return err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	r.running.Go(func() { r.runFollower(run) })
	r.running.Go(func() { r.runDispatcher(run) })
	return nil
}

// Stop breaks off what is being delivered, which is delivered again by the next
// Start, and waits for all goroutines, at most until ctx ends.
func (r *Runner) Stop(ctx context.Context) error {
	r.cancel()
	done := make(chan struct{})
	go func() { r.running.Wait(); close(done) }()
	select {
	case <-done:
		r.public.CloseIdleConnections()
		r.private.CloseIdleConnections()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// takeUp puts all deliveries that wait into the queue. Those of hooks that are gone
// are left to sweep.
func (r *Runner) takeUp(ctx context.Context) error {
	last, err := r.opt.Store.LastEvent(ctx)
	if err != nil {
		return err
	}
	for after := ""; ; {
		page, err := r.opt.Store.Documents(ctx, kindDelivery, "", after, 500)
		if err != nil || len(page) == 0 {
			return err
		}
		for i := range page {
			after = page[i].Key
			name, _, _ := strings.Cut(after, "/")
			rule := r.rules[name]
			switch dead := strings.HasPrefix(after, name+placeDead); {
			case rule == nil:
				r.removed[name] = last
				after = name + "/\xff"
			case dead:
				after = name + placeDead + "\xff" // there may be many, and nobody waits for them
			default:
				d, err := decodeDelivery(&page[i])
				if err != nil {
					return err
				}
				if d.Event <= rule.Since {
					r.removed[name] = rule.Since // of an earlier hook of this name
				} else {
					r.queue.Add(itemOf(d), d.Due)
				}
				continue
			}
			break
		}
	}
}

// Reload reads the hooks from the store, after one was made or removed.
func (r *Runner) Reload(ctx context.Context) error {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	rules, err := r.load(ctx)
	if err != nil {
		return err
	}
	// Read before the name is free again: a new hook of it is for later events.
	last, err := r.opt.Store.LastEvent(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	for name, was := range r.rules {
		if is := rules[name]; is == nil || is.Since != was.Since {
			r.queue.Drop(name)
			delete(r.tallies, name)
			r.removed[name] = last
		}
	}
	r.rules = rules
	r.mu.Unlock()
	signal(r.poke)
	signal(r.kick)
	return nil
}

// sweep forgets the deliveries of hooks that were removed.
func (r *Runner) sweep(ctx context.Context) {
	for {
		r.mu.Lock()
		name, upTo := "", int64(0)
		for name, upTo = range r.removed {
			delete(r.removed, name)
			break
		}
		r.mu.Unlock()
		if name == "" {
			return
		}
		if err := r.forget(ctx, name, upTo); err != nil && ctx.Err() == nil {
			r.log.Error("deliveries of a hook that was removed could not be forgotten; the next start does it", "hook", name, "error", err)
		}
	}
}

// forget removes the deliveries of a hook for events up to one.
func (r *Runner) forget(ctx context.Context, name string, upTo int64) error {
	for after := name + "/"; ; {
		page, err := r.opt.Store.Documents(ctx, kindDelivery, name+"/", after, 500)
		if err != nil || len(page) == 0 {
			return err
		}
		var b store.Batch
		for i := range page {
			if d, err := decodeDelivery(&page[i]); err != nil || d.Event <= upTo {
				b.Documents = append(b.Documents, store.DocumentWrite{DocumentID: page[i].DocumentID, Was: page[i].Version})
			}
		}
		var conflict *store.ConflictError
		if _, err := r.opt.Store.Commit(ctx, &b); errors.As(err, &conflict) {
			continue // an attempt that was under way has written: it is its last, and this page is read again
		} else if err != nil {
			return err
		}
		after = page[len(page)-1].Key
	}
}

// runDispatcher gives what is due to workers until ctx ends.
func (r *Runner) runDispatcher(ctx context.Context) {
	for ctx.Err() == nil {
		r.mu.Lock()
		now := r.now()
		item, ok := r.queue.Next(now)
		wake, later := r.queue.Wake()
		rule := r.rules[item.Hook]
		r.mu.Unlock()
		if ok {
			r.running.Go(func() { r.deliver(ctx, rule, item) })
			continue
		}
		var timer <-chan time.Time
		if later {
			timer = time.After(wake.Sub(now))
		}
		select {
		case <-ctx.Done():
		case <-timer:
		case <-r.kick:
		}
	}
}

// deliver tries one delivery once and keeps what came of it.
func (r *Runner) deliver(ctx context.Context, rule *Rule, item schedule.Item) {
	due, again, err := r.try(ctx, rule, item)
	if err != nil && ctx.Err() == nil {
		// Not kept, so not done: it is tried once more, and told twice at worst.
		r.log.Error("what became of a hook's delivery could not be kept; it is tried again", "hook", item.Hook, "event", item.Seq, "error", err)
		due, again = r.now().Add(schedule.FirstPause), true
	}
	if ctx.Err() != nil {
		return // the next start takes it up
	}
	r.mu.Lock()
	if again {
		r.queue.Again(item, due)
	} else {
		r.queue.Done(item)
	}
	r.mu.Unlock()
	signal(r.kick)
}

// try makes one attempt and commits its outcome. Again says that it failed and is
// due once more; err that the outcome is not kept.
func (r *Runner) try(ctx context.Context, rule *Rule, item schedule.Item) (due time.Time, again bool, err error) {
	id := (&Delivery{Hook: item.Hook, Event: item.Seq}).id()
	doc, err := r.opt.Store.Document(ctx, id)
	if fault.CodeOf(err) == fault.NotFound || rule == nil || item.Seq <= rule.Since {
		return due, false, nil // its hook was removed
	}
	if err != nil {
		return due, false, err
	}
	d, err := decodeDelivery(&doc)
	if err != nil {
		return due, false, err
	}
	began := r.now()
	failed := r.attempt(ctx, rule, d)
	if ctx.Err() != nil {
		return due, false, ctx.Err()
	}
	gone := store.DocumentWrite{DocumentID: doc.DocumentID, Was: doc.Version}
	if failed == nil {
		r.log.Debug("delivered", "hook", d.Hook, "delivery", d.ID, "attempt", d.Attempts+1, "took", r.now().Sub(began))
		r.tally(rule, func(n *Tally) { n.Delivered++ })
		return due, false, r.keep(ctx, gone)
	}
	r.tally(rule, func(n *Tally) { n.Failed++ })
	d.Attempts++
	d.Problem = failed.what
	due, again = r.after(d.Since, r.now(), d.Attempts, failed.after, rand.Float64())
	if again = again && !failed.final; again {
		d.Due = due.UTC()
		w, err := d.write(doc.Version)
		if d.Attempts == 1 {
			r.log.Warn("a hook's delivery failed; it is tried again", "hook", d.Hook, "delivery", d.ID, "problem", d.Problem)
		}
		return due, true, errors.Join(err, r.keep(ctx, w))
	}
	d.Dead, d.Due = true, time.Time{}
	w, err := d.write(0)
	if err == nil {
		err = r.keep(ctx, gone, w)
	}
	if err == nil {
		r.tally(rule, func(n *Tally) { n.Died++ })
		r.log.Error("a hook's delivery is given up; it is dead", "hook", d.Hook, "delivery", d.ID, "attempts", d.Attempts, "problem", d.Problem)
	}
	return due, false, err
}

// tally counts for a hook that is still the one that was tried.
func (r *Runner) tally(rule *Rule, count func(*Tally)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	is := r.rules[rule.Name]
	if is == nil || is.Since != rule.Since {
		return
	}
	n := r.tallies[rule.Name]
	if n == nil {
		n = new(Tally)
		r.tallies[rule.Name] = n
	}
	count(n)
}

// keep commits what came of a delivery. That the document is not what it was means
// that the hook was removed meanwhile.
func (r *Runner) keep(ctx context.Context, w ...store.DocumentWrite) error {
	_, err := r.opt.Store.Commit(ctx, &store.Batch{Documents: w})
	var conflict *store.ConflictError
	if errors.As(err, &conflict) {
		return nil
	}
	return err
}

func (r *Runner) attempt(ctx context.Context, rule *Rule, d *Delivery) *failure {
	if d.Order == nil {
		return r.call(ctx, rule.Webhook, d)
	}
	err := r.opt.Send(ctx, *d.Order)
	switch fault.CodeOf(err) {
	case "", fault.KeyReused: // the key is this event's: the command was made, under another default policy
		return nil
	case fault.NotFound, fault.Invalid, fault.Forbidden, fault.TooLarge:
		return &failure{what: fault.From(err).Public(), final: true}
	}
	return &failure{what: fault.From(err).Public()}
}

// signal wakes who waits for c, now or when it next looks.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

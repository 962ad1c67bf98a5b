// Package engine runs the lives of commands: it claims what happened, applies
// the pure machine of package command, commits, and only then acts.
//
//	 HTTP ─ Create, Cancel, Retry, Wait ─┐                ┌─► publications
//	 MQTT ─ Receive (ack, result, status)├─► shard ─ turn ┼─► MQTT acknowledgements
//	clock ─ Wake reached ────────────────┘   │    │       └─► answers to callers
//	                                         │    └ one Commit for the whole turn
//	                                 one goroutine; owns the lanes, presence
//	                                 and timers of its share of the devices
//
// A device belongs to one shard, by hash, so all that happens to a device is
// decided in one goroutine, in one order. A turn takes everything that has come
// in since the last one, applies it in memory, commits it as one batch, and
// then, and only then, publishes, acknowledges and answers. While it commits the
// next turn's work collects: under load the commits grow, and their cost is shared.
//
// What is in memory can be lost at any moment: lanes, timers and the places of
// interlocks are made again from the store at Start. A publication that was committed and not made is made
// again when the device is next seen to come online, with the same tid.
//
// When a commit fails nothing of its turn has happened: callers get the error,
// and what came from devices and clocks stays and is tried again, unacknowledged.
//
// All exported methods are safe for concurrent use.
package engine

import (
	"context"
	"encoding/json"
	"hash/maphash"
	"iter"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// Store is what the engine needs of a store.
type Store interface {
	Commit(context.Context, *store.Batch) (int64, error)
	Command(context.Context, command.TID) (command.Command, error)
	Commands(context.Context, []command.TID) ([]command.Command, error)
	CommandByKey(context.Context, wire.Address, string) (command.TID, string, error)
	List(context.Context, store.Query) ([]command.Command, string, error)
	OpenCommands(context.Context) iter.Seq2[store.Open, error]
	Document(context.Context, store.DocumentID) (store.Document, error)
}

// Directory knows the registered devices.
type Directory interface {
	// Device returns a registered device. It does not block.
	Device(wire.Address) (store.Device, bool)
	// All gives every registered device.
	All() iter.Seq[store.Device]
	// Behind lists the devices behind a gateway. It does not block.
	Behind(gateway wire.Address) []wire.Address
}

// Publication is one message to a device, at QoS 1, never retained.
type Publication struct {
	Topic         string
	Payload       []byte
	Correlation   []byte // the tid, in MQTT 5
	ResponseTopic string
	Expiry        time.Duration
	// Command is what it is about as it was committed, and Effect what is asked: for
	// a Link that says it in other words than Payload. Nil where it is about none.
	Command *command.Command
	Effect  command.Effect
}

// Link carries publications to the broker. Publish does not block, keeps the
// order of its calls, and calls done once: with nil when the broker has taken
// the message, with ErrRefused in the chain when it said no, with another error
// when nobody knows.
type Link interface {
	Publish(p Publication, done func(error))
}

// Options configure an Engine. Store, Directory, Link and Profiles are required.
type Options struct {
	Store     Store
	Directory Directory
	Link      Link
	// Profiles are the languages devices speak; the first is the default.
	Profiles []wire.Profile
	// Epoch goes with every publication. It must be above that of every
	// earlier run over the same devices.
	Epoch int64
	// Shards is the number of goroutines that share the devices; default 2 per CPU.
	Shards int
	// Cache is how many commands are kept in memory; default 32,768.
	Cache int
	// NobodyConnected says that the broker has just started and no device can be
	// connected until Admit: what the directory remembers of presence is out of
	// date, and is put right. What a status says before Admit was said to the
	// broker's earlier run, and makes nobody online.
	NobodyConnected bool
	// CheckResult says what is wrong with the result of a command that was made by
	// that version of its type. It does not block. Default: nothing is.
	CheckResult func(name string, version int, result json.RawMessage) error
	// Ended is told, after the commit, of each command that has ended for good. It must
	// not block, and is called by several goroutines. Default: nobody is told.
	Ended  func(*command.Command)
	Logger *slog.Logger // default slog.Default
}

// Engine runs commands. Make one with New.
type Engine struct {
	opt    Options
	log    *slog.Logger
	shards []*shard
	seed   maphash.Seed
	stats  counters
	locks  interlocks
	// reach is by gateway whether it is there, as its messages have said in their
	// order; what is not in it is as the engine found it.
	reach sync.Map
	// tidShift is added to the time in the ids of new commands; set by Start.
	tidShift uint64

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// New makes an engine that does nothing until Start.
func New(o Options) *Engine {
	if o.Shards <= 0 {
		o.Shards = 2 * runtime.GOMAXPROCS(0)
	}
	if o.Cache <= 0 {
		o.Cache = 32768
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	e := &Engine{opt: o, log: o.Logger, seed: maphash.MakeSeed(), locks: interlocks{places: newPlaces()}}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	for range o.Shards {
		e.shards = append(e.shards, newShard(e))
	}
	return e
}

// Start takes up every command that has not ended, and begins. It blocks while
// it reads them from the store. Devices' presence is what the directory has.
func (e *Engine) Start(ctx context.Context) error {
	for d := range e.opt.Directory.All() {
		s := e.shard(d.Address)
		s.device(d.Address).presence = d.Presence
		s.seen[d.Address] = d.Presence
		if d.Presence.Online && (e.opt.NobodyConnected || !e.wasReachable(d.Via)) {
			s.add(&goneJob{d.Address}) // the first thing that is decided
		}
	}
	var last command.TID
	var interlocked []command.TID
	for o, err := range e.opt.Store.OpenCommands(ctx) {
		if err != nil {
			return err
		}
		s := e.shard(o.Device)
		c := command.Command{TID: o.TID, Device: o.Device, State: o.State}
		if o.Priority != 0 {
			c.Terms = &command.Terms{Priority: o.Priority} // all that the lane asks for
		}
		s.device(o.Device).lane.Track(&c)
		if o.Interlocked && c.Outstanding() {
			interlocked = append(interlocked, o.TID)
		}
		s.timers.set(o.TID, s.device(o.Device), o.Wake)
		e.stats.open.Add(1)
		last = o.TID // they come in order
	}
	if err := e.riseAbove(last); err != nil {
		return err
	}
	e.takeUp(interlocked)
	for _, s := range e.shards {
		e.wg.Go(s.run)
	}
	return nil
}

// Stop lets the turns under way finish and waits for them, at most until ctx
// ends. What has not been committed has not happened and is not acknowledged.
func (e *Engine) Stop(ctx context.Context) error {
	e.cancel()
	done := make(chan struct{})
	go func() {
		e.wg.Wait()
		for _, s := range e.shards {
			s.drain() // each has done so at its end, if it was ever started
		}
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *Engine) shard(a wire.Address) *shard {
	var h maphash.Hash
	h.SetSeed(e.seed)
	h.WriteString(a.Group)
	h.WriteByte('/')
	h.WriteString(a.Device)
	return e.shards[h.Sum64()%uint64(len(e.shards))]
}

func (e *Engine) profile(name string) wire.Profile {
	for _, p := range e.opt.Profiles {
		if p.Name() == name {
			return p
		}
	}
	return e.opt.Profiles[0]
}

// Request asks for a new command.
type Request struct {
	Device  wire.Address
	Name    string
	Params  json.RawMessage
	Policy  command.Policy // zero fields take their defaults
	Key     string         // idempotency key, unique within the device; "" for none
	Digest  string         // of the request, compared when the key is known
	By      string         // who asks
	RetryOf *command.TID
	// TID is that of the command, where somebody else has given it one; nil: it
	// gets a new one. If it exists already, that is the answer.
	TID     *command.TID
	Rollout string            // id of the roll-out that it is part of; "": none
	Hold    *command.Approval // what it waits for before it goes; nil: nothing
	// IfDesired is the version of the desired state that a StateDesired was made
	// for; nil: any.
	IfDesired *int64
	Terms     *command.Terms // of its type, shared with other commands; nil: none

	undoes *UndoRequest // what it takes back
}

// Created is what became of a Request: the command, or why there is none.
type Created struct {
	Command command.Command
	Existed bool // made earlier, by a request with the same key and digest
	Err     error
}

// Create makes commands, in the order of the requests for each device, and
// returns when all are durable. Each request has its own outcome: NotFound for
// a device that is not registered, KeyReused, Invalid, Changed for one whose
// IfDesired is not the version any more, or the store's error. The
// error of Create itself is that of ctx.
func (e *Engine) Create(ctx context.Context, reqs []Request) ([]Created, error) {
	out := make([]Created, len(reqs))
	byShard := make(map[*shard]*createJob, len(e.shards))
	var wg sync.WaitGroup
	for i := range reqs {
		s := e.shard(reqs[i].Device)
		j := byShard[s]
		if j == nil {
			j = &createJob{reqs: reqs, out: out, done: wg.Done}
			byShard[s] = j
		}
		j.index = append(j.index, i)
	}
	wg.Add(len(byShard))
	for s, j := range byShard {
		s.add(j)
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
		return out, nil
	case <-ctx.Done():
		return nil, ctx.Err() // the commands may still be made
	}
}

// Cancel asks that a command be not done. One that was never sent ends at once;
// for others the device must confirm, and the state is cancelling meanwhile.
// Errors: NotFound, Conflict when it has ended.
func (e *Engine) Cancel(ctx context.Context, tid command.TID, by, why string) (command.Command, error) {
	return e.person(ctx, tid, command.Event{Kind: command.Cancel, By: by, Text: why})
}

// Retry publishes a command once more, with the same tid. It is for commands
// that were sent and not answered; the device must be online. Errors: NotFound,
// Conflict.
func (e *Engine) Retry(ctx context.Context, tid command.TID, by, why string) (command.Command, error) {
	return e.person(ctx, tid, command.Event{Kind: command.Retry, By: by, Text: why})
}

// Approve counts one person's agreement to a held command, which goes on with the
// last one that it needs. Digest is that of what the person has seen. Errors:
// NotFound; Conflict when it is not held, is another by now, or by is who
// requested it.
func (e *Engine) Approve(ctx context.Context, tid command.TID, by, why, digest string) (command.Command, error) {
	return e.person(ctx, tid, command.Event{Kind: command.Approve, By: by, Text: why, Digest: digest})
}

// Deny ends a held command. Errors: NotFound, Conflict.
func (e *Engine) Deny(ctx context.Context, tid command.TID, by, why string) (command.Command, error) {
	return e.person(ctx, tid, command.Event{Kind: command.Deny, By: by, Text: why})
}

// BreakGlass lets a held command go without the votes that it needs; by and why
// must be said. Errors: NotFound, Conflict.
func (e *Engine) BreakGlass(ctx context.Context, tid command.TID, by, why string) (command.Command, error) {
	return e.person(ctx, tid, command.Event{Kind: command.BreakGlass, By: by, Text: why})
}

func (e *Engine) person(ctx context.Context, tid command.TID, ev command.Event) (command.Command, error) {
	c, err := e.opt.Store.Command(ctx, tid) // says which device, and so which shard
	if err != nil {
		return command.Command{}, err
	}
	j := &personJob{tid: tid, device: c.Device, ev: ev, reply: make(chan answer, 1)}
	e.shard(c.Device).add(j)
	return await(ctx, j.reply)
}

// Wait returns the command as soon as until says yes to it: now, or when a
// commit makes it so. It blocks until then; when ctx ends it returns the
// command as it last was, with ctx's error. Errors: NotFound.
func (e *Engine) Wait(ctx context.Context, tid command.TID, until func(*command.Command) bool) (command.Command, error) {
	c, err := e.opt.Store.Command(ctx, tid)
	if err != nil || until(&c) {
		return c, err
	}
	s := e.shard(c.Device)
	w := &waiter{tid: tid, until: until, reply: make(chan answer, 1)}
	s.add(&waitJob{device: c.Device, w: w})
	got, err := await(ctx, w.reply)
	if err == nil {
		return got, nil
	}
	s.add(&unwaitJob{w: w})
	if last, lerr := e.opt.Store.Command(context.WithoutCancel(ctx), tid); lerr == nil {
		c = last
	}
	return c, err
}

// Presence is what is known of a device's presence.
func (e *Engine) Presence(a wire.Address) store.Presence {
	s := e.shard(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.seen[a]; ok {
		return p
	}
	return store.Presence{Device: a}
}

// Gone tells that a device has been cut off: nothing more is sent to it until
// its status says that it is online.
func (e *Engine) Gone(a wire.Address) { e.shard(a).add(&goneJob{a}) }

// Removed tells that a device was removed, and its documents with it.
func (e *Engine) Removed(a wire.Address) { e.shard(a).add(&removedJob{a}) }

// Err says why nothing can be committed at present; nil when all is well.
func (e *Engine) Err() error {
	for _, s := range e.shards {
		if err := s.broken.Load(); err != nil {
			return *err
		}
	}
	return nil
}

// LinkUp tells that the broker can be reached, and LinkDown that it cannot.
// While it cannot, no publication is tried and no attempt is counted.
func (e *Engine) LinkUp() { e.setLink(true) }

// LinkDown is the opposite of LinkUp.
func (e *Engine) LinkDown() { e.setLink(false) }

// Admit tells an engine with NobodyConnected that devices may connect from now
// on. What was given to Receive before is still taken as said earlier.
func (e *Engine) Admit() {
	for _, s := range e.shards {
		s.add(&admitJob{})
	}
}

func (e *Engine) setLink(up bool) {
	for _, s := range e.shards {
		s.add(&linkJob{up: up})
	}
}

type answer struct {
	c   command.Command
	err error
}

func await(ctx context.Context, reply <-chan answer) (command.Command, error) {
	select {
	case a := <-reply:
		return a.c, a.err
	case <-ctx.Done():
		return command.Command{}, ctx.Err()
	}
}

// ErrStopped is the answer of an engine that is stopping.
var ErrStopped = fault.New(fault.Unavailable, "the server is stopping")

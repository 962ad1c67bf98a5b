package engine

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
	"github.com/wilco-iot/wilco/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var valve = wire.Address{Group: "plant", Device: "valve-1"}

// rig is an engine over a real store, with the two ends of the link in the
// hands of the test.
type rig struct {
	t     *testing.T
	e     *Engine
	store *faulty
	dir   *directory
	link  *recorder
	acked map[string]int
	epoch int64
	// nobody: the broker starts with the engine.
	nobody bool
	closed bool                            // to devices: no Admit at start
	log    slog.Handler                    // default: discards
	seen   func(Publication, wire.Command) // told of each publication, if set
}

// directory is the registered devices of a test.
type directory struct {
	mu      sync.Mutex
	devices map[wire.Address]store.Device
}

func (d *directory) Device(a wire.Address) (store.Device, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dev, ok := d.devices[a]
	return dev, ok
}

func (d *directory) All() iter.Seq[store.Device] {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Values(maps.Clone(d.devices))
}

func (d *directory) Behind(gateway wire.Address) (list []wire.Address) {
	for dev := range d.All() {
		if dev.Via == gateway {
			list = append(list, dev.Address)
		}
	}
	return list
}

func (d *directory) remove(a wire.Address) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.devices, a)
}

// recorder is a link that keeps what it is given.
type recorder struct {
	mu   sync.Mutex
	docs []wire.Command
	said []said // about the state
	fail error  // what publications end with
	seen func(Publication, wire.Command)
}

func (r *recorder) Publish(p Publication, done func(error)) {
	profile, _ := wire.Lookup("wilco", "")
	if r.state(profile.(wire.StateProfile), p) {
		done(nil)
		return
	}
	c, err := profile.ParseCommand(p.Payload)
	if err != nil {
		panic(err)
	}
	r.mu.Lock()
	r.docs = append(r.docs, c)
	fail := r.fail
	if r.seen != nil {
		r.seen(p, c)
	}
	r.mu.Unlock()
	done(fail)
}

// take gives what has been published since the last take.
func (r *recorder) take() []wire.Command {
	r.mu.Lock()
	defer r.mu.Unlock()
	docs := r.docs
	r.docs = nil
	return docs
}

// faulty is a store whose commits can be made to fail.
type faulty struct {
	*sqlite.Store
	mu    sync.Mutex
	fail  error
	torn  command.TID              // cannot be read
	blind bool                     // nor can documents
	hook  func(*store.Batch) error // asked before each commit, if set
	after func(*store.Batch)       // told of each commit that has been made, one at a time
	tell  sync.Mutex               // held while after is; not mu, which those who are told may wait for
}

func (f *faulty) failWith(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

func (f *faulty) setHook(hook func(*store.Batch) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// damage makes a command unreadable, in place of the one before.
func (f *faulty) damage(tid command.TID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.torn = tid
}

var errTorn = errors.New("damaged")

func (f *faulty) isTorn(tid command.TID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.torn != command.TID{} && f.torn == tid
}

func (f *faulty) Command(ctx context.Context, tid command.TID) (command.Command, error) {
	if f.isTorn(tid) {
		return command.Command{}, errTorn
	}
	return f.Store.Command(ctx, tid)
}

func (f *faulty) Commands(ctx context.Context, tids []command.TID) ([]command.Command, error) {
	if slices.ContainsFunc(tids, f.isTorn) {
		return nil, errTorn
	}
	return f.Store.Commands(ctx, tids)
}

func (f *faulty) setBlind(yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blind = yes
}

func (f *faulty) Document(ctx context.Context, id store.DocumentID) (store.Document, error) {
	f.mu.Lock()
	blind := f.blind
	f.mu.Unlock()
	if blind {
		return store.Document{}, errTorn
	}
	return f.Store.Document(ctx, id)
}

func (f *faulty) Commit(ctx context.Context, b *store.Batch) (int64, error) {
	f.mu.Lock()
	err, hook := f.fail, f.hook
	f.mu.Unlock()
	if err == nil && hook != nil {
		err = hook(b)
	}
	if err != nil {
		return 0, err
	}
	last, err := f.Store.Commit(ctx, b)
	if err == nil && f.after != nil {
		f.tell.Lock()
		defer f.tell.Unlock()
		f.after(b)
	}
	return last, err
}

// bubble runs f with virtual time and a started rig.
func bubble(t *testing.T, f func(*testing.T, *rig)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wilco.db")
	synctest.Test(t, func(t *testing.T) {
		db, err := sqlite.Open(path, sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		r := &rig{t: t, store: &faulty{Store: db}, acked: map[string]int{}, dir: &directory{devices: map[wire.Address]store.Device{}}}
		r.register(valve, 1)
		r.start()
		defer func() { r.stop() }()
		f(t, r)
	})
}

func (r *rig) register(a wire.Address, window int) {
	d := store.Device{Address: a, Window: window}
	if err := r.store.PutDevice(r.t.Context(), d, 0); err != nil {
		r.t.Fatal(err)
	}
	r.change(a, func(dev *store.Device) { *dev = d })
}

func (r *rig) start() {
	r.link = &recorder{seen: r.seen}
	if r.log == nil {
		r.log = slog.DiscardHandler
	}
	r.epoch = max(r.epoch+1, time.Now().Unix())
	r.e = New(Options{Store: r.store, Directory: r.dir, Link: r.link, Profiles: []wire.Profile{wire.NewWilco(""), wire.Atlas()},
		NobodyConnected: r.nobody, Epoch: r.epoch, Shards: 2, Logger: slog.New(r.log)})
	if err := r.e.Start(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.e.LinkUp()
	if !r.closed {
		r.e.Admit()
	}
	synctest.Wait()
}

func (r *rig) stop() {
	if err := r.e.Stop(context.Background()); err != nil {
		r.t.Error(err)
	}
}

// restart starts a stopped engine again, with the presence that the store has.
func (r *rig) restart() {
	for d := range r.dir.All() {
		got, err := r.store.Device(r.t.Context(), d.Address)
		if err != nil {
			r.t.Fatal(err)
		}
		r.change(d.Address, func(d *store.Device) { d.Presence = got.Presence })
	}
	r.start()
}

// pass lets virtual time go by.
func (r *rig) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (r *rig) send(a wire.Address, name string, p command.Policy) command.Command {
	r.t.Helper()
	out, err := r.e.Create(r.t.Context(), []Request{{Device: a, Name: name, Params: json.RawMessage(`{"n":1}`), Policy: p, By: "test"}})
	if err == nil {
		err = out[0].Err
	}
	if err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
	return out[0].Command
}

// says brings a document of a device; id names it for r.acked.
func (r *rig) says(a wire.Address, topic, doc, id string) {
	r.receive(Message{Topic: "wilco/" + a.String() + "/" + topic, Payload: []byte(doc)}, id)
}

func (r *rig) receive(m Message, id string) {
	m.Ack = func() { r.acked[id]++ }
	r.e.Receive(m)
	r.pass(ackPatience)
}

func (r *rig) online(a wire.Address, boot string) {
	r.says(a, "status", `{"online":true,"boot":"`+boot+`"}`, "status")
}

func (r *rig) answer(a wire.Address, tid, topic, status string) {
	r.says(a, topic, `{"tid":"`+tid+`","status":"`+status+`"}`, status)
}

func (r *rig) expect(tid command.TID, s command.State, reason command.Reason) command.Command {
	r.t.Helper()
	c, err := r.store.Command(r.t.Context(), tid)
	if err != nil {
		r.t.Fatal(err)
	}
	if c.State != s || c.Reason != reason {
		r.t.Fatalf("command is %s (%s), want %s (%s)", c.State, c.Reason, s, reason)
	}
	return c
}

func (r *rig) anomalies(a wire.Address) []string {
	r.t.Helper()
	list, err := r.store.Anomalies(r.t.Context(), a, 100)
	if err != nil {
		r.t.Fatal(err)
	}
	kinds := []string{}
	for _, an := range list {
		kinds = append(kinds, an.Kind)
	}
	slices.Sort(kinds)
	return kinds
}

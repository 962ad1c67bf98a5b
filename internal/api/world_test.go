package api_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wilco-iot/wilco/internal/api"
	"github.com/wilco-iot/wilco/internal/audit"
	"github.com/wilco-iot/wilco/internal/catalog/shelf"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/hook"
	"github.com/wilco-iot/wilco/internal/rollout"
	"github.com/wilco-iot/wilco/internal/service"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
	"github.com/wilco-iot/wilco/wire"
)

// world is a whole server, but for MQTT: the real store, fleet, engine, service
// and API over HTTP, with devices that answer in this process. Its methods are
// safe for concurrent use.
type world struct {
	URL      string
	Token    string // of an admin
	Store    *sqlite.Store
	Fleet    *fleet.Fleet
	Engine   *engine.Engine
	Service  *service.Audited
	Hooks    *hook.Runner
	Rollouts *rollout.Runner
	API      *api.API
	HTTP     *httptest.Server

	profile wire.DeviceProfile
	mu      sync.Mutex
	obeys   obey
	parts   map[string]error
	docs    chan doc
	done    chan struct{}
}

// obey is what a device answers to a command document: acks and results. Nil
// answers nothing.
type obey func(wire.Address, wire.Command) []any

type doc struct {
	topic   string
	payload []byte
}

// options change a world.
type options struct {
	Heartbeat      time.Duration // of event streams
	MaxStreams     int
	MaxStreamsEach int
	KnownTypesOnly bool
	Body           time.Duration // in which a body must come
	Proxies        []netip.Prefix
	Logger         *slog.Logger
	// Wrap changes the service that the API sees.
	Wrap func(api.Service) api.Service
}

// newWorld starts a world that ends with the test. Its devices obey every command.
func newWorld(t *testing.T, o options) *world {
	t.Helper()
	w, err := startWorld(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	return w
}

func startWorld(dir string, o options) (*world, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	profile, err := wire.Lookup("wilco", "")
	if err != nil {
		return nil, err
	}
	w := &world{profile: profile, obeys: succeed, docs: make(chan doc, 1<<16), done: make(chan struct{}), parts: map[string]error{}}
	if w.Store, err = sqlite.Open(filepath.Join(dir, "wilco.db"), sqlite.Options{}); err != nil {
		return nil, err
	}
	profiles := []wire.Profile{profile, wire.Atlas()}
	w.Fleet = fleet.New(fleet.Options{Store: w.Store, Profiles: profiles})
	ctx := context.Background()
	if err := w.Fleet.Start(ctx); err != nil {
		return nil, err
	}
	if !w.Fleet.Managed() {
		if w.Token, err = w.Fleet.AdminToken(ctx); err != nil {
			return nil, err
		}
	}
	types := shelf.New(w.Store)
	w.Engine = engine.New(engine.Options{CheckResult: types.CheckResult, Store: w.Store, Directory: w.Fleet, Link: w, Profiles: profiles, Epoch: time.Now().Unix(),
		NobodyConnected: true, Logger: o.Logger})
	if err := w.Engine.Start(ctx); err != nil {
		return nil, err
	}
	w.Engine.LinkUp()
	w.Engine.Admit()
	go w.devices()
	log, err := audit.Open(ctx, w.Store, nil)
	if err != nil {
		return nil, err
	}
	w.Hooks = hook.New(hook.Options{Store: w.Store, Logger: o.Logger, Send: func(ctx context.Context, o hook.Order) error { return w.Service.FollowUp(ctx, o) }})
	plain := service.New(service.Options{Engine: w.Engine, Store: w.Store, Fleet: w.Fleet, Types: types,
		KnownTypesOnly: o.KnownTypesOnly, Version: "test", Logger: o.Logger, Parts: []service.Part{{Name: "broker", Check: w.broker}}})
	w.Rollouts = rollout.New(rollout.Options{Store: w.Store, Directory: w.Fleet, Presence: w.Engine.Presence, Logger: o.Logger,
		Create: plain.CreateForRollout, Undo: plain.UndoForRollout, Absent: plain.Absent, Cancel: func(ctx context.Context, tid command.TID, by, why string) error {
			_, err := w.Engine.Cancel(ctx, tid, by, why)
			return err
		}})
	w.Service = service.NewAudited(plain, log, w.Hooks, w.Rollouts)
	if err := w.Hooks.Start(ctx); err != nil {
		return nil, err
	}
	if err := w.Rollouts.Start(ctx); err != nil {
		return nil, err
	}
	var svc api.Service = w.Service
	if o.Wrap != nil {
		svc = o.Wrap(svc)
	}
	w.API = api.New(api.Options{Service: svc, Metrics: prometheus.NewRegistry(), Logger: o.Logger, Heartbeat: o.Heartbeat, MaxStreams: o.MaxStreams, MaxStreamsEach: o.MaxStreamsEach, TrustedProxies: o.Proxies, BodyTimeout: o.Body})
	w.HTTP = httptest.NewServer(w.API)
	w.URL = w.HTTP.URL
	return w, nil
}

// close stops everything.
func (w *world) close() {
	w.API.Drain()
	w.HTTP.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = w.Hooks.Stop(ctx)
	_ = w.Rollouts.Stop(ctx)
	_ = w.Engine.Stop(ctx) // what is left of it dies with the test
	close(w.docs)
	<-w.done
	_ = w.Store.Close()
}

// behave says what devices answer from now on.
func (w *world) behave(o obey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.obeys = o
}

// succeed acknowledges, and succeeds with the params as result.
func succeed(_ wire.Address, c wire.Command) []any {
	return []any{wire.Ack{TID: c.TID, Status: wire.Received}, wire.Result{TID: c.TID, Status: wire.Success, Result: c.Params}}
}

// brokerDown sets why the broker cannot be reached; nil: it can.
func (w *world) brokerDown(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.parts["broker"] = err
}

func (w *world) broker() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.parts["broker"]
}

// add registers a device.
func (w *world) add(address string) wire.Address {
	a, err := wire.ParseAddress(address)
	if err == nil {
		_, _, err = w.Fleet.Add(context.Background(), fleet.NewDevice{Address: a})
	}
	if err != nil {
		panic(err)
	}
	return a
}

// online registers a device and lets it say that it is online.
func (w *world) online(address string) wire.Address {
	a := w.add(address)
	w.say(a, wire.Status{Online: true, Boot: "boot-1", TS: time.Now(), Firmware: "1.0"})
	return a
}

// say lets a device say an ack, a result or a status, and returns when the
// server has taken it.
func (w *world) say(a wire.Address, up any) {
	d := w.write(a, up)
	taken := make(chan struct{})
	w.Engine.Receive(engine.Message{Topic: d.topic, Payload: d.payload, Ack: func() { close(taken) }})
	<-taken
}

func (w *world) write(a wire.Address, up any) (d doc) {
	var err error
	switch u := up.(type) {
	case wire.Ack:
		d.topic = w.profile.AckTopic(a)
		d.payload, err = w.profile.AppendAck(nil, u)
	case wire.Result:
		d.topic = w.profile.ResultTopic(a)
		d.payload, err = w.profile.AppendResult(nil, u)
	case wire.Status:
		d.topic = w.profile.StatusTopic(a)
		d.payload, err = w.profile.AppendStatus(nil, u)
	case wire.StateUpdate:
		p := w.profile.(wire.StateProfile)
		d.topic = p.StateTopic(a, wire.StateReport)
		d.payload, err = p.AppendStateUpdate(nil, u)
	}
	if err != nil {
		panic(err)
	}
	return d
}

// Publish implements engine.Link.
func (w *world) Publish(p engine.Publication, done func(error)) {
	w.docs <- doc{p.Topic, p.Payload}
	done(nil)
}

// devices answers what is published to them, all in one goroutine.
func (w *world) devices() {
	defer close(w.done)
	for d := range w.docs {
		if strings.Contains(d.topic, "/state/") {
			continue
		}
		c, err := w.profile.ParseCommand(d.payload)
		if err != nil {
			panic(err)
		}
		w.mu.Lock()
		obey := w.obeys
		w.mu.Unlock()
		if obey == nil {
			continue
		}
		a := addressOf(d.topic)
		for _, up := range obey(a, c) {
			ud := w.write(a, up)
			w.Engine.Receive(engine.Message{Topic: ud.topic, Payload: ud.payload, Ack: func() {}})
		}
	}
}

// addressOf reads wilco/group/device/command.
func addressOf(topic string) wire.Address {
	a, err := wire.ParseAddress(topic[len("wilco/") : len(topic)-len("/command")])
	if err != nil {
		panic(err)
	}
	return a
}

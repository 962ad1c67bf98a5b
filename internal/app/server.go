// Package app joins the parts into programs: the server of `wilco serve`, the
// lone broker of `wilco broker`, and what demo and bench run in one process.
//
// A [Server] starts its parts in the order in which they need each other, and
// stops them in reverse; each step has a name, so that what fails says which.
// Start either has everything running or nothing. Stop is bounded by its context
// and may be called more than once. Both are safe for concurrent use.
package app

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/internal/api"
	"github.com/wilco-iot/wilco/internal/audit"
	"github.com/wilco-iot/wilco/internal/catalog/shelf"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/edgelink"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/hook"
	"github.com/wilco-iot/wilco/internal/link"
	"github.com/wilco-iot/wilco/internal/oidc"
	"github.com/wilco-iot/wilco/internal/requests"
	"github.com/wilco-iot/wilco/internal/rollout"
	"github.com/wilco-iot/wilco/internal/service"
	"github.com/wilco-iot/wilco/internal/store/sqlite"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// Options configure a Server. Data is required.
type Options struct {
	Data string // directory of everything that is kept
	HTTP string // address of the API; "" means 127.0.0.1:8080
	// Listen makes the listener of the API in place of net.Listen with HTTP.
	Listen  func() (net.Listener, error)
	HTTPTLS *tls.Config // of the API; nil: plain HTTP
	// TrustedProxies are in front of the API; see api.Options.
	TrustedProxies []netip.Prefix

	// Listeners of the embedded broker, and the Durability of its queues, as in
	// the setting mqtt.durability; "" means fsync. Not used with Broker.
	Listeners  []broker.Listener
	Durability string
	Shares     map[string]broker.ShareRule // of the embedded broker; see broker.Options
	Limits     broker.Limits               // of the embedded broker
	users      *users                      // of the embedded broker beside devices; nil: none
	// Broker is the URL of an external broker, user and password in it; "" means
	// the embedded one.
	Broker        string
	BrokerVersion mqtt.Version // default mqtt.V5
	BrokerTLS     *tls.Config
	// People are known by the tokens of an OpenID Connect issuer; without an Issuer
	// there are none but the fleet's.
	People oidc.Options
	// RequestsToken is the token whose rights requests by way of the external broker
	// have; "" means that there are none.
	RequestsToken string

	Profile string         // of devices that name none; "" means wilco
	Root    string         // first level of the topics; "" means wilco
	Policy  command.Policy // of commands that name none
	// KnownTypesOnly refuses commands whose name is no command type.
	KnownTypesOnly bool
	Sparkplug      Sparkplug
	Retention      time.Duration // ended commands are kept so long; 0 means 30 days
	Version        string        // of the program
	Logger         *slog.Logger  // default slog.Default
}

const (
	defaultRetention = 30 * 24 * time.Hour
	firstPurge       = time.Minute // after the start: those who come back have the store first
	purgeEvery       = time.Hour
	purgeAtOnce      = 1000
)

// Server is a running wilco. Make one with New.
type Server struct {
	opt         Options
	log         *slog.Logger
	Fleet       *fleet.Fleet
	Store       *sqlite.Store
	Engine      *engine.Engine
	types       *shelf.Shelf
	typeMetrics *typeMetrics
	rollouts    *rollout.Runner
	Broker      *broker.Broker        // nil with an external broker
	Metrics     prometheus.Registerer // of what GET /metrics shows
	Link        *link.Link            // to Broker or the external one, under the engine
	queues      store.Store           // of Broker
	edges       *edgeHost             // nil when it is no Sparkplug host
	hooks       *hook.Runner
	asked       *requests.Runner // nil when there are no requests over MQTT

	http       net.Listener
	firstToken string

	mu    sync.Mutex
	undo  []step // what Stop does, last first
	fatal chan error
}

type step struct {
	name string
	do   func(context.Context) error
}

// New makes a server that does nothing until Start.
func New(o Options) *Server {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.HTTP == "" {
		o.HTTP = "127.0.0.1:8080"
	}
	if o.Listen == nil {
		o.Listen = func() (net.Listener, error) { return net.Listen("tcp", o.HTTP) }
	}
	if o.Retention == 0 {
		o.Retention = defaultRetention
	}
	return &Server{opt: o, log: o.Logger, fatal: make(chan error, 1)}
}

// HTTPAddr is the address of the API, once started.
func (s *Server) HTTPAddr() net.Addr { return s.http.Addr() }

// MQTTAddr is the address of a listener of the embedded broker, nil when there
// is none of that name.
func (s *Server) MQTTAddr(name string) net.Addr {
	if s.Broker == nil {
		return nil
	}
	return s.Broker.Addr(name)
}

// FirstToken is the admin token that this start has made, "" when there were
// tokens already.
func (s *Server) FirstToken() string { return s.firstToken }

// Fatal tells that a part has died, and the server must be stopped.
func (s *Server) Fatal() <-chan error { return s.fatal }

// Start starts all parts and returns when requests are answered. The broker need
// not be reachable yet. It blocks while open commands are read from the store.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.start(ctx); err != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return errors.Join(err, s.unwind(stop))
	}
	return nil
}

func (s *Server) start(ctx context.Context) error {
	wilco, err := wire.Lookup("wilco", s.opt.Root)
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	profiles := []wire.Profile{wilco, wire.Atlas()}
	if s.opt.Profile == wire.Atlas().Name() {
		slices.Reverse(profiles) // the first is the default
	}
	spoken := profiles // and not only on MQTT topics of ours
	if s.opt.Sparkplug.On {
		spoken = append(slices.Clone(profiles), edgelink.Profile())
	}

	if s.Store, err = sqlite.Open(filepath.Join(s.opt.Data, "wilco.db"), sqlite.Options{}); err != nil {
		return err
	}
	s.push("store", func(context.Context) error { return s.Store.Close() })
	epoch, err := nextEpoch(ctx, s.Store, time.Now())
	if err != nil {
		return fmt.Errorf("epoch: %w", err)
	}
	s.Fleet = fleet.New(fleet.Options{Store: s.Store, Profiles: spoken, Root: s.opt.Root, Sparkplug: s.opt.Sparkplug.On,
		OfDevices: engine.KindsOfDevices[:], OnChange: s.deviceChanged, OnPut: s.devicePut})
	if err := s.Fleet.Start(ctx); err != nil {
		return err
	}
	s.types = shelf.New(s.Store)
	if err := s.types.Load(ctx); err != nil {
		return err
	}
	s.typeMetrics = newTypeMetrics(s.types)
	if err := s.keepFirstToken(ctx); err != nil {
		return err
	}
	if err := s.startBroker(profiles); err != nil {
		return err
	}
	l, err := s.newLink(ctx, profiles)
	if err != nil {
		return err
	}
	s.Link = l
	r := &router{broker: l}
	s.Engine = engine.New(engine.Options{Store: s.Store, Directory: s.Fleet, Link: r, Profiles: spoken, Epoch: epoch,
		NobodyConnected: s.Broker != nil, CheckResult: s.types.CheckResult, Ended: s.typeMetrics.ended, Logger: s.log})
	began := time.Now()
	if err := s.Engine.Start(ctx); err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	s.log.Info("open commands taken up", "count", s.Engine.Stats().Open, "took", time.Since(began))
	// The link stops after the engine, so that what was committed still goes out.
	s.push("broker link", l.Stop)
	s.push("engine", s.Engine.Stop)
	s.nobodyBorn()
	if err := l.Start(s.Engine); err != nil {
		return err
	}
	if err := s.newSparkplug(ctx); err != nil {
		return fmt.Errorf("sparkplug: %w", err)
	}
	svc, err := s.startService(ctx, l)
	if err != nil {
		return err
	}
	if err := s.startRequests(ctx, svc); err != nil {
		return err
	}
	if err := s.letIn(ctx, l); err != nil {
		return err
	}
	s.startSparkplug(r)
	if err := s.startHTTP(svc); err != nil {
		return err
	}
	s.startPurge(s.purge)
	return nil
}

// forEver is the session expiry interval that never ends (MQTT 5.0, 3.1.2.11.2).
const forEver = (1<<32 - 1) * time.Second

func (s *Server) newLink(ctx context.Context, profiles []wire.Profile) (*link.Link, error) {
	o := client.Options{Version: s.opt.BrokerVersion, TLS: s.opt.BrokerTLS}
	if s.Broker != nil {
		// What is kept for this server all the same, wills above all, must outlast it,
		// however long it is stopped.
		o.ClientID, o.Dial, o.SessionExpiry = ownClient, s.Broker.DialHandover, forEver
	} else {
		id, err := instance(ctx, s.Store)
		if err != nil {
			return nil, fmt.Errorf("client id: %w", err)
		}
		o.ClientID, o.Servers = "wilco-"+id, []string{s.opt.Broker}
	}
	return link.New(link.Options{Client: o, Profiles: profiles, Logger: s.log}), nil
}

// startService makes what all faces of the server ask, with its log and its hooks.
func (s *Server) startService(ctx context.Context, l *link.Link) (*service.Audited, error) {
	so := service.Options{Engine: s.Engine, Store: s.Store, Fleet: s.Fleet, Types: s.types, KnownTypesOnly: s.opt.KnownTypesOnly, Policy: s.opt.Policy,
		Version: s.opt.Version, Logger: s.log, Parts: []service.Part{
			{Name: "engine", Check: s.Engine.Err}, {Name: "broker", Check: l.Err},
		}}
	if s.opt.People.Issuer != "" {
		so.People = oidc.New(s.opt.People)
	}
	if s.edges != nil { // not a nil *edgeHost in the interface, which would not be nil
		so.Sparkplug = s.edges
	}
	plain := service.New(so)
	log, err := audit.Open(ctx, s.Store, nil)
	if err != nil {
		return nil, err
	}
	// Whoever keeps the program's log elsewhere has the heads with it.
	s.log.Info("audit log opened", "head", log.Head())
	s.push("audit log", func(context.Context) error { s.log.Info("audit log closed", "head", log.Head()); return nil })
	var svc *service.Audited
	hooks := hook.New(hook.Options{Store: s.Store, Logger: s.log, Send: func(ctx context.Context, o hook.Order) error { return svc.FollowUp(ctx, o) }})
	s.rollouts = s.newRollouts(plain)
	svc = service.NewAudited(plain, log, hooks, s.rollouts)
	if err := hooks.Start(ctx); err != nil {
		return nil, fmt.Errorf("hooks: %w", err)
	}
	s.push("hooks", hooks.Stop)
	s.hooks = hooks
	if err := s.rollouts.Start(ctx); err != nil {
		return nil, fmt.Errorf("roll-outs: %w", err)
	}
	s.push("roll-outs", s.rollouts.Stop)
	return svc, nil
}

func (s *Server) startHTTP(svc *service.Audited) error {
	metrics := prometheus.NewRegistry()
	s.Metrics = metrics
	metrics.MustRegister(newCollector(s), newHookCollector(s.hooks), newRolloutCollector(s.rollouts), s.typeMetrics.ends, s.typeMetrics.took)
	if s.asked != nil {
		metrics.MustRegister(newRequestCollector(s.asked))
	}
	if s.Broker != nil {
		metrics.MustRegister(newBrokerCollector(s.Broker, s.queues))
	}
	if s.edges != nil {
		metrics.MustRegister(newEdgeCollector(s.edges))
	}
	handler := api.New(api.Options{Service: svc, Metrics: metrics, TrustedProxies: s.opt.TrustedProxies, Logger: s.log})
	listener, err := s.opt.Listen()
	if err != nil {
		return fmt.Errorf("http: %w", err)
	}
	s.http = listener
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)}
	serve := server.Serve
	if s.opt.HTTPTLS != nil {
		server.TLSConfig = s.opt.HTTPTLS
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.die(fmt.Errorf("http: %w", err))
		}
	}()
	s.push("http", func(ctx context.Context) error {
		handler.Drain()
		err := server.Shutdown(ctx)
		if err != nil {
			err = errors.Join(err, server.Close())
		}
		<-done
		return err
	})
	return nil
}

// startPurge forgets ended commands, events, roll-outs and tokens when their time is
// over, by purge: soon, so that it also does on a server that is started anew each
// hour, and then each hour.
func (s *Server) startPurge(purge func(ctx context.Context, before time.Time)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		next := time.NewTimer(firstPurge)
		defer next.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-next.C:
			}
			purge(ctx, time.Now().Add(-s.opt.Retention))
			next.Reset(purgeEvery)
		}
	}()
	s.push("purge", func(context.Context) error { cancel(); <-done; return nil })
}

// purge forgets what ended before a time.
func (s *Server) purge(ctx context.Context, before time.Time) {
	for n := purgeAtOnce; n >= purgeAtOnce; {
		var err error
		if n, err = s.Store.Purge(ctx, before, purgeAtOnce); err != nil {
			s.log.Error("purge of old commands failed; tried again later", "error", err)
			break
		}
	}
	if err := s.Fleet.Forget(ctx, before); err != nil {
		s.log.Error("purge of old tokens failed; tried again later", "error", err)
	}
	if err := s.rollouts.Forget(ctx, before); err != nil {
		s.log.Error("purge of old roll-outs failed; tried again later", "error", err)
	}
}

// deviceChanged cuts the connections of a device whose rights have changed.
func (s *Server) deviceChanged(identity string, removed bool) {
	if a, err := wire.ParseAddress(identity); err == nil && s.Engine != nil {
		defer s.devicePut(a)
		defer s.Engine.Gone(a) // its will is not published: it has no rights any more
		if removed {
			s.Engine.Removed(a)
		}
	}
	if s.Broker == nil {
		return // an external broker has its own list; see `wilco mosquitto config`
	}
	if removed {
		s.Broker.Forget(identity)
		return
	}
	s.Broker.Disconnect(identity, mqtt.NotAuthorized)
}

func (s *Server) die(err error) {
	select {
	case s.fatal <- err:
	default:
	}
}

// Stop stops all parts, the last one started first, and waits for them. What
// takes longer than ctx is given up, and named in the error.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unwind(ctx)
}

func (s *Server) push(name string, do func(context.Context) error) {
	s.undo = append(s.undo, step{name, do})
}

func (s *Server) unwind(ctx context.Context) error {
	var errs []error
	for i := len(s.undo) - 1; i >= 0; i-- {
		if err := s.undo[i].do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.undo[i].name, err))
		}
	}
	s.undo = nil
	return errors.Join(errs...)
}

// Keys of what the server keeps of itself. Stored; never change.
const (
	metaEpoch    = "engine.epoch"
	metaInstance = "server.instance"
)

// nextEpoch gives this run's epoch: above the last one, and not below the time,
// so that a server whose data was lost or set back still speaks with an epoch
// that devices have not seen.
func nextEpoch(ctx context.Context, db *sqlite.Store, now time.Time) (int64, error) {
	was, err := db.Meta(ctx, metaEpoch)
	if err != nil {
		return 0, err
	}
	epoch := now.Unix()
	if len(was) == 8 {
		epoch = max(epoch, int64(binary.BigEndian.Uint64(was))+1)
	}
	return epoch, db.SetMeta(ctx, metaEpoch, binary.BigEndian.AppendUint64(nil, uint64(epoch)), was)
}

var _ engine.Store = (*sqlite.Store)(nil)

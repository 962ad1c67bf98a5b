// Package api is the HTTP API: routes, documents, problems and the OpenAPI
// description of them.
//
//	request ─► id, log, count ─► route ─► token ─► query ─► body ─► handler ─► service
//	                │              │        │        │        │
//	                └ panic: 500   └ 404,405└ 401    └ 400    └ 408, 413, 415
//
// The steps before the handler are the same for every route and know it by its
// entry in the OpenAPI description, so what is described is what is allowed. Most
// handlers are typed functions that huma wraps; bulk creation, the event stream
// and the metrics write their answers by hand.
//
// Every error is a problem document (RFC 9457) whose code is one of package
// fault. What has no code is logged and answered as internal, without its text.
//
// An [API] is safe for concurrent use. It keeps no state but counters and the
// list of open streams, which [API.Drain] ends.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/wilco-iot/wilco/internal/audit"
	"github.com/wilco-iot/wilco/internal/catalog"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/hook"
	"github.com/wilco-iot/wilco/internal/replica"
	"github.com/wilco-iot/wilco/internal/rollout"
	"github.com/wilco-iot/wilco/internal/rollout/plan"
	"github.com/wilco-iot/wilco/internal/service"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/wire"
)

// Service is what the API needs: one method for each use case.
type Service interface {
	Authenticate(ctx context.Context, token string) (service.Principal, error)
	Send(context.Context, service.Principal, service.Order) (service.Created, error)
	SendBulk(context.Context, service.Principal, []service.Order) ([]service.Created, error)
	Command(context.Context, service.Principal, command.TID) (command.Command, error)
	Wait(ctx context.Context, p service.Principal, tid command.TID, d time.Duration, after int64) (command.Command, error)
	List(context.Context, service.Principal, store.Query) ([]command.Command, string, error)
	Cancel(ctx context.Context, p service.Principal, tid command.TID, why string) (command.Command, error)
	Retry(ctx context.Context, p service.Principal, tid command.TID, why string) (c command.Command, isNew bool, err error)
	Approve(ctx context.Context, p service.Principal, tid command.TID, digest, why string) (command.Command, error)
	Deny(ctx context.Context, p service.Principal, tid command.TID, why string) (command.Command, error)
	PlanRollback(ctx context.Context, p service.Principal, tid command.TID) (service.Rollback, error)
	Rollback(ctx context.Context, p service.Principal, tid command.TID, o service.RollbackOptions) (service.Created, error)
	BreakGlass(ctx context.Context, p service.Principal, tid command.TID, why string) (command.Command, error)
	Tail(context.Context, service.Principal, service.EventFilter, int64) (*service.Tail, error)
	AddDevice(context.Context, service.Principal, service.NewDevice) (store.Device, string, error)
	Device(context.Context, service.Principal, wire.Address) (store.Device, error)
	Devices(context.Context, service.Principal, store.DeviceQuery) ([]store.Device, string, error)
	RotateDevice(context.Context, service.Principal, wire.Address) (store.Device, string, error)
	ChangeDevice(context.Context, service.Principal, wire.Address, service.DeviceChange) (store.Device, error)
	RemoveDevice(context.Context, service.Principal, wire.Address) error
	Anomalies(context.Context, service.Principal, wire.Address, int) ([]store.Anomaly, error)
	State(context.Context, service.Principal, wire.Address) (replica.Replica, error)
	StateHistory(ctx context.Context, p service.Principal, a wire.Address, limit int) ([]replica.Revision, error)
	CreateToken(context.Context, service.Principal, service.NewToken) (service.Token, string, error)
	Tokens(context.Context, service.Principal) ([]service.Token, error)
	RemoveToken(ctx context.Context, p service.Principal, id string) error
	AddUser(context.Context, service.Principal, service.NewUser) (service.User, error)
	Users(context.Context, service.Principal) ([]service.User, error)
	User(ctx context.Context, p service.Principal, name string) (service.User, error)
	ChangeUser(ctx context.Context, p service.Principal, name string, c service.UserChange) (service.User, error)
	SetPassword(ctx context.Context, p service.Principal, name, password, old, remote string) (service.User, error)
	RemoveUser(ctx context.Context, p service.Principal, name string) error
	Login(ctx context.Context, name, password, remote string) (service.Token, string, error)
	Logout(context.Context, service.Principal) error
	Stats(context.Context, service.Principal, service.StatsQuery) (service.Stats, error)
	Audit(ctx context.Context, p service.Principal, after string, limit int) ([]audit.Entry, audit.Head, error)
	ApplyType(context.Context, service.Principal, catalog.Type) (catalog.Type, bool, error)
	DeprecateType(ctx context.Context, p service.Principal, name, why string) (catalog.Type, error)
	Type(ctx context.Context, p service.Principal, name string, version int) (catalog.Type, error)
	ListTypes(context.Context, service.Principal) ([]catalog.Type, error)
	AddHook(context.Context, service.Principal, hook.Rule) (hook.Status, string, error)
	Hooks(context.Context, service.Principal) ([]hook.Status, error)
	RotateHook(ctx context.Context, p service.Principal, name string) (string, error)
	RemoveHook(ctx context.Context, p service.Principal, name string) error
	Deliveries(ctx context.Context, p service.Principal, hook string, after int64, limit int) ([]hook.Delivery, error)
	Redrive(ctx context.Context, p service.Principal, hook string, event int64) (n int, more bool, err error)
	PlanRollout(context.Context, service.Principal, plan.Spec) (service.RolloutPlan, error)
	StartRollout(context.Context, service.Principal, plan.Spec) (r plan.Rollout, existed bool, err error)
	Rollouts(context.Context, service.Principal) ([]plan.Rollout, error)
	Rollout(ctx context.Context, p service.Principal, id string) (plan.Rollout, error)
	RolloutTargets(ctx context.Context, p service.Principal, id string, states []plan.Cell, from, limit int) ([]rollout.Target, error)
	AskRollout(ctx context.Context, p service.Principal, id string, ev plan.Event) (plan.Rollout, error)
	RollbackRollout(ctx context.Context, p service.Principal, id, why string) (plan.Rollout, error)
	SparkplugNodes(context.Context, service.Principal, service.NodeQuery) ([]host.Node, string, error)
	SparkplugNode(context.Context, service.Principal, host.NodeID) (host.Node, []host.Device, error)
	SparkplugRebirth(context.Context, service.Principal, host.NodeID) error
	SparkplugTail(context.Context, service.Principal, service.EdgeFilter) (*service.EdgeTail, error)
	Health(known bool) service.Health
}

// Options configure an API. Service is required.
type Options struct {
	Service Service
	// Metrics is served at /metrics, with the API's own counters added to it;
	// nil: a registry of its own.
	Metrics *prometheus.Registry
	Logger  *slog.Logger // default slog.Default
	// Heartbeat is how often a silent event stream says that it lives; default 15 s.
	Heartbeat time.Duration
	// MaxStreams bounds the event streams open at once, MaxStreamsEach those of one name;
	// default 256 and 16.
	MaxStreams, MaxStreamsEach int
	// TrustedProxies are believed what they say in X-Forwarded-For of the address that
	// a request comes from; none: nobody is.
	TrustedProxies []netip.Prefix
	// BodyTimeout bounds how long a body may take to come; default 30 s.
	BodyTimeout time.Duration
}

// API is an http.Handler. Make one with New.
type API struct {
	opt    Options
	svc    Service
	log    *slog.Logger
	mux    *http.ServeMux
	huma   huma.API
	routes map[string]*route // by pattern of the mux
	count  *counters

	streams places        // of event streams
	drain   chan struct{} // closed by Drain
	once    sync.Once
}

// places counts those that are taken.
type places struct {
	sync.Mutex
	all  int
	each map[string]int // by the name of whose they are
}

// New makes the API.
func New(o Options) *API {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = 15 * time.Second
	}
	if o.MaxStreams <= 0 {
		o.MaxStreams = 256
	}
	if o.MaxStreamsEach <= 0 {
		o.MaxStreamsEach = 16
	}
	if o.BodyTimeout <= 0 {
		o.BodyTimeout = 30 * time.Second
	}
	a := &API{opt: o, svc: o.Service, log: o.Logger, mux: http.NewServeMux(), routes: map[string]*route{},
		streams: places{each: map[string]int{}}, drain: make(chan struct{})}
	a.count = newCounters(o.Metrics)
	a.huma = humago.New(a.mux, description())
	a.commands()
	a.approvals()
	a.rollback()
	a.bulk()
	a.events()
	a.devices()
	a.state()
	a.tokens()
	a.users()
	a.audit()
	a.stats()
	a.types()
	a.hooks()
	a.rollouts()
	a.sparkplug()
	a.health()
	a.durations()
	a.meta()
	return a
}

// Drain ends the event streams, so that a server that shuts down need not wait
// for their readers. They come back, elsewhere or later, with Last-Event-ID.
func (a *API) Drain() { a.once.Do(func() { close(a.drain) }) }

// Routes lists the patterns that are answered, for tests of what is described.
func (a *API) Routes() map[string]bool {
	all := make(map[string]bool, len(a.routes))
	for pattern := range a.routes {
		all[pattern] = true
	}
	return all
}

// writeTimeout is how long an answer may take to write; it begins anew with each
// piece of a stream.
const writeTimeout = 30 * time.Second

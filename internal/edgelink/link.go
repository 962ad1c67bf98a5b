package edgelink

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/spcommand"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/sparkplug/session"
	"github.com/wilco-iot/wilco/wire"
)

// Host is what a Link needs of a *host.Host.
type Host interface {
	Node(host.NodeID) (host.Node, []host.Device, bool)
	Unit(id host.NodeID, device string) (u *session.Unit, online bool)
	Value(id host.NodeID, device, metric string) (host.Metric, bool)
	Write(id host.NodeID, device string, list []sparkplug.Metric, done func(error)) error
	Rebirth(host.NodeID) bool
}

// Engine is what a Link needs of an *engine.Engine.
type Engine interface {
	Receive(engine.Message)
	Presence(wire.Address) store.Presence
}

// Directory knows the registered devices. Its methods do not block.
type Directory interface {
	Device(wire.Address) (store.Device, bool)
}

// Options configure a Link. Engine, Directory and Host are required.
type Options struct {
	Engine    Engine
	Directory Directory
	Host      Host
	// Passive says that the host writes nothing.
	Passive bool
	// Reported are filters, as of MQTT, over the names of metrics whose values are
	// reported as the device's state; nil: none.
	Reported []string
	Logger   *slog.Logger // default slog.Default
}

// Link is the firmware of all registered edge nodes. Make one with New.
type Link struct {
	opt Options
	log *slog.Logger

	mu    sync.RWMutex
	nodes map[host.NodeID]*node // those with a registered device

	cancel context.CancelFunc
	done   chan struct{}
}

// node is an edge node, itself registered or with a registered device behind it.
type node struct {
	l  *Link
	id host.NodeID

	mu     sync.Mutex
	units  map[string]*unit // those registered, by device; "" is the node itself
	book   spcommand.Book
	unsent map[string]time.Time // requests that certainly did not go out, by tid: until when they may
	server string               // of the last NBIRTH; "" before there was one
	boot   string               // names the session, see bootOf
	died   bool                 // since the last NBIRTH
	reborn time.Time            // last NBIRTH that not all devices have followed yet
}

// unit is a registered device of the profile sparkplug.
type unit struct {
	address wire.Address
	online  bool   // as the engine was told last
	boot    string // with the last online
	report  report
}

// rebornGrace is how long devices have for their DBIRTH after an NBIRTH, until they
// count as gone.
const rebornGrace = 5 * time.Second

// tick is how often reports go out and clocks are looked at.
const tick = time.Second

// New makes a Link that knows no device until Learn and does nothing until Start.
func New(o Options) *Link {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Link{opt: o, log: o.Logger, nodes: map[host.NodeID]*node{}}
}

// Start begins to report and to look at clocks, until Stop.
func (l *Link) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel, l.done = cancel, make(chan struct{})
	go func() {
		defer close(l.done)
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-ticker.C:
				for _, n := range l.all() {
					n.tick(now)
				}
			}
		}
	}()
}

// Stop ends what Start began, and waits for it.
func (l *Link) Stop(context.Context) error {
	l.cancel()
	<-l.done
	return nil
}

// Learn looks at a device anew: it was added, changed or removed.
func (l *Link) Learn(a wire.Address) {
	d, ok := l.opt.Directory.Device(a)
	name, device, valid := fleet.EdgeOf(a)
	id := host.NodeID{Group: a.Group, Node: name}
	if !ok || d.Profile != fleet.SparkplugProfile || !valid {
		l.forget(id, device)
		return
	}
	l.mu.Lock()
	n := l.nodes[id]
	if n == nil {
		n = &node{l: l, id: id, units: map[string]*unit{}, unsent: map[string]time.Time{}}
		l.nodes[id] = n
	}
	// Before l.mu is given back, so that the node is not forgotten in between.
	n.mu.Lock()
	l.mu.Unlock()
	defer n.mu.Unlock()
	u := n.units[device]
	if u == nil {
		u = &unit{address: a}
		n.units[device] = u
	}
	was := l.opt.Engine.Presence(a)
	u.online, u.boot = was.Online, was.Boot // also when the engine was told by somebody else
	if n.boot == "" {
		n.join(was.Boot)
	}
	n.follow(device, u)
	n.catchUp(device, u)
}

// join finds out what the host knows of a node that it knew before this Link did.
func (n *node) join(was string) {
	h, _, ok := n.l.opt.Host.Node(n.id)
	if !ok || h.Births == 0 {
		return
	}
	n.server, n.died = h.Server, h.Status == host.Offline
	n.boot = bootOf(was, h.BdSeq, false, h.Born)
}

func (l *Link) forget(id host.NodeID, device string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.nodes[id]
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if delete(n.units, device); len(n.units) == 0 {
		delete(l.nodes, id)
	}
}

func (l *Link) node(id host.NodeID) *node {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.nodes[id]
}

func (l *Link) all() []*node {
	l.mu.RLock()
	defer l.mu.RUnlock()
	list := make([]*node, 0, len(l.nodes))
	for _, n := range l.nodes {
		list = append(list, n)
	}
	return list
}

func (n *node) tick(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.book.Tick(now)
	maps.DeleteFunc(n.unsent, func(_ string, until time.Time) bool { return now.After(until) })
	if !n.reborn.IsZero() && now.Sub(n.reborn) >= rebornGrace {
		n.reborn = time.Time{}
		for device, u := range n.units {
			n.follow(device, u)
		}
	}
	for _, u := range n.units {
		n.flush(u)
	}
}

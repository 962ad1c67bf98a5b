package app

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/config"
	"github.com/wilco-iot/wilco/internal/edgelink"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/internal/fleet"
	"github.com/wilco-iot/wilco/internal/link"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/wire"
)

// Sparkplug says whether, and how, a Server is a Sparkplug host on its broker.
type Sparkplug struct {
	On      bool
	Role    host.Role
	HostID  string
	Filters []string
	// Reported are filters over the names of metrics whose values are reported as
	// the state of registered devices of the profile sparkplug.
	Reported []string
	// Servers are brokers beside the server's own: NAME=URL.
	Servers []string
}

// edgeHost is the host of a Server, with counts of its alarms.
type edgeHost struct {
	*host.Host
	link   *edgelink.Link
	alarms map[host.AlarmKind]*atomic.Uint64 // never changed
}

var alarmKinds = []host.AlarmKind{host.ForeignState, host.DuplicateNode, host.RetainedMessage, host.TooMuch, host.SubscriptionRefused}

// newSparkplug makes the host, if there is to be one, of the broker that is open by
// now.
func (s *Server) newSparkplug(ctx context.Context) error {
	if !s.opt.Sparkplug.On {
		return nil
	}
	servers, err := s.sparkplugServers(ctx)
	if err != nil {
		return err
	}
	e := &edgeHost{alarms: map[host.AlarmKind]*atomic.Uint64{}}
	for _, k := range alarmKinds {
		e.alarms[k] = new(atomic.Uint64)
	}
	e.Host, err = host.New(host.Options{Role: s.opt.Sparkplug.Role, HostID: s.opt.Sparkplug.HostID, Filters: s.opt.Sparkplug.Filters,
		Servers: servers,
		OnEvent: func(ev *host.Event) { e.link.Event(ev) },
		OnAlarm: func(a host.Alarm) {
			if n := e.alarms[a.Kind]; n != nil {
				n.Add(1)
			}
			s.log.Warn("sparkplug: "+a.Text, "kind", string(a.Kind), "node", a.Node.String())
		}})
	if err != nil {
		return err
	}
	e.link = edgelink.New(edgelink.Options{Engine: s.Engine, Directory: s.Fleet, Host: e.Host, Passive: s.opt.Sparkplug.Role == host.Passive,
		Reported: s.opt.Sparkplug.Reported, Logger: s.log})
	for d := range s.Fleet.All() {
		e.link.Learn(d.Address)
	}
	s.edges = e
	return nil
}

// sparkplugServers are the server's own broker and the others.
func (s *Server) sparkplugServers(ctx context.Context) ([]host.Server, error) {
	id, err := instance(ctx, s.Store)
	if err != nil {
		return nil, fmt.Errorf("client id: %w", err)
	}
	own := client.Options{Version: s.opt.BrokerVersion, TLS: s.opt.BrokerTLS, Logger: s.log, ClientID: "wilco-sparkplug"}
	if s.Broker != nil {
		own.Dial = s.Broker.Dial
	} else {
		own.ClientID, own.Servers = "wilco-sparkplug-"+id, []string{s.opt.Broker}
	}
	list := []host.Server{{Name: config.OwnBroker, Client: own}}
	for _, text := range s.opt.Sparkplug.Servers {
		name, at, _ := strings.Cut(text, "=")
		list = append(list, host.Server{Name: name, Client: client.Options{Version: s.opt.BrokerVersion, TLS: s.opt.BrokerTLS, Logger: s.log,
			ClientID: "wilco-sparkplug-" + id, Servers: []string{at}}})
	}
	return list, nil
}

// CheckCommand implements service.Sparkplug.
func (e *edgeHost) CheckCommand(a wire.Address, name string, params json.RawMessage) error {
	return e.link.Check(a, name, params)
}

// CommandEffects implements service.Sparkplug.
func (e *edgeHost) CommandEffects(name string, params json.RawMessage) []command.PathEffect {
	return e.link.Effects(name, params)
}

// nobodyBorn tells the engine that no edge node can be known to be there: what is
// remembered of them is of an earlier run of the host.
func (s *Server) nobodyBorn() {
	for d := range s.Fleet.All() {
		if d.Profile == fleet.SparkplugProfile {
			s.Engine.Gone(d.Address)
		}
	}
}

// devicePut is told of a device that was added, changed or removed.
func (s *Server) devicePut(a wire.Address) {
	if s.edges != nil {
		s.edges.link.Learn(a)
	}
}

// router gives each publication of the engine to the link that speaks for its
// device.
type router struct {
	broker *link.Link
	edges  atomic.Pointer[edgelink.Link] // nil before, and without, a host
}

var errNoHost = fmt.Errorf("%w: the Sparkplug host is not there", engine.ErrRefused)

// Publish implements engine.Link.
func (r *router) Publish(p engine.Publication, done func(error)) {
	if !edgelink.Ours(&p) {
		r.broker.Publish(p, done)
		return
	}
	if l := r.edges.Load(); l != nil {
		l.Publish(p, done)
		return
	}
	done(errNoHost)
}

// startSparkplug starts the host after the listeners, and so has it stopped before
// they close: edge nodes hear the last STATE of a primary.
func (s *Server) startSparkplug(r *router) {
	e := s.edges
	if e == nil {
		return
	}
	e.link.Start()
	s.push("sparkplug link", e.link.Stop)
	r.edges.Store(e.link)
	e.Start()
	s.push("sparkplug host", e.Stop)
}

// edgeCollector gives a host's counters to Prometheus. Its labels are of closed
// sets; no group, node or metric is ever one.
type edgeCollector struct {
	h                                            *edgeHost
	up, nodes, events, rebirths, foreign, alarms *prometheus.Desc
}

func newEdgeCollector(h *edgeHost) *edgeCollector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("wilco_sparkplug_"+name, help, labels, nil)
	}
	return &edgeCollector{h: h,
		up:       d("up", "1 while the host is connected to the broker."),
		nodes:    d("nodes", "Edge nodes, by status.", "status"),
		events:   d("events_total", "What happened to edge nodes, by kind: births, deaths, data, gaps and so on.", "kind"),
		rebirths: d("rebirths_total", "Rebirths asked for, by reason.", "reason"),
		foreign:  d("foreign_messages_total", "Messages that are not Sparkplug's."),
		alarms:   d("alarms_total", "What a person should look at, by kind; duplicate_node is a node put in quarantine.", "kind"),
	}
}

// Describe implements prometheus.Collector.
func (c *edgeCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *edgeCollector) Collect(ch chan<- prometheus.Metric) {
	level(ch, c.up, float64(len(c.h.Up())))
	var by [host.Offline + 1]int
	for _, n := range c.h.Nodes() {
		by[n.Status]++
	}
	for status, n := range by {
		ch <- prometheus.MustNewConstMetric(c.nodes, prometheus.GaugeValue, float64(n), host.Status(status).String())
	}
	stats := c.h.Stats()
	kinds := map[string]uint64{}
	for _, e := range stats.Events {
		kinds[e.Kind.String()] += e.N
	}
	for kind, n := range kinds {
		count(ch, c.events, float64(n), kind)
	}
	for _, e := range stats.Rebirths {
		count(ch, c.rebirths, float64(e.N), e.Reason.String())
	}
	count(ch, c.foreign, float64(stats.Foreign))
	for kind, n := range c.h.alarms {
		count(ch, c.alarms, float64(n.Load()), string(kind))
	}
}

package edge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/edge/internal/node"
)

// The reasons why a sample or a declaration is refused. Compare with errors.Is.
var (
	ErrUnknownDevice = node.ErrUnknownDevice
	ErrUnknownMetric = node.ErrUnknownMetric
	ErrDuplicate     = node.ErrDuplicate    // a device or metric of that name is there already
	ErrReserved      = node.ErrReserved     // the node declares that metric itself
	ErrDeviceDown    = node.ErrDeviceDown   // SetDevice has said so
	ErrNoDefinition  = node.ErrNoDefinition // a template without its definition among the node's metrics
)

// Stats count since New.
type Stats = node.Stats

// Node is an edge node. Make it with New.
type Node struct {
	cfg     Config
	bdSeq   *counter // of the goroutine that connects
	history *history
	writes  chan node.Action

	mu      sync.Mutex
	core    *node.Core
	writers map[string]map[string]WriteFunc // by device and metric
	link    *link                           // messages go there; nil while there is none
	running bool
	unkept  bool          // the last write of the history file has failed
	told    node.State    // the state that changed was closed for
	changed chan struct{} // closed and replaced when the state changes
}

// New checks the configuration and reads the files. Run connects. The errors are
// those of the files, of AddDevice, and about the rest in words.
func New(cfg Config) (*Node, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("sparkplug edge: %w", err)
	}
	metrics, writers := split(cfg.Metrics)
	core, err := node.New(node.Config{
		Group: cfg.Group, Node: cfg.Node, PrimaryHost: cfg.PrimaryHost, Legacy: cfg.LegacyState,
		Servers: len(cfg.places()), Aliases: cfg.Aliases, Echo: cfg.EchoWrites, History: cfg.History,
	}, metrics)
	if err != nil {
		return nil, fmt.Errorf("sparkplug edge: %w", err)
	}
	n := &Node{
		cfg: cfg, core: core, writers: map[string]map[string]WriteFunc{"": writers},
		writes: make(chan node.Action, maxWrites), changed: make(chan struct{}),
	}
	if err := n.remember(); err != nil {
		return nil, fmt.Errorf("sparkplug edge: %w", err)
	}
	for _, d := range cfg.Devices {
		if err := n.AddDevice(d); err != nil {
			return nil, fmt.Errorf("sparkplug edge: %w", err)
		}
	}
	if err := n.checkPlaces(); err != nil {
		return nil, fmt.Errorf("sparkplug edge: %w", err)
	}
	if n.bdSeq, err = openCounter(cfg.File); err != nil {
		return nil, fmt.Errorf("sparkplug edge: %w", err)
	}
	return n, nil
}

// checkPlaces lets the MQTT client judge its part of the configuration, which
// is better told now than at the first attempt to connect.
func (n *Node) checkPlaces() error {
	for _, place := range n.cfg.places() {
		l, err := n.newLink(place)
		if err != nil {
			return err
		}
		if err := l.client.Stop(context.Background()); err != nil { // it was not started
			return err
		}
	}
	return nil
}

// Update takes samples of a device, or of the edge node when device is empty,
// each by its Name. All of them are taken, or none. It returns at once: they are
// sent, or wait.
//
// A sample without a value is null; without a Timestamp it is of now, without
// Properties it has those of the declaration, and is of good quality. Of a template
// it may have some members; the others stay as they are. What changes neither value nor properties is not told. A Historical sample is for
// the record and leaves the present value alone; a Transient one is dropped when
// it cannot be sent while it is the present value.
//
// The errors are ErrUnknownDevice, ErrUnknownMetric, ErrDeviceDown and those of
// values that do not fit the declaration.
func (n *Node) Update(device string, samples ...sparkplug.Metric) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	err := n.core.Update(device, samples, time.Now())
	n.flush()
	return err
}

// AddDevice declares a device, which is born at once unless it is Down. The
// errors are ErrDuplicate, ErrNoDefinition and those of names and values that
// cannot be in a birth.
func (n *Node) AddDevice(d Device) error {
	metrics, writers := split(d.Metrics)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.core.AddDevice(d.Name, metrics, !d.Down); err != nil {
		return err
	}
	n.writers[d.Name] = writers
	n.flush()
	return nil
}

// RemoveDevice ends a device for good; what waits of it is dropped. A device of
// that name may be added again, with other metrics. ErrUnknownDevice when there
// is none.
func (n *Node) RemoveDevice(device string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.core.RemoveDevice(device); err != nil {
		return err
	}
	delete(n.writers, device)
	n.flush()
	return nil
}

// SetDevice says that a device is there (its DBIRTH goes out) or has been lost
// (its DDEATH does). ErrUnknownDevice when there is none.
func (n *Node) SetDevice(device string, up bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	err := n.core.SetDevice(device, up)
	n.flush()
	return err
}

// Stats are the counters.
func (n *Node) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.core.Stats()
}

// AwaitOnline blocks until all births have been handed to the connection, or ctx
// ends, whose error it returns.
func (n *Node) AwaitOnline(ctx context.Context) error {
	for {
		n.mu.Lock()
		online, changed := n.core.State() == node.Online, n.changed
		n.mu.Unlock()
		if online {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// flush sends what is due and does what the core asks for. mu is held.
func (n *Node) flush() {
	// An error says that the connection is full or gone. Then a result, or the
	// end of the connection, brings us here again.
	_ = n.core.Send(time.Now(), n.publish)
	n.keep(false)
	overflow := 0
	for _, a := range n.core.Actions() {
		if !n.do(a) {
			overflow++
		}
	}
	if overflow > 0 {
		n.cfg.Logger.Warn("sparkplug: writes refused: too many are waiting", "group", n.cfg.Group, "node", n.cfg.Node, "writes", overflow)
	}
	if s := n.core.State(); s != n.told {
		n.told = s
		close(n.changed)
		n.changed = make(chan struct{})
		n.cfg.Logger.Info("sparkplug: "+s.String(), "group", n.cfg.Group, "node", n.cfg.Node)
	}
	if n.link != nil {
		n.link.wake()
	}
}

// remember takes up what the last process has left waiting.
func (n *Node) remember() error {
	h, waiting, lost, err := openHistory(n.cfg.HistoryFile)
	if err != nil {
		return err
	}
	n.history = h
	if lost > 0 {
		n.cfg.Logger.Warn("sparkplug: the end of the history file cannot be read", "file", n.cfg.HistoryFile, "bytes", lost)
	}
	n.core.Restore(waiting)
	return nil
}

// keep writes the history file; with flight also what the connection has not written
// yet. An error is no reason not to go on: the samples wait in memory. mu is held.
func (n *Node) keep(flight bool) {
	list := n.core.Records(flight)
	if len(list) == 0 && !(n.unkept && flight) {
		return
	}
	var err error
	if !n.unkept {
		err = n.history.append(list, n.core.Waiting)
	} else if flight { // once a moment
		err = n.history.rewrite(n.core.Waiting())
	} else {
		return
	}
	n.kept(err)
}

// kept tells of the first failure in a row, and of its end. mu is held.
func (n *Node) kept(err error) {
	switch {
	case err != nil && !n.unkept:
		n.cfg.Logger.Error("sparkplug: samples wait in memory only", "file", n.cfg.HistoryFile, "error", err)
	case err == nil && n.unkept:
		n.cfg.Logger.Info("sparkplug: samples wait in the file again", "file", n.cfg.HistoryFile)
	}
	n.unkept = err != nil
}

// keepLoop brings the history file to disk, until ctx ends and once more.
func (n *Node) keepLoop(ctx context.Context) {
	ticker := time.NewTicker(lag)
	defer ticker.Stop()
	for more := true; more; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			more = false
		}
		n.mu.Lock()
		n.keep(true)
		n.mu.Unlock()
		if err := n.history.sync(); err != nil {
			n.mu.Lock()
			n.kept(err)
			n.mu.Unlock()
		}
	}
}

// do is one action of the core. It reports false for a write that there is no
// room for. mu is held.
func (n *Node) do(a node.Action) bool {
	log := n.cfg.Logger.With("group", n.cfg.Group, "node", n.cfg.Node, "device", a.Device)
	switch a.Kind {
	case node.Write:
		select {
		case n.writes <- a:
		default:
			return false
		}
	case node.Refused:
		log.Warn("sparkplug: command refused", "metrics", a.Count, "error", a.Err)
	case node.Unfit:
		log.Error("sparkplug: cannot be sent", "error", a.Err)
	case node.Disconnect:
		log.Info("sparkplug: leaving", "reason", a.Reason.String())
		if n.link != nil {
			n.link.finish(ending{walk: a.Reason != node.Stopped, death: a.Death, err: errors.New(a.Reason.String())})
		}
	}
	return true
}

// writeLoop calls the handlers until ctx ends.
func (n *Node) writeLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-n.writes:
			n.write(ctx, a)
		}
	}
}

func (n *Node) write(ctx context.Context, a node.Action) {
	name := string(a.Metric.Name)
	n.mu.Lock()
	f := n.writers[a.Device][name]
	n.mu.Unlock()
	if f == nil || ctx.Err() != nil {
		return // the device has been removed since, or we end
	}
	out, err := f(ctx, a.Metric)
	if err == nil {
		// The sample is of the metric that was written, whatever f calls it.
		out.Name, out.Historical = a.Metric.Name, false
		n.mu.Lock()
		err = n.core.Wrote(a.Device, out, time.Now())
		n.flush()
		n.mu.Unlock()
	}
	if err != nil {
		n.cfg.Logger.Warn("sparkplug: write failed", "group", n.cfg.Group, "node", n.cfg.Node, "device", a.Device, "metric", name, "error", err)
	}
}

package edgelink

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/internal/spjson"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/sparkplug/session"
	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// Bounds of one report and of a value in it: a document of state has 64 KiB.
const (
	maxReport = 32 << 10
	maxValue  = 8 << 10
)

// report is what a device has to report with the next tick: of each metric the last
// live value that its node calls good. Values that are bad or stale are left out, so
// that a report holds what was good once; whether it still is, the device's presence
// says.
type report struct {
	unit    *session.Unit       // that paths is of
	paths   map[string][]string // by metric; those that are reported
	waiting map[string]sample   // by metric
}

type sample struct {
	path  []string
	value json.RawMessage
	time  uint64 // by the node's clock, 0 when there is none
}

// declare takes the names of a birth. What the one before declared, and this one does
// not, is taken away.
func (r *report) declare(u *session.Unit, filters []string) {
	was := r.paths
	r.unit, r.paths = u, map[string][]string{}
	for i := range u.Metrics {
		if name := u.Metrics[i].Name; wanted(name, filters) {
			if path := pathOf(name); path != nil {
				r.paths[name] = path
			}
		}
	}
	// A document cannot have a value and members at one place: the members stay.
	for _, path := range r.paths {
		for n := 1; n < len(path); n++ {
			delete(r.paths, strings.Join(path[:n], "/"))
		}
	}
	for name, path := range was {
		if r.paths[name] == nil && !r.above(path) {
			r.put(name, sample{path: path, value: json.RawMessage("null")})
		}
	}
}

// above tells whether a value stands where path leads through.
func (r *report) above(path []string) bool {
	for n := 1; n < len(path); n++ {
		if r.paths[strings.Join(path[:n], "/")] != nil {
			return true
		}
	}
	return false
}

func wanted(name string, filters []string) bool {
	switch name {
	case sparkplug.MetricBdSeq, sparkplug.MetricRebirth:
		return false
	}
	return slices.ContainsFunc(filters, func(f string) bool { return mqtt.Match(f, name) })
}

// pathOf is the place of a metric in a document of state, nil when it has none.
func pathOf(name string) []string {
	path := strings.Split(name, "/")
	if len(path) >= state.MaxDepth || slices.ContainsFunc(path, func(s string) bool { return s == "" || len(s) > state.MaxName }) {
		return nil
	}
	return path
}

func (r *report) put(name string, s sample) {
	if old, ok := r.waiting[name]; ok && s.time != 0 && s.time < old.time {
		return // of two in a message the newer one counts
	}
	if r.waiting == nil {
		r.waiting = map[string]sample{}
	}
	r.waiting[name] = s
}

// collect takes the values of a message for the next report.
func (n *node) collect(ev *host.Event) {
	u := n.units[ev.Device]
	if u == nil || len(n.l.opt.Reported) == 0 {
		return
	}
	r := &u.report
	if r.unit != ev.Unit {
		r.declare(ev.Unit, n.l.opt.Reported)
	}
	var whole map[string]bool // templates of which the message may have many parts
	for _, v := range ev.Values {
		name := v.Metric.Name
		path := r.paths[name]
		if path == nil || v.Raw.Historical || host.QualityOf(v.Raw) != host.Good || whole[name] {
			continue
		}
		x := readingOf(v, &ev.Event)
		if x.Metric.Template != nil { // the host has what a part of it does not say
			if whole == nil {
				whole = map[string]bool{}
			}
			whole[name] = true
			has, _ := n.l.opt.Host.Value(n.id, ev.Device, name)
			if x = reading(&has); has.Known && !x.Good {
				continue
			}
		}
		r.put(name, sample{path, inDocument(x.Metric, v.Datatype()), x.Time})
	}
}

// inDocument is a value as a document of state has it: null when it can have none, so
// that the value before does not pass for the present one.
func inDocument(m *sparkplug.Metric, d sparkplug.Datatype) json.RawMessage {
	raw := spjson.Metric(m, d)
	if raw == nil || len(raw) > maxValue {
		return json.RawMessage("null")
	}
	return raw
}

// catchUp takes the values that the host had before the device was known here.
func (n *node) catchUp(device string, u *unit) {
	def, online := n.l.opt.Host.Unit(n.id, device)
	if !online || u.report.unit == def || len(n.l.opt.Reported) == 0 {
		return
	}
	u.report.declare(def, n.l.opt.Reported)
	for name, path := range u.report.paths {
		v, ok := n.l.opt.Host.Value(n.id, device, name)
		if !ok || !v.Known || v.Quality != host.Good {
			continue
		}
		x := reading(&v)
		u.report.put(name, sample{path, inDocument(x.Metric, v.Datatype), x.Time})
	}
}

// flush reports what waits, in as many documents as it needs.
func (n *node) flush(u *unit) {
	var (
		tree   = map[string]any{}
		size   int
		newest uint64
	)
	out := func() {
		if size > 0 {
			n.update(u, tree, newest)
		}
		tree, size, newest = map[string]any{}, 0, 0
	}
	for _, name := range slices.Sorted(maps.Keys(u.report.waiting)) {
		s := u.report.waiting[name]
		more := len(name) + len(s.value) + 8
		if size+more > maxReport {
			out()
		}
		size += more
		newest = max(newest, s.time)
		graft(tree, s.path, s.value)
	}
	out()
	u.report.waiting = nil
}

// graft puts a value into a tree of maps.
func graft(tree map[string]any, path []string, value json.RawMessage) {
	for _, name := range path[:len(path)-1] {
		below, ok := tree[name].(map[string]any)
		if !ok {
			below = map[string]any{}
			tree[name] = below
		}
		tree = below
	}
	tree[path[len(path)-1]] = value
}

func (n *node) update(u *unit, tree map[string]any, newest uint64) {
	var up wire.StateUpdate
	raw, err := json.Marshal(tree)
	if err == nil {
		up.State = raw
		if newest > 0 && newest <= lastTime {
			up.TS = time.UnixMilli(int64(newest))
		}
		raw, err = documents.AppendStateUpdate(nil, up)
	}
	n.send(documents.StateTopic(u.address, wire.StateReport), raw, err)
}

// lastTime is the end of the year 9999 in milliseconds, after which a time has no
// place in JSON.
const lastTime = 253402300799999

package session

import (
	"strings"

	"github.com/wilco-iot/wilco/sparkplug"
)

// Metric is what a birth declared of a metric. It is never changed.
type Metric struct {
	Name     string
	Alias    uint64
	HasAlias bool
	Datatype sparkplug.Datatype // 0 when the birth names none that there is
	Form     sparkplug.Form     // how the birth wrote the value, for who writes to it
	Index    int                // its place in Unit.Metrics
}

// Unit is what one birth declared: an edge node's own metrics, or those of a
// device. It is never changed; the next birth makes another one.
type Unit struct {
	Device  string // empty for the edge node itself
	Metrics []Metric

	names  map[string]int32
	sparse map[uint64]int32 // by alias, when there are large ones
	dense  []int32          // by alias: index + 1, ambiguous, or 0
	// templates are the definitions in this birth.
	templates map[string]*sparkplug.Template
	cost      int // of memory, in metrics
}

// ambiguous stands where an alias was given to two metrics.
const ambiguous = -1

// Find is the metric of that name, nil when there is none.
func (u *Unit) Find(name string) *Metric {
	if i, ok := u.names[name]; ok {
		return &u.Metrics[i]
	}
	return nil
}

// Template is the definition of that name in this birth, nil when there is none. Those
// of devices are in the birth of their node. It must not be changed.
func (u *Unit) Template(name string) *sparkplug.Template { return u.templates[name] }

// FindAlias is the metric of that alias, nil when there is none, or two.
func (u *Unit) FindAlias(alias uint64) *Metric {
	if i := u.alias(alias); i > 0 {
		return &u.Metrics[i-1]
	}
	return nil
}

func (u *Unit) alias(alias uint64) int32 {
	if u.sparse != nil {
		return u.sparse[alias]
	}
	if alias < uint64(len(u.dense)) {
		return u.dense[alias]
	}
	return 0
}

// newUnit reads the declarations of a birth. What is wrong with them goes to
// complain, which gets the place of the metric.
func newUnit(device string, p *sparkplug.Payload, complain func(int, Reason, error)) *Unit {
	u := &Unit{Device: device, Metrics: make([]Metric, 0, len(p.Metrics)), names: make(map[string]int32, len(p.Metrics))}
	names := joinNames(p)
	u.cost = 1 + len(p.Metrics) + len(names)/bytesOfMetric
	top := uint64(0)
	for i := range p.Metrics {
		raw := &p.Metrics[i]
		name := names[:len(raw.Name)]
		names = names[len(raw.Name):]
		if raw.Name == nil {
			// [tck-id-payloads-name-requirement]
			complain(i, NoName, nil)
			continue
		}
		if _, ok := u.names[name]; ok {
			complain(i, DuplicateName, nil)
			continue
		}
		m := Metric{Name: name, Alias: raw.Alias, HasAlias: raw.HasAlias, Form: raw.Value.Form(), Index: len(u.Metrics)}
		// [tck-id-payloads-metric-datatype-req]
		if raw.Datatype.Valid() {
			m.Datatype = raw.Datatype
		}
		if m.HasAlias {
			top = max(top, m.Alias)
		}
		u.names[m.Name] = int32(m.Index)
		u.Metrics = append(u.Metrics, m)
		u.define(raw)
	}
	u.index(top, complain)
	return u
}

// bytesOfMetric is what a metric's declaration takes of memory, about.
const bytesOfMetric = 128

// joinNames makes one string of all names: parts of it cost no memory of their own.
func joinNames(p *sparkplug.Payload) string {
	var all strings.Builder
	n := 0
	for i := range p.Metrics {
		n += len(p.Metrics[i].Name)
	}
	all.Grow(n)
	for i := range p.Metrics {
		all.Write(p.Metrics[i].Name)
	}
	return all.String()
}

// index makes the table of aliases: a list while they are small numbers, as
// nearly always, because a list is read ten times faster than a map.
func (u *Unit) index(top uint64, complain func(int, Reason, error)) {
	if top < uint64(4*len(u.Metrics)+1024) {
		u.dense = make([]int32, top+1)
	} else {
		u.sparse = make(map[uint64]int32, len(u.Metrics))
	}
	for i := range u.Metrics {
		m := &u.Metrics[i]
		if !m.HasAlias {
			continue
		}
		to := int32(i) + 1
		if u.alias(m.Alias) != 0 {
			// [tck-id-payloads-alias-uniqueness]
			to = ambiguous
			complain(-1, DuplicateAlias, nil)
		}
		if u.sparse != nil {
			u.sparse[m.Alias] = to
		} else {
			u.dense[m.Alias] = to
		}
	}
}

func (u *Unit) define(raw *sparkplug.Metric) {
	if raw.Template == nil || !raw.Template.Definition {
		return
	}
	if u.templates == nil {
		u.templates = map[string]*sparkplug.Template{}
	}
	own := raw.Clone()
	u.templates[string(raw.Name)] = own.Template
	u.cost += 1 + len(own.Template.Members) + len(own.Template.Parameters)
}

// resolve finds what a metric of a DATA message is about. A reason with a
// metric is one to complain of only.
func (u *Unit) resolve(raw *sparkplug.Metric) (*Metric, Reason) {
	if raw.Name != nil {
		if i, ok := u.names[string(raw.Name)]; ok {
			m := &u.Metrics[i]
			if raw.HasAlias && m.HasAlias && raw.Alias != m.Alias {
				return m, AliasMismatch
			}
			return m, NoReason
		}
		// An empty name beside an alias is what some writers make of no name.
		if len(raw.Name) > 0 || !raw.HasAlias {
			return nil, UnknownMetric
		}
	}
	if !raw.HasAlias {
		return nil, NoName
	}
	switch i := u.alias(raw.Alias); i {
	case 0:
		return nil, UnknownAlias
	case ambiguous:
		return nil, DuplicateAlias
	default:
		return &u.Metrics[i-1], NoReason
	}
}

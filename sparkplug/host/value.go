package host

import (
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// Quality says how far a value can be trusted.
type Quality uint8

// The qualities.
const (
	Stale Quality = iota // it was so once
	Good
	Bad // the edge node says so itself
)

var qualityNames = [...]string{"stale", "good", "bad"}

// String returns the quality in a word.
func (q Quality) String() string {
	if int(q) < len(qualityNames) {
		return qualityNames[q]
	}
	return "?"
}

// Metric is a metric and its last live value. What it points to is not changed
// any more.
type Metric struct {
	session.Metric // what its birth declared; Datatype may be that of the message
	Quality        Quality
	Null           bool
	// Known is false when there was no value that could be kept: none in the
	// birth, one of the wrong type, or no room for it.
	Known        bool
	HasTimestamp bool
	Timestamp    uint64 // of the edge node, in milliseconds: the metric's, or else the message's
	Received     time.Time
	Value        sparkplug.Value
	DataSet      *sparkplug.DataSet
	Template     *sparkplug.Template
	Properties   *sparkplug.PropertySet // the last that came, in the birth or after
}

// value is what is kept of a metric. Most have no nested parts.
type value struct {
	raw       sparkplug.Value
	nested    *sparkplug.Metric // with DataSet or Template
	props     *sparkplug.PropertySet
	timestamp uint64
	at        time.Time
	turn      uint64 // of the message
	datatype  sparkplug.Datatype
	size      int // of what is charged to the budget
	propsSize int // the part of it that props are
	quality   Quality
	null      bool
	known     bool
	broken    bool // a template was not kept, so that parts do not make it whole before the next birth
	hasTime   bool
}

// unit is what is kept of an edge node's own metrics, or of a device.
type unit struct {
	def    *session.Unit
	values []value
	online bool
	since  time.Time // online or offline
	stale  bool
}

// budget counts what a shard keeps against its part of Options.
type budget struct {
	metrics, maxMetrics int
	text, maxText       int
	completed           int // bytes of templates that the present message had completed
}

// fill makes the values of a birth. What the unit had is given back before.
func (u *unit) fill(e *session.Event, b *budget) {
	u.drop(b)
	u.def, u.values = e.Unit, make([]value, len(e.Unit.Metrics))
	b.metrics += len(u.values)
	u.online, u.stale, u.since = true, false, e.At
	u.set(e, 0, b)
}

// drop gives back what the unit is charged for.
func (u *unit) drop(b *budget) {
	b.metrics -= len(u.values)
	for i := range u.values {
		b.text -= u.values[i].size
	}
	u.values = nil
}

// set takes the live values of a message. Of two values of one metric in it the
// one with the later time stays, in whatever order they come.
func (u *unit) set(e *session.Event, turn uint64, b *budget) {
	b.completed = 0
	for _, in := range e.Values {
		v := &u.values[in.Metric.Index]
		raw := in.Raw
		if raw.Historical {
			continue
		}
		at, has := raw.Timestamp, raw.HasTimestamp
		if !has {
			at, has = e.Timestamp, e.HasTimestamp
		}
		if v.turn == turn && turn != 0 && v.known && has && v.hasTime && at < v.timestamp {
			continue
		}
		v.timestamp, v.hasTime, v.at, v.turn = at, has, e.At, turn
		v.take(raw, in.Datatype(), b)
	}
}

func (v *value) take(raw *sparkplug.Metric, d sparkplug.Datatype, b *budget) {
	b.text -= v.size
	was, wasSize := v.nested, v.size
	v.raw, v.nested, v.size, v.datatype = sparkplug.Value{}, nil, v.propsSize, d
	v.null, v.known, v.quality = raw.Null, true, QualityOf(raw)
	switch {
	case raw.Null:
	case raw.DataSet != nil || raw.Template != nil:
		v.nest(raw, was, wasSize, b)
	default:
		size := len(raw.Value.Data())
		if size > 0 && b.text+v.size+size > b.maxText {
			v.known = false
			break
		}
		v.raw = raw.Value.Clone()
		v.size += size
	}
	if raw.Properties != nil {
		v.size -= v.propsSize
		if own, size, ok := v.keep(&sparkplug.Metric{Properties: raw.Properties}, b); ok {
			v.props, v.propsSize = own.Properties, size
		}
		v.size += v.propsSize
	}
	b.text += v.size
}

// nest takes a table or a template; was is what there was, and wasSize its size.
func (v *value) nest(raw, was *sparkplug.Metric, wasSize int, b *budget) {
	bare := *raw
	bare.Properties = nil
	if bare.Template != nil && was != nil {
		// DATA may have some members only [tck-id-payloads-template-instance-members-data].
		// A message may have very many such parts, and each makes a copy of the whole.
		b.completed += wasSize
		v.broken = b.completed > b.maxText
		if !v.broken {
			bare.Template = bare.Template.Over(was.Template)
		}
	}
	if bare.Template != nil && v.broken {
		v.known = false
		return
	}
	own, size, ok := v.keep(&bare, b)
	v.broken = !ok && bare.Template != nil
	if v.known = ok; ok {
		v.nested = &own
		v.size += size
	}
}

// keep copies a metric with nested parts, if there is room for it.
func (v *value) keep(m *sparkplug.Metric, b *budget) (own sparkplug.Metric, size int, ok bool) {
	// What it is on the wire, and about ten times that in memory.
	size = 10 * len((&sparkplug.Payload{Metrics: []sparkplug.Metric{*m}}).Append(nil))
	if b.text+v.size+size > b.maxText {
		return own, 0, false
	}
	return m.Clone(), size, true
}

// QualityOf is what a message says of one of its values: Good, unless its property
// Quality says otherwise [tck-id-payloads-propertyset-quality-value-value].
func QualityOf(m *sparkplug.Metric) Quality {
	q := m.Properties.Find(sparkplug.Quality)
	if q == nil || q.Null {
		return Good
	}
	n, err := q.Value.Int(sparkplug.TypeInt32)
	switch {
	case err != nil:
		return Good
	case n == sparkplug.QualityBad:
		return Bad
	case n == sparkplug.QualityStale:
		return Stale
	}
	return Good
}

// metrics is a copy for readers.
func (u *unit) metrics() []Metric {
	list := make([]Metric, len(u.values))
	for i := range u.values {
		list[i] = u.metric(i)
	}
	return list
}

// metric is a copy of one for readers.
func (u *unit) metric(i int) Metric {
	v := &u.values[i]
	m := Metric{
		Metric: u.def.Metrics[i], Quality: v.quality, Null: v.null, Known: v.known, HasTimestamp: v.hasTime,
		Timestamp: v.timestamp, Received: v.at, Value: v.raw, Properties: v.props,
	}
	if m.Datatype == 0 {
		m.Datatype = v.datatype
	}
	if v.nested != nil {
		m.DataSet, m.Template = v.nested.DataSet, v.nested.Template
	}
	if u.stale || !v.known {
		m.Quality = Stale
	}
	return m
}

package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wilco-iot/wilco/sparkplug"
)

// Metric is a metric as it is declared: Name, Datatype, the first value and
// what else its BIRTH says. Without a value it is null.
type Metric struct {
	sparkplug.Metric
	Writable bool
}

// The reasons why a declaration or a sample is refused.
var (
	ErrUnknownDevice = errors.New("unknown device")
	ErrUnknownMetric = errors.New("unknown metric")
	ErrDuplicate     = errors.New("declared twice")
	ErrReserved      = errors.New("the edge node declares it itself")
	ErrReadOnly      = errors.New("not writable")
	ErrDeviceDown    = errors.New("the device is down")
	ErrNoDefinition  = errors.New("no definition of its template")
)

// metric is a metric with what is known of it now.
type metric struct {
	sparkplug.Metric                // as its next birth says it; the Name is never absent
	form             sparkplug.Form // of its values
	declared         *sparkplug.PropertySet
	transient        bool // as declared
	writable         bool
	sample           uint64 // the number of the sample that gave the value
}

// declare makes a metric out of its declaration.
func (c *Core) declare(m *Metric, s *stream) (*metric, error) {
	x := &metric{Metric: m.Clone(), transient: m.Transient, writable: m.Writable}
	name := string(m.Name)
	switch {
	case name == "":
		return nil, errors.New("a metric without a name")
	case name == sparkplug.MetricBdSeq || name == sparkplug.MetricRebirth || name == sparkplug.MetricNextServer && c.cfg.Servers > 1:
		if s.device == "" {
			return nil, fmt.Errorf("metric %q: %w", name, ErrReserved)
		}
	}
	if s.byName[name] != nil {
		return nil, fmt.Errorf("metric %q: %w", name, ErrDuplicate)
	}
	x.Null = x.Null || m.Value.Form() == sparkplug.FormNone && m.DataSet == nil && m.Template == nil
	if x.Null {
		x.Value, x.DataSet, x.Template = sparkplug.Value{}, nil, nil
	}
	x.Historical, x.HasAlias, x.Alias, x.declared = false, false, 0, x.Properties
	if err := x.Check(0); err != nil {
		return nil, fmt.Errorf("metric %q: %w", name, err)
	}
	if x.form = x.Value.Form(); x.form == sparkplug.FormNone {
		x.form = x.Datatype.Form()
	}
	if x.definition() {
		if s.device != "" { // [tck-id-payloads-template-definition-nbirth-only]
			return nil, fmt.Errorf("metric %q: a device cannot define a template", name)
		}
	} else if err := c.checkTemplate(&x.Metric, s, true); err != nil {
		return nil, fmt.Errorf("metric %q: %w", name, err)
	}
	// Node Control/... is asked for by name, and the one for rebirth must be
	// [tck-id-operational-behavior-data-commands-rebirth-name-aliases].
	if c.cfg.Aliases && !x.definition() && !strings.HasPrefix(name, "Node Control/") {
		// One count for the node and all devices [tck-id-payloads-alias-uniqueness].
		c.alias++
		x.Alias, x.HasAlias = c.alias, true
	}
	return x, nil
}

// definition tells whether the metric defines a template: it is in the NBIRTH,
// and has no value that could change.
func (m *metric) definition() bool { return m.Template != nil && m.Template.Definition }

// checkTemplate tells whether the value m, if it is a template, fits its definition,
// which the NBIRTH has. The present value has all members; one for the record, or one
// that is asked for, may have some.
//
// [tck-id-payloads-template-definition-nbirth] [tck-id-topics-nbirth-templates]
// [tck-id-payloads-template-instance-members-birth] [tck-id-payloads-template-instance-members-data]
func (c *Core) checkTemplate(m *sparkplug.Metric, s *stream, whole bool) error {
	if m.Template == nil {
		return nil
	}
	d := c.definition(m.Template.Ref, s)
	if d == nil {
		return ErrNoDefinition
	}
	return m.Template.CheckInstance(d, whole)
}

// definition is the definition of a template, nil when there is none. s is the node
// itself while there is no other.
func (c *Core) definition(ref []byte, s *stream) *sparkplug.Template {
	if c.node != nil {
		s = c.node
	}
	if d := s.byName[string(ref)]; d != nil && d.definition() {
		return d.Template
	}
	return nil
}

// typed gives the members and parameters of an instance the datatypes that its
// definition has, at every depth.
func (c *Core) typed(t *sparkplug.Template) {
	d := c.definition(t.Ref, c.node)
	if d == nil {
		return
	}
	for i := range t.Members {
		m := &t.Members[i]
		if of := d.Member(m.Name); of != nil {
			m.Datatype = of.Datatype
		}
		if m.Template != nil {
			c.typed(m.Template)
		}
	}
	for i := range t.Parameters {
		if of := d.Parameter(t.Parameters[i].Name); of != nil {
			t.Parameters[i].Datatype = of.Datatype
		}
	}
}

// accept makes m what this metric would be told as next: complete, with the
// form of the birth, of a template with the members that it leaves out, and with a
// quality if that has changed. It reports whether anything differs from the present
// value.
func (x *metric) accept(m *sparkplug.Metric, now uint64) (changed bool, err error) {
	if m.Datatype != 0 && m.Datatype != x.Datatype {
		return false, fmt.Errorf("is %s, not %s", x.Datatype, m.Datatype)
	}
	m.Null = m.Null || m.Value.Form() == sparkplug.FormNone && m.DataSet == nil && m.Template == nil
	if m.Null {
		m.Value, m.DataSet, m.Template = sparkplug.Value{}, nil, nil
	}
	if err := m.Check(x.Datatype); err != nil {
		return false, err
	}
	if m.Template != nil && !m.Historical {
		m.Template = m.Template.Over(x.Template)
	}
	m.Value = m.Value.In(x.form, x.Datatype)
	m.Name, m.Alias, m.HasAlias, m.Datatype = x.Name, x.Alias, x.HasAlias, x.Datatype
	m.Transient = m.Transient || x.transient
	if m.Properties == nil {
		m.Properties = x.declared
	}
	if quality(m.Properties) != quality(x.Properties) && m.Properties.Find(sparkplug.Quality) == nil {
		m.Properties = WithQuality(m.Properties, sparkplug.QualityGood)
	}
	if !m.HasTimestamp {
		m.Timestamp, m.HasTimestamp = now, true
	}
	return !x.Holds(m, x.Datatype) || !sameProperties(x.Properties, m.Properties), nil
}

// quality is that of a value with these properties; without one it is good.
func quality(s *sparkplug.PropertySet) int64 {
	if v := s.Find(sparkplug.Quality); v != nil {
		if q, err := v.Value.Int(sparkplug.TypeInt32); err == nil {
			return q
		}
	}
	return sparkplug.QualityGood
}

// WithQuality is s with a quality, in place of the one it may have. It does not
// change s.
func WithQuality(s *sparkplug.PropertySet, q int64) *sparkplug.PropertySet {
	v, _ := sparkplug.NewInt(sparkplug.TypeInt32, q) // [tck-id-payloads-propertyset-quality-value-type]
	var t sparkplug.PropertySet
	if s != nil {
		for i, k := range s.Keys[:min(len(s.Keys), len(s.Values))] {
			if string(k) != sparkplug.Quality {
				t.Keys, t.Values = append(t.Keys, k), append(t.Values, s.Values[i])
			}
		}
	}
	t.Keys = append(t.Keys, []byte(sparkplug.Quality))
	t.Values = append(t.Values, sparkplug.PropertyValue{Datatype: sparkplug.TypeInt32, Value: v})
	return &t
}

// sameProperties compares the two as they would be written.
func sameProperties(a, b *sparkplug.PropertySet) bool {
	return a == b || slices.Equal(written(a), written(b))
}

func written(s *sparkplug.PropertySet) []byte {
	if s == nil {
		return nil
	}
	p := sparkplug.Payload{Metrics: []sparkplug.Metric{{Properties: s}}}
	return p.Append(nil)
}

// inBirth is the metric as an NBIRTH or DBIRTH has it: name, alias and datatype
// together [tck-id-payloads-alias-birth-requirement] [tck-id-payloads-metric-datatype-req].
// What has never been told a time is of now [tck-id-payloads-name-birth-data-requirement].
func (x *metric) inBirth(now uint64) sparkplug.Metric {
	m := x.Metric
	if !m.HasTimestamp {
		m.Timestamp, m.HasTimestamp = now, true
	}
	return m
}

// inData is a sample as DATA has it: by alias if there is one, else by name,
// and without the datatype, which its birth has said
// [tck-id-payloads-alias-data-cmd-requirement] [tck-id-payloads-metric-datatype-not-req].
func (i *item) inData() sparkplug.Metric {
	m := i.Metric
	m.Datatype = 0
	if m.HasAlias {
		m.Name = nil
	}
	m.Historical = m.Historical || i.past
	return m
}

package sparkplug

import (
	"iter"
	"strings"
)

// Violation is a statement of the specification that a message breaks.
type Violation struct {
	Statement string // as in "tck-id-payloads-nbirth-seq"
	Metric    int    // index into Metrics; -1 when it is not about one
}

// rules of the payload as a whole, by message type; a statement that is empty
// does not bind the type. The chapter of topics says most of them once more:
//
// [tck-id-topics-nbirth-timestamp] [tck-id-topics-dbirth-timestamp] [tck-id-topics-ndata-timestamp]
// [tck-id-topics-ddata-timestamp] [tck-id-topics-ncmd-timestamp] [tck-id-topics-dcmd-timestamp]
// [tck-id-payloads-sequence-num-req-nbirth]
var rules = [...]struct{ timestamp, seq, noSeq string }{
	NBirth: {timestamp: "[tck-id-payloads-nbirth-timestamp]", seq: "[tck-id-payloads-nbirth-seq]"},
	DBirth: {timestamp: "[tck-id-payloads-dbirth-timestamp]", seq: "[tck-id-payloads-dbirth-seq]"},
	NData:  {timestamp: "[tck-id-payloads-ndata-timestamp]", seq: "[tck-id-payloads-ndata-seq]"},
	DData:  {timestamp: "[tck-id-payloads-ddata-timestamp]", seq: "[tck-id-payloads-ddata-seq]"},
	DDeath: {timestamp: "[tck-id-payloads-ddeath-timestamp]", seq: "[tck-id-payloads-ddeath-seq]"},
	NDeath: {noSeq: "[tck-id-payloads-ndeath-seq]"},
	NCmd:   {timestamp: "[tck-id-payloads-ncmd-timestamp]", noSeq: "[tck-id-payloads-ncmd-seq]"},
	DCmd:   {timestamp: "[tck-id-payloads-dcmd-timestamp]", noSeq: "[tck-id-payloads-dcmd-seq]"},
	State:  {},
}

// Violations gives what p breaks as a message of type t: every MUST that can be
// told from the message by itself. What depends on other messages, on time or
// on the broker is not looked at, and neither is the form of values, which
// [Metric.Check] judges. It is for an edge node's tests and for telling what is
// wrong with somebody else's messages; a host that works in the field takes
// much of it.
func Violations(t MessageType, p *Payload) iter.Seq[Violation] {
	return func(yield func(Violation) bool) {
		if t == 0 || t >= State {
			return
		}
		r := reporter{yield: yield, index: -1}
		r.payload(t, p)
		aliases := map[uint64]bool{}
		live := uint64(0)
		if t == NBirth {
			r.definitions = p
		}
		for i := range p.Metrics {
			m := &p.Metrics[i]
			r.index = i
			r.metric(t, m)
			if t == NBirth || t == DBirth {
				r.unless(!m.HasAlias || !aliases[m.Alias], "[tck-id-payloads-alias-uniqueness]")
				aliases[m.Alias] = m.HasAlias || aliases[m.Alias]
			}
			if m.HasTimestamp && !m.Historical && t != NCmd && t != DCmd && t != NDeath {
				r.unless(m.Timestamp >= live, orderOf(t))
				live = max(live, m.Timestamp)
			}
			if r.done {
				return
			}
		}
	}
}

// orderOf is the statement that live values are listed oldest first.
func orderOf(t MessageType) string {
	if t.OfDevice() {
		return "[tck-id-operational-behavior-data-publish-dbirth-order]"
	}
	return "[tck-id-operational-behavior-data-publish-nbirth-order]"
}

type reporter struct {
	yield       func(Violation) bool
	index       int
	done        bool
	definitions *Payload // an NBIRTH has the definitions of its instances; nil for others
}

func (r *reporter) unless(ok bool, statement string) {
	if !ok && !r.done {
		r.done = !r.yield(Violation{strings.Trim(statement, "[]"), r.index})
	}
}

func (r *reporter) payload(t MessageType, p *Payload) {
	rule := rules[t]
	if rule.timestamp != "" {
		r.unless(p.HasTimestamp, rule.timestamp)
	}
	if rule.seq != "" {
		r.unless(p.HasSeq && p.Seq <= MaxSeq, rule.seq)
	}
	if rule.noSeq != "" {
		r.unless(!p.HasSeq, rule.noSeq)
	}
	switch t {
	case NBirth:
		_, err := p.BdSeq()
		r.unless(err == nil, "[tck-id-payloads-nbirth-bdseq]")
		m := p.Find(MetricBdSeq)
		r.unless(m == nil || m.Datatype == TypeInt64, "[tck-id-message-flow-edge-node-birth-publish-nbirth-payload-bdSeq]")
		m = p.Find(MetricRebirth)
		r.unless(m != nil && m.Datatype == TypeBoolean && !m.Null && m.Value.form == FormBool && m.Value.bits == 0,
			"[tck-id-payloads-nbirth-rebirth-req]")
	case NDeath:
		_, err := p.BdSeq()
		r.unless(err == nil && len(p.Metrics) == 1, "[tck-id-topics-ndeath-payload]")
	}
}

func (r *reporter) metric(t MessageType, m *Metric) {
	birth := t == NBirth || t == DBirth
	r.unless(m.Name != nil || m.HasAlias, "[tck-id-payloads-name-requirement]")
	if birth { // [tck-id-topics-nbirth-metrics] [tck-id-topics-dbirth-metrics]
		r.unless(m.Name != nil || !m.HasAlias, "[tck-id-payloads-alias-birth-requirement]")
		r.unless(m.Datatype != 0, "[tck-id-payloads-metric-datatype-req]")
		valued := m.Value.form != FormNone || m.DataSet != nil || m.Template != nil
		statement := "[tck-id-operational-behavior-data-publish-nbirth-values]"
		if t == DBirth {
			statement = "[tck-id-operational-behavior-data-publish-dbirth-values]"
		}
		r.unless(valued != m.Null, statement)
	} else {
		r.unless(m.Name == nil || !m.HasAlias, "[tck-id-payloads-alias-data-cmd-requirement]")
	}
	if t != NCmd && t != DCmd && t != NDeath { // for commands it is a choice [tck-id-payloads-name-cmd-requirement]
		r.unless(m.HasTimestamp, "[tck-id-payloads-name-birth-data-requirement]")
	}
	r.unless(m.Datatype == 0 || m.Datatype.Valid(), "[tck-id-payloads-metric-datatype-value]")
	r.properties(birth, m.Properties)
	if m.DataSet != nil {
		r.dataSet(m.DataSet)
	}
	if m.Template != nil {
		r.template(t, m.Template, true)
	}
}

func (r *reporter) properties(birth bool, s *PropertySet) {
	if s == nil {
		return
	}
	r.unless(len(s.Values) >= len(s.Keys), "[tck-id-payloads-propertyset-values-array-size]")
	r.unless(len(s.Keys) >= len(s.Values), "[tck-id-payloads-propertyset-keys-array-size]")
	for i := range s.Values {
		v := &s.Values[i]
		d := v.Datatype
		r.unless(!birth || d != 0, "[tck-id-payloads-metric-propertyvalue-type-req]")
		r.unless(d == 0 || d.Basic() || d == TypePropertySet || d == TypePropertySetList,
			"[tck-id-payloads-metric-propertyvalue-type-value]")
		if i < len(s.Keys) && string(s.Keys[i]) == Quality {
			r.unless(d == 0 || d == TypeInt32, "[tck-id-payloads-propertyset-quality-value-type]")
			x, err := v.Value.Int(TypeInt32)
			r.unless(err == nil && v.Value.form == FormInt && (x == QualityBad || x == QualityGood || x == QualityStale),
				"[tck-id-payloads-propertyset-quality-value-value]")
		}
		r.properties(birth, v.Set)
		if v.List != nil {
			for j := range v.List.Sets {
				r.properties(birth, &v.List.Sets[j])
			}
		}
	}
}

func (r *reporter) dataSet(s *DataSet) {
	r.unless(s.NumColumns == uint64(len(s.Columns)), "[tck-id-payloads-dataset-column-size]")
	r.unless(len(s.Columns) == len(s.Types), "[tck-id-payloads-dataset-types-num]")
	r.unless(len(s.Types) > 0 || len(s.Columns) == 0, "[tck-id-payloads-dataset-parameter-type-req]")
	for _, d := range s.Types {
		r.unless(d.Basic(), "[tck-id-payloads-dataset-types-value]")
	}
}

// template judges a template, which is the value of a metric when top is true,
// and a member of another one when it is not.
func (r *reporter) template(t MessageType, x *Template, top bool) {
	birth := t == NBirth || t == DBirth
	if x.Definition {
		r.unless(t == NBirth && top, "[tck-id-payloads-template-definition-nbirth-only]")
		// [tck-id-payloads-template-ref-definition]
		r.unless(x.Ref == nil, "[tck-id-payloads-template-definition-ref]")
	} else {
		// [tck-id-payloads-template-ref-instance]
		r.unless(len(x.Ref) > 0, "[tck-id-payloads-template-instance-ref]")
		if r.definitions != nil && len(x.Ref) > 0 { // [tck-id-topics-nbirth-templates]
			d := r.definitions.Find(string(x.Ref))
			r.unless(d != nil && d.Template != nil && d.Template.Definition, "[tck-id-payloads-template-definition-nbirth]")
		}
	}
	for i := range x.Parameters {
		p := &x.Parameters[i]
		r.unless(p.Name != nil, "[tck-id-payloads-template-parameter-name-required]")
		r.unless(!birth || p.Datatype != 0, "[tck-id-payloads-template-parameter-type-req]")
		r.unless(p.Datatype == 0 || p.Datatype.Basic(), "[tck-id-payloads-template-parameter-type-value]")
	}
	for i := range x.Members {
		m := &x.Members[i]
		r.unless(m.Datatype == 0 || m.Datatype.Valid(), "[tck-id-payloads-metric-datatype-value]")
		r.properties(birth, m.Properties)
		if m.DataSet != nil {
			r.dataSet(m.DataSet)
		}
		if m.Template != nil {
			r.template(t, m.Template, false)
		}
	}
}

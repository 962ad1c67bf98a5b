package sparkplug

import (
	"bytes"
	"math"
)

// Payload is the content of every message but STATE. Its memory is used again
// by the next Decode into it, so what was read is kept as a Clone and not as a
// plain copy. A Payload that was filled by hand should not be decoded into: its
// slices would be written over.
type Payload struct {
	Timestamp    uint64 // when it was sent: milliseconds since 1970, UTC [tck-id-payloads-timestamp-in-UTC]
	Seq          uint64 // 0 to MaxSeq in what is valid; more can come from the wire
	HasTimestamp bool
	HasSeq       bool
	UUID         []byte // of a schema, or CompressedUUID; nil when absent
	Body         []byte // anything, or compressed metrics; nil when absent
	Metrics      []Metric

	memory memory
}

// MaxSeq is the last sequence number; 0 comes after it.
const MaxSeq = 255

// NextSeq is the sequence number after seq
// [tck-id-payloads-sequence-num-incrementing].
func NextSeq(seq uint8) uint8 { return seq + 1 }

// Metric is a value with a name, an alias, or both. At most one of Value,
// DataSet and Template is there; a pointer that is not nil counts before Value.
type Metric struct {
	Name         []byte // nil when absent, which is not the same as empty
	Alias        uint64
	Timestamp    uint64   // milliseconds since 1970, UTC [tck-id-payloads-metric-timestamp-in-UTC]
	Datatype     Datatype // 0 when absent: that of the metric's BIRTH counts
	HasAlias     bool
	HasTimestamp bool
	Historical   bool // not the live value: for the record only
	Transient    bool // not for the record
	Null         bool // there is no value, whatever else is here
	Value        Value
	DataSet      *DataSet
	Template     *Template
	Meta         *MetaData
	Properties   *PropertySet
}

// MetaData describes a value that is a file, or a part of one. Texts are nil
// when absent.
type MetaData struct {
	MultiPart   bool
	ContentType []byte
	Size        uint64
	Seq         uint64 // of this part
	FileName    []byte
	FileType    []byte
	MD5         []byte
	Description []byte
}

// PropertySet is a map in two lists: Values[i] belongs to Keys[i].
type PropertySet struct {
	Keys   [][]byte
	Values []PropertyValue
}

// PropertyValue is a value of a PropertySet. At most one of Value, Set and List
// is there; a pointer that is not nil counts before Value.
type PropertyValue struct {
	Datatype Datatype // 0 when absent
	Null     bool
	Value    Value
	Set      *PropertySet
	List     *PropertySetList
}

// PropertySetList is a list of PropertySets.
type PropertySetList struct {
	Sets []PropertySet
}

// Quality is the property that says how good a value is, an Int32 of
// QualityBad, QualityGood or QualityStale [tck-id-payloads-propertyset-quality-value-value].
const Quality = "Quality"

// The values of Quality.
const (
	QualityBad   = 0
	QualityGood  = 192
	QualityStale = 500
)

// DataSet is a table.
type DataSet struct {
	NumColumns uint64
	Columns    [][]byte   // names
	Types      []Datatype // one for each column
	Rows       [][]Value  // one Value for each column; FormNone for a cell that says nothing
}

// Template is a definition of a structure, or an instance of it, which Ref
// names then.
type Template struct {
	Version    []byte // nil when absent
	Members    []Metric
	Parameters []Parameter
	Ref        []byte // nil when absent, as in a definition
	Definition bool   // always written [tck-id-payloads-template-is-definition]
}

// Parameter is a parameter of a Template.
type Parameter struct {
	Name     []byte // nil when absent
	Datatype Datatype
	Value    Value
}

// Find is the first metric with that name, nil when there is none.
func (p *Payload) Find(name string) *Metric {
	for i := range p.Metrics {
		if m := &p.Metrics[i]; m.Name != nil && string(m.Name) == name {
			return m
		}
	}
	return nil
}

// FindAlias is the first metric with that alias, nil when there is none.
func (p *Payload) FindAlias(alias uint64) *Metric {
	for i := range p.Metrics {
		if m := &p.Metrics[i]; m.HasAlias && m.Alias == alias {
			return m
		}
	}
	return nil
}

// Find is the first value of that key, nil when there is none; s may be nil.
func (s *PropertySet) Find(key string) *PropertyValue {
	if s == nil {
		return nil
	}
	for i := range min(len(s.Keys), len(s.Values)) {
		if string(s.Keys[i]) == key {
			return &s.Values[i]
		}
	}
	return nil
}

// Clone is a copy of v that owns its bytes.
func (v Value) Clone() Value {
	v.data = bytes.Clone(v.data)
	return v
}

// Clone is a copy of m, nested messages included, that owns its bytes: for
// keeping what was decoded.
func (m *Metric) Clone() Metric {
	p := Payload{Metrics: []Metric{*m}}
	return p.Clone().Metrics[0]
}

// Clone is a copy of p that owns its bytes.
func (p *Payload) Clone() *Payload {
	q := new(Payload)
	// Reading what was written cannot fail without limits.
	_ = q.Decode(p.Append(nil), Limits{Bytes: math.MaxInt, Elements: math.MaxInt, Depth: math.MaxInt})
	return q
}

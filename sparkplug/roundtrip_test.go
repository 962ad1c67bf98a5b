package sparkplug

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// drawing makes payloads of all shapes.
type drawing struct{ *rapid.T }

func (t drawing) yes() bool          { return rapid.Bool().Draw(t.T, "yes") }
func (t drawing) number() uint64     { return rapid.Uint64().Draw(t.T, "number") }
func (t drawing) count() int         { return rapid.IntRange(0, 3).Draw(t.T, "count") }
func (t drawing) datatype() Datatype { return Datatype(rapid.Uint32Range(0, 40).Draw(t.T, "type")) }
func (t drawing) pick(n int) int     { return rapid.IntRange(0, n-1).Draw(t.T, "pick") }
func (t drawing) some() []byte {
	// Bytes one by one are slow to draw; lengths are what matters.
	return bytes.Repeat([]byte{byte(t.pick(256))}, rapid.SampledFrom([]int{0, 1, 100, 130}).Draw(t.T, "length"))
}

func (t drawing) maybe() []byte {
	if t.yes() {
		return nil
	}
	return append([]byte{}, t.some()...)
}

func (t drawing) value(forms int) Value {
	v := Value{form: Form(t.pick(forms))}
	switch v.form {
	case FormInt, FormFloat:
		v.bits = uint64(uint32(t.number()))
	case FormLong, FormDouble:
		v.bits = t.number()
	case FormBool:
		v.bits = t.number() & 1
	case FormString, FormBytes:
		v.data = append([]byte{}, t.some()...)
	}
	return v
}

func (t drawing) metric(depth int) Metric {
	m := Metric{Name: t.maybe(), Datatype: t.datatype(), Historical: t.yes(), Transient: t.yes(), Null: t.yes()}
	if m.HasAlias = t.yes(); m.HasAlias {
		m.Alias = t.number()
	}
	if m.HasTimestamp = t.yes(); m.HasTimestamp {
		m.Timestamp = t.number()
	}
	if t.yes() {
		m.Meta = &MetaData{MultiPart: t.yes(), ContentType: t.maybe(), Size: t.number(), Seq: t.number(), FileName: t.maybe(),
			FileType: t.maybe(), MD5: t.maybe(), Description: t.maybe()}
	}
	if t.yes() {
		m.Properties = t.set(depth)
	}
	switch t.pick(3) {
	case 0:
		m.Value = t.value(int(FormBytes) + 1)
	case 1:
		m.DataSet = t.dataSet()
	case 2:
		if depth > 0 {
			m.Template = t.template(depth - 1)
		}
	}
	return m
}

func (t drawing) set(depth int) *PropertySet {
	s := &PropertySet{}
	for range t.count() {
		s.Keys = append(s.Keys, append([]byte{}, t.some()...))
	}
	for range t.count() {
		v := PropertyValue{Datatype: t.datatype(), Null: t.yes()}
		switch kind := t.pick(3); {
		case kind == 0 || depth == 0:
			v.Value = t.value(int(FormString) + 1)
		case kind == 1:
			v.Set = t.set(depth - 1)
		default:
			v.List = &PropertySetList{}
			for range t.count() {
				v.List.Sets = append(v.List.Sets, *t.set(depth - 1))
			}
		}
		s.Values = append(s.Values, v)
	}
	return s
}

func (t drawing) dataSet() *DataSet {
	s := &DataSet{NumColumns: t.number()}
	for range t.count() {
		s.Columns = append(s.Columns, append([]byte{}, t.some()...))
	}
	for range t.count() {
		s.Types = append(s.Types, t.datatype())
	}
	for range t.count() {
		var row []Value
		for range t.count() {
			row = append(row, t.value(int(FormString)+1))
		}
		s.Rows = append(s.Rows, row)
	}
	return s
}

func (t drawing) template(depth int) *Template {
	x := &Template{Version: t.maybe(), Ref: t.maybe(), Definition: t.yes()}
	for range t.count() {
		x.Members = append(x.Members, t.metric(depth))
	}
	for range t.count() {
		x.Parameters = append(x.Parameters, Parameter{Name: t.maybe(), Datatype: t.datatype(), Value: t.value(int(FormString) + 1)})
	}
	return x
}

func (t drawing) payload() *Payload {
	p := &Payload{UUID: t.maybe(), Body: t.maybe()}
	if p.HasSeq = t.yes(); p.HasSeq {
		p.Seq = t.number()
	}
	if p.HasTimestamp = t.yes(); p.HasTimestamp {
		p.Timestamp = t.number()
	}
	for range t.count() {
		p.Metrics = append(p.Metrics, t.metric(2))
	}
	return p
}

// TestRoundTrip: what is written is read again, by this package and by
// protobuf-go, and what protobuf-go writes is read as the same.
func TestRoundTrip(t *testing.T) {
	var used Payload
	rapid.Check(t, func(t *rapid.T) {
		p := drawing{t}.payload()
		wire := p.Append(nil)
		if err := used.Decode(wire, wide); err != nil || !same(&used, p) {
			t.Fatalf("written\n%+v, read\n%+v, %v", p, used, err)
		}
		want := toTwin(p)
		theirs := newTwin("Payload")
		if err := proto.Unmarshal(wire, theirs); err != nil || !proto.Equal(theirs, want) {
			t.Fatalf("protobuf-go reads %v, want %v, %v", theirs, want, err)
		}
		written, err := proto.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := used.Decode(written, wide); err != nil || !same(&used, p) {
			t.Fatalf("protobuf-go wrote\n%+v, read\n%+v, %v", p, used, err)
		}
	})
}

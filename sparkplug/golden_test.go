package sparkplug

import (
	"bytes"
	"math"
	"reflect"
	"testing"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// goldens are payloads, and their bytes put together by hand.
var goldens = []struct {
	name string
	p    Payload
	wire []byte
}{
	{"nothing", Payload{}, []byte{}},
	{"zero is not absent", Payload{HasSeq: true, HasTimestamp: true, UUID: []byte{}, Body: []byte{}}, []byte{0x08, 0, 0x18, 0, 0x22, 0, 0x2a, 0}},
	{"all of a payload", Payload{Timestamp: 300, HasTimestamp: true, Seq: 255, HasSeq: true, UUID: []byte("u"), Body: []byte{9},
		Metrics: []Metric{{}}}, []byte{0x08, 0xac, 0x02, 0x12, 0, 0x18, 0xff, 0x01, 0x22, 1, 'u', 0x2a, 1, 9}},
	{"a metric's own fields", Payload{Metrics: []Metric{{
		Name: []byte("n"), Alias: 0, HasAlias: true, Timestamp: 7, HasTimestamp: true, Datatype: TypeBoolean,
		Historical: true, Transient: true, Null: true, Value: NewBool(false),
	}}}, msg(2, text(1, "n"), num(2, 0), num(3, 7), num(4, 11), num(5, 1), num(6, 1), num(7, 1), num(14, 0))},
	{"alias only", Payload{Metrics: []Metric{{Alias: 300, HasAlias: true, Value: must(NewFloat(TypeDouble, 1.5))}}},
		msg(2, num(2, 300), fix64(13, math.Float64bits(1.5)))},
	{"an empty text is a value", Payload{Metrics: []Metric{{Name: []byte{}, Datatype: TypeString, Value: NewText([]byte{})}}},
		msg(2, text(1, ""), num(4, 12), text(15, ""))},
	{"integers", Payload{Metrics: []Metric{
		{Datatype: TypeInt8, Value: must(NewInt(TypeInt8, -23))}, {Datatype: TypeInt64, Value: must(NewInt(TypeInt64, -23))},
		{Datatype: TypeUInt32, Value: must(NewUint(TypeUInt32, math.MaxUint32))},
		{Datatype: TypeUInt64, Value: must(NewUint(TypeUInt64, math.MaxUint64))}, {Datatype: TypeDateTime, Value: must(NewInt(TypeDateTime, 1))},
	}}, join(msg(2, num(4, 1), num(10, 0xffffffe9)), msg(2, num(4, 4), num(11, 0xffffffffffffffe9)), msg(2, num(4, 7), num(10, 0xffffffff)),
		msg(2, num(4, 8), num(11, math.MaxUint64)), msg(2, num(4, 13), num(11, 1)))},
	{"float and bytes", Payload{Metrics: []Metric{
		{Datatype: TypeFloat, Value: must(NewFloat(TypeFloat, 0.1))}, {Datatype: TypeFile, Value: NewBytes([]byte{0, 1})},
		{Datatype: 4711}}}, join(msg(2, num(4, 9), fix32(12, 0x3dcccccd)), msg(2, num(4, 18), text(16, "\x00\x01")), msg(2, num(4, 4711)))},
	{"metadata", Payload{Metrics: []Metric{{Meta: &MetaData{
		MultiPart: true, ContentType: []byte("c"), Size: 1, Seq: 2, FileName: []byte("f"), FileType: []byte("t"), MD5: []byte("m"), Description: []byte("d"),
	}}}}, msg(2, msg(8, num(1, 1), text(2, "c"), num(3, 1), num(4, 2), text(5, "f"), text(6, "t"), text(7, "m"), text(8, "d")))},
	{"properties", Payload{Metrics: []Metric{{Properties: &PropertySet{
		Keys: [][]byte{[]byte("Quality"), []byte("s"), []byte("l"), []byte("none")},
		Values: []PropertyValue{
			{Datatype: TypeInt32, Value: must(NewInt(TypeInt32, QualityStale))},
			{Datatype: TypePropertySet, Set: &PropertySet{Keys: [][]byte{[]byte("x")}, Values: []PropertyValue{{Value: NewText([]byte("y"))}}}},
			{Datatype: TypePropertySetList, List: &PropertySetList{Sets: []PropertySet{{}, {Keys: [][]byte{[]byte("z")}}}}},
			{Datatype: TypeString, Null: true},
		},
	}}}}, msg(2, msg(9, text(1, "Quality"), text(1, "s"), text(1, "l"), text(1, "none"),
		msg(2, num(1, 3), num(3, 500)), msg(2, num(1, 20), msg(9, text(1, "x"), msg(2, text(8, "y")))),
		msg(2, num(1, 21), msg(10, msg(1), msg(1, text(1, "z")))), msg(2, num(1, 12), num(2, 1))))},
	// Shows [tck-id-payloads-dataset-column-size] [tck-id-payloads-dataset-types-def] [tck-id-payloads-dataset-types-type].
	{"table", Payload{Metrics: []Metric{{Datatype: TypeDataSet, DataSet: &DataSet{
		NumColumns: 2, Columns: [][]byte{[]byte("a"), []byte("b")}, Types: []Datatype{TypeInt8, TypeDouble},
		Rows: [][]Value{{must(NewInt(TypeInt8, 1)), must(NewFloat(TypeDouble, 2))}, {{}, {form: FormFloat, bits: 1}}, nil},
	}}}}, msg(2, num(4, 16), msg(17, num(1, 2), text(2, "a"), text(2, "b"), num(3, 1), num(3, 10),
		msg(4, msg(1, num(1, 1)), msg(1, fix64(4, math.Float64bits(2)))), msg(4, msg(1), msg(1, fix32(3, 1))), msg(4)))},
	// Shows [tck-id-payloads-template-is-definition] [tck-id-payloads-template-is-definition-instance]
	// [tck-id-payloads-template-definition-is-definition] [tck-id-payloads-template-instance-is-definition]
	// [tck-id-payloads-template-is-definition-definition] [tck-id-payloads-template-version]
	// [tck-id-payloads-template-parameter-value-type] [tck-id-payloads-template-parameter-name-type].
	{"templates", Payload{Metrics: []Metric{
		{Template: &Template{Version: []byte("v"), Definition: true,
			Members:    []Metric{{Name: []byte("m"), Datatype: TypeInt16}, {Template: &Template{Ref: []byte("r")}}},
			Parameters: []Parameter{{Name: []byte("p"), Datatype: TypeUInt64, Value: must(NewUint(TypeUInt64, 5))}, {}}}},
		{Template: &Template{Ref: []byte("r")}},
	}}, join(msg(2, msg(18, text(1, "v"), msg(2, text(1, "m"), num(4, 2)), msg(2, msg(18, text(4, "r"), num(5, 0))),
		msg(3, text(1, "p"), num(2, 8), num(4, 5)), msg(3), num(5, 1))), msg(2, msg(18, text(4, "r"), num(5, 0))))},
	// Lengths of one, two and three bytes.
	{"long", Payload{Metrics: []Metric{{Value: NewBytes(make([]byte, 124))}, {Value: NewBytes(make([]byte, 125))},
		{Template: &Template{Members: []Metric{{Value: NewText(bytes.Repeat([]byte("x"), 1<<14))}}}}}},
		join(msg(2, text(16, string(make([]byte, 124)))), msg(2, text(16, string(make([]byte, 125)))),
			msg(2, msg(18, msg(2, msg(15, bytes.Repeat([]byte("x"), 1<<14))), num(5, 0))))},
}

// same compares what payloads say; the memory that they keep is not part of it.
// A slice of a reused payload may be empty where it was nil.
func same(a, b *Payload) bool {
	x, y := *a, *b
	x.memory, y.memory = memory{}, memory{}
	if len(x.Metrics) == 0 && len(y.Metrics) == 0 {
		x.Metrics, y.Metrics = nil, nil
	}
	return equalValues(reflect.ValueOf(x), reflect.ValueOf(y))
}

// equalValues is reflect.DeepEqual but that lists, other than bytes, may be
// nil or empty.
func equalValues(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Pointer:
		return a.IsNil() == b.IsNil() && (a.IsNil() || equalValues(a.Elem(), b.Elem()))
	case reflect.Struct:
		for i := range a.NumField() {
			if !equalValues(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Slice:
		if a.Len() != b.Len() || a.Type().Elem().Kind() == reflect.Uint8 && a.IsNil() != b.IsNil() {
			return false
		}
		for i := range a.Len() {
			if !equalValues(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	}
	return a.Equal(b)
}

// TestGoldens: each payload is written as its bytes and read from them, also
// into a payload that has held all the others.
//
// Shows [tck-id-payloads-timestamp-in-UTC] [tck-id-payloads-metric-timestamp-in-UTC]
// [tck-id-payloads-metric-datatype-value-type] [tck-id-payloads-metric-propertyvalue-type-type].
func TestGoldens(t *testing.T) {
	var used Payload
	for range 2 {
		for _, g := range goldens {
			if got := g.p.Append([]byte("before")); string(got) != "before"+string(g.wire) {
				t.Errorf("%s: written as\n% x, want\n% x", g.name, got[6:], g.wire)
			}
			var fresh Payload
			for _, p := range []*Payload{&fresh, &used} {
				if err := p.Decode(g.wire, Limits{}); err != nil || !same(p, &g.p) {
					t.Errorf("%s: read as\n%+v, want\n%+v, %v", g.name, p, g.p, err)
				}
			}
			sameAsTwin(t, g.wire)
			h, err := Peek(g.wire)
			if want := (Header{g.p.Timestamp, g.p.Seq, g.p.HasTimestamp, g.p.HasSeq, false}); err != nil || h != want {
				t.Errorf("%s: Peek says %+v, %v", g.name, h, err)
			}
		}
	}
}

func TestOddWires(t *testing.T) {
	for _, w := range oddWires {
		sameAsTwin(t, w)
	}
}

// TestDecodeBorrows: what is decoded are parts of the input, which it cannot grow into.
func TestDecodeBorrows(t *testing.T) {
	wire := msg(2, text(1, "name"), text(15, "value"))
	var p Payload
	if err := p.Decode(wire, Limits{}); err != nil {
		t.Fatal(err)
	}
	m := p.Metrics[0]
	if &m.Name[0] != &wire[4] || cap(m.Name) != 4 || cap(m.Value.Data()) != 5 {
		t.Errorf("a copy, or more than its own bytes: %d %d", cap(m.Name), cap(m.Value.Data()))
	}
}

func TestNothingAllocates(t *testing.T) {
	var wire []byte
	for _, g := range goldens {
		wire = append(wire, g.wire...)
	}
	var p Payload
	var buf []byte
	if n := testing.AllocsPerRun(100, func() {
		if err := p.Decode(wire, Limits{}); err != nil {
			t.Fatal(err)
		}
		buf = p.Append(buf[:0])
		if _, err := Peek(wire); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

package sparkplug

import (
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// The twin is protobuf-go with a schema made here out of the field numbers. It
// is registered nowhere. A field is "name number type", with a star when it is
// repeated; those of the oneof have a name that ends in _value. An extension
// is bytes here, because this package does not look into it.
var schema = map[string]string{
	"Payload": "timestamp 1 uint64, metrics 2 *Metric, seq 3 uint64, uuid 4 string, body 5 bytes",
	"Metric": "name 1 string, alias 2 uint64, timestamp 3 uint64, datatype 4 uint32, is_historical 5 bool, is_transient 6 bool, " +
		"is_null 7 bool, metadata 8 MetaData, properties 9 PropertySet, int_value 10 uint32, long_value 11 uint64, float_value 12 float, " +
		"double_value 13 double, boolean_value 14 bool, string_value 15 string, bytes_value 16 bytes, dataset_value 17 DataSet, " +
		"template_value 18 Template, extension_value 19 bytes",
	"MetaData": "is_multi_part 1 bool, content_type 2 string, size 3 uint64, seq 4 uint64, file_name 5 string, file_type 6 string, " +
		"md5 7 string, description 8 string",
	"PropertySet":     "keys 1 *string, values 2 *PropertyValue",
	"PropertySetList": "propertyset 1 *PropertySet",
	"PropertyValue": "type 1 uint32, is_null 2 bool, int_value 3 uint32, long_value 4 uint64, float_value 5 float, double_value 6 double, " +
		"boolean_value 7 bool, string_value 8 string, propertyset_value 9 PropertySet, propertysets_value 10 PropertySetList, " +
		"extension_value 11 bytes",
	"DataSet": "num_of_columns 1 uint64, columns 2 *string, types 3 *uint32, rows 4 *Row",
	"Row":     "elements 1 *Cell",
	"Cell": "int_value 1 uint32, long_value 2 uint64, float_value 3 float, double_value 4 double, boolean_value 5 bool, " +
		"string_value 6 string, extension_value 7 bytes",
	"Template": "version 1 string, metrics 2 *Metric, parameters 3 *Parameter, template_ref 4 string, is_definition 5 bool",
	"Parameter": "name 1 string, type 2 uint32, int_value 3 uint32, long_value 4 uint64, float_value 5 float, double_value 6 double, " +
		"boolean_value 7 bool, string_value 8 string, extension_value 9 bytes",
}

var twin = func() protoreflect.MessageDescriptors {
	kinds := map[string]descriptorpb.FieldDescriptorProto_Type{
		"uint64": descriptorpb.FieldDescriptorProto_TYPE_UINT64, "uint32": descriptorpb.FieldDescriptorProto_TYPE_UINT32,
		"string": descriptorpb.FieldDescriptorProto_TYPE_STRING, "bytes": descriptorpb.FieldDescriptorProto_TYPE_BYTES,
		"bool": descriptorpb.FieldDescriptorProto_TYPE_BOOL, "float": descriptorpb.FieldDescriptorProto_TYPE_FLOAT,
		"double": descriptorpb.FieldDescriptorProto_TYPE_DOUBLE,
	}
	file := &descriptorpb.FileDescriptorProto{Name: proto.String("twin.proto"), Package: proto.String("twin"), Syntax: proto.String("proto2")}
	for name, fields := range schema {
		m := &descriptorpb.DescriptorProto{Name: proto.String(name)}
		for text := range strings.SplitSeq(fields, ", ") {
			f := strings.Fields(text)
			number, err := strconv.Atoi(f[1])
			if err != nil {
				panic(err)
			}
			d := &descriptorpb.FieldDescriptorProto{
				Name: proto.String(f[0]), Number: proto.Int32(int32(number)),
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			}
			of, repeated := strings.CutPrefix(f[2], "*")
			if repeated {
				d.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
			}
			if k, ok := kinds[of]; ok {
				d.Type = k.Enum()
			} else {
				d.Type, d.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), proto.String(".twin."+of)
			}
			if strings.HasSuffix(f[0], "_value") {
				if len(m.OneofDecl) == 0 {
					m.OneofDecl = append(m.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: proto.String("value")})
				}
				d.OneofIndex = proto.Int32(0)
			}
			m.Field = append(m.Field, d)
		}
		file.MessageType = append(file.MessageType, m)
	}
	d, err := protodesc.NewFile(file, nil)
	if err != nil {
		panic(err)
	}
	return d.Messages()
}()

func newTwin(name string) *dynamicpb.Message {
	return dynamicpb.NewMessage(twin.ByName(protoreflect.Name(name)))
}

// plain brings a twin to the form that toTwin makes: without what is unknown
// or an extension, and what absence means said in one way.
func plain(m protoreflect.Message) {
	m.SetUnknown(nil)
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.Name() == "extension_value":
			m.Clear(f)
		case f.Name() == "num_of_columns", f.Name() == "is_definition":
			m.Set(f, m.Get(f))
		case f.Message() != nil && f.IsList():
			for j, list := 0, m.Get(f).List(); j < list.Len(); j++ {
				plain(list.Get(j).Message())
			}
		case f.Message() != nil && m.Has(f):
			plain(m.Mutable(f).Message())
		case f.ContainingOneof() != nil || f.IsList():
		case f.Kind() == protoreflect.BoolKind && !m.Get(f).Bool():
			m.Clear(f)
		case (f.Name() == "datatype" || f.Name() == "type" || m.Descriptor().Name() == "MetaData") &&
			(f.Kind() == protoreflect.Uint32Kind || f.Kind() == protoreflect.Uint64Kind) && m.Get(f).Uint() == 0:
			m.Clear(f)
		}
	}
}

// builder sets fields of a twin by their names.
type builder struct{ protoreflect.Message }

func (b builder) field(name string) protoreflect.FieldDescriptor {
	return b.Descriptor().Fields().ByName(protoreflect.Name(name))
}

func (b builder) text(name string, v []byte) {
	if v != nil {
		b.Set(b.field(name), protoreflect.ValueOfString(string(v)))
	}
}

func (b builder) number(name string, v uint64, has bool) {
	if has {
		b.Set(b.field(name), protoreflect.ValueOfUint64(v))
	}
}

func (b builder) flag(name string, v bool) {
	if v {
		b.Set(b.field(name), protoreflect.ValueOfBool(v))
	}
}

func (b builder) datatype(name string, d Datatype) {
	if d != 0 {
		b.Set(b.field(name), protoreflect.ValueOfUint32(uint32(d)))
	}
}

func (b builder) message(name string) builder { return builder{b.Mutable(b.field(name)).Message()} }

func (b builder) element(name string) builder {
	return builder{b.Mutable(b.field(name)).List().AppendMutable().Message()}
}

func (b builder) value(v Value) {
	f := b.field(v.Form().String())
	switch v.Form() {
	case FormNone:
	case FormInt:
		b.Set(f, protoreflect.ValueOfUint32(uint32(v.Raw())))
	case FormLong:
		b.Set(f, protoreflect.ValueOfUint64(v.Raw()))
	case FormFloat:
		x, _ := v.Float(TypeFloat)
		b.Set(f, protoreflect.ValueOfFloat32(float32(x)))
	case FormDouble:
		x, _ := v.Float(TypeDouble)
		b.Set(f, protoreflect.ValueOfFloat64(x))
	case FormBool:
		x, _ := v.Bool()
		b.Set(f, protoreflect.ValueOfBool(x))
	case FormString:
		b.Set(f, protoreflect.ValueOfString(string(v.Data())))
	case FormBytes:
		b.Set(f, protoreflect.ValueOfBytes(v.Data()))
	}
}

func (b builder) metric(m *Metric) {
	b.text("name", m.Name)
	b.number("alias", m.Alias, m.HasAlias)
	b.number("timestamp", m.Timestamp, m.HasTimestamp)
	b.datatype("datatype", m.Datatype)
	b.flag("is_historical", m.Historical)
	b.flag("is_transient", m.Transient)
	b.flag("is_null", m.Null)
	if x := m.Meta; x != nil {
		s := b.message("metadata")
		s.flag("is_multi_part", x.MultiPart)
		s.text("content_type", x.ContentType)
		s.number("size", x.Size, x.Size != 0)
		s.number("seq", x.Seq, x.Seq != 0)
		s.text("file_name", x.FileName)
		s.text("file_type", x.FileType)
		s.text("md5", x.MD5)
		s.text("description", x.Description)
	}
	if m.Properties != nil {
		b.message("properties").properties(m.Properties)
	}
	switch {
	case m.DataSet != nil:
		b.message("dataset_value").dataSet(m.DataSet)
	case m.Template != nil:
		b.message("template_value").template(m.Template)
	default:
		b.value(m.Value)
	}
}

func (b builder) properties(s *PropertySet) {
	for _, k := range s.Keys {
		b.Mutable(b.field("keys")).List().Append(protoreflect.ValueOfString(string(k)))
	}
	for i := range s.Values {
		v, x := &s.Values[i], b.element("values")
		x.datatype("type", v.Datatype)
		x.flag("is_null", v.Null)
		switch {
		case v.Set != nil:
			x.message("propertyset_value").properties(v.Set)
		case v.List != nil:
			list := x.message("propertysets_value")
			for j := range v.List.Sets {
				list.element("propertyset").properties(&v.List.Sets[j])
			}
		default:
			x.value(v.Value)
		}
	}
}

func (b builder) dataSet(s *DataSet) {
	b.number("num_of_columns", s.NumColumns, true)
	for _, c := range s.Columns {
		b.Mutable(b.field("columns")).List().Append(protoreflect.ValueOfString(string(c)))
	}
	for _, t := range s.Types {
		b.Mutable(b.field("types")).List().Append(protoreflect.ValueOfUint32(uint32(t)))
	}
	for _, row := range s.Rows {
		r := b.element("rows")
		for _, v := range row {
			r.element("elements").value(v)
		}
	}
}

func (b builder) template(t *Template) {
	b.text("version", t.Version)
	b.text("template_ref", t.Ref)
	b.Set(b.field("is_definition"), protoreflect.ValueOfBool(t.Definition))
	for i := range t.Members {
		b.element("metrics").metric(&t.Members[i])
	}
	for i := range t.Parameters {
		p, x := &t.Parameters[i], b.element("parameters")
		x.text("name", p.Name)
		x.datatype("type", p.Datatype)
		x.value(p.Value)
	}
}

func toTwin(p *Payload) *dynamicpb.Message {
	m := newTwin("Payload")
	b := builder{m}
	b.number("timestamp", p.Timestamp, p.HasTimestamp)
	b.number("seq", p.Seq, p.HasSeq)
	b.text("uuid", p.UUID)
	if p.Body != nil {
		b.Set(b.field("body"), protoreflect.ValueOfBytes(p.Body))
	}
	for i := range p.Metrics {
		b.element("metrics").metric(&p.Metrics[i])
	}
	return m
}

// wide are limits that no test of the twin reaches.
var wide = Limits{Bytes: 1 << 30, Elements: 1 << 30, Depth: 1 << 20}

// sameAsTwin holds Decode and Append to protobuf-go.
func sameAsTwin(t interface{ Fatalf(string, ...any) }, wire []byte) {
	var p Payload
	mine := p.Decode(wire, wide)
	m := newTwin("Payload")
	theirs := proto.Unmarshal(wire, m)
	if (mine == nil) != (theirs == nil) {
		t.Fatalf("% x: %v, and protobuf-go says %v", wire, mine, theirs)
	}
	if mine != nil {
		return
	}
	plain(m)
	if got := toTwin(&p); !proto.Equal(got, m) {
		t.Fatalf("% x:\n got %v\nwant %v", wire, got, m)
	}
	again := newTwin("Payload")
	if err := proto.Unmarshal(p.Append(nil), again); err != nil || !proto.Equal(again, m) {
		t.Fatalf("% x was written as %v, %v\nwant %v", wire, again, err, m)
	}
}

func FuzzTwin(f *testing.F) {
	for _, g := range goldens {
		f.Add(g.wire)
	}
	for _, w := range oddWires {
		f.Add(w)
	}
	f.Fuzz(func(t *testing.T, wire []byte) { sameAsTwin(t, wire) })
}

// oddWires are what writers of Protocol Buffers may do, and what they may not.
var oddWires = [][]byte{
	nil,
	{0x18, 5, 0x08, 1},       // seq first
	{0x18, 5, 0x18, 6},       // the last counts
	{0x12, 0},                // an empty metric
	{0x0a, 1, 1},             // timestamp as bytes: unknown
	{0x1b, 0x08, 1, 0x1c},    // a group in place of seq
	{0x1b, 0x08, 1, 0x24},    // and its end is another's
	{0x1c},                   // an end without a group
	{0x33, 0x3b, 0x3c, 0x34}, // a group within a group
	{0x98, 0x00, 5},          // a tag that is longer than it need be
	{0x00, 1},                // field 0
	{0x18, 0x80},             // cut
	{0x12, 2, 0x08},          // cut
	{0x12, 1, 0x08},          // cut within a metric
	{0x1f, 1},                // wire type 7
	{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},                         // a tag without end
	{0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, // 2^64-1
	{0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}, // and more
	msg(2, msg(8, num(3, 1)), msg(8, num(4, 2))),                       // metadata twice: merged
	msg(2, msg(17, num(3, 9)), msg(17, num(3, 10))),                    // a table twice: merged
	msg(2, msg(17, num(3, 9)), num(10, 1), msg(17, num(3, 10))),        // with another value between: not
	msg(2, msg(18, text(1, "v")), msg(17), msg(18, text(4, "r"))),
	msg(2, num(10, 1), msg(19, []byte{0xff})), // an extension in the oneof, whatever is in it
	msg(2, msg(17, msg(3, []byte{1, 2, 0xff, 1}))),
	msg(2, msg(17, msg(3, []byte{1, 0xff}))), // packed, cut
	msg(2, msg(17, msg(4, msg(1, num(1, 1), text(6, "x"))), msg(4, msg(1)))),
	msg(2, msg(9, text(1, "k"), msg(2, num(1, 20), msg(9, text(1, "k2"))), msg(2, msg(10, msg(1, text(1, "a")), msg(1))))),
	msg(2, text(1, "\xff\x00")),
	msg(2, num(10, 1<<40|5)),  // above 32 bits
	msg(2, num(4, 1<<32|12)),  // a datatype above 32 bits
	msg(2, num(14, 2)),        // a boolean that is neither 0 nor 1
	msg(2, num(100, 1)),       // an extension of the metric
	msg(2, num(536870911, 1)), // the last field number
	// A field that nobody knows, at every level.
	num(6, 1), msg(2, msg(8, num(9, 1), num(3, 5))), msg(2, msg(9, num(3, 1), text(1, "k"))), msg(2, msg(9, msg(2, num(12, 1), num(1, 3)))),
	msg(2, msg(9, msg(2, msg(10, num(2, 1), msg(1))))), msg(2, msg(17, num(5, 1), num(1, 2))), msg(2, msg(17, msg(4, num(2, 1), msg(1)))),
	msg(2, msg(17, msg(4, msg(1, num(8, 1), num(1, 5))))), msg(2, msg(18, num(6, 1), text(4, "r"))), msg(2, msg(18, msg(3, num(10, 1), text(1, "p")))),
	// An extension in the place of a value that was there, in every oneof, and the other way round.
	msg(2, msg(17), msg(19)), msg(2, msg(18), msg(19)), msg(2, msg(19), num(10, 5)), msg(2, msg(9, msg(2, msg(9), msg(11)))),
	msg(2, msg(9, msg(2, msg(10), msg(11)))), msg(2, msg(17, msg(4, msg(1, num(1, 5), msg(7))))), msg(2, msg(17, msg(4, msg(1, msg(7), num(1, 5))))),
	msg(2, msg(18, msg(3, num(3, 5), msg(9)))),
	// Values that take turns in one oneof.
	msg(2, msg(17), text(15, "x")), msg(2, msg(18), text(16, "x")), msg(2, msg(17), msg(18, text(4, "r"))), msg(2, num(10, 5), msg(17)),
	msg(2, msg(9, msg(2, msg(9, text(1, "k")), msg(10)))), msg(2, msg(9, msg(2, msg(10), text(8, "x")))), msg(2, msg(9, msg(2, num(3, 5), msg(9)))),
	// Numbers and fields that are cut within a metric.
	msg(2, fix32(12, 1)[:4]), msg(2, fix64(13, 1)[:8]), msg(2, msg(9, []byte{0x0a})), msg(2, num(10, 300)[:2]), msg(2, []byte{0xa0, 0x06}),
	msg(2, num(536870911, 1))[:3],
}

// num, text, fix and msg write one field, straight from the description of
// the encoding.
func num(field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, field, protowire.VarintType), v)
}

func text(field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, field, protowire.BytesType), s)
}

func fix64(field protowire.Number, v uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(nil, field, protowire.Fixed64Type), v)
}

func fix32(field protowire.Number, v uint32) []byte {
	return protowire.AppendFixed32(protowire.AppendTag(nil, field, protowire.Fixed32Type), v)
}

func join(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func msg(field protowire.Number, parts ...[]byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), join(parts...))
}

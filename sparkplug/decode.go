package sparkplug

import (
	"encoding/binary"
	"errors"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// Limits bound what a payload may cost. A field that is 0 has its default.
type Limits struct {
	// Bytes is the largest payload, compressed or not. Default 16 MiB.
	Bytes int
	// Elements is the largest number of things within the payload, nested ones
	// included: metrics, members, parameters, properties, columns, rows, cells,
	// tables, templates, sets. Each costs less than 200 bytes of memory, which
	// the growth of slices may double. Default 262,144.
	Elements int
	// Depth is how deep templates, property sets and lists of them may be
	// nested, all three counted alike. Default 8.
	Depth int
	// Ratio is how many times larger than its compressed body a payload may
	// be; up to 64 KiB it may always be. Default 100.
	Ratio int
}

const (
	defaultBytes    = 16 << 20
	defaultElements = 1 << 18
	defaultDepth    = 8
	defaultRatio    = 100
	freeBytes       = 64 << 10 // Ratio does not count below
)

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		v *int
		d int
	}{{&l.Bytes, defaultBytes}, {&l.Elements, defaultElements}, {&l.Depth, defaultDepth}, {&l.Ratio, defaultRatio}} {
		if *f.v <= 0 {
			*f.v = f.d
		}
	}
	return l
}

// Decode reads a payload, which is the whole of b, into p and into the memory
// that p has from before. What p then holds borrows b. A compressed payload
// comes out as it is, with its Body: see [Inflater]. The errors are of Code
// Malformed, Truncated, TooLarge, TooMany and TooDeep; p is then of no use but
// for another Decode.
func (p *Payload) Decode(b []byte, limits Limits) error {
	limits = limits.withDefaults()
	p.memory.reset()
	*p = Payload{Metrics: p.Metrics[:0], memory: p.memory}
	if len(b) > limits.Bytes {
		return &Error{TooLarge, "payload: above the limit of bytes"}
	}
	d := decoder{memory: &p.memory, left: limits.Elements, depth: limits.Depth}
	d.payload(b, p)
	if d.err != nil {
		return d.err
	}
	return nil
}

// The tag of a field: its number and its wire type, as they are on the wire. A
// field with another wire type than the schema's is an unknown field.
const (
	varint  = uint64(protowire.VarintType)
	fixed32 = uint64(protowire.Fixed32Type)
	fixed64 = uint64(protowire.Fixed64Type)
	block   = uint64(protowire.BytesType)
)

// decoder walks a message. The first error is kept and ends every loop.
type decoder struct {
	memory *memory
	left   int  // elements
	depth  int  // levels
	inside bool // a metric, whose end is known: what it lacks was never sent
	err    *Error
}

func (d *decoder) fail(code Code, text string) {
	if d.err == nil {
		d.err = &Error{code, text}
	}
}

// one counts an element.
func (d *decoder) one() bool {
	if d.left--; d.left < 0 {
		d.fail(TooMany, "above the limit of elements")
	}
	return d.err == nil
}

// enter begins a message within a message of its own kind or alike.
func (d *decoder) enter() bool {
	if d.depth--; d.depth < 0 {
		d.fail(TooDeep, "templates and property sets are nested above the limit")
	}
	return d.err == nil
}

func (d *decoder) leave() { d.depth++ }

// uvarint reads the varint at b[i]. It returns the index after it, len(b) and
// an error kept when there is none.
func (d *decoder) uvarint(b []byte, i int) (uint64, int) {
	if i < len(b) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	return d.longVarint(b, i)
}

func (d *decoder) longVarint(b []byte, i int) (uint64, int) {
	v, n := protowire.ConsumeVarint(b[i:])
	if n < 0 {
		return 0, d.bad(b, n)
	}
	return v, i + n
}

// bad keeps the error that protowire means by n, and returns the end of b.
func (d *decoder) bad(b []byte, n int) int {
	if !d.inside && errors.Is(protowire.ParseError(n), io.ErrUnexpectedEOF) {
		d.fail(Truncated, "payload: ends early")
	} else {
		d.fail(Malformed, "no Protocol Buffers message")
	}
	return len(b)
}

// bytes reads a length and that many bytes, borrowed. It is never nil.
func (d *decoder) bytes(b []byte, i int) ([]byte, int) {
	n, i := d.uvarint(b, i)
	if n > uint64(len(b)-i) {
		return b[:0], d.bad(b, short)
	}
	end := i + int(n)
	return b[i:end:end], end
}

// short is what protowire returns for bytes that end early.
var short = func() int { _, n := protowire.ConsumeVarint(nil); return n }()

func (d *decoder) uint32(b []byte, i int) (uint64, int) {
	if len(b)-i < 4 {
		return 0, d.bad(b, short)
	}
	return uint64(binary.LittleEndian.Uint32(b[i:])), i + 4
}

func (d *decoder) uint64(b []byte, i int) (uint64, int) {
	if len(b)-i < 8 {
		return 0, d.bad(b, short)
	}
	return binary.LittleEndian.Uint64(b[i:]), i + 8
}

func (d *decoder) bool(b []byte, i int) (bool, int) {
	v, i := d.uvarint(b, i)
	return v != 0, i
}

// datatype reads a uint32, which is the lower half of whatever varint there is
// [tck-id-payloads-metric-datatype-value-type].
func (d *decoder) datatype(b []byte, i int) (Datatype, int) {
	v, i := d.uvarint(b, i)
	return Datatype(uint32(v)), i
}

// skip passes over a field that is unknown.
func (d *decoder) skip(tag uint64, b []byte, i int) int {
	number := tag >> 3
	if number < uint64(protowire.MinValidNumber) || number > uint64(protowire.MaxValidNumber) {
		d.fail(Malformed, "a field number that cannot be")
		return len(b)
	}
	n := protowire.ConsumeFieldValue(protowire.Number(number), protowire.Type(tag&7), b[i:])
	if n < 0 {
		return d.bad(b, n)
	}
	return i + n
}

func (d *decoder) payload(b []byte, p *Payload) {
	for i := 0; i < len(b); {
		var tag uint64
		tag, i = d.uvarint(b, i)
		switch tag {
		case 1<<3 | varint:
			p.Timestamp, i = d.uvarint(b, i)
			p.HasTimestamp = true
		case 2<<3 | block:
			var inner []byte
			inner, i = d.bytes(b, i)
			if !d.one() {
				return
			}
			p.Metrics = more(p.Metrics)
			d.inside = true
			d.newMetric(inner, &p.Metrics[len(p.Metrics)-1])
			d.inside = false
		case 3<<3 | varint:
			p.Seq, i = d.uvarint(b, i)
			p.HasSeq = true
		case 4<<3 | block:
			p.UUID, i = d.bytes(b, i)
		case 5<<3 | block:
			p.Body, i = d.bytes(b, i)
		default:
			i = d.skip(tag, b, i)
		}
		if d.err != nil {
			return
		}
	}
}

// newMetric reads a metric over whatever m was.
func (d *decoder) newMetric(b []byte, m *Metric) {
	*m = Metric{}
	for i := 0; i < len(b) && d.err == nil; {
		var tag uint64
		tag, i = d.uvarint(b, i)
		switch tag {
		case 1<<3 | block:
			m.Name, i = d.bytes(b, i)
		case 2<<3 | varint:
			m.Alias, i = d.uvarint(b, i)
			m.HasAlias = true
		case 3<<3 | varint:
			m.Timestamp, i = d.uvarint(b, i)
			m.HasTimestamp = true
		case 4<<3 | varint:
			m.Datatype, i = d.datatype(b, i)
		case 5<<3 | varint:
			m.Historical, i = d.bool(b, i)
		case 6<<3 | varint:
			m.Transient, i = d.bool(b, i)
		case 7<<3 | varint:
			m.Null, i = d.bool(b, i)
		default:
			i = d.metricRest(tag, b, i, m)
		}
	}
}

// metricRest reads the fields of a metric that are messages, and its value.
func (d *decoder) metricRest(tag uint64, b []byte, i int, m *Metric) int {
	var inner []byte
	switch tag {
	case 8<<3 | block:
		inner, i = d.bytes(b, i)
		if m.Meta == nil {
			m.Meta = d.newMeta()
		}
		d.metaData(inner, m.Meta)
	case 9<<3 | block:
		inner, i = d.bytes(b, i)
		if m.Properties == nil {
			m.Properties = d.newSet()
		}
		d.propertySet(inner, m.Properties)
	case 17<<3 | block:
		inner, i = d.bytes(b, i)
		m.Value, m.Template = Value{}, nil
		if m.DataSet == nil {
			m.DataSet = d.newDataSet()
		}
		d.dataSet(inner, m.DataSet)
	case 18<<3 | block:
		inner, i = d.bytes(b, i)
		m.Value, m.DataSet = Value{}, nil
		if m.Template == nil {
			m.Template = d.newTemplate()
		}
		d.template(inner, m.Template)
	case 16<<3 | block:
		m.DataSet, m.Template = nil, nil
		m.Value = Value{form: FormBytes}
		m.Value.data, i = d.bytes(b, i)
	case 19<<3 | block: // extension_value: takes the place of another value, and is none to us
		_, i = d.bytes(b, i)
		m.Value, m.DataSet, m.Template = Value{}, nil, nil
	default:
		var ok bool
		if i, ok = d.value(tag, 10, b, i, &m.Value); ok {
			m.DataSet, m.Template = nil, nil
		} else {
			i = d.skip(tag, b, i)
		}
	}
	return i
}

// value reads a field of the six that every oneof of Sparkplug has in the same
// order; first is the number of int_value. ok is false, and nothing read, when
// the tag is none of them.
func (d *decoder) value(tag, first uint64, b []byte, i int, v *Value) (next int, ok bool) {
	switch tag - first<<3 {
	case 0<<3 | varint:
		x, next := d.uvarint(b, i)
		*v = Value{form: FormInt, bits: uint64(uint32(x))}
		return next, true
	case 1<<3 | varint:
		*v = Value{form: FormLong}
		v.bits, next = d.uvarint(b, i)
	case 2<<3 | fixed32:
		*v = Value{form: FormFloat}
		v.bits, next = d.uint32(b, i)
	case 3<<3 | fixed64:
		*v = Value{form: FormDouble}
		v.bits, next = d.uint64(b, i)
	case 4<<3 | varint:
		*v = Value{form: FormBool}
		x, next := d.bool(b, i)
		if x {
			v.bits = 1
		}
		return next, true
	case 5<<3 | block:
		*v = Value{form: FormString}
		v.data, next = d.bytes(b, i)
	default:
		return i, false
	}
	return next, true
}

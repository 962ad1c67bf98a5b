package sparkplug

import (
	"math"
	"time"
	"unicode/utf8"
)

// Form is the field of the oneof that a value is in. It says how the value was
// written, not what it means: that is the [Datatype]'s business.
type Form uint8

// The forms.
const (
	FormNone   Form = iota // no value
	FormInt                // int_value, 32 bits
	FormLong               // long_value, 64 bits
	FormFloat              // float_value
	FormDouble             // double_value
	FormBool               // boolean_value
	FormString             // string_value
	FormBytes              // bytes_value; of a metric only
)

var formNames = [...]string{"no value", "int_value", "long_value", "float_value", "double_value", "boolean_value", "string_value", "bytes_value"}

// String returns the field's name.
func (f Form) String() string {
	if int(f) < len(formNames) {
		return formNames[f]
	}
	return "unknown form"
}

// Value is a scalar, a text, bytes or an array, as it is on the wire: a field
// and its bits. The zero Value is none. What was decoded borrows its bytes.
type Value struct {
	form Form
	bits uint64 // int_value has 32 bits of it; floats as in IEEE 754
	data []byte
}

// Form is the field that v is in.
func (v Value) Form() Form { return v.form }

// Raw is the number as it was written: of int_value and boolean_value zero
// extended, of float_value and double_value the IEEE 754 bits, and 0 for texts.
func (v Value) Raw() uint64 { return v.bits }

// Data is the text or the bytes of v, borrowed; nil for numbers.
func (v Value) Data() []byte { return v.data }

// NewInt makes an integer or DateTime of type d out of x, in the form of the
// specification. OutOfRange when d cannot hold x; BadDatatype when d is
// no integer. Negative numbers are written in two's complement of 32 or 64 bits.
func NewInt(d Datatype, x int64) (Value, error) {
	t := d.trait()
	switch t.kind {
	case kindInt:
		if low := int64(math.MinInt64) >> (64 - 8*t.size); x < low || x > ^low {
			return Value{}, outOfRange(d)
		}
	case kindUint:
		if x < 0 || t.size < 8 && uint64(x)>>(8*t.size) != 0 {
			return Value{}, outOfRange(d)
		}
	default:
		return Value{}, &Error{BadDatatype, d.String() + " is no integer"}
	}
	return integer(t.form, uint64(x)), nil
}

// NewUint is NewInt for numbers that may be above the largest int64.
func NewUint(d Datatype, x uint64) (Value, error) {
	if x > math.MaxInt64 {
		if t := d.trait(); t.kind == kindUint && t.size == 8 {
			return integer(t.form, x), nil
		} else if t.kind == kindInt || t.kind == kindUint {
			return Value{}, outOfRange(d)
		}
	}
	return NewInt(d, int64(x))
}

func integer(f Form, bits uint64) Value {
	if f == FormInt {
		bits = uint64(uint32(bits))
	}
	return Value{form: f, bits: bits}
}

func outOfRange(d Datatype) error {
	return &Error{OutOfRange, "the number does not fit " + d.String()}
}

// NewFloat makes a Float or a Double. A Float is rounded to the nearest number
// of 32 bits; OutOfRange when a finite x would become infinite, BadDatatype
// for other types.
func NewFloat(d Datatype, x float64) (Value, error) {
	switch d {
	case TypeFloat:
		f := float32(x)
		if math.IsInf(float64(f), 0) && !math.IsInf(x, 0) {
			return Value{}, outOfRange(d)
		}
		return Value{form: FormFloat, bits: uint64(math.Float32bits(f))}, nil
	case TypeDouble:
		return Value{form: FormDouble, bits: math.Float64bits(x)}, nil
	}
	return Value{}, &Error{BadDatatype, d.String() + " is neither Float nor Double"}
}

// NewBool makes a Boolean.
func NewBool(x bool) Value {
	v := Value{form: FormBool}
	if x {
		v.bits = 1
	}
	return v
}

// NewText makes a String, Text or UUID. It borrows b, which should be UTF-8.
func NewText(b []byte) Value { return Value{form: FormString, data: b} }

// NewBytes makes Bytes, a File or an array. It borrows b.
func NewBytes(b []byte) Value { return Value{form: FormBytes, data: b} }

// NewTime makes a DateTime: t in whole milliseconds, rounded down. OutOfRange before 1970.
func NewTime(t time.Time) (Value, error) { return NewInt(TypeDateTime, t.UnixMilli()) }

// In gives v of type d in form f, which is how a BIRTH had it: int_value or
// long_value for integers. A form that v cannot take leaves v as it is: what
// the specification says is then the best guess.
func (v Value) In(f Form, d Datatype) Value {
	switch {
	case v.form == f || f != FormInt && f != FormLong || v.form != FormInt && v.form != FormLong:
		return v
	case d.trait().kind == kindInt:
		x, err := v.Int(d)
		// An Int64 that int_value does not hold beyond doubt stays where it is.
		if err != nil || f == FormInt && d == TypeInt64 && (x < 0 || x > math.MaxInt32) {
			return v
		}
		return integer(f, uint64(x))
	case f == FormInt && v.bits > math.MaxUint32:
		return v
	}
	return Value{form: f, bits: v.bits}
}

// Int reads a signed integer of type d. Accepted are both integer fields, and
// of negative numbers the two's complement of d's own width, of 32 and of 64
// bits. The errors are of Code BadDatatype, Mismatch and OutOfRange.
func (v Value) Int(d Datatype) (int64, error) {
	t := d.trait()
	if t.kind != kindInt {
		return 0, &Error{BadDatatype, d.String() + " is no signed integer"}
	}
	if v.form != FormInt && v.form != FormLong {
		return 0, mismatch(v.form, d)
	}
	if t.size == 8 {
		// In 32 bits nobody can tell -1 from 4,294,967,295.
		if v.form == FormInt && v.bits>>31 != 0 {
			return 0, outOfRange(d)
		}
		return int64(v.bits), nil
	}
	shift := 64 - 8*t.size
	x := int64(v.bits<<shift) >> shift
	if v.bits == uint64(x) || v.bits == uint64(uint32(x)) || v.bits == uint64(x)<<shift>>shift {
		return x, nil
	}
	return 0, outOfRange(d)
}

// Uint reads an unsigned integer or a DateTime of type d, out of either integer
// field. The errors are of Code BadDatatype, Mismatch and OutOfRange.
func (v Value) Uint(d Datatype) (uint64, error) {
	t := d.trait()
	switch {
	case t.kind != kindUint:
		return 0, &Error{BadDatatype, d.String() + " is no unsigned integer"}
	case v.form != FormInt && v.form != FormLong:
		return 0, mismatch(v.form, d)
	case t.size < 8 && v.bits>>(8*t.size) != 0:
		return 0, outOfRange(d)
	}
	return v.bits, nil
}

// Float reads a Float or a Double. The errors are of Code BadDatatype and Mismatch.
func (v Value) Float(d Datatype) (float64, error) {
	t := d.trait()
	switch {
	case t.kind != kindFloat:
		return 0, &Error{BadDatatype, d.String() + " is neither Float nor Double"}
	case v.form != t.form:
		return 0, mismatch(v.form, d)
	case v.form == FormFloat:
		return float64(math.Float32frombits(uint32(v.bits))), nil
	}
	return math.Float64frombits(v.bits), nil
}

// Bool reads a Boolean; Mismatch for anything else.
func (v Value) Bool() (bool, error) {
	if v.form != FormBool {
		return false, mismatch(v.form, TypeBoolean)
	}
	return v.bits != 0, nil
}

// Text reads a String, Text or UUID, borrowed; Mismatch for anything else and
// BadText for what is not UTF-8.
func (v Value) Text() ([]byte, error) {
	if v.form != FormString {
		return nil, mismatch(v.form, TypeString)
	}
	if !utf8.Valid(v.data) {
		return nil, &Error{BadText, "value is not UTF-8"}
	}
	return v.data, nil
}

// Bytes reads Bytes or a File, borrowed; Mismatch for anything else.
func (v Value) Bytes() ([]byte, error) {
	if v.form != FormBytes {
		return nil, mismatch(v.form, TypeBytes)
	}
	return v.data, nil
}

// Time reads a DateTime as a time in UTC, in the years that fit int64 milliseconds.
func (v Value) Time() (time.Time, error) {
	ms, err := v.Uint(TypeDateTime)
	if err != nil {
		return time.Time{}, err
	}
	if ms > math.MaxInt64 {
		return time.Time{}, outOfRange(TypeDateTime)
	}
	return time.UnixMilli(int64(ms)).UTC(), nil
}

// Check tells whether v is a value of type d. Nested messages are none: see
// [Metric.Check]. The errors are of Code BadDatatype, Mismatch, OutOfRange,
// BadText and, for arrays, Malformed and Truncated.
func (v Value) Check(d Datatype) error {
	var err error
	switch d.trait().kind {
	case kindInt:
		_, err = v.Int(d)
	case kindUint:
		_, err = v.Uint(d)
	case kindFloat:
		_, err = v.Float(d)
	case kindBool:
		_, err = v.Bool()
	case kindText:
		_, err = v.Text()
	case kindBytes:
		_, err = v.Bytes()
	case kindArray:
		_, err = v.Array(d)
	case kindNested:
		err = mismatch(v.form, d)
	default:
		err = &Error{BadDatatype, d.String() + " is not in the specification"}
	}
	return err
}

func mismatch(f Form, d Datatype) error {
	return &Error{Mismatch, f.String() + " is not where " + d.String() + " belongs"}
}

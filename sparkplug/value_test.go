package sparkplug

import (
	"errors"
	"math"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// code is the code of an error of this package, 0 of none.
func code(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

var integers = []Datatype{TypeInt8, TypeInt16, TypeInt32, TypeInt64, TypeUInt8, TypeUInt16, TypeUInt32, TypeUInt64, TypeDateTime}

// bounds are the smallest and largest number of an integer type, by its name:
// the tables of this package are not asked.
func bounds(d Datatype) (low, high *big.Int) {
	width := map[Datatype]uint{TypeInt8: 8, TypeInt16: 16, TypeInt32: 32, TypeUInt8: 8, TypeUInt16: 16, TypeUInt32: 32}[d]
	if width == 0 {
		width = 64
	}
	one := big.NewInt(1)
	if d <= TypeInt64 {
		high = new(big.Int).Lsh(one, width-1)
		return new(big.Int).Neg(high), new(big.Int).Sub(high, one)
	}
	return new(big.Int), new(big.Int).Sub(new(big.Int).Lsh(one, width), one)
}

// read is v as a number of type d.
func read(v Value, d Datatype) (*big.Int, error) {
	if d <= TypeInt64 {
		x, err := v.Int(d)
		return big.NewInt(x), err
	}
	x, err := v.Uint(d)
	return new(big.Int).SetUint64(x), err
}

// TestIntegers: what is in the bounds of a type comes back, in both forms, and
// what is not is refused.
//
// Shows [tck-id-operational-behavior-data-commands-ncmd-metric-value]
// [tck-id-operational-behavior-data-commands-dcmd-metric-value] of integers.
func TestIntegers(t *testing.T) {
	near := []int64{0, 1, -1, math.MinInt8, math.MaxInt8, math.MaxUint8, math.MinInt16, math.MaxInt16, math.MaxUint16,
		math.MinInt32, math.MaxInt32, math.MaxUint32, math.MinInt64, math.MaxInt64}
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.SampledFrom(integers).Draw(t, "type")
		x := rapid.OneOf(rapid.Int64(), rapid.Map(rapid.SampledFrom(near), func(x int64) int64 { return x }),
			rapid.Map(rapid.SampledFrom(near), func(x int64) int64 { return x + 1 }),
			rapid.Map(rapid.SampledFrom(near), func(x int64) int64 { return x - 1 })).Draw(t, "number")
		want, made := big.NewInt(x), NewInt
		if rapid.Bool().Draw(t, "unsigned") {
			want = new(big.Int).SetUint64(uint64(x))
			made = func(d Datatype, x int64) (Value, error) { return NewUint(d, uint64(x)) }
		}
		low, high := bounds(d)
		v, err := made(d, x)
		if want.Cmp(low) < 0 || want.Cmp(high) > 0 {
			if code(err) != OutOfRange {
				t.Fatalf("%v as %v: %v", want, d, err)
			}
			return
		}
		if err != nil || v.Form() != d.Form() {
			t.Fatalf("%v as %v: %v in %v", want, d, err, v.Form())
		}
		for _, f := range []Form{FormInt, FormLong, FormNone, FormDouble} {
			w := v.In(f, d)
			if got, err := read(w, d); err != nil || got.Cmp(want) != 0 {
				t.Fatalf("%v as %v in %v (%#x): %v, %v", want, d, w.Form(), w.Raw(), got, err)
			}
			if !Equal(d, v, w) {
				t.Fatalf("%v as %v is another number in %v", want, d, f)
			}
			if f == FormLong && w.Form() != f || f == FormNone && w.Form() != v.Form() {
				t.Fatalf("asked for %v, got %v", f, w.Form())
			}
		}
	})
}

// TestIntegerForms are the ways in which writers put integers.
func TestIntegerForms(t *testing.T) {
	const minus23 = 0xffffffffffffffe9
	for _, c := range []struct {
		d    Datatype
		f    Form
		bits uint64
		want int64
		code Code
	}{
		// Int8 and Int16: sign-extended to 32 bits, cut to their own width, and the varint of 10 bytes.
		{TypeInt8, FormInt, 0xffffffe9, -23, 0}, {TypeInt8, FormInt, 0xe9, -23, 0}, {TypeInt8, FormLong, minus23, -23, 0},
		{TypeInt8, FormLong, 0xffffffe9, -23, 0}, {TypeInt8, FormInt, 0x7f, 127, 0},
		{TypeInt8, FormInt, 0x17f, 0, OutOfRange}, {TypeInt8, FormInt, 0xffff, 0, OutOfRange}, {TypeInt8, FormInt, 0xffffff7f, 0, OutOfRange},
		{TypeInt16, FormInt, 0xffffffe9, -23, 0}, {TypeInt16, FormInt, 0xffe9, -23, 0}, {TypeInt16, FormInt, 0x10000, 0, OutOfRange},
		{TypeInt32, FormInt, 0xffffffe9, -23, 0}, {TypeInt32, FormLong, 0xffffffe9, -23, 0}, {TypeInt32, FormLong, minus23, -23, 0},
		{TypeInt32, FormLong, 1 << 32, 0, OutOfRange}, {TypeInt32, FormLong, 0xfffffffe00000000, 0, OutOfRange},
		{TypeInt64, FormLong, minus23, -23, 0}, {TypeInt64, FormInt, 23, 23, 0}, {TypeInt64, FormInt, 0xffffffe9, 0, OutOfRange},
		// UInt32 in either field.
		{TypeUInt32, FormInt, math.MaxUint32, math.MaxUint32, 0}, {TypeUInt32, FormLong, math.MaxUint32, math.MaxUint32, 0},
		{TypeUInt32, FormLong, 1 << 32, 0, OutOfRange}, {TypeUInt8, FormInt, 256, 0, OutOfRange}, {TypeUInt64, FormInt, 5, 5, 0},
		{TypeDateTime, FormInt, 5, 5, 0},
		{TypeInt8, FormFloat, 0, 0, Mismatch}, {TypeUInt8, FormBool, 1, 0, Mismatch}, {TypeInt64, FormString, 0, 0, Mismatch},
		{TypeUInt64, FormNone, 0, 0, Mismatch},
	} {
		v := Value{form: c.f, bits: c.bits}
		got, err := read(v, c.d)
		if code(err) != c.code || err == nil && got.Int64() != c.want {
			t.Errorf("%v in %v, %#x: %v, %v", c.d, c.f, c.bits, got, err)
		}
		if code(v.Check(c.d)) != c.code {
			t.Errorf("Check of %v in %v, %#x: %v", c.d, c.f, c.bits, v.Check(c.d))
		}
	}
	// From the wire a varint of 10 bytes in int_value is cut to 32 bits.
	var p Payload
	if err := p.Decode(msg(2, num(4, 1), num(10, minus23)), Limits{}); err != nil {
		t.Fatal(err)
	}
	if x, err := p.Metrics[0].Value.Int(TypeInt8); err != nil || x != -23 {
		t.Error(x, err)
	}
	// A number that int_value would make another one stays where it is.
	for d, bits := range map[Datatype]uint64{TypeUInt64: 1 << 32, TypeInt64: minus23} {
		if v := (Value{form: FormLong, bits: bits}).In(FormInt, d); v.Form() != FormLong || v.Raw() != bits {
			t.Error(d, v)
		}
	}
}

// TestAsTheBirthDid: a UInt32 is written in the field in which the BIRTH had it.
func TestAsTheBirthDid(t *testing.T) {
	for _, birth := range [][]byte{msg(2, num(4, 7), num(10, 1)), msg(2, num(4, 7), num(11, 1))} {
		var p Payload
		if err := p.Decode(birth, Limits{}); err != nil {
			t.Fatal(err)
		}
		m := &p.Metrics[0]
		m.Value = must(NewInt(TypeUInt32, 1)).In(m.Value.Form(), m.Datatype)
		if got := p.Append(nil); string(got) != string(birth) {
			t.Errorf("% x became % x", birth, got)
		}
	}
}

func TestFloats(t *testing.T) {
	v := must(NewFloat(TypeFloat, 0.1))
	if x, err := v.Float(TypeFloat); err != nil || x != float64(float32(0.1)) || x == 0.1 {
		t.Error(x, err)
	}
	if x, err := must(NewFloat(TypeDouble, 0.1)).Float(TypeDouble); err != nil || x != 0.1 {
		t.Error(x, err)
	}
	for _, x := range []float64{math.MaxFloat64, -1e39} {
		if _, err := NewFloat(TypeFloat, x); code(err) != OutOfRange {
			t.Error(x, err)
		}
	}
	for _, x := range []float64{math.Inf(1), math.Inf(-1), math.MaxFloat32, 1e-50} {
		if _, err := NewFloat(TypeFloat, x); err != nil {
			t.Error(x, err)
		}
	}
	if _, err := NewFloat(TypeInt8, 1); code(err) != BadDatatype {
		t.Error(err)
	}
	if _, err := v.Float(TypeDouble); code(err) != Mismatch {
		t.Error(err)
	}
	if _, err := v.Float(TypeInt8); code(err) != BadDatatype {
		t.Error(err)
	}
}

func TestTimes(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_999_999, time.FixedZone("", 3600))
	v := must(NewTime(at))
	if got, err := v.Time(); err != nil || !got.Equal(at.Truncate(time.Millisecond)) || got.Location() != time.UTC {
		t.Error(got, err)
	}
	if _, err := NewTime(time.Unix(-1, 0)); code(err) != OutOfRange {
		t.Error(err)
	}
	for _, c := range []struct {
		v    Value
		code Code
	}{{Value{form: FormLong, bits: math.MaxUint64}, OutOfRange}, {NewBool(true), Mismatch}} {
		if _, err := c.v.Time(); code(err) != c.code {
			t.Error(c.v, err)
		}
	}
}

// TestWrongReaders: a value is read as what it is, or refused with the code that says why.
func TestWrongReaders(t *testing.T) {
	bad := NewText([]byte{0xff})
	number := must(NewInt(TypeInt8, 1))
	for name, err := range map[string]struct {
		got  error
		want Code
	}{
		"text that is none":      {second(bad.Text()), BadText},
		"text of a number":       {second(number.Text()), Mismatch},
		"bytes of a text":        {second(bad.Bytes()), Mismatch},
		"boolean of a number":    {second(number.Bool()), Mismatch},
		"array of a text":        {second(bad.Array(TypeInt8Array)), Mismatch},
		"array of no array type": {second(NewBytes(nil).Array(TypeBytes)), BadDatatype},
		"integer of Float":       {second(number.Int(TypeFloat)), BadDatatype},
		"unsigned of Int8":       {second(number.Uint(TypeInt8)), BadDatatype},
		"new integer of String":  {second(NewInt(TypeString, 1)), BadDatatype},
		"new unsigned of String": {second(NewUint(TypeString, math.MaxUint64)), BadDatatype},
		"a table":                {number.Check(TypeDataSet), Mismatch},
		"datatype 35":            {number.Check(35), BadDatatype},
		"datatype 0":             {number.Check(0), BadDatatype},
		"text":                   {NewText([]byte("é")).Check(TypeUUID), 0},
		"bytes":                  {NewBytes(nil).Check(TypeFile), 0},
		"boolean":                {NewBool(true).Check(TypeBoolean), 0},
		"boolean as a number":    {number.Check(TypeBoolean), Mismatch},
	} {
		if code(err.got) != err.want {
			t.Errorf("%s: %v", name, err.got)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// Shows [tck-id-payloads-metric-datatype-value].
func TestDatatypes(t *testing.T) {
	for d := range Datatype(40) {
		again, ok := ParseDatatype(d.String())
		valid := d >= 1 && d <= 34
		if d.Valid() != valid || ok != valid || valid && again != d {
			t.Errorf("%d: %v, %v, %v", d, d, d.Valid(), ok)
		}
		if d.Basic() != (d >= 1 && d <= 15) || d.Array() != (d >= 22 && d <= 34) {
			t.Errorf("%v: basic %v, array %v", d, d.Basic(), d.Array())
		}
	}
	if Datatype(math.MaxUint32).Valid() || Datatype(99).String() != "datatype 99" || TypeDateTimeArray.String() != "DateTimeArray" {
		t.Error("a datatype that is not there")
	}
	if _, ok := ParseDatatype(""); ok {
		t.Error("a datatype without a name")
	}
}

func TestErrors(t *testing.T) {
	_, err := NewInt(TypeInt8, 300)
	if !errors.Is(err, &Error{Code: OutOfRange}) || errors.Is(err, &Error{Code: Mismatch}) || errors.Is(err, &Error{OutOfRange, "else"}) {
		t.Error("Is does not go by the code")
	}
	if err.Error() != "sparkplug: out of range: the number does not fit Int8" {
		t.Error(err)
	}
	for c := Malformed; c <= Missing; c++ {
		if codeNames[c] == "" {
			t.Errorf("code %d has no name", c)
		}
	}
	if Code(0).String() != "code 0" || Code(200).String() != "code 200" || Form(99).String() != "unknown form" {
		t.Error("what is unknown")
	}
}

package sparkplug

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestArrayVectors are the examples of the specification, with its slips mended:
// -23 is E9, floats are little-endian, and a DateTime has 8 bytes.
func TestArrayVectors(t *testing.T) {
	for _, c := range []struct {
		d    Datatype
		wire string
		ints []int64
		fl   []float64
	}{
		{d: TypeInt8Array, wire: "\xe9\x7b", ints: []int64{-23, 123}},
		{d: TypeInt16Array, wire: "\xd0\x8a\x30\x75", ints: []int64{-30000, 30000}},
		{d: TypeInt32Array, wire: "\xff\xff\xff\xff\xfa\xaf\xcb\x12", ints: []int64{-1, 315338746}},
		{d: TypeInt64Array, wire: "\xce\x06\x72\xac\x18\x9c\xba\xc4\xc4\xba\x9c\x18\xac\x72\x06\xce", ints: []int64{-4270929666821191986, -3601064768563266876}},
		{d: TypeUInt8Array, wire: "\x17\xfa", ints: []int64{23, 250}},
		{d: TypeUInt16Array, wire: "\x1e\x00\x88\xcc", ints: []int64{30, 52360}},
		{d: TypeUInt32Array, wire: "\x34\x00\x00\x00\x49\xfb\x55\xc4", ints: []int64{52, 3293969225}},
		{d: TypeUInt64Array, wire: "\x34\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80", ints: []int64{52, math.MinInt64}},
		{d: TypeFloatArray, wire: "\xa4\x70\x9d\x3f\x98\xae\xb2\x42", fl: []float64{float64(float32(1.23)), float64(float32(89.341))}},
		{d: TypeDoubleArray, wire: "\x00\x00\x00\x00\x00\x00\xf8\x3f", fl: []float64{1.5}},
		{d: TypeDateTimeArray, wire: "\xc7\xd0\x90\x75\x24\x01\x00\x00\xb8\xba\xb8\x97\x81\x01\x00\x00", ints: []int64{1256102875335, 1656107875000}},
		{d: TypeInt8Array}, {d: TypeDoubleArray},
	} {
		var made []byte
		var err error
		if c.d == TypeFloatArray || c.d == TypeDoubleArray {
			made, err = AppendFloats(nil, c.d, c.fl...)
		} else {
			made, err = AppendInts(nil, c.d, c.ints...)
		}
		if err != nil || string(made) != c.wire {
			t.Errorf("%v: written as % x, %v", c.d, made, err)
		}
		a, err := NewBytes([]byte(c.wire)).Array(c.d)
		if err != nil || a.Len() != len(c.ints)+len(c.fl) || a.Type() != c.d {
			t.Errorf("%v: %d elements, %v", c.d, a.Len(), err)
		}
		for i, x := range c.ints {
			if a.Int(i) != x {
				t.Errorf("%v[%d] = %d", c.d, i, a.Int(i))
			}
		}
		for i, x := range c.fl {
			if a.Float(i) != x {
				t.Errorf("%v[%d] = %v", c.d, i, a.Float(i))
			}
		}
	}
	bits := []bool{false, false, true, true, false, true, false, false, true, true, false, true}
	if got := string(AppendBools(nil, bits...)); got != "\x0c\x00\x00\x00\x34\xd0" {
		t.Errorf("booleans: % x", got)
	}
	// The four bits after the last are anything.
	a, err := NewBytes([]byte("\x0c\x00\x00\x00\x34\xdf")).Array(TypeBooleanArray)
	if err != nil || a.Len() != 12 {
		t.Fatal(a.Len(), err)
	}
	for i, x := range bits {
		if a.Bool(i) != x {
			t.Errorf("boolean %d", i)
		}
	}
	words := []string{"ABC", "hello", ""}
	wire, err := AppendTexts([]byte("-"), words...)
	if err != nil || string(wire) != "-ABC\x00hello\x00\x00" {
		t.Errorf("texts: %q, %v", wire, err)
	}
	if a, err = NewBytes(wire[1:]).Array(TypeStringArray); err != nil || a.Len() != 3 {
		t.Fatal(a.Len(), err)
	}
	for i, s := range a.Texts() {
		if string(s) != words[i] {
			t.Errorf("text %d: %q", i, s)
		}
	}
}

func TestBrokenArrays(t *testing.T) {
	for _, c := range []struct {
		d    Datatype
		wire string
		code Code
	}{
		{TypeInt16Array, "\x01", Truncated}, {TypeDateTimeArray, "1234567", Truncated}, {TypeFloatArray, "12345", Truncated},
		{TypeBooleanArray, "", Truncated}, {TypeBooleanArray, "\x01\x00\x00", Truncated}, {TypeBooleanArray, "\x09\x00\x00\x00\xff", Truncated},
		{TypeBooleanArray, "\x08\x00\x00\x00\xff\x00", Malformed}, {TypeBooleanArray, "\xff\xff\xff\xff\x00", Truncated},
		{TypeBooleanArray, "\x00\x00\x00\x00", 0}, {TypeStringArray, "a", Truncated}, {TypeStringArray, "\xff\x00", BadText}, {TypeStringArray, "", 0},
	} {
		if err := NewBytes([]byte(c.wire)).Check(c.d); code(err) != c.code {
			t.Errorf("%v % x: %v", c.d, c.wire, err)
		}
	}
	before := []byte("x")
	for name, c := range map[string]struct {
		code Code
		make func() ([]byte, error)
	}{
		"above UInt8":  {OutOfRange, func() ([]byte, error) { return AppendInts(before, TypeUInt8Array, 1, 256) }},
		"below Int16":  {OutOfRange, func() ([]byte, error) { return AppendInts(before, TypeInt16Array, -32769) }},
		"above Int32":  {OutOfRange, func() ([]byte, error) { return AppendInts(before, TypeInt32Array, math.MaxInt32+1) }},
		"below UInt32": {OutOfRange, func() ([]byte, error) { return AppendInts(before, TypeUInt32Array, -1) }},
		"floats":       {BadDatatype, func() ([]byte, error) { return AppendInts(before, TypeFloatArray, 1) }},
		"booleans":     {BadDatatype, func() ([]byte, error) { return AppendInts(before, TypeBooleanArray, 1) }},
		"no array":     {BadDatatype, func() ([]byte, error) { return AppendInts(before, TypeInt8, 1) }},
		"no floats":    {BadDatatype, func() ([]byte, error) { return AppendFloats(before, TypeInt8Array, 1) }},
		"above Float":  {OutOfRange, func() ([]byte, error) { return AppendFloats(before, TypeFloatArray, 1, 1e300) }},
		"NUL":          {BadText, func() ([]byte, error) { return AppendTexts(before, "a", "b\x00") }},
		"not UTF-8":    {BadText, func() ([]byte, error) { return AppendTexts(before, "\xff") }},
	} {
		if got, err := c.make(); code(err) != c.code || string(got) != "x" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestArraysLikeSlices holds the readers to slices of the same elements.
func TestArraysLikeSlices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(rapid.Int16()).Draw(t, "elements")
		var ints []int64
		var wire []byte
		var bools []bool
		for _, x := range want {
			ints = append(ints, int64(x))
			wire = binary.LittleEndian.AppendUint16(wire, uint16(x))
			bools = append(bools, x&1 == 1)
		}
		made, err := AppendInts(nil, TypeInt16Array, ints...)
		if err != nil || string(made) != string(wire) {
			t.Fatal(made, wire, err)
		}
		a, err := NewBytes(wire).Array(TypeInt16Array)
		if err != nil || a.Len() != len(want) {
			t.Fatal(a.Len(), err)
		}
		for i, x := range want {
			if a.Int(i) != int64(x) || a.Uint(i) != uint64(uint16(x)) {
				t.Fatal(i, x, a.Int(i), a.Uint(i))
			}
		}
		b, err := NewBytes(AppendBools(nil, bools...)).Array(TypeBooleanArray)
		if err != nil || b.Len() != len(bools) {
			t.Fatal(b.Len(), err)
		}
		for i, x := range bools {
			if b.Bool(i) != x {
				t.Fatal(i)
			}
		}
		words := rapid.SliceOf(rapid.StringMatching(`[a-zé]{0,5}`)).Draw(t, "words")
		made, err = AppendTexts(nil, words...)
		if err != nil {
			t.Fatal(err)
		}
		c, err := NewBytes(made).Array(TypeStringArray)
		if err != nil || c.Len() != len(words) {
			t.Fatal(c.Len(), err)
		}
		var got []string
		for _, s := range c.Texts() {
			got = append(got, string(s))
		}
		if !slices.Equal(got, words) {
			t.Fatal(got, words)
		}
	})
}

// TestIndexesThatAreNot: a programmer's mistake panics, as with a slice.
func TestIndexesThatAreNot(t *testing.T) {
	numbers := must(NewBytes([]byte{1, 2}).Array(TypeInt8Array))
	floats := must(NewBytes(make([]byte, 8)).Array(TypeDoubleArray))
	bools := must(NewBytes(AppendBools(nil, true)).Array(TypeBooleanArray))
	for name, f := range map[string]func(){
		"above": func() { numbers.Int(2) }, "below": func() { numbers.Int(-1) }, "float of integers": func() { numbers.Float(0) },
		"integer of floats": func() { floats.Uint(0) }, "above the booleans": func() { bools.Bool(1) }, "boolean of numbers": func() { numbers.Bool(0) },
		"number of booleans": func() { bools.Int(0) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
	for range numbers.Texts() {
		t.Error("texts of numbers")
	}
}

package sparkplug

import (
	"bytes"
	"encoding/binary"
	"iter"
	"math"
	"unicode/utf8"
)

// Array reads the elements of an array value where they lie: packed
// little-endian numbers, bits, or texts that end in NUL. It borrows the bytes
// and allocates nothing. The zero Array is empty.
type Array struct {
	of   Datatype
	n    int
	data []byte
}

// Array reads v as an array of type d, TypeInt8Array to TypeDateTimeArray. The
// errors are of Code BadDatatype, Mismatch, Truncated, Malformed and BadText.
func (v Value) Array(d Datatype) (Array, error) {
	t := d.trait()
	switch {
	case t.kind != kindArray:
		return Array{}, &Error{BadDatatype, d.String() + " is no array"}
	case v.form != FormBytes:
		return Array{}, mismatch(v.form, d)
	}
	a := Array{of: d, data: v.data}
	switch d {
	case TypeBooleanArray:
		return a.booleans()
	case TypeStringArray:
		a.n = bytes.Count(a.data, []byte{0})
		switch {
		case len(a.data) > 0 && a.data[len(a.data)-1] != 0:
			return Array{}, &Error{Truncated, "StringArray: the last text has no NUL"}
		case !utf8.Valid(a.data):
			return Array{}, &Error{BadText, "StringArray: not UTF-8"}
		}
		return a, nil
	}
	if len(a.data)%int(t.size) != 0 {
		return Array{}, &Error{Truncated, d.String() + ": the last element is cut"}
	}
	a.n = len(a.data) / int(t.size)
	return a, nil
}

// booleans reads the number of bits, four bytes before them.
func (a Array) booleans() (Array, error) {
	if len(a.data) < 4 {
		return Array{}, &Error{Truncated, "BooleanArray: no count"}
	}
	n := int64(binary.LittleEndian.Uint32(a.data))
	a.data = a.data[4:]
	switch need := (n + 7) / 8; {
	case int64(len(a.data)) < need:
		return Array{}, &Error{Truncated, "BooleanArray: fewer bits than its count says"}
	case int64(len(a.data)) > need:
		return Array{}, &Error{Malformed, "BooleanArray: more bytes than its count says"}
	}
	a.n = int(n)
	return a, nil
}

// Len is the number of elements.
func (a Array) Len() int { return a.n }

// Type is the datatype of the array.
func (a Array) Type() Datatype { return a.of }

// bits is element i, zero extended. It panics when i is out of range.
func (a Array) bits(i int) uint64 {
	switch a.of.trait().size {
	case 1:
		return uint64(a.data[i])
	case 2:
		return uint64(binary.LittleEndian.Uint16(a.data[2*i:]))
	case 4:
		return uint64(binary.LittleEndian.Uint32(a.data[4*i:]))
	case 8:
		return binary.LittleEndian.Uint64(a.data[8*i:])
	}
	panic("sparkplug: " + a.of.String() + " has no numbers")
}

// Int is element i of an array of integers or DateTimes; unsigned numbers above
// the largest int64 come out negative. Like an index into a slice it panics
// when there is no such element, and for arrays of other things.
func (a Array) Int(i int) int64 {
	x := a.Uint(i)
	if a.of <= TypeInt64Array {
		shift := 64 - 8*a.of.trait().size
		return int64(x<<shift) >> shift
	}
	return int64(x)
}

// Uint is element i of an array of integers or DateTimes; negative numbers come
// out in two's complement of the element's width. It panics as Int does.
func (a Array) Uint(i int) uint64 {
	if a.of == TypeFloatArray || a.of == TypeDoubleArray {
		panic("sparkplug: " + a.of.String() + " has no integers")
	}
	return a.bits(i)
}

// Float is element i of a FloatArray or DoubleArray. It panics as Int does.
func (a Array) Float(i int) float64 {
	switch a.of {
	case TypeFloatArray:
		return float64(math.Float32frombits(uint32(a.bits(i))))
	case TypeDoubleArray:
		return math.Float64frombits(a.bits(i))
	}
	panic("sparkplug: " + a.of.String() + " has no floats")
}

// Bool is element i of a BooleanArray; the first is the highest bit of the
// first byte. It panics as Int does.
func (a Array) Bool(i int) bool {
	if a.of != TypeBooleanArray || uint(i) >= uint(a.n) {
		panic("sparkplug: no such boolean")
	}
	return a.data[i/8]&(0x80>>(i%8)) != 0
}

// Texts gives the texts of a StringArray in order, borrowed and without their
// NUL; of other arrays none.
func (a Array) Texts() iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		rest := a.data
		for i := range a.n {
			end := bytes.IndexByte(rest, 0)
			if a.of != TypeStringArray || end < 0 || !yield(i, rest[:end:end]) {
				return
			}
			rest = rest[end+1:]
		}
	}
}

// AppendInts appends the elements of an array of integers or DateTimes to dst,
// for [NewBytes]. Unsigned numbers above the largest int64 are given as the
// int64 with the same bits. The errors are of Code BadDatatype and OutOfRange;
// dst is then as it was.
func AppendInts(dst []byte, d Datatype, list ...int64) ([]byte, error) {
	t := d.trait()
	if t.kind != kindArray || t.size == 0 || d == TypeFloatArray || d == TypeDoubleArray {
		return dst, &Error{BadDatatype, d.String() + " is no array of integers"}
	}
	from := len(dst)
	for _, x := range list {
		if t.size < 8 {
			low, high := int64(0), int64(1)<<(8*t.size)-1
			if d <= TypeInt32Array {
				low, high = -1<<(8*t.size-1), high>>1
			}
			if x < low || x > high {
				return dst[:from], outOfRange(d)
			}
		}
		dst = appendLittle(dst, uint64(x), t.size)
	}
	return dst, nil
}

func appendLittle(dst []byte, x uint64, size uint8) []byte {
	for range size {
		dst = append(dst, byte(x))
		x >>= 8
	}
	return dst
}

// AppendFloats appends the elements of a FloatArray or DoubleArray to dst, for
// [NewBytes]; a FloatArray rounds as [NewFloat] does, with its errors, and dst
// is then as it was.
func AppendFloats(dst []byte, d Datatype, list ...float64) ([]byte, error) {
	scalar := map[Datatype]Datatype{TypeFloatArray: TypeFloat, TypeDoubleArray: TypeDouble}[d]
	if scalar == 0 {
		return dst, &Error{BadDatatype, d.String() + " is no array of floats"}
	}
	from := len(dst)
	for _, x := range list {
		v, err := NewFloat(scalar, x)
		if err != nil {
			return dst[:from], err
		}
		dst = appendLittle(dst, v.bits, scalar.trait().size)
	}
	return dst, nil
}

// AppendBools appends a BooleanArray to dst, for [NewBytes].
func AppendBools(dst []byte, list ...bool) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(list)))
	for i, x := range list {
		if i%8 == 0 {
			dst = append(dst, 0)
		}
		if x {
			dst[len(dst)-1] |= 0x80 >> (i % 8)
		}
	}
	return dst
}

// AppendTexts appends a StringArray to dst, for [NewBytes]. BadText when one
// has a NUL or is not UTF-8; dst is then as it was.
func AppendTexts(dst []byte, list ...string) ([]byte, error) {
	from := len(dst)
	for _, s := range list {
		for i := range len(s) {
			if s[i] == 0 {
				return dst[:from], &Error{BadText, "StringArray: NUL within a text"}
			}
		}
		if !utf8.ValidString(s) {
			return dst[:from], &Error{BadText, "StringArray: not UTF-8"}
		}
		dst = append(append(dst, s...), 0)
	}
	return dst, nil
}

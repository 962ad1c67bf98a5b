package sparkplug

import "strconv"

// Datatype says what a value means. Any uint32 can come from the wire
// [tck-id-payloads-metric-datatype-value-type]; those of the specification are
// Valid. 0 stands for none: the BIRTH of the metric has it.
type Datatype uint32

// The datatypes of the specification; the numbers are on the wire.
const (
	TypeInt8            Datatype = 1
	TypeInt16           Datatype = 2
	TypeInt32           Datatype = 3
	TypeInt64           Datatype = 4
	TypeUInt8           Datatype = 5
	TypeUInt16          Datatype = 6
	TypeUInt32          Datatype = 7
	TypeUInt64          Datatype = 8
	TypeFloat           Datatype = 9
	TypeDouble          Datatype = 10
	TypeBoolean         Datatype = 11
	TypeString          Datatype = 12
	TypeDateTime        Datatype = 13 // milliseconds since 1970, UTC
	TypeText            Datatype = 14
	TypeUUID            Datatype = 15
	TypeDataSet         Datatype = 16
	TypeBytes           Datatype = 17
	TypeFile            Datatype = 18
	TypeTemplate        Datatype = 19
	TypePropertySet     Datatype = 20 // of a property only
	TypePropertySetList Datatype = 21 // of a property only
	TypeInt8Array       Datatype = 22
	TypeInt16Array      Datatype = 23
	TypeInt32Array      Datatype = 24
	TypeInt64Array      Datatype = 25
	TypeUInt8Array      Datatype = 26
	TypeUInt16Array     Datatype = 27
	TypeUInt32Array     Datatype = 28
	TypeUInt64Array     Datatype = 29
	TypeFloatArray      Datatype = 30
	TypeDoubleArray     Datatype = 31
	TypeBooleanArray    Datatype = 32
	TypeStringArray     Datatype = 33
	TypeDateTimeArray   Datatype = 34
)

// kind is how the values of a datatype are read.
type kind uint8

const (
	kindNone kind = iota
	kindInt
	kindUint
	kindFloat
	kindBool
	kindText
	kindBytes
	kindArray
	kindNested
)

// trait is what there is to know about a datatype.
type trait struct {
	name string
	kind kind
	size uint8 // bytes of a number, or of an array's element; 0 for none
	form Form  // the field that the specification puts it in
}

var traits = [...]trait{
	TypeInt8:            {"Int8", kindInt, 1, FormInt},
	TypeInt16:           {"Int16", kindInt, 2, FormInt},
	TypeInt32:           {"Int32", kindInt, 4, FormInt},
	TypeInt64:           {"Int64", kindInt, 8, FormLong},
	TypeUInt8:           {"UInt8", kindUint, 1, FormInt},
	TypeUInt16:          {"UInt16", kindUint, 2, FormInt},
	TypeUInt32:          {"UInt32", kindUint, 4, FormInt},
	TypeUInt64:          {"UInt64", kindUint, 8, FormLong},
	TypeFloat:           {"Float", kindFloat, 4, FormFloat},
	TypeDouble:          {"Double", kindFloat, 8, FormDouble},
	TypeBoolean:         {"Boolean", kindBool, 0, FormBool},
	TypeString:          {"String", kindText, 0, FormString},
	TypeDateTime:        {"DateTime", kindUint, 8, FormLong},
	TypeText:            {"Text", kindText, 0, FormString},
	TypeUUID:            {"UUID", kindText, 0, FormString},
	TypeDataSet:         {"DataSet", kindNested, 0, FormNone},
	TypeBytes:           {"Bytes", kindBytes, 0, FormBytes},
	TypeFile:            {"File", kindBytes, 0, FormBytes},
	TypeTemplate:        {"Template", kindNested, 0, FormNone},
	TypePropertySet:     {"PropertySet", kindNested, 0, FormNone},
	TypePropertySetList: {"PropertySetList", kindNested, 0, FormNone},
	TypeInt8Array:       {"Int8Array", kindArray, 1, FormBytes},
	TypeInt16Array:      {"Int16Array", kindArray, 2, FormBytes},
	TypeInt32Array:      {"Int32Array", kindArray, 4, FormBytes},
	TypeInt64Array:      {"Int64Array", kindArray, 8, FormBytes},
	TypeUInt8Array:      {"UInt8Array", kindArray, 1, FormBytes},
	TypeUInt16Array:     {"UInt16Array", kindArray, 2, FormBytes},
	TypeUInt32Array:     {"UInt32Array", kindArray, 4, FormBytes},
	TypeUInt64Array:     {"UInt64Array", kindArray, 8, FormBytes},
	TypeFloatArray:      {"FloatArray", kindArray, 4, FormBytes},
	TypeDoubleArray:     {"DoubleArray", kindArray, 8, FormBytes},
	TypeBooleanArray:    {"BooleanArray", kindArray, 0, FormBytes},
	TypeStringArray:     {"StringArray", kindArray, 0, FormBytes},
	TypeDateTimeArray:   {"DateTimeArray", kindArray, 8, FormBytes},
}

func (d Datatype) trait() trait {
	if int64(d) < int64(len(traits)) {
		return traits[d]
	}
	return trait{}
}

// Valid tells whether d is a datatype of the specification, 1 to 34
// [tck-id-payloads-metric-datatype-value].
func (d Datatype) Valid() bool { return d.trait().kind != kindNone }

// Basic tells whether d is one of the types that properties, parameters and
// the columns of a DataSet may have: 1 to 15, numbers, booleans and texts.
func (d Datatype) Basic() bool { return d >= TypeInt8 && d <= TypeUUID }

// Array tells whether d is an array, 22 to 34.
func (d Datatype) Array() bool { return d.trait().kind == kindArray }

// Form is the field that the specification puts values of d in: FormNone for
// nested messages and for what is not Valid.
func (d Datatype) Form() Form { return d.trait().form }

// String returns the specification's name of d, or its number.
func (d Datatype) String() string {
	if t := d.trait(); t.kind != kindNone {
		return t.name
	}
	return "datatype " + strconv.FormatUint(uint64(d), 10)
}

// ParseDatatype finds a datatype by its name in the specification, as String
// gives it; letter case counts.
func ParseDatatype(name string) (Datatype, bool) {
	for d, t := range traits {
		if t.name == name && t.kind != kindNone {
			return Datatype(d), true
		}
	}
	return 0, false
}

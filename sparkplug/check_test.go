package sparkplug

import (
	"math"
	"strings"
	"testing"
)

func key(s string) [][]byte { return [][]byte{[]byte(s)} }

func property(v PropertyValue) *PropertySet {
	return &PropertySet{Keys: key("k"), Values: []PropertyValue{v}}
}

// table is a DataSet of one column and one cell.
func table(d Datatype, v Value) *DataSet {
	return &DataSet{NumColumns: 1, Columns: key("c"), Types: []Datatype{d}, Rows: [][]Value{{v}}}
}

// Shows [tck-id-payloads-metric-datatype-value] [tck-id-payloads-propertyset-keys-array-size]
// [tck-id-payloads-propertyset-values-array-size] [tck-id-payloads-metric-propertyvalue-type-value]
// [tck-id-payloads-dataset-column-num-headers] [tck-id-payloads-dataset-types-num]
// [tck-id-payloads-dataset-parameter-type-req] [tck-id-payloads-dataset-types-value]
// [tck-id-payloads-template-dataset-value] [tck-id-payloads-template-parameter-name-required]
// [tck-id-payloads-template-parameter-type-value] [tck-id-payloads-template-parameter-value].
func TestMetricCheck(t *testing.T) {
	one, word := must(NewInt(TypeInt8, 1)), NewText([]byte("w"))
	member := func(m Metric) Metric {
		return Metric{Datatype: TypeTemplate, Template: &Template{Members: []Metric{m}}}
	}
	parameter := func(p Parameter) Metric {
		return Metric{Datatype: TypeTemplate, Template: &Template{Parameters: []Parameter{p}}}
	}
	with := func(s *PropertySet) Metric { return Metric{Datatype: TypeInt8, Value: one, Properties: s} }
	for name, c := range map[string]struct {
		m     Metric
		birth Datatype
		code  Code
	}{
		"a number":                  {Metric{Datatype: TypeInt8, Value: one}, 0, 0},
		"of its BIRTH's type":       {Metric{Value: one}, TypeInt8, 0},
		"of a type nobody knows":    {Metric{Value: one}, 0, BadDatatype},
		"of the same type":          {Metric{Datatype: TypeInt8, Value: one}, TypeInt8, 0},
		"of another type":           {Metric{Datatype: TypeInt8, Value: one}, TypeInt16, BadDatatype},
		"of type 35":                {Metric{Datatype: 35, Value: one}, 0, BadDatatype},
		"of a property's type":      {Metric{Datatype: TypePropertySet, Value: one}, 0, BadDatatype},
		"in the wrong field":        {Metric{Datatype: TypeString, Value: one}, 0, Mismatch},
		"without a value":           {Metric{Datatype: TypeString}, 0, Mismatch},
		"null":                      {Metric{Datatype: TypeString, Null: true}, 0, 0},
		"null, with a value":        {Metric{Datatype: TypeString, Null: true, Value: one}, 0, 0},
		"a name that is none":       {Metric{Name: []byte{0xff}, Datatype: TypeInt8, Value: one}, 0, BadText},
		"a broken array":            {Metric{Datatype: TypeInt16Array, Value: NewBytes([]byte{1})}, 0, Truncated},
		"a table":                   {Metric{Datatype: TypeDataSet, DataSet: table(TypeInt8, one)}, 0, 0},
		"a table that is a number":  {Metric{Datatype: TypeInt8, DataSet: table(TypeInt8, one)}, 0, Mismatch},
		"a number that is a table":  {Metric{Datatype: TypeDataSet, Value: one}, 0, Mismatch},
		"no table":                  {Metric{Datatype: TypeDataSet}, 0, Mismatch},
		"a wrong cell":              {Metric{Datatype: TypeDataSet, DataSet: table(TypeInt8, word)}, 0, Mismatch},
		"an empty cell":             {Metric{Datatype: TypeDataSet, DataSet: table(TypeInt8, Value{})}, 0, 0},
		"a column of bytes":         {Metric{Datatype: TypeDataSet, DataSet: table(TypeBytes, Value{})}, 0, BadDatatype},
		"a column of no type":       {Metric{Datatype: TypeDataSet, DataSet: table(0, Value{})}, 0, BadDatatype},
		"columns without types":     {Metric{Datatype: TypeDataSet, DataSet: &DataSet{NumColumns: 1, Columns: key("c")}}, 0, BadShape},
		"a wrong number of columns": {Metric{Datatype: TypeDataSet, DataSet: &DataSet{NumColumns: 2, Columns: key("c"), Types: []Datatype{1}}}, 0, BadShape},
		"a narrow row":              {Metric{Datatype: TypeDataSet, DataSet: &DataSet{NumColumns: 1, Columns: key("c"), Types: []Datatype{1}, Rows: [][]Value{nil}}}, 0, BadShape},
		"a column's name":           {Metric{Datatype: TypeDataSet, DataSet: &DataSet{NumColumns: 1, Columns: key("\xff"), Types: []Datatype{1}}}, 0, BadText},
		"a template":                {member(Metric{Datatype: TypeInt8, Value: one}), 0, 0},
		"a member of no type":       {member(Metric{Value: word}), 0, 0},
		"a wrong member":            {member(Metric{Datatype: TypeInt8, Value: word}), 0, Mismatch},
		"a wrong member, deeper":    {member(member(Metric{Datatype: TypeInt8, Value: word})), 0, Mismatch},
		"a member without a value":  {member(Metric{Datatype: TypeInt8}), 0, Mismatch},
		"the same in a definition": {Metric{Datatype: TypeTemplate, Template: &Template{Definition: true,
			Members: []Metric{{Datatype: TypeInt8}}}}, 0, 0},
		"a template that is a text": {Metric{Datatype: TypeText, Template: &Template{}}, 0, Mismatch},
		"a parameter":               {parameter(Parameter{Name: []byte("p"), Datatype: TypeInt8, Value: one}), 0, 0},
		"a parameter of no value":   {parameter(Parameter{Name: []byte("p"), Datatype: TypeInt8}), 0, 0},
		"a wrong parameter":         {parameter(Parameter{Name: []byte("p"), Datatype: TypeInt8, Value: word}), 0, Mismatch},
		"a parameter of bytes":      {parameter(Parameter{Name: []byte("p"), Datatype: TypeBytes, Value: word}), 0, BadDatatype},
		"a parameter of no name":    {parameter(Parameter{Datatype: TypeInt8, Value: one}), 0, Missing},
		"a parameter's name":        {parameter(Parameter{Name: []byte{0xff}}), 0, BadText},
		"a property":                {with(property(PropertyValue{Datatype: TypeInt8, Value: one})), 0, 0},
		"a property of no type":     {with(property(PropertyValue{Value: word})), 0, 0},
		"a wrong property":          {with(property(PropertyValue{Datatype: TypeInt8, Value: word})), 0, Mismatch},
		"a null property":           {with(property(PropertyValue{Datatype: TypeInt8, Null: true})), 0, 0},
		"a property of bytes":       {with(property(PropertyValue{Datatype: TypeBytes, Value: word})), 0, BadDatatype},
		"a set":                     {with(property(PropertyValue{Datatype: TypePropertySet, Set: property(PropertyValue{})})), 0, 0},
		"a set of another type":     {with(property(PropertyValue{Datatype: TypeInt8, Set: property(PropertyValue{})})), 0, Mismatch},
		"no set":                    {with(property(PropertyValue{Datatype: TypePropertySet, Value: one})), 0, Mismatch},
		"a wrong set":               {with(property(PropertyValue{Set: &PropertySet{Keys: key("k")}})), 0, BadShape},
		"a list":                    {with(property(PropertyValue{Datatype: TypePropertySetList, List: &PropertySetList{Sets: make([]PropertySet, 2)}})), 0, 0},
		"a list of another type":    {with(property(PropertyValue{Datatype: TypePropertySet, List: &PropertySetList{}})), 0, Mismatch},
		"a wrong list":              {with(property(PropertyValue{List: &PropertySetList{Sets: []PropertySet{{Keys: key("k")}}}})), 0, BadShape},
		"more keys":                 {with(&PropertySet{Keys: key("k")}), 0, BadShape},
		"more values":               {with(&PropertySet{Values: make([]PropertyValue, 1)}), 0, BadShape},
		"a key that is none":        {with(&PropertySet{Keys: key("\xff"), Values: make([]PropertyValue, 1)}), 0, BadText},
	} {
		if err := c.m.Check(c.birth); code(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEqual(t *testing.T) {
	f := func(x float64) Value { return must(NewFloat(TypeFloat, x)) }
	d := func(x float64) Value { return must(NewFloat(TypeDouble, x)) }
	raw := func(f Form, bits uint64) Value { return Value{form: f, bits: bits} }
	s := func(x string) Value { return NewText([]byte(x)) }
	b := func(x string) Value { return NewBytes([]byte(x)) }
	for name, c := range map[string]struct {
		d    Datatype
		a, b Value
		want bool
	}{
		"Int8 in two forms":         {TypeInt8, raw(FormInt, 0xe9), raw(FormInt, 0xffffffe9), true},
		"UInt32 in two fields":      {TypeUInt32, raw(FormInt, 7), raw(FormLong, 7), true},
		"other numbers":             {TypeInt8, raw(FormInt, 1), raw(FormInt, 2), false},
		"Float rounded":             {TypeFloat, f(0.1), f(float64(float32(0.1))), true},
		"Float not quite":           {TypeFloat, f(1), f(1.0000002), false},
		"Double has more":           {TypeDouble, d(0.1), d(float64(float32(0.1))), false},
		"zeros":                     {TypeDouble, d(0), d(math.Copysign(0, -1)), true},
		"NaN":                       {TypeFloat, raw(FormFloat, 0x7fc00000), raw(FormFloat, 0x7fc00001), true},
		"NaN and a number":          {TypeDouble, d(math.NaN()), d(0), false},
		"booleans":                  {TypeBoolean, NewBool(true), NewBool(true), true},
		"other booleans":            {TypeBoolean, NewBool(true), NewBool(false), false},
		"texts":                     {TypeString, s("a"), s("a"), true},
		"letter case":               {TypeString, s("a"), s("A"), false},
		"letter case of UUID":       {TypeUUID, s("6F1d"), s("6f1D"), true},
		"empty text":                {TypeText, s(""), s(""), true},
		"bytes":                     {TypeBytes, b("\xff"), b("\xff"), true},
		"other bytes":               {TypeFile, b("\xff"), b("\xfe"), false},
		"DateTime":                  {TypeDateTime, raw(FormLong, 5), raw(FormLong, 6), false},
		"wrong on both sides":       {TypeInt8, s("a"), s("a"), false},
		"no values":                 {TypeInt8, Value{}, Value{}, false},
		"arrays":                    {TypeInt16Array, b("\x01\x00"), b("\x01\x00"), true},
		"other arrays":              {TypeInt16Array, b("\x01\x00"), b("\x01\x01"), false},
		"longer arrays":             {TypeInt16Array, b("\x01\x00"), b("\x01\x00\x00\x00"), false},
		"empty arrays":              {TypeStringArray, b(""), b(""), true},
		"texts in arrays":           {TypeStringArray, b("a\x00b\x00"), b("ab\x00\x00"), false},
		"bits beyond the last":      {TypeBooleanArray, b("\x01\x00\x00\x00\x80"), b("\x01\x00\x00\x00\xff"), true},
		"other bits":                {TypeBooleanArray, b("\x02\x00\x00\x00\x80"), b("\x02\x00\x00\x00\xff"), false},
		"floats in arrays":          {TypeFloatArray, b("\x00\x00\x00\x80"), b("\x00\x00\x00\x00"), true},
		"other floats in arrays":    {TypeDoubleArray, b("\x00\x00\x00\x00\x00\x00\xf8\x3f"), b("\x00\x00\x00\x00\x00\x00\xf9\x3f"), false},
		"broken arrays":             {TypeInt16Array, b("\x01"), b("\x01"), false},
		"types that are not scalar": {TypeTemplate, Value{}, Value{}, false},
	} {
		if Equal(c.d, c.a, c.b) != c.want || Equal(c.d, c.b, c.a) != c.want {
			t.Errorf("%s: %v", name, !c.want)
		}
	}
}

func TestHolds(t *testing.T) {
	one, two := must(NewInt(TypeInt8, 1)), must(NewInt(TypeInt8, 2))
	template := func(ref string, members ...Metric) Metric {
		return Metric{Template: &Template{Ref: []byte(ref), Members: members}}
	}
	m := func(name string, d Datatype, v Value) Metric {
		return Metric{Name: []byte(name), Datatype: d, Value: v}
	}
	par := func(name string, v Value) []Parameter {
		return []Parameter{{Name: []byte(name), Datatype: TypeInt8, Value: v}}
	}
	wide := table(TypeInt8, one)
	wide.Rows = append(wide.Rows, wide.Rows[0])
	renamed := table(TypeInt8, one)
	renamed.Columns = key("C")
	for name, c := range map[string]struct {
		d          Datatype
		said, want Metric
		holds      bool
	}{
		"a value":                {TypeInt8, Metric{Value: one}, Metric{Value: one}, true},
		"another":                {TypeInt8, Metric{Value: one}, Metric{Value: two}, false},
		"null":                   {TypeInt8, Metric{Null: true, Value: one}, Metric{Null: true, Value: two}, true},
		"null and a value":       {TypeInt8, Metric{Null: true, Value: one}, Metric{Value: one}, false},
		"a table":                {TypeDataSet, Metric{DataSet: table(TypeInt8, one)}, Metric{DataSet: table(TypeInt8, one)}, true},
		"an empty cell":          {TypeDataSet, Metric{DataSet: table(TypeInt8, Value{})}, Metric{DataSet: table(TypeInt8, Value{})}, true},
		"a cell and none":        {TypeDataSet, Metric{DataSet: table(TypeInt8, one)}, Metric{DataSet: table(TypeInt8, Value{})}, false},
		"another cell":           {TypeDataSet, Metric{DataSet: table(TypeInt8, one)}, Metric{DataSet: table(TypeInt8, two)}, false},
		"another type":           {TypeDataSet, Metric{DataSet: table(TypeInt8, one)}, Metric{DataSet: table(TypeInt16, one)}, false},
		"another column":         {TypeDataSet, Metric{DataSet: table(TypeInt8, one)}, Metric{DataSet: renamed}, false},
		"more rows":              {TypeDataSet, Metric{DataSet: wide}, Metric{DataSet: table(TypeInt8, one)}, false},
		"no table":               {TypeDataSet, Metric{}, Metric{DataSet: table(TypeInt8, one)}, false},
		"a broken table":         {TypeDataSet, Metric{DataSet: &DataSet{NumColumns: 1}}, Metric{DataSet: &DataSet{NumColumns: 1}}, false},
		"a table for a number":   {TypeInt8, Metric{DataSet: wide, Value: one}, Metric{Value: one}, false},
		"a template":             {TypeTemplate, template("r", m("a", TypeInt8, one)), template("r", m("a", 0, one)), true},
		"its type on one side":   {TypeTemplate, template("r", m("a", 0, one)), template("r", m("a", TypeInt8, one)), true},
		"a part of it":           {TypeTemplate, template("r", m("a", TypeInt8, one), m("b", TypeInt8, two)), template("r", m("b", TypeInt8, two)), true},
		"more than it has":       {TypeTemplate, template("r"), template("r", m("b", TypeInt8, two)), false},
		"another member's value": {TypeTemplate, template("r", m("a", TypeInt8, one)), template("r", m("a", TypeInt8, two)), false},
		"another member's type":  {TypeTemplate, template("r", m("a", TypeInt8, one)), template("r", m("a", TypeInt16, one)), false},
		"another definition":     {TypeTemplate, template("r"), template("s"), false},
		"a parameter":            {TypeTemplate, Metric{Template: &Template{Parameters: par("p", one)}}, Metric{Template: &Template{Parameters: par("p", one)}}, true},
		"another parameter":      {TypeTemplate, Metric{Template: &Template{Parameters: par("p", one)}}, Metric{Template: &Template{Parameters: par("p", two)}}, false},
		"no parameter":           {TypeTemplate, template(""), Metric{Template: &Template{Parameters: par("p", one)}}, false},
		"no type given":          {0, m("", TypeInt8, one), m("", TypeInt8, one), true},
		"one type given":         {0, m("", 0, one), m("", TypeInt8, one), true},
		"two types":              {0, m("", TypeInt16, one), m("", TypeInt8, one), false},
		"no template":            {TypeTemplate, Metric{Value: one}, template("r"), false},
	} {
		if c.said.Holds(&c.want, c.d) != c.holds {
			t.Errorf("%s: %v", name, !c.holds)
		}
	}
}

// goodBirth is an NBIRTH that breaks nothing.
func goodBirth() *Payload {
	return &Payload{Timestamp: 1, HasTimestamp: true, HasSeq: true, Metrics: []Metric{
		BdSeqMetric(0, 1), RebirthMetric(false, 1),
		{Name: []byte("a"), Alias: 1, HasAlias: true, Timestamp: 1, HasTimestamp: true, Datatype: TypeInt8, Value: must(NewInt(TypeInt8, 1))},
		{Name: []byte("null"), Timestamp: 2, HasTimestamp: true, Datatype: TypeInt8, Null: true},
		{Name: []byte("old"), Timestamp: 0, HasTimestamp: true, Datatype: TypeInt8, Value: must(NewInt(TypeInt8, 1)), Historical: true},
		{Name: []byte("d"), Timestamp: 2, HasTimestamp: true, Datatype: TypeTemplate, Template: &Template{Definition: true,
			Parameters: []Parameter{{Name: []byte("p"), Datatype: TypeInt8}}, Members: []Metric{{Name: []byte("m"), Datatype: TypeInt8}}}},
		{Name: []byte("i"), Timestamp: 2, HasTimestamp: true, Datatype: TypeTemplate, Template: &Template{Ref: []byte("d")}},
		{Name: []byte("t"), Timestamp: 3, HasTimestamp: true, Datatype: TypeDataSet, DataSet: table(TypeInt8, Value{}),
			Properties: &PropertySet{Keys: key(Quality), Values: []PropertyValue{{Datatype: TypeInt32, Value: must(NewInt(TypeInt32, 192))}}}},
	}}
}

// asData is goodBirth as another message.
func asData() *Payload {
	p := goodBirth()
	p.Metrics = p.Metrics[2:3]
	p.Metrics[0].Name, p.Metrics[0].Datatype = nil, 0
	return p
}

// TestViolations: good messages break nothing, and each statement is broken by
// one change to a good message, alone. A command without timestamps of metrics
// is good [tck-id-payloads-name-cmd-requirement].
//
// Shows [tck-id-topics-nbirth-timestamp] [tck-id-topics-dbirth-timestamp] [tck-id-topics-ndata-timestamp]
// [tck-id-topics-ddata-timestamp] [tck-id-topics-ncmd-timestamp] [tck-id-topics-dcmd-timestamp]
// [tck-id-payloads-sequence-num-req-nbirth] [tck-id-topics-nbirth-metrics] [tck-id-topics-dbirth-metrics]
// [tck-id-topics-nbirth-templates] [tck-id-payloads-template-ref-definition] [tck-id-payloads-template-ref-instance].
func TestViolations(t *testing.T) {
	command := asData()
	command.HasSeq = false
	command.Metrics[0].HasTimestamp = false
	deviceBirth := goodBirth()
	deviceBirth.Metrics = deviceBirth.Metrics[2:5]
	death := &Payload{Metrics: []Metric{BdSeqMetric(0, 1)}}
	for kind, p := range map[MessageType]*Payload{NBirth: goodBirth(), NData: asData(), DData: asData(), DBirth: deviceBirth,
		NCmd: command, DCmd: command, NDeath: death, DDeath: {HasTimestamp: true, HasSeq: true}, State: {}, 0: {}} {
		for v := range Violations(kind, p) {
			t.Errorf("%v: %+v", kind, v)
		}
	}

	tests := []struct {
		kind   MessageType
		breaks string
		how    func(p *Payload, m []Metric)
	}{
		{NBirth, "[tck-id-payloads-nbirth-timestamp]", func(p *Payload, _ []Metric) { p.HasTimestamp = false }},
		{DBirth, "[tck-id-payloads-dbirth-timestamp]", func(p *Payload, _ []Metric) { p.HasTimestamp = false }},
		{NData, "[tck-id-payloads-ndata-timestamp]", func(p *Payload, _ []Metric) { p.HasTimestamp = false }},
		{DData, "[tck-id-payloads-ddata-timestamp]", func(p *Payload, _ []Metric) { p.HasTimestamp = false }},
		{NCmd, "[tck-id-payloads-ncmd-timestamp]", func(p *Payload, _ []Metric) { p.HasTimestamp = false }},
		{DCmd, "[tck-id-payloads-dcmd-timestamp]", func(p *Payload, _ []Metric) { p.HasTimestamp = false }},
		{NBirth, "[tck-id-payloads-nbirth-seq]", func(p *Payload, _ []Metric) { p.HasSeq = false }},
		{NBirth, "[tck-id-payloads-nbirth-seq]", func(p *Payload, _ []Metric) { p.Seq = 256 }},
		{DBirth, "[tck-id-payloads-dbirth-seq]", func(p *Payload, _ []Metric) { p.HasSeq = false }},
		{NData, "[tck-id-payloads-ndata-seq]", func(p *Payload, _ []Metric) { p.HasSeq = false }},
		{DData, "[tck-id-payloads-ddata-seq]", func(p *Payload, _ []Metric) { p.Seq = 1 << 40 }},
		{NCmd, "[tck-id-payloads-ncmd-seq]", func(p *Payload, _ []Metric) { p.HasSeq = true }},
		{DCmd, "[tck-id-payloads-dcmd-seq]", func(p *Payload, _ []Metric) { p.HasSeq = true }},
		{NDeath, "[tck-id-payloads-ndeath-seq]", func(p *Payload, _ []Metric) { p.HasSeq = true }},
		{NDeath, "[tck-id-topics-ndeath-payload]", func(p *Payload, _ []Metric) { p.Metrics = nil }},
		{NDeath, "[tck-id-topics-ndeath-payload]", func(p *Payload, _ []Metric) { p.Metrics = append(p.Metrics, p.Metrics[0]) }},
		{NBirth, "[tck-id-payloads-nbirth-bdseq]", func(p *Payload, _ []Metric) { p.Metrics = p.Metrics[1:] }},
		{NBirth, "[tck-id-message-flow-edge-node-birth-publish-nbirth-payload-bdSeq]", func(_ *Payload, m []Metric) { m[0].Datatype = TypeUInt64 }},
		{NBirth, "[tck-id-payloads-nbirth-rebirth-req]", func(_ *Payload, m []Metric) { m[1].Name = []byte("x") }},
		{NBirth, "[tck-id-payloads-nbirth-rebirth-req]", func(_ *Payload, m []Metric) { m[1].Value = NewBool(true) }},
		{NBirth, "[tck-id-payloads-name-requirement]", func(_ *Payload, m []Metric) { m[3].Name = nil }},
		{NBirth, "[tck-id-payloads-alias-birth-requirement]", func(_ *Payload, m []Metric) { m[2].Name = nil }},
		{DDeath, "[tck-id-payloads-ddeath-seq]", func(p *Payload, _ []Metric) { p.HasSeq = false }},
		{DDeath, "[tck-id-payloads-ddeath-timestamp]", func(p *Payload, _ []Metric) { p.HasTimestamp = false }},
		{NBirth, "[tck-id-payloads-template-definition-nbirth]", func(_ *Payload, m []Metric) { m[6].Template.Ref = []byte("a") }},
		{NData, "[tck-id-payloads-name-requirement]", func(_ *Payload, m []Metric) { m[0].HasAlias = false }},
		{NData, "[tck-id-payloads-alias-data-cmd-requirement]", func(_ *Payload, m []Metric) { m[0].Name = []byte("a") }},
		{DCmd, "[tck-id-payloads-alias-data-cmd-requirement]", func(_ *Payload, m []Metric) { m[0].Name = []byte("a") }},
		{NBirth, "[tck-id-payloads-alias-uniqueness]", func(_ *Payload, m []Metric) { m[3].Alias, m[3].HasAlias = 1, true }},
		{NBirth, "[tck-id-payloads-metric-datatype-req]", func(_ *Payload, m []Metric) { m[2].Datatype = 0 }},
		{NBirth, "[tck-id-payloads-metric-datatype-value]", func(_ *Payload, m []Metric) { m[2].Datatype = 35 }},
		{NBirth, "[tck-id-payloads-metric-datatype-value]", func(_ *Payload, m []Metric) { m[5].Template.Members[0].Datatype = 35 }},
		{NBirth, "[tck-id-operational-behavior-data-publish-nbirth-values]", func(_ *Payload, m []Metric) { m[2].Null = true }},
		{NBirth, "[tck-id-operational-behavior-data-publish-nbirth-values]", func(_ *Payload, m []Metric) { m[3].Null = false }},
		{DBirth, "[tck-id-operational-behavior-data-publish-dbirth-values]", func(_ *Payload, m []Metric) { m[0].Null = true }},
		{NBirth, "[tck-id-operational-behavior-data-publish-nbirth-order]", func(_ *Payload, m []Metric) { m[7].Timestamp = 1 }},
		{DBirth, "[tck-id-operational-behavior-data-publish-dbirth-order]", func(_ *Payload, m []Metric) { m[1].Timestamp = 0 }},
		{NBirth, "[tck-id-payloads-name-birth-data-requirement]", func(_ *Payload, m []Metric) { m[2].HasTimestamp = false }},
		{DData, "[tck-id-payloads-name-birth-data-requirement]", func(_ *Payload, m []Metric) { m[0].HasTimestamp = false }},
		{NBirth, "[tck-id-payloads-propertyset-values-array-size]", func(_ *Payload, m []Metric) { m[2].Properties = &PropertySet{Keys: key("k")} }},
		{NBirth, "[tck-id-payloads-propertyset-keys-array-size]", func(_ *Payload, m []Metric) {
			m[2].Properties = &PropertySet{Values: []PropertyValue{{Datatype: TypeInt8}}}
		}},
		{NBirth, "[tck-id-payloads-metric-propertyvalue-type-req]", func(_ *Payload, m []Metric) { m[7].Properties.Values[0].Datatype = 0 }},
		{NBirth, "[tck-id-payloads-metric-propertyvalue-type-value]", func(_ *Payload, m []Metric) {
			m[2].Properties = property(PropertyValue{Datatype: TypePropertySet, Set: property(PropertyValue{Datatype: TypeBytes})})
		}},
		{NBirth, "[tck-id-payloads-metric-propertyvalue-type-value]", func(_ *Payload, m []Metric) {
			m[2].Properties = property(PropertyValue{Datatype: TypePropertySetList, List: &PropertySetList{Sets: []PropertySet{*property(PropertyValue{Datatype: 99})}}})
		}},
		{NBirth, "[tck-id-payloads-propertyset-quality-value-type]", func(_ *Payload, m []Metric) { m[7].Properties.Values[0].Datatype = TypeInt16 }},
		{NBirth, "[tck-id-payloads-propertyset-quality-value-value]", func(_ *Payload, m []Metric) { m[7].Properties.Values[0].Value.bits = 1 }},
		{NBirth, "[tck-id-payloads-dataset-column-size]", func(_ *Payload, m []Metric) { m[7].DataSet.NumColumns = 2 }},
		{NBirth, "[tck-id-payloads-dataset-types-num]", func(_ *Payload, m []Metric) { m[7].DataSet.Types = []Datatype{1, 1} }},
		{NBirth, "[tck-id-payloads-dataset-types-value]", func(_ *Payload, m []Metric) { m[7].DataSet.Types[0] = TypeBytes }},
		{NBirth, "[tck-id-payloads-dataset-column-size]", func(_ *Payload, m []Metric) {
			m[5].Template.Members[0] = Metric{DataSet: &DataSet{NumColumns: 1}}
		}},
		{NBirth, "[tck-id-payloads-template-definition-ref]", func(_ *Payload, m []Metric) { m[5].Template.Ref = []byte("r") }},
		{NBirth, "[tck-id-payloads-template-instance-ref]", func(_ *Payload, m []Metric) { m[6].Template.Ref = nil }},
		{NBirth, "[tck-id-payloads-template-definition-nbirth-only]", func(_ *Payload, m []Metric) {
			m[6].Template.Members = []Metric{{Template: &Template{Definition: true}}}
		}},
		{DBirth, "[tck-id-payloads-template-definition-nbirth-only]", func(_ *Payload, m []Metric) {
			m[0].Value, m[0].Template = Value{}, &Template{Definition: true}
		}},
		{NBirth, "[tck-id-payloads-template-parameter-name-required]", func(_ *Payload, m []Metric) { m[5].Template.Parameters[0].Name = nil }},
		{NBirth, "[tck-id-payloads-template-parameter-type-req]", func(_ *Payload, m []Metric) { m[5].Template.Parameters[0].Datatype = 0 }},
		{NBirth, "[tck-id-payloads-template-parameter-type-value]", func(_ *Payload, m []Metric) { m[5].Template.Parameters[0].Datatype = TypeFile }},
	}
	for _, c := range tests {
		var p *Payload
		switch c.kind {
		case NBirth:
			p = goodBirth()
		case DBirth:
			p = goodBirth()
			p.Metrics = p.Metrics[2:5]
		case NCmd, DCmd:
			p = asData()
			p.HasSeq = false
		case NDeath:
			p = &Payload{Metrics: []Metric{BdSeqMetric(0, 1)}}
		default:
			p = asData()
		}
		c.how(p, p.Metrics)
		var got []string
		for v := range Violations(c.kind, p) {
			got = append(got, "["+v.Statement+"]")
		}
		if len(got) != 1 || got[0] != c.breaks {
			t.Errorf("%v: breaks %v, want %s", c.kind, got, c.breaks)
		}
	}
}

// TestViolationsStop: one who has heard enough is told no more.
func TestViolationsStop(t *testing.T) {
	n := 0
	for range Violations(NBirth, &Payload{Metrics: make([]Metric, 3)}) {
		n++
		break
	}
	if n != 1 {
		t.Error(n)
	}
	var all []string
	for v := range Violations(NBirth, &Payload{Metrics: make([]Metric, 1)}) {
		all = append(all, v.Statement)
		if (v.Metric == 0) != (v.Statement == "tck-id-payloads-name-requirement" || strings.Contains(v.Statement, "metric-datatype") ||
			strings.Contains(v.Statement, "values") || strings.Contains(v.Statement, "name-birth-data")) {
			t.Errorf("%+v", v)
		}
	}
	if len(all) != 8 {
		t.Error(all)
	}
}

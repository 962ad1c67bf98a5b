package spjson

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/sparkplug"
)

// definitions are those of a Pump and of the Valve in it.
func definitions(ref string) *sparkplug.Template {
	member := func(name string, d sparkplug.Datatype) sparkplug.Metric {
		return sparkplug.Metric{Name: []byte(name), Datatype: d}
	}
	return map[string]*sparkplug.Template{
		"Valve": {Definition: true, Members: []sparkplug.Metric{member("open", sparkplug.TypeBoolean)}},
		"Pump": {Definition: true, Members: []sparkplug.Metric{member("speed", sparkplug.TypeInt32), member("in", sparkplug.TypeTemplate)},
			Parameters: []sparkplug.Parameter{{Name: []byte("k"), Datatype: sparkplug.TypeFloat}}},
	}[ref]
}

// TestRoundTrip: what is read is shown as it was, rounded as its type is.
func TestRoundTrip(t *testing.T) {
	for _, tt := range []struct {
		d        sparkplug.Datatype
		in, want string // "": as in
	}{
		{sparkplug.TypeInt8, `-128`, ""},
		{sparkplug.TypeInt64, `-9223372036854775808`, ""},
		{sparkplug.TypeUInt32, `4294967295`, ""},
		{sparkplug.TypeUInt64, `18446744073709551615`, ""},
		{sparkplug.TypeFloat, `0.1`, ""},
		{sparkplug.TypeFloat, `16777217`, `16777216`},
		{sparkplug.TypeDouble, `16777217`, ""},
		{sparkplug.TypeDouble, `"NaN"`, ""},
		{sparkplug.TypeFloat, `"-Inf"`, ""},
		{sparkplug.TypeBoolean, `true`, ""},
		{sparkplug.TypeString, `"5"`, ""},
		{sparkplug.TypeString, `""`, ""},
		{sparkplug.TypeDateTime, `1700000000123`, ""},
		{sparkplug.TypeDateTime, `"2023-11-14T22:13:20.1239Z"`, `1700000000123`},
		{sparkplug.TypeBytes, `"AP8="`, ""},
		{sparkplug.TypeInt8Array, `[-1,127]`, ""},
		{sparkplug.TypeUInt64Array, `[18446744073709551615]`, ""},
		{sparkplug.TypeFloatArray, `[0.5,"NaN"]`, ""},
		{sparkplug.TypeBooleanArray, `[true,false,true]`, ""},
		{sparkplug.TypeStringArray, `["a",""]`, ""},
		{sparkplug.TypeInt32Array, `[]`, ""},
		{sparkplug.TypeInt32, `null`, ""},
		{sparkplug.TypeDataSet, `{"columns":["n","x"],"types":["Int32","Float"],"rows":[[7,0.1],[null,16777216]]}`, ""},
		{sparkplug.TypeDataSet, `{"columns":[],"types":[],"rows":[]}`, ""},
		{sparkplug.TypeTemplate, `{"ref":"Pump","version":"2","members":[{"name":"speed","datatype":"Int32","value":7},{"name":"in","datatype":"Template","value":{"ref":"Valve","members":[{"name":"open","datatype":"Boolean","value":true}]}}],"parameters":[{"name":"k","datatype":"Float","value":0.1}]}`, ""},
		{sparkplug.TypeTemplate, `{"ref":"Pump","members":[{"name":"speed","value":null}]}`, `{"ref":"Pump","members":[{"name":"speed","datatype":"Int32","value":null}]}`},
		{sparkplug.TypeTemplate, `{"ref":"Pump","parameters":[{"name":"k","value":16777217}]}`, `{"ref":"Pump","members":[],"parameters":[{"name":"k","datatype":"Float","value":16777216}]}`},
		{sparkplug.TypeTemplate, `null`, ""},
	} {
		m, err := Parse(json.RawMessage(tt.in), tt.d, definitions)
		if err != nil {
			t.Errorf("%s %s: %v", tt.d, tt.in, err)
			continue
		}
		if err := m.Check(tt.d); err != nil {
			t.Errorf("%s %s is no value of its type: %v", tt.d, tt.in, err)
		}
		if tt.want == "" {
			tt.want = tt.in
		}
		if got := string(Metric(&m, tt.d)); got != tt.want {
			t.Errorf("%s %s is shown as %s", tt.d, tt.in, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct {
		d    sparkplug.Datatype
		in   string
		want string
	}{
		{sparkplug.TypeInt8, `128`, "is Int8: must be a whole number in its range, not 128"},
		{sparkplug.TypeInt32, `1.5`, "whole number"},
		{sparkplug.TypeInt32, `"5"`, "whole number"},
		{sparkplug.TypeUInt8, `-1`, "from 0"},
		{sparkplug.TypeUInt64, `18446744073709551616`, "from 0"},
		{sparkplug.TypeFloat, `1e39`, "in its range"},
		{sparkplug.TypeDouble, `1e999`, "in its range"},
		{sparkplug.TypeBoolean, `1`, "true or false"},
		{sparkplug.TypeString, `5`, `a text in quotes`},
		{sparkplug.TypeDateTime, `"1969-12-31T00:00:00Z"`, "milliseconds since 1970"},
		{sparkplug.TypeDateTime, `-1`, "milliseconds since 1970"},
		{sparkplug.TypeBytes, `"no base64!"`, "base64"},
		{sparkplug.TypeInt8Array, `[128]`, "in its range"},
		{sparkplug.TypeInt8Array, `5`, "a list"},
		{sparkplug.TypeStringArray, `["a",null]`, "a list of texts"},
		{sparkplug.TypeDataSet, `{}`, `is DataSet: must be {"columns"`},
		{sparkplug.TypeDataSet, `{"columns":["n"],"types":[],"rows":[]}`, "a type for each column"},
		{sparkplug.TypeDataSet, `{"columns":["n"],"types":["Int32"],"rows":[],"more":1}`, `must be {"columns"`},
		{sparkplug.TypeDataSet, `{"columns":["n"],"types":["Bytes"],"rows":[]}`, `column "n": "Bytes" is no datatype for columns`},
		{sparkplug.TypeDataSet, `{"columns":["n"],"types":["Int32"],"rows":[[1],[1,2]]}`, "row 2 has 2 values for 1 columns"},
		{sparkplug.TypeDataSet, `{"columns":["n"],"types":["Int8"],"rows":[[128]]}`, `row 1, column "n" is Int8: must be a whole number in its range, not 128`},
		{sparkplug.TypeTemplate, `{"members":[{"name":"speed","value":1}]}`, `is Template: must be {"ref"`},
		{sparkplug.TypeTemplate, `{"ref":"Pump"}`, `is Template: must be {"ref"`},
		{sparkplug.TypeTemplate, `{"ref":"Pump","definition":true,"members":[{"name":"speed","value":1}]}`, `must be {"ref"`},
		{sparkplug.TypeTemplate, `{"ref":"Fan","members":[{"name":"speed","value":1}]}`, `no definition "Fan"`},
		{sparkplug.TypeTemplate, `{"ref":"Pump","members":[{"name":"sped","value":1}]}`, `no member "sped"`},
		{sparkplug.TypeTemplate, `{"ref":"Pump","members":[{"name":"speed","value":1},{"name":"speed","value":2}]}`, "twice"},
		{sparkplug.TypeTemplate, `{"ref":"Pump","members":[{"name":"speed","datatype":"Int64","value":1}]}`, `member "speed" is Int32 in the definition, not Int64`},
		{sparkplug.TypeTemplate, `{"ref":"Pump","members":[{"name":"speed","value":"1"}]}`, `member "speed" is Int32: must be a whole number`},
		{sparkplug.TypeTemplate, `{"ref":"Pump","members":[{"name":"speed"}]}`, `member "speed" has no value`},
		{sparkplug.TypeTemplate, `{"ref":"Pump","parameters":[{"name":"q","value":1}]}`, `no parameter "q"`},
		{sparkplug.TypeTemplate, `{"ref":"Pump","parameters":[{"name":"k","value":true}]}`, `parameter "k" is Float: must be a number`},
		{0, `1`, "cannot be written"},
	} {
		if _, err := Parse(json.RawMessage(tt.in), tt.d, definitions); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %s: %v, want %q", tt.d, tt.in, err, tt.want)
		}
	}
}

// TestNested is the form of what has parts.
func TestNested(t *testing.T) {
	number, _ := sparkplug.NewInt(sparkplug.TypeInt32, 7)
	half, _ := sparkplug.NewFloat(sparkplug.TypeFloat, 0.1)
	for want, m := range map[string]sparkplug.Metric{
		`{"columns":["n","x"],"types":["Int32","Float"],"rows":[[7,0.1],[null,0.1]]}`: {DataSet: &sparkplug.DataSet{
			NumColumns: 2, Columns: [][]byte{[]byte("n"), []byte("x")}, Types: []sparkplug.Datatype{sparkplug.TypeInt32, sparkplug.TypeFloat},
			Rows: [][]sparkplug.Value{{number, half}, {{}, half}}}},
		`{"ref":"Pump","members":[{"name":"speed","datatype":"Int32","value":7}],"parameters":[{"name":"k","datatype":"Float","value":0.1}]}`: {
			Template: &sparkplug.Template{Ref: []byte("Pump"), Members: []sparkplug.Metric{{Name: []byte("speed"), Datatype: sparkplug.TypeInt32, Value: number}},
				Parameters: []sparkplug.Parameter{{Name: []byte("k"), Datatype: sparkplug.TypeFloat, Value: half}}}},
	} {
		if got := string(Metric(&m, 0)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	inner := &sparkplug.PropertySet{Keys: [][]byte{[]byte("low")}, Values: []sparkplug.PropertyValue{{Datatype: sparkplug.TypeInt32, Value: number}}}
	set := &sparkplug.PropertySet{Keys: [][]byte{[]byte("unit"), []byte("range"), []byte("none")}, Values: []sparkplug.PropertyValue{
		{Datatype: sparkplug.TypeString, Value: sparkplug.NewText([]byte("bar"))}, {Datatype: sparkplug.TypePropertySet, Set: inner}, {Datatype: sparkplug.TypeInt32, Null: true}}}
	want := `{"none":{"datatype":"Int32","value":null},"range":{"datatype":"PropertySet","value":{"low":{"datatype":"Int32","value":7}}},"unit":{"datatype":"String","value":"bar"}}`
	if got := string(Properties(set)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

package spjson

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/sparkplug"
)

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
	} {
		m, err := Parse(json.RawMessage(tt.in), tt.d)
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
		{sparkplug.TypeDataSet, `{}`, "cannot be written"},
		{0, `1`, "cannot be written"},
	} {
		if _, err := Parse(json.RawMessage(tt.in), tt.d); err == nil || !strings.Contains(err.Error(), tt.want) {
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

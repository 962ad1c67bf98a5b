package spjson

import (
	"encoding/json"
	"math"
	"strconv"

	"github.com/wilco-iot/wilco/sparkplug"
)

// Metric writes the value of m, which is of type d: null where it is Null, nil
// where it has none that can be read as d.
func Metric(m *sparkplug.Metric, d sparkplug.Datatype) json.RawMessage {
	x, ok := valueOf(m, d)
	if !ok {
		return nil
	}
	return marshal(x)
}

// Properties writes a PropertySet; nil for none.
func Properties(s *sparkplug.PropertySet) json.RawMessage {
	if s == nil {
		return nil
	}
	return marshal(propertiesOf(s))
}

func marshal(x any) json.RawMessage {
	b, err := json.Marshal(x)
	if err != nil {
		return nil // nothing here can fail: no float is NaN, no map is cyclic
	}
	return b
}

func valueOf(m *sparkplug.Metric, d sparkplug.Datatype) (any, bool) {
	switch {
	case m.Null:
		return nil, true
	case m.DataSet != nil:
		return dataSetOf(m.DataSet), true
	case m.Template != nil:
		return templateOf(m.Template), true
	}
	return scalarOf(m.Value, d)
}

// scalarOf is a value as json.Marshal writes it; false when v is none of type d.
func scalarOf(v sparkplug.Value, d sparkplug.Datatype) (x any, ok bool) {
	var err error
	switch d {
	case sparkplug.TypeInt8, sparkplug.TypeInt16, sparkplug.TypeInt32, sparkplug.TypeInt64:
		x, err = v.Int(d)
	case sparkplug.TypeUInt8, sparkplug.TypeUInt16, sparkplug.TypeUInt32, sparkplug.TypeUInt64, sparkplug.TypeDateTime:
		// A DateTime is a number: its range is wider than that of a time in JSON.
		x, err = v.Uint(d)
	case sparkplug.TypeFloat, sparkplug.TypeDouble:
		var f float64
		f, err = v.Float(d)
		x = floatOf(f, d == sparkplug.TypeFloat)
	case sparkplug.TypeBoolean:
		x, err = v.Bool()
	case sparkplug.TypeString, sparkplug.TypeText, sparkplug.TypeUUID:
		var text []byte
		text, err = v.Text()
		x = string(text)
	case sparkplug.TypeBytes, sparkplug.TypeFile:
		x, err = v.Bytes()
	default:
		var a sparkplug.Array
		a, err = v.Array(d)
		if err == nil {
			x = arrayOf(a)
		}
	}
	if err != nil {
		return nil, false
	}
	return x, true
}

// floatOf writes a number of 32 bits with as many digits as those need.
func floatOf(f float64, short bool) any {
	switch {
	case math.IsNaN(f), math.IsInf(f, 0):
		return strconv.FormatFloat(f, 'g', -1, 64)
	case short:
		return float32(f)
	}
	return f
}

func arrayOf(a sparkplug.Array) []any {
	list := make([]any, a.Len())
	switch d := a.Type(); d {
	case sparkplug.TypeStringArray:
		for i, text := range a.Texts() {
			list[i] = string(text)
		}
	case sparkplug.TypeBooleanArray:
		for i := range list {
			list[i] = a.Bool(i)
		}
	case sparkplug.TypeFloatArray, sparkplug.TypeDoubleArray:
		for i := range list {
			list[i] = floatOf(a.Float(i), d == sparkplug.TypeFloatArray)
		}
	case sparkplug.TypeInt8Array, sparkplug.TypeInt16Array, sparkplug.TypeInt32Array, sparkplug.TypeInt64Array:
		for i := range list {
			list[i] = a.Int(i)
		}
	default:
		for i := range list {
			list[i] = a.Uint(i)
		}
	}
	return list
}

type dataSet struct {
	Columns []string `json:"columns"`
	Types   []string `json:"types"`
	Rows    [][]any  `json:"rows"`
}

func dataSetOf(s *sparkplug.DataSet) dataSet {
	out := dataSet{Columns: make([]string, len(s.Columns)), Types: make([]string, len(s.Types)), Rows: make([][]any, len(s.Rows))}
	for i, c := range s.Columns {
		out.Columns[i] = string(c)
	}
	for i, t := range s.Types {
		out.Types[i] = t.String()
	}
	for r, row := range s.Rows {
		out.Rows[r] = make([]any, len(row))
		for c, v := range row {
			if c < len(s.Types) {
				out.Rows[r][c], _ = scalarOf(v, s.Types[c]) // a cell that says nothing is null
			}
		}
	}
	return out
}

// member is a named value: of a Template, or a property, whose name is outside.
type member struct {
	Name     string `json:"name,omitempty"`
	Datatype string `json:"datatype,omitempty"`
	Value    any    `json:"value"`
}

type template struct {
	Ref        string   `json:"ref,omitempty"`
	Version    string   `json:"version,omitempty"`
	Definition bool     `json:"definition,omitempty"`
	Members    []member `json:"members"`
	Parameters []member `json:"parameters,omitempty"`
}

func templateOf(t *sparkplug.Template) template {
	out := template{Ref: string(t.Ref), Version: string(t.Version), Definition: t.Definition, Members: make([]member, len(t.Members))}
	for i := range t.Members {
		m := &t.Members[i]
		x, _ := valueOf(m, m.Datatype)
		out.Members[i] = member{string(m.Name), typeOf(m.Datatype), x}
	}
	for _, p := range t.Parameters {
		x, _ := scalarOf(p.Value, p.Datatype)
		out.Parameters = append(out.Parameters, member{string(p.Name), typeOf(p.Datatype), x})
	}
	return out
}

func typeOf(d sparkplug.Datatype) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func propertiesOf(s *sparkplug.PropertySet) map[string]member {
	out := make(map[string]member, len(s.Keys))
	for i := range min(len(s.Keys), len(s.Values)) {
		p := &s.Values[i]
		m := member{Datatype: typeOf(p.Datatype)}
		switch {
		case p.Null:
		case p.Set != nil:
			m.Value = propertiesOf(p.Set)
		case p.List != nil:
			sets := make([]any, len(p.List.Sets))
			for j := range p.List.Sets {
				sets[j] = propertiesOf(&p.List.Sets[j])
			}
			m.Value = sets
		default:
			m.Value, _ = scalarOf(p.Value, p.Datatype)
		}
		out[string(s.Keys[i])] = m
	}
	return out
}

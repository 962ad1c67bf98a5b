package spjson

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
)

// Definitions finds the definition of a template by its name; nil when there is none.
type Definitions func(ref string) *sparkplug.Template

// Parse reads a value of type d, rounded as d is: a Float to 32 bits, a time to
// milliseconds. The metric has Datatype, and Null, Value, DataSet or Template. Of a
// Template, whose definition must be among definitions, some members may be left out.
// The error says what is wrong in words for people; it begins with what the value
// should be.
func Parse(raw json.RawMessage, d sparkplug.Datatype, definitions Definitions) (sparkplug.Metric, error) {
	m := sparkplug.Metric{Datatype: d}
	if string(bytes.TrimSpace(raw)) == "null" {
		m.Null = true
		return m, nil
	}
	var err error
	switch {
	case d == sparkplug.TypeDataSet:
		m.DataSet, err = parseDataSet(raw)
	case d == sparkplug.TypeTemplate:
		m.Template, err = parseTemplate(raw, definitions)
	case d.Array():
		m.Value, err = parseArray(raw, d)
	default:
		m.Value, err = parseScalar(raw, d)
	}
	return m, err
}

func parseScalar(raw json.RawMessage, d sparkplug.Datatype) (v sparkplug.Value, err error) {
	switch d {
	case sparkplug.TypeInt8, sparkplug.TypeInt16, sparkplug.TypeInt32, sparkplug.TypeInt64:
		return parseInt(raw, d)
	case sparkplug.TypeUInt8, sparkplug.TypeUInt16, sparkplug.TypeUInt32, sparkplug.TypeUInt64:
		return parseUint(raw, d)
	case sparkplug.TypeFloat, sparkplug.TypeDouble:
		return parseFloat(raw, d)
	case sparkplug.TypeBoolean:
		var x bool
		if json.Unmarshal(raw, &x) != nil {
			return v, must(d, "true or false", raw)
		}
		return sparkplug.NewBool(x), nil
	case sparkplug.TypeString, sparkplug.TypeText, sparkplug.TypeUUID:
		var x string
		if json.Unmarshal(raw, &x) != nil {
			return v, must(d, `a text in quotes, as "5"`, raw)
		}
		return sparkplug.NewText([]byte(x)), nil
	case sparkplug.TypeDateTime:
		return parseTime(raw)
	case sparkplug.TypeBytes, sparkplug.TypeFile:
		var x string
		b, err := []byte(nil), json.Unmarshal(raw, &x)
		if err == nil {
			b, err = base64.StdEncoding.DecodeString(x)
		}
		if err != nil {
			return v, must(d, "a text in base64", raw)
		}
		return sparkplug.NewBytes(b), nil
	}
	return v, fmt.Errorf("is of a type that cannot be written, %s", d)
}

// must is the error about a value that is no d.
func must(d sparkplug.Datatype, what string, raw json.RawMessage) error {
	return fmt.Errorf("is %s: must be %s, not %.40s", d, what, raw)
}

// number is the text of a JSON number; "" when raw is none.
func number(raw json.RawMessage) string {
	var n json.Number
	text := bytes.TrimSpace(raw)
	if len(text) == 0 || text[0] == '"' || json.Unmarshal(text, &n) != nil {
		return ""
	}
	return n.String()
}

func parseInt(raw json.RawMessage, d sparkplug.Datatype) (sparkplug.Value, error) {
	x, err := strconv.ParseInt(number(raw), 10, 64)
	if err == nil {
		var v sparkplug.Value
		if v, err = sparkplug.NewInt(d, x); err == nil {
			return v, nil
		}
	}
	return sparkplug.Value{}, must(d, "a whole number in its range", raw)
}

func parseUint(raw json.RawMessage, d sparkplug.Datatype) (sparkplug.Value, error) {
	x, err := strconv.ParseUint(number(raw), 10, 64)
	if err == nil {
		var v sparkplug.Value
		if v, err = sparkplug.NewUint(d, x); err == nil {
			return v, nil
		}
	}
	return sparkplug.Value{}, must(d, "a whole number from 0 in its range", raw)
}

func parseFloat(raw json.RawMessage, d sparkplug.Datatype) (sparkplug.Value, error) {
	x, err := float(raw)
	if err == nil {
		var v sparkplug.Value
		if v, err = sparkplug.NewFloat(d, x); err == nil {
			return v, nil
		}
	}
	return sparkplug.Value{}, must(d, `a number in its range, "NaN", "+Inf" or "-Inf"`, raw)
}

func float(raw json.RawMessage) (float64, error) {
	switch string(bytes.TrimSpace(raw)) {
	case `"NaN"`:
		return math.NaN(), nil
	case `"+Inf"`:
		return math.Inf(1), nil
	case `"-Inf"`:
		return math.Inf(-1), nil
	}
	return strconv.ParseFloat(number(raw), 64)
}

func parseTime(raw json.RawMessage) (sparkplug.Value, error) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
			if v, err := sparkplug.NewTime(t); err == nil {
				return v, nil
			}
		}
	} else if x, err := strconv.ParseUint(number(raw), 10, 64); err == nil {
		return sparkplug.NewUint(sparkplug.TypeDateTime, x)
	}
	return sparkplug.Value{}, must(sparkplug.TypeDateTime, "milliseconds since 1970, or a time like \"2026-01-31T12:00:00Z\"", raw)
}

func parseArray(raw json.RawMessage, d sparkplug.Datatype) (v sparkplug.Value, err error) {
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil || items == nil {
		return v, must(d, "a list", raw)
	}
	var b []byte
	switch d {
	case sparkplug.TypeStringArray:
		list := make([]string, len(items))
		for i := range items {
			if string(items[i]) == "null" || json.Unmarshal(items[i], &list[i]) != nil {
				return v, must(d, "a list of texts", raw)
			}
		}
		b, err = sparkplug.AppendTexts(nil, list...)
	case sparkplug.TypeBooleanArray:
		list := make([]bool, len(items))
		for i := range items {
			if string(items[i]) == "null" || json.Unmarshal(items[i], &list[i]) != nil {
				return v, must(d, "a list of true and false", raw)
			}
		}
		b = sparkplug.AppendBools(nil, list...)
	case sparkplug.TypeFloatArray, sparkplug.TypeDoubleArray:
		list := make([]float64, len(items))
		for i := range items {
			if list[i], err = float(items[i]); err != nil {
				return v, must(d, "a list of numbers", raw)
			}
		}
		b, err = sparkplug.AppendFloats(nil, d, list...)
	default:
		b, err = parseInts(items, d)
	}
	if err != nil {
		return v, must(d, "a list of values in its range", raw)
	}
	return sparkplug.NewBytes(b), nil
}

func parseInts(items []json.RawMessage, d sparkplug.Datatype) ([]byte, error) {
	list := make([]int64, len(items))
	for i := range items {
		text := number(items[i])
		if d == sparkplug.TypeUInt64Array || d == sparkplug.TypeDateTimeArray {
			x, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				return nil, err
			}
			list[i] = int64(x)
			continue
		}
		x, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, err
		}
		list[i] = x
	}
	return sparkplug.AppendInts(nil, d, list...)
}

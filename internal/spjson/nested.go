package spjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/wilco-iot/wilco/sparkplug"
)

// strict reads one JSON document whose members are all known.
func strict(raw json.RawMessage, to any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one document")
	}
	return nil
}

func parseDataSet(raw json.RawMessage) (*sparkplug.DataSet, error) {
	var in struct {
		Columns []string            `json:"columns"`
		Types   []string            `json:"types"`
		Rows    [][]json.RawMessage `json:"rows"`
	}
	if strict(raw, &in) != nil || in.Columns == nil || len(in.Types) != len(in.Columns) || in.Rows == nil {
		return nil, must(sparkplug.TypeDataSet, `{"columns": [NAME, ...], "types": [DATATYPE, ...], "rows": [[VALUE, ...], ...]}, a type for each column`, raw)
	}
	s := &sparkplug.DataSet{NumColumns: uint64(len(in.Columns))}
	for i, name := range in.Columns {
		d, ok := sparkplug.ParseDatatype(in.Types[i])
		if !ok || !d.Basic() {
			return nil, fmt.Errorf("is DataSet: column %q: %q is no datatype for columns; they are Int8 to UInt64, Float, Double, Boolean, String, DateTime, Text and UUID", name, in.Types[i])
		}
		s.Columns, s.Types = append(s.Columns, []byte(name)), append(s.Types, d)
	}
	for r, cells := range in.Rows {
		if len(cells) != len(s.Types) {
			return nil, fmt.Errorf("is DataSet: row %d has %d values for %d columns", r+1, len(cells), len(s.Types))
		}
		row := make([]sparkplug.Value, len(cells))
		for c, cell := range cells {
			m, err := Parse(cell, s.Types[c], nil)
			if err != nil {
				return nil, fmt.Errorf("is DataSet: row %d, column %q %w", r+1, in.Columns[c], err)
			}
			row[c] = m.Value // of null none: the cell says nothing
		}
		s.Rows = append(s.Rows, row)
	}
	return s, nil
}

// named is a member or a parameter as it is read. The definition has its type, so it
// may be left out.
type named struct {
	Name     string          `json:"name"`
	Datatype string          `json:"datatype"`
	Value    json.RawMessage `json:"value"`
}

func parseTemplate(raw json.RawMessage, definitions Definitions) (*sparkplug.Template, error) {
	var in struct {
		Ref        string  `json:"ref"`
		Version    *string `json:"version"`
		Members    []named `json:"members"`
		Parameters []named `json:"parameters"`
	}
	if strict(raw, &in) != nil || in.Ref == "" || len(in.Members)+len(in.Parameters) == 0 {
		return nil, must(sparkplug.TypeTemplate, `{"ref": DEFINITION, "members": [{"name": NAME, "value": VALUE}, ...]}; members may be left out`, raw)
	}
	var def *sparkplug.Template
	if definitions != nil {
		def = definitions(in.Ref)
	}
	if def == nil {
		return nil, fmt.Errorf("is Template: the births have no definition %q", in.Ref)
	}
	t := &sparkplug.Template{Ref: []byte(in.Ref)}
	if in.Version != nil {
		t.Version = []byte(*in.Version)
	}
	for _, n := range in.Members {
		d := def.Member([]byte(n.Name))
		if d == nil || t.Member([]byte(n.Name)) != nil {
			return nil, fmt.Errorf("is Template: %q has no member %q, or it is there twice", in.Ref, n.Name)
		}
		m, err := n.parse(d.Datatype, definitions)
		if err != nil {
			return nil, fmt.Errorf("is Template: member %q %w", n.Name, err)
		}
		t.Members = append(t.Members, m)
	}
	for _, n := range in.Parameters {
		d := def.Parameter([]byte(n.Name))
		if d == nil || t.Parameter([]byte(n.Name)) != nil {
			return nil, fmt.Errorf("is Template: %q has no parameter %q, or it is there twice", in.Ref, n.Name)
		}
		m, err := n.parse(d.Datatype, nil)
		if err != nil {
			return nil, fmt.Errorf("is Template: parameter %q %w", n.Name, err)
		}
		t.Parameters = append(t.Parameters, sparkplug.Parameter{Name: m.Name, Datatype: m.Datatype, Value: m.Value})
	}
	return t, nil
}

func (n *named) parse(d sparkplug.Datatype, definitions Definitions) (sparkplug.Metric, error) {
	if n.Datatype != "" && n.Datatype != d.String() {
		return sparkplug.Metric{}, fmt.Errorf("is %s in the definition, not %s", d, n.Datatype)
	}
	if n.Value == nil {
		return sparkplug.Metric{}, errors.New("has no value")
	}
	m, err := Parse(n.Value, d, definitions)
	m.Name = []byte(n.Name)
	return m, err
}

package scenario

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/wilco-iot/wilco/internal/fault"
)

// maxSize of a file, in bytes; maxDepth of what is nested in it.
const (
	maxSize  = 1 << 20
	maxDepth = 64
)

// Parse reads a scenario, YAML or JSON, strictly: what is not known, or said
// twice, is an error. File is what the text is called in errors, which are of
// package fault, code Invalid, with the field, its line and column, and what to
// write.
func Parse(file string, text []byte) (*Scenario, error) {
	p := &parser{file: file, at: make(map[string]*yaml.Node)}
	if len(text) > maxSize {
		return nil, fault.New(fault.Invalid, "%s: a scenario is at most %d bytes", file, maxSize)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Invalid, "%s is empty: a scenario begins with name, duration, devices and load", file)
	} else if err != nil {
		return nil, fault.New(fault.Invalid, "%s is neither YAML nor JSON: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Invalid, "%s has more than one document: put each scenario into a file of its own", file)
	}
	s := &Scenario{}
	if err := p.value("", doc.Content[0], reflect.ValueOf(s).Elem(), 0); err != nil {
		return nil, err
	}
	if path, why := s.check(); why != "" {
		return nil, p.wrong(path, "%s", why)
	}
	s.complete()
	return s, nil
}

// parser remembers where each field stands.
type parser struct {
	file string
	at   map[string]*yaml.Node
}

// wrong is an error about the field at path, or about what it is missing from.
func (p *parser) wrong(path, format string, args ...any) error {
	n, known := p.at[path]
	for outer := path; !known; n, known = p.at[outer] {
		outer = outer[:max(strings.LastIndexByte(outer, '.'), 0)]
	}
	return fault.Field(path, "%s:%d:%d: %s", p.file, n.Line, n.Column, fmt.Sprintf(format, args...))
}

// value reads a node into a Go value by its type.
func (p *parser) value(path string, n *yaml.Node, v reflect.Value, depth int) error {
	p.at[path] = n
	switch {
	case depth > maxDepth:
		return p.wrong(path, "is nested too deep")
	case n.Kind == yaml.AliasNode:
		return p.wrong(path, "aliases are not followed; write it out")
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if n.Kind != yaml.ScalarNode {
			return p.wrong(path, "must be one value")
		}
		if err := u.UnmarshalText([]byte(n.Value)); err != nil {
			return p.wrong(path, "%v", err)
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		return p.mapping(path, n, depth, func(name string, at *yaml.Node) error {
			f, ok := fieldNamed(v, name)
			if !ok {
				return p.wrong(join(path, name), "is not known; one of %s is", strings.Join(names(v.Type()), ", "))
			}
			return p.value(join(path, name), at, f, depth+1)
		})
	case reflect.Slice:
		if n.Tag == "!!null" {
			return nil
		}
		if n.Kind != yaml.SequenceNode {
			return p.wrong(path, "must be a list")
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, c := range n.Content {
			if err := p.value(join(path, strconv.Itoa(i)), c, v.Index(i), depth+1); err != nil {
				return err
			}
		}
		return nil
	case reflect.Interface:
		inner, err := p.free(path, n, depth)
		if inner != nil {
			v.Set(reflect.ValueOf(inner))
		}
		return err
	}
	if n.Kind != yaml.ScalarNode || n.Decode(v.Addr().Interface()) != nil || v.Kind() != reflect.String && n.Tag == "!!null" {
		return p.wrong(path, "must be %s", map[reflect.Kind]string{reflect.Bool: "true or false", reflect.Int: "a whole number",
			reflect.Uint64: "a whole number that is not negative", reflect.Float64: "a number", reflect.String: "a text"}[v.Kind()])
	}
	return nil
}

// mapping gives each name of a mapping once.
func (p *parser) mapping(path string, n *yaml.Node, depth int, each func(string, *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return p.wrong(path, "must be a mapping, name: value")
	}
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		field := join(path, key.Value)
		_, twice := p.at[field]
		p.at[field] = key
		switch {
		case key.Kind != yaml.ScalarNode || key.Tag == "!!merge":
			return p.wrong(field, "a name must be plain text")
		case twice:
			return p.wrong(field, "is said twice")
		}
		if err := each(key.Value, n.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// free reads what may be anything that JSON has.
func (p *parser) free(path string, n *yaml.Node, depth int) (any, error) {
	switch n.Kind {
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		return list, p.value(path, n, reflect.ValueOf(&list).Elem(), depth)
	case yaml.MappingNode:
		m := make(map[string]any)
		return m, p.mapping(path, n, depth, func(name string, at *yaml.Node) error {
			var v any
			err := p.value(join(path, name), at, reflect.ValueOf(&v).Elem(), depth+1)
			m[name] = v
			return err
		})
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, p.wrong(path, "is not a value: %v", err)
	}
	switch x := v.(type) {
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return nil, p.wrong(path, "is no number that JSON has")
		}
		return v, nil
	case nil, bool, string, int, int64, uint64:
		return v, nil
	}
	return n.Value, nil // a time, which JSON has as text
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// fieldNamed is the field of a struct by its name in files, to the letter.
func fieldNamed(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if tag := tagOf(v.Type().Field(i)); tag != "" && tag == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func names(t reflect.Type) (list []string) {
	for i := range t.NumField() {
		if tag := tagOf(t.Field(i)); tag != "" {
			list = append(list, tag)
		}
	}
	return list
}

func tagOf(f reflect.StructField) string {
	tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return tag
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

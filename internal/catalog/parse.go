package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// Bounds of a type.
const (
	MaxSize     = 128 << 10 // of its text, in bytes
	MaxText     = 2048      // of description and deprecated
	MaxPriority = 9
	maxWindow   = 1000
	maxEffects  = 64
	maxQuorum   = 10
	maxDepth    = 64
)

// Parse reads one or more types, YAML documents or JSON, strictly: what is not
// known, or said twice, is an error. Errors are of package fault, code Invalid,
// with the field, and the line where there is one.
func Parse(text []byte) ([]Type, error) {
	if len(text) > MaxSize {
		return nil, fault.New(fault.Invalid, "a file of types is at most %d bytes", MaxSize)
	}
	var list []Type
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if err != nil && len(list) > 0 && err.Error() == "EOF" {
			return list, nil
		}
		if err != nil {
			return nil, fault.New(fault.Invalid, "not a command type in YAML or JSON: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		}
		t, err := parse(&doc)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
}

func parse(doc *yaml.Node) (t Type, err error) {
	v, err := plain(doc.Content[0], 0)
	if err != nil {
		return t, err
	}
	if unknown := unknownName(v, reflect.TypeFor[Type](), ""); unknown != "" {
		return t, fault.Field(unknown, "%sis not known", at(doc, unknown))
	}
	if _, ok := v.(map[string]any); !ok {
		return t, fault.New(fault.Invalid, "line %d: a command type is a mapping that begins with name", doc.Content[0].Line)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return t, fault.New(fault.Invalid, "not a command type: %v", err)
	}
	if err := json.Unmarshal(raw, &t); err != nil {
		return t, located(doc, err)
	}
	return t, t.check()
}

// plain makes what encoding/json can write of a YAML node.
func plain(n *yaml.Node, depth int) (any, error) {
	fail := func(text string) (any, error) { return nil, fault.New(fault.Invalid, "line %d: %s", n.Line, text) }
	switch {
	case depth > maxDepth:
		return fail("is nested too deep")
	case n.Kind == yaml.AliasNode:
		return fail("aliases are not followed; write it out")
	case n.Kind == yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, c := range n.Content {
			v, err := plain(c, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case n.Kind == yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
				return fail("a name must be plain text")
			}
			if _, twice := m[key.Value]; twice {
				return nil, fault.New(fault.Invalid, "line %d: %s is said twice", key.Line, key.Value)
			}
			v, err := plain(n.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			m[key.Value] = v
		}
		return m, nil
	}
	if (n.Tag == "!!int" || n.Tag == "!!float") && jsonNumber.MatchString(n.Value) {
		return json.Number(n.Value), nil // with all its digits
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return fail("is not a value: " + err.Error())
	}
	switch v.(type) {
	case nil, bool, string, int, int64, uint64, float64:
		return v, nil
	}
	return n.Value, nil // a time, which JSON has as text
}

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

// unknownName is the path of the first name in v that no field of typ has, to the
// letter: encoding/json would take "ackby" for "ackBy".
func unknownName(v any, typ reflect.Type, path string) string {
	switch typ.Kind() {
	case reflect.Pointer:
		return unknownName(v, typ.Elem(), path)
	case reflect.Slice:
		list, _ := v.([]any)
		for i, inner := range list {
			if found := unknownName(inner, typ.Elem(), path+strconv.Itoa(i)+"."); found != "" {
				return found
			}
		}
		return ""
	case reflect.Struct:
	default:
		return ""
	}
	if typ == reflect.TypeFor[state.Condition]() {
		return "" // reads itself, as strictly
	}
	m, _ := v.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(m)) {
		field, ok := fieldNamed(typ, name)
		if !ok {
			return path + name
		}
		inner := field.Type
		if name == "policy" {
			inner = reflect.TypeFor[command.Policy]()
		}
		if found := unknownName(m[name], inner, path+name+"."); found != "" {
			return found
		}
	}
	return ""
}

func fieldNamed(typ reflect.Type, name string) (reflect.StructField, bool) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag == name {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// located turns an error of encoding/json into one that names field and line.
func located(doc *yaml.Node, err error) error {
	var se *state.Error
	if errors.As(err, &se) {
		return fault.Field(strings.Trim("if."+se.Path, "."), "%s", se.Text)
	}
	var te *json.UnmarshalTypeError
	if errors.As(err, &te) {
		return fault.Field(te.Field, "%smust be %s", at(doc, te.Field), described(te.Type.String()))
	}
	return fault.New(fault.Invalid, "not a command type: %s", strings.TrimPrefix(err.Error(), "json: "))
}

func described(goType string) string {
	switch {
	case strings.HasPrefix(goType, "int"):
		return "a whole number"
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	case goType == "string", strings.HasPrefix(goType, "catalog.Re"), strings.HasPrefix(goType, "command.Un"):
		return "text"
	}
	return "a mapping"
}

// at is "line n: " for the first mapping key with the last name of the path.
func at(doc *yaml.Node, path string) string {
	name := path[strings.LastIndex(path, ".")+1:]
	var find func(n *yaml.Node) int
	find = func(n *yaml.Node) int {
		for i, c := range n.Content {
			if n.Kind == yaml.MappingNode && i%2 == 0 && c.Value == name {
				return c.Line
			}
			if line := find(c); line > 0 {
				return line
			}
		}
		return 0
	}
	if line := find(doc); line > 0 {
		return fmt.Sprintf("line %d: ", line)
	}
	return ""
}

var typeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]*$`)

// check says what is wrong beyond the shape. Schemas are checked by Compile.
func (t *Type) check() error {
	switch {
	case t.Name == "":
		return fault.Field("name", "is missing; it is the name that commands are sent by")
	case len(t.Name) > wire.MaxCmd || !typeName.MatchString(t.Name):
		return fault.Field("name", "%q is not a name of 1 to %d of A-Z a-z 0-9 . _ : -, beginning with a letter or digit", t.Name, wire.MaxCmd)
	case strings.HasPrefix(t.Name, Reserved):
		return fault.Field("name", "names that begin with %q are the server's own", Reserved)
	case t.Version != 0 || !t.Created.IsZero() || t.By != "":
		return fault.Field("version", "version, created and by are given by the server; leave them out")
	case len(t.Description) > MaxText:
		return fault.Field("description", "is longer than %d bytes", MaxText)
	case len(t.Deprecated) > MaxText:
		return fault.Field("deprecated", "is longer than %d bytes", MaxText)
	case t.Window < 0 || t.Window > maxWindow:
		return fault.Field("window", "%d is not between 0 and %d", t.Window, maxWindow)
	case t.Priority < -MaxPriority || t.Priority > MaxPriority:
		return fault.Field("priority", "%d is not between -%d and %d", t.Priority, MaxPriority, MaxPriority)
	case !slices.Contains([]Reboot{"", RebootFails, RebootExpected}, t.OnReboot):
		return fault.Field("onReboot", "%q is neither %s nor %s", t.OnReboot, RebootFails, RebootExpected)
	case !slices.Contains([]command.Unmet{"", command.Refuse, command.Hold}, t.Unmet):
		return fault.Field("unmet", "%q is neither %s nor %s", t.Unmet, command.Refuse, command.Hold)
	case t.Exclusive != "" && (len(t.Exclusive) > wire.MaxCmd || !typeName.MatchString(t.Exclusive)):
		return fault.Field("exclusive", "%q is not a name", t.Exclusive)
	}
	for _, check := range []func() error{t.checkPolicy, t.checkEffects, t.checkApproval, t.checkAtMost} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// Reserved begins the names of commands that the server makes itself.
const Reserved = "state."

func (t *Type) checkPolicy() error {
	if len(t.Policy) == 0 {
		return nil
	}
	p := command.Defaults
	if err := json.Unmarshal(t.Policy, &p); err != nil {
		return fault.Field("policy", "%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	var pe *command.PolicyError
	if err := p.Check(); errors.As(err, &pe) {
		return fault.Field("policy."+pe.Field, "%s", pe.Text)
	}
	return nil
}

func (t *Type) checkEffects() error {
	if len(t.Effects) > maxEffects {
		return fault.Field("effects", "are more than %d", maxEffects)
	}
	seen := map[string]bool{}
	for i, e := range t.Effects {
		field := "effects." + strconv.Itoa(i)
		if _, err := state.SplitPath(e.Path); err != nil {
			return fault.Field(field+".path", "%s", err.(*state.Error).Text)
		}
		if _, err := state.SplitPath(e.Param); e.Param != "" && err != nil {
			return fault.Field(field+".param", "%s", err.(*state.Error).Text)
		}
		if seen[e.Path] {
			return fault.Field(field+".path", "%q is there twice", e.Path)
		}
		seen[e.Path] = true
	}
	return nil
}

func (t *Type) checkApproval() error {
	a := t.Approval
	switch {
	case a == nil:
	case a.Quorum < 0 || a.Quorum > maxQuorum:
		return fault.Field("approval.quorum", "%d is not between 1 and %d", a.Quorum, maxQuorum)
	case a.Expires < 0:
		return fault.Field("approval.expires", "%s is not a time to come", a.Expires)
	case a.Targets < 0:
		return fault.Field("approval.targets", "%d is not a number of devices", a.Targets)
	}
	return nil
}

func (t *Type) checkAtMost() error {
	m := t.AtMost
	switch {
	case m == nil:
	case m.Count < 1:
		return fault.Field("atMost.count", "%d is not a number from 1", m.Count)
	case m.Of != "" && m.Of != "group" && m.Of != "all" && (!strings.HasPrefix(m.Of, "tag:") || m.Of == "tag:"):
		return fault.Field("atMost.of", `%q is none of group, all, tag:NAME`, m.Of)
	}
	return nil
}

package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/wire/state"
)

// Checked is a type with its schemas compiled.
type Checked struct {
	Type
	params, result *jsonschema.Schema // nil: anything
}

// Compile compiles the schemas of t. A schema is read as JSON Schema 2020-12 unless
// it says otherwise, its formats are asserted, and it may refer to nothing outside
// of itself. Errors are of package fault, code Invalid, field params or result.
func Compile(t Type) (*Checked, error) {
	c := &Checked{Type: t}
	var err error
	if c.params, err = compile("params", t.Params); err != nil {
		return nil, err
	}
	if c.result, err = compile("result", t.Result); err != nil {
		return nil, err
	}
	return c, nil
}

// nothing loads no schema from anywhere: neither files nor the network.
type nothing struct{}

func (nothing) Load(url string) (any, error) {
	return nil, errors.New("refers to something outside of itself")
}

func compile(field string, schema json.RawMessage) (*jsonschema.Schema, error) {
	if len(schema) == 0 {
		return nil, nil
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, fault.Field(field, "is not JSON")
	}
	const here = "https://wilco.invalid/schema.json"
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(nothing{})
	c.AssertFormat()
	if err := c.AddResource(here, doc); err != nil {
		return nil, fault.Field(field, "is not a JSON Schema: %v", err)
	}
	s, err := c.Compile(here)
	if err == nil {
		return s, nil
	}
	var invalid *jsonschema.SchemaValidationError
	if errors.As(err, &invalid) {
		var ve *jsonschema.ValidationError
		if errors.As(invalid.Err, &ve) {
			path, text := first(ve)
			return nil, fault.Field(join(field, path), "is not JSON Schema: %s", text)
		}
	}
	return nil, fault.Field(field, "is not a JSON Schema: %s", strings.ReplaceAll(err.Error(), here, ""))
}

// CheckParams says what is wrong with the parameters of a command: nil, or a fault
// of code Invalid that names the path below field. Raw is valid JSON or empty,
// which stands for {}.
func (c *Checked) CheckParams(field string, raw json.RawMessage) error {
	return validate(c.params, field, raw)
}

// CheckResult does the same for what a device answers.
func (c *Checked) CheckResult(field string, raw json.RawMessage) error {
	if len(raw) == 0 && c.result != nil {
		raw = json.RawMessage("null") // a device that says nothing has not said {}
	}
	return validate(c.result, field, raw)
}

func validate(s *jsonschema.Schema, field string, raw json.RawMessage) error {
	if s == nil {
		return nil
	}
	if len(raw) == 0 {
		raw = json.RawMessage("{}")
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return fault.Field(field, "is not JSON")
	}
	var ve *jsonschema.ValidationError
	if err := s.Validate(v); errors.As(err, &ve) {
		path, text := first(ve)
		return fault.Field(join(field, path), "%s", text)
	} else if err != nil {
		return fault.Field(field, "cannot be checked: %v", err)
	}
	return nil
}

// first is where the first of the innermost violations is, and what it says.
func first(e *jsonschema.ValidationError) (path, text string) {
	for len(e.Causes) > 0 {
		e = e.Causes[0]
	}
	text = "does not fit its schema"
	if out := e.BasicOutput(); out.Error != nil {
		text = out.Error.String()
	}
	if len(e.InstanceLocation) > 0 {
		path = state.JoinPath(e.InstanceLocation...)
	}
	return path, text
}

func join(field, path string) string {
	if path == "" {
		return field
	}
	return field + "." + path
}

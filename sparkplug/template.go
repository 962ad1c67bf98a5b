package sparkplug

import (
	"bytes"
	"slices"
)

// CheckInstance tells whether t is an instance of a definition, and its values
// fit: it has members and parameters of the definition only, each of the type
// that the definition gives it, or of none, which means the same. In a BIRTH an
// instance is whole: it has all members [tck-id-payloads-template-instance-members-birth];
// in DATA it may have some [tck-id-payloads-template-instance-members-data], and
// parameters may be left to the definition [tck-id-payloads-template-instance-parameters].
// That Ref names the definition is for the one who found it. The errors are
// BadShape, and those of [Metric.Check] and [Template.Check].
//
// Members that are templates themselves are checked as [Template.Check] does.
func (t *Template) CheckInstance(definition *Template, whole bool) error {
	if t.Definition || !definition.Definition {
		return &Error{BadShape, "Template: not an instance and a definition"}
	}
	if err := t.Check(); err != nil {
		return err
	}
	for i := range t.Members {
		m := &t.Members[i]
		d := definition.Member(m.Name)
		if d == nil { // [tck-id-payloads-template-instance-members] [tck-id-payloads-template-definition-members]
			return &Error{BadShape, "Template: a member that the definition does not have"}
		}
		if err := m.Check(d.Datatype); err != nil {
			return err
		}
	}
	for i := range t.Parameters {
		p := &t.Parameters[i]
		d := definition.Parameter(p.Name)
		switch {
		case d == nil: // [tck-id-payloads-template-definition-parameters]
			return &Error{BadShape, "Template: a parameter that the definition does not have"}
		case p.Datatype != 0 && p.Datatype != d.Datatype:
			return &Error{BadDatatype, "Template: a parameter has another type in the definition"}
		case p.Value.form == FormNone:
			continue
		}
		if err := p.Value.Check(d.Datatype); err != nil {
			return err
		}
	}
	if !whole {
		return nil
	}
	for i := range definition.Members {
		if t.Member(definition.Members[i].Name) == nil {
			return &Error{BadShape, "Template: a member of the definition is missing"}
		}
	}
	return nil
}

// Member is the member of that name, nil when there is none.
func (t *Template) Member(name []byte) *Metric {
	for i := range t.Members {
		if m := &t.Members[i]; m.Name != nil && bytes.Equal(m.Name, name) {
			return m
		}
	}
	return nil
}

// Parameter is the parameter of that name, nil when there is none.
func (t *Template) Parameter(name []byte) *Parameter {
	for i := range t.Parameters {
		if p := &t.Parameters[i]; bytes.Equal(p.Name, name) {
			return p
		}
	}
	return nil
}

// Metric is the parameter as a metric: its name, datatype and value.
func (p *Parameter) Metric() *Metric {
	return &Metric{Name: p.Name, Datatype: p.Datatype, Value: p.Value, Null: p.Value.form == FormNone}
}

// Over is t, completed by what only old says: members and parameters that t does
// not have. DATA and commands may have a part of an instance
// [tck-id-payloads-template-instance-members-data]. It is t itself when nothing is
// missing, or old is nil or of another definition; else a new Template that borrows
// from both, in the order of old.
func (t *Template) Over(old *Template) *Template {
	if old == nil || t.Definition || old.Definition || !bytes.Equal(t.Ref, old.Ref) {
		return t
	}
	out := *t
	out.Members, out.Parameters = slices.Clone(old.Members), slices.Clone(old.Parameters)
	if out.Version == nil {
		out.Version = old.Version
	}
	// The work grows with what both have, and no faster: an instance may fill a payload.
	members, said := make(map[string]int, len(out.Members)), make([]bool, len(out.Members))
	for i := range out.Members {
		note(members, out.Members[i].Name, i)
	}
	for _, m := range t.Members {
		i, ok := members[string(m.Name)]
		if !ok {
			note(members, m.Name, len(out.Members))
			out.Members = append(out.Members, m)
			continue
		}
		if i < len(said) && !said[i] { // completed once, however often it is there
			if was := out.Members[i].Template; m.Template != nil && was != nil {
				m.Template = m.Template.Over(was)
			}
			said[i] = true
		}
		out.Members[i] = m
	}
	parameters := make(map[string]int, len(out.Parameters))
	for i := range out.Parameters {
		note(parameters, out.Parameters[i].Name, i)
	}
	for _, p := range t.Parameters {
		if i, ok := parameters[string(p.Name)]; ok {
			out.Parameters[i] = p
			continue
		}
		note(parameters, p.Name, len(out.Parameters))
		out.Parameters = append(out.Parameters, p)
	}
	return &out
}

// note keeps the place of a name, of two alike that of the first.
func note(places map[string]int, name []byte, i int) {
	if _, twice := places[string(name)]; !twice {
		places[string(name)] = i
	}
}

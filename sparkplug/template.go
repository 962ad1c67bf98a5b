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
	if out.Version == nil {
		out.Version = old.Version
	}
	out.Members = overlay(old.Members, t.Members, func(m *Metric) []byte { return m.Name }, func(m, was *Metric) {
		if m.Template != nil && was.Template != nil {
			m.Template = m.Template.Over(was.Template)
		}
	})
	out.Parameters = overlay(old.Parameters, t.Parameters, func(p *Parameter) []byte { return p.Name }, func(_, _ *Parameter) {})
	return &out
}

// overlay is old with the things of part in the places of those of the same names, and
// behind them the new ones. complete may fill a thing of part from the one that it takes
// the place of. Of two alike, the first of old and the last of part count, so that the
// work grows with what both have and no faster: either may fill a payload.
func overlay[T any](old, part []T, name func(*T) []byte, complete func(x, was *T)) []T {
	last := make(map[string]int, len(part))
	for i := range part {
		last[string(name(&part[i]))] = i
	}
	out := slices.Clone(old)
	for i := range out {
		if j, ok := last[string(name(&out[i]))]; ok {
			delete(last, string(name(&out[i])))
			x := part[j]
			complete(&x, &out[i])
			out[i] = x
		}
	}
	for i := range part {
		if j, ok := last[string(name(&part[i]))]; ok && i == j {
			out = append(out, part[i])
		}
	}
	return out
}

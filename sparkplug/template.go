package sparkplug

import "bytes"

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
		d := definition.member(m.Name)
		if d == nil { // [tck-id-payloads-template-instance-members] [tck-id-payloads-template-definition-members]
			return &Error{BadShape, "Template: a member that the definition does not have"}
		}
		if err := m.Check(d.Datatype); err != nil {
			return err
		}
	}
	for i := range t.Parameters {
		p := &t.Parameters[i]
		d := definition.parameter(p.Name)
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
		if t.member(definition.Members[i].Name) == nil {
			return &Error{BadShape, "Template: a member of the definition is missing"}
		}
	}
	return nil
}

func (t *Template) member(name []byte) *Metric {
	for i := range t.Members {
		if m := &t.Members[i]; m.Name != nil && bytes.Equal(m.Name, name) {
			return m
		}
	}
	return nil
}

func (t *Template) parameter(name []byte) *Parameter {
	for i := range t.Parameters {
		if p := &t.Parameters[i]; bytes.Equal(p.Name, name) {
			return p
		}
	}
	return nil
}

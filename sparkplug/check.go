package sparkplug

import "unicode/utf8"

// Check tells whether the metric makes sense: a datatype that a metric may
// have, and a value that fits it, down to the last cell and member. birth is
// the datatype in the metric's BIRTH, 0 when that is not known; a metric that
// names another is refused. A metric that is Null has no value to check. The
// errors are of Code BadDatatype, Mismatch, OutOfRange, BadText and BadShape,
// and those of arrays.
//
// [tck-id-operational-behavior-data-commands-ncmd-metric-value]
// [tck-id-operational-behavior-data-commands-dcmd-metric-value]
func (m *Metric) Check(birth Datatype) error {
	d := m.Datatype
	switch {
	case d == 0:
		d = birth
	case birth != 0 && birth != d:
		return &Error{BadDatatype, "the metric says " + d.String() + ", its BIRTH " + birth.String()}
	}
	switch {
	case !d.Valid() || d == TypePropertySet || d == TypePropertySetList:
		return &Error{BadDatatype, d.String() + " is not for metrics"}
	case !utf8.Valid(m.Name):
		return &Error{BadText, "name of a metric: not UTF-8"}
	}
	if err := m.Properties.Check(); err != nil {
		return err
	}
	switch {
	case m.Null:
		return nil
	case m.DataSet != nil:
		if d != TypeDataSet {
			return &Error{Mismatch, "a DataSet where " + d.String() + " belongs"}
		}
		return m.DataSet.Check()
	case m.Template != nil:
		if d != TypeTemplate {
			return &Error{Mismatch, "a Template where " + d.String() + " belongs"}
		}
		return m.Template.Check()
	}
	return m.Value.Check(d)
}

// Check tells whether there is a type and a name for each column, only basic
// types, and a row has a cell of its type in each column. A cell may have no
// value. The errors are of Code BadShape, BadDatatype and those of
// [Value.Check].
func (s *DataSet) Check() error {
	// [tck-id-payloads-dataset-column-num-headers] [tck-id-payloads-dataset-types-num]
	// [tck-id-payloads-dataset-parameter-type-req]
	if len(s.Types) != len(s.Columns) || s.NumColumns != uint64(len(s.Columns)) {
		return &Error{BadShape, "DataSet: columns, types and their number do not agree"}
	}
	for i, t := range s.Types {
		if !t.Basic() { // [tck-id-payloads-dataset-types-value]
			return &Error{BadDatatype, "DataSet: " + t.String() + " is not for columns"}
		}
		if !utf8.Valid(s.Columns[i]) {
			return &Error{BadText, "DataSet: name of a column is not UTF-8"}
		}
	}
	for _, row := range s.Rows {
		if len(row) != len(s.Types) {
			return &Error{BadShape, "DataSet: a row is not as wide as the columns"}
		}
		for i, v := range row {
			if v.form == FormNone {
				continue
			}
			if err := v.Check(s.Types[i]); err != nil { // [tck-id-payloads-template-dataset-value]
				return err
			}
		}
	}
	return nil
}

// Check tells whether parameters have names and basic types, and parameters and
// members values that fit. A parameter may have no value. A member without a
// datatype is left to its definition. The errors are those of [Metric.Check],
// and Missing.
func (t *Template) Check() error {
	for i := range t.Parameters {
		p := &t.Parameters[i]
		switch {
		case p.Name == nil: // [tck-id-payloads-template-parameter-name-required]
			return &Error{Missing, "Template: a parameter without a name"}
		case !utf8.Valid(p.Name):
			return &Error{BadText, "Template: name of a parameter is not UTF-8"}
		case p.Datatype == 0 || p.Value.form == FormNone:
			continue
		case !p.Datatype.Basic(): // [tck-id-payloads-template-parameter-type-value]
			return &Error{BadDatatype, "Template: " + p.Datatype.String() + " is not for parameters"}
		}
		if err := p.Value.Check(p.Datatype); err != nil { // [tck-id-payloads-template-parameter-value]
			return err
		}
	}
	for i := range t.Members {
		m := &t.Members[i]
		// In a definition a member may say no more than its type.
		if m.Datatype == 0 || t.Definition && m.Value.form == FormNone && m.DataSet == nil && m.Template == nil {
			continue
		}
		if err := m.Check(0); err != nil {
			return err
		}
	}
	return nil
}

// Check tells whether each key has a value, and each value that names its type
// fits it. A nil set is fine. The errors are of Code BadShape, BadDatatype and
// those of [Value.Check].
func (s *PropertySet) Check() error {
	if s == nil {
		return nil
	}
	// [tck-id-payloads-propertyset-keys-array-size] [tck-id-payloads-propertyset-values-array-size]
	if len(s.Keys) != len(s.Values) {
		return &Error{BadShape, "PropertySet: not as many values as keys"}
	}
	for i := range s.Values {
		if !utf8.Valid(s.Keys[i]) {
			return &Error{BadText, "PropertySet: a key is not UTF-8"}
		}
		if err := s.Values[i].check(); err != nil {
			return err
		}
	}
	return nil
}

func (v *PropertyValue) check() error {
	d := v.Datatype
	switch {
	// [tck-id-payloads-metric-propertyvalue-type-value]
	case d != 0 && !d.Basic() && d != TypePropertySet && d != TypePropertySetList:
		return &Error{BadDatatype, "PropertySet: " + d.String() + " is not for properties"}
	case v.Null:
		return nil
	case v.Set != nil:
		if d != 0 && d != TypePropertySet {
			return &Error{Mismatch, "a PropertySet where " + d.String() + " belongs"}
		}
		return v.Set.Check()
	case v.List != nil:
		if d != 0 && d != TypePropertySetList {
			return &Error{Mismatch, "a PropertySetList where " + d.String() + " belongs"}
		}
		for i := range v.List.Sets {
			if err := v.List.Sets[i].Check(); err != nil {
				return err
			}
		}
		return nil
	case d == 0:
		return nil
	}
	return v.Value.Check(d)
}

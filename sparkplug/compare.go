package sparkplug

import "bytes"

// Equal tells whether a and b, read as type d, are the same value, however
// each was written: numbers by their value in d, so that both zeros of a float
// are equal and NaN is equal to NaN; UUIDs without regard to letter case; all
// else byte by byte. What is no value of d equals nothing, not even itself.
//
// To compare with what a device will say, make the value with the constructors:
// [NewFloat] rounds a Float as the device's 32 bits do, [NewInt] refuses what
// the width cannot hold, [NewTime] cuts to milliseconds.
func Equal(d Datatype, a, b Value) bool {
	if a.Check(d) != nil || b.Check(d) != nil {
		return false
	}
	switch d.trait().kind {
	case kindInt:
		x, _ := a.Int(d)
		y, _ := b.Int(d)
		return x == y
	case kindFloat:
		x, _ := a.Float(d)
		y, _ := b.Float(d)
		return sameFloat(x, y)
	case kindUint, kindBool:
		return a.bits == b.bits
	case kindText:
		return bytes.Equal(a.data, b.data) || d == TypeUUID && bytes.EqualFold(a.data, b.data)
	case kindArray:
		return sameArray(a, b, d)
	}
	return bytes.Equal(a.data, b.data)
}

func sameFloat(x, y float64) bool { return x == y || x != x && y != y }

func sameArray(a, b Value, d Datatype) bool {
	x, _ := a.Array(d)
	y, _ := b.Array(d)
	if x.n != y.n {
		return false
	}
	for i := range x.n {
		switch d {
		case TypeFloatArray, TypeDoubleArray:
			if !sameFloat(x.Float(i), y.Float(i)) {
				return false
			}
		case TypeBooleanArray: // the bits after the last say nothing
			if x.Bool(i) != y.Bool(i) {
				return false
			}
		default:
			return bytes.Equal(x.data, y.data)
		}
	}
	return true
}

// Holds tells whether m, of type d, has the value that want has: what a device
// says, and what was asked of it. With d 0 it is the type that either of them
// names, and two that differ are a no. Null is equal to null. The columns, types
// and cells of a DataSet are equal in order; of a Template all members and
// parameters of want are in m, by their names, and hold that.
func (m *Metric) Holds(want *Metric, d Datatype) bool {
	if d == 0 {
		d = max(m.Datatype, want.Datatype)
		if low := min(m.Datatype, want.Datatype); low != 0 && low != d {
			return false
		}
	}
	switch {
	case m.Null || want.Null:
		return m.Null && want.Null
	case d == TypeDataSet:
		return m.DataSet != nil && want.DataSet != nil && m.DataSet.equal(want.DataSet)
	case d == TypeTemplate:
		return m.Template != nil && want.Template != nil && m.Template.holds(want.Template)
	}
	return m.DataSet == nil && m.Template == nil && want.DataSet == nil && want.Template == nil &&
		Equal(d, m.Value, want.Value)
}

func (s *DataSet) equal(t *DataSet) bool {
	if s.Check() != nil || t.Check() != nil || len(s.Columns) != len(t.Columns) || len(s.Rows) != len(t.Rows) {
		return false
	}
	for i := range s.Columns {
		if s.Types[i] != t.Types[i] || !bytes.Equal(s.Columns[i], t.Columns[i]) {
			return false
		}
	}
	for r := range s.Rows {
		for c, v := range s.Rows[r] {
			w := t.Rows[r][c]
			none := v.form == FormNone && w.form == FormNone
			if !none && !Equal(s.Types[c], v, w) {
				return false
			}
		}
	}
	return true
}

func (t *Template) holds(want *Template) bool {
	if !bytes.Equal(t.Ref, want.Ref) {
		return false
	}
	for i := range want.Members {
		if m := t.Member(want.Members[i].Name); m == nil || !m.Holds(&want.Members[i], 0) {
			return false
		}
	}
	for i := range want.Parameters {
		p := t.Parameter(want.Parameters[i].Name)
		if p == nil || !p.Metric().Holds(want.Parameters[i].Metric(), 0) {
			return false
		}
	}
	return true
}

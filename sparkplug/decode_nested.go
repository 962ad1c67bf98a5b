package sparkplug

func (d *decoder) metaData(b []byte, m *MetaData) {
	for i := 0; i < len(b) && d.err == nil; {
		var tag uint64
		tag, i = d.uvarint(b, i)
		switch tag {
		case 1<<3 | varint:
			m.MultiPart, i = d.bool(b, i)
		case 2<<3 | block:
			m.ContentType, i = d.bytes(b, i)
		case 3<<3 | varint:
			m.Size, i = d.uvarint(b, i)
		case 4<<3 | varint:
			m.Seq, i = d.uvarint(b, i)
		case 5<<3 | block:
			m.FileName, i = d.bytes(b, i)
		case 6<<3 | block:
			m.FileType, i = d.bytes(b, i)
		case 7<<3 | block:
			m.MD5, i = d.bytes(b, i)
		case 8<<3 | block:
			m.Description, i = d.bytes(b, i)
		default:
			i = d.skip(tag, b, i)
		}
	}
}

func (d *decoder) propertySet(b []byte, s *PropertySet) {
	if !d.enter() {
		return
	}
	defer d.leave()
	for i := 0; i < len(b) && d.err == nil; {
		var tag uint64
		var inner []byte
		tag, i = d.uvarint(b, i)
		switch tag {
		case 1<<3 | block:
			inner, i = d.bytes(b, i)
			if d.one() {
				s.Keys = append(s.Keys, inner)
			}
		case 2<<3 | block:
			inner, i = d.bytes(b, i)
			if d.one() {
				s.Values = more(s.Values)
				d.propertyValue(inner, &s.Values[len(s.Values)-1])
			}
		default:
			i = d.skip(tag, b, i)
		}
	}
}

func (d *decoder) propertyValue(b []byte, v *PropertyValue) {
	*v = PropertyValue{}
	for i := 0; i < len(b) && d.err == nil; {
		var tag uint64
		var inner []byte
		tag, i = d.uvarint(b, i)
		switch tag {
		case 1<<3 | varint:
			v.Datatype, i = d.datatype(b, i)
		case 2<<3 | varint:
			v.Null, i = d.bool(b, i)
		case 9<<3 | block:
			inner, i = d.bytes(b, i)
			v.Value, v.List = Value{}, nil
			if v.Set == nil {
				v.Set = d.newSet()
			}
			d.propertySet(inner, v.Set)
		case 10<<3 | block:
			inner, i = d.bytes(b, i)
			v.Value, v.Set = Value{}, nil
			if v.List == nil {
				v.List = d.newList()
			}
			d.propertySetList(inner, v.List)
		case 11<<3 | block: // extension_value
			_, i = d.bytes(b, i)
			v.Value, v.Set, v.List = Value{}, nil, nil
		default:
			var ok bool
			if i, ok = d.value(tag, 3, b, i, &v.Value); ok {
				v.Set, v.List = nil, nil
			} else {
				i = d.skip(tag, b, i)
			}
		}
	}
}

func (d *decoder) propertySetList(b []byte, l *PropertySetList) {
	if !d.enter() {
		return
	}
	defer d.leave()
	for i := 0; i < len(b) && d.err == nil; {
		var tag uint64
		var inner []byte
		tag, i = d.uvarint(b, i)
		if tag != 1<<3|block {
			i = d.skip(tag, b, i)
			continue
		}
		inner, i = d.bytes(b, i)
		if d.one() {
			l.Sets = more(l.Sets)
			set := &l.Sets[len(l.Sets)-1]
			set.reset()
			d.propertySet(inner, set)
		}
	}
}

func (d *decoder) dataSet(b []byte, s *DataSet) {
	for i := 0; i < len(b) && d.err == nil; {
		var tag uint64
		var inner []byte
		tag, i = d.uvarint(b, i)
		switch tag {
		case 1<<3 | varint:
			s.NumColumns, i = d.uvarint(b, i)
		case 2<<3 | block:
			inner, i = d.bytes(b, i)
			if d.one() {
				s.Columns = append(s.Columns, inner)
			}
		case 3<<3 | varint:
			var t Datatype
			t, i = d.datatype(b, i)
			if d.one() {
				s.Types = append(s.Types, t)
			}
		case 3<<3 | block: // packed, as proto3 writers have it
			inner, i = d.bytes(b, i)
			d.packedTypes(inner, s)
		case 4<<3 | block:
			inner, i = d.bytes(b, i)
			if d.one() {
				s.Rows = more(s.Rows)
				row := &s.Rows[len(s.Rows)-1]
				*row = (*row)[:0]
				d.row(inner, row)
			}
		default:
			i = d.skip(tag, b, i)
		}
	}
}

func (d *decoder) packedTypes(b []byte, s *DataSet) {
	for i := 0; i < len(b) && d.err == nil; {
		var t Datatype
		t, i = d.datatype(b, i)
		if d.one() {
			s.Types = append(s.Types, t)
		}
	}
}

func (d *decoder) row(b []byte, row *[]Value) {
	for i := 0; i < len(b) && d.err == nil; {
		var tag uint64
		var inner []byte
		tag, i = d.uvarint(b, i)
		if tag != 1<<3|block {
			i = d.skip(tag, b, i)
			continue
		}
		inner, i = d.bytes(b, i)
		if d.one() {
			*row = more(*row)
			d.cell(inner, &(*row)[len(*row)-1])
		}
	}
}

func (d *decoder) cell(b []byte, v *Value) {
	*v = Value{}
	for i := 0; i < len(b) && d.err == nil; {
		var tag uint64
		tag, i = d.uvarint(b, i)
		i = d.onlyValue(tag, 1, b, i, v)
	}
}

// onlyValue reads a field of a message whose oneof ends with extension_value,
// or skips it.
func (d *decoder) onlyValue(tag, first uint64, b []byte, i int, v *Value) int {
	if tag == (first+6)<<3|block { // extension_value
		_, i = d.bytes(b, i)
		*v = Value{}
		return i
	}
	next, ok := d.value(tag, first, b, i, v)
	if !ok {
		return d.skip(tag, b, i)
	}
	return next
}

func (d *decoder) template(b []byte, t *Template) {
	if !d.enter() {
		return
	}
	defer d.leave()
	for i := 0; i < len(b) && d.err == nil; {
		var tag uint64
		var inner []byte
		tag, i = d.uvarint(b, i)
		switch tag {
		case 1<<3 | block:
			t.Version, i = d.bytes(b, i)
		case 2<<3 | block:
			inner, i = d.bytes(b, i)
			if d.one() {
				t.Members = more(t.Members)
				d.newMetric(inner, &t.Members[len(t.Members)-1])
			}
		case 3<<3 | block:
			inner, i = d.bytes(b, i)
			if d.one() {
				t.Parameters = more(t.Parameters)
				d.parameter(inner, &t.Parameters[len(t.Parameters)-1])
			}
		case 4<<3 | block:
			t.Ref, i = d.bytes(b, i)
		case 5<<3 | varint:
			t.Definition, i = d.bool(b, i)
		default:
			i = d.skip(tag, b, i)
		}
	}
}

func (d *decoder) parameter(b []byte, p *Parameter) {
	*p = Parameter{}
	for i := 0; i < len(b) && d.err == nil; {
		var tag uint64
		tag, i = d.uvarint(b, i)
		switch tag {
		case 1<<3 | block:
			p.Name, i = d.bytes(b, i)
		case 2<<3 | varint:
			p.Datatype, i = d.datatype(b, i)
		default:
			i = d.onlyValue(tag, 3, b, i, &p.Value)
		}
	}
}

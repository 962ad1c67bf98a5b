package sparkplug

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// Append appends p to dst: fields in rising order, what is absent left out. It
// writes what it is given, right or wrong, see [Violations]. Nothing but
// growth of dst allocates. Nested messages must not contain themselves.
func (p *Payload) Append(dst []byte) []byte {
	if p.HasTimestamp {
		dst = appendUint(dst, 1, p.Timestamp)
	}
	for i := range p.Metrics {
		var at int
		dst, at = open(dst, 2)
		dst = shut(p.Metrics[i].append(dst), at)
	}
	if p.HasSeq {
		dst = appendUint(dst, 3, p.Seq)
	}
	dst = appendBytes(dst, 4, p.UUID)
	return appendBytes(dst, 5, p.Body)
}

// open begins a message within a message. Its length is not known yet; one
// byte is left for it, which is enough for most.
func open(dst []byte, field protowire.Number) ([]byte, int) {
	dst = protowire.AppendTag(dst, field, protowire.BytesType)
	return append(dst, 0), len(dst)
}

// shut writes the length of the message that was opened at, and makes room
// for it when it needs more than a byte.
func shut(dst []byte, at int) []byte {
	n := len(dst) - at - 1
	if n < 0x80 {
		dst[at] = byte(n)
		return dst
	}
	var room [8]byte
	extra := protowire.SizeVarint(uint64(n)) - 1
	dst = append(dst, room[:extra]...)
	copy(dst[at+1+extra:], dst[at+1:at+1+n])
	protowire.AppendVarint(dst[:at], uint64(n))
	return dst
}

func appendUint(dst []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), v)
}

// appendBytes leaves out what is nil, and writes what is empty.
func appendBytes(dst []byte, field protowire.Number, b []byte) []byte {
	if b == nil {
		return dst
	}
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), b)
}

// appendSome leaves out 0, which is what absence means.
func appendSome(dst []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return appendUint(dst, field, v)
}

// appendTrue leaves out false, which is what absence means.
func appendTrue(dst []byte, field protowire.Number, v bool) []byte {
	if !v {
		return dst
	}
	return appendUint(dst, field, 1)
}

// append writes v as one of the fields of a oneof that begins with first.
func (v Value) append(dst []byte, first protowire.Number) []byte {
	switch v.form {
	case FormInt:
		return appendUint(dst, first, v.bits)
	case FormLong:
		return appendUint(dst, first+1, v.bits)
	case FormFloat:
		return protowire.AppendFixed32(protowire.AppendTag(dst, first+2, protowire.Fixed32Type), uint32(v.bits))
	case FormDouble:
		return protowire.AppendFixed64(protowire.AppendTag(dst, first+3, protowire.Fixed64Type), v.bits)
	case FormBool:
		return appendUint(dst, first+4, v.bits)
	case FormString, FormBytes: // also when empty: an empty text is a value
		field := first + 5
		if v.form == FormBytes {
			field++
		}
		return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), v.data)
	}
	return dst
}

func (m *Metric) append(dst []byte) []byte {
	dst = appendBytes(dst, 1, m.Name)
	if m.HasAlias {
		dst = appendUint(dst, 2, m.Alias)
	}
	if m.HasTimestamp {
		dst = appendUint(dst, 3, m.Timestamp)
	}
	dst = appendSome(dst, 4, uint64(m.Datatype))
	dst = appendTrue(dst, 5, m.Historical)
	dst = appendTrue(dst, 6, m.Transient)
	dst = appendTrue(dst, 7, m.Null)
	var at int
	if m.Meta != nil {
		dst, at = open(dst, 8)
		dst = shut(m.Meta.append(dst), at)
	}
	if m.Properties != nil {
		dst, at = open(dst, 9)
		dst = shut(m.Properties.append(dst), at)
	}
	switch {
	case m.DataSet != nil:
		dst, at = open(dst, 17)
		return shut(m.DataSet.append(dst), at)
	case m.Template != nil:
		dst, at = open(dst, 18)
		return shut(m.Template.append(dst), at)
	}
	return m.Value.append(dst, 10)
}

func (m *MetaData) append(dst []byte) []byte {
	dst = appendTrue(dst, 1, m.MultiPart)
	dst = appendBytes(dst, 2, m.ContentType)
	dst = appendSome(dst, 3, m.Size)
	dst = appendSome(dst, 4, m.Seq)
	dst = appendBytes(dst, 5, m.FileName)
	dst = appendBytes(dst, 6, m.FileType)
	dst = appendBytes(dst, 7, m.MD5)
	return appendBytes(dst, 8, m.Description)
}

func (s *PropertySet) append(dst []byte) []byte {
	dst = appendList(dst, 1, s.Keys)
	for i := range s.Values {
		var at int
		dst, at = open(dst, 2)
		dst = shut(s.Values[i].append(dst), at)
	}
	return dst
}

// appendList writes texts that are there, nil or not.
func appendList(dst []byte, field protowire.Number, list [][]byte) []byte {
	for _, b := range list {
		dst = protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), b)
	}
	return dst
}

func (v *PropertyValue) append(dst []byte) []byte {
	dst = appendSome(dst, 1, uint64(v.Datatype)) // [tck-id-payloads-metric-propertyvalue-type-type]
	dst = appendTrue(dst, 2, v.Null)
	var at int
	switch {
	case v.Set != nil:
		dst, at = open(dst, 9)
		return shut(v.Set.append(dst), at)
	case v.List != nil:
		dst, at = open(dst, 10)
		for i := range v.List.Sets {
			var set int
			dst, set = open(dst, 1)
			dst = shut(v.List.Sets[i].append(dst), set)
		}
		return shut(dst, at)
	}
	return v.Value.append(dst, 3)
}

func (s *DataSet) append(dst []byte) []byte {
	dst = appendUint(dst, 1, s.NumColumns) // [tck-id-payloads-dataset-column-size]
	dst = appendList(dst, 2, s.Columns)
	for _, t := range s.Types { // one by one, as proto2 has it [tck-id-payloads-dataset-types-def] [tck-id-payloads-dataset-types-type]
		dst = appendUint(dst, 3, uint64(t))
	}
	for _, row := range s.Rows {
		var at int
		dst, at = open(dst, 4)
		for _, v := range row {
			var cell int
			dst, cell = open(dst, 1)
			dst = shut(v.append(dst, 1), cell)
		}
		dst = shut(dst, at)
	}
	return dst
}

func (t *Template) append(dst []byte) []byte {
	var at int
	dst = appendBytes(dst, 1, t.Version) // [tck-id-payloads-template-version]
	for i := range t.Members {
		dst, at = open(dst, 2)
		dst = shut(t.Members[i].append(dst), at)
	}
	for i := range t.Parameters {
		p := &t.Parameters[i]
		dst, at = open(dst, 3)
		dst = appendBytes(dst, 1, p.Name)            // [tck-id-payloads-template-parameter-name-type]
		dst = appendSome(dst, 2, uint64(p.Datatype)) // [tck-id-payloads-template-parameter-value-type]
		dst = shut(p.Value.append(dst, 3), at)
	}
	dst = appendBytes(dst, 4, t.Ref)
	// Also when false [tck-id-payloads-template-is-definition]
	// [tck-id-payloads-template-is-definition-definition] [tck-id-payloads-template-is-definition-instance]
	// [tck-id-payloads-template-definition-is-definition] [tck-id-payloads-template-instance-is-definition].
	return appendUint(dst, 5, protowire.EncodeBool(t.Definition))
}

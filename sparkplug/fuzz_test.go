package sparkplug

import (
	"bytes"
	"errors"
	"testing"
)

// ours fails when err is neither nil nor an *Error with a code.
func ours(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if err != nil && (!errors.As(err, &e) || e.Code == 0 || codeNames[e.Code] == "") {
		t.Fatalf("refused with %#v", err)
	}
}

// FuzzDecode: no bytes panic, every refusal has a code, what is accepted comes
// out the same after it was written and read again, and it does not matter
// what the payload was before.
func FuzzDecode(f *testing.F) {
	for _, g := range goldens {
		f.Add(g.wire, goldens[len(goldens)-2].wire)
	}
	for _, w := range oddWires {
		f.Add(w, goldens[9].wire)
	}
	f.Fuzz(func(t *testing.T, wire, before []byte) {
		var p, q Payload
		_ = q.Decode(before, Limits{})
		err := p.Decode(wire, Limits{})
		ours(t, err)
		if again := q.Decode(wire, Limits{}); (again == nil) != (err == nil) {
			t.Fatalf("%v, and in used memory %v", err, again)
		}
		h, peeked := Peek(wire)
		ours(t, peeked)
		if err != nil {
			return
		}
		if !same(&p, &q) {
			t.Fatalf("\n%+v, and in used memory\n%+v", p, q)
		}
		if peeked != nil || h != (Header{p.Timestamp, p.Seq, p.HasTimestamp, p.HasSeq, p.Compressed()}) {
			t.Fatalf("Peek says %+v, %v", h, peeked)
		}
		first := p.Append(nil)
		if err := q.Decode(first, Limits{}); err != nil || !same(&p, &q) {
			t.Fatalf("\n%+v was written, and read as\n%+v, %v", p, q, err)
		}
		if second := q.Append(nil); !bytes.Equal(first, second) {
			t.Fatalf("written as\n% x, then as\n% x", first, second)
		}
		readAll(t, &p)
	})
}

// readAll asks p everything.
func readAll(t *testing.T, p *Payload) {
	for i := range p.Metrics {
		m := &p.Metrics[i]
		for d := range TypeDateTimeArray + 2 {
			err := m.Check(d)
			ours(t, err)
			if d == m.Datatype && err == nil && !m.Holds(m, d) && m.Template == nil {
				t.Fatalf("%+v is valid and not equal to itself", m)
			}
			ours(t, m.Value.Check(d))
			a, err := m.Value.Array(d)
			ours(t, err)
			for j := range a.Len() {
				switch d {
				case TypeFloatArray, TypeDoubleArray:
					a.Float(j)
				case TypeBooleanArray:
					a.Bool(j)
				case TypeStringArray:
				default:
					a.Int(j)
				}
			}
			n := 0
			for range a.Texts() {
				n++
			}
			if d == TypeStringArray && n != a.Len() {
				t.Fatalf("%d texts of %d", n, a.Len())
			}
		}
	}
	_, err := p.BdSeq()
	ours(t, err)
	for _, kind := range []MessageType{NBirth, NDeath, DBirth, DDeath, NData, DData, NCmd, DCmd, State, 0, 99} {
		for v := range Violations(kind, p) {
			if v.Metric < -1 || v.Metric >= len(p.Metrics) || v.Statement == "" {
				t.Fatalf("%+v", v)
			}
		}
	}
}

// FuzzTopic: what is accepted is written as it was, and Check agrees.
func FuzzTopic(f *testing.F) {
	for _, s := range []string{"spBv1.0/g/NBIRTH/n", "spBv1.0/g/DDATA/n/d", "spBv1.0/STATE/h", "STATE/h", "spBv1.0/STATE/NDATA/n", "spBv1.0//NDATA/n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		topic, err := ParseTopic(s)
		ours(t, err)
		if err != nil {
			return
		}
		if again, err := topic.Append([]byte("x")); err != nil || string(again) != "x"+s || topic.String() != s {
			t.Fatalf("%q became %q, %v", s, again, err)
		}
	})
}

// FuzzState: what is accepted means the same when it was written again.
func FuzzState(f *testing.F) {
	for _, s := range []string{"ONLINE", "OFFLINE", `{"online":true,"timestamp":1}`, `{"timestamp":1,"online":false,"x":{}}`, ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseState(b)
		ours(t, err)
		if err != nil {
			return
		}
		if again, err := ParseState(s.Append(nil)); err != nil || again != s {
			t.Fatalf("%s: %+v became %+v, %v", b, s, again, err)
		}
	})
}

// FuzzInflate: no body panics or grows beyond the limits, and an Inflater that
// has seen it still works.
func FuzzInflate(f *testing.F) {
	p := tenDoubles()
	for _, a := range []string{AlgorithmDeflate, AlgorithmGzip} {
		f.Add(must(p.AppendCompressed(nil, a)))
	}
	f.Add(msg(4, []byte(CompressedUUID)))
	good := must(p.AppendCompressed(nil, AlgorithmGzip))
	f.Fuzz(func(t *testing.T, wire []byte) {
		var z Inflater
		var q Payload
		limits := Limits{Bytes: 1 << 20}
		ours(t, z.Decode(wire, &q, limits))
		if z.buffer.Len() > limits.Bytes+1 {
			t.Fatalf("%d bytes", z.buffer.Len())
		}
		if err := z.Decode(good, &q, Limits{}); err != nil || !same(p, &q) {
			t.Fatalf("after it %v, %+v", err, q)
		}
	})
}

package sparkplug

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// Shows [tck-id-payloads-template-instance-members] [tck-id-payloads-template-instance-members-birth]
// [tck-id-payloads-template-instance-members-data] [tck-id-payloads-template-instance-parameters]
// [tck-id-payloads-template-definition-members] [tck-id-payloads-template-definition-parameters].
func TestCheckInstance(t *testing.T) {
	one, word := must(NewInt(TypeInt8, 1)), NewText([]byte("w"))
	a := func(d Datatype, v Value) Metric { return Metric{Name: []byte("a"), Datatype: d, Value: v} }
	b := Metric{Name: []byte("b"), Null: true}
	par := func(name string, d Datatype, v Value) []Parameter {
		return []Parameter{{Name: []byte(name), Datatype: d, Value: v}}
	}
	definition := &Template{Definition: true, Members: []Metric{a(TypeInt8, Value{}), {Name: []byte("b"), Datatype: TypeString}},
		Parameters: par("p", TypeInt8, one)}
	for name, c := range map[string]struct {
		t     Template
		whole bool
		code  Code
	}{
		"whole":                     {Template{Members: []Metric{b, a(TypeInt8, one)}, Parameters: par("p", TypeInt8, one)}, true, 0},
		"of no types":               {Template{Members: []Metric{b, a(0, one)}, Parameters: par("p", 0, one)}, true, 0},
		"a part":                    {Template{Members: []Metric{a(0, one)}}, false, 0},
		"a part where all should":   {Template{Members: []Metric{a(0, one)}}, true, BadShape},
		"nothing":                   {Template{}, false, 0},
		"another member":            {Template{Members: []Metric{{Name: []byte("c"), Value: one}}}, false, BadShape},
		"a member of no name":       {Template{Members: []Metric{{Value: one}}}, false, BadShape},
		"a member's type":           {Template{Members: []Metric{a(TypeInt16, one)}}, false, BadDatatype},
		"a member's value":          {Template{Members: []Metric{a(0, word)}}, false, Mismatch},
		"another parameter":         {Template{Parameters: par("q", TypeInt8, one)}, false, BadShape},
		"a parameter's type":        {Template{Parameters: par("p", TypeInt16, one)}, false, BadDatatype},
		"a parameter's value":       {Template{Parameters: par("p", 0, word)}, false, Mismatch},
		"a parameter left out":      {Template{Parameters: par("p", 0, Value{})}, false, 0},
		"wrong by itself":           {Template{Parameters: []Parameter{{}}}, false, Missing},
		"a definition of its own":   {Template{Definition: true}, false, BadShape},
		"a member that is a number": {Template{Members: []Metric{{Name: []byte("a"), Template: &Template{}}}}, false, Mismatch},
	} {
		if err := c.t.CheckInstance(definition, c.whole); code(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := new(Template).CheckInstance(&Template{}, false); code(err) != BadShape {
		t.Error("of an instance:", err)
	}
}

// TestOver: a part takes the place of what it names, at any depth, and of nothing else.
func TestOver(t *testing.T) {
	num := func(name string, x int64) Metric {
		return Metric{Name: []byte(name), Datatype: TypeInt8, Value: must(NewInt(TypeInt8, x))}
	}
	of := func(ref string, members ...Metric) *Template { return &Template{Ref: []byte(ref), Members: members} }
	in := func(name string, x *Template) Metric {
		return Metric{Name: []byte(name), Datatype: TypeTemplate, Template: x}
	}
	old := of("r", num("a", 1), num("b", 2), in("c", of("s", num("x", 3), num("y", 4))))
	old.Parameters = []Parameter{{Name: []byte("p"), Datatype: TypeInt8, Value: must(NewInt(TypeInt8, 5))}}
	for name, c := range map[string]struct{ part, want *Template }{
		"a member":        {of("r", num("b", 7)), of("r", num("a", 1), num("b", 7), in("c", of("s", num("x", 3), num("y", 4))))},
		"one within":      {of("r", in("c", of("s", num("y", 7)))), of("r", num("a", 1), num("b", 2), in("c", of("s", num("x", 3), num("y", 7))))},
		"another within":  {of("r", in("c", of("u", num("y", 7)))), of("r", num("a", 1), num("b", 2), in("c", of("u", num("y", 7))))},
		"a new one":       {of("r", num("d", 7)), of("r", num("a", 1), num("b", 2), in("c", of("s", num("x", 3), num("y", 4))), num("d", 7))},
		"nothing":         {of("r"), old},
		"another ref":     {of("u", num("b", 7)), of("u", num("b", 7))},
		"a definition":    {&Template{Ref: []byte("r"), Definition: true}, &Template{Ref: []byte("r"), Definition: true}},
		"a parameter too": {&Template{Ref: []byte("r"), Parameters: []Parameter{{Name: []byte("q")}}}, of("r", old.Members...)},
	} {
		if len(c.want.Parameters) == 0 && string(c.want.Ref) == "r" && !c.want.Definition {
			c.want.Parameters = append(old.Parameters, c.part.Parameters...)
		}
		wire := func(x *Template) string {
			return string((&Payload{Metrics: []Metric{{Template: x}}}).Append(nil))
		}
		before := wire(old)
		if got := c.part.Over(old); wire(got) != wire(c.want) {
			t.Errorf("%s: %+v", name, got)
		}
		if wire(old) != before {
			t.Fatalf("%s: what was there has changed", name)
		}
	}
	if part := of("r"); part.Over(nil) != part {
		t.Error("over nothing")
	}
}

// TestOverOfMany: two instances that fill a payload each, and have nothing in common,
// are no more work than they have members; else this does not end. The same goes for a
// part that is there very often.
func TestOverOfMany(t *testing.T) {
	of := func(prefix string) *Template {
		x := &Template{Ref: []byte("r")}
		for i := range defaultElements {
			x.Members = append(x.Members, Metric{Name: fmt.Appendf(nil, "%s%d", prefix, i)})
		}
		return x
	}
	old, other := of("a"), of("b")
	if got := other.Over(old); len(got.Members) != 2*defaultElements {
		t.Errorf("%d members", len(got.Members))
	}
	within := &Template{Ref: []byte("r"), Members: []Metric{{Name: []byte("x"), Template: old}}}
	part := &Template{Ref: []byte("r"), Members: []Metric{{Name: []byte("a0"), Null: true}}}
	often := &Template{Ref: []byte("r"), Members: make([]Metric, defaultElements/3)}
	for i := range often.Members {
		often.Members[i] = Metric{Name: []byte("x"), Template: part}
	}
	if got := often.Over(within); len(got.Members) != 1 || !got.Members[0].Template.Member([]byte("a0")).Null {
		t.Errorf("%d members", len(got.Members))
	}
}

// TestClone: a copy says the same, and goes on saying it when the bytes that
// the original borrows are gone.
func TestClone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawing{t}.payload()
		wire := want.Append(nil)
		var p Payload
		if err := p.Decode(wire, wide); err != nil {
			t.Fatal(err)
		}
		clone := p.Clone()
		var metrics []Metric
		var values []Value
		for i := range p.Metrics {
			metrics = append(metrics, p.Metrics[i].Clone())
			values = append(values, p.Metrics[i].Value.Clone())
		}
		clear(wire)
		if !same(clone, want) {
			t.Fatalf("%+v became %+v", want, clone)
		}
		if !same(&Payload{Metrics: metrics}, &Payload{Metrics: want.Metrics}) {
			t.Fatalf("%+v became %+v", want.Metrics, metrics)
		}
		for i, v := range values {
			w := want.Metrics[i].Value
			if v.form != w.form || v.bits != w.bits || !bytes.Equal(v.data, w.data) {
				t.Fatalf("%+v became %+v", w, v)
			}
		}
	})
}

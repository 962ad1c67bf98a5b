package state_test

import (
	"encoding/json"
	"errors"
	"sort"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/wire/state"
)

func parse(t testing.TB, s string) state.Object {
	t.Helper()
	o, err := state.Parse([]byte(s))
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return o
}

// TestMergePatch has the examples of RFC 7396, appendix A, that are objects.
func TestMergePatch(t *testing.T) {
	for _, test := range []struct{ doc, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"a":1}`}, // a document holds no null
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		{`{"a":1}`, `{}`, `{"a":1}`},
		{`{"a":1}`, `{"a":{"b":null}}`, `{"a":{}}`},
		{`{"a":[null]}`, `{"b":[null,1]}`, `{"a":[null],"b":[null,1]}`},
	} {
		doc := state.Merge(nil, parse(t, test.doc))
		before := doc.String()
		if got := state.Merge(doc, parse(t, test.patch)).String(); got != test.want {
			t.Errorf("%s with %s is %s, want %s", test.doc, test.patch, got, test.want)
		}
		if doc.String() != before {
			t.Errorf("%s was written to", before)
		}
	}
}

func TestDelta(t *testing.T) {
	for _, test := range []struct{ desired, reported, delta, diff string }{
		{`{}`, `{"a":1}`, `{}`, `{}`},
		{`{"a":1}`, `{}`, `{"a":1}`, `{}`},
		{`{"a":1}`, `{"a":1.0}`, `{}`, `{}`},
		{`{"a":{"b":1,"c":2}}`, `{"a":{"b":1,"c":3,"d":4}}`, `{"a":{"c":2}}`, ``},
		{`{"a":{"b":1}}`, `{"a":5}`, `{"a":{"b":1}}`, ``},
		{`{"a":{}}`, `{"a":{"b":1}}`, `{}`, ``},
		{`{"a":{}}`, `{}`, `{"a":{}}`, ``},
		{`{"a":[1,2]}`, `{"a":[2,1]}`, `{"a":[1,2]}`, ``},
	} {
		d := state.Delta(parse(t, test.desired), parse(t, test.reported))
		if d.String() != test.delta {
			t.Errorf("delta of %s and %s is %s, want %s", test.desired, test.reported, d, test.delta)
		}
	}
}

// document draws a small document, so that two of them often have members in common.
func document(nulls bool) *rapid.Generator[state.Object] {
	return rapid.Custom(func(t *rapid.T) state.Object { return drawObject(t, 3, nulls) })
}

func drawObject(t *rapid.T, depth int, nulls bool) state.Object {
	o := state.Object{}
	for range rapid.IntRange(0, 4).Draw(t, "members") {
		o[rapid.SampledFrom([]string{"a", "b", "c.d", "~e"}).Draw(t, "name")] = drawValue(t, depth, nulls)
	}
	return o
}

func drawValue(t *rapid.T, depth int, nulls bool) any {
	switch k := rapid.IntRange(0, 6).Draw(t, "kind"); {
	case k <= 2 && depth > 1:
		return drawObject(t, depth-1, nulls)
	case k == 3:
		return []any{json.Number("1"), nil, state.Object{"x": nil}}
	case k == 4 && nulls:
		return nil
	case k == 5:
		return json.Number(rapid.SampledFrom([]string{"1", "1.0", "10e-1", "2", "-0.5"}).Draw(t, "number"))
	}
	return rapid.SampledFrom([]string{"", "x"}).Draw(t, "string")
}

// naive is RFC 7396, section 2, word for word, on what encoding/json makes.
func naive(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	t, ok := target.(map[string]any)
	if !ok {
		t = map[string]any{}
	}
	for name, v := range p {
		if v == nil {
			delete(t, name)
		} else {
			t[name] = naive(t[name], v)
		}
	}
	return t
}

func plain(t *rapid.T, o state.Object) (v any) {
	dec := json.NewDecoder(strings.NewReader(o.String()))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestAlgebra(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := document(false).Draw(t, "a"), document(false).Draw(t, "b")
		patch := document(true).Draw(t, "patch")
		before := a.String() + b.String() + patch.String()

		merged := state.Merge(a, patch)
		want, _ := json.Marshal(naive(plain(t, a), plain(t, patch)))
		if merged.String() != string(want) {
			t.Fatalf("%s with %s is %s, by the RFC %s", a, patch, merged, want)
		}
		if !state.Within(patch, merged) {
			t.Fatalf("%s is not within %s", patch, merged)
		}
		if got := state.Merge(a, state.Diff(a, b)); !state.Equal(got, b) {
			t.Fatalf("%s with %s is %s, want %s", a, state.Diff(a, b), got, b)
		}
		delta := state.Delta(a, b)
		if (len(delta) == 0) != state.Within(a, b) {
			t.Fatalf("delta of %s and %s is %s", a, b, delta)
		}
		if !state.Within(a, state.Merge(b, delta)) {
			t.Fatalf("%s and then %s is not %s", b, delta, a)
		}
		if now := a.String() + b.String() + patch.String(); now != before {
			t.Fatalf("%s became %s", before, now)
		}
	})
}

func TestLeavesAndPaths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := document(true).Draw(t, "o")
		again := state.Object{}
		last := ""
		for path, v := range o.Leaves() {
			if path <= last && last != "" && !strings.HasPrefix(path, last) {
				// Sorted by names, level by level.
				a, _ := state.SplitPath(last)
				b, _ := state.SplitPath(path)
				for i := 0; i < min(len(a), len(b)) && a[i] >= b[i]; i++ {
					if a[i] > b[i] {
						t.Fatalf("%s comes after %s", path, last)
					}
				}
			}
			last = path
			got, ok := o.Get(path)
			if !ok || !state.Equal(got, v) {
				t.Fatalf("Get(%s) of %s is %v, %v", path, o, got, ok)
			}
			names, err := state.SplitPath(path)
			if err != nil || state.JoinPath(names...) != path {
				t.Fatalf("%s is %q, %v", path, names, err)
			}
			at, err := state.At(path, v)
			if err != nil {
				t.Fatal(err)
			}
			put(again, at)
		}
		if !state.Equal(again, o) {
			t.Fatalf("the leaves of %s make %s", o, again)
		}
	})
	for _, bad := range []string{"", ".", "a.", ".a", "a..b", "~", "~2", "a~", strings.Repeat("a.", 20) + "a", strings.Repeat("a", 2000)} {
		if names, err := state.SplitPath(bad); err == nil {
			t.Errorf("%.20q is a path: %q", bad, names)
		}
		if _, ok := (state.Object{"a": "b"}).Get(bad); ok {
			t.Errorf("there is something at %.20q", bad)
		}
	}
}

func TestCheckCountsWhatAppendWrites(t *testing.T) {
	for _, filler := range []string{"x", "\"", "\\", "\n", "\x01", "<", "\u00e4", "\u2028"} {
		doc := func(n int) state.Object {
			return state.Object{"a": []any{strings.Repeat(filler, n), nil, true, false, json.Number("-1.5")}, "b": state.Object{}}
		}
		first := sort.Search(state.MaxBytes, func(n int) bool { return doc(n).Check() != nil })
		if a, b := len(doc(first-1).String()), len(doc(first).String()); a > state.MaxBytes || b <= state.MaxBytes {
			t.Errorf("%q: %d bytes are let through, and %d are not", filler, a, b)
		}
	}
	list := make([]any, state.MaxValues)
	if err := (state.Object{"a": list}).Check(); err == nil || !strings.Contains(err.Error(), "values") {
		t.Errorf("one value too many: %v", err)
	}
	if err := (state.Object{"a": list[1:]}).Check(); err != nil {
		t.Error(err)
	}
}

// put joins two objects whose leaves differ, nulls kept.
func put(o, more state.Object) {
	for name, v := range more {
		a, isA := o[name].(state.Object)
		b, isB := v.(state.Object)
		if isA && isB {
			put(a, b)
		} else {
			o[name] = v
		}
	}
}

func TestEqualNumbers(t *testing.T) {
	for _, test := range []struct {
		a, b  string
		equal bool
	}{
		{"1", "1.0", true}, {"1", "10e-1", true}, {"0", "-0", true}, {"0.1", "1e-1", true},
		{"9007199254740993", "9007199254740992", false},
		{"18446744073709551617", "18446744073709551616", false},
		{"0.1", "0.10000000000000001", false},
		{"1e300", "1e301", false},
	} {
		if got := state.Equal(json.Number(test.a), json.Number(test.b)); got != test.equal {
			t.Errorf("%s equal to %s: %v", test.a, test.b, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	deep := strings.Repeat(`{"a":`, state.MaxDepth) + "{}" + strings.Repeat("}", state.MaxDepth)
	for _, test := range []struct{ doc, path, text string }{
		{``, "", "ends too early"},
		{`{`, "", "ends too early"},
		{`{"a":`, "", "ends too early"},
		{`[]`, "", "must be a JSON object"},
		{`7`, "", "must be a JSON object"},
		{`{} {}`, "", "after its closing brace"},
		{`{"a":1,"a":1}`, "a", "said twice"},
		{`{"a":{"b":1,"\u0062":1}}`, "a.b", "said twice"},
		{`{"a":01}`, "", "not JSON"},
		{`{"a":tru}`, "", "not JSON"},
		{"{\"a\":\"\xff\"}", "", "not valid UTF-8"},
		{`{"a":1e999999999}`, "a", "more digits"},
		{`{"a":1` + strings.Repeat("0", 100) + `}`, "a", "more digits"},
		{deep, strings.TrimSuffix(strings.Repeat("a.", state.MaxDepth), "."), "nested deeper"},
		{`{"a":"` + strings.Repeat("x", state.MaxBytes) + `"}`, "", "longer than"},
		{`{"` + strings.Repeat("x", state.MaxName+1) + `":1}`, "", "name longer"},
		{`{"a":[` + strings.Repeat("1,", state.MaxValues) + `1]}`, "", "more than"},
	} {
		_, err := state.Parse([]byte(test.doc))
		var e *state.Error
		if !errors.As(err, &e) || e.Path != test.path || !strings.Contains(e.Text, test.text) {
			t.Errorf("%.40s: %v", test.doc, err)
		}
	}
}

// FuzzParse: no panic; what is accepted is the same to encoding/json, and comes
// back from its own text.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":{"b":[1,null,{"c":"\u00e4"}]},"d":-1.5e3}`, `{"a":1,"a":2}`, `{"a":1e401}`, `[1]`, `{"~.":0}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := state.Parse(b)
		if err != nil {
			var e *state.Error
			if !errors.As(err, &e) {
				t.Fatalf("%v is no *Error", err)
			}
			return
		}
		if !json.Valid(b) {
			t.Fatal("accepted what is no JSON")
		}
		text := o.String()
		again, err := state.Parse([]byte(text))
		if fits := len(text) <= state.MaxBytes; fits != (o.Check() == nil) || fits && (err != nil || !state.Equal(o, again)) {
			t.Fatalf("%s comes back as %s, %v, %v", o, again, err, o.Check())
		}
	})
}

func BenchmarkReport(b *testing.B) {
	doc := parse(b, `{"valve":{"position":40,"mode":"auto"},"pump":{"rpm":1450,"on":true},"door":"closed","alarms":[]}`)
	patch := []byte(`{"valve":{"position":41},"pump":{"rpm":1460}}`)
	b.ReportAllocs()
	for b.Loop() {
		p, err := state.Parse(patch)
		if err != nil {
			b.Fatal(err)
		}
		doc = state.Merge(doc, p)
	}
}

package spcommand

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
)

var update = flag.Bool("update", false, "write testdata anew")

// number is metric name with an Int32.
func number(name string, x int64) sparkplug.Metric {
	v, _ := sparkplug.NewInt(sparkplug.TypeInt32, x)
	return sparkplug.Metric{Name: []byte(name), Datatype: sparkplug.TypeInt32, Value: v}
}

func good(x int64) Reading {
	m := number("", x)
	return Reading{Metric: &m, Good: true, Time: 100}
}

// has gives x for every metric.
func has(x int64) func(string) (Reading, bool) {
	return func(string) (Reading, bool) { return good(x), true }
}

func none(string) (Reading, bool) { return Reading{}, false }

func print(list []Verdict) string {
	var out []string
	for _, v := range list {
		text := v.TID + " " + v.Kind.String()
		if v.Value != nil {
			x, _ := v.Value.Value.Int(sparkplug.TypeInt32)
			text += fmt.Sprintf(" %s=%d", v.Metric, x)
		}
		if v.By != "" {
			text += " " + v.Metric + " by " + v.By
		}
		if len(v.Already) > 0 {
			text += " already " + strings.Join(v.Already, ",")
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// TestMatrix gives each event to a write of x=5 in each state that it can be in,
// and compares with testdata/matrix.golden.
func TestMatrix(t *testing.T) {
	five := func(until time.Time) Command {
		return Command{TID: "T", Device: "d", Writes: []sparkplug.Metric{number("x", 5)}, Until: until}
	}
	start := time.Unix(1000, 0)
	states := []struct {
		name string
		do   func(*Book)
	}{
		{"x was 4, sent", func(b *Book) { b.Send(five(start), has(4)) }},
		{"x was 4, written", func(b *Book) { b.Send(five(start), has(4)); b.Written("T") }},
		{"x was 5, sent", func(b *Book) { b.Send(five(start), has(5)) }},
		{"x was not known", func(b *Book) { b.Send(five(start), none); b.Written("T") }},
		{"contradicted", func(b *Book) { b.Send(five(start), has(4)); b.Written("T"); b.Data("d", "x", good(4)) }},
		{"lost", func(b *Book) { b.Send(five(start), has(4)); b.Written("T"); b.Death("d") }},
		{"taken up, of the same session", func(b *Book) { b.Resume(five(start), true, none) }},
		{"taken up, of another session", func(b *Book) { b.Resume(five(start), false, none) }},
	}
	reading := func(x int64, change func(*Reading)) Reading {
		r := good(x)
		change(&r)
		return r
	}
	events := []struct {
		name string
		do   func(*Book) []Verdict
	}{
		{"written", func(b *Book) []Verdict { return b.Written("T") }},
		{"data x=5", func(b *Book) []Verdict { return b.Data("d", "x", good(5)) }},
		{"data x=4", func(b *Book) []Verdict { return b.Data("d", "x", good(4)) }},
		{"data x=5, older than before", func(b *Book) []Verdict { return b.Data("d", "x", reading(5, func(r *Reading) { r.Time = 99 })) }},
		{"data x=5, without a time", func(b *Book) []Verdict { return b.Data("d", "x", reading(5, func(r *Reading) { r.Time = 0 })) }},
		{"data x=5, not good", func(b *Book) []Verdict { return b.Data("d", "x", reading(5, func(r *Reading) { r.Good = false })) }},
		{"data y=5", func(b *Book) []Verdict { return b.Data("d", "y", good(5)) }},
		{"data x=5 of another device", func(b *Book) []Verdict { return b.Data("", "x", good(5)) }},
		{"DBIRTH x=5", func(b *Book) []Verdict { return b.Birth("d", true, has(5)) }},
		{"DBIRTH x=4", func(b *Book) []Verdict { return b.Birth("d", true, has(4)) }},
		{"DBIRTH without x", func(b *Book) []Verdict { return b.Birth("d", true, none) }},
		{"NBIRTH, same session", func(b *Book) []Verdict { return b.Birth("", true, has(5)) }},
		{"NBIRTH, new session", func(b *Book) []Verdict { return b.Birth("", false, has(5)) }},
		{"NBIRTH new, DBIRTH x=5", func(b *Book) []Verdict { return append(b.Birth("", false, none), b.Birth("d", false, has(5))...) }},
		{"NBIRTH new, data x=5", func(b *Book) []Verdict { return append(b.Birth("", false, none), b.Data("d", "x", good(5))...) }},
		{"NDEATH", func(b *Book) []Verdict { return b.Death("") }},
		{"DDEATH", func(b *Book) []Verdict { return b.Death("d") }},
		{"DDEATH of another device", func(b *Book) []Verdict { return b.Death("e") }},
		{"U writes x=6, data x=6", func(b *Book) []Verdict {
			b.Send(Command{TID: "U", Device: "d", Writes: []sparkplug.Metric{number("x", 6)}}, has(4))
			return append(b.Written("U"), b.Data("d", "x", good(6))...)
		}},
		{"U writes x=6, was 6", func(b *Book) []Verdict {
			b.Send(Command{TID: "U", Device: "d", Writes: []sparkplug.Metric{number("x", 6)}}, has(6))
			return b.Written("U")
		}},
		{"U writes x=5, data x=5", func(b *Book) []Verdict {
			b.Send(Command{TID: "U", Device: "d", Writes: []sparkplug.Metric{number("x", 5)}}, has(4))
			return append(b.Written("U"), b.Data("d", "x", good(5))...)
		}},
		{"asked", func(b *Book) []Verdict {
			v, _ := b.Ask("T")
			if v.Kind == 0 {
				return nil
			}
			return []Verdict{v}
		}},
		{"its time is over", func(b *Book) []Verdict { b.Tick(start.Add(1)); return nil }},
		{"its time is not over", func(b *Book) []Verdict { b.Tick(start); return nil }},
		{"dropped", func(b *Book) []Verdict { b.Drop("T"); return nil }},
	}
	var out bytes.Buffer
	for _, s := range states {
		fmt.Fprintf(&out, "## %s\n", s.name)
		for _, ev := range events {
			var b Book
			s.do(&b)
			said := print(ev.do(&b))
			after := "closed"
			if _, open := b.Ask("T"); open {
				after = "open"
			}
			out.WriteString(strings.TrimRight(fmt.Sprintf("%-28s -> %-6s %s", ev.name, after, said), " ") + "\n")
		}
		fmt.Fprintln(&out)
	}
	const golden = "testdata/matrix.golden"
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, out.Bytes()) {
		t.Errorf("not as in %s; look at what -update changes:\n%s", golden, out.Bytes())
	}
}

// TestSeveralMetrics: a command is confirmed when all that it asks for was seen,
// and what was seen once need not last.
func TestSeveralMetrics(t *testing.T) {
	var b Book
	c := Command{TID: "T", Writes: []sparkplug.Metric{number("x", 5), number("y", 6), number("z", 7)}}
	b.Send(c, func(name string) (Reading, bool) { return good(map[string]int64{"x": 1, "y": 1, "z": 7}[name]), true })
	var said []Verdict
	said = append(said, b.Written("T")...)
	said = append(said, b.Data("", "x", good(5))...)
	said = append(said, b.Data("", "x", good(1))...)
	if len(said) > 0 {
		t.Fatalf("before the last one: %s", print(said))
	}
	if got := print(b.Data("", "y", good(6))); got != "T confirmed already z" {
		t.Errorf("got %q", got)
	}
}

// TestAlreadyNoMore: what was so before the send, and is reported otherwise after
// it, is not confirmed by what was before.
func TestAlreadyNoMore(t *testing.T) {
	var b Book
	b.Send(Command{TID: "T", Writes: []sparkplug.Metric{number("x", 5), number("y", 6)}}, has(5))
	said := append(b.Written("T"), b.Data("", "x", good(4))...)
	said = append(said, b.Data("", "y", good(6))...)
	if got := print(said); got != "T contradicted x=4" {
		t.Errorf("got %q", got)
	}
}

// TestRounding: a Float is reported as its 32 bits have it.
func TestRounding(t *testing.T) {
	v, _ := sparkplug.NewFloat(sparkplug.TypeFloat, 0.1)
	m := sparkplug.Metric{Name: []byte("x"), Datatype: sparkplug.TypeFloat, Value: v}
	var b Book
	b.Send(Command{TID: "T", Writes: []sparkplug.Metric{m}}, none)
	var p sparkplug.Payload
	if err := p.Decode((&sparkplug.Payload{Metrics: []sparkplug.Metric{m}}).Append(nil), sparkplug.Limits{}); err != nil {
		t.Fatal(err)
	}
	if got := print(b.Data("", "x", Reading{Metric: &p.Metrics[0], Good: true})); got != "T confirmed" {
		t.Errorf("got %q", got)
	}
}

// TestBirthsAskedFor: an NBIRTH answers who asks for births, whatever its session.
func TestBirthsAskedFor(t *testing.T) {
	var b Book
	b.Send(Command{TID: "T"}, none)
	said := append(b.Written("T"), b.Death("")...)
	said = append(said, b.Birth("d", true, has(1))...)
	if len(said) > 0 {
		t.Fatalf("without an NBIRTH: %s", print(said))
	}
	if got := print(b.Birth("", false, has(1))); got != "T confirmed" {
		t.Errorf("got %q", got)
	}
}

// TestBound: the oldest gives way.
func TestBound(t *testing.T) {
	var b Book
	for i := range MaxOpen + 1 {
		b.Send(Command{TID: fmt.Sprint(i)}, none)
	}
	_, first := b.Ask("0")
	if _, last := b.Ask(fmt.Sprint(MaxOpen)); b.Open() != MaxOpen || first || !last {
		t.Errorf("%d open, the first %v, the last %v", b.Open(), first, last)
	}
}

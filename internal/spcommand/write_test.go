package spcommand

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/sparkplug"
)

// motor is a metric that is a template with these members.
func motor(members map[string]int64) sparkplug.Metric {
	t := &sparkplug.Template{Ref: []byte("Motor")}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		t.Members = append(t.Members, number(name, members[name]))
	}
	return sparkplug.Metric{Name: []byte("motor"), Datatype: sparkplug.TypeTemplate, Template: t}
}

func goodMotor(members map[string]int64) Reading {
	m := motor(members)
	return Reading{Metric: &m, Good: true, Time: 100}
}

// TestTakenApart: the members of a template end a command as metrics would. Two books
// live the same life, one of metrics x and y, one of a template with members x and y.
func TestTakenApart(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var flat, nested Book
		ended := [2]map[string]Kind{{}, {}}
		take := func(to int, list []Verdict) {
			for _, v := range list {
				if v.Kind == Confirmed || v.Kind == Superseded {
					ended[to][v.TID] = v.Kind
				}
			}
		}
		members := func(least int) map[string]int64 {
			return rapid.MapOfN(rapid.SampledFrom([]string{"x", "y"}), rapid.Int64Range(1, 2), least, 2).Draw(r, "members")
		}
		for i := range rapid.IntRange(1, 30).Draw(r, "steps") {
			what := rapid.SampledFrom([]string{"send", "data", "data", "birth", "death"}).Draw(r, "what")
			now, time := members(2), rapid.Uint64Range(1, 4).Draw(r, "time")
			readFlat := func(name string) (Reading, bool) {
				m := number(name, now[name])
				return Reading{Metric: &m, Good: true, Time: time}, true
			}
			readNested := func(string) (Reading, bool) {
				m := motor(now)
				return Reading{Metric: &m, Good: true, Time: time}, true
			}
			switch what {
			case "send":
				tid, ask := fmt.Sprint("T", i), members(1)
				c := Command{TID: tid}
				for _, name := range slices.Sorted(maps.Keys(ask)) {
					c.Writes = append(c.Writes, number(name, ask[name]))
				}
				flat.Send(c, readFlat)
				nested.Send(Command{TID: tid, Writes: []sparkplug.Metric{motor(ask)}}, readNested)
				take(0, flat.Written(tid))
				take(1, nested.Written(tid))
			case "data":
				name := rapid.SampledFrom([]string{"x", "y"}).Draw(r, "name")
				reading, _ := readFlat(name)
				take(0, flat.Data("", name, reading))
				part := motor(map[string]int64{name: now[name]})
				take(1, nested.Data("", "motor", Reading{Metric: &part, Good: true, Time: time}))
			case "birth":
				take(0, flat.Birth("", true, readFlat))
				take(1, nested.Birth("", true, readNested))
			case "death":
				take(0, flat.Death(""))
				take(1, nested.Death(""))
			}
			if !maps.Equal(ended[0], ended[1]) {
				r.Fatalf("after %s: metrics %v, template %v", what, ended[0], ended[1])
			}
		}
	})
}

// TestWhatIsSaidOfAPart: names in what is told, and values that are no template of
// the kind that was asked for.
func TestWhatIsSaidOfAPart(t *testing.T) {
	ask := Command{TID: "T", Writes: []sparkplug.Metric{motor(map[string]int64{"x": 5, "y": 6})}}
	other := motor(map[string]int64{"x": 5, "y": 6})
	other.Template.Ref = []byte("Valve")
	for name, c := range map[string]struct {
		say  Reading
		want string
	}{
		"both":           {goodMotor(map[string]int64{"x": 5, "y": 6, "z": 1}), "T confirmed"},
		"one":            {goodMotor(map[string]int64{"x": 5}), "T confirmed already motor/y"},
		"another member": {goodMotor(map[string]int64{"z": 5}), ""},
		"another value":  {goodMotor(map[string]int64{"y": 7}), "T contradicted motor/y=7"},
		"another kind":   {Reading{Metric: &other, Good: true, Time: 100}, "T contradicted motor/x=0"},
		"null":           {Reading{Metric: &sparkplug.Metric{Null: true}, Good: true, Time: 100}, "T contradicted motor/x=0"},
	} {
		var b Book
		b.Send(ask, func(string) (Reading, bool) { return goodMotor(map[string]int64{"x": 4, "y": 6}), true })
		b.Written("T")
		if got := print(b.Data("", "motor", c.say)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestPartsClash: commands supersede each other by the parts that they have in common.
func TestPartsClash(t *testing.T) {
	of := func(m sparkplug.Metric) write { return writesOf([]sparkplug.Metric{m})[0] }
	x5, x6, y5 := motor(map[string]int64{"x": 5}), motor(map[string]int64{"x": 6}), motor(map[string]int64{"y": 5})
	null := sparkplug.Metric{Name: []byte("motor"), Datatype: sparkplug.TypeTemplate, Null: true}
	other := motor(map[string]int64{"x": 5})
	other.Template.Ref = []byte("Valve")
	parameter := motor(nil)
	parameter.Template.Parameters = []sparkplug.Parameter{{Name: []byte("x"), Datatype: sparkplug.TypeInt32, Value: number("", 5).Value}}
	elsewhere := motor(map[string]int64{"x": 6})
	elsewhere.Name = []byte("pump")
	for name, c := range map[string]struct {
		a, b sparkplug.Metric
		want bool
	}{
		"the same":          {x5, x5, false},
		"another value":     {x5, x6, true},
		"another member":    {x5, y5, false},
		"a part and null":   {x5, null, true},
		"another kind":      {x5, other, true},
		"a parameter":       {x6, parameter, false},
		"another parameter": {parameter, parameter, false},
		"another metric":    {x5, elsewhere, false},
	} {
		a, b := of(c.a), of(c.b)
		if a.clashes(&b) != c.want || b.clashes(&a) != c.want {
			t.Errorf("%s: not %v", name, c.want)
		}
	}
}

package spcommand

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// moment is one thing that happened, as the oracle remembers it.
type moment struct {
	what   string // send, data, birth, death
	tid    string
	writes map[string]int64
	values map[string]int64 // present at send; reported by data and birth
	good   bool
	time   uint64
	same   bool
}

// oracle finds out what became of each command by reading the whole story anew,
// from the definitions in the package's comment.
type oracle struct {
	story []moment
	ended map[string]string // by tid
	order []string
}

// look is what write m=v of the command sent at s is now: done, had before, or not.
func (o *oracle) look(s int, m string, v int64) (done, already bool) {
	sent := o.story[s]
	x, known := sent.values[m]
	already = known && sent.good && x == v && !sent.same // same: another write was on its way
	before := uint64(0)
	if known {
		before = sent.time
	}
	lost := false
	for _, k := range o.story[s+1:] {
		x, reported := k.values[m]
		switch {
		case k.what == "death", k.what == "birth" && !k.same:
			lost, already = true, false
		case k.what == "data" && (lost || k.time < before):
			continue
		}
		if k.what == "send" || !reported || !k.good || done {
			continue
		}
		done, already = x == v, false
	}
	return done, already
}

// at is where a command was sent.
func (o *oracle) at(tid string) int {
	return slices.IndexFunc(o.story, func(k moment) bool { return k.tid == tid })
}

// settle ends what has ended by the last moment, oldest first.
func (o *oracle) settle() {
	for i, tid := range o.order {
		if o.ended[tid] != "" || !o.has(tid) {
			continue
		}
		o.ended[tid] = "confirmed"
		for _, older := range o.order[:i] {
			if o.ended[older] == "" && o.conflicts(older, tid) {
				o.ended[older] = "superseded"
			}
		}
	}
}

func (o *oracle) has(tid string) bool {
	s := o.at(tid)
	for m, v := range o.story[s].writes {
		if done, already := o.look(s, m, v); !done && !already {
			return false
		}
	}
	return true
}

func (o *oracle) conflicts(older, newer string) bool {
	s := o.at(older)
	for m, v := range o.story[s].writes {
		w, both := o.story[o.at(newer)].writes[m]
		if done, _ := o.look(s, m, v); both && w != v && !done {
			return true
		}
	}
	return false
}

// TestOracle: random lives of one device with two metrics.
func TestOracle(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var b Book
		o := oracle{ended: map[string]string{}}
		got := map[string]string{}
		take := func(list []Verdict) {
			for _, v := range list {
				if v.Kind == Confirmed || v.Kind == Superseded {
					if got[v.TID] != "" {
						r.Fatalf("%s ended twice", v.TID)
					}
					got[v.TID] = v.Kind.String()
				}
			}
		}
		values := rapid.MapOf(rapid.SampledFrom([]string{"x", "y"}), rapid.Int64Range(1, 3))
		for i := range rapid.IntRange(1, 40).Draw(r, "steps") {
			k := moment{what: rapid.SampledFrom([]string{"send", "send", "data", "data", "data", "birth", "death"}).Draw(r, "what"),
				values: values.Draw(r, "values"), good: rapid.IntRange(0, 5).Draw(r, "quality") > 0,
				time: rapid.Uint64Range(1, 5).Draw(r, "time"), same: rapid.Bool().Draw(r, "same")}
			read := func(m string) (Reading, bool) {
				x, ok := k.values[m]
				raw := number(m, x)
				return Reading{Metric: &raw, Good: k.good, Time: k.time}, ok
			}
			switch k.what {
			case "send":
				k.tid, k.writes = fmt.Sprint("T", i), rapid.MapOfN(rapid.SampledFrom([]string{"x", "y"}), rapid.Int64Range(1, 3), 1, 2).Draw(r, "writes")
				// The story has one mark for the whole command, so those that it
				// would be needed for by metric ask for one only.
				if len(k.writes) > 1 {
					k.values = nil
				}
				k.same = o.otherOpen(k.writes)
				c := Command{TID: k.tid, Device: "d"}
				for _, m := range slices.Sorted(maps.Keys(k.writes)) {
					c.Writes = append(c.Writes, number(m, k.writes[m]))
				}
				b.Send(c, read)
				o.story, o.order = append(o.story, k), append(o.order, k.tid)
				take(b.Written(k.tid))
			case "data":
				// A message has its metrics one after the other.
				for _, m := range slices.Sorted(maps.Keys(k.values)) {
					one := k
					one.values = map[string]int64{m: k.values[m]}
					o.story = append(o.story, one)
					o.settle()
					reading, _ := read(m)
					take(b.Data("d", m, reading))
				}
			case "birth":
				if !k.same {
					take(b.Birth("", false, none))
				}
				o.story = append(o.story, k)
				take(b.Birth("d", k.same, read))
			case "death":
				k.values = nil
				o.story = append(o.story, k)
				take(b.Death(""))
			}
			o.settle()
			if !maps.Equal(got, o.ended) {
				r.Fatalf("after %+v:\nbook   %v\noracle %v", k, got, o.ended)
			}
		}
	})
}

// otherOpen tells whether an open command asks one of the metrics for another value.
func (o *oracle) otherOpen(writes map[string]int64) bool {
	for _, tid := range o.order {
		s := o.at(tid)
		for m, v := range o.story[s].writes {
			w, both := writes[m]
			if done, _ := o.look(s, m, v); both && w != v && !done && o.ended[tid] == "" {
				return true
			}
		}
	}
	return false
}

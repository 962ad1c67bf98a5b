package schedule

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// oracle does what a Queue does, slowly and from the words of its comments: it
// keeps everything in one list.
type oracle struct {
	perHook int
	items   []Item                  // that wait
	flying  []Item                  // in flight
	due     map[[2]string]time.Time // of lanes
}

func key(i Item) [2]string { return [2]string{i.Hook, i.Lane} }

func (o *oracle) add(i Item, due time.Time) {
	if slices.Contains(o.items, i) || slices.Contains(o.flying, i) {
		return
	}
	if _, there := o.due[key(i)]; !there {
		o.due[key(i)] = due
	}
	o.items = append(o.items, i)
}

// candidates are those that may be tried as soon as they are due.
func (o *oracle) candidates() (list []Item) {
	for _, i := range o.items {
		first, inFlight := true, 0
		for _, j := range o.items {
			first = first && (key(j) != key(i) || j.Seq >= i.Seq)
		}
		for _, j := range o.flying {
			first = first && key(j) != key(i)
			if j.Hook == i.Hook {
				inFlight++
			}
		}
		if first && inFlight < o.perHook {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b Item) int {
		if a.Hook != b.Hook {
			return map[bool]int{true: -1, false: 1}[a.Hook < b.Hook]
		}
		if c := o.due[key(a)].Compare(o.due[key(b)]); c != 0 {
			return c
		}
		if a.Seq != b.Seq {
			return int(a.Seq - b.Seq)
		}
		return strings.Compare(a.Lane, b.Lane)
	})
	return list
}

func (o *oracle) next(now time.Time) (Item, bool) {
	for _, i := range o.candidates() {
		if !o.due[key(i)].After(now) {
			o.items = slices.DeleteFunc(o.items, func(j Item) bool { return j == i })
			o.flying = append(o.flying, i)
			return i, true
		}
	}
	return Item{}, false
}

func (o *oracle) wake() (at time.Time, ok bool) {
	for _, i := range o.candidates() {
		if due := o.due[key(i)]; !ok || due.Before(at) {
			at, ok = due, true
		}
	}
	return at, ok
}

func (o *oracle) land(i Item, due time.Time, again bool) {
	if !slices.Contains(o.flying, i) {
		return
	}
	o.flying = slices.DeleteFunc(o.flying, func(j Item) bool { return j == i })
	o.due[key(i)] = due
	if again {
		o.items = append(o.items, i)
	}
	if !slices.ContainsFunc(o.items, func(j Item) bool { return key(j) == key(i) }) {
		delete(o.due, key(i))
	}
}

func (o *oracle) drop(name string) {
	of := func(i Item) bool { return i.Hook == name }
	o.items, o.flying = slices.DeleteFunc(o.items, of), slices.DeleteFunc(o.flying, of)
	for k := range o.due {
		if k[0] == name {
			delete(o.due, k)
		}
	}
}

func (o *oracle) len(name string) (n int) {
	for _, i := range append(slices.Clone(o.items), o.flying...) {
		if i.Hook == name {
			n++
		}
	}
	return n
}

func TestQueueAgainstTheOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		per := rapid.IntRange(1, 3).Draw(t, "per hook")
		q, o := New(per), &oracle{perHook: per, due: map[[2]string]time.Time{}}
		now := time.Unix(1e9, 0)
		hooks := rapid.SampledFrom([]string{"a", "b"})
		item := func(t *rapid.T) Item {
			return Item{hooks.Draw(t, "hook"), rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "lane"), rapid.Int64Range(1, 12).Draw(t, "seq")}
		}
		pause := rapid.Custom(func(t *rapid.T) time.Duration { return time.Duration(rapid.IntRange(-5, 5).Draw(t, "s")) * time.Second })
		flight := func(t *rapid.T) Item {
			if len(o.flying) > 0 && rapid.IntRange(0, 9).Draw(t, "known") > 0 {
				return rapid.SampledFrom(o.flying).Draw(t, "flying")
			}
			return item(t)
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				i, due := item(t), now.Add(pause.Draw(t, "due"))
				q.Add(i, due)
				o.add(i, due)
			},
			"next": func(t *rapid.T) {
				got, ok := q.Next(now)
				want, wok := o.next(now)
				if got != want || ok != wok {
					t.Fatalf("next is %v %t, want %v %t", got, ok, want, wok)
				}
			},
			"done": func(t *rapid.T) {
				i := flight(t)
				q.Done(i)
				o.land(i, time.Time{}, false)
			},
			"again": func(t *rapid.T) {
				i, due := flight(t), now.Add(pause.Draw(t, "due"))
				q.Again(i, due)
				o.land(i, due, true)
			},
			"drop": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "rarely") > 0 {
					return
				}
				name := hooks.Draw(t, "hook")
				q.Drop(name)
				o.drop(name)
			},
			"time": func(t *rapid.T) { now = now.Add(2 * time.Second) },
			"": func(t *rapid.T) {
				at, ok := q.Wake()
				if want, wok := o.wake(); !at.Equal(want) || ok != wok {
					t.Fatalf("wakes %v %t, want %v %t", at, ok, want, wok)
				}
				for _, name := range []string{"a", "b", "c"} {
					if q.Len(name) != o.len(name) {
						t.Fatalf("%d items of %s, want %d", q.Len(name), name, o.len(name))
					}
				}
			},
		})
	})
}

// A receiver that is down for an hour, in virtual time: each device's deliveries
// come in their order, nothing is lost, and a device whose deliveries fail holds
// back nobody else.
func TestAnHourWithoutAReceiver(t *testing.T) {
	const devices, each = 5, 20
	q := New(2)
	start := time.Unix(1e9, 0)
	for n := range int64(devices * each) {
		q.Add(Item{"h", fmt.Sprint(n % devices), n + 1}, start)
	}
	last, tries, delivered := map[string]int64{}, map[int64]int{}, 0
	now := start
	for delivered < devices*each {
		i, ok := q.Next(now)
		if !ok {
			at, ok := q.Wake()
			if !ok || !at.After(now) {
				t.Fatalf("nothing to do at %v, wakes %v %t", now, at, ok)
			}
			now = at
			continue
		}
		tries[i.Seq]++
		if i.Lane != "0" && now.Sub(start) > time.Minute {
			t.Fatalf("%v was held back by another lane", i)
		}
		if i.Lane == "0" && now.Sub(start) < time.Hour {
			due, again := After(start, now, tries[i.Seq], 0, 0.5)
			if !again {
				t.Fatalf("%v is given up after %v", i, now.Sub(start))
			}
			q.Again(i, due)
			continue
		}
		if last[i.Lane] >= i.Seq {
			t.Fatalf("%v comes after %d", i, last[i.Lane])
		}
		last[i.Lane] = i.Seq
		delivered++
		q.Done(i)
	}
	if n := tries[1]; n < 8 || n > 15 {
		t.Errorf("%d tries in an hour", n)
	}
}

func TestAfter(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, c := range []struct {
		attempt int
		age     time.Duration
		asked   time.Duration
		r       float64
		want    time.Duration // 0: given up
	}{
		{1, 0, 0, 0, 2500 * time.Millisecond},
		{1, 0, 0, 1, 5 * time.Second},
		{2, 0, 0, 1, 10 * time.Second},
		{10, 0, 0, 1, 2560 * time.Second},
		{11, 0, 0, 1, time.Hour},
		{1000, 0, 0, 0, time.Hour / 2},
		{1, 0, time.Minute, 0, time.Minute},
		{1, 0, 1000 * time.Hour, 0, time.Hour},
		{4, 100 * time.Hour, 0, 1, 40 * time.Second}, // was held back by others: it has its tries
		{5, 100 * time.Hour, 0, 1, 0},
		{30, GiveUp, 0, 1, 0},
		{30, GiveUp - 1, 0, 1, time.Hour},
	} {
		at, again := After(now.Add(-c.age), now, c.attempt, c.asked, c.r)
		if again != (c.want > 0) || again && at.Sub(now) != c.want {
			t.Errorf("%+v: %v %t", c, at.Sub(now), again)
		}
	}
}

package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/wire"
)

// queue is the oracle of places: a list that is searched from the start for
// everything.
type queue struct{ list []*claim }

func (q *queue) find(tid command.TID) *claim {
	for _, c := range q.list {
		if c.tid == tid {
			return c
		}
	}
	return nil
}

func (q *queue) remove(tid command.TID) {
	q.list = slices.DeleteFunc(q.list, func(c *claim) bool { return c.tid == tid })
}

// may says whether c may have its places now.
func (q *queue) may(c *claim, leaving []command.TID) bool {
	for _, n := range c.needs {
		taken := 0
		for _, other := range q.list {
			if other.tid == c.tid || !slices.ContainsFunc(other.needs, func(o need) bool { return o.room == n.room }) {
				continue
			}
			if !other.has && before(other, c) {
				return false
			}
			if other.has && !slices.Contains(leaving, other.tid) {
				taken++
			}
		}
		if taken >= n.places {
			return false
		}
	}
	return true
}

// settle gives places until nobody may have any, and returns who got them.
func (q *queue) settle() (given []command.TID) {
	for again := true; again; {
		again = false
		for _, c := range q.list {
			if !c.has && q.may(c, nil) {
				c.has, again = true, true
				given = append(given, c.tid)
			}
		}
	}
	return given
}

// TestPlacesAreThoseOfTheOracle: whatever is asked, left and given back, the same
// commands have places, and the same are told that they have got them.
func TestPlacesAreThoseOfTheOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, q := newPlaces(), &queue{}
		all := map[command.TID]claim{}
		for n := range 8 {
			c := claim{tid: command.TID{15: byte(n)}, device: wire.Address{Group: "g", Device: fmt.Sprint(n)},
				priority: rapid.IntRange(-1, 1).Draw(t, "priority")}
			for _, word := range []string{"a", "b", "c"} {
				if places := rapid.IntRange(0, 3).Draw(t, word); places > 0 {
					c.needs = append(c.needs, need{roomName{word: word, exclusive: places == 1}, places})
				}
			}
			if len(c.needs) == 0 {
				c.needs = []need{{roomName{word: "a", exclusive: true}, 1}}
			}
			all[c.tid] = c
		}
		for range 60 {
			tid := command.TID{15: byte(rapid.IntRange(0, 7).Draw(t, "n"))}
			was := q.find(tid)
			var got []*claim
			var want []command.TID
			switch rapid.SampledFrom([]string{"ask", "ask", "refuse", "replace", "leave", "back", "take"}).Draw(t, "what") {
			case "ask":
				got, want = bothAsk(t, p, q, all[tid], true, nil)
			case "refuse":
				got, want = bothAsk(t, p, q, all[tid], false, nil)
			case "replace": // one turn ends a command, and sends another
				other := command.TID{15: byte(rapid.IntRange(0, 7).Draw(t, "other"))}
				if o := q.find(other); o == nil || !o.has || other == tid {
					continue
				}
				got, want = bothAsk(t, p, q, all[tid], true, []command.TID{other})
				got = append(got, p.leave(other)...)
				q.remove(other)
				want = append(want, q.settle()...)
			case "leave":
				got = p.leave(tid)
				q.remove(tid)
				want = q.settle()
			case "back":
				got = p.back(tid)
				if was != nil && was.has {
					was.has = false
					want = q.settle()
				}
			case "take":
				if was != nil {
					continue
				}
				p.take(all[tid])
				c := all[tid]
				c.has = true
				q.list = append(q.list, &c)
			}
			compare(t, p, q, got, want)
		}
	})
}

func bothAsk(t *rapid.T, p *places, q *queue, c claim, wait bool, leaving []command.TID) (got []*claim, want []command.TID) {
	known := q.find(c.tid)
	may := known != nil && known.has || q.may(&c, leaving)
	why, got := p.ask(c, wait, leaving)
	if (why == "") != may {
		t.Fatalf("%s: %q, the oracle says %v", c.tid, why, may)
	}
	if may || known == nil && wait {
		c.has = may
		if known != nil {
			known.has = may
		} else {
			q.list = append(q.list, &c)
		}
	}
	return got, q.settle()
}

func compare(t *rapid.T, p *places, q *queue, got []*claim, want []command.TID) {
	t.Helper()
	told := map[command.TID]bool{}
	for _, c := range got {
		told[c.tid] = true
	}
	asked := map[command.TID]bool{}
	for _, tid := range want {
		asked[tid] = true
	}
	if !maps.Equal(told, asked) {
		t.Fatalf("told %v, want %v", told, asked)
	}
	if len(p.claims) != len(q.list) {
		t.Fatalf("%d claims, want %d", len(p.claims), len(q.list))
	}
	for _, c := range q.list {
		if mine := p.claims[c.tid]; mine == nil || mine.has != c.has {
			t.Fatalf("%s: %+v, want has %v", c.tid, mine, c.has)
		}
	}
	if len(q.list) == 0 && len(p.rooms) > 0 {
		t.Fatalf("rooms of nobody: %v", p.rooms)
	}
}

func TestNeedsOfACommand(t *testing.T) {
	c := command.Command{Name: "drill", Device: valve, Terms: &command.Terms{Exclusive: "power", AtMost: &command.AtMost{Count: 2}}}
	text := func(tags ...string) string {
		var list []string
		for _, n := range needsOf(&c, tags) {
			list = append(list, fmt.Sprintf("%d %s", n.places, n.room))
		}
		return strings.Join(list, "; ")
	}
	for of, want := range map[string]string{
		"":         "1 exclusive power, group plant; 2 drill, group plant",
		"all":      "1 exclusive power, group plant; 2 drill, all devices",
		"tag:hot":  "1 exclusive power, group plant; 2 drill, devices tagged hot",
		"tag:cold": "1 exclusive power, group plant",
	} {
		c.Terms.AtMost.Of = of
		if got := text("hot"); got != want {
			t.Errorf("%q: %s", of, got)
		}
	}
}

// TestNeedsChangeWhileItWaits: a device is given a tag, or loses one, while its
// command is in line or has been given a place and has not gone. It stands in the
// lines of what it needs now, and nobody waits behind it anywhere else.
func TestNeedsChangeWhileItWaits(t *testing.T) {
	a, b := roomName{word: "a"}, roomName{word: "b"}
	one := func(n byte, rooms ...roomName) claim {
		c := claim{tid: command.TID{n}}
		for _, r := range rooms {
			c.needs = append(c.needs, need{r, 1})
		}
		return c
	}
	p := newPlaces()
	p.ask(one(1, a), true, nil)
	p.ask(one(2, b), true, nil)
	p.ask(one(3, a, b), true, nil)
	p.ask(one(4, b), true, nil)
	if why, given := p.ask(one(3, a), true, nil); why == "" || len(given) != 0 {
		t.Errorf("it does not need b any more: %q, %v", why, given)
	}
	if given := p.leave(command.TID{2}); len(given) != 1 || given[0].tid != (command.TID{4}) {
		t.Errorf("b is free: %v", given)
	}
	if given := p.leave(command.TID{1}); len(given) != 1 || given[0].tid != (command.TID{3}) {
		t.Errorf("a is free: %v", given)
	}
	if why, given := p.ask(one(3, a, b), true, nil); why == "" || len(given) != 0 {
		t.Errorf("it needs b too: %q, %v", why, given)
	}
	if given := p.leave(command.TID{4}); len(given) != 1 || given[0].tid != (command.TID{3}) {
		t.Errorf("b is free again: %v", given)
	}
}

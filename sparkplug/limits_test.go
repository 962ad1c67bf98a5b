package sparkplug

import (
	"bytes"
	"runtime"
	"testing"
)

// nest puts b into depth levels of kind: templates, property sets, or lists of them.
func nestTemplates(depth int) []byte {
	b := msg(18)
	for range depth - 1 {
		b = msg(18, msg(2, b))
	}
	return msg(2, b)
}

func nestSets(depth int) []byte {
	b := msg(9)
	for range depth - 1 {
		b = msg(9, msg(2, b))
	}
	return msg(2, b)
}

func nestLists(depth int) []byte {
	// A list and the set in it are two levels.
	b := msg(10)
	for range depth/2 - 1 {
		b = msg(10, msg(1, msg(2, b)))
	}
	return msg(2, msg(9, msg(2, b)))
}

func TestLimits(t *testing.T) {
	metrics := func(n int) []byte { return bytes.Repeat([]byte{0x12, 0}, n) }
	table := msg(2, msg(17, text(2, "c"), num(3, 1), msg(3, []byte{1, 1}), msg(4, msg(1), msg(1))))
	for name, c := range map[string]struct {
		wire   []byte
		limits Limits
		code   Code
	}{
		"bytes":                 {metrics(50), Limits{Bytes: 100}, 0},
		"a byte more":           {metrics(51), Limits{Bytes: 101}, TooLarge},
		"metrics":               {metrics(10), Limits{Elements: 10}, 0},
		"a metric more":         {metrics(11), Limits{Elements: 10}, TooMany},
		"a table":               {table, Limits{Elements: 9}, 0}, // metric, table, column, 3 types, row, 2 cells
		"a cell more":           {table, Limits{Elements: 8}, TooMany},
		"a row more":            {table, Limits{Elements: 6}, TooMany},
		"a packed type more":    {table, Limits{Elements: 5}, TooMany},
		"a column more":         {table, Limits{Elements: 2}, TooMany},
		"keys and values":       {msg(2, msg(9, text(1, ""), msg(2))), Limits{Elements: 3}, TooMany},
		"sets in a list":        {msg(2, msg(9, msg(2, msg(10, msg(1), msg(1))))), Limits{Elements: 5}, TooMany},
		"members, parameters":   {msg(2, msg(18, msg(2), msg(3))), Limits{Elements: 3}, TooMany},
		"metadata":              {msg(2, msg(8)), Limits{Elements: 1}, TooMany},
		"values by turns":       {msg(2, bytes.Repeat(join(msg(17), msg(18)), 1000)), Limits{Elements: 1000}, TooMany},
		"values by turns, sets": {msg(2, msg(9, msg(2, bytes.Repeat(join(msg(9), msg(10)), 1000)))), Limits{Elements: 1000}, TooMany},
		"8 templates":           {nestTemplates(8), Limits{}, 0},
		"9 templates":           {nestTemplates(9), Limits{}, TooDeep},
		"8 sets":                {nestSets(8), Limits{}, 0},
		"9 sets":                {nestSets(9), Limits{}, TooDeep},
		"8 sets and lists":      {nestLists(8), Limits{}, 0},
		"10 sets and lists":     {nestLists(10), Limits{}, TooDeep},
		"many templates":        {nestTemplates(2_000), Limits{}, TooDeep},
		"sets beside a set":     {bytes.Repeat(nestSets(8), 100), Limits{}, 0},
		"deeper by choice":      {nestTemplates(100), Limits{Depth: 100}, 0},
	} {
		var p Payload
		if err := p.Decode(c.wire, c.limits); code(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
		if err := p.Decode(goldens[3].wire, Limits{}); err != nil || !same(&p, &goldens[3].p) {
			t.Errorf("%s: no use afterwards: %v", name, err)
		}
	}
}

// TestCut: of every prefix of a message is said that it ends early, unless it
// ends between two fields.
func TestCut(t *testing.T) {
	for _, g := range goldens {
		var ends []int
		for i := 0; i < len(g.wire); {
			var d decoder
			tag, next := d.uvarint(g.wire, i)
			i = d.skip(tag, g.wire, next)
			ends = append(ends, i)
		}
		at := map[int]bool{0: true}
		for _, e := range ends {
			at[e] = true
		}
		for n := range g.wire {
			want := Truncated
			if at[n] {
				want = 0
			}
			var p Payload
			if err := p.Decode(g.wire[:n], Limits{}); code(err) != want {
				t.Errorf("%s, %d of %d bytes: %v", g.name, n, len(g.wire), err)
			}
			if _, err := Peek(g.wire[:n]); code(err) != want {
				t.Errorf("Peek: %s, %d of %d bytes: %v", g.name, n, len(g.wire), err)
			}
		}
	}
	// What a nested message lacks was never sent.
	var p Payload
	if err := p.Decode([]byte{0x12, 2, 0x0a, 5, 0x18, 1}, Limits{}); code(err) != Malformed {
		t.Error(err)
	}
}

// TestMemoryIsBounded: whatever the shape of the bytes, an element costs at
// most what Limits says.
func TestMemoryIsBounded(t *testing.T) {
	const elements = 100_000
	wires := map[string][]byte{
		"metrics":    bytes.Repeat([]byte{0x12, 0}, elements),
		"metadata":   bytes.Repeat(msg(2, msg(8)), elements/2),
		"sets":       bytes.Repeat(msg(2, msg(9)), elements/2),
		"by turns":   msg(2, bytes.Repeat(join(msg(17), msg(18)), elements/2-10)),
		"members":    msg(2, msg(18, bytes.Repeat(msg(2), elements-10))),
		"parameters": msg(2, msg(18, bytes.Repeat(msg(3), elements-10))),
		"values":     msg(2, msg(9, bytes.Repeat(msg(2), elements-10))),
		"rows":       msg(2, msg(17, bytes.Repeat(msg(4), elements-10))),
		"cells":      msg(2, msg(17, msg(4, bytes.Repeat(msg(1), elements-10)))),
		"types":      msg(2, msg(17, msg(3, make([]byte, elements-10)))),
	}
	for name, wire := range wires {
		var before, after runtime.MemStats
		p := new(Payload)
		runtime.GC()
		runtime.ReadMemStats(&before)
		if err := p.Decode(wire, Limits{Elements: elements}); err != nil {
			t.Fatal(name, err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		each := (float64(after.HeapAlloc) - float64(before.HeapAlloc)) / elements
		if each > 200 {
			t.Errorf("%s: %.0f bytes an element", name, each)
		}
		runtime.KeepAlive(p)
	}
}

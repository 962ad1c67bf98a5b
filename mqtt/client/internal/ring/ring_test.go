package ring

import (
	"testing"

	"pgregory.net/rapid"
)

// The queue does what a slice of all elements ever pushed would do.
func TestQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q Queue[*int]
		start := rapid.Uint64Range(0, 1<<40).Draw(t, "start")
		q.Start(start)
		var all []*int
		first := 0
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				v := new(int)
				if pos := q.Push(v); pos != start+uint64(len(all)) {
					t.Fatalf("pushed to %d", pos)
				}
				all = append(all, v)
			},
			"pop": func(t *rapid.T) {
				if q.Len() == 0 {
					t.Skip("empty")
				}
				if q.Pop() != all[first] {
					t.Fatal("popped another element")
				}
				first++
			},
			"clear": func(*rapid.T) {
				q.Clear()
				first = len(all)
			},
			"": func(t *rapid.T) {
				if q.Len() != len(all)-first || q.First() != start+uint64(first) || q.Next() != start+uint64(len(all)) {
					t.Fatalf("holds [%d, %d), want %d elements from %d", q.First(), q.Next(), len(all)-first, start+uint64(first))
				}
				for i := first; i < len(all); i++ {
					pos := start + uint64(i)
					if !q.Holds(pos) || *q.At(pos) != all[i] {
						t.Fatalf("element %d is another", pos)
					}
				}
				if q.Holds(q.Next()) || q.First() > 0 && q.Holds(q.First()-1) {
					t.Fatal("holds more than it has")
				}
				live := 0
				for _, p := range q.buf {
					if p != nil {
						live++
					}
				}
				if live != q.Len() {
					t.Fatalf("%d elements are kept alive, %d held", live, q.Len())
				}
			},
		})
	})
}

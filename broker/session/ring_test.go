package session

import (
	"testing"

	"pgregory.net/rapid"
)

// A ring is like a slice, whatever its length, and no entry moves once there are
// more than fit in one chunk.
func TestRing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r ring[int]
		var want []int
		next := 0
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				for range rapid.IntRange(1, 3*roomy).Draw(t, "pushed") {
					r.push(next)
					want = append(want, next)
					next++
				}
			},
			"pop": func(t *rapid.T) {
				for range rapid.IntRange(0, len(want)).Draw(t, "popped") {
					if got := *r.head(); got != want[0] {
						t.Fatalf("the head is %d, want %d", got, want[0])
					}
					r.pop()
					want = want[1:]
				}
			},
			"trim": func(*rapid.T) { r.trim() },
			"": func(t *rapid.T) {
				if r.n != len(want) || r.end() != uint64(next) {
					t.Fatalf("%d entries up to %d, want %d up to %d", r.n, r.end(), len(want), next)
				}
				for i, w := range want {
					if got := *r.at(r.base + uint64(i)); got != w {
						t.Fatalf("entry %d is %d, want %d", i, got, w)
					}
				}
			},
		})
		for r.n > 0 {
			r.pop()
		}
		if len(r.buf) > roomy || r.more != nil {
			t.Fatalf("an empty ring has room for %d", len(r.buf))
		}
	})

	var r ring[int]
	for i := range roomy + 1 {
		r.push(i)
	}
	first, last := r.at(0), r.at(roomy)
	for i := range 100 * roomy {
		r.push(i)
	}
	if r.at(0) != first || r.at(roomy) != last {
		t.Error("entries have moved")
	}
}

// BenchmarkRing is the cost of an entry in a queue that stays short, and in one
// that grows to a million.
func BenchmarkRing(b *testing.B) {
	b.Run("short", func(b *testing.B) {
		var r ring[Delivery]
		for b.Loop() {
			r.push(Delivery{Seq: 1})
			r.pop()
		}
	})
	b.Run("million", func(b *testing.B) {
		for b.Loop() {
			var r ring[Delivery]
			for range 1_000_000 {
				r.push(Delivery{Seq: 1})
			}
			for r.n > 0 {
				r.pop()
			}
		}
	})
}

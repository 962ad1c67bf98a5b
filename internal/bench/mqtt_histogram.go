package bench

import (
	"math"
	"math/bits"
	"sync/atomic"
)

// histogram counts times in buckets whose width is about 3 % of their value. It
// is safe for concurrent use and never allocates.
type histogram struct{ buckets [60 * half]atomic.Int64 }

// half is the number of buckets between a power of two and the next.
const half = 32

// bucket is where a time of ns goes: times below 2*half have a bucket each, the
// others share one with those that agree in their first six bits.
func bucket(ns int64) int {
	v := uint64(max(ns, 0))
	shift := max(bits.Len64(v)-bits.Len(2*half-1), 0)
	return shift*half + int(v>>shift)
}

// middle is the time in the middle of a bucket.
func middle(i int) float64 {
	shift := max(i/half-1, 0)
	return (float64(i-shift*half) + 0.5) * math.Exp2(float64(shift))
}

func (h *histogram) add(ns int64) { h.buckets[bucket(ns)].Add(1) }

// ms is the p-th share of all times in milliseconds, by the nearest rank, and 0
// when there are none.
func (h *histogram) ms(p float64) float64 {
	var all int64
	for i := range h.buckets {
		all += h.buckets[i].Load()
	}
	rank := max(1, int64(math.Ceil(p*float64(all))))
	for i := range h.buckets {
		if rank -= h.buckets[i].Load(); rank <= 0 {
			return math.Round(middle(i)/10) / 1e5
		}
	}
	return 0
}

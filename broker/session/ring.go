package session

// A ring that runs empty keeps up to roomy entries of memory for what comes
// next; trim leaves it modest.
const (
	roomy  = 1024
	modest = 16
)

// ring is a first-in first-out queue whose entries have positions that never
// change: the first entry ever pushed is 0, the next 1. Its zero value is
// empty and holds no memory.
type ring[T any] struct {
	buf  []T // length is a power of two
	base uint64
	n    int
}

// end is the position of the next entry to be pushed.
func (r *ring[T]) end() uint64 { return r.base + uint64(r.n) }

// at is the entry at position p, which must lie in [base, end).
func (r *ring[T]) at(p uint64) *T { return &r.buf[p&uint64(len(r.buf)-1)] }

func (r *ring[T]) head() *T { return r.at(r.base) }

func (r *ring[T]) push(v T) {
	if r.n == len(r.buf) {
		r.grow()
	}
	*r.at(r.end()) = v
	r.n++
}

func (r *ring[T]) grow() {
	old := *r
	r.buf = make([]T, max(4, 2*len(old.buf)))
	for p := old.base; p < old.end(); p++ {
		*r.at(p) = *old.at(p)
	}
}

// pop removes the head.
func (r *ring[T]) pop() {
	var zero T
	*r.head() = zero
	r.base++
	r.n--
	if r.n == 0 && len(r.buf) > roomy {
		r.buf = nil
	}
}

// trim gives back memory that an idle session has no use for.
func (r *ring[T]) trim() {
	if r.n == 0 && len(r.buf) > modest {
		r.buf = nil
	}
}

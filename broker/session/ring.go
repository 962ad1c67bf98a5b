package session

// A ring that runs empty keeps up to roomy entries of memory for what comes
// next; trim leaves it modest.
const (
	roomy  = 1024
	modest = 16
)

// ring is a first-in first-out queue whose entries have positions that never
// change: the first entry ever pushed is 0, the next 1. Its zero value is
// empty and holds no memory. It moves entries only while it has no more than
// roomy: what comes then is in chunks, so that no push takes long.
type ring[T any] struct {
	buf  []T // the front; length is a power of two, up to roomy
	base uint64
	n    int
	more *chunks[T] // behind buf; nil: nothing
}

// chunks are the entries of a ring from a position on, roomy in each slice.
type chunks[T any] struct {
	from uint64
	list [][]T
}

// end is the position of the next entry to be pushed.
func (r *ring[T]) end() uint64 { return r.base + uint64(r.n) }

// at is the entry at position p, which must lie in [base, end).
func (r *ring[T]) at(p uint64) *T {
	buf := r.buf
	if m := r.more; m != nil && p >= m.from {
		buf = m.list[(p-m.from)/roomy]
	}
	return &buf[p&uint64(len(buf)-1)]
}

func (r *ring[T]) head() *T { return &r.buf[r.base&uint64(len(r.buf)-1)] }

func (r *ring[T]) push(v T) {
	if r.more != nil || r.n == len(r.buf) {
		r.grow()
	}
	p := r.end()
	r.n++
	*r.at(p) = v
}

// grow makes room for one entry.
func (r *ring[T]) grow() {
	switch {
	case r.n < roomy && r.more == nil:
		old := *r
		r.buf = make([]T, max(4, 2*len(old.buf)))
		for p := old.base; p < old.end(); p++ {
			*r.at(p) = *old.at(p)
		}
		return
	case r.more == nil:
		r.more = &chunks[T]{from: r.end()}
	}
	if m := r.more; r.end()-m.from == uint64(len(m.list))*roomy {
		m.list = append(m.list, make([]T, roomy))
	}
}

// pop removes the head.
func (r *ring[T]) pop() {
	var zero T
	*r.head() = zero
	r.base++
	r.n--
	m := r.more
	if m == nil || r.base < m.from {
		return
	}
	// The next chunk becomes the front: as long as roomy, it has each position
	// at the same place as before.
	r.buf, m.list[0] = m.list[0], nil
	m.list, m.from = m.list[1:], m.from+roomy
	if len(m.list) == 0 {
		r.more = nil
	}
}

// trim gives back memory that an idle session has no use for.
func (r *ring[T]) trim() {
	if r.n == 0 && len(r.buf) > modest {
		r.buf = nil
	}
}

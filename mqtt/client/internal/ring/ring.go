// Package ring holds a growing first-in first-out queue whose elements can be
// reached by position. It does not allocate once it has grown to what its user
// needs. It is not safe for concurrent use.
package ring

// Queue is a queue of T. The zero value is empty and ready.
//
// Every element has a position: the first ever pushed has 0, the next 1, and so
// on; positions are never reused. The queue holds [First, Next).
type Queue[T any] struct {
	buf   []T // length 0 or a power of two
	first uint64
	next  uint64
}

// Len returns how many elements are held.
func (q *Queue[T]) Len() int { return int(q.next - q.first) }

// First returns the position of the oldest element held.
func (q *Queue[T]) First() uint64 { return q.first }

// Next returns the position that the next Push will give.
func (q *Queue[T]) Next() uint64 { return q.next }

// Start sets the position of the first element. The queue must be empty.
func (q *Queue[T]) Start(pos uint64) { q.first, q.next = pos, pos }

// Holds reports whether the element at pos is in the queue.
func (q *Queue[T]) Holds(pos uint64) bool { return pos >= q.first && pos < q.next }

// At returns the element at a position that the queue holds. The pointer is
// valid until the next Push.
func (q *Queue[T]) At(pos uint64) *T { return &q.buf[pos&uint64(len(q.buf)-1)] }

// Push adds v at the end and returns its position.
func (q *Queue[T]) Push(v T) uint64 {
	if q.Len() == len(q.buf) {
		q.grow()
	}
	pos := q.next
	q.next++
	*q.At(pos) = v
	return pos
}

// Pop removes the oldest element. The queue must not be empty.
func (q *Queue[T]) Pop() T {
	var zero T
	p := q.At(q.first)
	v := *p
	*p = zero
	q.first++
	return v
}

// Clear removes all elements; positions go on.
func (q *Queue[T]) Clear() {
	clear(q.buf)
	q.first = q.next
}

func (q *Queue[T]) grow() {
	old, size := q.buf, uint64(len(q.buf))
	q.buf = make([]T, max(8, 2*size))
	for pos := q.first; pos < q.next; pos++ {
		*q.At(pos) = old[pos&(size-1)]
	}
}

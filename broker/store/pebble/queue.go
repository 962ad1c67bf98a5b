package pebblestore

import (
	"cmp"
	"slices"
)

// How many entries of a queue have their numbers in memory.
const (
	ringAttached = 4096
	ringDetached = 64
)

// When what lies below the low-water mark is deleted from the disk.
const (
	trimEntries = 1024
	trimBytes   = 1 << 20
)

// item is what memory knows of an entry.
type item struct {
	seq    uint64
	size   uint32
	shared bool
	gone   bool
}

// queue is one session as the store has it in memory. Store.mu guards it.
type queue struct {
	sid      uint64
	client   string
	detached bool
	ended    bool
	dirty    bool // totals are to be written with the open group
	totals
	known    uint64 // ring has all entries up to this one
	cuts     uint64 // times that known went back
	ring     []item
	reserved map[uint64]uint16 // packet ids, by entry
	order    uint64            // of the newest handshake that awaits PUBCOMP

	appended uint64 // group of the newest entry
	// What the open group appended while ring was full: it is not on the disk to
	// be looked up, and lets ring catch up with a session that is never idle.
	fresh      []item
	freshIn    uint64 // group
	freshAfter uint64 // entry before the first of fresh

	barrier uint64 // group that must be applied before entries above known are read

	trimmed              uint64 // nothing below is on the disk
	untrimmed, deadBytes int
}

// push adds an entry that is about to be appended with a group.
func (q *queue) push(it item, group uint64) {
	limit := ringAttached
	if q.detached {
		limit = ringDetached
	}
	if q.count == 0 {
		q.ring, q.known, q.low = nil, q.last, it.seq
	}
	if q.known == q.last && len(q.ring) < limit {
		q.ring = append(q.ring, it)
		q.known = it.seq
	} else {
		if q.freshIn != group {
			q.fresh, q.freshIn, q.freshAfter = q.fresh[:0], group, q.last
		}
		q.fresh = append(q.fresh, it)
	}
	q.last, q.appended = it.seq, group
	q.count++
	q.bytes += int(it.size)
	if it.shared {
		q.shared++
	}
}

// find returns the live entry seq of ring, or nil.
func (q *queue) find(seq uint64) *item {
	i, ok := slices.BinarySearchFunc(q.ring, seq, func(it item, seq uint64) int { return cmp.Compare(it.seq, seq) })
	if !ok || q.ring[i].gone {
		return nil
	}
	return &q.ring[i]
}

// may tells whether seq can be in the queue, as far as memory knows.
func (q *queue) may(seq uint64) bool {
	return q.count > 0 && seq >= q.low && seq <= q.last && (seq > q.known || q.find(seq) != nil)
}

// settle takes a removed entry off the totals.
func (q *queue) settle(it item) {
	q.count--
	q.bytes -= int(it.size)
	if it.shared {
		q.shared--
	}
	q.untrimmed++
	q.deadBytes += int(it.size)
}

// advance moves the low-water mark to the first live entry.
func (q *queue) advance() {
	n := 0
	for n < len(q.ring) && q.ring[n].gone {
		n++
	}
	q.ring = q.ring[n:]
	switch {
	case q.count == 0:
		q.ring, q.known, q.low = nil, q.last, q.last+1
	case len(q.ring) > 0:
		q.low = q.ring[0].seq
	default:
		q.ring = nil
		q.low = max(q.low, q.known+1)
	}
}

// shrink gives up what memory a client that is away does not need. What is
// forgotten is read again, when group is on the disk.
func (q *queue) shrink(group uint64) {
	if len(q.ring) <= ringDetached {
		return
	}
	fresh, after := slices.Clone(q.ring[ringDetached:]), q.ring[ringDetached-1].seq
	if q.freshIn == group {
		if q.freshAfter != q.known {
			after = ^uint64(0) // between the two is what only the disk knows
		}
		fresh = append(fresh, q.fresh...)
	}
	q.fresh, q.freshIn, q.freshAfter = fresh, group, after
	q.ring = slices.Clone(q.ring[:ringDetached])
	q.known = q.ring[ringDetached-1].seq
	q.cuts++
	q.barrier = group
}

// young returns a live entry that the open group appended and ring has not.
func (q *queue) young(seq, group uint64) (item, bool) {
	if q.freshIn != group {
		return item{}, false
	}
	i, ok := slices.BinarySearchFunc(q.fresh, seq, func(it item, seq uint64) int { return cmp.Compare(it.seq, seq) })
	if !ok || q.fresh[i].gone {
		return item{}, false
	}
	return q.fresh[i], true
}

// extend takes entries that follow known, but for those that are gone.
func (q *queue) extend(read []item, gone map[lateKey]bool) {
	for _, it := range read {
		if it.seq > q.known && it.seq >= q.low && len(q.ring) < ringAttached {
			if it.gone || gone[lateKey{q.sid, it.seq}] {
				q.known = it.seq
				continue
			}
			q.ring = append(q.ring, it)
			q.known = it.seq
		}
	}
}

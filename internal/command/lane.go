package command

import (
	"bytes"
	"slices"
)

// Lane is the order of one device's commands: those that wait, the highest
// priority first and then first in first out by TID, those that are held by their terms, those that take a place in the window, and those whose outcome is
// unknown. It knows no clock and no presence: the caller asks Next only while the
// device may be sent to.
//
// A Lane is not safe for concurrent use. 16 bytes a waiting command, and some 40
// more for one with a priority.
type Lane struct {
	window    int
	waiting   []TID        // in order; waiting[:head] are gone
	rank      map[TID]int8 // of those that wait or are held, where it is not 0
	head      int
	held      []TID // sorted; their turn has come, and they may not go yet
	inflight  []TID
	unsettled []TID
}

// NewLane makes a lane that lets window commands be in flight; at least 1.
func NewLane(window int) *Lane { return &Lane{window: max(window, 1)} }

// SetWindow changes how many commands may be in flight; at least 1.
func (l *Lane) SetWindow(n int) { l.window = max(n, 1) }

// Track brings the lane up to date with a command that is new or has moved. A
// command that is where it belongs keeps its place.
func (l *Lane) Track(c *Command) {
	waits, open := c.State == Created && !c.Held, c.State == TimedOut && !c.Closed
	if !waits {
		l.unqueue(c.TID)
	}
	if p := c.Priority(); c.State == Created && p != 0 && l.rank[c.TID] == 0 {
		if l.rank == nil {
			l.rank = make(map[TID]int8)
		}
		l.rank[c.TID] = int8(p)
	}
	i, found := slices.BinarySearchFunc(l.held, c.TID, compare)
	switch held := c.State == Created && c.Held; {
	case held && !found:
		l.held = slices.Insert(l.held, i, c.TID)
	case !held && found:
		l.held = slices.Delete(l.held, i, i+1)
	}
	l.inflight = place(l.inflight, c.TID, c.State.InFlight())
	l.unsettled = place(l.unsettled, c.TID, open)
	if waits {
		l.wait(c.TID)
	}
	if c.State != Created {
		delete(l.rank, c.TID)
	}
}

// place gives list with tid in it, at the end when it is new, or without.
func place(list []TID, tid TID, in bool) []TID {
	i := slices.Index(list, tid)
	switch {
	case in && i < 0:
		return append(list, tid)
	case !in && i >= 0:
		return slices.Delete(list, i, i+1)
	}
	return list
}

// Next is the command to dispatch now, if the window has a place.
func (l *Lane) Next() (TID, bool) {
	if len(l.inflight) >= l.window || l.head == len(l.waiting) {
		return TID{}, false
	}
	return l.waiting[l.head], true
}

// Waiting is the number of commands that have not been sent, held ones included.
func (l *Lane) Waiting() int { return len(l.waiting) - l.head + len(l.held) }

// Held lists the commands that wait for what their terms ask for, the oldest
// first. They stand in nobody's way. The slice is the lane's own.
func (l *Lane) Held() []TID { return l.held }

// Unhold puts a held command back to its place among those that wait for their
// turn: it is to be looked at again.
func (l *Lane) Unhold(tid TID) {
	if i, found := slices.BinarySearchFunc(l.held, tid, compare); found {
		l.held = slices.Delete(l.held, i, i+1)
		l.wait(tid)
	}
}

// InFlight lists the commands that take a place in the window, in the order in
// which they took it. The slice is the lane's own.
func (l *Lane) InFlight() []TID { return l.inflight }

// Unsettled lists the commands whose outcome is unknown and may still come. The
// slice is the lane's own.
func (l *Lane) Unsettled() []TID { return l.unsettled }

// Queued lists the commands that wait: those that are held, and then the others,
// the next one first. The caller must not write to the slice.
func (l *Lane) Queued() []TID {
	if len(l.held) == 0 {
		return l.waiting[l.head:]
	}
	return slices.Concat(l.held, l.waiting[l.head:])
}

// wait puts tid at its place. Nearly always that is the end, because TIDs rise
// with time; a command that was held for approval goes before younger ones, and one
// of a higher priority before all of a lower one.
func (l *Lane) wait(tid TID) {
	i, found := slices.BinarySearchFunc(l.waiting[l.head:], tid, l.order)
	if !found {
		l.waiting = slices.Insert(l.waiting, l.head+i, tid)
	}
}

// unqueue takes tid out of the waiting ones, if it is there.
func (l *Lane) unqueue(tid TID) {
	i, found := slices.BinarySearchFunc(l.waiting[l.head:], tid, l.order)
	if !found {
		return
	}
	if i > 0 {
		l.waiting = slices.Delete(l.waiting, l.head+i, l.head+i+1)
		return
	}
	l.head++
	// Space is given back once half of it is behind the head: amortised O(1).
	if l.head > 32 && l.head > len(l.waiting)/2 {
		l.waiting = append([]TID(nil), l.waiting[l.head:]...)
		l.head = 0
	} else if l.head == len(l.waiting) {
		l.waiting, l.head = l.waiting[:0], 0
	}
}

// order compares two of those that wait.
func (l *Lane) order(a, b TID) int {
	if len(l.rank) > 0 {
		if ra, rb := l.rank[a], l.rank[b]; ra != rb {
			return int(rb) - int(ra)
		}
	}
	return compare(a, b)
}

func compare(a, b TID) int { return bytes.Compare(a[:], b[:]) }

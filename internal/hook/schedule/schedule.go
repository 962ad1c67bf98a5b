// Package schedule decides which delivery of a hook is tried next, and when one
// that failed is tried again.
//
//	hook ─┬─ lane (a device) : 17 ─ 23 ─ 40        one of a lane is in flight at a time,
//	      ├─ lane            : 18 (failed, due 10:05)  the lowest first; a failure holds
//	      └─ lane            : 19 ─ 20               back its own lane and nothing else
//
// It is pure: time and randomness come in as arguments. A Queue keeps 8 bytes for
// what waits, and some more for each lane that is not empty. It is owned by one
// goroutine, or guarded by a lock of its owner.
package schedule

import (
	"container/heap"
	"slices"
	"time"
)

// Item is one delivery: the event Seq, for a device's Lane, at a Hook.
type Item struct {
	Hook, Lane string
	Seq        int64
}

// Queue is all deliveries that wait. Make one with New.
type Queue struct {
	perHook int
	names   []string // of hooks, sorted, so that the order does not depend on a map
	hooks   map[string]*hook
}

type hook struct {
	lanes  map[string]*lane
	ready  lanes // not in flight, not empty; the next one first
	flying int
	count  int // of items, in flight ones included
}

type lane struct {
	name    string
	waiting []int64 // sorted
	flying  int64   // 0: none
	due     time.Time
	place   int // in ready; -1: not there
}

// New makes an empty queue that has at most perHook deliveries of one hook in
// flight at a time.
func New(perHook int) *Queue { return &Queue{perHook: perHook, hooks: map[string]*hook{}} }

// Add puts an item into its lane, at the place of its Seq but never before one in
// flight. Due counts when nothing else is in the lane: otherwise it waits for what
// is before it anyway. An item that is there already is not added again.
func (q *Queue) Add(i Item, due time.Time) {
	h := q.hooks[i.Hook]
	if h == nil {
		h = &hook{lanes: map[string]*lane{}}
		q.hooks[i.Hook] = h
		at, _ := slices.BinarySearch(q.names, i.Hook)
		q.names = slices.Insert(q.names, at, i.Hook)
	}
	l := h.lanes[i.Lane]
	if l == nil {
		l = &lane{name: i.Lane, due: due, place: -1}
		h.lanes[i.Lane] = l
	}
	at, there := slices.BinarySearch(l.waiting, i.Seq)
	if there || l.flying == i.Seq {
		return
	}
	l.waiting = slices.Insert(l.waiting, at, i.Seq)
	h.count++
	h.settle(l)
}

// Next takes the item that is to be tried now: of the first hook by name that has
// one, the lane that has been due for longest. It is in flight until Done or Again.
func (q *Queue) Next(now time.Time) (i Item, ok bool) {
	for _, name := range q.names {
		h := q.hooks[name]
		if h.flying >= q.perHook || len(h.ready) == 0 || h.ready[0].due.After(now) {
			continue
		}
		l := h.ready[0]
		l.flying, l.waiting = l.waiting[0], l.waiting[1:]
		h.flying++
		h.settle(l)
		return Item{name, l.name, l.flying}, true
	}
	return Item{}, false
}

// Wake is when Next will have something, if nothing else happens; false: never.
func (q *Queue) Wake() (at time.Time, ok bool) {
	for _, h := range q.hooks {
		if h.flying >= q.perHook || len(h.ready) == 0 {
			continue
		}
		if due := h.ready[0].due; !ok || due.Before(at) {
			at, ok = due, true
		}
	}
	return at, ok
}

// Done ends an item in flight, delivered or given up: the next of its lane is due
// at once.
func (q *Queue) Done(i Item) {
	h, l := q.landed(i)
	if l == nil {
		return
	}
	h.count--
	l.due = time.Time{}
	h.settle(l)
}

// Again puts an item in flight back: its lane is due at a time.
func (q *Queue) Again(i Item, due time.Time) {
	h, l := q.landed(i)
	if l == nil {
		return
	}
	at, _ := slices.BinarySearch(l.waiting, i.Seq)
	l.waiting = slices.Insert(l.waiting, at, i.Seq)
	l.due = due
	h.settle(l)
}

// landed takes i out of flight. Lane is nil when its hook was dropped meanwhile.
func (q *Queue) landed(i Item) (*hook, *lane) {
	h := q.hooks[i.Hook]
	if h == nil || h.lanes[i.Lane] == nil || h.lanes[i.Lane].flying != i.Seq {
		return nil, nil
	}
	h.flying--
	h.lanes[i.Lane].flying = 0
	return h, h.lanes[i.Lane]
}

// Drop forgets a hook with all its items, those in flight too.
func (q *Queue) Drop(name string) {
	if at, there := slices.BinarySearch(q.names, name); there {
		q.names = slices.Delete(q.names, at, at+1)
		delete(q.hooks, name)
	}
}

// Len is how many items of a hook wait or are in flight.
func (q *Queue) Len(name string) int {
	if h := q.hooks[name]; h != nil {
		return h.count
	}
	return 0
}

// settle puts a lane where it belongs after a change.
func (h *hook) settle(l *lane) {
	ready := l.flying == 0 && len(l.waiting) > 0
	switch {
	case ready && l.place < 0:
		heap.Push(&h.ready, l)
	case ready:
		heap.Fix(&h.ready, l.place)
	case l.place >= 0:
		heap.Remove(&h.ready, l.place)
	}
	if l.flying == 0 && len(l.waiting) == 0 {
		delete(h.lanes, l.name)
	}
}

// lanes is a heap: the one due first, then the one with the lowest item; by name
// where that is the same, which events are not.
type lanes []*lane

func (s lanes) Len() int { return len(s) }

func (s lanes) Less(i, j int) bool {
	if !s[i].due.Equal(s[j].due) {
		return s[i].due.Before(s[j].due)
	}
	if a, b := s[i].waiting[0], s[j].waiting[0]; a != b {
		return a < b
	}
	return s[i].name < s[j].name
}

func (s lanes) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].place, s[j].place = i, j
}

// Push implements heap.Interface.
func (s *lanes) Push(x any) {
	l := x.(*lane)
	l.place = len(*s)
	*s = append(*s, l)
}

// Pop implements heap.Interface.
func (s *lanes) Pop() any {
	old := *s
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*s = old[:len(old)-1]
	l.place = -1
	return l
}

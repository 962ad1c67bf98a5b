package order

import (
	"fmt"
	"slices"
	"sort"
	"time"
)

// Defaults of [ReorderOptions].
const (
	DefaultReorderItems   = 1024
	DefaultReorderBytes   = 1 << 20
	DefaultReorderTimeout = 5 * time.Second
)

// ReorderOptions are the settings of a Reorder; the zero value is useful.
type ReorderOptions struct {
	MaxItems int           // items held back; default DefaultReorderItems
	MaxBytes int           // sum of their sizes; default DefaultReorderBytes
	Timeout  time.Duration // how long the oldest hole may hold others back; default DefaultReorderTimeout
	MaxGaps  int           // gaps that went out and are remembered, to tell late from duplicate; default DefaultMaxGaps
	// Join takes the first number that arrives as the beginning; see
	// TrackerOptions. What was shuffled to before it is then dropped.
	Join bool
}

// Item is one message of the stream.
type Item[T any] struct {
	Epoch, Seq uint64 // as in Stamp
	Size       int    // bytes to count against MaxBytes
	Value      T
}

// Cause is why a Reorder stopped waiting for what is missing.
type Cause uint8

// Why a gap goes out.
const (
	TimedOut Cause = iota // the hole was as old as Timeout
	Full                  // MaxItems or MaxBytes would have been passed
	NewEpoch              // the publisher began anew
	Told                  // Explain said that they will not come
	Flushed               // Flush was called
)

var causeNames = [...]string{"timed out", "full", "new epoch", "told", "flushed"}

// String returns the cause in words.
func (c Cause) String() string {
	if int(c) < len(causeNames) {
		return causeNames[c]
	}
	return fmt.Sprintf("Cause(%d)", uint8(c))
}

// Out is what leaves a Reorder: an item, or a gap in its place.
type Out[T any] struct {
	Item  Item[T] // for a gap, only Epoch is set
	Gap   Gap     // the zero Gap for an item
	Cause Cause   // for a gap
}

// IsGap says whether o stands for missing messages.
func (o *Out[T]) IsGap() bool { return o.Gap.From != 0 }

// Fate is what became of an item that was pushed.
type Fate uint8

// What can become of a pushed item.
const (
	Passed     Fate = iota // it went out with this call
	Held                   // it waits for those before it
	Repeated               // dropped: has been here before
	Overdue                // dropped: its gap has already gone out, it cannot be put in order any more
	OldEpoch               // dropped: of an epoch that is over
	Unnumbered             // dropped: its number is 0, or above MaxSeq
)

var fateNames = [...]string{"passed", "held", "repeated", "overdue", "old epoch", "unnumbered"}

// String returns the fate in words.
func (f Fate) String() string {
	if int(f) < len(fateNames) {
		return fateNames[f]
	}
	return fmt.Sprintf("Fate(%d)", uint8(f))
}

// ReorderStats are counts since the Reorder was made, and what it holds now.
type ReorderStats struct {
	Passed                                  uint64 // items that went out
	Repeated, Overdue, OldEpoch, Unnumbered uint64 // items dropped, by fate
	Gaps, Missing                           uint64 // gaps that went out, and the numbers in them
	Held, HeldBytes                         int    // now
}

// Reorder puts the items of one stream in order: what goes in shuffled comes
// out by rising number, each number once, and what does not come within
// Timeout, or within the bounds, comes out as a gap. Not safe for concurrent
// use.
//
// The clock belongs to the oldest hole, not to an item: a hole is known from
// the first arrival behind it, and what is behind is never held longer than
// Timeout for this one hole. So one lost message costs one Timeout, and many
// lost messages at the same time cost one Timeout together.
//
// Invariants, between any two calls: held is sorted and has no number below
// next, nor next itself; at most MaxItems and MaxBytes are held; every number
// below next has gone out, as an item or in a gap.
type Reorder[T any] struct {
	o     ReorderOptions
	fresh bool
	epoch uint64
	next  uint64 // the number that has to go out next
	held  []heldItem[T]
	bytes int
	now   time.Time // latest time that was passed in
	told  gapSet    // from next on: what will not come
	gone  gapSet    // below next: what went out as a gap
	floor uint64    // nothing is remembered up to here
	out   []Out[T]
	stats ReorderStats
}

type heldItem[T any] struct {
	Item[T]
	// since is when the hole before this item was known: the earliest arrival
	// among this item and all behind it.
	since time.Time
}

// NewReorder returns an empty buffer.
func NewReorder[T any](o ReorderOptions) *Reorder[T] {
	if o.MaxItems <= 0 {
		o.MaxItems = DefaultReorderItems
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultReorderBytes
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultReorderTimeout
	}
	if o.MaxGaps <= 0 {
		o.MaxGaps = DefaultMaxGaps
	}
	return &Reorder[T]{o: o, fresh: true, next: 1}
}

// Push takes an arrival at the time now, and returns what can go out, in order,
// and what became of the item. The slice is borrowed until the next call. It
// does what Expire does first, so a busy stream needs no timer; a time that
// goes backwards counts as the latest one.
func (r *Reorder[T]) Push(it Item[T], now time.Time) ([]Out[T], Fate) {
	r.begin(now)
	r.expire()
	if it.Seq-1 >= MaxSeq {
		r.stats.Unnumbered++
		return r.out, Unnumbered
	}
	if r.fresh || it.Epoch != r.epoch {
		if !r.enter(it) {
			r.stats.OldEpoch++
			return r.out, OldEpoch
		}
	}
	if it.Seq == r.next {
		r.pass(it)
		if len(r.held)+len(r.told) > 0 {
			r.advance()
		}
		return r.out, Passed
	}
	fate := r.place(it)
	if fate == Held {
		for len(r.held) > r.o.MaxItems || r.bytes > r.o.MaxBytes {
			r.skip(Full)
		}
		if it.Seq < r.next {
			fate = Passed
		}
	}
	return r.out, fate
}

// enter begins the epoch of the item; false if it is over.
func (r *Reorder[T]) enter(it Item[T]) bool {
	switch {
	case r.fresh:
		if r.fresh = false; r.o.Join {
			r.next, r.floor = it.Seq, it.Seq-1
		}
	case it.Epoch < r.epoch:
		return false
	default:
		r.flush(NewEpoch)
		r.next, r.floor = 1, 0
		r.told, r.gone = r.told[:0], r.gone[:0]
	}
	r.epoch = it.Epoch
	return true
}

// place puts an item that is not the next one among the held ones, or drops it.
func (r *Reorder[T]) place(it Item[T]) Fate {
	switch {
	case it.Seq < r.next && (it.Seq <= r.floor || r.gone.find(it.Seq).From != 0):
		r.gone.cut(it.Seq, it.Seq)
		r.forget()
		r.stats.Overdue++
		return Overdue
	case it.Seq < r.next:
		r.stats.Repeated++
		return Repeated
	}
	i := sort.Search(len(r.held), func(i int) bool { return r.held[i].Seq >= it.Seq })
	if i < len(r.held) && r.held[i].Seq == it.Seq {
		r.stats.Repeated++
		return Repeated
	}
	r.told.cut(it.Seq, it.Seq) // it came all the same
	since := r.now
	if i < len(r.held) {
		since = r.held[i].since
	}
	r.held = slices.Insert(r.held, i, heldItem[T]{it, since})
	r.bytes += it.Size
	return Held
}

// advance lets out what is next, as long as something is.
func (r *Reorder[T]) advance() {
	n := 0
	for {
		if n < len(r.held) && r.held[n].Seq == r.next {
			r.bytes -= r.held[n].Size
			r.pass(r.held[n].Item)
			n++
			continue
		}
		if len(r.told) == 0 || r.told[0].From != r.next {
			break
		}
		r.miss(r.told[0], Told)
		r.told = slices.Delete(r.told, 0, 1)
	}
	r.held = slices.Delete(r.held, 0, n)
}

// skip gives the oldest hole up. Something is held.
func (r *Reorder[T]) skip(why Cause) {
	to := r.held[0].Seq - 1
	if len(r.told) > 0 && r.told[0].From <= to {
		to = r.told[0].From - 1
	}
	r.miss(Gap{From: r.next, To: to}, why)
	r.advance()
}

func (r *Reorder[T]) pass(it Item[T]) {
	r.out = append(r.out, Out[T]{Item: it})
	r.next++
	r.stats.Passed++
}

func (r *Reorder[T]) miss(g Gap, why Cause) {
	r.out = append(r.out, Out[T]{Item: Item[T]{Epoch: r.epoch}, Gap: g, Cause: why})
	r.next = g.To + 1
	r.stats.Gaps++
	r.stats.Missing += g.Len()
	r.gone = append(r.gone, g)
	r.forget()
}

// forget keeps the memory of gaps within its bound.
func (r *Reorder[T]) forget() {
	if old := r.gone.trim(r.o.MaxGaps); len(old) > 0 {
		r.floor = old[len(old)-1].To
	}
}

// Explain says, at the time now, that from..to of the current epoch will not
// come: they are not waited for. It returns what can go out, as Push does.
// Numbers that have arrived, or have gone out, are left alone.
func (r *Reorder[T]) Explain(from, to uint64, why Reason, now time.Time) []Out[T] {
	r.begin(now)
	r.expire()
	from, to = max(from, r.next), min(to, MaxSeq)
	if r.fresh || from > to {
		return r.out
	}
	r.told.cut(from, to)
	for _, h := range r.held {
		if h.Seq < from || h.Seq > to {
			continue
		}
		if h.Seq > from {
			r.told.add(Gap{from, h.Seq - 1, why})
		}
		from = h.Seq + 1
	}
	if from <= to {
		r.told.add(Gap{from, to, why})
	}
	r.advance()
	r.told = r.told[:min(len(r.told), r.o.MaxItems+r.o.MaxGaps)]
	return r.out
}

// Due returns when Expire has something to do, unless what is missing comes
// before; false when nothing waits.
func (r *Reorder[T]) Due() (time.Time, bool) {
	if len(r.held) == 0 {
		return time.Time{}, false
	}
	return r.held[0].since.Add(r.o.Timeout), true
}

// Expire gives up, at the time now, every hole that is as old as Timeout, and
// returns what can go out, as Push does.
func (r *Reorder[T]) Expire(now time.Time) []Out[T] {
	r.begin(now)
	r.expire()
	return r.out
}

func (r *Reorder[T]) expire() {
	for len(r.held) > 0 && !r.now.Before(r.held[0].since.Add(r.o.Timeout)) {
		r.skip(TimedOut)
	}
}

// Flush lets out everything that is held, with gaps for what is missing, as at
// the end of a stream. The Reorder can be used further.
func (r *Reorder[T]) Flush() []Out[T] {
	r.begin(r.now)
	r.flush(Flushed)
	return r.out
}

func (r *Reorder[T]) flush(why Cause) {
	for len(r.held) > 0 {
		r.skip(why)
	}
}

// Next returns the epoch and the number that goes out next.
func (r *Reorder[T]) Next() (epoch, seq uint64) { return r.epoch, r.next }

// Stats returns the counts.
func (r *Reorder[T]) Stats() ReorderStats {
	s := r.stats
	s.Held, s.HeldBytes = len(r.held), r.bytes
	return s
}

// begin takes back what the last call lent, so that it can be collected.
func (r *Reorder[T]) begin(now time.Time) {
	clear(r.out)
	r.out = r.out[:0]
	if now.After(r.now) {
		r.now = now
	}
}

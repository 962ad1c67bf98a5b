package order

import (
	"fmt"
	"iter"
	"slices"
)

// DefaultMaxGaps is how many open gaps a [Tracker] remembers unless told
// otherwise.
const DefaultMaxGaps = 64

// Kind is what an arrival is to its stream.
type Kind uint8

// What an arrival can be.
const (
	InOrder   Kind = iota // the next number
	Duplicate             // has arrived before
	Late                  // fills a gap; Observation.Gap is this number, with the reason the gap was told
	Ahead                 // numbers before it are missing: Observation.Gap
	Restarted             // first of a newer epoch; Observation.Gap is what is missing before it, if anything
	Stale                 // of an older epoch
	TooOld                // from before what the tracker remembers: a duplicate, or late; nobody can say
	Foreign               // of another stream, or not a stamp
)

var kindNames = [...]string{"in order", "duplicate", "late", "ahead", "restarted", "stale", "too old", "foreign"}

// String returns the kind in words.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// New says whether the message is certainly seen for the first time.
func (k Kind) New() bool { return k == InOrder || k == Late || k == Ahead || k == Restarted }

// Observation is what one arrival says about its stream.
type Observation struct {
	Kind Kind
	Gap  Gap   // see the kinds; the zero Gap for the others
	Gone []Gap // gaps that are no longer watched, oldest first: too many, or of the epoch that ended
}

// TrackerOptions are the settings of a Tracker; the zero value is useful.
type TrackerOptions struct {
	// MaxGaps bounds the open gaps that are remembered, 24 bytes each; default
	// DefaultMaxGaps. When there are more, the oldest is given up.
	MaxGaps int
	// Join takes the first number that arrives as the beginning, for a
	// subscriber that comes in the middle. Otherwise a stream begins with 1.
	// A later epoch always begins with 1.
	Join bool
}

// TrackerStats count arrivals by kind, and messages by fate.
type TrackerStats struct {
	InOrder, Duplicate, Late, Ahead, Restarted, Stale, TooOld, Foreign uint64
	Missing                                                            uint64 // in open gaps, now
	Gone                                                               uint64 // in gaps that are no longer watched
}

// Tracker follows the numbers of one stream and says of each arrival what it
// is. It holds nothing back; see [Reorder] for that. Not safe for concurrent
// use.
//
// Invariants: open gaps lie between floor and high; a number above floor, up to
// high and in no gap has arrived; of a number up to floor nothing is known if
// blurred, else it has arrived.
type Tracker struct {
	stream  string
	limit   int
	join    bool // the next arrival is the beginning, whatever its number
	fresh   bool // nothing has arrived
	blurred bool
	epoch   uint64
	high    uint64 // highest number that has arrived
	floor   uint64
	gaps    gapSet
	stats   TrackerStats
}

// NewTracker follows the stream of this name.
func NewTracker(stream string, o TrackerOptions) *Tracker {
	if o.MaxGaps <= 0 {
		o.MaxGaps = DefaultMaxGaps
	}
	return &Tracker{stream: stream, limit: o.MaxGaps, join: o.Join, fresh: true}
}

// Observe takes the stamp of the next arrival. It allocates only where gaps
// open or are given up.
func (t *Tracker) Observe(s Stamp) Observation {
	if s.Epoch == t.epoch && s.Seq == t.high+1 && s.Seq-1 < MaxSeq && !t.fresh && s.Stream == t.stream {
		t.high++
		t.stats.InOrder++
		return Observation{}
	}
	return t.observe(s)
}

// observe is everything but the next number.
func (t *Tracker) observe(s Stamp) Observation {
	switch {
	case s.Stream != t.stream || s.Seq-1 >= MaxSeq:
		t.stats.Foreign++
		return Observation{Kind: Foreign}
	case t.fresh:
		return t.first(s)
	case s.Epoch < t.epoch:
		t.stats.Stale++
		return Observation{Kind: Stale}
	case s.Epoch > t.epoch:
		return t.restart(s)
	case s.Seq > t.high:
		o := t.ahead(s.Seq)
		t.count(o.Kind)
		return o
	}
	return t.behind(s.Seq)
}

func (t *Tracker) first(s Stamp) Observation {
	t.fresh, t.epoch = false, s.Epoch
	if t.join {
		t.high, t.floor, t.blurred = s.Seq-1, s.Seq-1, s.Seq > 1
	}
	o := t.ahead(s.Seq)
	t.count(o.Kind)
	return o
}

func (t *Tracker) restart(s Stamp) Observation {
	gone := slices.Clone([]Gap(t.gaps))
	t.forget(gone)
	t.gaps = t.gaps[:0]
	t.epoch, t.high, t.floor, t.blurred = s.Epoch, 0, 0, false
	o := t.ahead(s.Seq)
	o.Kind, o.Gone = Restarted, gone
	t.stats.Restarted++
	return o
}

// ahead takes a number above high and opens a gap before it, if there is one.
func (t *Tracker) ahead(seq uint64) Observation {
	if seq == t.high+1 {
		t.high = seq
		return Observation{Kind: InOrder}
	}
	gap := Gap{From: t.high + 1, To: seq - 1}
	t.high = seq
	t.gaps = append(t.gaps, gap)
	t.stats.Missing += gap.Len()
	return Observation{Kind: Ahead, Gap: gap, Gone: t.trim()}
}

// behind takes a number up to high.
func (t *Tracker) behind(seq uint64) Observation {
	if gap := t.gaps.find(seq); gap.From != 0 {
		t.gaps.cut(seq, seq)
		t.stats.Late++
		t.stats.Missing--
		return Observation{Kind: Late, Gap: Gap{seq, seq, gap.Reason}, Gone: t.trim()}
	}
	if t.blurred && seq <= t.floor {
		t.stats.TooOld++
		return Observation{Kind: TooOld}
	}
	t.stats.Duplicate++
	return Observation{Kind: Duplicate}
}

// trim gives the oldest gaps up when there are too many.
func (t *Tracker) trim() []Gap {
	gone := t.gaps.trim(t.limit)
	if len(gone) > 0 {
		t.forget(gone)
		t.floor, t.blurred = gone[len(gone)-1].To, true
	}
	return gone
}

func (t *Tracker) forget(gone []Gap) {
	for _, g := range gone {
		t.stats.Missing -= g.Len()
		t.stats.Gone += g.Len()
	}
}

func (t *Tracker) count(k Kind) {
	if k == Ahead {
		t.stats.Ahead++
		return
	}
	t.stats.InOrder++
}

// Explain gives a reason to the missing ones among the numbers from..to of the
// current epoch, as a broker's gap note or a publisher says it. told is how
// many are missing there; what is not missing is left alone. A gap with a
// reason is still watched: the message may come all the same. gone is as in
// [Observation]: parts of a gap with different reasons count as gaps.
func (t *Tracker) Explain(from, to uint64, why Reason) (told uint64, gone []Gap) {
	told = t.gaps.explain(from, to, why)
	return told, t.trim()
}

// Gaps goes over the open gaps, oldest first. The tracker must not be used
// meanwhile.
func (t *Tracker) Gaps() iter.Seq[Gap] { return slices.Values(t.gaps) }

// High returns the highest stamp that has arrived; its Seq is 0 when nothing
// has.
func (t *Tracker) High() Stamp {
	if t.fresh {
		return Stamp{Stream: t.stream}
	}
	return Stamp{t.stream, t.epoch, t.high}
}

// Stats returns the counts since the tracker was made.
func (t *Tracker) Stats() TrackerStats { return t.stats }

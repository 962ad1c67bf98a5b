package order

import (
	"fmt"
	"slices"
	"sort"
)

// Reason says why messages are missing. The zero value is Silent: nobody said.
type Reason uint8

// Why messages are missing.
const (
	Silent   Reason = iota // nobody told; the worst one
	Expired                // their time was over before they could be delivered
	Overflow               // a queue on the way was full
	Denied                 // the receiver, or the publisher, had no right to them
	Lost                   // known to be gone, without a better reason
)

// Stored and sent; never change.
var reasonNames = [...]string{"", "expired", "overflow", "denied", "lost"}

// String returns the word that is stored and sent; "" for Silent.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// ParseReason reads what String wrote. An unknown word is Lost and not ok: who
// said it did tell, in words of a later version.
func ParseReason(word string) (r Reason, ok bool) {
	if i := slices.Index(reasonNames[:], word); i >= 0 {
		return Reason(i), true
	}
	return Lost, false
}

// Gap is a run of numbers that are missing from a stream, both ends included.
// The zero Gap is none.
type Gap struct {
	From, To uint64
	Reason   Reason
}

// Len returns how many are missing; 0 for the zero Gap.
func (g Gap) Len() uint64 {
	if g.From == 0 {
		return 0
	}
	return g.To - g.From + 1
}

// Has says whether seq is one of those missing.
func (g Gap) Has(seq uint64) bool { return g.From != 0 && g.From <= seq && seq <= g.To }

// Told says whether somebody gave a reason.
func (g Gap) Told() bool { return g.Reason != Silent }

// String returns "4", "4-6" or "4-6 (expired)"; "none" for the zero Gap.
func (g Gap) String() string {
	if g.From == 0 {
		return "none"
	}
	s := fmt.Sprint(g.From)
	if g.To != g.From {
		s += fmt.Sprint("-", g.To)
	}
	if g.Told() {
		s += " (" + g.Reason.String() + ")"
	}
	return s
}

// gapSet holds gaps that do not overlap, in rising order.
type gapSet []Gap

// at returns the index of the first gap that ends at seq or behind it.
func (s gapSet) at(seq uint64) int {
	return sort.Search(len(s), func(i int) bool { return s[i].To >= seq })
}

// find returns the gap that has seq, or the zero Gap.
func (s gapSet) find(seq uint64) Gap {
	if i := s.at(seq); i < len(s) && s[i].Has(seq) {
		return s[i]
	}
	return Gap{}
}

// cut takes the numbers from..to out of the set. What is left of a gap on
// either side keeps its reason, so the set grows by at most one gap.
func (s *gapSet) cut(from, to uint64) {
	lo := s.at(from)
	hi, left := lo, [2]Gap{}
	keep := left[:0]
	for ; hi < len(*s) && (*s)[hi].From <= to; hi++ {
		g := (*s)[hi]
		if g.From < from {
			keep = append(keep, Gap{g.From, from - 1, g.Reason})
		}
		if g.To > to {
			keep = append(keep, Gap{to + 1, g.To, g.Reason})
		}
	}
	*s = slices.Replace(*s, lo, hi, keep...)
}

// add puts g into the set, which has none of its numbers.
func (s *gapSet) add(g Gap) {
	i := s.at(g.From)
	*s = slices.Insert(*s, i, g)
}

// explain gives a reason to those of from..to that are in the set, and returns
// how many they are.
func (s *gapSet) explain(from, to uint64, why Reason) (n uint64) {
	var hit []Gap
	for i := s.at(from); i < len(*s) && (*s)[i].From <= to; i++ {
		g := (*s)[i]
		hit = append(hit, Gap{max(from, g.From), min(to, g.To), why})
	}
	for _, g := range hit {
		s.cut(g.From, g.To)
		s.add(g)
		n += g.Len()
	}
	return n
}

// trim takes the oldest gaps away until at most limit are left, and returns
// them.
func (s *gapSet) trim(limit int) []Gap {
	n := len(*s) - limit
	if n <= 0 {
		return nil
	}
	old := slices.Clone((*s)[:n])
	*s = slices.Delete(*s, 0, n)
	return old
}

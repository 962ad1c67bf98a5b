package audit

import (
	"fmt"
	"strconv"
)

// Verifier checks a chain, entry by entry, in the order of their keys. It is pure.
// The zero Verifier begins with the first entry.
type Verifier struct {
	// Heads were kept elsewhere: the entries of these numbers must have these hashes.
	Heads []Head

	last Head
	met  map[int64]bool // heads that were compared
}

// Problem is something that is not as it was written.
type Problem struct {
	Key  string // of the entry; that of the first one missing
	What string // in words
}

func (p Problem) String() string { return "entry " + p.Key + ": " + p.What }

// Next takes the next entry and says what is wrong with it.
func (v *Verifier) Next(e *Entry) (found []Problem) {
	say := func(format string, args ...any) {
		found = append(found, Problem{Key: e.Key, What: fmt.Sprintf(format, args...)})
	}
	want := v.last.Seq + 1
	place, err := placeOf(e.Key)
	switch {
	case err != nil || place < want:
		say("inserted: this is not the place of an entry")
		return found // it is no part of the chain: what follows is judged by what came before
	case place > want:
		found = append(found, Problem{Key: KeyOf(want), What: removed(want, place-1)})
	}
	switch {
	case e.Hash != e.Sum():
		say("changed: its content does not have its hash")
	case e.Seq != place:
		say("moved: it was written as entry %s", KeyOf(e.Seq))
	case place == want && e.Prev != v.last.Hash:
		say("does not follow the entry before it: one of them was put here or computed anew")
	}
	for _, h := range v.Heads {
		if h.Seq != place {
			continue
		}
		v.meet(h.Seq)
		if h.Hash != e.Hash {
			say("is not the one of the head that was kept: the chain was computed anew")
		}
	}
	v.last = Head{Seq: place, Hash: e.Hash}
	return found
}

// End says what is missing behind the last entry.
func (v *Verifier) End() (found []Problem) {
	for _, h := range v.Heads {
		if !v.met[h.Seq] && h.Seq > v.last.Seq {
			found = append(found, Problem{Key: KeyOf(v.last.Seq + 1), What: removed(v.last.Seq+1, h.Seq)})
		}
	}
	return found
}

// Head is the last entry that was taken.
func (v *Verifier) Head() Head { return v.last }

func (v *Verifier) meet(seq int64) {
	if v.met == nil {
		v.met = map[int64]bool{}
	}
	v.met[seq] = true
}

func removed(from, to int64) string {
	if from == to {
		return "removed"
	}
	return fmt.Sprintf("removed, with all up to %s", KeyOf(to))
}

// placeOf is the number of the entry that has its place at key.
func placeOf(key string) (int64, error) {
	seq, err := strconv.ParseInt(key, 16, 64)
	if err == nil && (KeyOf(seq) != key || seq < 1) {
		err = fmt.Errorf("%q is no place", key)
	}
	return seq, err
}

package order

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return t0.Add(time.Duration(seconds) * time.Second) }

// line writes what came out: numbers for items, gaps in brackets.
func line[T any](outs []Out[T]) []string {
	var list []string
	for i := range outs {
		if outs[i].IsGap() {
			list = append(list, "["+outs[i].Gap.String()+" "+outs[i].Cause.String()+"]")
		} else {
			list = append(list, one(outs[i].Item.Seq).String())
		}
	}
	return list
}

func TestReorderWaitsForTheOldestHole(t *testing.T) {
	r := NewReorder[string](ReorderOptions{Timeout: 5 * time.Second})
	push := func(seconds int, seq uint64, fate Fate, want ...string) {
		t.Helper()
		got, f := r.Push(Item[string]{Seq: seq}, at(seconds))
		if f != fate || !slices.Equal(line(got), want) {
			t.Errorf("%d at %d s: %v %v, want %v %v", seq, seconds, f, line(got), fate, want)
		}
	}
	due := func(seconds int) {
		t.Helper()
		if got, ok := r.Due(); ok != (seconds >= 0) || ok && !got.Equal(at(seconds)) {
			t.Errorf("due %v %v, want %d s", got, ok, seconds)
		}
	}
	push(0, 1, Passed, "1")
	due(-1)
	push(1, 4, Held)
	due(6)
	push(2, 6, Held)
	push(2, 6, Repeated)
	push(3, 3, Held) // before others: the hole is as old as it was
	due(6)
	push(4, 2, Passed, "2", "3", "4")
	due(7) // the hole at 5 has been known since 6 came
	if got := line(r.Expire(at(6))); got != nil {
		t.Errorf("expired too early: %v", got)
	}
	if got := line(r.Expire(at(7))); !slices.Equal(got, []string{"[5 timed out]", "6"}) {
		t.Errorf("expired: %v", got)
	}
	due(-1)
	push(8, 5, Overdue)
	push(8, 5, Repeated)
	push(9, 9, Held)
	push(20, 7, Overdue, "[7-8 timed out]", "9") // Push expires, too
	push(10, 12, Held)                           // the clock does not go back
	due(25)
	if got := line(r.Flush()); !slices.Equal(got, []string{"[10-11 flushed]", "12"}) {
		t.Errorf("flushed: %v", got)
	}
	want := ReorderStats{Passed: 7, Repeated: 2, Overdue: 2, Gaps: 3, Missing: 5}
	if got := r.Stats(); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
}

func TestReorderStaysWithinItsBounds(t *testing.T) {
	r := NewReorder[int](ReorderOptions{MaxItems: 2, MaxBytes: 10})
	for i, s := range []struct {
		it   Item[int]
		fate Fate
		want []string
	}{
		{Item[int]{Seq: 3, Size: 4}, Held, nil},
		{Item[int]{Seq: 5, Size: 4}, Held, nil},
		{Item[int]{Seq: 7, Size: 1}, Held, []string{"[1-2 full]", "3"}},
		{Item[int]{Seq: 9, Size: 9}, Held, []string{"[4 full]", "5"}},
		{Item[int]{Seq: 11, Size: 99}, Passed, []string{"[6 full]", "7", "[8 full]", "9", "[10 full]", "11"}},
		{Item[int]{Seq: 12, Size: 99}, Passed, []string{"12"}},
		{Item[int]{Seq: 0}, Unnumbered, nil},
		{Item[int]{Seq: MaxSeq + 1}, Unnumbered, nil},
	} {
		got, fate := r.Push(s.it, t0)
		if fate != s.fate || !slices.Equal(line(got), s.want) {
			t.Errorf("step %d: %v %v, want %v %v", i, fate, line(got), s.fate, s.want)
		}
	}
	if s := r.Stats(); s.Held != 0 || s.HeldBytes != 0 {
		t.Errorf("still held: %+v", s)
	}
}

func TestReorderBeginsANewEpoch(t *testing.T) {
	r := NewReorder[int](ReorderOptions{Join: true})
	for i, s := range []struct {
		epoch, seq uint64
		fate       Fate
		want       []string
	}{
		{3, 50, Passed, []string{"50"}},
		{3, 49, Overdue, nil},
		{3, 52, Held, nil},
		{4, 2, Held, []string{"[51 new epoch]", "52"}},
		{3, 51, OldEpoch, nil},
		{4, 1, Passed, []string{"1", "2"}},
	} {
		got, fate := r.Push(Item[int]{Epoch: s.epoch, Seq: s.seq}, t0)
		if fate != s.fate || !slices.Equal(line(got), s.want) {
			t.Errorf("step %d: %v %v, want %v %v", i, fate, line(got), s.fate, s.want)
		}
	}
	if epoch, seq := r.Next(); epoch != 4 || seq != 3 {
		t.Errorf("next %d/%d", epoch, seq)
	}
}

func TestReorderDoesNotWaitForWhatWillNotCome(t *testing.T) {
	r := NewReorder[int](ReorderOptions{})
	r.Push(Item[int]{Seq: 1}, t0)
	r.Push(Item[int]{Seq: 5}, t0)
	if got := line(r.Explain(3, 6, Expired, t0)); got != nil {
		t.Errorf("2 is still to come, but out went %v", got)
	}
	got, _ := r.Push(Item[int]{Seq: 4}, t0) // it came all the same
	if len(got) != 0 {
		t.Errorf("out went %v", line(got))
	}
	got, _ = r.Push(Item[int]{Seq: 2}, t0)
	if want := []string{"2", "[3 (expired) told]", "4", "5", "[6 (expired) told]"}; !slices.Equal(line(got), want) {
		t.Errorf("got %v, want %v", line(got), want)
	}
	if got := line(r.Explain(1, 7, Lost, t0)); !slices.Equal(got, []string{"[7 (lost) told]"}) {
		t.Errorf("got %v", got)
	}
}

// A permutation in which nothing is further from its place than the buffer is
// long comes out as if it had not been one.
func TestReorderPutsBoundedDisplacementRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "n")
		d := rapid.IntRange(1, 8).Draw(t, "displacement")
		type place struct{ seq, key int }
		places := make([]place, n)
		for i := range places { // sorted by seq + (0..d): nobody moves by more than d
			places[i] = place{i + 1, i + rapid.IntRange(0, d).Draw(t, "late")}
		}
		slices.SortStableFunc(places, func(a, b place) int { return a.key - b.key })
		r := NewReorder[int](ReorderOptions{MaxItems: d})
		next := 1
		for _, p := range places {
			outs, _ := r.Push(Item[int]{Seq: uint64(p.seq), Value: p.seq}, t0)
			for _, o := range outs {
				if o.IsGap() || o.Item.Value != next {
					t.Fatalf("%v: got %v, want %d", places, line(outs), next)
				}
				next++
			}
		}
		if next != n+1 {
			t.Fatalf("%v: %d of %d came out", places, next-1, n)
		}
	})
}

// Whatever arrives, whenever: what comes out covers the numbers without hole or
// overlap, items are those that came before their place was given up, and
// nothing is held longer or in greater number than allowed.
func TestReorderPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := ReorderOptions{
			MaxItems: rapid.IntRange(1, 6).Draw(t, "items"), MaxBytes: rapid.IntRange(1, 40).Draw(t, "bytes"),
			Timeout: 3 * time.Second, MaxGaps: rapid.IntRange(20, 100).Draw(t, "gaps"),
		}
		r := NewReorder[int](o)
		now, next, id := 0, uint64(1), 0
		came := map[uint64]int{}    // number -> its first arrival that was not too late
		since := map[uint64]int{}   // number -> when it came
		passed := map[uint64]bool{} // numbers that went out as items
		told := map[uint64]Reason{} // what Explain said of numbers not out, not arrived
		check := func(outs []Out[int]) {
			for _, out := range outs {
				if !out.IsGap() {
					if out.Item.Seq != next || came[next] != out.Item.Value {
						t.Fatalf("item %d out of order, or another than came first; want %d", out.Item.Seq, next)
					}
					passed[next] = true
					next++
					continue
				}
				if out.Gap.From != next || out.Gap.To < next {
					t.Fatalf("gap %v, want it from %d", out.Gap, next)
				}
				for ; next <= out.Gap.To; next++ {
					if came[next] != 0 || told[next] != out.Gap.Reason {
						t.Fatalf("gap %v (%v): %d came as %d, told %v", out.Gap, out.Cause, next, came[next], told[next])
					}
				}
			}
			bytes, held := 0, 0
			for seq, when := range since {
				if seq >= next {
					bytes, held = bytes+came[seq]%20, held+1
					if now-when >= 3 {
						t.Fatalf("%d waits since %d s, it is %d s", seq, when, now)
					}
				}
			}
			if s := r.Stats(); s.Held != held || s.HeldBytes != bytes || held > o.MaxItems || bytes > o.MaxBytes {
				t.Fatalf("held %d, %d bytes; really %d, %d; bounds %+v", s.Held, s.HeldBytes, held, bytes, o)
			}
			if due, ok := r.Due(); ok != (held > 0) || ok && !due.After(at(now)) {
				t.Fatalf("due %v %v with %d held at %v", due, ok, held, at(now))
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				now += rapid.IntRange(0, 1).Draw(t, "later")
				seq := uint64(max(1, int(next)+rapid.IntRange(-5, 10).Draw(t, "seq")))
				id++
				// Time comes first, and may give up the very number that arrives.
				check(slices.Clone(r.Expire(at(now))))
				isNew := seq >= next && came[seq] == 0
				if isNew {
					came[seq], since[seq] = id, now
					delete(told, seq)
				}
				wasItem := passed[seq] || came[seq] != id
				outs, fate := r.Push(Item[int]{Seq: seq, Size: id % 20, Value: id}, at(now))
				check(outs)
				switch {
				case isNew && seq < next && fate != Passed, isNew && seq >= next && fate != Held, !isNew && (fate == Passed || fate == Held):
					t.Fatalf("%d, new %v: %v", seq, isNew, fate)
				case fate == Repeated && !wasItem:
					t.Fatalf("%d never came, and is repeated", seq)
				}
			},
			"expire": func(t *rapid.T) {
				now += rapid.IntRange(0, 4).Draw(t, "later")
				check(r.Expire(at(now)))
			},
			"explain": func(t *rapid.T) {
				if id == 0 {
					t.Skip("nothing to explain")
				}
				from := next + rapid.Uint64Range(0, 6).Draw(t, "from")
				to := from + rapid.Uint64Range(0, 3).Draw(t, "length")
				for n := from; n <= to; n++ {
					if came[n] == 0 {
						told[n] = Expired
					}
				}
				check(r.Explain(from, to, Expired, at(now)))
			},
		})
	})
}

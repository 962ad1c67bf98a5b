package order

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestTrackerTellsEachKind(t *testing.T) {
	type step struct {
		in   Stamp
		want Observation
	}
	at := func(seq uint64) Stamp { return Stamp{"s", 5, seq} }
	tr := NewTracker("s", TrackerOptions{MaxGaps: 2})
	for i, s := range []step{
		{at(2), Observation{Kind: Ahead, Gap: Gap{From: 1, To: 1}}},
		{at(3), Observation{Kind: InOrder}},
		{at(3), Observation{Kind: Duplicate}},
		{Stamp{"other", 5, 4}, Observation{Kind: Foreign}},
		{at(0), Observation{Kind: Foreign}},
		{at(MaxSeq + 1), Observation{Kind: Foreign}},
		{Stamp{"s", 4, 4}, Observation{Kind: Stale}},
		{at(1), Observation{Kind: Late, Gap: Gap{From: 1, To: 1}}},
		{at(1), Observation{Kind: Duplicate}},
		{at(8), Observation{Kind: Ahead, Gap: Gap{From: 4, To: 7}}},
		{at(10), Observation{Kind: Ahead, Gap: Gap{From: 9, To: 9}}},
		{at(5), Observation{Kind: Late, Gap: Gap{From: 5, To: 5}, Gone: []Gap{{From: 4, To: 4}}}},
		{at(4), Observation{Kind: TooOld}},
		{at(2), Observation{Kind: TooOld}},
		{at(5), Observation{Kind: Duplicate}},
		{Stamp{"s", 9, 3}, Observation{Kind: Restarted, Gap: Gap{From: 1, To: 2}, Gone: []Gap{{From: 6, To: 7}, {From: 9, To: 9}}}},
		{Stamp{"s", 9, 1}, Observation{Kind: Late, Gap: Gap{From: 1, To: 1}}},
		{Stamp{"s", 10, 1}, Observation{Kind: Restarted, Gone: []Gap{{From: 2, To: 2}}}},
	} {
		got := tr.Observe(s.in)
		if got.Kind != s.want.Kind || got.Gap != s.want.Gap || !slices.Equal(got.Gone, s.want.Gone) {
			t.Errorf("step %d, %v: got %+v, want %+v", i, s.in, got, s.want)
		}
	}
	want := TrackerStats{InOrder: 1, Duplicate: 3, Late: 3, Ahead: 3, Restarted: 2, Stale: 1, TooOld: 2, Foreign: 3, Gone: 5}
	if got := tr.Stats(); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
}

func TestTrackerJoins(t *testing.T) {
	tr := NewTracker("s", TrackerOptions{Join: true})
	for i, want := range []Kind{InOrder, InOrder, TooOld, Duplicate} {
		if got := tr.Observe(Stamp{"s", 1, []uint64{100, 101, 99, 100}[i]}); got.Kind != want || got.Gap != (Gap{}) {
			t.Errorf("arrival %d: %+v, want %v", i, got, want)
		}
	}
	if tr.High() != (Stamp{"s", 1, 101}) {
		t.Errorf("high %v", tr.High())
	}
}

func TestTrackerKeepsReasons(t *testing.T) {
	tr := NewTracker("s", TrackerOptions{})
	tr.Observe(Stamp{"s", 1, 10}) // 1-9 are missing
	if n, gone := tr.Explain(3, 20, Expired); n != 7 || gone != nil {
		t.Errorf("told %d, gone %v", n, gone)
	}
	if n, _ := tr.Explain(4, 4, Denied); n != 1 {
		t.Errorf("told %d", n)
	}
	want := []Gap{{1, 2, Silent}, {3, 3, Expired}, {4, 4, Denied}, {5, 9, Expired}}
	if got := slices.Collect(tr.Gaps()); !slices.Equal(got, want) {
		t.Errorf("gaps %v, want %v", got, want)
	}
	if o := tr.Observe(Stamp{"s", 1, 6}); o.Kind != Late || o.Gap != (Gap{6, 6, Expired}) {
		t.Errorf("a late one: %+v", o)
	}
}

// slowTracker remembers every arrival, and looks everything up.
type slowTracker struct {
	arrived map[uint64]bool
	reason  map[uint64]Reason
	high    uint64
}

func (s *slowTracker) observe(seq uint64) (k Kind, missing []uint64) {
	defer func() { s.arrived[seq], s.high = true, max(s.high, seq) }()
	switch {
	case s.arrived[seq]:
		return Duplicate, nil
	case seq < s.high:
		return Late, nil
	}
	for n := s.high + 1; n < seq; n++ {
		missing = append(missing, n)
	}
	if missing == nil {
		return InOrder, nil
	}
	return Ahead, missing
}

// missing lists what has not arrived below high, with its reason.
func (s *slowTracker) missing() []Gap {
	var list []Gap
	for n := uint64(1); n < s.high; n++ {
		if !s.arrived[n] {
			list = append(list, Gap{n, n, s.reason[n]})
		}
	}
	return list
}

// single writes gaps as gaps of one number each.
func single(gaps []Gap) []Gap {
	var list []Gap
	for _, g := range gaps {
		for n := g.From; n <= g.To; n++ {
			list = append(list, Gap{n, n, g.Reason})
		}
	}
	return list
}

func TestTrackerAgreesWithOneThatRemembersAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := NewTracker("s", TrackerOptions{MaxGaps: 1000})
		slow := &slowTracker{arrived: map[uint64]bool{}, reason: map[uint64]Reason{}}
		t.Repeat(map[string]func(*rapid.T){
			"arrive": func(t *rapid.T) {
				seq := rapid.Uint64Range(1, 40).Draw(t, "seq")
				kind, missing := slow.observe(seq)
				o := tr.Observe(Stamp{"s", 0, seq})
				if o.Kind != kind || kind == Ahead && o.Gap.Len() != uint64(len(missing)) {
					t.Fatalf("%d: got %v %v, want %v %v", seq, o.Kind, o.Gap, kind, missing)
				}
				if kind == Late && o.Gap != (Gap{seq, seq, slow.reason[seq]}) {
					t.Fatalf("%d came late into %v", seq, o.Gap)
				}
			},
			"explain": func(t *rapid.T) {
				from := rapid.Uint64Range(1, 40).Draw(t, "from")
				to := rapid.Uint64Range(from, 45).Draw(t, "to")
				why := rapid.SampledFrom([]Reason{Silent, Expired, Overflow, Denied, Lost}).Draw(t, "why")
				var want uint64
				for _, g := range slow.missing() {
					if from <= g.From && g.From <= to {
						slow.reason[g.From] = why
						want++
					}
				}
				if n, _ := tr.Explain(from, to, why); n != want {
					t.Fatalf("told %d, want %d", n, want)
				}
			},
			"": func(t *rapid.T) {
				if got, want := single(slices.Collect(tr.Gaps())), slow.missing(); !slices.Equal(got, want) {
					t.Fatalf("gaps %v, want %v", got, want)
				}
				if got := tr.Stats().Missing; got != uint64(len(slow.missing())) {
					t.Fatalf("%d missing, want %d", got, len(slow.missing()))
				}
			},
		})
	})
}

// With little memory the tracker may not know, and never says what is wrong;
// what it stops watching it says once.
func TestTrackerForgetsHonestly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 3).Draw(t, "limit")
		tr := NewTracker("s", TrackerOptions{MaxGaps: limit})
		slow := &slowTracker{arrived: map[uint64]bool{}}
		gone := map[uint64]bool{}
		for _, seq := range rapid.SliceOf(rapid.Uint64Range(1, 40)).Draw(t, "arrivals") {
			kind, _ := slow.observe(seq)
			o := tr.Observe(Stamp{"s", 0, seq})
			if o.Kind == TooOld {
				if kind != Duplicate && !gone[seq] {
					t.Fatalf("%d is too old, but was never given up", seq)
				}
			} else if o.Kind != kind {
				t.Fatalf("%d: got %v, want %v", seq, o.Kind, kind)
			}
			for _, g := range single(o.Gone) {
				if gone[g.From] || slow.arrived[g.From] {
					t.Fatalf("%d was given up, though it is not missing", g.From)
				}
				gone[g.From] = true
			}
			open := slices.Collect(tr.Gaps())
			if len(open) > limit {
				t.Fatalf("%d gaps, limit %d", len(open), limit)
			}
			watched := map[uint64]bool{}
			for _, g := range single(open) {
				watched[g.From] = true
			}
			for _, g := range slow.missing() {
				if watched[g.From] == gone[g.From] {
					t.Fatalf("%d is missing: watched %v, gone %v", g.From, watched[g.From], gone[g.From])
				}
			}
		}
	})
}

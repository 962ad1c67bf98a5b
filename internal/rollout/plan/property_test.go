package plan

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/internal/command"
)

var t0 = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC) // a Monday

// world plays targets, people and the clock against a roll-out, and keeps its own
// books, by which it judges what the machine does.
type world struct {
	t   *rapid.T
	r   Rollout
	now time.Time

	starts  []time.Time // by target
	cells   []Cell      // by target, as the world has made them
	endedAt []time.Time // by target
	making  []int       // started, and not said to be made
	bad     time.Time   // when the threshold was passed
	resumed bool        // a person has let a wave pass
}

func (w *world) step(ev Event) {
	before := w.r
	next, actions, err := Step(w.r, ev, w.now)
	if err != nil {
		if ev.Kind == Tick || ev.Kind == Became || ev.Kind == Restarted || ev.Kind == Found {
			w.t.Fatalf("%s: %v", ev.Kind, err)
		}
		return
	}
	w.r = next
	if ev.Kind == Resume && before.Reason == GateMissed {
		w.resumed = true
	}
	for _, a := range actions {
		switch a.Act {
		case Start:
			for i := a.From; i < a.To; i++ {
				if ev.Kind == Restarted || ev.Kind == Resume {
					if !w.starts[i].IsZero() {
						continue // once more, by its key
					}
				}
				w.start(i)
			}
		case Find:
			w.find(a)
		}
	}
	w.audit()
}

// start is what the world says of the beginning of a target.
func (w *world) start(i int) {
	r := &w.r
	switch {
	case !w.starts[i].IsZero():
		w.t.Fatalf("target %d is started twice", i)
	case !w.bad.IsZero():
		w.t.Fatalf("target %d is started at %s after the threshold was passed at %s", i, w.now, w.bad)
	case r.State != Running:
		w.t.Fatalf("target %d is started while %s", i, r.State)
	case w.now.Before(r.Spec.StartAt), !r.Spec.Deadline.IsZero() && !w.now.Before(r.Spec.Deadline):
		w.t.Fatalf("target %d is started at %s, outside %s to %s", i, w.now, r.Spec.StartAt, r.Spec.Deadline)
	case len(r.Spec.Windows) > 0 && (w.now.Minute() < 1 || w.now.Minute() >= 3):
		w.t.Fatalf("target %d is started at %s, outside of its window", i, w.now)
	}
	w.starts[i] = w.now
	w.making = append(w.making, i)
	w.rate(i)
	open := 0
	for j, s := range w.starts {
		if !s.IsZero() && w.endedAt[j].IsZero() {
			open++
		}
	}
	if c := r.Spec.Concurrency; c > 0 && open > c {
		w.t.Fatalf("%d targets are open at once, %d may be", open, c)
	}
	w.gates(i)
}

// rate counts the starts of the minute before.
func (w *world) rate(i int) {
	rate := w.r.Spec.Rate
	if rate == nil {
		return
	}
	n, executed := 0, 0
	for _, s := range w.starts {
		if !s.IsZero() && w.now.Sub(s) < time.Minute {
			n++
		}
	}
	for _, c := range w.cells {
		if c == Executed {
			executed++
		}
	}
	most := float64(rate.PerMinute)
	for k := executed; rate.Every > 0 && k >= rate.Every; k -= rate.Every {
		most *= rate.Factor
	}
	if rate.Every > 0 {
		most = min(most, float64(rate.Max))
	}
	if float64(n) > most {
		w.t.Fatalf("target %d makes %d starts in a minute, %g may be", i, n, most)
	}
}

// gates looks at the waves before that of target i.
func (w *world) gates(i int) {
	ends := w.r.Spec.Cut(len(w.starts))
	from := 0
	for k, end := range ends {
		if i < end {
			return
		}
		wave := w.r.Spec.Waves[k]
		executed, skipped, ended, last := 0, 0, 0, time.Time{}
		for j := from; j < end; j++ {
			if !w.endedAt[j].IsZero() {
				ended++
				last = later(last, w.endedAt[j])
			}
			switch w.cells[j] {
			case Executed:
				executed++
			case Skipped:
				skipped++
			}
		}
		switch {
		case w.resumed:
		case wave.Success == 0 && ended < end-from:
			w.t.Fatalf("target %d is started, and wave %d has not ended", i, k)
		case wave.Success == 0 && w.now.Sub(last) < wave.Soak.D():
			w.t.Fatalf("target %d is started %s after wave %d has ended", i, w.now.Sub(last), k)
		case float64(executed) < wave.Success*float64(end-from-skipped)-1e-9:
			w.t.Fatalf("target %d is started, and of wave %d only %d of %d are executed", i, k, executed, end-from-skipped)
		}
		from = end
	}
}

func (w *world) find(a Action) {
	var to []Change
	for i := a.From; i < a.To; i++ {
		if at := slices.Index(w.making, i); at >= 0 && w.r.Cells.At(i) == Starting {
			if w.r.State == Aborting {
				to = append(to, Change{i, Skipped})
				w.making = slices.Delete(w.making, at, at+1)
				w.cells[i], w.endedAt[i] = Skipped, w.now
			}
		}
	}
	w.step(Event{Kind: Became, To: to})
}

// audit compares the books.
func (w *world) audit() {
	if err := errors.Join(w.r.Sound(len(w.starts)), w.r.SoundCells()); err != nil {
		w.t.Fatal(err)
	}
	var all Counts
	from := 0
	for k := range w.r.Waves {
		var n Counts
		for i := from; i < w.r.Waves[k].End; i++ {
			n[w.r.Cells.At(i)]++
			all[w.r.Cells.At(i)]++
		}
		if n != w.r.Waves[k].Counts {
			w.t.Fatalf("wave %d counts %v, its targets are %v", k, w.r.Waves[k].Counts, n)
		}
		from = w.r.Waves[k].End
	}
	if all.Sum() != len(w.starts) || from != len(w.starts) {
		w.t.Fatalf("%d targets are counted, of %d", all.Sum(), len(w.starts))
	}
	bad, known := 0, 0
	for i, c := range w.cells {
		if got := w.r.Cells.At(i); c.ended() && got != c {
			w.t.Fatalf("target %d is %s, and the roll-out has %s", i, c, got)
		}
		switch c {
		case Failed, Rejected, TimedOut:
			bad++
			known++
		case Executed:
			known++
		}
	}
	if a := w.r.Spec.Abort; a != nil && w.bad.IsZero() && known >= max(1, a.Minimum) && float64(bad) > a.Share*float64(known)+1e-9 {
		w.bad = w.now
		if s := w.r.State; s != Aborting && s != Aborted {
			w.t.Fatalf("%d of %d are bad, and the roll-out is %s", bad, known, s)
		}
	}
	if w.r.State.Final() && all.Open() > 0 {
		w.t.Fatalf("%s with %d open", w.r.State, all.Open())
	}
	if w.r.State == Finished && all[Waiting] > 0 {
		w.t.Fatalf("finished with %d waiting", all[Waiting])
	}
}

// made says that some of the started targets have their commands.
func (w *world) made() {
	if len(w.making) == 0 {
		return
	}
	n := rapid.IntRange(1, len(w.making)).Draw(w.t, "made")
	var to []Change
	for _, i := range w.making[:n] {
		c := rapid.SampledFrom([]Cell{Open, Open, Open, Open, Skipped}).Draw(w.t, "cell")
		to = append(to, Change{i, c})
		w.cells[i] = c
		if c == Skipped {
			w.endedAt[i] = w.now
		}
	}
	w.making = w.making[n:]
	w.step(Event{Kind: Became, To: to})
}

// end ends one open target, or settles one that has timed out.
func (w *world) end() {
	var open []int
	for i, c := range w.cells {
		if c == Open || c == TimedOut {
			open = append(open, i)
		}
	}
	if len(open) == 0 {
		return
	}
	i := rapid.SampledFrom(open).Draw(w.t, "target")
	ends := []Cell{Executed, Executed, Executed, Executed, Failed, Rejected, Expired, Cancelled, NotAllowed, TimedOut}
	c := rapid.SampledFrom(ends).Draw(w.t, "end")
	w.cells[i] = c
	if w.endedAt[i].IsZero() {
		w.endedAt[i] = w.now
	}
	w.step(Event{Kind: Became, To: []Change{{i, c}, {i, Open}}})
}

func specs(t *rapid.T, n int) (s Spec) {
	for range rapid.IntRange(0, 3).Draw(t, "waves") {
		wave := Wave{Success: rapid.SampledFrom([]float64{0, 0.5, 0.9, 1}).Draw(t, "success"),
			Soak: command.Duration(rapid.SampledFrom([]time.Duration{0, 30 * time.Second}).Draw(t, "soak"))}
		if rapid.Bool().Draw(t, "by count") {
			wave.Count = rapid.IntRange(1, n).Draw(t, "count")
		} else {
			wave.Share = rapid.Float64Range(0.01, 1).Draw(t, "share")
		}
		s.Waves = append(s.Waves, wave)
	}
	if rapid.Bool().Draw(t, "rate") {
		s.Rate = &Rate{PerMinute: rapid.IntRange(1, 200).Draw(t, "per minute")}
		if rapid.Bool().Draw(t, "grows") {
			s.Rate.Factor, s.Rate.Every, s.Rate.Max = 1.5, rapid.IntRange(1, 10).Draw(t, "every"), 2*s.Rate.PerMinute
		}
	}
	if rapid.Bool().Draw(t, "concurrent") {
		s.Concurrency = rapid.IntRange(1, n).Draw(t, "concurrency")
	}
	if rapid.Bool().Draw(t, "abort") {
		s.Abort = &Threshold{Share: rapid.SampledFrom([]float64{0, 0.1, 0.5}).Draw(t, "threshold"), Minimum: rapid.IntRange(0, 5).Draw(t, "minimum")}
	}
	if rapid.IntRange(0, 3).Draw(t, "window") == 0 {
		s.Windows = []Window{{From: "12:01", To: "12:03"}}
	}
	if rapid.IntRange(0, 3).Draw(t, "later") == 0 {
		s.StartAt = t0.Add(20 * time.Second)
	}
	if rapid.IntRange(0, 3).Draw(t, "deadline") == 0 {
		s.Deadline = t0.Add(10 * time.Minute)
	}
	return s
}

// TestRandomRollouts plays random roll-outs and judges every step by the books of
// the world, which know nothing of how the machine decides.
func TestRandomRollouts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "targets")
		w := &world{t: t, now: t0, starts: make([]time.Time, n), cells: make([]Cell, n), endedAt: make([]time.Time, n)}
		w.r = New(Rollout{ID: "x", Spec: specs(t, n), By: "ada"}, n, nil, w.now)
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			w.now = w.now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 1, 50, 333, 2500, 30000}).Draw(t, "ms")) * time.Millisecond)
			switch rapid.IntRange(0, 12).Draw(t, "what") {
			case 0, 1, 2:
				w.made()
			case 3, 4, 5, 6, 7, 8:
				w.end()
			case 9:
				w.step(Event{Kind: rapid.SampledFrom([]Kind{Pause, Resume, Resume}).Draw(t, "person"), By: "bob"})
			case 10:
				w.step(Event{Kind: Restarted})
			default:
				w.step(Event{Kind: Tick})
			}
		}
		w.finish()
	})
}

// finish makes everything well, and the roll-out must come to its end.
func (w *world) finish() {
	for range 10_000 {
		if w.r.State.Final() {
			return
		}
		moved := false
		if w.r.State == Paused {
			w.step(Event{Kind: Resume, By: "bob"})
			moved = true
		}
		var to []Change
		for _, i := range w.making {
			w.cells[i] = Open
			to = append(to, Change{i, Open})
		}
		w.making = nil
		w.step(Event{Kind: Became, To: to})
		for i, c := range w.cells {
			if c == Open {
				w.cells[i], w.endedAt[i] = Executed, w.now
				w.step(Event{Kind: Became, To: []Change{{i, Executed}}})
				moved = true
			}
		}
		if !moved && len(to)+len(w.making) == 0 {
			if w.r.Wake.IsZero() {
				w.t.Fatalf("%s, waits for %q and for no time", w.r.State, w.r.Hold)
			}
			w.now = later(w.now, w.r.Wake)
			w.step(Event{Kind: Tick})
		}
	}
	w.t.Fatalf("it has not ended: %s, waits for %q", w.r.State, w.r.Hold)
}

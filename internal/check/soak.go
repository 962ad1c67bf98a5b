package check

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// mostTold is of how many violated cases the seeds are kept.
const mostTold = 50

// soak runs cases that are drawn at random, each with a seed of its own, until
// the time is over. What one of them violates is told with its seed, so that it
// can be run again alone.
func (r *run) soak(ctx context.Context, c Result) Result {
	all, err := listed()
	if err != nil {
		c.Skipped = err.Error()
		return c
	}
	var pool []Result
	for _, x := range all {
		if s := scripts[x.ID]; r.why(s) == "" && s.drawn() {
			pool = append(pool, x)
		}
	}
	rng := rand.New(rand.NewPCG(r.o.Seed, 38))
	prefix, began := r.prefix, time.Now()
	defer func() { r.prefix = prefix }()
	c.Counts = map[string]int{}
	t := &trial{run: r, ctx: ctx, counts: c.Counts}
	for round := 1; time.Since(began) < r.o.For && ctx.Err() == nil; round++ {
		r.prefix = fmt.Sprintf("%s-%d", prefix, round)
		seed := rng.Uint64N(1<<32) + 1
		got := r.one(ctx, pool[rng.IntN(len(pool))], seed)
		if ctx.Err() != nil {
			break
		}
		t.counts["cases"]++
		for k, n := range got.Counts {
			t.counts[k] += n
		}
		t.verdicts = append(t.verdicts, got.Verdicts...)
		if got.Violated {
			t.counts["violated"]++
			c.Violated = true
			if len(t.why) == mostTold {
				continue
			}
			t.note("--case %s --seed %d: %s", got.ID, seed, got.Detail)
		}
	}
	violated := c.Violated
	t.finish(&c)
	c.Violated = c.Violated || violated
	c.Seconds = time.Since(began).Seconds()
	return c
}

// drawn tells whether a soak may draw the case: not itself, and nothing that
// spends its time waiting or damages the disk.
func (s script) drawn() bool { return s.run != nil && !s.slow }

package engine

import (
	"encoding/binary"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/internal/command"
)

func numbered(n int) (tid command.TID) {
	binary.BigEndian.PutUint64(tid[8:], uint64(n))
	return tid
}

// TestTimersAgainstAMap plays random changes of times against the plainest
// thing that could be right.
func TestTimersAgainstAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q timers
		model := map[command.TID]int64{}
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				tid, when := numbered(rapid.IntRange(0, 30).Draw(t, "tid")), rapid.Int64Range(0, 100).Draw(t, "when")
				q.set(tid, nil, time.UnixMilli(when))
				model[tid] = when
			},
			"clear": func(t *rapid.T) {
				tid := numbered(rapid.IntRange(0, 30).Draw(t, "tid"))
				q.set(tid, nil, time.Time{})
				delete(model, tid)
			},
			"due": func(t *rapid.T) {
				now := rapid.Int64Range(0, 100).Draw(t, "now")
				limit := rapid.IntRange(1, 5).Draw(t, "limit")
				var last int64
				for _, d := range q.due(time.UnixMilli(now), limit) {
					if d.when > now || d.when < last || model[d.tid] != d.when {
						t.Fatalf("due %d at %d after %d, set to %d", d.when, now, last, model[d.tid])
					}
					last = d.when
					delete(model, d.tid)
					limit--
				}
				for tid, when := range model {
					if limit > 0 && when <= now || when < last {
						t.Fatalf("%s at %d was passed over", tid, when)
					}
				}
			},
			"": func(t *rapid.T) {
				next, ok := q.next()
				if ok != (len(model) > 0) || len(q.at) != len(model) {
					t.Fatalf("%d entries, want %d", len(q.at), len(model))
				}
				for _, when := range model {
					if next.UnixMilli() > when {
						t.Fatalf("next %d, but there is %d", next.UnixMilli(), when)
					}
				}
			},
		})
	})
}

func BenchmarkTimers(b *testing.B) {
	var q timers
	base := time.Now()
	for i := range 1_000_000 {
		q.set(numbered(i), nil, base.Add(time.Duration(i*7919%1_000_003)*time.Millisecond))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		q.set(numbered(i*31%1_000_000), nil, base.Add(time.Duration(i*104729%1_000_003)*time.Millisecond))
		i++
	}
}

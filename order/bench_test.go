package order

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

func BenchmarkTrackerObserve(b *testing.B) {
	b.Run("in order", func(b *testing.B) {
		b.ReportAllocs()
		tr := NewTracker("north/lamp-1", TrackerOptions{})
		s := Stamp{Stream: "north/lamp-1", Epoch: 1}
		for b.Loop() {
			s.Seq++
			tr.Observe(s)
		}
	})
	b.Run("pairs swapped", func(b *testing.B) {
		b.ReportAllocs()
		tr := NewTracker("north/lamp-1", TrackerOptions{})
		n := uint64(0)
		for b.Loop() {
			tr.Observe(Stamp{"north/lamp-1", 1, n ^ 1 + 1})
			n++
		}
	})
}

func BenchmarkReorderPush(b *testing.B) {
	for _, bm := range []struct {
		name string
		mask uint64 // numbers are reversed within runs of mask + 1
	}{{"in order", 0}, {"pairs swapped", 1}, {"runs of 64 reversed", 63}} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			r := NewReorder[int](ReorderOptions{})
			n := uint64(0)
			for b.Loop() {
				r.Push(Item[int]{Epoch: 1, Seq: n ^ bm.mask + 1, Size: 64}, t0)
				n++
			}
			if s := r.Stats(); s.Gaps != 0 || s.Repeated != 0 {
				b.Fatalf("%+v", s)
			}
		})
	}
}

func BenchmarkLanes(b *testing.B) {
	for _, keys := range []int{1, 16, 100_000} {
		for _, acks := range []bool{false, true} {
			b.Run(fmt.Sprintf("keys=%d/ack=%v", keys, acks), func(b *testing.B) {
				b.ReportAllocs()
				o := LaneOptions[int, int]{Handle: func(context.Context, int, int) error { return nil }}
				if acks {
					o.Ack = func(int, int, error) {}
				}
				l := NewLanes(o)
				start, n := time.Now(), 0
				for b.Loop() {
					if err := l.Submit(bg, n%keys, n); err != nil {
						b.Fatal(err)
					}
					n++
				}
				stop(b, l)
				b.ReportMetric(float64(n)/time.Since(start).Seconds(), "items/s")
			})
		}
	}
}

func BenchmarkStamp(b *testing.B) {
	s := Stamp{"north/lamp-1", 1_767_225_600, 123_456}
	list, _ := AppendProperties[mqtt.UserProperty](nil, s)
	prefix, _ := AppendPrefix(nil, s)
	b.Run("properties/append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			list, _ = AppendProperties(list[:0], s)
		}
	})
	b.Run("properties/parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseProperties(list); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("prefix/append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			prefix, _ = AppendPrefix(prefix[:0], s)
		}
	})
	b.Run("prefix/cut", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := CutPrefix(prefix); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkJudge(b *testing.B) {
	log := Log{Sent: 100_000, Acked: []Gap{{From: 1, To: 100_000}}}
	for n := range uint64(100_000) {
		if n%7 == 0 {
			log.Expired = append(log.Expired, Gap{From: n + 1, To: n + 1})
			continue
		}
		log.Arrivals = append(log.Arrivals, Arrival{Seq: n + 1, QoS: 1})
	}
	for b.Loop() {
		if r := Judge(log); !r.Verdicts.Has(Strict|GapSilent) || r.Verdicts.Any(Violations) {
			b.Fatal(r.Verdicts)
		}
	}
}

package pebblestore

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/wilco-iot/wilco/broker/store"
)

// BenchmarkAppend measures appends of which each publisher waits for its own,
// with 64 bytes of payload, and with an acknowledgement for each.
func BenchmarkAppend(b *testing.B) {
	for _, kind := range []string{"fsync", "os", "memory", "none"} {
		for _, publishers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%s/%d", kind, publishers), func(b *testing.B) {
				var s store.Store = store.NewMemory()
				if kind != "none" {
					d, err := ParseDurability(kind)
					if err != nil {
						b.Fatal(err)
					}
					s = mustOpen(b, b.TempDir(), Options{Durability: d})
				}
				commit(b, s, putSession("a", false))
				appendAll(b, s, publishers, 1)
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// BenchmarkStream has 64 messages of each of 16 publishers under way, as a
// client with a window has.
func BenchmarkStream(b *testing.B) {
	s := mustOpen(b, b.TempDir(), Options{})
	commit(b, s, putSession("a", false))
	appendAll(b, s, 16, 64)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
	b.ReportMetric(float64(s.Stats().Batches)/float64(s.Stats().Groups), "batches/sync")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// appendAll appends and removes b.N messages from some publishers, each of
// which has window of them under way.
func appendAll(b *testing.B, s store.Store, publishers, window int) {
	var order sync.Mutex
	var seq uint64
	m := message("site/line/device/result", strings.Repeat("x", 64))
	b.ResetTimer()
	var wg sync.WaitGroup
	for range publishers {
		wg.Go(func() {
			slots := make(chan struct{}, window)
			for {
				slots <- struct{}{}
				order.Lock()
				if seq++; seq > uint64(b.N) {
					order.Unlock()
					<-slots
					break
				}
				n := seq
				s.Commit(&store.Batch{Ops: []store.Op{appendOp(n, m, "a")}}, func(err error) {
					if err != nil {
						b.Error(err)
					}
					s.Commit(&store.Batch{Ops: []store.Op{removed("a", n)}}, nil)
					<-slots
				})
				order.Unlock()
			}
			for range window { // wait for those under way
				slots <- struct{}{}
			}
		})
	}
	wg.Wait()
}

// rss is what the process has in memory, in bytes.
func rss(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip(err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}

// TestMemory queues messages for a session that is away, of which a million may
// add 200 MiB to the process. Most of that does not grow with their number, so
// the test asks for half of it at a fifth.
func TestMemory(t *testing.T) {
	n, limit := uint64(200_000), int64(100<<20)
	if os.Getenv(soak) != "" {
		n, limit = 1_000_000, 200<<20
	}
	if raceEnabled {
		t.Skip("the race detector needs memory of its own")
	}
	s := mustOpen(t, t.TempDir(), Options{})
	commit(t, s, putSession("a", true))
	runtime.GC()
	before, most := rss(t), int64(0)
	for i := range n {
		m := message("site/line/device/result", strings.Repeat("x", 200))
		s.Commit(&store.Batch{Ops: []store.Op{appendOp(i+1, m, "a")}}, nil)
		m.Release()
		if i%1000 == 999 {
			commit(t, s)
			most = max(most, rss(t)-before)
		}
	}
	if most > limit {
		t.Errorf("%d MiB for %d messages", most>>20, n)
	}
	t.Logf("%d MiB for %d messages", most>>20, n)
	var got uint64
	for after := uint64(0); ; {
		list, err := s.Queue(nil, "a", after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
		b := &store.Batch{}
		for _, d := range list {
			after = d.Seq
			got++
			b.Add(removed("a", d.Seq))
			d.Message.Release()
		}
		commit(t, s, b.Ops...)
	}
	if got != n {
		t.Errorf("%d of %d messages came back", got, n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

package broker

import (
	"fmt"
	"testing"
	"time"
)

func TestLimiter(t *testing.T) {
	l := newLimiter(10, 20)
	allowed := func(n int, now time.Duration) (count int) {
		for range n {
			if l.allow("a", now) {
				count++
			}
		}
		return count
	}
	for i, step := range []struct {
		at   time.Duration
		want int
	}{{0, 20}, {0, 0}, {time.Second, 10}, {1050 * time.Millisecond, 0}, {1100 * time.Millisecond, 1}, {time.Hour, 20}} {
		if n := allowed(100, step.at); n != step.want {
			t.Errorf("step %d: %d allowed, want %d", i, n, step.want)
		}
	}
	if !l.allow("b", time.Hour) {
		t.Error("one key pays for another")
	}
	if d := l.charge("c", 50, time.Hour); d != 3*time.Second {
		t.Errorf("30 too many at 10 a second cost %v", d)
	}
	if d := l.charge("c", 0, time.Hour+time.Second); d != 2*time.Second {
		t.Errorf("a second later %v are left", d)
	}
}

// Keys that come once leave nothing behind, and those in debt stay.
func TestLimiterForgets(t *testing.T) {
	l := newLimiter(1, 2)
	l.charge("debtor", 1_000_000, 0)
	for i := range 100_000 {
		l.allow(fmt.Sprint(i), time.Duration(i)*time.Second)
	}
	if n := len(l.by); n > 2*fewBuckets {
		t.Errorf("%d buckets for 100,000 strangers", n)
	}
	if l.allow("debtor", 100_000*time.Second) {
		t.Error("a debt was forgotten")
	}
}

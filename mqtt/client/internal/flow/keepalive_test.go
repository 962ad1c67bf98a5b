package flow

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestKeepAlive(t *testing.T) {
	begin := time.Unix(0, 0)
	type look struct {
		sent, received uint64
		ping, dead     bool
		next           time.Duration // after begin
	}
	for name, looks := range map[string][]look{
		"idle and answered":        {{0, 0, true, false, 8 * time.Second}, {1, 1, false, false, 10 * time.Second}, {1, 1, false, false, 15 * time.Second}, {1, 1, true, false, 18 * time.Second}},
		"silent":                   {{0, 0, true, false, 8 * time.Second}, {1, 0, false, true, 8 * time.Second}},
		"busy both ways":           {{5, 5, false, false, 10 * time.Second}, {9, 9, false, false, 15 * time.Second}},
		"sending only asks, too":   {{5, 0, true, false, 8 * time.Second}},
		"receiving only asks, too": {{0, 5, true, false, 8 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			k := KeepAlive{Interval: 10 * time.Second, Patience: 3 * time.Second}
			now := k.Start(begin)
			for i, l := range looks {
				ping, dead, next := k.Tick(now, l.sent, l.received)
				if ping != l.ping || dead != l.dead || next.Sub(begin) != l.next {
					t.Fatalf("look %d: ping %v, dead %v, next %v; want %+v", i, ping, dead, next.Sub(begin), l)
				}
				now = next
			}
		})
	}
}

// Whatever the client sends, it is never silent for longer than the interval
// while the server answers, and a server that answers is never given up.
func TestKeepAliveNeverSilent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		interval := time.Duration(rapid.IntRange(2, 60).Draw(t, "interval")) * time.Second
		k := KeepAlive{Interval: interval, Patience: interval / 2}
		begin := time.Unix(0, 0)
		now, last := begin, begin
		var sent, received uint64
		next := k.Start(now)
		for range 200 {
			gap := time.Duration(rapid.Int64Range(1, int64(interval)).Draw(t, "gap"))
			at := now.Add(gap)
			for next.Before(at) {
				now = next
				ping, dead, n := k.Tick(now, sent, received)
				if dead {
					t.Fatalf("gave up a server that answers, at %v", now.Sub(begin))
				}
				if ping {
					if silent := now.Sub(last); silent > interval {
						t.Fatalf("silent for %v of %v", silent, interval)
					}
					last = now
					sent++
					received++ // PINGRESP
				} else if now.Sub(last) > interval {
					t.Fatalf("silent for %v of %v", now.Sub(last), interval)
				}
				next = n
			}
			now = at
			if rapid.Bool().Draw(t, "send") {
				sent++
				last = now
			}
			if rapid.Bool().Draw(t, "receive") {
				received++
			}
		}
	})
}

package sim

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

func TestSpan(t *testing.T) {
	for text, want := range map[string]Span{"2s": {2 * time.Second, 2 * time.Second}, "10ms..1m": {10 * time.Millisecond, time.Minute}, "0s..0s": {}} {
		var s Span
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%s: %v, %v", text, s, err)
		}
		var again Span
		if err := again.UnmarshalText([]byte(s.String())); err != nil || again != s {
			t.Errorf("%s: %v, %v", s, again, err)
		}
	}
	for _, text := range []string{"", "2", "2s..1s", "-1s", "1s..", "..1s", "1s..2s..3s"} {
		if err := new(Span).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a span", text)
		}
	}
}

func TestAClockIsWrongWithinItsBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(1, 1))
		ahead, drifts := 0, 0
		for range 100 {
			c := Clock{Offset: time.Minute, Drift: 0.1}.draw(rnd)
			off := time.Until(c.now())
			<-time.After(100 * time.Second)
			drift := time.Until(c.now()) - off
			if off.Abs() > time.Minute || drift.Abs() > 10*time.Second {
				t.Errorf("off by %s, and by %s more after 100 s", off, drift)
			}
			if off > 0 {
				ahead++
			}
			if drift.Abs() > time.Second {
				drifts++
			}
		}
		if ahead < 25 || ahead > 75 || drifts < 50 {
			t.Errorf("%d of 100 are ahead, %d drift", ahead, drifts)
		}
	})
}

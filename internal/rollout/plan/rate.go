package plan

import (
	"math"
	"time"
)

// The rate is a bucket of credits: a start takes one, and they come back evenly. It
// holds what comes in a second, and at least one, so that starts are spread over the
// minute; and it refills by so much less that a full bucket and a minute's refill
// are together no more than the rate: in no minute are there more.

// one is a credit, in the unit of Rollout.Credit.
const one = int64(time.Minute)

// PerMinuteAfter is the rate in force after so many successes; 0: none.
func (t *Rate) PerMinuteAfter(successes int) int {
	if t == nil {
		return 0
	}
	if t.Factor <= 1 || t.Every <= 0 {
		return t.PerMinute
	}
	grown := float64(t.PerMinute) * math.Pow(t.Factor, float64(successes/t.Every))
	return int(min(grown, float64(t.Max)))
}

// bucket is how many credits there can be, and how many come in a minute.
func bucket(perMinute int) (holds, refill int64) {
	holds = max(1, int64(perMinute)/60)
	return holds, int64(perMinute) - (holds - 1)
}

// refill brings the credit up to now.
func (m *step) refill(perMinute int) {
	holds, rate := bucket(perMinute)
	r := &m.r
	passed := min(m.now.Sub(r.CreditAt), time.Minute) // a minute fills any bucket, and cannot overflow
	if r.CreditAt.IsZero() {
		r.Credit, passed = holds*one, 0
	}
	if passed < 0 {
		passed = 0 // the clock was set back: no credit for that
	}
	r.Credit = min(r.Credit+int64(passed)*rate, holds*one)
	r.CreditAt = m.now
}

// nextCredit is when there will be enough for a quarter of a second, and at least
// one: nothing is lost by that, and there are few commits.
func (m *step) nextCredit(perMinute int) time.Time {
	holds, rate := bucket(perMinute)
	missing := max(1, holds/4)*one - m.r.Credit
	return m.now.Add(time.Duration((missing + rate - 1) / rate))
}

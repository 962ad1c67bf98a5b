package command

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Duration is a time.Duration that is written as text ("1m30s") in JSON and YAML.
type Duration time.Duration

// D gives the duration as the standard library's type.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String writes it as time.Duration does.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes "1m30s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads "1m30s".
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration like 30s or 1h30m", b)
	}
	*d = Duration(v)
	return nil
}

// Backoff names how the wait between attempts grows. Stored; never change.
type Backoff string

// The ways a wait grows.
const (
	NoRetry     Backoff = "none"        // one attempt
	Linear      Backoff = "linear"      // ackBy, 2 ackBy, 3 ackBy, ...
	Exponential Backoff = "exponential" // ackBy, 2 ackBy, 4 ackBy, ...
)

// Policy is how long things may take, and what is done about it. A command
// keeps the policy that it was made with. Stored; never change the names.
type Policy struct {
	DeliverBy   Duration `json:"deliverBy"`            // creation until the device must not begin any more
	AckBy       Duration `json:"ackBy"`                // a publication until its acknowledgement
	Heartbeat   Duration `json:"heartbeat,omitempty"`  // at most between two RUNNING; 0: none expected
	FinishBy    Duration `json:"finishBy"`             // first publication until the result
	Settle      Duration `json:"settle"`               // how long a late answer still counts after timed_out
	Backoff     Backoff  `json:"backoff"`              // how the wait between publications grows
	MaxAttempts int      `json:"maxAttempts"`          // publications without an answer while the device is online
	Jitter      float64  `json:"jitter,omitempty"`     // share of the wait, 0 to 1, added or taken away
	Supersede   bool     `json:"supersede,omitempty"`  // a newer one of the same name replaces it while it waits
	MaxBackoff  Duration `json:"maxBackoff,omitempty"` // upper bound of one wait
}

// Defaults is the policy of a command that names none.
var Defaults = Policy{
	DeliverBy: Duration(24 * time.Hour), AckBy: Duration(10 * time.Second),
	FinishBy: Duration(time.Hour), Settle: Duration(24 * time.Hour),
	Backoff: Exponential, MaxAttempts: 5, Jitter: 0.2, MaxBackoff: Duration(5 * time.Minute),
}

// WithDefaults fills what is missing from Defaults and cuts the clocks to milliseconds, which
// is how fine the machine's time is.
func (p Policy) WithDefaults() Policy {
	if p.Backoff == "" {
		p.Backoff = Defaults.Backoff
		if p.Jitter == 0 {
			p.Jitter = Defaults.Jitter
		}
	}
	if p.MaxAttempts == 0 {
		p.MaxAttempts = Defaults.MaxAttempts
	}
	for _, d := range []struct {
		v *Duration
		d Duration
	}{{&p.DeliverBy, Defaults.DeliverBy}, {&p.AckBy, Defaults.AckBy}, {&p.FinishBy, Defaults.FinishBy},
		{&p.Settle, Defaults.Settle}, {&p.MaxBackoff, Defaults.MaxBackoff}} {
		if *d.v == 0 {
			*d.v = d.d
		}
		*d.v = Duration(d.v.D().Truncate(time.Millisecond))
	}
	p.Heartbeat = Duration(p.Heartbeat.D().Truncate(time.Millisecond))
	return p
}

// PolicyError names the field of a policy that is wrong.
type PolicyError struct{ Field, Text string }

func (e *PolicyError) Error() string { return "policy." + e.Field + ": " + e.Text }

const (
	minClock = 10 * time.Millisecond
	maxClock = 10 * 365 * 24 * time.Hour
)

// Check says which field is out of bounds, as a *PolicyError.
func (p Policy) Check() error {
	for _, d := range []struct {
		name string
		v    Duration
		zero bool
	}{{"deliverBy", p.DeliverBy, false}, {"ackBy", p.AckBy, false}, {"heartbeat", p.Heartbeat, true},
		{"finishBy", p.FinishBy, false}, {"settle", p.Settle, false}, {"maxBackoff", p.MaxBackoff, false}} {
		if d.zero && d.v == 0 {
			continue
		}
		if d.v.D() < minClock || d.v.D() > maxClock {
			return &PolicyError{d.name, fmt.Sprintf("%s is not between %s and %s", d.v, minClock, maxClock)}
		}
	}
	switch p.Backoff {
	case NoRetry, Linear, Exponential:
	default:
		return &PolicyError{"backoff", fmt.Sprintf("%q is not one of none, linear, exponential", p.Backoff)}
	}
	if p.MaxAttempts < 1 || p.MaxAttempts > 100 {
		return &PolicyError{"maxAttempts", fmt.Sprintf("%d is not between 1 and 100", p.MaxAttempts)}
	}
	if !(p.Jitter >= 0 && p.Jitter <= 1) {
		return &PolicyError{"jitter", fmt.Sprintf("%g is not between 0 and 1", p.Jitter)}
	}
	return nil
}

func (p Policy) attempts() int {
	if p.Backoff == NoRetry {
		return 1
	}
	return p.MaxAttempts
}

// wait is how long the n-th unanswered publication (from 1) is waited for. The
// jitter comes out of tid and n, so that the machine stays a pure function and
// devices that were sent to together are not sent to again together.
func (p Policy) wait(tid TID, n int) time.Duration {
	n = max(n, 1)
	d := p.AckBy.D()
	limit := max(p.MaxBackoff.D(), d)
	switch p.Backoff {
	case Linear:
		if time.Duration(n) > limit/d { // the product may be more than fits
			d = limit
		} else {
			d *= time.Duration(n)
		}
	case Exponential:
		for range n - 1 {
			if d *= 2; d >= limit {
				d = limit
				break
			}
		}
	}
	if p.Jitter > 0 && n > 1 {
		h := mix(uint64(n) + mix(binary.BigEndian.Uint64(tid[8:])+mix(binary.BigEndian.Uint64(tid[:8]))))
		share := float64(h>>11)/(1<<53)*2 - 1 // -1 to 1
		d += time.Duration(share * p.Jitter * float64(d))
	}
	return min(max(d.Truncate(time.Millisecond), minClock), limit)
}

// mix spreads every bit of x over all bits (the finaliser of SplitMix64), so
// that neighbours, as the attempts of one command are, have nothing in common.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// patience is how long all publications of one question are waited for.
func (p Policy) patience(tid TID) time.Duration {
	var sum time.Duration
	for n := range p.attempts() {
		sum = min(sum+p.wait(tid, n+1), maxClock)
	}
	return sum
}

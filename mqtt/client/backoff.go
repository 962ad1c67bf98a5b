package client

import "time"

// Backoff is how long to wait between attempts to connect: exponential, with
// full jitter, so that many clients which lost one server do not come back in
// step.
type Backoff struct {
	Min time.Duration // shortest wait; default 250 ms
	Max time.Duration // longest wait; default 30 s
}

const (
	defaultBackoffMin = 250 * time.Millisecond
	defaultBackoffMax = 30 * time.Second
)

// stable is how long a connection must have stood to count as a success. One
// that ends sooner continues the series, or a server that accepts and drops
// would be hammered.
const stable = 5 * time.Second

// after returns the wait after the given number of failures in a row (from 1),
// for a random r in [0, 1).
func (b Backoff) after(failures int, r float64) time.Duration {
	top := b.Min
	for i := 0; i < failures && top < b.Max; i++ {
		top *= 2
	}
	top = min(top, b.Max)
	return b.Min + time.Duration(r*float64(top-b.Min))
}

// hopeless returns the wait after a refusal that trying again will not heal:
// the upper half of what after can ever give.
func (b Backoff) hopeless(r float64) time.Duration {
	return b.Max - time.Duration(r*float64(b.Max-b.Min)/2)
}

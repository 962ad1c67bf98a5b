package fleet

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Guessing is bounded three ways, each a bucket of failures that drains with time:
// for a user from one address, for an address, and for a user from everywhere. The
// last is wide, so that nobody keeps a user out by failing in its name from a few
// places, and still narrow enough against many.
var limits = [...]struct {
	burst int
	every time.Duration // one more
}{
	pair:    {5, 30 * time.Second},
	address: {20, 3 * time.Second},
	account: {100, 10 * time.Second},
}

const (
	pair = iota
	address
	account
)

// maxBuckets bounds what is remembered. Beyond that everybody waits until some have
// drained, but for users at addresses where they were right before.
const maxBuckets = 16384

type bucketKey struct {
	limit      int
	user, from string
}

// attempts remembers who failed. The zero value is ready, and safe for concurrent use.
type attempts struct {
	mu sync.Mutex
	// full is when the bucket will have drained, by who: a bucket is n failures full
	// when that is n times every away.
	full  map[bucketKey]time.Time
	swept time.Time
	lines map[bucketKey]*line
	// known are the addresses at which a user was right, the latest last, maxKnown of each
	// user. What others fail elsewhere, in the user's name or in all, keeps nobody out there.
	known map[string][]string
}

const maxKnown = 8

// line is where those wait who log in as one user from one address.
type line struct {
	turn chan struct{} // has room for one
	in   int           // the one whose turn it is included
}

// enter waits for the turn of a user from an address, which leave ends. What one has
// begun and not ended is a failure until then, so that clients of one user that connect
// all at once would be too many failures before the first is found right. Errors:
// TooMany when too many wait, or ctx ends before.
func (a *attempts) enter(ctx context.Context, user, from string) (leave func(), err error) {
	k := bucketKey{pair, user, from}
	a.mu.Lock()
	l := a.lines[k]
	if l == nil {
		l = &line{turn: make(chan struct{}, 1)}
		if a.lines == nil {
			a.lines = map[bucketKey]*line{}
		}
		a.lines[k] = l
	}
	if l.in > maxWaiting {
		a.mu.Unlock()
		return nil, errBusy
	}
	l.in++
	a.mu.Unlock()
	leave = func() { <-l.turn; a.leave(k) }
	select {
	case l.turn <- struct{}{}:
		return leave, nil
	default: // its own: a context is asked by who must wait only, and may be over for who need not
	}
	select {
	case l.turn <- struct{}{}:
		return leave, nil
	case <-ctx.Done():
		a.leave(k)
		return nil, errBusy
	}
}

func (a *attempts) leave(k bucketKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.lines[k]; l.in > 1 {
		l.in--
	} else {
		delete(a.lines, k)
	}
}

// sweepEvery bounds what looking at all buckets costs while there are too many.
const sweepEvery = time.Second

func keysOf(user, from string) [len(limits)]bucketKey {
	return [...]bucketKey{pair: {pair, user, from}, address: {address, "", from}, account: {account, user, ""}}
}

// begin counts an attempt as failed before it is made, so that many at once are no
// way around. It returns how long to wait when there were too many.
func (a *attempts) begin(now time.Time, user, from string) (wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.full == nil || len(a.full) >= maxBuckets && now.Sub(a.swept) >= sweepEvery {
		a.sweep(now)
	}
	known := slices.Contains(a.known[user], from)
	if len(a.full) >= maxBuckets && !known {
		return limits[account].every
	}
	keys := keysOf(user, from)
	for i, k := range keys {
		l := limits[i]
		if known && i == account {
			continue
		}
		if room := now.Add(time.Duration(l.burst-1) * l.every); a.full[k].After(room) {
			wait = max(wait, a.full[k].Sub(room))
		}
	}
	if wait > 0 {
		return wait
	}
	for i, k := range keys {
		at := a.full[k]
		if at.Before(now) {
			at = now
		}
		a.full[k] = at.Add(limits[i].every)
	}
	return 0
}

// unmade takes back what begin has counted.
func (a *attempts) unmade(user, from string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, k := range keysOf(user, from) {
		if at, ok := a.full[k]; ok {
			a.full[k] = at.Add(-limits[i].every)
		}
	}
}

// succeeded takes back what begin has counted, and all that the user has failed at this
// address before.
func (a *attempts) succeeded(user, from string) {
	a.unmade(user, from)
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.full, bucketKey{pair, user, from})
	list := slices.DeleteFunc(a.known[user], func(s string) bool { return s == from })
	if len(list) == maxKnown {
		list = slices.Delete(list, 0, 1)
	}
	if a.known == nil {
		a.known = map[string][]string{}
	}
	a.known[user] = append(list, from)
}

// forget is for a user who is no more.
func (a *attempts) forget(user string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.known, user)
}

func (a *attempts) sweep(now time.Time) {
	a.swept = now
	if a.full == nil {
		a.full = map[bucketKey]time.Time{}
	}
	for k, at := range a.full {
		if !at.After(now) {
			delete(a.full, k)
		}
	}
}

// origin is the part of a remote address, with or without a port, that one party can be
// expected to have: an IPv4 address, or an IPv6 network of 64 bits. What is no address
// is itself.
func origin(remote string) string {
	both, err := netip.ParseAddrPort(remote)
	a := both.Addr()
	if err != nil {
		if a, err = netip.ParseAddr(remote); err != nil {
			return remote
		}
	}
	if a = a.Unmap(); a.Is4() {
		return a.String()
	}
	p, _ := a.WithZone("").Prefix(64)
	return p.String()
}

package broker

import (
	"sync"
	"time"
)

// limiter holds one token bucket for each key: an address, an identity, a
// client identifier. A bucket fills with rate tokens a second up to burst. It
// is safe for concurrent use; times are any that rise, such as those since
// Broker.epoch.
type limiter struct {
	rate, burst float64

	mu    sync.Mutex
	by    map[string]bucket
	sweep int // look for full buckets when there are this many
}

// bucket may be in debt: then tokens is below zero.
type bucket struct {
	tokens float64
	at     time.Duration // when that was so
}

// fewBuckets are not worth a sweep.
const fewBuckets = 1024

func newLimiter(rate, burst int) *limiter {
	return &limiter{rate: float64(rate), burst: float64(burst), by: make(map[string]bucket), sweep: fewBuckets}
}

// allow takes a token of key's bucket, or says that there is none.
func (l *limiter) allow(key string, now time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.filled(key, now)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	l.put(key, b)
	return true
}

// charge takes n tokens whether they are there or not, and says how long it
// takes until the bucket is out of debt.
func (l *limiter) charge(key string, n int, now time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.filled(key, now)
	b.tokens -= float64(n)
	l.put(key, b)
	return time.Duration(max(0, -b.tokens) / l.rate * float64(time.Second))
}

func (l *limiter) filled(key string, now time.Duration) bucket {
	b, ok := l.by[key]
	if !ok {
		return bucket{tokens: l.burst, at: now}
	}
	return l.fill(b, now)
}

func (l *limiter) fill(b bucket, now time.Duration) bucket {
	if now > b.at {
		b.tokens = min(l.burst, b.tokens+l.rate*(now-b.at).Seconds())
		b.at = now
	}
	return b
}

// put stores a bucket. Full ones are as good as none, and are removed when the
// keys have doubled, so that strangers who come once leave nothing behind.
func (l *limiter) put(key string, b bucket) {
	if _, ok := l.by[key]; !ok && len(l.by) >= l.sweep {
		for k, old := range l.by {
			if l.fill(old, b.at).tokens >= l.burst {
				delete(l.by, k)
			}
		}
		l.sweep = max(fewBuckets, 2*len(l.by))
	}
	l.by[key] = b
}

// now is the time that limiters count in.
func (b *Broker) now() time.Duration { return time.Since(b.epoch) }

// pace makes the reader of c wait when its identity or its address publishes
// too fast, or when it asked for much that is retained: then its client is not
// read from, and nobody else waits.
func (c *conn) pace(published, scanned int) {
	var wait time.Duration
	if l := c.b.publishes; l != nil && published > 0 && !c.system {
		now := c.b.now()
		wait = max(l.charge("identity "+c.info.Identity, published, now), l.charge("address "+c.host, published, now))
	}
	if scanned > freeScan {
		wait = max(wait, time.Duration(scanned-freeScan)*scanPrice)
	}
	if wait > 0 {
		c.pause(min(wait, maxPause))
	}
}

// A SUBSCRIBE may look at freeScan places for retained messages for nothing;
// each further one costs its connection scanPrice.
const (
	freeScan  = 1000
	scanPrice = 10 * time.Microsecond
	maxPause  = time.Second // well within any keep alive; a debt remains

	// scanChunk is how many places are looked at while all others wait.
	scanChunk = 256

	// maxScan is what the filters of one turn may look at together; those after
	// it are refused with 0x97.
	maxScan = 1 << 20
)

// pause waits, or until the connection ends.
func (c *conn) pause(d time.Duration) {
	over := false
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	timer := time.AfterFunc(d, func() {
		c.client.mu.Lock()
		over = true
		c.room.Broadcast()
		c.client.mu.Unlock()
	})
	defer timer.Stop()
	for !over && !c.ending && !c.closed {
		c.room.Wait()
	}
	c.seen.Store(int64(c.b.now())) // it was we who did not listen
}

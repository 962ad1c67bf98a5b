package engine

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/wilco-iot/wilco/internal/command"
)

// Stats counts since the start of the engine, but Open, which is how many
// commands have not ended now.
type Stats struct {
	Created     int64
	Open        int64
	Ended       map[command.State]int64 // by end state; timed_out when closed for good
	TimedOut    int64                   // came to be of unknown outcome, settled later or not
	Published   int64
	Retries     int64 // publications of a request after the first
	Received    int64 // messages of devices
	Duplicates  int64 // of these, told nothing new
	Reboots     int64
	Anomalies   map[string]int64 // by kind
	FailedTurns int64
}

type counters struct {
	created, open, timedOut, published, retries, received, duplicates, reboots, failedTurns atomic.Int64

	mu        sync.Mutex
	ended     map[command.State]int64
	anomalies map[string]int64
}

// Stats gives the counters as they are now. It does not block.
func (e *Engine) Stats() Stats {
	c := &e.stats
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{Created: c.created.Load(), Open: c.open.Load(), Ended: maps.Clone(c.ended), TimedOut: c.timedOut.Load(),
		Published: c.published.Load(), Retries: c.retries.Load(), Received: c.received.Load(), Duplicates: c.duplicates.Load(),
		Reboots: c.reboots.Load(), Anomalies: maps.Clone(c.anomalies), FailedTurns: c.failedTurns.Load()}
}

// anomaly counts one and says how many of its kind there have been.
func (c *counters) anomaly(kind string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.anomalies == nil {
		c.anomalies = make(map[string]int64)
	}
	c.anomalies[kind]++
	return c.anomalies[kind]
}

func (c *counters) moved(was, is *command.Command) {
	if was.Version == 0 {
		c.created.Add(1)
		c.open.Add(1)
	}
	if is.State == command.TimedOut && was.State != command.TimedOut {
		c.timedOut.Add(1)
	}
	if is.Final() && !was.Final() {
		c.open.Add(-1)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.ended == nil {
			c.ended = make(map[command.State]int64)
		}
		c.ended[is.State]++
	}
}

// Package rebirth decides when a host asks edge nodes for a rebirth. It is pure:
// time and randomness come in, one ask at a time goes out.
//
// A rebirth costs the edge node, the broker and every host a message of all
// metrics. Asking whenever one is needed makes storms: ten thousand nodes after
// the restart of a host, a node that cannot do better and is asked for ever, two
// nodes with one name that each answer for both. So there are four brakes:
//
//	one ask per node, then a cooldown that doubles while no NBIRTH comes
//	a rest after each NBIRTH: a node that is wrong again soon waits longer
//	one token bucket for all nodes, and jitter
//	quarantine for what looks like two nodes with one name
//
// A node that has not answered a few asks, and gives no sign of life, is not
// asked again. A Want of it is a sign of life.
//
// A Scheduler belongs to one goroutine at a time.
package rebirth

import (
	"container/heap"
	"time"
)

// Config has the brakes. A field that is 0 has its default.
type Config struct {
	Cooldown    time.Duration  // after the first ask; default 5 s
	MaxCooldown time.Duration  // default 5 min
	Jitter      time.Duration  // the most that an ask is put off at random; default 1 s
	Rate        float64        // asks per second, of all nodes; default 50
	Burst       int            // asks at once; default 10
	Quarantine  time.Duration  // default 10 min
	Rand        func() float64 // from 0 to below 1; nil: no jitter
}

// The marks of two nodes with one name, or of one that cannot live.
const (
	watched   = time.Minute // how far the scheduler looks back
	maxBirths = 8           // NBIRTHs in that time
	maxFlips  = 2           // times that bdSeq went back to the one before, without a death
	unasked   = 3           // asks without a sign of life
)

// Reason is why a rebirth is wanted; it means nothing here.
type Reason uint8

// Ask is a rebirth to be asked for now.
type Ask[K comparable] struct {
	Key    K
	Reason Reason
}

// Scheduler keeps the nodes that something was heard of. It holds memory for
// nodes that need or needed a rebirth, until Forget.
type Scheduler[K comparable] struct {
	cfg    Config
	nodes  map[K]*node[K]
	queue  queue[K]
	tokens float64
	filled time.Time
}

type node[K comparable] struct {
	key    K
	reason Reason
	place  int // in the queue; -1 when not in it
	due    time.Time

	level int       // doublings of the cooldown
	asks  int       // since the last sign of life
	open  bool      // asked, and not answered
	asked time.Time // the last time
	born  time.Time

	births []birth // within the time watched
	flips  int
	until  time.Time // end of the quarantine
}

type birth struct {
	at    time.Time
	bdSeq int
}

// New makes a Scheduler with no nodes.
func New[K comparable](cfg Config) *Scheduler[K] {
	orDuration(&cfg.Cooldown, 5*time.Second)
	orDuration(&cfg.MaxCooldown, 5*time.Minute)
	orDuration(&cfg.Jitter, time.Second)
	orDuration(&cfg.Quarantine, 10*time.Minute)
	if cfg.Rate <= 0 {
		cfg.Rate = 50
	}
	if cfg.Burst <= 0 {
		cfg.Burst = 10
	}
	if cfg.Rand == nil {
		cfg.Rand = func() float64 { return 0 }
	}
	return &Scheduler[K]{cfg: cfg, nodes: map[K]*node[K]{}, tokens: float64(cfg.Burst)}
}

func orDuration(d *time.Duration, or time.Duration) {
	if *d <= 0 {
		*d = or
	}
}

func (s *Scheduler[K]) node(k K) *node[K] {
	n := s.nodes[k]
	if n == nil {
		n = &node[K]{key: k, place: -1}
		s.nodes[k] = n
	}
	return n
}

// Want says that a rebirth of k is needed, and that it lives. It is not asked
// for before after has passed, nor when it is no longer needed by then. Wants
// while one is waiting or not answered change nothing but that.
func (s *Scheduler[K]) Want(k K, r Reason, after time.Duration, now time.Time) {
	n := s.node(k)
	n.asks = 0
	switch {
	case n.place >= 0:
		return
	case n.open:
		s.put(n, later(now, n.asked.Add(s.cooldown(n.level-1))))
		return
	}
	n.reason = r
	at := now.Add(after + s.jitter())
	if !n.asked.IsZero() {
		if !n.born.IsZero() && now.Sub(n.born) > s.rest(n) {
			n.level = 0
		}
		at = later(at, n.asked.Add(s.cooldown(n.level-1)))
	}
	s.put(n, later(at, n.until))
}

// rest is how long a node must have done well after its NBIRTH to be trusted
// like a new one.
func (s *Scheduler[K]) rest(n *node[K]) time.Duration {
	return max(time.Minute, 2*s.cooldown(n.level-1))
}

func (s *Scheduler[K]) cooldown(level int) time.Duration {
	if level < 0 {
		return 0
	}
	d := s.cfg.MaxCooldown
	if level < 30 {
		d = min(s.cfg.Cooldown<<level, s.cfg.MaxCooldown)
	}
	// A quarter either way, so that two hosts do not ask in step.
	return d + time.Duration(float64(d)*(s.cfg.Rand()-0.5)/2)
}

func (s *Scheduler[K]) jitter() time.Duration {
	return time.Duration(float64(s.cfg.Jitter) * s.cfg.Rand())
}

// Born says that an NBIRTH of k came; bdSeq is -1 when it has none. It is the
// answer to what was asked. alarm is true when the node goes into quarantine:
// two nodes seem to have its name. It is not asked then for a while.
func (s *Scheduler[K]) Born(k K, bdSeq int, now time.Time) (alarm bool) {
	n := s.node(k)
	s.take(n)
	n.open, n.asks, n.born = false, 0, now
	return s.watch(n, bdSeq, now)
}

// watch looks for the marks of two nodes with one name: bdSeq that goes to and
// fro, and too many births.
func (s *Scheduler[K]) watch(n *node[K], bdSeq int, now time.Time) bool {
	for len(n.births) > 0 && (now.Sub(n.births[0].at) > watched || len(n.births) >= maxBirths) {
		n.births = n.births[1:]
	}
	if k := len(n.births); k == 0 {
		n.flips = 0
	} else if k >= 2 && n.births[k-1].bdSeq != bdSeq && n.births[k-2].bdSeq == bdSeq {
		n.flips++
	}
	n.births = append(n.births, birth{now, bdSeq})
	if n.flips < maxFlips && len(n.births) < maxBirths || now.Before(n.until) {
		return false
	}
	n.until = now.Add(s.cfg.Quarantine)
	n.births, n.flips = nil, 0
	return true
}

// Dead says that k is offline: it is not asked.
func (s *Scheduler[K]) Dead(k K) {
	if n := s.nodes[k]; n != nil {
		s.take(n)
		n.open, n.asks, n.flips = false, 0, 0
		// The births before and after a death do not alternate.
		for i := range n.births {
			n.births[i].bdSeq = -2
		}
	}
}

// Clear drops all that waits or is not answered: there is no connection to ask
// over, and what was asked may never have arrived. Cooldowns stay.
func (s *Scheduler[K]) Clear() {
	for _, n := range s.queue {
		n.place = -1
	}
	s.queue = nil
	for _, n := range s.nodes {
		n.open, n.asks = false, 0
	}
}

// Forget frees the memory of k.
func (s *Scheduler[K]) Forget(k K) {
	if n := s.nodes[k]; n != nil {
		s.take(n)
		delete(s.nodes, k)
	}
}

// Quarantine is when the last quarantine of k ends or has ended; zero when it was
// in none.
func (s *Scheduler[K]) Quarantine(k K) time.Time {
	if n := s.nodes[k]; n != nil {
		return n.until
	}
	return time.Time{}
}

// Waiting is how many nodes are to be asked.
func (s *Scheduler[K]) Waiting() int { return len(s.queue) }

// Next is a rebirth to be asked for at now; ok is false when none is due, or
// there were too many already. What it returns counts as asked.
func (s *Scheduler[K]) Next(now time.Time) (ask Ask[K], ok bool) {
	s.fill(now)
	if len(s.queue) == 0 || s.queue[0].due.After(now) || s.tokens < 1 {
		return ask, false
	}
	s.tokens--
	n := s.queue[0]
	s.take(n)
	n.open, n.asked = true, now
	n.asks++
	n.level++
	if n.asks < unasked {
		s.put(n, now.Add(s.cooldown(n.level-1)))
	}
	return Ask[K]{n.key, n.reason}, true
}

// Deadline is when Next may have an ask; zero when nothing waits.
func (s *Scheduler[K]) Deadline(now time.Time) time.Time {
	if len(s.queue) == 0 {
		return time.Time{}
	}
	s.fill(now)
	due := s.queue[0].due
	if s.tokens < 1 {
		due = later(due, now.Add(time.Duration((1-s.tokens)/s.cfg.Rate*float64(time.Second))+time.Microsecond))
	}
	return due
}

func (s *Scheduler[K]) fill(now time.Time) {
	if !s.filled.IsZero() && now.After(s.filled) {
		s.tokens = min(float64(s.cfg.Burst), s.tokens+now.Sub(s.filled).Seconds()*s.cfg.Rate)
	}
	s.filled = later(now, s.filled)
}

func (s *Scheduler[K]) put(n *node[K], due time.Time) {
	n.due = due
	heap.Push(&s.queue, n)
}

func (s *Scheduler[K]) take(n *node[K]) {
	if n.place >= 0 {
		heap.Remove(&s.queue, n.place)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// queue is a heap by the time due.
type queue[K comparable] []*node[K]

func (q queue[K]) Len() int           { return len(q) }
func (q queue[K]) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue[K]) Swap(i, j int)      { q[i], q[j] = q[j], q[i]; q[i].place, q[j].place = i, j }

// Push is for heap.
func (q *queue[K]) Push(x any) {
	n := x.(*node[K])
	n.place = len(*q)
	*q = append(*q, n)
}

// Pop is for heap.
func (q *queue[K]) Pop() any {
	old := *q
	n := old[len(old)-1]
	old[len(old)-1] = nil
	n.place = -1
	*q = old[:len(old)-1]
	return n
}

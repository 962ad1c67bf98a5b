package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// maxTurn bounds the jobs of one turn, and so the memory and the size of a commit.
const maxTurn = 1024

// job is one thing that happened and must be decided.
type job interface {
	// needs names commands that run will look at, so that they are read together.
	needs(func(command.TID))
	// run decides, into the turn.
	run(*turn)
	// failed tells that nothing of the turn took effect; again keeps the job
	// for the next one.
	failed(error) (again bool)
}

// shard decides for its share of the devices, in one goroutine.
type shard struct {
	e    *Engine
	wake chan struct{} // one slot: there is something in the inbox
	// broken is the error of the last commit, nil when it went well.
	broken atomic.Pointer[error]

	mu     sync.Mutex
	closed bool // nothing is taken any more
	inbox  []job
	acks   int                             // of the jobs in inbox, those that can wait for company
	first  time.Time                       // when the first of them came
	seen   map[wire.Address]store.Presence // what Presence answers; written after commits

	// Owned by the goroutine of run; Start fills them before that.
	devices      map[wire.Address]*device
	timers       timers
	cache        map[command.TID]command.Command
	waiters      map[command.TID][]*waiter
	replicas     map[wire.Address]kept // some of them
	replicaBytes int
	barred       map[*device]struct{} // those of these that have open commands
	checked      time.Time            // when they were last looked at
	linked       bool
	empty        bool  // no device can be connected yet, see Options.NobodyConnected
	pending      []job // of a turn that failed, to be run first in the next one
	failing      int   // turns failed in a row
	conflicts    int   // and of these, because somebody else had written
}

func newShard(e *Engine) *shard {
	return &shard{e: e, empty: e.opt.NobodyConnected, wake: make(chan struct{}, 1),
		seen:     make(map[wire.Address]store.Presence),
		devices:  make(map[wire.Address]*device),
		cache:    make(map[command.TID]command.Command),
		waiters:  make(map[command.TID][]*waiter),
		replicas: make(map[wire.Address]kept),
		barred:   make(map[*device]struct{})}
}

// add puts a job in the inbox. It does not block: what comes in is bounded by
// those who wait for it, callers by their requests and the broker by its
// receive maximum. Once the engine has stopped the job fails at once.
func (s *shard) add(j job) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		j.failed(ErrStopped)
		return
	}
	s.inbox = append(s.inbox, j)
	if up, ok := j.(*upJob); ok && up.canWait() {
		if s.acks++; s.acks == 1 {
			s.first = time.Now()
		}
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run is the loop of a shard: wait, take, turn.
func (s *shard) run() {
	defer s.drain()
	timer := time.NewTimer(clockCheck)
	defer timer.Stop()
	for s.e.ctx.Err() == nil { // a full inbox must not keep it from stopping
		timer.Reset(s.pause())
		select {
		case <-s.e.ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		if s.patience() > 0 {
			continue
		}
		if jobs := s.take(); len(jobs) > 0 {
			s.turn(jobs)
		}
	}
}

// ackPatience is how long the acknowledgements of devices wait for company, when
// there is nothing else to decide. The result of a quick command comes within
// it, and the two cost one write in place of two.
const ackPatience = time.Millisecond

// patience is how much longer the inbox may wait; 0 when it holds anything but
// acknowledgements, or they have waited enough.
func (s *shard) patience() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.acks == 0 || s.acks < len(s.inbox) || len(s.pending) > 0 {
		return 0
	}
	return max(ackPatience-time.Since(s.first), 0)
}

// clockCheck is the longest sleep: a clock that was put forward is found out by
// then, and a device that people have let in again.
const clockCheck = 10 * time.Second

// pause is how long there is nothing to do unless something comes in.
func (s *shard) pause() time.Duration {
	if len(s.pending) > 0 && s.failing == 0 {
		return 0
	}
	if s.failing > 0 {
		return min(50*time.Millisecond<<min(s.failing, 6), time.Second)
	}
	if p := s.patience(); p > 0 {
		return p
	}
	if t, ok := s.timers.next(); ok {
		return min(max(time.Until(t), 0), clockCheck)
	}
	return clockCheck
}

// take gives the jobs of the next turn: what failed before, what came in, and
// what the clock brings.
func (s *shard) take() []job {
	jobs := s.pending
	s.pending = nil
	s.mu.Lock()
	n := 0
	for weight := len(jobs); n < len(s.inbox) && (n == 0 || weight < maxTurn); n++ {
		weight++
		if c, ok := s.inbox[n].(*createJob); ok {
			weight += len(c.index)
		}
	}
	jobs = append(jobs, s.inbox[:n]...)
	s.acks = 0 // what is left over has waited enough
	if s.inbox = s.inbox[n:]; len(s.inbox) == 0 {
		s.inbox = nil
	} else {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	s.mu.Unlock()
	if now := time.Now(); len(s.barred) > 0 && now.Sub(s.checked) >= clockCheck {
		s.checked = now
		jobs = append(jobs, s.letIn()...)
	}
	for _, t := range s.timers.due(time.Now(), max(maxTurn-len(jobs), 1)) {
		jobs = append(jobs, &tickJob{tid: t.tid, device: t.device})
	}
	return jobs
}

// drain answers everything that is left when the engine has stopped.
func (s *shard) drain() {
	s.mu.Lock()
	s.closed = true
	left := append(s.pending, s.inbox...)
	waiters := s.waiters
	s.inbox, s.pending, s.waiters = nil, nil, nil
	s.mu.Unlock()
	for _, j := range left {
		j.failed(ErrStopped)
	}
	for _, ws := range waiters {
		for _, w := range ws {
			w.reply <- answer{err: ErrStopped}
		}
	}
}

// keep puts a committed command in the cache, or drops it when it has ended.
func (s *shard) keep(c command.Command) {
	if c.Final() {
		delete(s.cache, c.TID)
		return
	}
	s.trim(1)
	s.cache[c.TID] = c
}

// trim makes room for n more commands in the cache.
func (s *shard) trim(n int) {
	limit := max(s.e.opt.Cache/len(s.e.shards), 1)
	for tid := range s.cache {
		if len(s.cache)+n <= limit {
			return
		}
		delete(s.cache, tid) // any one: the store has it
	}
}

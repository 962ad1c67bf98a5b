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
	devices   map[wire.Address]*device
	timers    timers
	cache     map[command.TID]command.Command
	waiters   map[command.TID][]*waiter
	linked    bool
	pending   []job // of a turn that failed, to be run first in the next one
	failing   int   // turns failed in a row
	conflicts int   // and of these, because somebody else had written
}

// device is what is known of a device in memory. Everything here can be made
// again from the store and the broker.
type device struct {
	address  wire.Address
	profile  wire.Profile
	lane     *command.Lane
	presence store.Presence
	oldBoots []string // the last few, to know a replayed status by
	seq      int64    // of the last publication of a request, in this epoch

	// How much this device may still write into the list of anomalies.
	notes   float64
	notedAt time.Time
}

// A device that goes on saying nonsense is told of by the counters only: at
// most this many anomalies at once, and so many a second, are worth a write.
const (
	notesAtOnce = 20
	notesASec   = 0.5
)

// mayNote takes one of the anomalies that d may write.
func (d *device) mayNote(now time.Time) bool {
	d.notes = min(d.notes+now.Sub(d.notedAt).Seconds()*notesASec, notesAtOnce)
	d.notedAt = now
	if d.notes < 1 {
		return false
	}
	d.notes--
	return true
}

func newShard(e *Engine) *shard {
	return &shard{e: e, wake: make(chan struct{}, 1),
		seen:    make(map[wire.Address]store.Presence),
		devices: make(map[wire.Address]*device),
		cache:   make(map[command.TID]command.Command),
		waiters: make(map[command.TID][]*waiter)}
}

// device gives the entry of a, made when it is new.
func (s *shard) device(a wire.Address) *device {
	d := s.devices[a]
	if d == nil {
		reg, _ := s.e.opt.Directory.Device(a)
		d = &device{address: a, profile: s.e.profile(reg.Profile), lane: command.NewLane(reg.Window),
			presence: store.Presence{Device: a}}
		s.devices[a] = d
	}
	return d
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
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
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
		return max(time.Until(t), 0)
	}
	return time.Hour
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
	s.inbox, s.pending = nil, nil
	s.mu.Unlock()
	for _, j := range left {
		j.failed(ErrStopped)
	}
	for _, ws := range s.waiters {
		for _, w := range ws {
			w.reply <- answer{err: ErrStopped}
		}
	}
	s.waiters = nil
}

// keep puts a committed command in the cache, or drops it when it has ended.
func (s *shard) keep(c command.Command) {
	if c.Final() {
		delete(s.cache, c.TID)
		return
	}
	limit := s.e.opt.Cache / len(s.e.shards)
	for tid := range s.cache {
		if len(s.cache) <= limit {
			break
		}
		delete(s.cache, tid) // any one: the store has it
	}
	s.cache[c.TID] = c
}

type waiter struct {
	tid   command.TID
	until func(*command.Command) bool
	reply chan answer
}

func (s *shard) tell(c *command.Command) {
	ws := s.waiters[c.TID]
	if len(ws) == 0 {
		return
	}
	rest := ws[:0]
	for _, w := range ws {
		if w.until(c) {
			w.reply <- answer{c: *c}
		} else {
			rest = append(rest, w)
		}
	}
	if len(rest) == 0 {
		delete(s.waiters, c.TID)
		return
	}
	s.waiters[c.TID] = rest
}

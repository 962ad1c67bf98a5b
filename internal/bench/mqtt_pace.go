package bench

import (
	"context"
	"sync/atomic"
	"time"
)

// lead keeps publishers from running away from the subscribers. Without it "as
// fast as it goes" would measure how fast a broker can drop messages, or fill a
// queue; with it, what goes in is what comes out, at the highest rate that the
// broker delivers at, and its queues are never empty for long.
//
// All publishers together are at most most messages ahead of the slowest
// subscriber. A subscriber that has not moved for a while is taken to have lost
// what it waits for.
type lead struct {
	subscribers []*subscriber
	most        int64
	share       int // of one publisher: the most it may ask for at once
	quiet       time.Duration
	asked       atomic.Int64
}

func (a *lead) init(o *MQTTOptions) {
	// In messages and in bytes, and less for many subscribers, who each add as
	// much to what the broker holds.
	const messages, least, copies, bytes = 4096, 512, 32 << 10, 8 << 20
	most := min(messages, max(least, copies/max(1, o.Subscribers)), bytes/(o.Size+1))
	most = max(most, 16, 2*o.Publishers)
	if o.QoS > 0 {
		// What is unacknowledged may be with a broker that forwards QoS 2 only at
		// its release; it must not be waited for.
		most = max(most, 2*o.Publishers*o.Window)
	}
	a.most, a.share, a.quiet = int64(most), max(1, most/(2*o.Publishers)), o.quiet/4
}

// wait blocks until n more messages may be sent, or the load is over.
func (a *lead) wait(ctx context.Context, p *publisher, n int) error {
	mark := a.asked.Add(int64(n)) - a.most
	for _, s := range a.subscribers {
		for s.wake(mark, p.ready) {
			p.timer.Reset(a.quiet)
			select {
			case <-p.ready:
			case <-p.timer.C:
				s.forgive(mark)
			case <-p.l.over:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// waiter is a publisher that wants to know when a subscriber has got so far.
type waiter struct {
	mark  int64
	ready chan struct{}
}

// wake says whether mark has to be waited for, and if so has ready signalled
// when it is reached. It may be signalled for an earlier mark too.
func (s *subscriber) wake(mark int64, ready chan struct{}) bool {
	if s.arrived.Load()+s.forgiven.Load() >= mark {
		return false
	}
	s.waiting.Lock()
	defer s.waiting.Unlock()
	if lowest := s.lowest.Load(); lowest == 0 || mark < lowest {
		s.lowest.Store(mark)
	}
	// The subscriber stores how far it is before it looks at lowest.
	if s.arrived.Load()+s.forgiven.Load() >= mark {
		return false
	}
	s.waiters = append(s.waiters, waiter{mark, ready})
	return true
}

// forgive takes what is missing up to mark for lost.
func (s *subscriber) forgive(mark int64) {
	s.waiting.Lock()
	defer s.waiting.Unlock()
	if missing := mark - s.arrived.Load() - s.forgiven.Load(); missing > 0 {
		s.forgiven.Add(missing)
	}
	s.notify()
}

// notify signals those whose marks are reached. s.waiting is held.
func (s *subscriber) notify() {
	reached, lowest := s.arrived.Load()+s.forgiven.Load(), int64(0)
	rest := s.waiters[:0]
	for _, w := range s.waiters {
		if w.mark <= reached {
			signal(w.ready)
			continue
		}
		rest = append(rest, w)
		if lowest == 0 || w.mark < lowest {
			lowest = w.mark
		}
	}
	s.waiters = rest
	s.lowest.Store(lowest)
}

// pace spreads the messages of one publisher evenly over time.
type pace struct {
	begin time.Time
	each  time.Duration
}

// newPace is for one of so many publishers, who take turns; nil without a rate.
func newPace(rate float64, number uint64, of int) *pace {
	if rate <= 0 {
		return nil
	}
	each := max(1, time.Duration(float64(time.Second)/rate))
	return &pace{begin: time.Now().Add(each * time.Duration(number) / time.Duration(of)), each: each}
}

// nap is the least time to sleep: at high rates a few messages go together.
const nap = 500 * time.Microsecond

// due waits until a message is due after so many, and says how many are, at
// most n; 0 when the load is over.
func (p *pace) due(n int, sent int64, timer *time.Timer, over <-chan struct{}) int {
	for {
		if isClosed(over) {
			return 0
		}
		ahead := time.Until(p.begin.Add(time.Duration(sent) * p.each))
		if ahead <= 0 {
			return int(min(int64(n), 1+int64(-ahead/p.each)))
		}
		timer.Reset(max(ahead, nap))
		select {
		case <-timer.C:
		case <-over:
		}
	}
}

// coarse is how late a message may be without anybody being to blame.
const coarse = 5 * time.Millisecond

// stamp is the time that a message carries that is sent now: now, or, when the
// broker has held us up, when it was due, so that its latency includes that.
func (p *pace) stamp(epoch time.Time, now, number int64) int64 {
	due := int64(p.begin.Add(time.Duration(number) * p.each).Sub(epoch))
	if now-due > int64(coarse) {
		return due
	}
	return now
}

package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/wilco-iot/wilco/mqtt"
)

// subscriber takes everything and checks it. The reader of its link does all of
// it; others look at the atomics.
type subscriber struct {
	*link
	l        *load
	received int64
	counted  int64 // received, when last was set
	checker  checker
	now      int64 // when the piece in hand was read, once it was asked for

	arrived  atomic.Int64 // how many different messages have arrived, or been passed over
	forgiven atomic.Int64 // how many more the lead has written off
	last     atomic.Int64 // when something came last
	lowest   atomic.Int64 // the lowest mark of waiters, 0 if there are none
	waiting  sync.Mutex
	waiters  []waiter
}

func (l *load) newSubscriber(ctx context.Context, i int, topic string) (*subscriber, error) {
	c, err := l.dial(ctx, fmt.Sprintf("%ss%d", l.name, i), l.o.Persistent)
	if err != nil {
		return nil, err
	}
	if err := c.subscribe(topic, mqtt.QoS(l.o.QoS)); err != nil {
		return nil, err
	}
	s := &subscriber{link: c, l: l, checker: newChecker(l.o.Publishers)}
	l.read(c, s)
	return s, nil
}

func (s *subscriber) message(payload []byte) error {
	if len(payload) != s.l.o.Size {
		return fmt.Errorf("a message of %d bytes arrived where all have %d", len(payload), s.l.o.Size)
	}
	s.received++
	if len(payload) < checkedSize {
		return nil
	}
	from, number, at := readStamp(payload)
	if !s.checker.see(from, number) {
		return fmt.Errorf("a message arrived that nobody sent: number %d of publisher %d", number, from)
	}
	if at != 0 {
		if s.now == 0 {
			s.now = s.l.since()
		}
		s.l.latency.add(s.now - at)
	}
	return nil
}

func (s *subscriber) settled() {
	s.now = 0
	if s.received == s.counted {
		return
	}
	s.counted = s.received
	s.last.Store(s.l.since())
	arrived := s.received - s.checker.duplicates + s.checker.missing
	s.arrived.Store(arrived)
	if lowest := s.lowest.Load(); lowest != 0 && lowest <= arrived+s.forgiven.Load() {
		s.waiting.Lock()
		s.notify()
		s.waiting.Unlock()
	}
}

func (s *subscriber) acknowledged(mqtt.ReasonCode) error {
	return fmt.Errorf("the broker acknowledged a message of a subscriber")
}

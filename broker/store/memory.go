package store

import (
	"iter"
	"slices"
	"sync"

	"github.com/wilco-iot/wilco/broker/session"
)

// Memory is a Store without a disk: every batch is done before Commit returns,
// and everything is gone with the process. Use NewMemory.
type Memory struct {
	mu       sync.Mutex
	sessions map[string]*memorySession
	retained map[string]*session.Message
	last     uint64
}

// memorySession is one session. queue is in order of seq; entries are removed
// from the front, and marked when they are not the first.
type memorySession struct {
	Record
	subscriptions []Subscription
	received      []uint16
	released      []session.Handshake
	queue         []entry
	count, bytes  int
	lost          session.Losses
}

type entry struct {
	seq     uint64
	message *session.Message // nil: removed, or released
	target  Target
	id      uint16
}

// NewMemory returns an empty memory store.
func NewMemory() *Memory {
	return &Memory{sessions: make(map[string]*memorySession), retained: make(map[string]*session.Message)}
}

// Close does nothing.
func (m *Memory) Close() error { return nil }

// Commit applies b and calls done.
func (m *Memory) Commit(b *Batch, done func(error)) {
	m.mu.Lock()
	for i := range b.Ops {
		m.apply(&b.Ops[i])
	}
	m.mu.Unlock()
	if done != nil {
		done(nil)
	}
}

func (m *Memory) apply(op *Op) {
	switch op.Kind {
	case PutSession:
		s := m.sessions[op.Record.ClientID]
		if s == nil {
			s = &memorySession{}
			m.sessions[op.Record.ClientID] = s
		}
		s.Record = *op.Record
	case DeleteSession:
		if s := m.sessions[op.Client]; s != nil {
			for i := range s.queue {
				s.empty(&s.queue[i])
			}
			delete(m.sessions, op.Client)
		}
	case PutSubscription:
		if s := m.sessions[op.Client]; s != nil {
			s.unsubscribe(op.Subscription.Filter)
			s.subscriptions = append(s.subscriptions, *op.Subscription)
		}
	case DeleteSubscription:
		if s := m.sessions[op.Client]; s != nil {
			s.unsubscribe(op.Subscription.Filter)
		}
	case Append:
		m.append(op)
	case Step:
		if s := m.sessions[op.Client]; s != nil {
			s.step(op.Change)
		}
	case PutRetained:
		m.setRetained(op.Message.Topic, op.Message.Hold())
	case DeleteRetained:
		m.setRetained(op.Topic, nil)
	}
}

func (m *Memory) append(op *Op) {
	m.last = max(m.last, op.Seq)
	for _, t := range op.Targets {
		if s := m.sessions[t.Client]; s != nil {
			t.SubscriptionIDs = slices.Clone(t.SubscriptionIDs)
			s.queue = append(s.queue, entry{seq: op.Seq, message: op.Message.Hold(), target: t})
			s.count++
			s.bytes += op.Message.Size()
		}
	}
}

func (m *Memory) setRetained(topic string, msg *session.Message) {
	if old := m.retained[topic]; old != nil {
		old.Release()
	}
	if msg == nil {
		delete(m.retained, topic)
	} else {
		m.retained[topic] = msg
	}
}

func (s *memorySession) unsubscribe(filter string) {
	s.subscriptions = slices.DeleteFunc(s.subscriptions, func(x Subscription) bool { return x.Filter == filter })
}

func (s *memorySession) step(c session.Change) {
	switch c.Kind {
	case session.Received:
		if !slices.Contains(s.received, c.ID) {
			s.received = append(s.received, c.ID)
		}
	case session.Forgotten:
		s.received = slices.DeleteFunc(s.received, func(id uint16) bool { return id == c.ID })
	case session.Reserved:
		if e := s.find(c.Seq); e != nil {
			e.id = c.ID
		}
	case session.Released:
		s.remove(c.Seq)
		s.released = append(s.released, session.Handshake{ID: c.ID, Seq: c.Seq})
	case session.Removed:
		s.remove(c.Seq)
		if c.ID != 0 {
			s.released = slices.DeleteFunc(s.released, func(h session.Handshake) bool { return h.ID == c.ID })
		}
	case session.Lost:
		s.lost[c.ID] = c.Seq
	}
}

func (s *memorySession) find(seq uint64) *entry {
	i, ok := slices.BinarySearchFunc(s.queue, seq, func(e entry, seq uint64) int {
		switch {
		case e.seq < seq:
			return -1
		case e.seq > seq:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return &s.queue[i]
}

func (s *memorySession) remove(seq uint64) {
	e := s.find(seq)
	if e == nil {
		return
	}
	s.empty(e)
	n := 0
	for n < len(s.queue) && s.queue[n].message == nil {
		n++
	}
	// Slicing leaves the freed front to be let go by the next growth of append.
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue = nil
	} else if len(s.queue) > 2*s.count+64 { // gaps behind one that is not acknowledged
		s.queue = slices.DeleteFunc(s.queue, func(e entry) bool { return e.message == nil })
	}
}

func (s *memorySession) empty(e *entry) {
	if e.message == nil {
		return
	}
	s.count--
	s.bytes -= e.message.Size()
	e.message.Release()
	e.message = nil
}

// Sessions yields all sessions.
func (m *Memory) Sessions() iter.Seq2[Session, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Session, 0, len(m.sessions))
	for _, s := range m.sessions {
		list = append(list, s.saved())
	}
	return func(yield func(Session, error) bool) {
		for _, s := range list {
			if !yield(s, nil) {
				return
			}
		}
	}
}

func (s *memorySession) saved() Session {
	v := Session{Record: s.Record, Subscriptions: slices.Clone(s.subscriptions)}
	v.Saved = session.Saved{
		ExpirySeconds: s.ExpirySeconds, Will: s.Will, DetachedAt: s.DetachedAt,
		Received: slices.Clone(s.received), Released: slices.Clone(s.released),
		Count: s.count, Bytes: s.bytes, Overflow: s.Overflow, Lost: s.lost,
	}
	for _, e := range s.queue {
		if e.message == nil {
			continue
		}
		v.Saved.Last = e.seq
		if e.id != 0 {
			v.Saved.Reserved = append(v.Saved.Reserved, e.id)
		}
	}
	return v
}

// Retained yields all retained messages.
func (m *Memory) Retained() iter.Seq2[*session.Message, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]*session.Message, 0, len(m.retained))
	for _, msg := range m.retained {
		list = append(list, msg.Hold())
	}
	return func(yield func(*session.Message, error) bool) {
		for _, msg := range list {
			if !yield(msg, nil) {
				return
			}
		}
	}
}

// Queue reads from a session's queue.
func (m *Memory) Queue(dst []session.Delivery, client string, after uint64, limit int) ([]session.Delivery, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sessions[client]
	if s == nil {
		return dst, nil
	}
	i, _ := slices.BinarySearchFunc(s.queue, after, func(e entry, after uint64) int {
		if e.seq <= after {
			return -1
		}
		return 1
	})
	for ; i < len(s.queue) && limit > 0; i++ {
		e := &s.queue[i]
		if e.message == nil {
			continue
		}
		dst = append(dst, session.Delivery{
			Message: e.message.Hold(), Seq: e.seq, QoS: e.target.QoS, Retain: e.target.Retain,
			Stored: true, ID: e.id, SubscriptionIDs: e.target.SubscriptionIDs,
		})
		limit--
	}
	return dst, nil
}

// LastSeq is the highest Seq ever appended.
func (m *Memory) LastSeq() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

package device

import "sync"

// mailbox hands functions to the goroutine of a run. Putting never blocks;
// what is put is bounded by its senders: handlers, of which there are few, and
// results of publications, of which a bounded number is under way.
type mailbox struct {
	ready chan struct{} // holds one token while there may be functions

	mu    sync.Mutex
	queue []func()
	keen  bool // nothing is to be put for later
}

func newMailbox() *mailbox { return &mailbox{ready: make(chan struct{}, 1)} }

// put adds f. It may be called from any goroutine.
func (m *mailbox) put(f func()) {
	m.mu.Lock()
	m.queue = append(m.queue, f)
	m.mu.Unlock()
	m.signal()
}

// putLater adds f without waking the run, unless it is keen: f is taken with
// what comes next.
func (m *mailbox) putLater(f func()) {
	m.mu.Lock()
	m.queue = append(m.queue, f)
	keen := m.keen
	m.mu.Unlock()
	if keen {
		m.signal()
	}
}

// setKeen says whether the run wants to be woken by everything, from what is
// there already on.
func (m *mailbox) setKeen(keen bool) {
	m.mu.Lock()
	waiting := len(m.queue) > 0
	m.keen = keen
	m.mu.Unlock()
	if keen && waiting {
		m.signal()
	}
}

func (m *mailbox) signal() {
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

// take returns what has been put, in order.
func (m *mailbox) take() []func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.queue
	m.queue = nil
	return all
}

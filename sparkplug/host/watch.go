package host

import (
	"sync"

	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// Event is something that happened to an edge node, by way of a server.
type Event struct {
	Server string
	Node   NodeID
	// Missed is how many events a Watch has missed right before this one.
	Missed int
	session.Event
}

// Watch is a stream of events with memory of its own. One that is not read fast
// enough misses events; it holds up nobody.
type Watch struct {
	// C has the events, those of one node in order. It is closed by Close and when
	// the host stops. What they hold may be kept.
	C <-chan Event

	h      *Host
	c      chan Event
	mu     sync.Mutex
	missed int
	closed bool
}

// Watch begins a stream of all events from now on, of which up to buffer wait to
// be read.
func (h *Host) Watch(buffer int) *Watch {
	w := &Watch{h: h, c: make(chan Event, max(buffer, 1))}
	w.C = w.c
	h.watchMu.Lock()
	defer h.watchMu.Unlock()
	if h.stopped {
		w.closed = true
		close(w.c)
		return w
	}
	h.watches[w] = struct{}{}
	h.watching.Store(int32(len(h.watches)))
	return w
}

// Close ends the stream. It may be called more than once.
func (w *Watch) Close() {
	w.h.watchMu.Lock()
	delete(w.h.watches, w)
	w.h.watching.Store(int32(len(w.h.watches)))
	w.h.watchMu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		close(w.c)
	}
}

func (w *Watch) send(ev *Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	ev.Missed = w.missed
	select {
	case w.c <- *ev:
		w.missed = 0
	default:
		w.missed++
	}
}

// tell gives an event to everybody who wants it.
func (h *Host) tell(ev *Event) {
	h.opts.OnEvent(ev)
	if h.watching.Load() == 0 {
		return
	}
	own := *ev
	own.Values = cloneValues(ev.Values)
	h.watchMu.RLock()
	defer h.watchMu.RUnlock()
	for w := range h.watches {
		w.send(&own)
	}
}

func cloneValues(list []session.Value) []session.Value {
	if len(list) == 0 {
		return nil
	}
	raw := make([]sparkplug.Metric, len(list))
	out := make([]session.Value, len(list))
	for i, v := range list {
		if v.Raw.DataSet != nil || v.Raw.Template != nil || v.Raw.Properties != nil || v.Raw.Meta != nil {
			raw[i] = v.Raw.Clone()
		} else {
			raw[i] = *v.Raw
			raw[i].Value = v.Raw.Value.Clone()
		}
		// The name is that of the birth.
		raw[i].Name = nil
		out[i] = session.Value{Metric: v.Metric, Raw: &raw[i]}
	}
	return out
}

package host

import (
	"sync/atomic"

	"github.com/wilco-iot/wilco/sparkplug/session"
)

// Stats counts what happened since New.
type Stats struct {
	Events    []Count // by kind and reason, those that happened
	Rebirths  []Count // asked for, by reason; Kind is RebirthWanted
	Foreign   uint64  // messages that are not Sparkplug's
	Elsewhere uint64  // DATA by way of a server that its node had left
}

// Count is how often something happened. Its words are for labels.
type Count struct {
	Kind   session.Kind
	Reason session.Reason
	N      uint64
}

// counts has a place for each kind and reason that there can be.
type counts struct {
	events [16][64]atomic.Uint64
	asks   [64]atomic.Uint64
}

func (c *counts) add(ev *session.Event) {
	c.events[int(ev.Kind)%len(c.events)][int(ev.Reason)%len(c.asks)].Add(1)
}

func (c *counts) ask(r session.Reason) { c.asks[int(r)%len(c.asks)].Add(1) }

// Stats returns the counters.
func (h *Host) Stats() Stats {
	st := Stats{Foreign: h.foreign.Load(), Elsewhere: h.elsewhere.Load()}
	for k := range h.counts.events {
		for r := range h.counts.events[k] {
			if n := h.counts.events[k][r].Load(); n > 0 {
				st.Events = append(st.Events, Count{session.Kind(k), session.Reason(r), n})
			}
		}
	}
	for r := range h.counts.asks {
		if n := h.counts.asks[r].Load(); n > 0 {
			st.Rebirths = append(st.Rebirths, Count{session.RebirthWanted, session.Reason(r), n})
		}
	}
	return st
}

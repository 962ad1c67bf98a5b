package broker

// ShareStats is what the shared subscriptions of a name have now. Messages are those
// of QoS 1 and 2.
type ShareStats struct {
	Shares                int // how many there are: one for each filter and tenant
	Waiting, WaitingBytes int // messages that wait to be lent
	Draining              int // of those: they wait until another member has done with what it has of their key
	Lent                  int // messages that members have and have not acknowledged
}

// add adds x.
func (s *ShareStats) add(x *ShareStats) {
	s.Shares += x.Shares
	s.Waiting += x.Waiting
	s.WaitingBytes += x.WaitingBytes
	s.Draining += x.Draining
	s.Lent += x.Lent
}

// stats counts for the shares of a name: what clients call their shares makes no more
// of them than Options.Shares has.
func (ix *index) stats(name string) *ShareStats {
	if _, ok := ix.rules[name]; !ok {
		name = ""
	}
	s := ix.counts[name]
	if s == nil {
		if ix.counts == nil {
			ix.counts = make(map[string]*ShareStats)
		}
		s = new(ShareStats)
		ix.counts[name] = s
	}
	return s
}

// idle is what waits in all shares.
func (ix *index) idle() (x held) {
	for _, s := range ix.counts {
		x.count += s.Waiting
		x.bytes += s.WaitingBytes
	}
	return x
}

// Shares counts by share: those of the names that Options.Shares has, and under ""
// all others together. It is safe for concurrent use, and quick.
func (b *Broker) Shares() map[string]ShareStats {
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	all := make(map[string]ShareStats, len(b.options.Shares)+1)
	all[""] = ShareStats{}
	for name := range b.options.Shares {
		all[name] = ShareStats{}
	}
	for name, s := range b.hub.index.counts {
		all[name] = *s
	}
	return all
}

// rests counts e, which comes to rest in its lane or leaves it.
func (g *group) rests(e *entry, n int) {
	if e.zero {
		return
	}
	size := n * e.m.Size()
	g.idle.count += n
	g.idle.bytes += size
	g.stats.Waiting += n
	g.stats.WaitingBytes += size
	e.lane.length += n
	if e.lane.drains {
		g.stats.Draining += n
	}
}

// drain notes whether the lane waits for its former owner.
func (l *lane) drain(on bool) {
	switch {
	case on == l.drains:
		return
	case on:
		l.g.stats.Draining += l.length
	default:
		l.g.stats.Draining -= l.length
	}
	l.drains = on
}

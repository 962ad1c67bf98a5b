package broker

import "slices"

// A member that comes or goes may change where the messages of any key go, so the
// share looks at all its lanes once more: a lap. One turn does a bounded part of it,
// and what is left is done by turns of the share's own, between which everybody else
// has the hub. Meanwhile a lane that was not looked at yet is as it was: what it has
// lent stays with its holder, and what waits in it waits longer, unless something else
// deals it, which always asks for the owner as of then. So a lap that takes its time
// cannot disturb an order.
//
// A lap goes down from the last lane. One that is made meanwhile is put behind, and is
// right as it is; one that is forgotten is replaced by the last, which was looked at
// already, or is looked at again.
type lap struct {
	who   []*client // it is about their coming or going
	later []*client // they came or went since, and have the next lap
	away  []*client // what these have is to be taken back first
	at    int       // from here on the lanes have been looked at
	cut   []*lane   // whose messages were too many for one turn
	more  bool      // a goroutine goes on with it
}

// mostWork is what one turn does of a lap: lanes looked at, and messages lent or taken
// back. It ends what it has begun.
const mostWork = 1024

// over tells whether there is nothing to do.
func (p *lap) over() bool {
	return len(p.away) == 0 && len(p.cut) == 0 && p.at == 0 && len(p.later) == 0
}

// runs does what the turn may of the share's lap, and sees to it that the rest is
// done.
func (t *turn) runs(g *group) {
	for !g.gone && !g.lap.over() {
		if t.work >= mostWork {
			t.goOn(g)
			break
		}
		t.advance(g)
	}
	t.b.hub.most = max(t.b.hub.most, t.work)
}

// goOn has turns of their own do the rest of the lap.
func (t *turn) goOn(g *group) {
	if g.lap.more || !t.b.begin() { // the broker has stopped
		return
	}
	g.lap.more = true
	go t.b.runLap(g)
}

// runLap is the goroutine that goes on with a lap.
func (b *Broker) runLap(g *group) {
	defer b.running.Done()
	for more := true; more; {
		t := b.newTurn(nil)
		b.hub.mu.Lock()
		t.runs(g)
		if more = !g.gone && !g.lap.over(); !more {
			g.lap.more = false
		}
		t.commit()
		b.hub.mu.Unlock()
		t.finish()
	}
}

// advance does the next thing of the lap.
func (t *turn) advance(g *group) {
	p := &g.lap
	switch {
	case len(p.away) > 0:
		cl := p.away[len(p.away)-1]
		p.away = p.away[:len(p.away)-1]
		if cl.conn == nil && g.here() {
			t.work += 1 + len(cl.lent)
			t.recall(cl, true, func(e *entry) bool { return e.lane.g == g })
		}
	case len(p.cut) > 0:
		l := p.cut[len(p.cut)-1]
		p.cut = p.cut[:len(p.cut)-1]
		t.deal(l)
	case p.at > 0:
		t.work++
		list := g.lanesOf()
		if p.at = min(p.at, len(list)) - 1; p.at < 0 {
			p.at = 0
			return
		}
		l := list[p.at]
		if slices.ContainsFunc(p.who, l.concerns) {
			t.deal(l)
		}
	default:
		t.beginLap(g)
	}
}

// beginLap begins the lap for those who have come and gone.
func (t *turn) beginLap(g *group) {
	p := &g.lap
	p.who, p.later = p.later, nil
	p.at = len(g.lanesOf())
	// What a member has had that is away waits for it only while nobody else is
	// there: then it comes again with DUP, as to any session.
	for i := range g.members.list {
		if cl := g.members.list[i].client; cl.conn == nil && len(cl.lent) > 0 {
			p.away = append(p.away, cl)
		}
	}
}

// here tells whether a member is connected.
func (g *group) here() bool {
	return slices.ContainsFunc(g.members.list, func(h holder) bool { return h.client.conn != nil })
}

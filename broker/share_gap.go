package broker

import (
	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// gap is what a share has lost and one message is to tell. Where the key of what was
// lost has messages, its lane has the gap, so that the member hears of it that owns
// the key. Otherwise it is the share's, in lane all, and goes to whoever gets the next.
type gap struct {
	lost session.Losses
	kept session.Losses // the part that the store was told of
}

// add adds x, which may be nil.
func (p *gap) add(x *gap) {
	if x == nil {
		return
	}
	for r := range x.lost {
		p.lost[r] += x.lost[r]
		p.kept[r] += x.kept[r]
	}
}

// tell adds x, which may be nil, to what the lane tells with its next message.
func (l *lane) tell(x *gap) {
	if x == nil {
		return
	}
	if l.head == nil && l.given == 0 {
		l = &l.g.all
	}
	if l.untold == nil {
		l.untold = new(gap)
	}
	l.untold.add(x)
}

// lose takes note of a lost message of the lane. With keep the store takes note too.
func (t *turn) lose(l *lane, r session.DropReason, keep bool) {
	g := l.g
	var x gap
	x.lost[r] = 1
	if keep && g.kept {
		x.kept[r] = 1
		g.lost[r]++
		t.keepLosses(g, r)
	}
	l.tell(&x)
}

func (t *turn) keepLosses(g *group, r session.DropReason) {
	t.step(g, session.Change{Kind: session.Lost, ID: uint16(r), Seq: g.lost[r]})
}

// untell has what e was to tell, or has told somebody who did not acknowledge it, told
// by another.
func (t *turn) untell(e *entry) {
	e.lane.tell(e.gap)
	e.gap = nil
}

// heard strikes from the store what a member was told.
func (t *turn) heard(g *group, x *gap) {
	for r, n := range x.kept {
		if n > 0 {
			g.lost[r] -= n
			t.keepLosses(g, session.DropReason(r))
		}
	}
}

// tells whether there is something to be told with the next message of l, which may be
// nil when it has none.
func (g *group) tells(l *lane) bool { return g.all.untold != nil || l != nil && l.untold != nil }

// tellGap has t.offer, which goes to cl, tell what the share has lost, if cl can be
// told. It is a message of lane l, and e, if it comes out of the queue.
func (t *turn) tellGap(g *group, l *lane, e *entry, cl *client, copied bool) {
	d, x := &t.offer, new(gap)
	x.add(g.all.untold)
	if l != nil && l != &g.all {
		x.add(l.untold)
	}
	if e != nil {
		x.add(e.gap)
	}
	d.Note = &x.lost
	cl.mu.Lock()
	carries := cl.core.Carries(d)
	if copied && carries { // the member's stored queue has no place for it
		cl.core.Owe(d.Note, &t.shed)
	}
	cl.mu.Unlock()
	if !carries {
		if d.Note = nil; e != nil {
			t.untell(e)
		}
		return
	}
	g.all.untold = nil
	if l != nil {
		l.untold = nil
	}
	switch {
	case copied:
		d.Note, e.gap = nil, nil
		t.lost(cl)
		t.heard(g, x)
	case d.QoS == mqtt.AtMostOnce: // as sure as the message is
		t.heard(g, x)
	default:
		e.gap = x
	}
}

// restoreGap takes over what the share had lost and not told before a restart.
func (g *group) restoreGap(s *store.Session) {
	if g.lost = s.Saved.Lost; g.lost != (session.Losses{}) {
		g.all.untold = &gap{lost: g.lost, kept: g.lost}
	}
}

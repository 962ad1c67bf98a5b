package host

import (
	"container/heap"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// shard has a part of the edge nodes, and the goroutine for them.
type shard struct {
	h  *Host
	in chan item

	mu    sync.RWMutex // what readers see; only the goroutine changes it
	nodes map[NodeID]*entry

	// Of the goroutine alone.
	cfg    session.Config
	out    session.Actions
	queue  deadlines
	budget budget
	held   int // bytes, of all nodes
	full   [3]bool
	epochs []uint64 // by server: messages of an earlier connection are dropped
	event  Event
	// retained are the nodes that an alarm was raised for.
	retained map[NodeID]bool
}

// item is what a link sends to a shard, in order.
type item struct {
	what  what
	link  *link
	epoch uint64
	msg   *client.Delivery
	topic sparkplug.Topic
	at    time.Time
}

type what uint8

const (
	message what = iota
	opened       // a connection begins: messages of this epoch count
	found        // it is up
	lost         // it has ended
	forget       // a node
)

// inbox is how many items wait for a shard before its links do.
const inbox = 256

// patience is when a shard looks again that could not give up a hole, because
// messages wait to be read.
const patience = 50 * time.Millisecond

func newShard(h *Host) *shard {
	o := &h.opts
	n := o.Shards
	return &shard{
		h: h, in: make(chan item, inbox), nodes: map[NodeID]*entry{}, cfg: o.Session,
		budget: budget{maxMetrics: max(o.MaxMetrics/n, 1), maxText: o.MaxText / n}, epochs: make([]uint64, len(o.Servers)),
		retained: map[NodeID]bool{},
	}
}

// run is the goroutine. It ends when in is closed.
func (s *shard) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case it, ok := <-s.in:
			if !ok {
				return
			}
			s.take(&it)
		case <-timer.C:
			s.due()
		}
		if len(s.queue) > 0 {
			wait := time.Until(s.queue[0].deadline)
			if wait <= 0 {
				wait = patience
				if len(s.in) == 0 && !s.h.behind() {
					wait = 0
				}
			}
			timer.Reset(wait)
		}
	}
}

// due gives up what has had its time. A message that would fill a hole may be
// waiting here or before us: then that comes first.
func (s *shard) due() {
	if len(s.in) == 0 {
		s.until(time.Now())
	}
}

// until gives up what had its time before something that was received at now. A
// shard that never rests lives by the times of its messages; but when a link had
// to wait for a shard, those behind it have times that are too late.
func (s *shard) until(now time.Time) {
	if len(s.queue) == 0 || s.queue[0].deadline.After(now) || s.h.behind() {
		return
	}
	for len(s.queue) > 0 && !s.queue[0].deadline.After(now) {
		n := s.queue[0]
		s.step(n, func() { n.node.Due(now, &s.out) })
	}
}

func (s *shard) take(it *item) {
	switch it.what {
	case message:
		if it.epoch == s.epochs[it.link.index] {
			// What fills a hole at the last instant does.
			s.until(it.at.Add(-1))
			s.receive(it)
		}
		it.msg.Ack()
	case opened:
		s.epochs[it.link.index] = it.epoch
	case found:
		s.each(it.link, func(n *sess) { n.node.Found(it.at, &s.out) })
	case lost:
		// [UNTAGGED-host-stale-on-server-loss]
		s.epochs[it.link.index] = 0
		s.each(it.link, func(n *sess) { n.node.Lost(it.at, &s.out) })
	case forget:
		s.forget(NodeID{it.topic.Group, it.topic.Node})
	}
}

// each steps all sessions of a server.
func (s *shard) each(l *link, do func(*sess)) {
	for _, e := range s.nodes {
		if n := e.at[l.index]; n != nil {
			s.step(n, func() { do(n) })
		}
	}
}

// forget frees what is known of a node that is not online.
func (s *shard) forget(id NodeID) {
	e := s.nodes[id]
	if e == nil || e.info.Status == Online {
		return
	}
	for _, n := range e.at {
		if n == nil {
			continue
		}
		if n.place >= 0 {
			heap.Remove(&s.queue, n.place)
		}
		s.held -= n.heldLast
		n.link.forget(id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.own != nil {
		e.own.drop(&s.budget)
	}
	for _, u := range e.devices {
		u.drop(&s.budget)
	}
	delete(s.nodes, id)
	s.h.known.Add(-1)
}

func (s *shard) receive(it *item) {
	id := NodeID{it.topic.Group, it.topic.Node}
	e := s.nodes[id]
	if e == nil {
		if e = s.admit(id, it); e == nil {
			return
		}
	}
	n := e.at[it.link.index]
	if n == nil {
		n = &sess{entry: e, link: it.link, node: session.New(&s.cfg), place: -1}
		e.at[it.link.index] = n
	}
	s.step(n, func() {
		n.node.Receive(session.Message{
			Type: it.topic.Type, Retained: it.msg.Retain, Device: it.topic.Device, Payload: it.msg.Payload,
		}, it.at, &s.out)
	})
}

// maxRetained is how many nodes an alarm about retained messages is raised for.
const maxRetained = 1000

func (s *shard) retainedBy(l *link, id NodeID, text string) {
	if !s.retained[id] && len(s.retained) < maxRetained {
		s.retained[id] = true
		s.h.alarm(Alarm{Kind: RetainedMessage, Server: l.name, Node: id, Text: text})
	}
}

// admit makes an entry for a node that is new.
func (s *shard) admit(id NodeID, it *item) *entry {
	switch {
	case it.msg.Retain:
		// Nothing retained is a sign of life, so a node is not made known by it.
		s.retainedBy(it.link, id, it.topic.String())
		return nil
	case s.h.known.Load() >= int64(s.h.opts.MaxNodes):
		s.tooMuch(0, it.link, id, "more edge nodes than MaxNodes")
		return nil
	}
	s.h.known.Add(1)
	e := &entry{id: id, at: make([]*sess, len(s.h.opts.Servers)), info: Node{ID: id, BdSeq: -1, Since: it.at}}
	s.mu.Lock()
	s.nodes[id] = e
	s.mu.Unlock()
	return e
}

// step lets a session do something, and takes what came out of it.
func (s *shard) step(n *sess, do func()) {
	s.bound(n.link, n.entry.id)
	do()
	_, held := n.node.Held()
	s.held += held - n.heldLast
	n.heldLast = held
	s.schedule(n)
	if len(s.out.Events) > 0 {
		s.events(n)
	}
	s.out.Reset()
}

// bound makes sessions refuse to hold or to declare more, while all together do
// too much.
func (s *shard) bound(l *link, id NodeID) {
	s.cfg.HeldBytes, s.cfg.Definitions = s.h.opts.Session.HeldBytes, s.h.opts.Session.Definitions
	if s.held > s.h.opts.MaxHeld/s.h.opts.Shards {
		s.cfg.HeldBytes = 1
		s.tooMuch(1, l, id, "more held messages than MaxHeld")
	} else {
		s.full[1] = false
	}
	if s.budget.metrics > s.budget.maxMetrics {
		s.cfg.Definitions = 1
		s.tooMuch(2, l, id, "more metrics than MaxMetrics")
	} else {
		s.full[2] = false
	}
}

// tooMuch tells of a bound once, until it is not reached any more.
func (s *shard) tooMuch(which int, l *link, id NodeID, text string) {
	if !s.full[which] {
		s.full[which] = true
		s.h.alarm(Alarm{Kind: TooMuch, Server: l.name, Node: id, Text: text})
	}
}

func (s *shard) schedule(n *sess) {
	d := n.node.Deadline()
	switch {
	case d.Equal(n.deadline):
		return
	case d.IsZero():
		heap.Remove(&s.queue, n.place)
	case n.place < 0:
		n.deadline = d
		heap.Push(&s.queue, n)
	default:
		n.deadline = d
		heap.Fix(&s.queue, n.place)
	}
	n.deadline = d
}

func (s *shard) events(n *sess) {
	e, returned := n.entry, false
	s.mu.Lock()
	for i := range s.out.Events {
		ev := &s.out.Events[i]
		if counts := e.took(n, ev, &s.budget); !counts && ev.Kind == session.Data {
			s.h.elsewhere.Add(1)
			// It is alive there, and is not where we thought: a birth tells.
			returned = e.info.Status != Online
		}
	}
	s.mu.Unlock()
	for i := range s.out.Events {
		ev := &s.out.Events[i]
		s.h.counts.add(ev)
		s.rebirths(n, ev)
		s.event = Event{Server: n.link.name, Node: e.id, Event: *ev}
		s.h.tell(&s.event)
	}
	s.event = Event{}
	if returned {
		n.link.want(e.id, session.BeforeBirth, 0, time.Now())
	}
}

// rebirths tells the link what has to do with asking for them.
func (s *shard) rebirths(n *sess, ev *session.Event) {
	switch ev.Kind {
	case session.NodeBirth:
		bdSeq := -1
		if b, ok := n.node.BdSeq(); ok {
			bdSeq = int(b)
		}
		if until := n.link.born(n.entry.id, bdSeq, ev.At); !until.IsZero() {
			s.mu.Lock()
			n.entry.info.Quarantine = until
			s.mu.Unlock()
		}
		for _, other := range n.entry.at {
			if other != nil && other != n {
				other.link.dead(n.entry.id)
			}
		}
	case session.NodeDeath:
		n.link.dead(n.entry.id)
	case session.RebirthWanted:
		after := time.Duration(0)
		if ev.Reason == session.ServerLost {
			after = s.h.opts.Grace
		}
		n.link.want(n.entry.id, ev.Reason, after, ev.At)
	case session.Malformed:
		if ev.Reason == session.Retained {
			s.retainedBy(n.link, n.entry.id, ev.Type.String())
		}
	}
}

// asked counts a rebirth that was asked for.
func (s *shard) asked(id NodeID, r session.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.nodes[id]; e != nil {
		e.asked(r)
	}
}

// deadlines is a heap of sessions that wait for something.
type deadlines []*sess

func (q deadlines) Len() int           { return len(q) }
func (q deadlines) Less(i, j int) bool { return q[i].deadline.Before(q[j].deadline) }
func (q deadlines) Swap(i, j int)      { q[i], q[j] = q[j], q[i]; q[i].place, q[j].place = i, j }

// Push is for heap.
func (q *deadlines) Push(x any) {
	n := x.(*sess)
	n.place = len(*q)
	*q = append(*q, n)
}

// Pop is for heap.
func (q *deadlines) Pop() any {
	old := *q
	n := old[len(old)-1]
	old[len(old)-1] = nil
	n.place = -1
	*q = old[:len(old)-1]
	return n
}

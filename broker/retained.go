package broker

import (
	"strings"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
)

// retained holds the retained messages, in a trie of topic levels. The hub's
// mutex guards it.
type retained struct {
	root leaf
	held
	owners map[string]*held // by the identity that published them
	swept  time.Time
}

// held is how much there is of something.
type held struct{ count, bytes int }

type leaf struct {
	children map[string]*leaf
	message  *session.Message
	from     *putting // of message
}

// putting is when a retained message was put. Its memory is shared by the messages
// that a start finds.
type putting struct {
	seq    uint64
	undone *change // what it had replaced, when the store did not keep it
}

// room tells whether m may be retained under the limits: those of all, and those
// of its publisher's identity.
func (r *retained) room(m *session.Message, l *Limits) bool {
	all, own := held{r.count + 1, r.bytes + m.Size()}, held{1, m.Size()}
	if o := r.owners[m.Owner]; o != nil {
		own = held{o.count + 1, o.bytes + m.Size()}
	}
	if old := r.get(m.Topic); old != nil {
		all = held{all.count - 1, all.bytes - old.Size()}
		if old.Owner == m.Owner {
			own = held{own.count - 1, own.bytes - old.Size()}
		}
	}
	return all.count <= l.RetainedMessages && all.bytes <= l.RetainedBytes &&
		(m.Owner == system.Name() || own.count <= l.IdentityRetained && own.bytes <= l.IdentityRetainedBytes)
}

func (r *retained) get(topic string) *session.Message { return r.find(topic).message }

// find returns the place of a topic, or nowhere.
func (r *retained) find(topic string) *leaf {
	n := &r.root
	for more := true; more; {
		var level string
		level, topic, more = strings.Cut(topic, "/")
		if n = n.children[level]; n == nil {
			return &nowhere
		}
	}
	return n
}

// change is a retained message that was put and is not durable yet, with what it
// replaced, of which it holds a reference.
type change struct {
	topic     string
	from, was *putting
	old       *session.Message // nil: none
}

// change puts m as seq, and says what that changes.
func (r *retained) change(m *session.Message, seq uint64) change {
	c := change{topic: m.Topic, from: &putting{seq: seq}}
	if n := r.find(m.Topic); n.message != nil {
		c.was, c.old = n.from, n.message.Hold()
	}
	r.put(m, c.from)
	return c
}

// undo takes back what the store did not keep. When another message has come in its
// place, which the store may not keep either, that one's undo goes on from here: the
// changes of several turns are undone in any order. The reference to what was
// replaced is left to the garbage collector.
func (r *retained) undo(c change) {
	n := r.find(c.topic)
	if n.message == nil || n.from != c.from {
		c.from.undone = &c
		return
	}
	for c.was != nil && c.was.undone != nil {
		c = *c.was.undone
	}
	if c.old == nil {
		r.remove(c.topic)
		return
	}
	r.put(c.old, c.was)
}

// put stores m, for which it takes a reference [MQTT-3.3.1-5].
func (r *retained) put(m *session.Message, from *putting) {
	n, rest := &r.root, m.Topic
	for more := true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		next := n.children[level]
		if next == nil {
			if n.children == nil {
				n.children = make(map[string]*leaf)
			}
			next = &leaf{}
			n.children[strings.Clone(level)] = next
		}
		n = next
	}
	r.free(n)
	n.message, n.from = m.Hold(), from
	r.add(m.Owner, 1, m.Size())
}

// add counts.
func (r *retained) add(owner string, count, bytes int) {
	o := r.owners[owner]
	if o == nil {
		if r.owners == nil {
			r.owners = make(map[string]*held)
		}
		o = &held{}
		r.owners[owner] = o
	}
	r.count += count
	r.bytes += bytes
	o.count += count
	o.bytes += bytes
	if o.count == 0 {
		delete(r.owners, owner)
	}
}

func (r *retained) free(n *leaf) {
	if n.message != nil {
		r.add(n.message.Owner, -1, -n.message.Size())
		n.message.Release()
		n.message, n.from = nil, nil
	}
}

// remove deletes the message of a topic, and says whether there was one.
func (r *retained) remove(topic string) bool {
	before := r.count
	r.prune(&r.root, topic)
	return r.count < before
}

// prune deletes below n, and says whether n is empty then. Its depth is bounded
// by the levels that a topic may have.
func (r *retained) prune(n *leaf, topic string) bool {
	level, rest, more := strings.Cut(topic, "/")
	next := n.children[level]
	if next == nil {
		return false
	}
	if more {
		if !r.prune(next, rest) {
			return false
		}
	} else {
		r.free(next)
	}
	if next.message == nil && len(next.children) == 0 {
		delete(n.children, level)
	}
	return n.message == nil && len(n.children) == 0
}

// nowhere is a place without a message.
var nowhere leaf

// match calls visit for each place whose topic matches filter, and for each other
// that it has to look at, then with one that has no message, until that says
// false. While visit runs the tree may change, by others too if it frees the
// mutex: what is put meanwhile may be visited or not, what is removed is not, and
// what stays is visited once.
func (r *retained) match(filter string, visit func(*leaf) bool) {
	r.root.match(filter, true, visit)
}

// match, on and all say false when the walk is over.
func (n *leaf) match(filter string, top bool, visit func(*leaf) bool) bool {
	level, rest, more := strings.Cut(filter, "/")
	switch level {
	case "#":
		return n.all(top, visit)
	case "+":
		for name, next := range n.children {
			if top && name != "" && name[0] == '$' { // [MQTT-4.7.2-1]
				continue
			}
			if !next.on(rest, more, visit) {
				return false
			}
		}
		return true
	}
	next := n.children[level]
	return next == nil || next.on(rest, more, visit)
}

// on goes on with the rest of a filter at n, or ends there.
func (n *leaf) on(rest string, more bool, visit func(*leaf) bool) bool {
	if more {
		return visit(&nowhere) && n.match(rest, false, visit)
	}
	return visit(n)
}

// all visits n and what is below it.
func (n *leaf) all(top bool, visit func(*leaf) bool) bool {
	if !visit(n) {
		return false
	}
	for name, next := range n.children {
		if top && name != "" && name[0] == '$' {
			continue
		}
		if !next.all(false, visit) {
			return false
		}
	}
	return true
}

// sweepEvery is how often a lack of room makes the broker look at all that is
// retained, while everybody waits.
const sweepEvery = 10 * time.Second

// sweep lists the topics of the messages that are over at now, or none when it
// has done so not long ago.
func (r *retained) sweep(now time.Time) []string {
	if now.Sub(r.swept) < sweepEvery {
		return nil
	}
	r.swept = now
	var list []string
	r.root.all(false, func(n *leaf) bool {
		if m := n.message; m != nil && m.Expired(now) {
			list = append(list, m.Topic)
		}
		return true
	})
	return list
}

package broker

import (
	"strings"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
)

// retained holds the retained messages, in a trie of topic levels. The hub's
// mutex guards it.
type retained struct {
	root         leaf
	count, bytes int
}

type leaf struct {
	children map[string]*leaf
	message  *session.Message
}

// room tells whether m may be retained under the limits.
func (r *retained) room(m *session.Message, l *Limits) bool {
	count, bytes := r.count+1, r.bytes+m.Size()
	if old := r.get(m.Topic); old != nil {
		count, bytes = count-1, bytes-old.Size()
	}
	return count <= l.RetainedMessages && bytes <= l.RetainedBytes
}

func (r *retained) get(topic string) *session.Message {
	n := &r.root
	for more := true; more; {
		var level string
		level, topic, more = strings.Cut(topic, "/")
		if n = n.children[level]; n == nil {
			return nil
		}
	}
	return n.message
}

// put stores m, for which it takes a reference [MQTT-3.3.1-5].
func (r *retained) put(m *session.Message) {
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
	n.message = m.Hold()
	r.count++
	r.bytes += m.Size()
}

func (r *retained) free(n *leaf) {
	if n.message != nil {
		r.count--
		r.bytes -= n.message.Size()
		n.message.Release()
		n.message = nil
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

// match calls visit for each message whose topic matches filter, and with nil
// for each other place that it has to look at, until that says false. Visit must
// not change the tree.
func (r *retained) match(filter string, visit func(*session.Message) bool) {
	r.root.match(filter, true, visit)
}

// match, on and all say false when the walk is over.
func (n *leaf) match(filter string, top bool, visit func(*session.Message) bool) bool {
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
func (n *leaf) on(rest string, more bool, visit func(*session.Message) bool) bool {
	if more {
		return visit(nil) && n.match(rest, false, visit)
	}
	return visit(n.message)
}

// all visits n and what is below it.
func (n *leaf) all(top bool, visit func(*session.Message) bool) bool {
	if !visit(n.message) {
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

// expired lists the topics of the messages that are over at now.
func (r *retained) expired(now time.Time) []string {
	var list []string
	r.root.all(false, func(m *session.Message) bool {
		if m != nil && m.Expired(now) {
			list = append(list, m.Topic)
		}
		return true
	})
	return list
}

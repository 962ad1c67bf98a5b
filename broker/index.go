package broker

import (
	"slices"
	"strings"

	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// index finds the subscriptions that match a topic. It is a trie of filter
// levels; a topic walks down its levels and, at each, the wildcards beside
// them. Matching does not allocate. The hub's mutex guards it.
type index struct {
	root   node
	size   int    // subscriptions
	serial uint64 // of the last match; client.mark says in which match a hit was made
	hits   []hit  // result of the last match, one for each client
	groups []*group
	rules  map[string]ShareRule   // see Options.Shares
	counts map[string]*ShareStats // by the names of rules, and "" for all others
}

// node is one level. Filters that end here are in here, those that end in "#"
// below here are in deep.
type node struct {
	up       *node
	name     string
	children map[string]*node
	plus     *node
	here     holders
	deep     holders
}

// holders are the subscriptions of one filter.
type holders struct {
	list   []holder
	at     map[*client]int // place in list, kept when the list is long
	groups []*group
}

// holder is a subscription as matching sees it.
type holder struct {
	client  *client
	ids     []uint32 // its subscription identifier, or none
	qos     mqtt.QoS
	noLocal bool
	asIs    bool   // Retain As Published
	due     uint64 // of a round robin that waits for the client's window: its claim
}

// hit is what one client gets of a message: one copy, however many of its
// filters match.
type hit struct {
	client *client
	ids    []uint32
	own    bool // ids was made for this hit, and may grow until the match is over
	qos    mqtt.QoS
	asIs   bool
}

// indexed is the length from which holders keep a map.
const indexed = 16

// match fills ix.hits and ix.groups for a topic. publisher is the client id of
// the sender, for No Local.
func (ix *index) match(topic, publisher string) {
	ix.serial++
	ix.hits, ix.groups = ix.hits[:0], ix.groups[:0]
	ix.walk(&ix.root, topic, publisher, topic[0] == '$') // [MQTT-4.7.2-1]
}

// walk visits what matches rest below n. plain is set at the first level of a
// topic that starts with "$", where wildcards do not count.
func (ix *index) walk(n *node, rest, publisher string, plain bool) {
	for {
		if !plain {
			ix.take(&n.deep, publisher)
		}
		level, tail, more := strings.Cut(rest, "/")
		if n.plus != nil && !plain {
			if more {
				ix.walk(n.plus, tail, publisher, false)
			} else {
				ix.end(n.plus, publisher)
			}
		}
		next := n.children[level]
		if next == nil {
			return
		}
		if !more {
			ix.end(next, publisher)
			return
		}
		n, rest, plain = next, tail, false
	}
}

// end takes the filters that end at the topic's last level: "a/#" matches "a"
// as well.
func (ix *index) end(n *node, publisher string) {
	ix.take(&n.here, publisher)
	ix.take(&n.deep, publisher)
}

func (ix *index) take(h *holders, publisher string) {
	ix.groups = append(ix.groups, h.groups...)
	for i := range h.list {
		e := &h.list[i]
		if e.noLocal && e.client.id == publisher { // [MQTT-3.8.3-3]
			continue
		}
		if e.client.mark != ix.serial {
			e.client.mark, e.client.slot = ix.serial, len(ix.hits)
			ix.hits = append(ix.hits, hit{client: e.client, ids: e.ids, qos: e.qos, asIs: e.asIs})
			continue
		}
		// One copy at the highest QoS with all identifiers
		// [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4].
		x := &ix.hits[e.client.slot]
		x.qos, x.asIs = max(x.qos, e.qos), x.asIs || e.asIs
		switch {
		case len(x.ids) == 0:
			x.ids = e.ids
		case x.own:
			x.ids = append(x.ids, e.ids...)
		case len(e.ids) > 0:
			x.ids, x.own = slices.Concat(x.ids, e.ids), true // those of a holder are shared with queues
		}
	}
}

// find returns the place of a filter, which it makes when asked to.
func (ix *index) find(filter string, create bool) (*node, *holders) {
	n := &ix.root
	for {
		level, tail, more := strings.Cut(filter, "/")
		if level == "#" {
			return n, &n.deep
		}
		next := n.plus
		if level != "+" {
			next = n.children[level]
		}
		if next == nil {
			if !create {
				return nil, nil
			}
			next = n.add(level)
		}
		n = next
		if !more {
			return n, &n.here
		}
		filter = tail
	}
}

func (n *node) add(level string) *node {
	next := &node{up: n, name: strings.Clone(level)}
	if level == "+" {
		n.plus = next
		return next
	}
	if n.children == nil {
		n.children = make(map[string]*node)
	}
	n.children[next.name] = next
	return next
}

// prune removes nodes that nothing needs any more, from n upwards.
func (n *node) prune() {
	for n.up != nil && len(n.children) == 0 && n.plus == nil && n.here.empty() && n.deep.empty() {
		if n.name == "+" {
			n.up.plus = nil
		} else {
			delete(n.up.children, n.name)
		}
		n = n.up
	}
}

func (h *holders) empty() bool { return len(h.list) == 0 && len(h.groups) == 0 }

// newHolder makes the matching form of a subscription.
func newHolder(c *client, s store.Subscription) holder {
	e := holder{client: c, qos: s.QoS, noLocal: s.NoLocal, asIs: s.RetainAsPublished}
	if s.ID != 0 {
		e.ids = []uint32{s.ID}
	}
	return e
}

// add puts a subscription in, or replaces that of the same client and filter
// [MQTT-3.8.4-3]. The filter may be shared; then it returns the share.
func (ix *index) add(c *client, s store.Subscription) (g *group) {
	name, inner, shared := mqtt.ParseShare(s.Filter)
	if !shared {
		inner = s.Filter
	}
	_, h := ix.find(inner, true)
	fresh := false
	if shared {
		g = ix.group(h, c.tenant, name, inner)
		c.hash = hash(c.id)
		fresh = g.members.put(newHolder(c, s))
	} else {
		fresh = h.put(newHolder(c, s))
	}
	if fresh {
		ix.size++
	}
	return g
}

// remove takes a subscription out. When it was shared it returns the share.
func (ix *index) remove(c *client, filter string) (g *group) {
	name, inner, shared := mqtt.ParseShare(filter)
	if !shared {
		inner = filter
	}
	n, h := ix.find(inner, false)
	if n == nil {
		return nil
	}
	if !shared {
		if h.drop(c) {
			ix.size--
		}
	} else if g = h.share(c.tenant, name); g != nil {
		if g.members.drop(c) {
			ix.size--
		}
		if len(g.members.list) == 0 {
			ix.forget(g)
		}
	}
	n.prune()
	return g
}

// forget takes a share without members out.
func (ix *index) forget(g *group) {
	if n, h := ix.find(g.filter, false); n != nil {
		h.groups = slices.DeleteFunc(h.groups, func(x *group) bool { return x == g })
		n.prune()
	}
}

func (h *holders) index(c *client) int {
	if h.at != nil {
		if i, ok := h.at[c]; ok {
			return i
		}
		return -1
	}
	return slices.IndexFunc(h.list, func(e holder) bool { return e.client == c })
}

// of is the subscription of a client, or nil.
func (h *holders) of(c *client) *holder {
	if i := h.index(c); i >= 0 {
		return &h.list[i]
	}
	return nil
}

func (h *holders) put(e holder) (fresh bool) {
	if i := h.index(e.client); i >= 0 {
		h.list[i] = e
		return false
	}
	if h.at == nil && len(h.list) >= indexed {
		h.at = make(map[*client]int, 2*indexed)
		for i := range h.list {
			h.at[h.list[i].client] = i
		}
	}
	if h.at != nil {
		h.at[e.client] = len(h.list)
	}
	h.list = append(h.list, e)
	return true
}

func (h *holders) drop(c *client) bool {
	i := h.index(c)
	if i < 0 {
		return false
	}
	last := len(h.list) - 1
	if h.at != nil {
		delete(h.at, c)
		if i != last {
			h.at[h.list[last].client] = i
		}
	}
	h.list[i] = h.list[last]
	h.list[last] = holder{}
	if h.list = h.list[:last]; last == 0 {
		h.list, h.at = nil, nil
	}
	return true
}

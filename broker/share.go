package broker

import (
	"strings"
	"sync/atomic"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
)

// group is one shared subscription. Its messages of QoS 1 and 2 wait in its own
// queue, and each is lent to a member when it can be sent at once:
//
//	publisher ─▶ share's queue ─▶ lane of the key ──lend──▶ window of the owner ─▶ done: out of the queue
//	             (stored)            ▲                          │
//	                                 └──── taken back ◀─────────┘ away, left, ended
//
// So what a member costs when it goes is what it had in its window, and all else
// is where it was. A lane is the messages of one key. All that are lent of a lane
// are with one member, its holder; the next goes to the key's owner, and while
// that is another, it waits: the key is drained before it is handed over. The
// owner is the member that has the highest hash together with the key (rendezvous
// hashing, Thaler and Ravishankar 1998), so a member that comes or goes moves
// only the keys that become its own, or were. Sticky is one lane for all
// messages; a round robin is one that has no holder.
//
// What is taken back goes to the front of its lane, in its order: QoS 1 when its
// member is away and another is connected, or when the session has ended; QoS 2
// only when it never was sent [MQTT-4.8.2-4] [MQTT-4.8.2-5]. What was answered,
// with whatever code, is over [MQTT-4.8.2-6].
//
// On the disk the queue is that of a session which no client can have, since its
// name begins with NUL. A lent message stays in it until the member has done with
// it, so a crash loses nothing: afterwards all of it waits, but for QoS 2 that
// was lent, which carries a packet identifier there. The member's stored session
// has the same message under the same number; where no session has it, the one
// it was lent to ended with the crash, and so does the message.
//
// The hub's mutex guards a group and all that hangs on it.
type group struct {
	tenant string
	name   string
	filter string // without $share and name
	id     string // see shareID
	ShareRule
	members holders
	next    int     // whose turn it is
	current *client // of a sticky share

	lanes   map[string]*lane // by key, those that have messages
	list    []*lane          // the same, in any order
	all     lane             // of the strategies without keys; its gap is that of all
	count   int              // messages of QoS 1 and 2, waiting or lent
	bytes   int
	idle    held // those that wait
	byAge   ages // of a share that drops the oldest: those that wait, of QoS 1 and 2
	zero    int  // messages of QoS 0, which wait
	zeroMem int
	zeros   ages
	lost    session.Losses // what the stored queue says of losses that nobody has heard of yet
	stats   *ShareStats    // of its name
	lap     lap
	stored  bool     // a member's session outlives its connection
	qos     mqtt.QoS // highest of a member
	kept    bool     // the store has the queue
	gone    bool     // the last member has left
	fresh   *lane    // the message being routed is in it
}

// entry is one message of a share, from its publication until a member has done
// with it.
type entry struct {
	m      *session.Message
	lane   *lane
	prev   *entry // in the lane
	next   *entry
	order  uint64 // place among the messages of the share
	seq    uint64 // its number in the stored queue, 0 when it is not there
	gap    *gap   // what it tells, or nil
	waits  bool   // in its lane
	aged   bool   // in one of the group's ages
	zero   bool   // to go out at QoS 0
	marked bool   // the stored queue says that it is lent at QoS 2

	// while it is lent
	to     *client
	lent   uint64 // its number at the member
	copied bool   // it is in the member's stored queue as well
	sent   bool   // the member may have got it before a restart

	failed atomic.Uint32 // see notKept
}

// What entry.failed says of a message that the store could not keep.
const (
	notKept uint32 = 1 + iota // its publisher was told
	missed                    // nobody was
)

// lane is the messages of one key that wait, in order.
type lane struct {
	g          *group
	key        string
	hash       uint64 // of key
	place      int    // in the group's list
	head, tail *entry
	length     int     // messages of QoS 1 and 2 that wait
	drains     bool    // they wait for their former owner to have done with what it has
	untold     *gap    // nil: nothing
	owner      *client // of head, when that was last asked
	given      int     // messages that are lent
	loans      int     // of those, the ones that are not in the member's stored queue
	holder     *client // who has them, when the share keeps an order
	waits      *client // for whose window it waits, when the share keeps an order
	claim      uint64  // of that
}

// claim is a lane that waits for a client's window. It is void when the lane, or in a
// round robin the holder, has another number by now.
type claim struct {
	lane   *lane
	number uint64
}

func (g *group) ordered() bool { return g.How != RoundRobin }

// shareID is the name of the stored queue of a share.
func shareID(tenant, name, filter string) string {
	return "\x00" + tenant + "\x00" + name + "\x00" + filter
}

// String is the filter as a member sent it.
func (g *group) String() string { return "$share/" + g.name + "/" + g.filter }

// isShareID tells the names of stored queues of shares from client identifiers.
func isShareID(id string) bool { return id != "" && id[0] == 0 }

// parseShareID takes what shareID gives apart. A tenant may hold any byte, the others no
// NUL.
func parseShareID(id string) (tenant, name, filter string, ok bool) {
	rest, ok := strings.CutPrefix(id, "\x00")
	if !ok {
		return "", "", "", false
	}
	i := strings.LastIndexByte(rest, 0)
	if i < 0 {
		return "", "", "", false
	}
	rest, filter = rest[:i], rest[i+1:]
	if i = strings.LastIndexByte(rest, 0); i < 0 {
		return "", "", "", false
	}
	return rest[:i], rest[i+1:], filter, true
}

// keyOf is the key of a message.
func (g *group) keyOf(m *session.Message) string {
	switch g.How {
	case ByTopic:
		return m.Topic
	case ByPublisher:
		return m.Publisher
	}
	return ""
}

// laneOf returns the lane of a key, or nil when it has no messages and is not
// to be made.
func (g *group) laneOf(key string, create bool) *lane {
	if g.How < ByTopic {
		return &g.all
	}
	l := g.lanes[key]
	if l == nil && create {
		if g.lanes == nil {
			g.lanes = make(map[string]*lane)
		}
		l = &lane{g: g, key: key, hash: hash(key), place: len(g.list)}
		g.lanes[key] = l
		g.list = append(g.list, l)
	}
	return l
}

// lanesOf is all lanes that can have messages.
func (g *group) lanesOf() []*lane {
	if g.How < ByTopic {
		return []*lane{&g.all}
	}
	return g.list
}

// forget takes out a lane that has no messages.
func (g *group) forget(l *lane) {
	l.waits = nil
	l.drain(false)
	if g.lanes[l.key] != l {
		return
	}
	delete(g.lanes, l.key)
	last := len(g.list) - 1
	g.list[l.place] = g.list[last]
	g.list[l.place].place = l.place
	g.list[last] = nil
	g.list = g.list[:last]
	untold := l.untold
	l.untold = nil
	l.tell(untold)
}

// wants tells whether there is a member that m may go to, now or, unless it is
// of QoS 0, when it is connected again.
func (g *group) wants(m *session.Message) bool {
	for i := range g.members.list {
		c := g.members.list[i].client
		if (c.conn != nil || m.QoS > mqtt.AtMostOnce) && c.mayReceive(m.Topic) {
			return true
		}
	}
	return false
}

// pick chooses the member for a message of a key. It returns nil when nobody who is
// connected may have it or, in a round robin, all of those have full windows.
func (g *group) pick(key uint64, m *session.Message) *holder {
	switch g.How {
	case RoundRobin:
		return g.rotate(m)
	case Sticky:
		return g.stick(m)
	}
	return g.highest(key, m)
}

func (g *group) rotate(m *session.Message) *holder {
	n := len(g.members.list)
	for i := range n {
		at := (g.next + i) % n
		x := &g.members.list[at]
		if x.connected(m) && (min(m.QoS, x.qos) == mqtt.AtMostOnce || x.client.credit() > 0) {
			g.next = at + 1
			return x
		}
	}
	return nil
}

// stick stays with the member that it has. Who may not receive one message does
// not lose the others by it.
func (g *group) stick(m *session.Message) *holder {
	if i := g.members.index(g.current); i >= 0 && g.members.list[i].client.conn != nil {
		if x := &g.members.list[i]; x.connected(m) {
			return x
		}
	} else {
		g.current = nil
	}
	for i := range g.members.list {
		if x := &g.members.list[i]; x.connected(m) {
			if g.current == nil {
				g.current = x.client
			}
			return x
		}
	}
	return nil
}

// highest is the owner of a key.
func (g *group) highest(key uint64, m *session.Message) *holder {
	var owner *holder
	var most uint64
	for i := range g.members.list {
		x := &g.members.list[i]
		if w := mix(key ^ x.client.hash); (owner == nil || w > most) && x.connected(m) {
			owner, most = x, w
		}
	}
	return owner
}

// connected tells whether the member is there and may have m.
func (h *holder) connected(m *session.Message) bool {
	return h.client.conn != nil && h.client.mayReceive(m.Topic)
}

// mayReceive tells whether the client may receive a topic. One of whom nothing
// is known since a restart is asked again when it is connected.
func (c *client) mayReceive(topic string) bool {
	return c.identity == nil || c.identity.MayReceive(topic)
}

// credit is how many more messages can be lent to the client: as many as could
// be on their way to it at once.
func (c *client) credit() int { return c.window - len(c.lent) }

// hash is FNV-1a: the same for a name on every node and after every start, so
// that keys come back to their members.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// mix spreads every bit of x over all bits (the finalizer of MurmurHash3).
func mix(x uint64) uint64 {
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// push puts e at the end of its lane.
func (l *lane) push(e *entry) { l.insert(e, l.tail) }

// insert puts e behind prev, nil for the front.
func (l *lane) insert(e, prev *entry) {
	e.prev, e.next = prev, l.head
	if prev != nil {
		e.next = prev.next
		prev.next = e
	} else {
		l.head = e
	}
	if e.next != nil {
		e.next.prev = e
	} else {
		l.tail = e
	}
	e.waits = true
	g := l.g
	g.rests(e, 1)
	switch {
	case e.zero:
		g.zeros.add(e, g.zero)
	case g.Overflow == DropOldest:
		g.byAge.add(e, g.idle.count)
	}
}

// cut takes e out of its lane.
func (l *lane) cut(e *entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		l.head = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		l.tail = e.prev
	}
	e.prev, e.next, e.waits = nil, nil, false
	l.g.rests(e, -1)
}

// pop takes the first entry off its lane.
func (l *lane) pop() *entry {
	e := l.head
	l.cut(e)
	return e
}

// putBack puts e, which was taken off the lane before, where it was: that is the
// front, where one member has had all of the lane.
func (l *lane) putBack(e *entry) {
	var prev *entry
	for next := l.head; !l.g.ordered() && next != nil && next.order < e.order; next = next.next {
		prev = next
	}
	l.insert(e, prev)
	l.owner = nil
}

// concerns tells whether who, in coming or going, may have changed where the
// lane's messages go.
func (l *lane) concerns(who *client) bool {
	if l.g.How < ByTopic || l.owner == nil || l.owner == who {
		return true
	}
	return who.conn != nil && mix(l.hash^who.hash) > mix(l.hash^l.owner.hash)
}

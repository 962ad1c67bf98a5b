package broker

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// share returns a share of the filter, or nil.
func (h *holders) share(tenant, name string) *group {
	for _, g := range h.groups {
		if g.name == name && g.tenant == tenant {
			return g
		}
	}
	return nil
}

// group returns a share of the filter that h has, which it makes when there is none.
func (ix *index) group(h *holders, tenant, name, filter string) *group {
	if g := h.share(tenant, name); g != nil {
		return g
	}
	g := &group{tenant: tenant, name: strings.Clone(name), filter: strings.Clone(filter), ShareRule: ix.rule(name),
		id: shareID(tenant, name, filter), stats: ix.stats(name)}
	g.all.g = g
	g.stats.Shares++
	h.groups = append(h.groups, g)
	return g
}

// shares visits the shares that a client is a member of.
func (h *hub) shares(cl *client, visit func(*group)) {
	for i := range cl.subscriptions {
		if name, filter, shared := mqtt.ParseShare(cl.subscriptions[i].Filter); shared {
			if _, at := h.index.find(filter, false); at != nil {
				if g := at.share(cl.tenant, name); g != nil {
					visit(g)
				}
			}
		}
	}
}

// changed deals the messages of a share anew, after who has become a member, or
// has left, or has come or gone as one. A share without members is over.
func (t *turn) changed(g *group, who *client) {
	if len(g.members.list) == 0 {
		t.endShare(g)
		return
	}
	g.stored, g.qos = false, 0
	for i := range g.members.list {
		x := &g.members.list[i]
		x.client.mu.Lock()
		g.stored = g.stored || x.client.core.Stored()
		x.client.mu.Unlock()
		g.qos = max(g.qos, x.qos)
	}
	if !slices.Contains(g.lap.later, who) {
		g.lap.later = append(g.lap.later, who)
	}
	t.runs(g)
}

// recall takes messages back that were lent to cl and that which says so: those
// that were never sent and, with sent, those of QoS 1 that were.
func (t *turn) recall(cl *client, sent bool, which func(*entry) bool) {
	if len(cl.lent) == 0 {
		return
	}
	cl.mu.Lock()
	seqs := cl.core.Recall(nil, sent, func(seq uint64) bool {
		e := cl.lent[seq]
		return e != nil && which(e)
	})
	t.count(cl)
	cl.mu.Unlock()
	t.takeBack(cl, seqs)
}

func every(*entry) bool { return true }

// move puts a client's shared subscriptions under another tenant, before it is
// connected.
func (t *turn) move(cl *client, tenant string) {
	if cl.tenant == tenant {
		return
	}
	h := &t.b.hub
	t.recall(cl, true, every)
	var left []*group
	for _, s := range cl.subscriptions {
		if g := h.index.remove(cl, s.Filter); g != nil {
			left = append(left, g)
		}
	}
	for _, g := range left {
		t.changed(g, cl)
	}
	cl.tenant = tenant
	for _, s := range cl.subscriptions {
		h.index.add(cl, s)
	}
}

// leaveShare does the part of an UNSUBSCRIBE that concerns a share: what was not
// sent yet goes to others, and what was is completed [MQTT-3.10.4-3].
func (t *turn) leaveShare(cl *client, g *group) {
	t.recall(cl, false, func(e *entry) bool { return e.lane.g == g })
	t.changed(g, cl)
	t.refillMember(cl) // of its other shares
}

// connectedShares has the shares of cl dealt anew, when it has come or gone.
func (t *turn) connectedShares(cl *client) {
	t.b.hub.shares(cl, func(g *group) { t.changed(g, cl) })
}

// giveBack returns what was lent to cl, whose session ends and whose
// subscriptions are removed, to the lanes it came from. It says how many of the
// messages in the session are not lost by that.
func (t *turn) giveBack(cl *client) (saved int) {
	if len(cl.lent) == 0 {
		return 0
	}
	lanes := map[*lane]bool{}
	var back []uint64
	for _, seq := range slices.Sorted(maps.Keys(cl.lent)) {
		e := cl.lent[seq]
		lanes[e.lane] = true
		cl.mu.Lock()
		unsent := e.copied && !e.sent && cl.core.Unsent(seq)
		cl.mu.Unlock()
		if unsent && !e.lane.g.gone {
			back = append(back, seq)
			saved++
		}
	}
	copied := map[*lane]bool{}
	for _, seq := range back {
		copied[cl.lent[seq].lane] = true
	}
	cl.mu.Lock()
	back = cl.core.Recall(back, true, func(seq uint64) bool { e := cl.lent[seq]; return e != nil && !e.lane.g.gone })
	t.count(cl)
	cl.mu.Unlock()
	slices.Sort(back)
	t.takeBack(cl, back)
	for _, e := range cl.lent { // of QoS 2, and sent, or acknowledged a moment ago
		e.unlend()
		t.done(e)
	}
	for l := range copied {
		if l.g.ordered() {
			t.restamp(l) // they were in the store after those that wait
		}
	}
	for l := range lanes {
		t.deal(l)
	}
	return saved
}

// endShare drops what is left when the last member has left.
func (t *turn) endShare(g *group) {
	if g.gone {
		return
	}
	lost := 0
	for _, l := range g.lanesOf() {
		for l.head != nil {
			e := l.pop()
			e.m.Release()
			lost++
		}
		l.drain(false)
	}
	g.stats.Shares--
	if lost > 0 {
		t.drops = append(t.drops, Drop{Reason: session.DropSessionEnded, ClientID: g.String(), Count: lost})
	}
	if g.kept {
		t.batch.Add(store.Op{Kind: store.DeleteSession, Client: g.id})
	}
	g.gone, g.kept = true, false
}

// restored is what a start finds in the store.
type restored struct {
	list     []*client
	released map[*client][]session.Handshake // QoS 2 that awaits PUBCOMP
	groups   map[*group]bool                 // with members
	shares   []store.Session                 // their stored queues
}

// restoreShares brings back the queues of the shares, when their members are
// there.
func (t *turn) restoreShares(r *restored) error {
	for i := range r.shares {
		if err := t.restoreShare(&r.shares[i], r); err != nil {
			return fmt.Errorf("read the queue of a share: %w", err)
		}
	}
	for g := range r.groups {
		t.changed(g, g.members.list[0].client)
	}
	return nil
}

func (t *turn) restoreShare(s *store.Session, r *restored) error {
	h, id := &t.b.hub, s.ClientID
	tenant, name, filter, ok := parseShareID(id)
	if !ok {
		return nil
	}
	_, at := h.index.find(filter, true)
	g := h.index.group(at, tenant, name, filter)
	g.kept = true
	g.restoreGap(s)
	for after := uint64(0); ; {
		list, err := t.b.store.Queue(nil, id, after, t.b.limits.Window)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			break
		}
		for _, d := range list {
			after = d.Seq
			e := &entry{m: d.Message, order: d.Seq, seq: d.Seq, marked: d.ID != 0}
			e.lane = g.laneOf(g.keyOf(d.Message), true)
			g.count++
			g.bytes += d.Message.Size()
			if err := t.restoreEntry(e, r); err != nil {
				return err
			}
		}
	}
	if _, ok := t.b.options.Authority.(Directory); ok && len(g.members.list) == 0 {
		// Its last lasting member had left, and the others ended with the crash.
		// Without a Directory nobody can say whose tenant a session is of before
		// its client is back, so there it may have members yet.
		h.index.forget(g)
		t.endShare(g)
	}
	return nil
}

// restoreEntry puts e into its lane, or with the session that has it.
func (t *turn) restoreEntry(e *entry, sessions *restored) error {
	if !e.marked {
		e.lane.push(e)
		return nil
	}
	members := e.lane.g.members.list
	for i := range len(members) + len(sessions.list) { // one that has unsubscribed may have it still
		cl := sessions.list[max(0, i-len(members))]
		if i < len(members) {
			cl = members[i].client
		}
		has, sent, err := t.has(cl, e.seq, sessions.released[cl])
		if err != nil {
			return err
		}
		if has {
			e.lend(cl, e.seq, true)
			e.sent = sent
			return nil
		}
	}
	t.note(session.DropSessionEnded, e.lane.g.String(), e.m)
	t.end(e)
	return nil
}

// has tells whether a session that was restored has the QoS 2 message seq, and
// whether its client may have it already.
func (t *turn) has(cl *client, seq uint64, released []session.Handshake) (has, sent bool, err error) {
	if slices.ContainsFunc(released, func(h session.Handshake) bool { return h.Seq == seq }) {
		return true, true, nil
	}
	if n, _ := cl.core.Queued(); n == 0 {
		return false, false, nil
	}
	list, err := t.b.store.Queue(nil, cl.id, seq-1, 1)
	for _, d := range list {
		has, sent = d.Seq == seq, d.Seq == seq && d.ID != 0
		d.Message.Release()
	}
	return has, sent, err
}

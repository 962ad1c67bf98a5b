package broker

import (
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// detach takes c away from its session, when it still has it, after the
// connection has ended.
func (b *Broker) detach(c *conn, code mqtt.ReasonCode, err error) {
	cl := c.client
	t := b.newTurn(nil)
	b.hub.mu.Lock()
	if cl.conn == c {
		t.detach(cl, time.Now())
		t.connectedShares(cl)
		t.commit()
	}
	b.hub.mu.Unlock()
	t.finish()
	b.disconnected(c, code, err)
}

// detach leaves cl without connection. Its will may be due, and its session
// over, at once. The hub's mutex is held; the caller commits.
func (t *turn) detach(cl *client, now time.Time) {
	var acts session.Actions
	t.recall(cl, false, every)
	t.abandon(cl)
	cl.mu.Lock()
	cl.core.Detach(now, &acts)
	cl.conn = nil
	cl.mu.Unlock()
	cl.detachedAt = now
	for _, d := range acts.Drops {
		t.drops = append(t.drops, Drop{Reason: d.Reason, ClientID: cl.id, Topic: d.Topic, QoS: d.QoS, Count: d.Count})
	}
	t.passed(cl, now)
}

// passed does what time has brought to a session without connection, and sets
// the timer for what comes next. When the broker is stopping, wills and ends
// wait for its next start, as the standard allows (3.1.2.5).
func (t *turn) passed(cl *client, now time.Time) {
	var will *mqtt.Will
	var over bool
	var next time.Time
	cl.mu.Lock()
	if !t.b.stopping.Load() {
		will, over, next = cl.core.Due(now)
	}
	var record *store.Record
	if cl.kept && !over {
		record = cl.record(cl.detachedAt)
	}
	cl.mu.Unlock()
	if will != nil { // [MQTT-3.1.2-12 v3.1.1]
		t.publishWill(cl, will, now)
	}
	switch {
	case over:
		t.endSession(cl, now)
		return
	case record != nil:
		t.batch.Add(store.Op{Kind: store.PutSession, Record: record})
	}
	if !next.IsZero() {
		b := t.b
		cl.timer = time.AfterFunc(next.Sub(now), func() { b.passed(cl) })
	}
}

// passed is called by the timer of a session without connection.
func (b *Broker) passed(cl *client) {
	if !b.begin() {
		return
	}
	defer b.running.Done()
	t := b.newTurn(nil)
	b.hub.mu.Lock()
	if cl.conn == nil && !cl.ended { // else the timer fired while it was being stopped
		t.passed(cl, time.Now())
		t.commit()
	}
	b.hub.mu.Unlock()
	t.finish()
}

// endSession removes a session and all it has. A will that was waiting is
// published [MQTT-3.1.2-8].
func (t *turn) endSession(cl *client, now time.Time) {
	h := &t.b.hub
	cl.mu.Lock()
	will := cl.core.TakeWill()
	cl.mu.Unlock()
	if will != nil {
		t.publishWill(cl, will, now)
	}
	var shares []*group
	for _, s := range cl.subscriptions {
		if g := h.index.remove(cl, s.Filter); g != nil {
			shares = append(shares, g)
		}
	}
	cl.subscriptions, cl.ready = nil, nil
	saved := t.giveBack(cl)
	cl.mu.Lock()
	lost := cl.core.End() - saved
	t.count(cl)
	cl.mu.Unlock()
	for _, g := range shares {
		t.changed(g, cl)
	}
	if lost > 0 {
		t.drops = append(t.drops, Drop{Reason: session.DropSessionEnded, ClientID: cl.id, Count: lost})
	}
	if cl.timer != nil {
		cl.timer.Stop()
		cl.timer = nil
	}
	if cl.kept { // [MQTT-3.1.2-7 v3.1.1]
		t.batch.Add(store.Op{Kind: store.DeleteSession, Client: cl.id})
	}
	cl.ended = true
	h.remove(cl)
	t.over = append(t.over, cl.id)
}

// publishWill routes a will, if its client still may publish it.
func (t *turn) publishWill(cl *client, w *mqtt.Will, now time.Time) {
	cl.mu.Lock()
	id := cl.identity
	cl.mu.Unlock()
	if id == nil {
		id = t.b.identify(cl.owner)
	}
	if id == nil || !id.MayPublish(w.Topic) {
		t.drops = append(t.drops, Drop{Reason: session.DropDeniedPublish, ClientID: cl.id, Topic: w.Topic, QoS: w.QoS, Count: 1})
		return
	}
	m := session.WillMessage(w, cl.id, cl.owner, now)
	t.route(m)
	m.Release()
}

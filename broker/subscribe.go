package broker

import (
	"slices"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// subscribe does a SUBSCRIBE, filter by filter [MQTT-3.8.4-5]. Retained
// messages are queued at once, and held back until SUBACK has left.
func (t *turn) subscribe(p *mqtt.Subscribe) {
	cl := t.from
	cl.mu.Lock()
	t.conn.hold++
	t.held++
	stored := cl.core.Stored()
	cl.mu.Unlock()
	ack := mqtt.Suback{PacketID: p.PacketID, Reasons: make([]mqtt.ReasonCode, 0, len(p.Subscriptions))} // [MQTT-2.2.1-6] [MQTT-3.8.4-1] [MQTT-3.8.4-2]
	for _, s := range p.Subscriptions {
		code := t.subscribeOne(store.Subscription{Subscription: s, ID: p.SubscriptionID}, stored)
		if !t.mine() {
			return // whoever has the session now was not told of a subscription
		}
		if code.Failed() && t.conn.info.Version == mqtt.V311 {
			code = mqtt.UnspecifiedError // [MQTT-3.9.3-2 v3.1.1]
		}
		ack.Reasons = append(ack.Reasons, code) // [MQTT-3.8.4-6] [MQTT-3.9.3-1]
	}
	t.reply(&ack)
}

// reply appends an answer that cannot fail to encode but by a defect.
func (t *turn) reply(p mqtt.Packet) {
	var err error
	if t.acts.Send, err = p.Append(t.acts.Send, t.conn.info.Version); err != nil {
		t.b.log.Error("answer cannot be encoded", "packet", p.Type().String(), "error", err)
	}
}

func (t *turn) subscribeOne(s store.Subscription, stored bool) mqtt.ReasonCode {
	cl := t.from
	_, inner, shared := mqtt.ParseShare(s.Filter)
	if err := mqtt.ValidFilter(s.Filter); err != nil {
		return mqtt.TopicFilterInvalid
	}
	if !t.conn.identity.MaySubscribe(inner) {
		return mqtt.NotAuthorized
	}
	old := cl.subscription(s.Filter)
	switch {
	case t.scanned > maxScan:
		return mqtt.QuotaExceeded
	case old != nil: // [MQTT-3.8.4-3]
		*old = s
	case len(cl.subscriptions) >= t.b.options.Limits.Subscriptions:
		return mqtt.QuotaExceeded
	default:
		cl.subscriptions = append(cl.subscriptions, s)
	}
	if g := t.b.hub.index.add(cl, s); g != nil {
		t.changed(g, cl)
	}
	if stored {
		t.batch.Add(store.Op{Kind: store.PutSubscription, Client: cl.id, Subscription: &s})
	}
	// [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
	if !shared && (s.RetainHandling == 0 || s.RetainHandling == 1 && old == nil) {
		t.sendRetained(s) // [MQTT-3.8.4-4]
	}
	return mqtt.ReasonCode(s.QoS) // granted as asked [MQTT-3.8.4-7]
}

// sendRetained queues the retained messages that match a subscription, until
// its queue is full: that bounds what one SUBSCRIBE can cost. Those whose
// publisher has lost the right to publish them are not shown.
//
// Others have their turn at the hub every scanChunk places, while the subscription
// is in force already. What is retained meanwhile has reached the client as it was
// published, so it is left out: for each topic the client gets the retained
// message and then newer ones, or newer ones alone, and never an older one after
// a newer one [MQTT-3.3.1-5].
func (t *turn) sendRetained(s store.Subscription) {
	h := &t.b.hub
	cl := t.from
	now, begun := time.Now(), h.seq
	var ids []uint32
	if s.ID != 0 {
		ids = []uint32{s.ID}
	}
	var expired []string
	sources := make(map[string]Identity)
	h.retained.match(s.Filter, func(n *leaf) bool {
		if t.scanned++; t.scanned%scanChunk == 0 && !t.yield() {
			return false
		}
		m := n.message
		if m == nil || n.from.seq > begun {
			return true
		}
		if m.Expired(now) {
			expired = append(expired, m.Topic)
			return true
		}
		if s.NoLocal && m.Publisher == cl.id { // [MQTT-3.8.3-3]
			return true
		}
		if !t.stillAllowed(sources, m) {
			t.note(session.DropDeniedPublish, m.Publisher, m)
			return true
		}
		d := &t.offer
		*d = session.Delivery{Message: m, QoS: min(m.QoS, s.QoS), Retain: true, SubscriptionIDs: ids}
		if !t.roomFor(cl, d) {
			return false
		}
		h.seq++
		t.last, d.Seq = h.seq, h.seq
		from := len(t.targets)
		t.enqueue(cl)
		t.append(m, from)
		return true
	})
	for _, topic := range expired {
		if m := h.retained.get(topic); m != nil && m.Expired(now) { // and not another by now
			t.unretain(topic)
		}
	}
}

// roomFor tells whether the client's queues take a retained message; when they
// do not, that is noted, and the messages after it are not even looked at.
func (t *turn) roomFor(cl *client, d *session.Delivery) bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	switch {
	case d.QoS == mqtt.AtMostOnce && !cl.core.RoomQoS0(d.Size()):
		t.note(session.DropQoS0Full, cl.id, d.Message)
		cl.core.Missed(session.DropQoS0Full)
	case d.QoS > mqtt.AtMostOnce && !cl.core.Room(d.Size()):
		t.note(session.DropQueueFull, cl.id, d.Message)
		cl.core.Missed(session.DropQueueFull)
	default:
		return true
	}
	return false
}

// stillAllowed tells whether the publisher of a retained message may publish it
// now, as far as the Authority can say. sources keeps who was looked up.
func (t *turn) stillAllowed(sources map[string]Identity, m *session.Message) bool {
	if _, ok := t.b.options.Authority.(Directory); !ok || m.Owner == "" {
		return true
	}
	id, known := sources[m.Owner]
	if !known {
		id = t.b.identify(m.Owner)
		sources[m.Owner] = id
	}
	return id != nil && id.MayPublish(m.Topic)
}

// unsubscribe does an UNSUBSCRIBE. What is queued already is still delivered
// [MQTT-3.10.4-2] [MQTT-3.10.4-3].
func (t *turn) unsubscribe(p *mqtt.Unsubscribe) {
	cl := t.from
	cl.mu.Lock()
	stored := cl.core.Stored()
	cl.mu.Unlock()
	ack := mqtt.Unsuback{PacketID: p.PacketID} // [MQTT-2.2.1-6] [MQTT-3.10.4-4] [MQTT-3.10.4-5]
	for _, filter := range p.Filters {         // [MQTT-3.10.4-6]
		i := slices.IndexFunc(cl.subscriptions, func(s store.Subscription) bool { return s.Filter == filter }) // [MQTT-3.10.4-1]
		code := mqtt.NoSubscriptionExisted
		if i >= 0 {
			code = mqtt.Success
			cl.subscriptions = slices.Delete(cl.subscriptions, i, i+1)
			if g := t.b.hub.index.remove(cl, filter); g != nil {
				t.leaveShare(cl, g)
			}
			if stored {
				t.batch.Add(store.Op{
					Kind: store.DeleteSubscription, Client: cl.id,
					Subscription: &store.Subscription{Subscription: mqtt.Subscription{Filter: filter}},
				})
			}
		}
		if t.conn.info.Version == mqtt.V5 {
			ack.Reasons = append(ack.Reasons, code) // [MQTT-3.11.3-1]
		}
	}
	t.reply(&ack)
}

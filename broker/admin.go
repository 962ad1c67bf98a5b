package broker

import (
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// Disconnect closes the connections of the identity of that name. MQTT 5
// clients are told code, and 3.1.1 clients find the connection closed. Their
// sessions stay. It returns how many connections there were.
func (b *Broker) Disconnect(identity string, code mqtt.ReasonCode) int {
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	n := 0
	for _, cl := range b.hub.clients {
		if cl.owner != identity || cl.conn == nil {
			continue
		}
		n++
		cl.mu.Lock()
		cl.conn.endLocked(code, nil)
		cl.mu.Unlock()
	}
	return n
}

// Queued is how many QoS 1 and 2 messages a session has not acknowledged yet, 0
// when there is no such session.
func (b *Broker) Queued(clientID string) int {
	b.hub.mu.Lock()
	cl := b.hub.clients[clientID]
	b.hub.mu.Unlock()
	if cl == nil {
		return 0
	}
	cl.mu.Lock()
	defer cl.mu.Unlock()
	messages, _ := cl.core.Queued()
	return messages
}

// NumberAbove has all messages from now on get numbers above n, see NumberProperty: for
// a client that knows numbers which the broker, with its store lost or new, does not.
func (b *Broker) NumberAbove(n uint64) {
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	b.hub.seq = max(b.hub.seq, n)
}

// Forget ends everything of the identity of that name: its connections, its
// sessions with their queues, and its retained messages. Wills are not
// published. It returns how many sessions there were.
func (b *Broker) Forget(identity string) int {
	t := b.newTurn(nil)
	now := time.Now()
	h := &b.hub
	h.mu.Lock()
	n := 0
	for _, cl := range h.clients {
		if cl.owner != identity {
			continue
		}
		n++
		cl.mu.Lock()
		cl.core.TakeWill()
		if cl.conn != nil {
			cl.conn.endLocked(mqtt.AdministrativeAction, nil)
			cl.conn = nil
		}
		cl.mu.Unlock()
		t.endSession(cl, now)
	}
	var topics []string
	h.retained.root.all(false, func(n *leaf) bool {
		if m := n.message; m != nil && m.Owner == identity {
			topics = append(topics, m.Topic)
		}
		return true
	})
	for _, topic := range topics {
		t.unretain(topic)
	}
	t.commit()
	h.mu.Unlock()
	t.finish()
	return n
}

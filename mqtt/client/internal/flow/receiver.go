package flow

import (
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client/internal/ring"
)

// Ticket names one received message, so that it can be acknowledged later.
type Ticket struct {
	pos uint64
	id  uint16
	qos mqtt.QoS
}

// debt is an acknowledgement that this connection owes.
type debt struct {
	id    uint16
	qos   mqtt.QoS
	acked bool
}

// held is a QoS 2 message between PUBLISH and PUBREL. It outlives connections.
type held struct {
	origin uint64 // the ticket's position: where it was delivered
	debt   uint64 // where PUBREC is owed now, if the queue holds it
	acked  bool
}

// Receiver is the incoming half of a session: what is owed for received
// messages.
//
// Debts stand in receive order and are paid from the front, so that PUBACK and
// PUBREC leave in the order the messages came [MQTT-4.6.0-2], [MQTT-4.6.0-3],
// whatever the order of Ack. Positions are never reused and a connection's end
// forgets all debts, so a ticket of a former connection finds nothing to pay.
// Only a QoS 2 message is still the same message after a resume: its PUBLISH is
// not delivered twice, and the Ack of the one delivery pays the new debt.
type Receiver struct {
	version mqtt.Version
	maximum int // Receive Maximum we told; 0: no bound (3.1.1)
	debts   ring.Queue[debt]
	held    map[uint16]*held
	busy    int    // unacknowledged on this connection, as the server counts
	began   uint64 // first position of this connection
}

// NewReceiver returns a receiver which holds the server to maximum
// unacknowledged messages, or to nothing when it is 0.
func NewReceiver(v mqtt.Version, maximum int) *Receiver {
	return &Receiver{version: v, maximum: maximum, held: make(map[uint16]*held)}
}

// Up begins a connection.
func (r *Receiver) Up(sessionPresent bool) {
	r.Down()
	if !sessionPresent {
		clear(r.held)
	}
}

// Down ends a connection: nothing is owed any more.
func (r *Receiver) Down() {
	r.debts.Clear()
	r.began, r.busy = r.debts.Next(), 0
}

// Publish takes a PUBLISH with QoS 1 or 2 and says whether it is to be
// delivered.
func (r *Receiver) Publish(out []byte, id uint16, qos mqtt.QoS) (_ []byte, t Ticket, deliver bool, err error) {
	h := r.held[id]
	if qos == mqtt.ExactlyOnce && h != nil && r.debts.Holds(h.debt) {
		return out, t, false, nil // the one PUBREC that is owed answers both
	}
	if r.maximum > 0 && r.busy >= r.maximum { // [MQTT-3.3.4-9]
		return out, t, false, &mqtt.Error{Code: mqtt.ReceiveMaximumExceeded, Text: "more unacknowledged messages than our Receive Maximum"}
	}
	switch {
	case qos == mqtt.AtLeastOnce:
		r.busy++
		pos := r.debts.Push(debt{id: id, qos: qos})
		return out, Ticket{pos, id, qos}, true, nil
	case h == nil:
		r.busy++
		pos := r.debts.Push(debt{id: id, qos: qos})
		r.held[id] = &held{origin: pos, debt: pos}
		return out, Ticket{pos, id, qos}, true, nil
	}
	// Delivered before [MQTT-4.3.3-12]; the server missed the PUBREC, or the
	// application has not acknowledged yet.
	if h.debt < r.began {
		r.busy++ // sent again after a resume: it counts on this connection too
	}
	h.debt = r.debts.Push(debt{id: id, qos: qos, acked: h.acked})
	return r.pay(out), t, false, nil
}

// Ack marks a message as processed and appends the acknowledgements that this
// lets go. A second Ack, or one for a former connection, does nothing [MQTT-4.5.0-2].
func (r *Receiver) Ack(out []byte, t Ticket) []byte {
	pos := t.pos
	if t.qos == mqtt.ExactlyOnce {
		h := r.held[t.id]
		if h == nil || h.origin != t.pos {
			return out
		}
		h.acked = true
		pos = h.debt
	}
	if !r.debts.Holds(pos) {
		return out
	}
	r.debts.At(pos).acked = true
	return r.pay(out)
}

// pay appends the acknowledgements at the front that are ready.
func (r *Receiver) pay(out []byte) []byte {
	for r.debts.Len() > 0 && r.debts.At(r.debts.First()).acked {
		d := r.debts.Pop()
		kind := mqtt.TypePubrec
		if d.qos == mqtt.AtLeastOnce {
			kind = mqtt.TypePuback
			r.busy--
		}
		out = mqtt.AppendAck(out, r.version, kind, d.id, mqtt.Success)
	}
	return out
}

// Pubrel takes a PUBREL and answers PUBCOMP at once [MQTT-4.3.3-11].
func (r *Receiver) Pubrel(out []byte, id uint16) ([]byte, error) {
	h := r.held[id]
	switch {
	case h == nil:
		return mqtt.AppendAck(out, r.version, mqtt.TypePubcomp, id, mqtt.PacketIdentifierNotFound), nil
	case !h.acked || r.debts.Holds(h.debt):
		return out, protocolError("PUBREL before PUBREC")
	case h.debt >= r.began:
		r.busy--
	}
	delete(r.held, id)
	return mqtt.AppendAck(out, r.version, mqtt.TypePubcomp, id, mqtt.Success), nil
}

// Forget takes back a message that was never shown to the application, so that
// a resend of it is delivered.
func (r *Receiver) Forget(t Ticket) {
	if h := r.held[t.id]; t.qos == mqtt.ExactlyOnce && h != nil && h.origin == t.pos {
		delete(r.held, t.id)
	}
}

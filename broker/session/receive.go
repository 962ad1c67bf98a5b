package session

import (
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// Request is what a packet asks of the shell beside Actions.
type Request uint8

// The requests. Route: make the PUBLISH a message (its topic is
// Actions.Aliased when that is set) and, when that is decided, call Answer.
// Subscribe and Unsubscribe: do so and send SUBACK or UNSUBACK.
const (
	Nothing Request = iota
	Route
	Subscribe
	Unsubscribe
)

// Receive takes one packet of the client. p is not kept. After out.Close has
// been set, nothing more is taken.
func (s *Session) Receive(p mqtt.Packet, now time.Time, out *Actions) Request {
	if !s.attached || s.closing {
		return Nothing
	}
	var r Request
	switch p := p.(type) {
	case *mqtt.Publish:
		r = s.publish(p, out)
	case *mqtt.Ack:
		switch p.Kind {
		case mqtt.TypePuback:
			s.puback(p, out)
		case mqtt.TypePubrec:
			s.pubrec(p, out)
		case mqtt.TypePubrel:
			s.pubrel(p, out)
		case mqtt.TypePubcomp:
			s.pubcomp(p, out)
		}
	case *mqtt.Subscribe:
		r = s.subscribe(p, out)
	case *mqtt.Unsubscribe:
		r = Unsubscribe
	case *mqtt.Pingreq:
		out.Send = append(out.Send, byte(mqtt.TypePingresp)<<4, 0) // [MQTT-3.12.4-1]
	case *mqtt.Disconnect:
		s.disconnect(p, out)
	case *mqtt.Auth:
		// Without an authentication method in CONNECT there is no AUTH
		// [MQTT-4.12.0-7]; with one the shell takes it.
		out.fail(mqtt.ProtocolError)
	default:
		// A second CONNECT [MQTT-3.1.0-2], and what only servers send.
		out.fail(mqtt.ProtocolError)
	}
	s.closing = s.closing || out.Close
	return r
}

func (s *Session) publish(p *mqtt.Publish, out *Actions) Request {
	if len(p.SubscriptionIDs) > 0 { // [MQTT-3.3.4-6]
		out.fail(mqtt.ProtocolError)
		return Nothing
	}
	if p.TopicAlias != 0 || len(p.Topic) == 0 {
		if !s.resolve(p, out) {
			out.fail(mqtt.TopicAliasInvalid)
			return Nothing
		}
	}
	if p.QoS == mqtt.AtMostOnce {
		return Route
	}
	if p.QoS == mqtt.ExactlyOnce {
		state, repeat := s.received[p.PacketID]
		if repeat && (state != doubtful || p.Dup) { // [MQTT-4.3.3-10]
			switch {
			case state == pending: // its answer is to come
				return Nothing
			case state != counted && !s.claim(out):
				return Nothing
			}
			s.received[p.PacketID] = counted
			out.Send = mqtt.AppendAck(out.Send, s.link.Version, mqtt.TypePubrec, p.PacketID, mqtt.Success)
			return Nothing
		}
	}
	// At QoS 1 the identifier is never a repeat, whatever DUP says [MQTT-4.3.2-5].
	if !s.claim(out) {
		return Nothing
	}
	if p.QoS == mqtt.ExactlyOnce {
		s.receive(p.PacketID, pending)
	}
	return Route
}

// claim counts one more message awaiting our answer, and closes a connection
// that exceeds our Receive Maximum [MQTT-3.3.4-7]. An MQTT 3.1.1 client was
// never told of one.
func (s *Session) claim(out *Actions) bool {
	s.unanswered++
	if s.unanswered > s.lim.ReceiveMaximum && s.link.Version == mqtt.V5 {
		out.fail(mqtt.ReceiveMaximumExceeded)
		return false
	}
	return true
}

func (s *Session) receive(id uint16, state inbound) {
	if s.received == nil {
		s.received = make(map[uint16]inbound)
	}
	s.received[id] = state
}

// resolve sets or looks up a topic alias [MQTT-3.3.2-12].
func (s *Session) resolve(p *mqtt.Publish, out *Actions) bool {
	if p.TopicAlias == 0 || p.TopicAlias > s.lim.TopicAliases {
		return false
	}
	i := int(p.TopicAlias) - 1
	if len(p.Topic) > 0 {
		for len(s.aliasIn) <= i {
			s.aliasIn = append(s.aliasIn, "")
		}
		if s.aliasIn[i] != string(p.Topic) {
			s.aliasIn[i] = string(p.Topic)
		}
	}
	if i >= len(s.aliasIn) || s.aliasIn[i] == "" {
		return false
	}
	out.Aliased = s.aliasIn[i]
	return true
}

// Answer acknowledges a PUBLISH for which Receive said Route, with the code
// that the routing gave. It must be called in the order of the PUBLISHes
// [MQTT-4.6.0-2] [MQTT-4.6.0-3], on the same connection, and in one step with
// the routing: from then on a repeat of a QoS 2 message is known as one
// [MQTT-2.2.1-5] [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-3.3.4-1].
func (s *Session) Answer(qos mqtt.QoS, id uint16, code mqtt.ReasonCode, out *Actions) {
	switch qos {
	case mqtt.AtLeastOnce:
		s.unanswered--
		out.Send = mqtt.AppendAck(out.Send, s.link.Version, mqtt.TypePuback, id, code)
	case mqtt.ExactlyOnce:
		if code.Failed() { // the id is free again [MQTT-4.3.3-9]
			s.unanswered--
			delete(s.received, id)
		} else {
			s.receive(id, counted)
			s.change(out, Change{Kind: Received, ID: id})
		}
		out.Send = mqtt.AppendAck(out.Send, s.link.Version, mqtt.TypePubrec, id, code)
	}
}

// Unanswer forgets a QoS 2 message that was answered but could not be stored:
// the answer did not leave, and the client will send it again.
func (s *Session) Unanswer(id uint16) {
	if s.received[id] == counted {
		s.unanswered--
	}
	delete(s.received, id)
}

func (s *Session) pubrel(p *mqtt.Ack, out *Actions) {
	state, ok := s.received[p.PacketID] // [MQTT-4.3.3-13]
	code := mqtt.Success
	if ok && state == pending { // before it had our PUBREC: the handshake is not there yet
		out.fail(mqtt.ProtocolError)
		return
	}
	if ok {
		delete(s.received, p.PacketID) // [MQTT-4.3.3-12]
		s.change(out, Change{Kind: Forgotten, ID: p.PacketID})
		if state != earlier && state != doubtful {
			s.unanswered--
		}
	} else {
		code = mqtt.PacketIdentifierNotFound
	}
	out.Send = mqtt.AppendAck(out.Send, s.link.Version, mqtt.TypePubcomp, p.PacketID, code) // [MQTT-4.3.3-11]
}

// inFly finds a message that this client can have received and has not answered.
func (s *Session) inFly(id uint16) (*flight, bool) {
	at, ok := s.ids[id]
	if !ok || at.rel || at.pos == noPosition {
		return nil, false
	}
	f := s.fly.at(at.pos)
	return f, f.dup // an id that was never sent is as good as unknown
}

func (s *Session) puback(p *mqtt.Ack, out *Actions) {
	f, ok := s.inFly(p.PacketID)
	if !ok {
		if s.ids[p.PacketID].rel {
			out.fail(mqtt.ProtocolError) // that id is in a QoS 2 handshake
		}
		return // stray: it must not touch another message
	}
	if f.QoS != mqtt.AtLeastOnce {
		out.fail(mqtt.ProtocolError)
		return
	}
	s.acknowledged(f, p, out)
}

// acknowledged ends the delivery of f by PUBACK, or by a PUBREC that refuses.
// A refusal counts as acknowledged [MQTT-4.4.0-2].
func (s *Session) acknowledged(f *flight, p *mqtt.Ack, out *Actions) {
	if p.Reason.Failed() {
		out.drop(DropRefused, &f.Delivery) // [MQTT-4.8.2-6]
	}
	s.over(&f.Delivery, out)
	s.got(f, out)
	if s.ids[f.ID].pos < s.sent { // else it was sent on another connection
		s.regain()
	}
	delete(s.ids, f.ID) // [MQTT-4.3.2-3]
	s.land(f)
}

func (s *Session) pubrec(p *mqtt.Ack, out *Actions) {
	if at, ok := s.ids[p.PacketID]; ok && at.rel { // again: PUBREL again
		if at.pos < s.relSent {
			out.Send = mqtt.AppendAck(out.Send, s.link.Version, mqtt.TypePubrel, p.PacketID, mqtt.Success)
		}
		return
	}
	f, ok := s.inFly(p.PacketID)
	if !ok {
		if !p.Reason.Failed() {
			out.Send = mqtt.AppendAck(out.Send, s.link.Version, mqtt.TypePubrel, p.PacketID, mqtt.PacketIdentifierNotFound)
		}
		return
	}
	if f.QoS != mqtt.ExactlyOnce {
		out.fail(mqtt.ProtocolError)
		return
	}
	if p.Reason.Failed() {
		s.acknowledged(f, p, out)
		return
	}
	s.release(f, out)
}

// release moves f on to PUBREL [MQTT-4.3.3-4]. The PUBREL leaves at once,
// unless older ones are still to be sent again [MQTT-4.6.0-4].
func (s *Session) release(f *flight, out *Actions) {
	s.change(out, Change{Kind: Released, ID: f.ID, Seq: f.Seq}) // [MQTT-4.3.3-3]
	s.got(f, out)
	r := release{id: f.ID, seq: f.Seq, lent: f.Lent}
	if s.ids[f.ID].pos < s.sent {
		r.link = s.links
	}
	s.ids[f.ID] = place{pos: s.rel.end(), rel: true}
	if s.relSent == s.rel.end() {
		s.relSent++
		out.Send = mqtt.AppendAck(out.Send, s.link.Version, mqtt.TypePubrel, f.ID, mqtt.Success)
	}
	s.rel.push(r)
	s.released++
	s.land(f)
}

func (s *Session) pubcomp(p *mqtt.Ack, out *Actions) {
	at, ok := s.ids[p.PacketID]
	if !ok {
		return
	}
	if !at.rel {
		if _, sent := s.inFly(p.PacketID); sent {
			out.fail(mqtt.ProtocolError)
		}
		return
	}
	r := s.rel.at(at.pos)
	if r.lent {
		out.Ended = append(out.Ended, r.seq)
	} else {
		s.change(out, Change{Kind: Removed, Seq: r.seq, ID: r.id})
	}
	delete(s.ids, r.id) // [MQTT-4.3.3-5]
	if r.link == s.links {
		s.regain()
	}
	r.gone = true
	s.released--
	for s.rel.n > 0 && s.rel.head().gone {
		s.rel.pop()
	}
	s.relSent = max(s.relSent, s.rel.base)
}

// regain gives the client's window one back. Only messages sent on this
// connection have taken from it: the standard would have others give back as
// well (4.9), and the client be sent more than it allows.
func (s *Session) regain() { s.quota++ }

func (s *Session) subscribe(p *mqtt.Subscribe, out *Actions) Request {
	for i := range p.Subscriptions {
		if sub := &p.Subscriptions[i]; sub.NoLocal {
			if _, _, shared := mqtt.ParseShare(sub.Filter); shared { // [MQTT-3.8.3-4]
				out.fail(mqtt.ProtocolError)
				return Nothing
			}
		}
	}
	return Subscribe
}

func (s *Session) disconnect(p *mqtt.Disconnect, out *Actions) {
	if p.HasSessionExpiry {
		if s.link.ExpirySeconds == 0 && p.SessionExpirySeconds != 0 { // 3.14.2.2.2
			out.fail(mqtt.ProtocolError)
			return
		}
		// What was granted is not exceeded.
		s.link.ExpirySeconds = min(s.link.ExpirySeconds, p.SessionExpirySeconds)
	}
	if p.Reason == mqtt.NormalDisconnection { // [MQTT-3.14.4-3]
		s.will = nil
	}
	out.Close, out.Code = true, p.Reason
}

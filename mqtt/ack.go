package mqtt

// Ack is PUBACK, PUBREC, PUBREL or PUBCOMP: they share one shape.
//
// MQTT 3.1.1 has no reason code in them: Append leaves Reason out, Decode sets
// Success.
type Ack struct {
	Kind         Type // one of TypePuback, TypePubrec, TypePubrel, TypePubcomp
	PacketID     uint16
	Reason       ReasonCode
	ReasonString string
	User         []UserProperty
}

// Type returns Kind.
func (p *Ack) Type() Type { return p.Kind }

func isAck(t Type) bool { return t >= TypePuback && t <= TypePubcomp }

// Decode reads the body of any of the four packets and sets Kind; see Packet.
func (p *Ack) Decode(h Header, body []byte, v Version) error {
	*p = Ack{Kind: h.Type}
	if !isAck(h.Type) {
		return malformed("header is of another packet type")
	}
	c := start(h, body, h.Type, v)
	p.PacketID = c.packetID()
	if v == V5 && len(c.b) != 0 {
		// Without a reason code it is Success, and without a property length
		// there are no properties (3.4.2.1, 3.4.2.2.1).
		p.Reason = c.reason(h.Type) // [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
		if len(c.b) != 0 {
			p.ReasonString, p.User = c.outcome(1 << h.Type)
		}
	}
	return c.end()
}

// outcome reads a property list of a reason string and user properties, which
// is all that many answers have.
func (c *cursor) outcome(where typeSet) (reason string, user []UserProperty) {
	list := c.properties(where)
	for id, ok := list.next(); ok; id, ok = list.next() {
		switch id {
		case propReasonString:
			reason = list.string("reason string")
		case propUser:
			user = list.user(user)
		}
	}
	c.finish(&list)
	return reason, user
}

func (e *encoder) outcome(reason string, user []UserProperty) {
	e.openProperties()
	e.propertyString(propReasonString, "reason string", reason)
	e.user(user)
	e.closeProperties()
}

// Append encodes p in the shortest form; see Packet.
func (p *Ack) Append(dst []byte, v Version) ([]byte, error) {
	if !isAck(p.Kind) {
		return dst, malformed("not the kind of an acknowledgement")
	}
	e := encoder{v: v}
	p.body(&e)
	if e.begin(dst, p.Kind, flagsOf(p.Kind)) {
		p.body(&e)
	}
	return e.result()
}

func (p *Ack) body(e *encoder) {
	e.packetID(p.PacketID)
	plain := p.ReasonString == "" && len(p.User) == 0
	if e.v == V5 && (p.Reason != Success || !plain) {
		e.reason(p.Kind, p.Reason)
	}
	if !plain {
		e.outcome(p.ReasonString, p.User)
	}
}

// AppendAck encodes a PUBACK, PUBREC, PUBREL or PUBCOMP without properties, in
// 4 or 5 bytes and without allocating if dst has room. In MQTT 3.1.1 the code
// is left out: an acknowledgement is all it can say [MQTT-3.3.5-2 v3.1.1].
//
// The caller vouches for its arguments, which nothing checks: kind is one of
// the four, id is not 0 and code is listed for kind.
func AppendAck(dst []byte, v Version, kind Type, id uint16, code ReasonCode) []byte {
	first := byte(kind)<<4 | flagsOf(kind)
	if v != V5 || code == Success {
		return append(dst, first, 2, byte(id>>8), byte(id))
	}
	return append(dst, first, 3, byte(id>>8), byte(id), byte(code))
}

package mqtt

// Disconnect ends a connection in good order, or says why it ends. In MQTT
// 3.1.1 it has no fields: Append refuses any other Reason than
// NormalDisconnection, since leaving it out would change what happens to the
// will.
//
// That a server sends no session expiry [MQTT-3.14.2-2], and that a client
// does not raise it from zero, is for the receiver to check.
type Disconnect struct {
	Reason               ReasonCode
	HasSessionExpiry     bool
	SessionExpirySeconds uint32
	ServerReference      string
	ReasonString         string
	User                 []UserProperty
}

// Type returns TypeDisconnect.
func (p *Disconnect) Type() Type { return TypeDisconnect }

// Decode reads a DISCONNECT body; see Packet. Nothing in p borrows body.
func (p *Disconnect) Decode(h Header, body []byte, v Version) error {
	*p = Disconnect{}
	c := start(h, body, TypeDisconnect, v)
	if v == V5 && len(c.b) != 0 {
		// Both the code and the properties may be left out (3.14.2.1, 3.14.2.2.1).
		p.Reason = c.reason(TypeDisconnect) // [MQTT-3.14.2-1]
		if len(c.b) != 0 {
			p.decodeProperties(&c)
		}
	}
	return c.end()
}

func (p *Disconnect) decodeProperties(c *cursor) {
	list := c.properties(inDisc)
	for id, ok := list.next(); ok; id, ok = list.next() {
		switch id {
		case propSessionExpiry:
			p.HasSessionExpiry = true
			p.SessionExpirySeconds = list.u32("session expiry interval")
		case propServerReference:
			p.ServerReference = list.string("server reference")
		case propReasonString:
			p.ReasonString = list.string("reason string")
		case propUser:
			p.User = list.user(p.User)
		}
	}
	c.finish(&list)
}

// Append encodes p in the shortest form; see Packet.
func (p *Disconnect) Append(dst []byte, v Version) ([]byte, error) {
	e := encoder{v: v}
	p.body(&e)
	if e.begin(dst, TypeDisconnect, 0) {
		p.body(&e)
	}
	return e.result()
}

func (p *Disconnect) body(e *encoder) {
	plain := !p.HasSessionExpiry && p.ServerReference == "" && p.ReasonString == "" && len(p.User) == 0
	if plain && p.Reason == NormalDisconnection {
		return
	}
	if e.v != V5 {
		e.fail(protocolError("DISCONNECT of MQTT 3.1.1 carries nothing"))
		return
	}
	e.reason(TypeDisconnect, p.Reason)
	if plain {
		return
	}
	e.openProperties()
	if p.HasSessionExpiry {
		e.property32(propSessionExpiry, p.SessionExpirySeconds)
	}
	e.propertyString(propServerReference, "server reference", p.ServerReference)
	e.propertyString(propReasonString, "reason string", p.ReasonString)
	e.user(p.User)
	e.closeProperties()
}

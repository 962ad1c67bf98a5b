package mqtt

// Auth is a step of an enhanced authentication (MQTT 5 only).
//
// Method is always there. The form without any body, which 3.15.2.1 describes,
// leaves it out, and so is the protocol error that 3.15.2.2.2 makes of it.
type Auth struct {
	Reason       ReasonCode
	Method       string
	Data         []byte // nil: absent
	ReasonString string
	User         []UserProperty
}

// Type returns TypeAuth.
func (p *Auth) Type() Type { return TypeAuth }

// Decode reads an AUTH body; see Packet. Data borrows body.
func (p *Auth) Decode(h Header, body []byte, v Version) error {
	*p = Auth{}
	c := start(h, body, TypeAuth, v)
	if v == V311 {
		c.fail(malformed("MQTT 3.1.1 has no AUTH"))
	}
	if len(c.b) != 0 {
		p.Reason = c.reason(TypeAuth) // [MQTT-3.15.2-1]
		p.decodeProperties(&c)
	}
	if c.err == nil && p.Method == "" {
		c.fail(protocolError("AUTH without authentication method"))
	}
	return c.end()
}

func (p *Auth) decodeProperties(c *cursor) {
	list := c.properties(inAuth)
	for id, ok := list.next(); ok; id, ok = list.next() {
		switch id {
		case propAuthMethod:
			p.Method = list.string("authentication method")
		case propAuthData:
			p.Data = list.bytes("authentication data")
		case propReasonString:
			p.ReasonString = list.string("reason string")
		case propUser:
			p.User = list.user(p.User)
		}
	}
	c.finish(&list)
}

// Append encodes p; see Packet.
func (p *Auth) Append(dst []byte, v Version) ([]byte, error) {
	e := encoder{v: v}
	p.body(&e)
	if e.begin(dst, TypeAuth, 0) {
		p.body(&e)
	}
	return e.result()
}

func (p *Auth) body(e *encoder) {
	if e.v != V5 {
		e.fail(malformed("MQTT 3.1.1 has no AUTH"))
	}
	if p.Method == "" {
		e.fail(protocolError("AUTH without authentication method"))
	}
	e.reason(TypeAuth, p.Reason)
	e.openProperties()
	e.propertyString(propAuthMethod, "authentication method", p.Method)
	e.propertyBytes(propAuthData, "authentication data", p.Data)
	e.propertyString(propReasonString, "reason string", p.ReasonString)
	e.user(p.User)
	e.closeProperties()
}

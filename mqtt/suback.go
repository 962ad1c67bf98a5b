package mqtt

// Suback answers Subscribe, one code for each filter, in their order. In MQTT
// 3.1.1 every failure is 0x80, which reads as UnspecifiedError.
type Suback struct {
	PacketID     uint16
	Reasons      []ReasonCode
	ReasonString string
	User         []UserProperty
}

// Type returns TypeSuback.
func (p *Suback) Type() Type { return TypeSuback }

// Decode reads a SUBACK body; see Packet. Nothing in p borrows body.
func (p *Suback) Decode(h Header, body []byte, v Version) error {
	*p = Suback{}
	c := start(h, body, TypeSuback, v)
	p.PacketID = c.packetID()
	if v == V5 {
		p.ReasonString, p.User = c.outcome(inSuback)
	}
	p.Reasons = c.reasons(TypeSuback)
	if v != V5 {
		for _, code := range p.Reasons {
			if code.Failed() && code != UnspecifiedError { // [MQTT-3.9.3-2 v3.1.1]
				c.fail(malformed("return code not known to MQTT 3.1.1"))
			}
		}
	}
	return c.end()
}

// reasons reads codes up to the end of the packet [MQTT-3.9.3-2]
// [MQTT-3.11.3-2].
func (c *cursor) reasons(t Type) []ReasonCode {
	switch {
	case c.err != nil:
		return nil
	case len(c.b) == 0:
		c.fail(protocolError("no reason code"))
		return nil
	case len(c.b) > MaxFilters:
		c.fail(&Error{QuotaExceeded, "too many reason codes"})
		return nil
	}
	codes := make([]ReasonCode, 0, len(c.b))
	for len(c.b) != 0 {
		codes = append(codes, c.reason(t))
	}
	return codes
}

func (e *encoder) countReasons(n int) {
	switch {
	case n == 0:
		e.fail(protocolError("no reason code"))
	case n > MaxFilters:
		e.fail(&Error{QuotaExceeded, "too many reason codes"})
	}
}

// Append encodes p; see Packet. For MQTT 3.1.1 every failure becomes 0x80.
func (p *Suback) Append(dst []byte, v Version) ([]byte, error) {
	e := encoder{v: v}
	p.body(&e)
	if e.begin(dst, TypeSuback, 0) {
		p.body(&e)
	}
	return e.result()
}

func (p *Suback) body(e *encoder) {
	e.packetID(p.PacketID)
	e.outcome(p.ReasonString, p.User)
	e.countReasons(len(p.Reasons))
	for _, code := range p.Reasons {
		if e.v != V5 && code.Failed() {
			code = UnspecifiedError
		}
		e.reason(TypeSuback, code)
	}
}

// Unsuback answers Unsubscribe; Reasons is empty in MQTT 3.1.1, where Append
// leaves them out.
type Unsuback struct {
	PacketID     uint16
	Reasons      []ReasonCode
	ReasonString string
	User         []UserProperty
}

// Type returns TypeUnsuback.
func (p *Unsuback) Type() Type { return TypeUnsuback }

// Decode reads an UNSUBACK body; see Packet. Nothing in p borrows body.
func (p *Unsuback) Decode(h Header, body []byte, v Version) error {
	*p = Unsuback{}
	c := start(h, body, TypeUnsuback, v)
	p.PacketID = c.packetID()
	if v == V5 {
		p.ReasonString, p.User = c.outcome(inUnsub)
		p.Reasons = c.reasons(TypeUnsuback)
	}
	return c.end()
}

// Append encodes p; see Packet.
func (p *Unsuback) Append(dst []byte, v Version) ([]byte, error) {
	e := encoder{v: v}
	p.body(&e)
	if e.begin(dst, TypeUnsuback, 0) {
		p.body(&e)
	}
	return e.result()
}

func (p *Unsuback) body(e *encoder) {
	e.packetID(p.PacketID)
	e.outcome(p.ReasonString, p.User)
	if e.v != V5 {
		return
	}
	e.countReasons(len(p.Reasons))
	for _, code := range p.Reasons {
		e.reason(TypeUnsuback, code)
	}
}

package mqtt

// Connack is the server's answer to Connect. A topic alias maximum of 0 means
// the same as its absence.
type Connack struct {
	SessionPresent bool
	Reason         ReasonCode // 3.1.1 return codes are mapped to and from MQTT 5 codes

	HasSessionExpiry      bool
	SessionExpirySeconds  uint32
	ReceiveMaximum        uint16 // 0: absent, meaning 65,535
	HasMaximumQoS         bool
	MaximumQoS            QoS    // 0 or 1
	NoRetain              bool   // Retain Available 0
	MaximumPacketSize     uint32 // 0: absent
	AssignedClientID      string
	TopicAliasMaximum     uint16
	NoWildcards           bool // Wildcard Subscription Available 0
	NoSubscriptionIDs     bool // Subscription Identifiers Available 0
	NoSharedSubscriptions bool // Shared Subscription Available 0
	HasServerKeepAlive    bool
	ServerKeepAlive       uint16
	ResponseInfo          string
	ServerReference       string
	AuthMethod            string
	AuthData              []byte // nil: absent
	ReasonString          string
	User                  []UserProperty
}

// Type returns TypeConnack.
func (p *Connack) Type() Type { return TypeConnack }

// Decode reads a CONNACK body; see Packet. AuthData borrows body.
func (p *Connack) Decode(h Header, body []byte, v Version) error {
	*p = Connack{}
	c := start(h, body, TypeConnack, v)
	flags := c.u8("acknowledge flags")
	if flags > 1 { // [MQTT-3.2.2-1]
		c.fail(malformed("reserved acknowledge flags"))
	}
	p.SessionPresent = flags == 1
	if v == V5 {
		p.Reason = c.reason(TypeConnack) // [MQTT-3.2.2-8]
		p.decodeProperties(&c)
	} else {
		p.Reason = c.returnCode()
	}
	if p.SessionPresent && p.Reason != Success { // [MQTT-3.2.2-6] [MQTT-3.2.2-4 v3.1.1]
		c.fail(protocolError("session present in a refusal"))
	}
	return c.end()
}

// returnCode reads the return code of 3.1.1; those above 5 are reserved.
func (c *cursor) returnCode() ReasonCode {
	code, ok := reasonOf311(c.u8("return code"))
	if !ok {
		c.fail(malformed("return code not known to MQTT 3.1.1"))
	}
	return code
}

func (p *Connack) decodeProperties(c *cursor) {
	list := c.properties(inConnack)
	for id, ok := list.next(); ok; id, ok = list.next() {
		switch id {
		case propSessionExpiry:
			p.HasSessionExpiry = true
			p.SessionExpirySeconds = list.u32("session expiry interval")
		case propReceiveMaximum:
			p.ReceiveMaximum = list.positive16("receive maximum")
		case propMaximumQoS:
			p.HasMaximumQoS = true
			if list.flag("maximum QoS") {
				p.MaximumQoS = AtLeastOnce
			}
		case propMaximumPacketSize:
			p.MaximumPacketSize = list.positive32("maximum packet size")
		case propAssignedClientID:
			p.AssignedClientID = list.string("assigned client identifier")
		case propTopicAliasMaximum:
			p.TopicAliasMaximum = list.u16("topic alias maximum")
		case propServerKeepAlive:
			p.HasServerKeepAlive = true
			p.ServerKeepAlive = list.u16("server keep alive")
		case propAuthMethod:
			p.AuthMethod = list.authMethod()
		case propAuthData:
			p.AuthData = list.bytes("authentication data")
		default:
			p.decodeProperty(&list, id)
		}
	}
	list.checkAuth()
	c.finish(&list)
}

// decodeProperty reads what the server has to say about itself.
func (p *Connack) decodeProperty(list *propertyList, id propertyID) {
	switch id {
	case propRetainAvailable:
		p.NoRetain = !list.flag("retain available")
	case propWildcards:
		p.NoWildcards = !list.flag("wildcard subscription available")
	case propSubscriptionIDs:
		p.NoSubscriptionIDs = !list.flag("subscription identifiers available")
	case propShared:
		p.NoSharedSubscriptions = !list.flag("shared subscription available")
	case propResponseInfo:
		p.ResponseInfo = list.string("response information")
	case propServerReference:
		p.ServerReference = list.string("server reference")
	case propReasonString:
		p.ReasonString = list.string("reason string")
	case propUser:
		p.User = list.user(p.User)
	}
}

// Append encodes p; see Packet. For MQTT 3.1.1 it refuses a Reason without a
// return code there, see ReasonCode.ReturnCode311.
func (p *Connack) Append(dst []byte, v Version) ([]byte, error) {
	e := encoder{v: v}
	p.body(&e)
	if e.begin(dst, TypeConnack, 0) {
		p.body(&e)
	}
	return e.result()
}

func (p *Connack) body(e *encoder) {
	var flags byte
	if p.SessionPresent {
		flags = 1
	}
	if p.SessionPresent && p.Reason != Success { // [MQTT-3.2.2-6]
		e.fail(protocolError("session present in a refusal"))
	}
	e.u8(flags)
	if e.v == V5 {
		e.reason(TypeConnack, p.Reason)
	} else {
		code, ok := p.Reason.ReturnCode311()
		if !ok {
			e.fail(protocolError("reason code without a return code in MQTT 3.1.1"))
		}
		e.u8(code)
	}
	e.openProperties()
	p.properties(e)
	e.closeProperties()
}

func (p *Connack) properties(e *encoder) {
	if p.HasSessionExpiry {
		e.property32(propSessionExpiry, p.SessionExpirySeconds)
	}
	if p.ReceiveMaximum != 0 {
		e.property16(propReceiveMaximum, p.ReceiveMaximum)
	}
	if p.HasMaximumQoS {
		if p.MaximumQoS > 1 {
			e.fail(protocolError("maximum QoS: neither 0 nor 1"))
		}
		e.property8(propMaximumQoS, byte(p.MaximumQoS))
	}
	e.unavailable(propRetainAvailable, p.NoRetain)
	if p.MaximumPacketSize != 0 {
		e.property32(propMaximumPacketSize, p.MaximumPacketSize)
	}
	e.propertyString(propAssignedClientID, "assigned client identifier", p.AssignedClientID)
	if p.TopicAliasMaximum != 0 {
		e.property16(propTopicAliasMaximum, p.TopicAliasMaximum)
	}
	e.propertyString(propReasonString, "reason string", p.ReasonString)
	e.user(p.User)
	e.unavailable(propWildcards, p.NoWildcards)
	e.unavailable(propSubscriptionIDs, p.NoSubscriptionIDs)
	e.unavailable(propShared, p.NoSharedSubscriptions)
	if p.HasServerKeepAlive {
		e.property16(propServerKeepAlive, p.ServerKeepAlive)
	}
	e.propertyString(propResponseInfo, "response information", p.ResponseInfo)
	e.propertyString(propServerReference, "server reference", p.ServerReference)
	if p.AuthData != nil && p.AuthMethod == "" {
		e.fail(protocolError("authentication data without method"))
	}
	e.propertyString(propAuthMethod, "authentication method", p.AuthMethod)
	e.propertyBytes(propAuthData, "authentication data", p.AuthData)
}

// unavailable says 0 for a feature that is missing; available is the default.
func (e *encoder) unavailable(id propertyID, missing bool) {
	if missing {
		e.property8(id, 0)
	}
}

package mqtt

const protocolName = "MQTT"

// Connect is the first packet of a client.
//
// An empty ClientID asks the server for one; in MQTT 3.1.1 only together with
// CleanStart. Session expiry 0 and topic alias maximum 0 mean the same as
// their absence.
type Connect struct {
	Version     Version // read from and written to the packet itself
	ClientID    string
	CleanStart  bool // 3.1.1: Clean Session
	KeepAlive   uint16
	Will        *Will
	HasUsername bool
	Username    string
	HasPassword bool
	Password    []byte

	SessionExpirySeconds uint32
	ReceiveMaximum       uint16 // 0: absent, meaning 65,535
	MaximumPacketSize    uint32 // 0: absent, meaning no limit
	TopicAliasMaximum    uint16
	RequestResponseInfo  bool
	NoProblemInfo        bool // Request Problem Information 0
	AuthMethod           string
	AuthData             []byte // nil: absent
	User                 []UserProperty
}

// The bits of the connect flags (3.1.2.3).
const (
	connectReserved   = 0x01
	connectCleanStart = 0x02
	connectWill       = 0x04
	connectWillRetain = 0x20
	connectPassword   = 0x40
	connectUsername   = 0x80
	connectWillBits   = 0x38 // QoS and retain
)

// Type returns TypeConnect.
func (p *Connect) Type() Type { return TypeConnect }

// Decode reads a CONNECT body; see Packet. Password, AuthData and the will's
// Payload and CorrelationData borrow body. The version argument is ignored.
//
// A protocol name other than "MQTT" and a level other than 4 and 5 are refused
// with UnsupportedProtocolVersion, and then p.Version is the level that was
// asked for, so that the server can answer a level below 5 with the return
// code of 3.1.1 [MQTT-3.1.2-1] [MQTT-3.1.2-2]. After every other error too
// p.Version is what was asked for, or 0 if the packet did not get so far.
func (p *Connect) Decode(h Header, body []byte, _ Version) error {
	*p = Connect{}
	c := start(h, body, TypeConnect, V5)
	name := c.bytes("protocol name")
	p.Version = Version(c.u8("protocol level"))
	if c.err == nil && (string(name) != protocolName || p.Version != V311 && p.Version != V5) {
		c.fail(&Error{UnsupportedProtocolVersion, "protocol name or level not known"})
	}
	flags := c.u8("connect flags")
	if c.err == nil {
		if err := checkConnectFlags(flags, p.Version); err != nil {
			c.fail(err)
		}
	}
	p.CleanStart = flags&connectCleanStart != 0
	p.KeepAlive = c.u16("keep alive")
	if p.Version == V5 {
		p.decodeProperties(&c)
	}
	p.decodePayload(&c, flags)
	return c.end()
}

func checkConnectFlags(flags byte, v Version) *Error {
	switch {
	case flags&connectReserved != 0: // [MQTT-3.1.2-3]
		return malformed("reserved connect flag")
	case flags&connectWill == 0 && flags&connectWillBits != 0: // [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-15 v3.1.1]
		return malformed("will QoS or retain without will")
	case flags>>3&3 == 3: // [MQTT-3.1.2-12] [MQTT-3.1.2-14 v3.1.1]
		return malformed("will QoS 3")
	case v == V311 && flags&connectPassword != 0 && flags&connectUsername == 0: // [MQTT-3.1.2-22 v3.1.1]
		return malformed("password without user name")
	}
	return nil
}

func (p *Connect) decodeProperties(c *cursor) {
	list := c.properties(inConnect)
	for id, ok := list.next(); ok; id, ok = list.next() {
		switch id {
		case propSessionExpiry:
			p.SessionExpirySeconds = list.u32("session expiry interval")
		case propReceiveMaximum:
			p.ReceiveMaximum = list.positive16("receive maximum")
		case propMaximumPacketSize:
			p.MaximumPacketSize = list.positive32("maximum packet size")
		case propTopicAliasMaximum:
			p.TopicAliasMaximum = list.u16("topic alias maximum")
		case propRequestResponseInfo:
			p.RequestResponseInfo = list.flag("request response information")
		case propRequestProblemInfo:
			p.NoProblemInfo = !list.flag("request problem information")
		case propAuthMethod:
			p.AuthMethod = list.authMethod()
		case propAuthData:
			p.AuthData = list.bytes("authentication data")
		case propUser:
			p.User = list.user(p.User)
		}
	}
	list.checkAuth()
	c.finish(&list)
}

// authMethod reads the name of a method; an empty one names none.
func (p *propertyList) authMethod() string {
	method := p.string("authentication method")
	if method == "" {
		p.fail(&Error{BadAuthenticationMethod, "authentication method empty"})
	}
	return method
}

// checkAuth refuses authentication data without a method (3.1.2.11.10).
func (p *propertyList) checkAuth() {
	if p.has(propAuthData) && !p.has(propAuthMethod) {
		p.fail(protocolError("authentication data without method"))
	}
}

// decodePayload reads the fields that flags announce, in the fixed order
// [MQTT-3.1.3-1].
func (p *Connect) decodePayload(c *cursor, flags byte) {
	p.ClientID = c.string("client identifier") // [MQTT-3.1.3-3] [MQTT-3.1.3-4]
	if c.err == nil && p.emptyIDRefused() {
		c.fail(&Error{ClientIdentifierNotValid, "empty client identifier without clean session"})
	}
	if flags&connectWill != 0 { // [MQTT-3.1.2-9]
		p.Will = &Will{QoS: QoS(flags >> 3 & 3), Retain: flags&connectWillRetain != 0}
		p.Will.decode(c, p.Version)
	}
	if p.HasUsername = flags&connectUsername != 0; p.HasUsername { // [MQTT-3.1.2-17] [MQTT-3.1.2-19 v3.1.1]
		p.Username = c.string("user name") // [MQTT-3.1.3-12] [MQTT-3.1.3-11 v3.1.1]
	}
	if p.HasPassword = flags&connectPassword != 0; p.HasPassword { // [MQTT-3.1.2-19] [MQTT-3.1.2-21 v3.1.1]
		p.Password = c.bytes("password")
	}
}

// emptyIDRefused is true for the one empty client identifier that the server
// cannot take [MQTT-3.1.3-8 v3.1.1] [MQTT-3.1.3-9 v3.1.1].
func (p *Connect) emptyIDRefused() bool {
	return p.ClientID == "" && p.Version == V311 && !p.CleanStart
}

// Append encodes p; see Packet. p.Version decides, and v only when it is 0.
func (p *Connect) Append(dst []byte, v Version) ([]byte, error) {
	if p.Version != 0 {
		v = p.Version
	}
	e := encoder{v: v}
	p.check(&e)
	p.body(&e)
	if e.begin(dst, TypeConnect, 0) {
		p.body(&e)
	}
	return e.result()
}

func (p *Connect) check(e *encoder) {
	switch {
	case e.v == V311 && p.HasPassword && !p.HasUsername: // [MQTT-3.1.2-22 v3.1.1]
		e.fail(malformed("password without user name"))
	case e.v == V311 && p.ClientID == "" && !p.CleanStart: // [MQTT-3.1.3-7 v3.1.1]
		e.fail(&Error{ClientIdentifierNotValid, "empty client identifier without clean session"})
	case p.AuthData != nil && p.AuthMethod == "":
		e.fail(protocolError("authentication data without method"))
	case !p.HasUsername && p.Username != "": // [MQTT-3.1.2-16] [MQTT-3.1.2-18 v3.1.1]
		e.fail(malformed("user name without HasUsername"))
	case !p.HasPassword && len(p.Password) != 0: // [MQTT-3.1.2-18] [MQTT-3.1.2-20 v3.1.1]
		e.fail(malformed("password without HasPassword"))
	}
}

func (p *Connect) flags() byte {
	var flags byte
	set := func(on bool, bit byte) {
		if on {
			flags |= bit
		}
	}
	set(p.CleanStart, connectCleanStart)
	set(p.HasUsername, connectUsername)
	set(p.HasPassword, connectPassword)
	if p.Will != nil {
		flags |= connectWill | byte(p.Will.QoS&3)<<3
		set(p.Will.Retain, connectWillRetain)
	}
	return flags
}

func (p *Connect) body(e *encoder) {
	e.string("protocol name", protocolName)
	e.u8(byte(e.v))
	e.u8(p.flags())
	e.u16(p.KeepAlive)
	e.openProperties()
	p.properties(e)
	e.closeProperties()
	e.string("client identifier", p.ClientID)
	if p.Will != nil {
		p.Will.body(e)
	}
	if p.HasUsername {
		e.string("user name", p.Username)
	}
	if p.HasPassword {
		e.bytes("password", p.Password)
	}
}

func (p *Connect) properties(e *encoder) {
	if p.SessionExpirySeconds != 0 {
		e.property32(propSessionExpiry, p.SessionExpirySeconds)
	}
	if p.ReceiveMaximum != 0 {
		e.property16(propReceiveMaximum, p.ReceiveMaximum)
	}
	if p.MaximumPacketSize != 0 {
		e.property32(propMaximumPacketSize, p.MaximumPacketSize)
	}
	if p.TopicAliasMaximum != 0 {
		e.property16(propTopicAliasMaximum, p.TopicAliasMaximum)
	}
	if p.RequestResponseInfo {
		e.property8(propRequestResponseInfo, 1)
	}
	if p.NoProblemInfo {
		e.property8(propRequestProblemInfo, 0)
	}
	e.propertyString(propAuthMethod, "authentication method", p.AuthMethod)
	e.propertyBytes(propAuthData, "authentication data", p.AuthData)
	e.user(p.User)
}

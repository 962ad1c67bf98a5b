package mqtt

// UserProperty is one name-value pair; both are valid UTF-8 without NUL.
type UserProperty struct{ Key, Value string }

// BorrowedProperty is a user property that borrows the packet's bytes.
type BorrowedProperty struct{ Key, Value []byte }

// Bounds on what one packet may repeat. They keep the memory of a decoded
// packet within a small multiple of its bytes. Packets beyond them are refused
// with QuotaExceeded, when decoding and when encoding.
const (
	MaxUserProperties  = 1024 // user properties in one property list
	MaxSubscriptionIDs = 1024 // subscription identifiers in one PUBLISH
	MaxFilters         = 1024 // filters in SUBSCRIBE and UNSUBSCRIBE, codes in their answers
)

// propertyID is a property's identifier. The standard makes it a variable byte
// integer; all that exist take one byte.
type propertyID byte

// The properties of MQTT 5.0 (2.2.2.2).
const (
	propPayloadFormat       propertyID = 0x01
	propMessageExpiry       propertyID = 0x02
	propContentType         propertyID = 0x03
	propResponseTopic       propertyID = 0x08
	propCorrelationData     propertyID = 0x09
	propSubscriptionID      propertyID = 0x0B
	propSessionExpiry       propertyID = 0x11
	propAssignedClientID    propertyID = 0x12
	propServerKeepAlive     propertyID = 0x13
	propAuthMethod          propertyID = 0x15
	propAuthData            propertyID = 0x16
	propRequestProblemInfo  propertyID = 0x17
	propWillDelay           propertyID = 0x18
	propRequestResponseInfo propertyID = 0x19
	propResponseInfo        propertyID = 0x1A
	propServerReference     propertyID = 0x1C
	propReasonString        propertyID = 0x1F
	propReceiveMaximum      propertyID = 0x21
	propTopicAliasMaximum   propertyID = 0x22
	propTopicAlias          propertyID = 0x23
	propMaximumQoS          propertyID = 0x24
	propRetainAvailable     propertyID = 0x25
	propUser                propertyID = 0x26
	propMaximumPacketSize   propertyID = 0x27
	propWildcards           propertyID = 0x28
	propSubscriptionIDs     propertyID = 0x29
	propShared              propertyID = 0x2A
)

const (
	inWill    typeSet = 1 // type 0 does not exist; its bit stands for the will
	inPublish typeSet = 1 << TypePublish
	inConnect typeSet = 1 << TypeConnect
	inSub     typeSet = 1 << TypeSubscribe
	inUnsubRq typeSet = 1 << TypeUnsubscribe
	inMessage         = inPublish | inWill
	inAnswers         = inConnack | inPubAck | inPubRel | inSuback | inUnsub | inDisc | inAuth
)

// allowed says which packets may carry a property; an unknown one is in none.
var allowed = [...]typeSet{
	propPayloadFormat:       inMessage,
	propMessageExpiry:       inMessage,
	propContentType:         inMessage,
	propResponseTopic:       inMessage,
	propCorrelationData:     inMessage,
	propSubscriptionID:      inPublish | inSub,
	propSessionExpiry:       inConnect | inConnack | inDisc,
	propAssignedClientID:    inConnack,
	propServerKeepAlive:     inConnack,
	propAuthMethod:          inConnect | inConnack | inAuth,
	propAuthData:            inConnect | inConnack | inAuth,
	propRequestProblemInfo:  inConnect,
	propWillDelay:           inWill,
	propRequestResponseInfo: inConnect,
	propResponseInfo:        inConnack,
	propServerReference:     inConnack | inDisc,
	propReasonString:        inAnswers,
	propReceiveMaximum:      inConnect | inConnack,
	propTopicAliasMaximum:   inConnect | inConnack,
	propTopicAlias:          inPublish,
	propMaximumQoS:          inConnack,
	propRetainAvailable:     inConnack,
	propUser:                inAnswers | inMessage | inConnect | inSub | inUnsubRq,
	propMaximumPacketSize:   inConnect | inConnack,
	propWildcards:           inConnack,
	propSubscriptionIDs:     inConnack,
	propShared:              inConnack,
}

// propertyList walks the properties of one list.
type propertyList struct {
	cursor
	where typeSet // the one packet it is in
	seen  uint64  // bit n: property n was there
	users int
}

// properties cuts a property list off the front of c. Give it back with
// finish when it has been walked.
func (c *cursor) properties(where typeSet) propertyList {
	n := c.varint("property length")
	if n > len(c.b) {
		c.short("properties")
		n = 0
	}
	list := propertyList{cursor: cursor{b: c.b[:n], err: c.err}, where: where}
	c.b = c.b[n:]
	return list
}

// finish takes over a list's failure.
func (c *cursor) finish(list *propertyList) {
	if list.err != nil {
		c.fail(list.err)
	}
}

// next reads the next identifier, and says false at the end and after a
// failure. Only user properties may repeat, and subscription identifiers in
// PUBLISH.
func (p *propertyList) next() (propertyID, bool) {
	if len(p.b) == 0 {
		return 0, false
	}
	id := propertyID(p.b[0])
	if int(id) >= len(allowed) || allowed[id]&p.where == 0 {
		// 2.2.2.2 makes both malformed: an identifier that does not exist, and
		// one that this packet may not carry.
		p.fail(malformed("property not allowed here"))
		return 0, false
	}
	p.b = p.b[1:]
	bit := uint64(1) << id
	if p.seen&bit != 0 && id != propUser && (id != propSubscriptionID || p.where != inPublish) {
		p.fail(protocolError("property given twice"))
		return 0, false
	}
	p.seen |= bit
	return id, true
}

func (p *propertyList) has(id propertyID) bool { return p.seen&(1<<id) != 0 }

// flag reads a byte that may only be 0 or 1.
func (p *propertyList) flag(what string) bool {
	v := p.u8(what)
	if v > 1 {
		p.fail(protocolError(what + ": neither 0 nor 1"))
	}
	return v == 1
}

// positive16 and positive32 read numbers for which zero is forbidden.
func (p *propertyList) positive16(what string) uint16 {
	v := p.u16(what)
	if v == 0 {
		p.fail(protocolError(what + ": zero"))
	}
	return v
}

func (p *propertyList) positive32(what string) uint32 {
	v := p.u32(what)
	if v == 0 {
		p.fail(protocolError(what + ": zero"))
	}
	return v
}

func (p *propertyList) subscriptionID() uint32 {
	v := p.varint("subscription identifier")
	if v == 0 { // also after a failure, which then stands
		p.fail(protocolError("subscription identifier: zero"))
	}
	return uint32(v)
}

// userPair reads a user property; both halves are text [MQTT-1.5.7-1].
func (p *propertyList) userPair() (key, value []byte) {
	key = p.text("user property name")
	value = p.text("user property value")
	if p.users++; p.users > MaxUserProperties {
		p.fail(&Error{QuotaExceeded, "too many user properties"})
	}
	return key, value
}

// user appends a copy of the next user property, in the order of the wire.
func (p *propertyList) user(list []UserProperty) []UserProperty {
	key, value := p.userPair()
	return append(list, UserProperty{string(key), string(value)})
}

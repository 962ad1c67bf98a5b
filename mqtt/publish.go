package mqtt

import (
	"encoding/binary"
	"slices"
)

// Publish carries an application message. It is the hot path: Decode borrows
// and does not allocate except to grow SubscriptionIDs and User, which it
// reuses.
//
// Whether Payload is UTF-8 as PayloadUTF8 says is not looked at: the payload is
// passed on as it came. Nor does the codec know who is speaking: that a client
// sends no SubscriptionIDs [MQTT-3.3.4-6] is for the server to see to.
type Publish struct {
	Topic    []byte // empty only with TopicAlias
	Payload  []byte
	PacketID uint16 // 0 exactly when QoS is 0
	QoS      QoS
	Dup      bool
	Retain   bool

	PayloadUTF8     bool // Payload Format Indicator 1
	HasExpiry       bool
	ExpirySeconds   uint32
	TopicAlias      uint16 // 0: absent
	ResponseTopic   []byte
	HasCorrelation  bool
	CorrelationData []byte
	SubscriptionIDs []uint32
	ContentType     []byte // nil: absent
	User            []BorrowedProperty
}

// Type returns TypePublish.
func (p *Publish) Type() Type { return TypePublish }

const (
	flagRetain = 0x01
	flagDup    = 0x08
)

func checkPublishFlags(flags byte) *Error {
	switch qos := flags >> 1 & 3; {
	case qos == 3: // [MQTT-3.3.1-4]
		return malformed("QoS 3")
	case qos == 0 && flags&flagDup != 0: // [MQTT-3.3.1-2]
		return malformed("DUP with QoS 0")
	}
	return nil
}

// Decode reads a PUBLISH body; see Packet. Everything in p borrows body.
func (p *Publish) Decode(h Header, body []byte, v Version) error {
	*p = Publish{SubscriptionIDs: p.SubscriptionIDs[:0], User: p.User[:0]}
	c := start(h, body, TypePublish, v)
	p.QoS = QoS(h.Flags >> 1 & 3)
	p.Dup = h.Flags&flagDup != 0
	p.Retain = h.Flags&flagRetain != 0
	p.Topic = c.bytes("topic")
	if len(p.Topic) != 0 {
		if err := checkTopic(p.Topic); err != nil { // [MQTT-3.3.2-1]
			c.fail(err)
		}
	}
	if p.QoS != 0 { // [MQTT-2.2.1-2] [MQTT-2.3.1-5 v3.1.1]
		p.PacketID = c.packetID()
	}
	if v == V5 {
		p.decodeProperties(&c)
	}
	if c.err == nil && len(p.Topic) == 0 && p.TopicAlias == 0 {
		c.fail(emptyTopic(v))
	}
	if c.err != nil {
		return c.err
	}
	p.Payload = c.b
	return nil
}

// emptyTopic is a protocol error where an alias could have stood (3.3.2.1).
func emptyTopic(v Version) *Error {
	if v == V5 {
		return protocolError("neither topic nor topic alias")
	}
	return &Error{TopicNameInvalid, "topic: empty"}
}

func (p *Publish) decodeProperties(c *cursor) {
	if c.err == nil && len(c.b) != 0 && c.b[0] == 0 {
		c.b = c.b[1:]
		return
	}
	list := c.properties(inPublish)
	for id, ok := list.next(); ok; id, ok = list.next() {
		switch id {
		case propPayloadFormat:
			p.PayloadUTF8 = list.flag("payload format indicator")
		case propMessageExpiry:
			p.HasExpiry = true
			p.ExpirySeconds = list.u32("message expiry interval")
		case propContentType: // [MQTT-3.3.2-19]
			p.ContentType = list.text("content type")
		case propResponseTopic: // [MQTT-3.3.2-13]
			p.ResponseTopic = list.responseTopic()
		case propCorrelationData:
			p.HasCorrelation = true
			p.CorrelationData = list.bytes("correlation data")
		case propSubscriptionID:
			p.SubscriptionIDs = append(p.SubscriptionIDs, list.subscriptionID())
			if len(p.SubscriptionIDs) > MaxSubscriptionIDs {
				list.fail(&Error{QuotaExceeded, "too many subscription identifiers"})
			}
		case propTopicAlias:
			if p.TopicAlias = list.u16("topic alias"); p.TopicAlias == 0 { // [MQTT-3.3.2-8]
				list.fail(&Error{TopicAliasInvalid, "topic alias 0"})
			}
		case propUser: // in the order of the wire [MQTT-3.3.2-18]
			key, value := list.userPair()
			p.User = append(p.User, BorrowedProperty{key, value})
		}
	}
	c.finish(&list)
}

func (p *propertyList) responseTopic() []byte {
	v := p.bytes("response topic")
	if p.err == nil {
		if err := checkResponseTopic(v); err != nil {
			p.fail(err)
		}
	}
	return v
}

// Append encodes p; see Packet. In MQTT 3.1.1 it refuses properties; to leave
// them out use a Template.
func (p *Publish) Append(dst []byte, v Version) ([]byte, error) {
	list := p.propertySize()
	if err := p.check(v, list); err != nil {
		return dst, err
	}
	size := 2 + len(p.Topic) + len(p.Payload)
	if p.QoS != 0 {
		size += 2
	}
	if v == V5 {
		size += varintSize(list) + list
	}
	if size > maxRemaining {
		return dst, &Error{PacketTooLarge, "packet longer than the protocol allows"}
	}
	dst = slices.Grow(dst, 1+varintSize(size)+size)
	dst = append(dst, byte(TypePublish)<<4|publishFlags(p.QoS, p.Dup, p.Retain))
	dst = appendVarint(dst, size)
	dst = appendText(dst, p.Topic)
	if p.QoS != 0 {
		dst = binary.BigEndian.AppendUint16(dst, p.PacketID)
	}
	if v == V5 {
		dst = appendVarint(dst, list)
		if list != 0 {
			dst = p.appendProperties(dst)
		}
	}
	return append(dst, p.Payload...), nil
}

func publishFlags(qos QoS, dup, retain bool) byte {
	flags := byte(qos) << 1
	if dup {
		flags |= flagDup
	}
	if retain {
		flags |= flagRetain
	}
	return flags
}

func appendText(dst, b []byte) []byte {
	dst = append(dst, byte(len(b)>>8), byte(len(b)))
	return append(dst, b...)
}

// check refuses what Decode would refuse; list is the size of the properties.
func (p *Publish) check(v Version, list int) *Error {
	switch {
	case v != V5 && v != V311:
		return &Error{UnsupportedProtocolVersion, "protocol version not known"}
	case p.QoS > 2: // [MQTT-3.3.1-4]
		return malformed("QoS above 2")
	case p.QoS == 0 && p.Dup: // [MQTT-3.3.1-2]
		return malformed("DUP with QoS 0")
	case (p.QoS == 0) != (p.PacketID == 0): // [MQTT-2.2.1-2]
		return protocolError("packet identifier 0 and QoS 0 go together")
	case v == V311 && list != 0:
		return protocolError("MQTT 3.1.1 has no properties")
	}
	if len(p.Topic) != 0 {
		if err := checkTopic(p.Topic); err != nil {
			return err
		}
	} else if p.TopicAlias == 0 {
		return emptyTopic(v)
	}
	if list != 0 {
		return p.checkProperties()
	}
	return nil
}

func (p *Publish) checkProperties() *Error {
	if p.ContentType != nil && (len(p.ContentType) > maxText || !validText(p.ContentType)) {
		return malformed("content type: too long or not UTF-8 without NUL")
	}
	if len(p.ResponseTopic) != 0 {
		if err := checkResponseTopic(p.ResponseTopic); err != nil {
			return err
		}
	}
	if len(p.CorrelationData) > maxText {
		return malformed("correlation data: longer than 65,535 bytes")
	}
	if err := checkSubscriptionIDs(p.SubscriptionIDs); err != nil {
		return err
	}
	if len(p.User) > MaxUserProperties {
		return &Error{QuotaExceeded, "too many user properties"}
	}
	for i := range p.User {
		u := &p.User[i]
		if max(len(u.Key), len(u.Value)) > maxText || !validText(u.Key) || !validText(u.Value) {
			return malformed("user property: too long or not UTF-8 without NUL")
		}
	}
	return nil
}

func checkSubscriptionIDs(ids []uint32) *Error {
	if len(ids) > MaxSubscriptionIDs {
		return &Error{QuotaExceeded, "too many subscription identifiers"}
	}
	for _, id := range ids {
		if id == 0 || id > maxRemaining {
			return protocolError("subscription identifier: zero or too large")
		}
	}
	return nil
}

// propertySize is the number of bytes that appendProperties writes.
func (p *Publish) propertySize() int {
	n := p.messageSize()
	if p.HasExpiry {
		n += 5
	}
	if p.TopicAlias != 0 {
		n += 3
	}
	for _, id := range p.SubscriptionIDs {
		n += 1 + varintSize(int(id))
	}
	return n
}

func (p *Publish) appendProperties(dst []byte) []byte {
	if p.HasExpiry {
		dst = appendExpiry(dst, p.ExpirySeconds)
	}
	if p.TopicAlias != 0 {
		dst = appendAlias(dst, p.TopicAlias)
	}
	for _, id := range p.SubscriptionIDs {
		dst = appendSubscriptionID(dst, id)
	}
	return p.appendMessage(dst)
}

func appendExpiry(dst []byte, seconds uint32) []byte {
	return append(dst, byte(propMessageExpiry), byte(seconds>>24), byte(seconds>>16), byte(seconds>>8), byte(seconds))
}

func appendAlias(dst []byte, alias uint16) []byte {
	return append(dst, byte(propTopicAlias), byte(alias>>8), byte(alias))
}

func appendSubscriptionID(dst []byte, id uint32) []byte {
	return appendVarint(append(dst, byte(propSubscriptionID)), int(id))
}

// messageSize and appendMessage are about the properties that are the same for
// every receiver of a message.
func (p *Publish) messageSize() int {
	n := 0
	if p.PayloadUTF8 {
		n += 2
	}
	if p.ContentType != nil {
		n += 3 + len(p.ContentType)
	}
	if len(p.ResponseTopic) != 0 {
		n += 3 + len(p.ResponseTopic)
	}
	if p.HasCorrelation {
		n += 3 + len(p.CorrelationData)
	}
	for i := range p.User {
		n += 5 + len(p.User[i].Key) + len(p.User[i].Value)
	}
	return n
}

func (p *Publish) appendMessage(dst []byte) []byte {
	if p.PayloadUTF8 {
		dst = append(dst, byte(propPayloadFormat), 1)
	}
	if p.ContentType != nil {
		dst = appendText(append(dst, byte(propContentType)), p.ContentType)
	}
	if len(p.ResponseTopic) != 0 {
		dst = appendText(append(dst, byte(propResponseTopic)), p.ResponseTopic)
	}
	if p.HasCorrelation {
		dst = appendText(append(dst, byte(propCorrelationData)), p.CorrelationData)
	}
	for i := range p.User { // in their order [MQTT-3.3.2-18]
		dst = appendText(append(dst, byte(propUser)), p.User[i].Key)
		dst = appendText(dst, p.User[i].Value)
	}
	return dst
}

// Clone returns a copy that owns all its bytes, in one block of memory, and
// shares nothing with p or the buffer that p borrows.
func (p *Publish) Clone() *Publish {
	q := *p
	n := len(p.Topic) + len(p.Payload) + len(p.ResponseTopic) + len(p.CorrelationData) + len(p.ContentType)
	for i := range p.User {
		n += len(p.User[i].Key) + len(p.User[i].Value)
	}
	block := make([]byte, 0, n)
	own := func(b []byte) []byte {
		if b == nil {
			return nil
		}
		from := len(block)
		block = append(block, b...)
		return block[from:len(block):len(block)]
	}
	q.Topic, q.Payload = own(p.Topic), own(p.Payload)
	q.ResponseTopic, q.CorrelationData, q.ContentType = own(p.ResponseTopic), own(p.CorrelationData), own(p.ContentType)
	q.SubscriptionIDs = slices.Clone(p.SubscriptionIDs)
	q.User = slices.Clone(p.User)
	for i := range q.User {
		q.User[i] = BorrowedProperty{own(q.User[i].Key), own(q.User[i].Value)}
	}
	return &q
}

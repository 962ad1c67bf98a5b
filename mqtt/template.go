package mqtt

import (
	"encoding/binary"
	"slices"
)

// Template is a message encoded once for all receivers of one version. Only
// what a server changes from receiver to receiver is written for each: see
// Copy. It owns its bytes and is immutable, so that many goroutines may use it
// at once and queues may keep it.
//
//	flags | length | topic | packet id | property length | expiry, alias, ids | properties | payload
//	 Copy             ^^^^^    Copy                           Copy              ^^^^^^^^^^^^^^^^^^^^
type Template struct {
	v       Version
	topic   []byte
	message []byte // the encoded properties that are not in Copy, then the payload
	list    int    // how many bytes of message are properties
}

// Copy is what differs between the copies of one message.
type Copy struct {
	PacketID uint16 // 0 exactly when QoS is 0
	QoS      QoS
	Dup      bool
	Retain   bool

	// What follows is left out for MQTT 3.1.1.

	HasExpiry       bool
	ExpirySeconds   uint32 // what remains of it [MQTT-3.3.2-6]
	TopicAlias      uint16 // 0: none
	OmitTopic       bool   // send the alias alone
	SubscriptionIDs []uint32
}

// NewTemplate encodes the topic, the payload and those properties of p that
// are not in Copy; the rest of p is ignored. For MQTT 3.1.1 all properties are
// left out. It refuses what Publish.Append would.
func NewTemplate(p *Publish, v Version) (*Template, error) {
	shared := Publish{Topic: p.Topic, Payload: p.Payload}
	if v == V5 {
		shared.PayloadUTF8 = p.PayloadUTF8
		shared.ResponseTopic = p.ResponseTopic
		shared.HasCorrelation = p.HasCorrelation
		shared.CorrelationData = p.CorrelationData
		shared.ContentType = p.ContentType
		shared.User = p.User
	}
	list := shared.messageSize()
	if err := shared.check(v, list); err != nil {
		return nil, err
	}
	block := make([]byte, 0, len(p.Topic)+list+len(p.Payload))
	block = append(block, p.Topic...)
	block = shared.appendMessage(block)
	block = append(block, p.Payload...)
	topic := block[:len(p.Topic):len(p.Topic)]
	return &Template{v: v, topic: topic, message: block[len(topic):], list: list}, nil
}

// Version is the version it is encoded for.
func (t *Template) Version() Version { return t.v }

// lengths returns the length of the property list and the remaining length.
func (t *Template) lengths(c *Copy) (list, body int) {
	body = 2 + len(t.message)
	if t.v != V5 || !c.OmitTopic {
		body += len(t.topic)
	}
	if c.QoS != 0 {
		body += 2
	}
	if t.v != V5 {
		return 0, body
	}
	own := 0
	if c.HasExpiry {
		own += 5
	}
	if c.TopicAlias != 0 {
		own += 3
	}
	for _, id := range c.SubscriptionIDs {
		own += 1 + varintSize(int(id))
	}
	list = t.list + own
	return list, body + own + varintSize(list)
}

// Size is the size of the packet that Append writes for c, to be held against
// the receiver's Maximum Packet Size [MQTT-3.1.2-24].
func (t *Template) Size(c Copy) int {
	_, body := t.lengths(&c)
	return 1 + varintSize(body) + body
}

// Append encodes the copy c at the end of dst, which grows at most once. It
// refuses, with dst unchanged, what Publish.Append would, and OmitTopic
// without an alias.
func (t *Template) Append(dst []byte, c Copy) ([]byte, error) {
	list, body := t.lengths(&c)
	if err := t.check(&c, body); err != nil {
		return dst, err
	}
	dst = slices.Grow(dst, 1+varintSize(body)+body)
	dst = append(dst, byte(TypePublish)<<4|publishFlags(c.QoS, c.Dup, c.Retain))
	dst = appendVarint(dst, body)
	if t.v == V5 && c.OmitTopic {
		dst = append(dst, 0, 0)
	} else {
		dst = appendText(dst, t.topic)
	}
	if c.QoS != 0 {
		dst = binary.BigEndian.AppendUint16(dst, c.PacketID)
	}
	if t.v == V5 {
		dst = appendVarint(dst, list)
		if c.HasExpiry {
			dst = appendExpiry(dst, c.ExpirySeconds)
		}
		if c.TopicAlias != 0 {
			dst = appendAlias(dst, c.TopicAlias)
		}
		for _, id := range c.SubscriptionIDs {
			dst = appendSubscriptionID(dst, id)
		}
	}
	return append(dst, t.message...), nil
}

func (t *Template) check(c *Copy, body int) *Error {
	switch {
	case c.QoS > 2: // [MQTT-3.3.1-4]
		return malformed("QoS above 2")
	case c.QoS == 0 && c.Dup: // [MQTT-3.3.1-2]
		return malformed("DUP with QoS 0")
	case (c.QoS == 0) != (c.PacketID == 0): // [MQTT-2.2.1-2]
		return protocolError("packet identifier 0 and QoS 0 go together")
	case t.v == V5 && c.OmitTopic && c.TopicAlias == 0:
		return emptyTopic(V5)
	case body > maxRemaining:
		return &Error{PacketTooLarge, "packet longer than the protocol allows"}
	}
	return checkSubscriptionIDs(c.SubscriptionIDs)
}

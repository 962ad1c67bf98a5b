package session

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// Property identifiers that are written here and not by the codec, because the
// properties of a forwarded message are encoded once for all its receivers
// (MQTT 5.0, 2.2.2.2).
const (
	propPayloadFormat   = 0x01
	propExpiry          = 0x02
	propContentType     = 0x03
	propResponseTopic   = 0x08
	propCorrelation     = 0x09
	propSubscriptionID  = 0x0B
	propTopicAlias      = 0x23
	propUser            = 0x26
	flagDup, flagRetain = 0x08, 0x01
)

// recyclable is the largest buffer, in bytes, that goes back to the pool.
const recyclable = 64 << 10

// overhead is what a queued message costs beside its bytes, for the limits.
const overhead = 64

// Message is one application message, stored once and shared by all who are to
// get it. It is immutable.
//
// It counts references: the maker holds the first one, Hold adds one, Release
// gives one back, and the memory is used again after the last. Whoever never
// releases only leaves the memory to the garbage collector.
type Message struct {
	Topic   string
	Payload []byte
	// Properties is the encoding, without length, of the MQTT 5 properties that
	// are forwarded unchanged and in order: payload format, content type,
	// response topic, correlation data and user properties.
	Properties []byte
	QoS        mqtt.QoS // as published
	Retain     bool     // as published
	HasExpiry  bool
	Expires    time.Time // when HasExpiry
	Publisher  string    // client id, for No Local
	Owner      string    // name of the publisher's identity

	refs atomic.Int32
	buf  []byte // payload and properties
}

var messages = sync.Pool{New: func() any { return new(Message) }}

// NewMessage copies p, published on topic at now, into a message with one
// reference. p.Topic is not looked at, since it may be an alias.
func NewMessage(p *mqtt.Publish, topic, publisher, owner string, now time.Time) *Message {
	m := messages.Get().(*Message)
	buf := append(m.buf[:0], p.Payload...)
	buf = appendForwarded(buf, p)
	m.Topic, m.Publisher, m.Owner = topic, publisher, owner
	m.QoS, m.Retain, m.HasExpiry = p.QoS, p.Retain, p.HasExpiry
	if p.HasExpiry {
		m.Expires = now.Add(time.Duration(p.ExpirySeconds) * time.Second)
	}
	n := len(p.Payload)
	m.buf, m.Payload, m.Properties = buf, buf[:n:n], buf[n:]
	m.refs.Store(1)
	return m
}

// WillMessage is the message that w asks to be published at now.
func WillMessage(w *mqtt.Will, publisher, owner string, now time.Time) *Message {
	p := mqtt.Publish{
		Payload: w.Payload, QoS: w.QoS, Retain: w.Retain, PayloadUTF8: w.PayloadUTF8, // [MQTT-3.1.2-14] [MQTT-3.1.2-15]
		HasExpiry: w.HasExpiry, ExpirySeconds: w.ExpirySeconds,
		ResponseTopic: []byte(w.ResponseTopic), CorrelationData: w.CorrelationData,
		HasCorrelation: w.CorrelationData != nil,
	}
	if w.ContentType != "" {
		p.ContentType = []byte(w.ContentType)
	}
	for _, u := range w.User { // their order is kept [MQTT-3.1.3-10]
		p.User = append(p.User, mqtt.BorrowedProperty{Key: []byte(u.Key), Value: []byte(u.Value)})
	}
	return NewMessage(&p, w.Topic, publisher, owner, now)
}

// Hold adds a reference and returns m.
func (m *Message) Hold() *Message {
	m.refs.Add(1)
	return m
}

// Release gives a reference back. m may not be used after it.
func (m *Message) Release() {
	switch n := m.refs.Add(-1); {
	case n > 0:
	case n < 0:
		panic("session: message released twice")
	case cap(m.buf) <= recyclable:
		m.Topic, m.Publisher, m.Owner, m.Payload, m.Properties = "", "", "", nil, nil
		messages.Put(m)
	}
}

// Size is what the message counts for in limits, in bytes.
func (m *Message) Size() int { return len(m.Topic) + len(m.buf) + overhead }

// Expired tells whether the message's time is over at now.
func (m *Message) Expired(now time.Time) bool { return m.HasExpiry && !now.Before(m.Expires) }

// appendForwarded writes the properties that a server forwards unaltered
// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20].
func appendForwarded(b []byte, p *mqtt.Publish) []byte {
	if p.PayloadUTF8 {
		b = append(b, propPayloadFormat, 1)
	}
	if p.ContentType != nil {
		b = appendBytes(append(b, propContentType), p.ContentType)
	}
	if len(p.ResponseTopic) > 0 {
		b = appendBytes(append(b, propResponseTopic), p.ResponseTopic)
	}
	if p.HasCorrelation {
		b = appendBytes(append(b, propCorrelation), p.CorrelationData)
	}
	for _, u := range p.User {
		b = appendBytes(append(b, propUser), u.Key)
		b = appendBytes(b, u.Value)
	}
	return b
}

func appendBytes[T string | []byte](b []byte, s T) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// frame is one PUBLISH to be written: what differs between the receivers of a
// message.
type frame struct {
	m       *Message
	version mqtt.Version
	qos     mqtt.QoS
	id      uint16
	dup     bool
	retain  bool
	alias   uint16 // 0: none
	bare    bool   // alias is known to the client: the topic is left out
	subs    []uint32
	expiry  uint32 // remaining seconds, when the message has one
	note    *Losses
	number  uint64 // told by NumberProperty; 0: not
}

// NumberProperty is the name of the user property by which a client of a Link that is
// Numbered is told the Seq of a message. It is the last, behind those of the publisher.
const NumberProperty = "wilco-number"

// numberDigits is how long a number is: always the same, so that a frame's size does
// not depend on it.
const numberDigits = 20

// sizes returns the length of the property block and of the whole body.
func (f *frame) sizes() (props, body int) {
	body = 2 + len(f.m.Payload)
	if !f.bare {
		body += len(f.m.Topic)
	}
	if f.qos > 0 {
		body += 2
	}
	if f.version != mqtt.V5 {
		return 0, body
	}
	props = len(f.m.Properties)
	if f.m.HasExpiry {
		props += 5
	}
	if f.alias != 0 {
		props += 3
	}
	for _, id := range f.subs {
		props += 1 + varLen(int(id))
	}
	if f.note != nil {
		props += f.note.size()
	}
	if f.number != 0 {
		props += 5 + len(NumberProperty) + numberDigits
	}
	return props, body + varLen(props) + props
}

// appendHead writes the frame up to its payload.
func (f *frame) appendHead(b []byte, props, body int) []byte {
	first := byte(mqtt.TypePublish)<<4 | byte(f.qos)<<1
	if f.dup {
		first |= flagDup
	}
	if f.retain {
		first |= flagRetain
	}
	b = appendVar(append(b, first), body)
	if f.bare {
		b = append(b, 0, 0)
	} else {
		b = appendBytes(b, f.m.Topic)
	}
	if f.qos > 0 {
		b = binary.BigEndian.AppendUint16(b, f.id)
	}
	if f.version != mqtt.V5 {
		return b
	}
	b = appendVar(b, props)
	if f.m.HasExpiry {
		b = binary.BigEndian.AppendUint32(append(b, propExpiry), f.expiry)
	}
	if f.alias != 0 {
		b = binary.BigEndian.AppendUint16(append(b, propTopicAlias), f.alias)
	}
	for _, id := range f.subs {
		b = appendVar(append(b, propSubscriptionID), int(id))
	}
	b = append(b, f.m.Properties...)
	if f.note != nil {
		b = f.note.append(b)
	}
	if f.number != 0 {
		b = appendBytes(append(b, propUser), NumberProperty)
		b = fmt.Appendf(append(b, 0, numberDigits), "%0*d", numberDigits, f.number)
	}
	return b
}

// varLen is the length of the variable byte integer n.
func varLen(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

func appendVar(b []byte, n int) []byte {
	for n >= 1<<7 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

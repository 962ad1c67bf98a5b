// Package flow is the protocol of an MQTT client without its network: what is
// sent when, which acknowledgement belongs to what, and what a new connection
// begins with.
//
//	Push ──▶ ┌──────────┐ ──▶ bytes: PUBLISH, PUBREL       ┌────────────┐
//	ack  ──▶ │  Sender  │ ──▶ outcomes, in order of Push   │ KeepAlive  │
//	Up/Down─▶└──────────┘ ──▶ changes for the store        └────────────┘
//	PUBLISH─▶┌──────────┐ ──▶ deliver or not
//	Ack  ──▶ │ Receiver │ ──▶ bytes: PUBACK, PUBREC, PUBCOMP
//	Up/Down─▶└──────────┘
//
// Everything here is pure: no goroutine, clock, network or log, and time comes
// in as an argument. Packets that answer are appended to the caller's buffer,
// so that their order in the buffer is their order on the wire. Nothing is safe
// for concurrent use; the client holds one mutex around both halves.
//
// Errors returned are *mqtt.Error: the server broke the protocol, and the code
// is what DISCONNECT must say.
package flow

import (
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// Message is an application message on its way out.
type Message struct {
	Topic           string
	Payload         []byte
	QoS             mqtt.QoS
	Retain          bool
	Expires         time.Time // zero: never
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte
	User            []mqtt.UserProperty
}

// Size is roughly what a message costs in memory and on the wire, in bytes.
func (m *Message) Size() int {
	n := 64 + len(m.Topic) + len(m.Payload) + len(m.ContentType) + len(m.ResponseTopic) + len(m.CorrelationData)
	for i := range m.User {
		n += len(m.User[i].Key) + len(m.User[i].Value)
	}
	return n
}

// Limits is what the server said in CONNACK that it can take.
type Limits struct {
	ReceiveMaximum    uint16
	MaximumPacketSize uint32 // 0: absent
	MaximumQoS        mqtt.QoS
	NoRetain          bool
}

// LimitsOf reads the limits out of a CONNACK.
func LimitsOf(p *mqtt.Connack) Limits {
	l := Limits{
		ReceiveMaximum:    p.ReceiveMaximum,
		MaximumPacketSize: p.MaximumPacketSize,
		MaximumQoS:        mqtt.ExactlyOnce,
		NoRetain:          p.NoRetain,
	}
	if l.ReceiveMaximum == 0 {
		l.ReceiveMaximum = 65535
	}
	if p.HasMaximumQoS {
		l.MaximumQoS = p.MaximumQoS
	}
	return l
}

// Verdict says why the client itself ended a message.
type Verdict uint8

// What may end a message without the server's word.
const (
	Answered  Verdict = iota // nothing: the server answered, or QoS 0 was written
	Expired                  // its expiry passed before it was ever sent
	TooLarge                 // above the server's Maximum Packet Size
	QoSDenied                // above the server's Maximum QoS
	NoRetain                 // retained, and the server has no retained messages
	LinkLost                 // QoS 0, and the connection ended before it was written
	Invalid                  // cannot be encoded; Err says why
)

// Outcome is how one message ended.
type Outcome struct {
	Seq     uint64
	Verdict Verdict
	Reason  mqtt.ReasonCode // of PUBACK, PUBREC or PUBCOMP
	Text    string          // Reason String of that packet
	Err     error           // only with Invalid
}

// Change is what a store of session state must note about one message.
type Change struct {
	Seq      uint64
	PacketID uint16
	Released bool // PUBREC has come
	Ended    bool // forget it
}

func protocolError(text string) error {
	return &mqtt.Error{Code: mqtt.ProtocolError, Text: text}
}

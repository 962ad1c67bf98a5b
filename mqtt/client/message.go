package client

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client/internal/flow"
)

// Message is an application message. What MQTT 3.1.1 cannot carry (Expiry and
// all below it) is left out there; Expiry still bounds how long the message may
// wait in the client.
type Message struct {
	Topic   string
	Payload []byte
	QoS     mqtt.QoS
	Retain  bool
	// Expiry is how long the message is worth delivering; 0 is for ever. It
	// travels in whole seconds, rounded up, less the time spent in the queue.
	Expiry          time.Duration
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte // nil: absent
	User            []mqtt.UserProperty
}

// outgoing fixes the expiry to a point in time. It borrows the slices.
func (m *Message) outgoing(now time.Time) flow.Message {
	f := flow.Message{
		Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain,
		ContentType: m.ContentType, ResponseTopic: m.ResponseTopic,
		CorrelationData: m.CorrelationData, User: m.User,
	}
	if m.Expiry > 0 {
		f.Expires = now.Add(min(m.Expiry, math.MaxUint32*time.Second)) // what MQTT can say; a Store counts in nanoseconds
	}
	return f
}

// Delivery is a received message. It owns its bytes: the receiver may keep and
// change them.
type Delivery struct {
	Message
	Dup             bool     // the server says that this may be a repetition
	SubscriptionIDs []uint32 // of the subscriptions that matched, if they had any

	client *Client
	ticket flow.Ticket
	epoch  uint64 // the connection it came by
	acked  bool   // guarded by the client's mutex
}

// size is what the delivery costs while it waits, in bytes.
func (d *Delivery) size() int {
	n := deliverySize + len(d.Topic) + len(d.Payload) + len(d.ContentType) + len(d.ResponseTopic) + len(d.CorrelationData)
	for i := range d.User {
		n += userSize + len(d.User[i].Key) + len(d.User[i].Value)
	}
	return n + 4*len(d.SubscriptionIDs)
}

// Ack says that the message is processed, and must be called for each delivery
// with QoS 1 or 2, or the server will stop sending when the Receive Maximum is
// reached. It may be called from any goroutine, in any order, during OnMessage
// or long after it; it does not block, and only the first call counts.
//
// The acknowledgements leave in the order in which the messages were received
// [MQTT-4.6.0-2]: an Ack out of turn waits for those before it. When the
// connection has changed since, the server sends a QoS 1 message again, and the
// old delivery's Ack does nothing. A QoS 2 message is not delivered again, and
// its Ack counts on the new connection.
func (d *Delivery) Ack() {
	if d.client != nil && d.QoS > mqtt.AtMostOnce {
		d.client.ack(d)
	}
}

// Result is how one published message ended. Err is nil exactly when the server
// has accepted the message (QoS 1 and 2) or it was written (QoS 0). Reason is
// what the server answered: Success, or NoMatchingSubscribers, or with Err a
// *ReasonError the code of the refusal.
type Result struct {
	Reason mqtt.ReasonCode
	Err    error
}

// The reasons why a message is not accepted or not delivered. Compare them with
// errors.Is.
var (
	ErrFull    = errors.New("the publish queue is full")
	ErrDown    = errors.New("not connected")
	ErrStopped = errors.New("the client is stopped")
	ErrExpired = errors.New("the message expired before it was sent")
	ErrSize    = errors.New("the message is larger than the server's Maximum Packet Size")
	ErrQoS     = errors.New("the QoS is higher than the server's Maximum QoS")
	ErrRetain  = errors.New("the server does not keep retained messages")
)

// ReasonError is a refusal said by the server.
type ReasonError struct {
	Packet mqtt.Type // the packet that carried it: CONNACK, PUBACK, SUBACK, DISCONNECT, ...
	Code   mqtt.ReasonCode
	Text   string // Reason String, if the server gave one; untrusted
}

// Error names the packet, the code and, quoted, the server's text.
func (e *ReasonError) Error() string {
	s := fmt.Sprintf("%s: %s", packetName(e.Packet), e.Code)
	if e.Text != "" {
		s += fmt.Sprintf(" (%.200q)", e.Text)
	}
	return s
}

// Permanent reports whether trying again is unlikely to help until somebody
// changes something: credentials, rights, client identifier, version, a ban, or
// a second client with the same identifier.
func (e *ReasonError) Permanent() bool {
	switch e.Code {
	case mqtt.UnsupportedProtocolVersion, mqtt.ClientIdentifierNotValid, mqtt.BadUserNameOrPassword,
		mqtt.NotAuthorized, mqtt.Banned, mqtt.BadAuthenticationMethod, mqtt.SessionTakenOver:
		return true
	}
	return false
}

func packetName(t mqtt.Type) string {
	names := [...]string{
		mqtt.TypeConnack: "connect refused", mqtt.TypePuback: "publish refused",
		mqtt.TypeSuback: "subscribe refused", mqtt.TypeUnsuback: "unsubscribe refused",
		mqtt.TypeDisconnect: "disconnected by the server",
	}
	if int(t) < len(names) && names[t] != "" {
		return names[t]
	}
	return "refused"
}

// resultOf puts an outcome of the core into the words of the API.
func resultOf(o *flow.Outcome) Result {
	switch o.Verdict {
	case flow.Expired:
		return Result{Err: ErrExpired}
	case flow.TooLarge:
		return Result{Reason: mqtt.PacketTooLarge, Err: ErrSize}
	case flow.QoSDenied:
		return Result{Reason: mqtt.QoSNotSupported, Err: ErrQoS}
	case flow.NoRetain:
		return Result{Reason: mqtt.RetainNotSupported, Err: ErrRetain}
	case flow.LinkLost:
		return Result{Err: ErrDown}
	case flow.Invalid:
		return Result{Err: fmt.Errorf("encode: %w", o.Err)}
	}
	if o.Reason.Failed() {
		return Result{o.Reason, &ReasonError{mqtt.TypePuback, o.Reason, o.Text}}
	}
	return Result{Reason: o.Reason}
}

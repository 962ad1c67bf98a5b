package mqtt

import "fmt"

// ReasonCode is the one-byte outcome that MQTT 5.0 puts into answers (2.4).
// Codes below 0x80 are successes, the others failures. One value may have
// several names: 0x00 is Success, NormalDisconnection and GrantedQoS0, by
// packet.
type ReasonCode byte

// The reason codes of MQTT 5.0, in the words of its table 2-6.
const (
	Success                             ReasonCode = 0x00
	NormalDisconnection                 ReasonCode = 0x00 // in DISCONNECT
	GrantedQoS0                         ReasonCode = 0x00 // in SUBACK
	GrantedQoS1                         ReasonCode = 0x01
	GrantedQoS2                         ReasonCode = 0x02
	DisconnectWithWillMessage           ReasonCode = 0x04
	NoMatchingSubscribers               ReasonCode = 0x10
	NoSubscriptionExisted               ReasonCode = 0x11
	ContinueAuthentication              ReasonCode = 0x18
	ReAuthenticate                      ReasonCode = 0x19
	UnspecifiedError                    ReasonCode = 0x80
	MalformedPacket                     ReasonCode = 0x81
	ProtocolError                       ReasonCode = 0x82
	ImplementationSpecificError         ReasonCode = 0x83
	UnsupportedProtocolVersion          ReasonCode = 0x84
	ClientIdentifierNotValid            ReasonCode = 0x85
	BadUserNameOrPassword               ReasonCode = 0x86
	NotAuthorized                       ReasonCode = 0x87
	ServerUnavailable                   ReasonCode = 0x88
	ServerBusy                          ReasonCode = 0x89
	Banned                              ReasonCode = 0x8A
	ServerShuttingDown                  ReasonCode = 0x8B
	BadAuthenticationMethod             ReasonCode = 0x8C
	KeepAliveTimeout                    ReasonCode = 0x8D
	SessionTakenOver                    ReasonCode = 0x8E
	TopicFilterInvalid                  ReasonCode = 0x8F
	TopicNameInvalid                    ReasonCode = 0x90
	PacketIdentifierInUse               ReasonCode = 0x91
	PacketIdentifierNotFound            ReasonCode = 0x92
	ReceiveMaximumExceeded              ReasonCode = 0x93
	TopicAliasInvalid                   ReasonCode = 0x94
	PacketTooLarge                      ReasonCode = 0x95
	MessageRateTooHigh                  ReasonCode = 0x96
	QuotaExceeded                       ReasonCode = 0x97
	AdministrativeAction                ReasonCode = 0x98
	PayloadFormatInvalid                ReasonCode = 0x99
	RetainNotSupported                  ReasonCode = 0x9A
	QoSNotSupported                     ReasonCode = 0x9B
	UseAnotherServer                    ReasonCode = 0x9C
	ServerMoved                         ReasonCode = 0x9D
	SharedSubscriptionsNotSupported     ReasonCode = 0x9E
	ConnectionRateExceeded              ReasonCode = 0x9F
	MaximumConnectTime                  ReasonCode = 0xA0
	SubscriptionIdentifiersNotSupported ReasonCode = 0xA1
	WildcardSubscriptionsNotSupported   ReasonCode = 0xA2
)

// typeSet is a set of packet types, bit n standing for type n.
type typeSet uint16

const (
	inConnack typeSet = 1 << TypeConnack
	inPubAck  typeSet = 1<<TypePuback | 1<<TypePubrec
	inPubRel  typeSet = 1<<TypePubrel | 1<<TypePubcomp
	inSuback  typeSet = 1 << TypeSuback
	inUnsub   typeSet = 1 << TypeUnsuback
	inDisc    typeSet = 1 << TypeDisconnect
	inAuth    typeSet = 1 << TypeAuth
)

// reasons is table 2-6 of MQTT 5.0: each code's name and the packets that list
// it. A code without a name does not exist.
var reasons = [256]struct {
	name string
	in   typeSet
}{
	Success:                             {"success", inConnack | inPubAck | inPubRel | inSuback | inUnsub | inDisc | inAuth},
	GrantedQoS1:                         {"granted QoS 1", inSuback},
	GrantedQoS2:                         {"granted QoS 2", inSuback},
	DisconnectWithWillMessage:           {"disconnect with will message", inDisc},
	NoMatchingSubscribers:               {"no matching subscribers", inPubAck},
	NoSubscriptionExisted:               {"no subscription existed", inUnsub},
	ContinueAuthentication:              {"continue authentication", inAuth},
	ReAuthenticate:                      {"re-authenticate", inAuth},
	UnspecifiedError:                    {"unspecified error", inConnack | inPubAck | inSuback | inUnsub | inDisc},
	MalformedPacket:                     {"malformed packet", inConnack | inDisc},
	ProtocolError:                       {"protocol error", inConnack | inDisc},
	ImplementationSpecificError:         {"implementation specific error", inConnack | inPubAck | inSuback | inUnsub | inDisc},
	UnsupportedProtocolVersion:          {"unsupported protocol version", inConnack},
	ClientIdentifierNotValid:            {"client identifier not valid", inConnack},
	BadUserNameOrPassword:               {"bad user name or password", inConnack},
	NotAuthorized:                       {"not authorized", inConnack | inPubAck | inSuback | inUnsub | inDisc},
	ServerUnavailable:                   {"server unavailable", inConnack},
	ServerBusy:                          {"server busy", inConnack | inDisc},
	Banned:                              {"banned", inConnack},
	ServerShuttingDown:                  {"server shutting down", inDisc},
	BadAuthenticationMethod:             {"bad authentication method", inConnack | inDisc},
	KeepAliveTimeout:                    {"keep alive timeout", inDisc},
	SessionTakenOver:                    {"session taken over", inDisc},
	TopicFilterInvalid:                  {"topic filter invalid", inSuback | inUnsub | inDisc},
	TopicNameInvalid:                    {"topic name invalid", inConnack | inPubAck | inDisc},
	PacketIdentifierInUse:               {"packet identifier in use", inPubAck | inSuback | inUnsub},
	PacketIdentifierNotFound:            {"packet identifier not found", inPubRel},
	ReceiveMaximumExceeded:              {"receive maximum exceeded", inDisc},
	TopicAliasInvalid:                   {"topic alias invalid", inDisc},
	PacketTooLarge:                      {"packet too large", inConnack | inDisc},
	MessageRateTooHigh:                  {"message rate too high", inDisc},
	QuotaExceeded:                       {"quota exceeded", inConnack | inPubAck | inSuback | inDisc},
	AdministrativeAction:                {"administrative action", inDisc},
	PayloadFormatInvalid:                {"payload format invalid", inConnack | inPubAck | inDisc},
	RetainNotSupported:                  {"retain not supported", inConnack | inDisc},
	QoSNotSupported:                     {"QoS not supported", inConnack | inDisc},
	UseAnotherServer:                    {"use another server", inConnack | inDisc},
	ServerMoved:                         {"server moved", inConnack | inDisc},
	SharedSubscriptionsNotSupported:     {"shared subscriptions not supported", inSuback | inDisc},
	ConnectionRateExceeded:              {"connection rate exceeded", inConnack | inDisc},
	MaximumConnectTime:                  {"maximum connect time", inDisc},
	SubscriptionIdentifiersNotSupported: {"subscription identifiers not supported", inSuback | inDisc},
	WildcardSubscriptionsNotSupported:   {"wildcard subscriptions not supported", inSuback | inDisc},
}

// String returns the standard's name for the code in lower case, or its
// number when there is none. 0x00 reads "success" in every packet.
func (c ReasonCode) String() string {
	if name := reasons[c].name; name != "" {
		return name
	}
	return fmt.Sprintf("reason 0x%02X", byte(c))
}

// Failed tells whether the code reports a failure (0x80 and above).
func (c ReasonCode) Failed() bool { return c >= 0x80 }

// ListedIn tells whether MQTT 5.0 allows the code in packets of type t. Codes
// that are listed for one direction only count as listed: the codec does not
// know who is speaking.
func (c ReasonCode) ListedIn(t Type) bool {
	return t <= TypeAuth && reasons[c].in&(1<<t) != 0
}

// ReturnCode311 maps the code to a CONNACK return code of MQTT 3.1.1. It says
// false where 3.1.1 has no fitting one: then the server closes without CONNACK
// [MQTT-3.2.2-6 v3.1.1].
func (c ReasonCode) ReturnCode311() (byte, bool) {
	switch c {
	case Success:
		return 0, true
	case UnsupportedProtocolVersion:
		return 1, true
	case ClientIdentifierNotValid:
		return 2, true
	case ServerUnavailable, ServerBusy, QuotaExceeded, UseAnotherServer, ServerMoved, ConnectionRateExceeded:
		return 3, true
	case BadUserNameOrPassword:
		return 4, true
	case NotAuthorized, Banned, BadAuthenticationMethod:
		return 5, true
	}
	return 0, false
}

// reasonOf311 is the reason code of a 3.1.1 CONNACK return code.
func reasonOf311(code byte) (ReasonCode, bool) {
	codes := [...]ReasonCode{
		Success, UnsupportedProtocolVersion, ClientIdentifierNotValid,
		ServerUnavailable, BadUserNameOrPassword, NotAuthorized,
	}
	if int(code) >= len(codes) {
		return 0, false
	}
	return codes[code], true
}

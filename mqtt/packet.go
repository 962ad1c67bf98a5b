package mqtt

// Version is the protocol level a connection speaks, as CONNECT carries it.
type Version byte

// The two protocol levels understood.
const (
	V311 Version = 4 // MQTT 3.1.1
	V5   Version = 5 // MQTT 5.0
)

// QoS is a delivery quality: 0 at most once, 1 at least once, 2 exactly once.
type QoS byte

// The three qualities of service.
const (
	AtMostOnce  QoS = 0
	AtLeastOnce QoS = 1
	ExactlyOnce QoS = 2
)

// Type is the control packet type, the upper four bits of a packet's first byte.
type Type byte

// The control packet types (MQTT 5.0, 2.1.2).
const (
	TypeConnect     Type = 1
	TypeConnack     Type = 2
	TypePublish     Type = 3
	TypePuback      Type = 4
	TypePubrec      Type = 5
	TypePubrel      Type = 6
	TypePubcomp     Type = 7
	TypeSubscribe   Type = 8
	TypeSuback      Type = 9
	TypeUnsubscribe Type = 10
	TypeUnsuback    Type = 11
	TypePingreq     Type = 12
	TypePingresp    Type = 13
	TypeDisconnect  Type = 14
	TypeAuth        Type = 15
)

var typeNames = [...]string{
	"reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE",
	"SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
}

// String returns the standard's name in capitals, "reserved" for type 0.
func (t Type) String() string { return typeNames[t&0x0F] }

// Header is a packet's fixed header: what it is, its four flag bits, and how
// many bytes of body follow.
type Header struct {
	Type   Type
	Flags  byte
	Length int
}

// Packet is one MQTT control packet.
//
// The zero value of an optional field means "property absent"; where zero is a
// legal value on the wire a HasX field stands beside it. An empty byte slice
// that is not nil is a property without content.
type Packet interface {
	// Type says which control packet this is.
	Type() Type
	// Append encodes the packet for v at the end of dst and returns the
	// longer slice. It refuses, with dst unchanged, what v cannot carry and
	// what Decode would refuse.
	Append(dst []byte, v Version) ([]byte, error)
	// Decode reads a packet body. Byte slices in the packet borrow body;
	// strings are copies. The packet may be reused: every field is set anew.
	// After an error the fields mean nothing.
	Decode(h Header, body []byte, v Version) error
}

// NewPacket returns a zero packet of type t to decode into, or nil if there is
// no such type.
func NewPacket(t Type) Packet {
	switch t {
	case TypeConnect:
		return new(Connect)
	case TypeConnack:
		return new(Connack)
	case TypePublish:
		return new(Publish)
	case TypePuback, TypePubrec, TypePubrel, TypePubcomp:
		return &Ack{Kind: t}
	case TypeSubscribe:
		return new(Subscribe)
	case TypeSuback:
		return new(Suback)
	case TypeUnsubscribe:
		return new(Unsubscribe)
	case TypeUnsuback:
		return new(Unsuback)
	case TypePingreq:
		return new(Pingreq)
	case TypePingresp:
		return new(Pingresp)
	case TypeDisconnect:
		return new(Disconnect)
	case TypeAuth:
		return new(Auth)
	}
	return nil
}

// DecodePacket decodes a packet of the type h says. The result borrows body.
// v is what the connection speaks; CONNECT brings its own and ignores v. Where
// the packet matters although it is refused, as an unsupported CONNECT does,
// it is returned beside the error.
func DecodePacket(h Header, body []byte, v Version) (Packet, error) {
	p := NewPacket(h.Type)
	if p == nil {
		return nil, malformed("packet type 0 is reserved")
	}
	return p, p.Decode(h, body, v)
}

// flagsOf is the value that the standard prescribes for the flag bits of each
// type; PUBLISH uses them.
func flagsOf(t Type) byte {
	switch t {
	case TypePubrel, TypeSubscribe, TypeUnsubscribe: // [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
		return 0b0010
	}
	return 0
}

// checkHeader refuses a type that does not exist and flag bits that are not as
// prescribed [MQTT-2.1.3-1] [MQTT-2.2.2-1 v3.1.1] [MQTT-2.2.2-2 v3.1.1].
func checkHeader(t Type, flags byte) *Error {
	if t == 0 || t > TypeAuth {
		return malformed("packet type 0 is reserved")
	}
	if t == TypePublish {
		return checkPublishFlags(flags)
	}
	if flags != flagsOf(t) { // [MQTT-3.14.1-1] [MQTT-3.15.1-1]
		return malformed("wrong flags for this packet type")
	}
	return nil
}

// start begins the decoding of a packet of type t.
func start(h Header, body []byte, t Type, v Version) cursor {
	c := cursor{b: body}
	switch {
	case h.Type != t:
		c.fail(malformed("header is of another packet type"))
	case v != V5 && v != V311:
		c.fail(&Error{UnsupportedProtocolVersion, "protocol version not known"})
	default:
		if err := checkHeader(t, h.Flags); err != nil {
			c.fail(err)
		}
	}
	return c
}

// reason reads a code that packets of type t list.
func (c *cursor) reason(t Type) ReasonCode {
	code := ReasonCode(c.u8("reason code"))
	if c.err == nil && !code.ListedIn(t) {
		c.fail(protocolError("reason code not listed for this packet"))
	}
	return code
}

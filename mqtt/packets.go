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
// legal value on the wire a HasX field stands beside it.
type Packet interface {
	// Type says which control packet this is.
	Type() Type
	// Append encodes the packet for v at the end of dst and returns the
	// longer slice. It refuses, with dst unchanged, what v cannot carry.
	Append(dst []byte, v Version) ([]byte, error)
	// Decode reads a packet body. Byte slices in the packet borrow body;
	// strings are copies. The packet may be reused: every field is set anew.
	Decode(h Header, body []byte, v Version) error
}

// UserProperty is one name-value pair; both are valid UTF-8 without NUL.
type UserProperty struct{ Key, Value string }

// Will is the message the server publishes when its client is gone.
type Will struct {
	Topic           string
	Payload         []byte
	QoS             QoS
	Retain          bool
	DelaySeconds    uint32
	PayloadUTF8     bool // Payload Format Indicator 1
	HasExpiry       bool
	ExpirySeconds   uint32
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte
	User            []UserProperty
}

// Connect is the first packet of a client.
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
	AuthData             []byte
	User                 []UserProperty
}

// Connack is the server's answer to Connect.
type Connack struct {
	SessionPresent bool
	Reason         ReasonCode // 3.1.1 return codes are mapped to and from MQTT 5 codes

	HasSessionExpiry      bool
	SessionExpirySeconds  uint32
	ReceiveMaximum        uint16 // 0: absent, meaning 65,535
	HasMaximumQoS         bool
	MaximumQoS            QoS
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
	AuthData              []byte
	ReasonString          string
	User                  []UserProperty
}

// Publish carries an application message. It is the hot path: Decode borrows
// and does not allocate except to grow SubscriptionIDs and User, which it
// reuses.
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
	ContentType     []byte
	User            []BorrowedProperty
}

// BorrowedProperty is a user property that borrows the packet's bytes.
type BorrowedProperty struct{ Key, Value []byte }

// Ack is PUBACK, PUBREC, PUBREL or PUBCOMP: they share one shape.
type Ack struct {
	Kind         Type // one of TypePuback, TypePubrec, TypePubrel, TypePubcomp
	PacketID     uint16
	Reason       ReasonCode
	ReasonString string
	User         []UserProperty
}

// Subscription is one filter of a SUBSCRIBE with its options.
type Subscription struct {
	Filter            string
	QoS               QoS
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0 send, 1 send if new, 2 do not send
}

// Subscribe asks for messages.
type Subscribe struct {
	PacketID       uint16
	SubscriptionID uint32 // 0: absent
	Subscriptions  []Subscription
	User           []UserProperty
}

// Suback answers Subscribe, one code for each filter, in their order.
type Suback struct {
	PacketID     uint16
	Reasons      []ReasonCode
	ReasonString string
	User         []UserProperty
}

// Unsubscribe ends subscriptions.
type Unsubscribe struct {
	PacketID uint16
	Filters  []string
	User     []UserProperty
}

// Unsuback answers Unsubscribe; Reasons is empty in MQTT 3.1.1.
type Unsuback struct {
	PacketID     uint16
	Reasons      []ReasonCode
	ReasonString string
	User         []UserProperty
}

// Pingreq asks for a sign of life.
type Pingreq struct{}

// Pingresp gives it.
type Pingresp struct{}

// Disconnect ends a connection in good order, or says why it ends.
type Disconnect struct {
	Reason               ReasonCode
	HasSessionExpiry     bool
	SessionExpirySeconds uint32
	ServerReference      string
	ReasonString         string
	User                 []UserProperty
}

// Auth is a step of an enhanced authentication (MQTT 5 only).
type Auth struct {
	Reason       ReasonCode
	Method       string
	Data         []byte
	ReasonString string
	User         []UserProperty
}

package sparkplug

import (
	"strings"
	"unicode/utf8"
)

// Namespace is the first level of every topic [tck-id-topic-structure-namespace-a].
const Namespace = "spBv1.0"

// MessageType is the kind of a message, as its topic names it.
type MessageType uint8

// The message types. Those that begin with N are of an edge node, those with D
// of a device behind one, and State is of a host application.
const (
	NBirth MessageType = iota + 1
	NDeath
	DBirth
	DDeath
	NData
	DData
	NCmd
	DCmd
	State
)

var typeNames = [...]string{
	NBirth: "NBIRTH", NDeath: "NDEATH", DBirth: "DBIRTH", DDeath: "DDEATH", NData: "NDATA", DData: "DDATA",
	NCmd: "NCMD", DCmd: "DCMD", State: "STATE",
}

// String returns the topic level of t; "" when t is no message type.
func (t MessageType) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return ""
}

// OfDevice tells whether topics of t have a device level
// [tck-id-topic-structure-namespace-device-id-associated-message-types]
// [tck-id-topic-structure-namespace-device-id-non-associated-message-types].
func (t MessageType) OfDevice() bool { return t == DBirth || t == DDeath || t == DData || t == DCmd }

// Sequenced tells whether messages of t take part in the numbering of their
// edge node [tck-id-payloads-sequence-num-always-included].
func (t MessageType) Sequenced() bool {
	return t == NBirth || t == DBirth || t == NData || t == DData || t == DDeath
}

// QoS is what messages of t are published with: 1 for NDEATH, which is a Will,
// and for STATE; 0 for the rest.
//
// [tck-id-topics-nbirth-mqtt] [tck-id-topics-ndata-mqtt] [tck-id-topics-ncmd-mqtt]
// [tck-id-topics-dbirth-mqtt] [tck-id-topics-ddata-mqtt] [tck-id-topics-dcmd-mqtt]
// [tck-id-topics-ddeath-mqtt] [tck-id-payloads-ndeath-will-message-qos]
// [tck-id-host-topic-phid-birth-qos] [tck-id-host-topic-phid-death-qos]
// [tck-id-payloads-nbirth-qos] [tck-id-payloads-dbirth-qos] [tck-id-payloads-ndata-qos]
// [tck-id-payloads-ddata-qos] [tck-id-payloads-ncmd-qos] [tck-id-payloads-dcmd-qos]
// [tck-id-payloads-state-will-message-qos]
func (t MessageType) QoS() byte {
	if t == NDeath || t == State {
		return 1
	}
	return 0
}

// Retain tells whether messages of t are retained: STATE only.
//
// [tck-id-payloads-nbirth-retain] [tck-id-payloads-dbirth-retain] [tck-id-payloads-ndata-retain]
// [tck-id-payloads-ddata-retain] [tck-id-payloads-ncmd-retain] [tck-id-payloads-dcmd-retain]
// [tck-id-payloads-ndeath-will-message-retain] [tck-id-host-topic-phid-birth-retain]
// [tck-id-host-topic-phid-death-retain] [tck-id-payloads-state-will-message-retain]
func (t MessageType) Retain() bool { return t == State }

// Topic is a topic of Sparkplug. Host and Legacy are of a State, the rest of
// the other types; Device is empty for messages of an edge node.
type Topic struct {
	Type   MessageType
	Group  string
	Node   string
	Device string // unique within the node only [tck-id-topic-structure-namespace-duplicate-device-id-across-edge-node]
	Host   string
	Legacy bool // STATE/{host}, as in Sparkplug 2.2
}

// maxTopic is the largest topic of MQTT.
const maxTopic = 65535

// ParseTopic reads a topic, [tck-id-topic-structure]:
//
//	spBv1.0/{group}/{type}/{node}
//	spBv1.0/{group}/{type}/{node}/{device}
//	spBv1.0/STATE/{host}
//	STATE/{host}                            Sparkplug 2.2: Legacy
//
// A group may be called STATE; the number of levels tells. The parts are those
// of s; nothing is allocated but errors: ForeignTopic for what is outside of
// the namespace, BadTopic and BadName.
func ParseTopic(s string) (Topic, error) {
	if host, ok := strings.CutPrefix(s, "STATE/"); ok {
		if strings.Contains(host, "/") {
			return Topic{}, &Error{ForeignTopic, "STATE/ and more than one level"}
		}
		t := Topic{Type: State, Host: host, Legacy: true}
		return t, t.Check()
	}
	rest, ok := strings.CutPrefix(s, Namespace+"/")
	if !ok {
		return Topic{}, &Error{ForeignTopic, "not in the namespace " + Namespace}
	}
	group, rest, _ := strings.Cut(rest, "/")
	name, rest, more := strings.Cut(rest, "/")
	if !more {
		if group != "STATE" {
			return Topic{}, &Error{BadTopic, "too few levels"}
		}
		t := Topic{Type: State, Host: name}
		return t, t.Check()
	}
	node, device, ofDevice := strings.Cut(rest, "/")
	t := Topic{Type: parseType(name), Group: group, Node: node, Device: device}
	switch {
	case t.Type == 0 || t.Type == State:
		return Topic{}, &Error{BadTopic, "no message type in the third level"}
	case ofDevice && !t.Type.OfDevice():
		return Topic{}, &Error{BadTopic, name + " with a device"}
	case !ofDevice && t.Type.OfDevice():
		return Topic{}, &Error{BadTopic, name + " without a device"}
	case strings.Contains(device, "/"):
		return Topic{}, &Error{BadTopic, "too many levels"}
	}
	return t, t.Check()
}

func parseType(name string) MessageType {
	for t, n := range typeNames {
		if n == name && n != "" {
			return MessageType(t)
		}
	}
	return 0
}

// ValidID tells whether s may be a Group, Edge Node, Device or Host ID: one
// level of a topic, not empty, UTF-8 without NUL, +, / and #. The error is of
// Code BadName.
//
// [tck-id-topic-structure-namespace-valid-group-id]
// [tck-id-topic-structure-namespace-valid-edge-node-id]
// [tck-id-topic-structure-namespace-valid-device-id]
// [tck-id-intro-group-id-string] [tck-id-intro-group-id-chars]
// [tck-id-intro-edge-node-id-string] [tck-id-intro-edge-node-id-chars]
// [tck-id-intro-device-id-string] [tck-id-intro-device-id-chars]
func ValidID(s string) error {
	if s == "" {
		return &Error{BadName, "empty"}
	}
	ascii := true
	for i := range len(s) {
		switch c := s[i]; {
		case c == '+' || c == '/' || c == '#' || c == 0:
			return &Error{BadName, "has one of + / # NUL"}
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	if !ascii && !utf8.ValidString(s) {
		return &Error{BadName, "not UTF-8"}
	}
	return nil
}

// Check tells whether t can be written: its type is one, it has the identifiers
// of its type and no others, they are valid, and all of it is no longer than a
// topic may be. The errors are of Code BadTopic and BadName.
func (t Topic) Check() error {
	if t.Type == 0 || t.Type > State {
		return &Error{BadTopic, "no message type"}
	}
	ids, none := [3]string{t.Group, t.Node, t.Device}, [3]string{t.Host}
	used := 3
	switch {
	case t.Type == State:
		ids, none, used = [3]string{t.Host}, ids, 1
	case !t.Type.OfDevice():
		ids, none, used = [3]string{t.Group, t.Node}, [3]string{t.Host, t.Device}, 2
	}
	if none != [3]string{} || t.Legacy && t.Type != State {
		return &Error{BadTopic, "an identifier that " + t.Type.String() + " does not have"}
	}
	length := len(Namespace) + 1 + len(t.Type.String())
	if t.Legacy {
		length = len("STATE")
	}
	for _, id := range ids[:used] {
		if err := ValidID(id); err != nil {
			return err
		}
		length += 1 + len(id)
	}
	if length > maxTopic {
		return &Error{BadTopic, "longer than 65,535 bytes"}
	}
	return nil
}

// Append appends t to dst, which is as it was when Check has an error.
func (t Topic) Append(dst []byte) ([]byte, error) {
	if err := t.Check(); err != nil {
		return dst, err
	}
	return append(dst, t.String()...), nil
}

// String returns the topic, and for a Topic that Check refuses something to
// read in a log.
func (t Topic) String() string {
	switch {
	case t.Type == State && t.Legacy:
		return "STATE/" + t.Host
	case t.Type == State:
		// [tck-id-host-topic-phid-birth-topic] [tck-id-host-topic-phid-death-topic]
		return Namespace + "/STATE/" + t.Host
	case t.Type.OfDevice():
		// [tck-id-topics-dbirth-topic] [tck-id-topics-ddata-topic] [tck-id-topics-ddeath-topic] [tck-id-topics-dcmd-topic]
		return Namespace + "/" + t.Group + "/" + t.Type.String() + "/" + t.Node + "/" + t.Device
	}
	// [tck-id-topics-nbirth-topic] [tck-id-topics-ndata-topic] [tck-id-topics-ndeath-topic] [tck-id-topics-ncmd-topic]
	return Namespace + "/" + t.Group + "/" + t.Type.String() + "/" + t.Node
}

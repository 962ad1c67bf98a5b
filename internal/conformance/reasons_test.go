package conformance

// Reasons that several statements share.
const (
	noText  = "The property is never sent."
	noAlias = "The client library sends no aliases."
	allQoS  = "QoS 2 is supported."
	oneCopy = "A client gets one copy of a message, however many of its filters match."
)

// reasons say why a statement has no code, or no test.
var reasons = map[string]string{
	"MQTT-3.1.2-29": "Reason strings and user properties of the server's own are never sent.",
	"MQTT-3.2.2-9":  allQoS,
	"MQTT-3.2.2-10": allQoS,
	"MQTT-3.2.2-12": allQoS,
	"MQTT-3.2.2-13": "Retained messages are supported. Where Options.RefuseRetained forbids them, 0x9A is the answer all the same.",
	"MQTT-3.2.2-17": noAlias,
	"MQTT-3.2.2-18": noAlias,
	"MQTT-3.3.2-9":  noAlias,
	"MQTT-3.3.2-10": "The client library offers no aliases.",
	"MQTT-3.3.4-5":  oneCopy,
	"MQTT-3.2.2-19": noText, "MQTT-3.2.2-20": noText,
	"MQTT-3.4.2-2": noText, "MQTT-3.4.2-3": noText,
	"MQTT-3.5.2-2": noText, "MQTT-3.5.2-3": noText,
	"MQTT-3.6.2-2": noText, "MQTT-3.6.2-3": noText,
	"MQTT-3.7.2-2": noText, "MQTT-3.7.2-3": noText,
	"MQTT-3.9.2-1": noText, "MQTT-3.9.2-2": noText,
	"MQTT-3.11.2-1": noText, "MQTT-3.11.2-2": noText,
	"MQTT-3.14.2-3": noText, "MQTT-3.14.2-4": noText,
	"MQTT-3.15.2-2": noText, "MQTT-3.15.2-3": noText,

	"MQTT-3.8.3-2 v3.1.1": "Wildcards are supported.",
	"MQTT-7.0.0-1 v3.1.1": "The broker opens no connections of its own.",
	"MQTT-7.0.0-2 v3.1.1": "Nothing beyond the standard is asked of a peer; that other clients and brokers work with ours is tested in internal/interop.",
}

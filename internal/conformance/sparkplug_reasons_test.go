package conformance

// Reasons that several requirements share.
const (
	notAware  = "The broker does not claim to be Sparkplug aware, and no host of ours needs one."
	others    = "The operator's to see to: a node cannot know of others. The host raises `DuplicateNode` (`sparkplug/host/host_test.go` TestDuplicateNode)."
	theirName = "Names are the user's; those that differ by case only are different names everywhere."
	ofMQTT    = "The broker obeys it as a part of MQTT: [conformance.md](conformance.md)."
)

// sparkplugReasons say why a requirement has no code, or no test.
var sparkplugReasons = map[string]string{
	"tck-id-intro-edge-node-id-uniqueness":                                                others,
	"tck-id-topic-structure-namespace-unique-edge-node-descriptor":                        others,
	"tck-id-payloads-nbirth-edge-node-descriptor":                                         others,
	"tck-id-case-sensitivity-sparkplug-ids":                                               theirName,
	"tck-id-case-sensitivity-metric-names":                                                theirName,
	"tck-id-host-topic-phid-death-payload-timestamp-disconnect-with-no-disconnect-packet": "The host never ends a connection without DISCONNECT; when the network does, the Will speaks.",
	"tck-id-conformance-mqtt-qos0":                                                        ofMQTT,
	"tck-id-conformance-mqtt-qos1":                                                        ofMQTT,
	"tck-id-conformance-mqtt-will-messages":                                               ofMQTT,
	"tck-id-conformance-mqtt-retained":                                                    ofMQTT,
	"tck-id-conformance-mqtt-aware-basic":                                                 notAware,
	"tck-id-conformance-mqtt-aware-store":                                                 notAware,
	"tck-id-conformance-mqtt-aware-nbirth-mqtt-topic":                                     notAware,
	"tck-id-conformance-mqtt-aware-nbirth-mqtt-retain":                                    notAware,
	"tck-id-conformance-mqtt-aware-dbirth-mqtt-topic":                                     notAware,
	"tck-id-conformance-mqtt-aware-dbirth-mqtt-retain":                                    notAware,
	"tck-id-conformance-mqtt-aware-ndeath-timestamp":                                      notAware,
}

// sparkplugRepeats are requirements that another one has made already; both
// without their tck-id-.
var sparkplugRepeats = map[string]string{
	"intro-sparkplug-host-state":                                     "host-topic-phid-birth-message",
	"components-ph-state":                                            "host-topic-phid-birth-message",
	"conformance-primary-host":                                       "host-topic-phid-birth-message",
	"payloads-state-birth":                                           "host-topic-phid-birth-message",
	"message-flow-phid-sparkplug-state-publish":                      "host-topic-phid-birth-required",
	"message-flow-phid-sparkplug-state-publish-payload":              "host-topic-phid-birth-payload",
	"message-flow-phid-sparkplug-state-publish-payload-timestamp":    "host-topic-phid-birth-payload-timestamp",
	"operational-behavior-host-application-connect-will-topic":       "host-topic-phid-death-topic",
	"operational-behavior-host-application-connect-will-qos":         "host-topic-phid-death-qos",
	"operational-behavior-host-application-connect-will-retained":    "host-topic-phid-death-retain",
	"operational-behavior-host-application-connect-birth-topic":      "host-topic-phid-birth-topic",
	"operational-behavior-host-application-connect-birth-payload":    "host-topic-phid-birth-payload-timestamp",
	"operational-behavior-host-application-connect-birth-qos":        "host-topic-phid-birth-qos",
	"operational-behavior-host-application-connect-birth-retained":   "host-topic-phid-birth-retain",
	"operational-behavior-host-application-death-topic":              "host-topic-phid-death-topic",
	"operational-behavior-host-application-death-payload":            "host-topic-phid-death-payload",
	"operational-behavior-host-application-death-qos":                "host-topic-phid-death-qos",
	"operational-behavior-host-application-death-retained":           "host-topic-phid-death-retain",
	"message-flow-edge-node-birth-publish-nbirth-topic":              "topics-nbirth-topic",
	"message-flow-edge-node-birth-publish-nbirth-qos":                "payloads-nbirth-qos",
	"message-flow-edge-node-birth-publish-nbirth-retained":           "payloads-nbirth-retain",
	"message-flow-edge-node-birth-publish-nbirth-payload-seq":        "topics-nbirth-seq-num",
	"message-flow-device-birth-publish-dbirth-topic":                 "topics-dbirth-topic",
	"message-flow-device-birth-publish-dbirth-match-edge-node-topic": "topics-dbirth-topic",
	"message-flow-device-birth-publish-dbirth-qos":                   "payloads-dbirth-qos",
	"message-flow-device-birth-publish-dbirth-retained":              "payloads-dbirth-retain",
	"message-flow-device-birth-publish-dbirth-payload-seq":           "topics-dbirth-seq",
	"operational-behavior-data-publish-nbirth-change":                "principles-rbe-recommended",
	"operational-behavior-data-publish-dbirth-change":                "principles-rbe-recommended",
	"operational-behavior-data-commands-rebirth-name":                "topics-nbirth-rebirth-metric",
	"operational-behavior-data-commands-rebirth-datatype":            "topics-nbirth-rebirth-metric",
	"operational-behavior-data-commands-ncmd-rebirth-verb":           "operational-behavior-data-commands-ncmd-rebirth-value",
	"operational-behavior-data-commands-ncmd-rebirth-name":           "operational-behavior-data-commands-ncmd-rebirth-value",
	"payloads-template-definition-parameters-default":                "payloads-template-definition-parameters",
	"payloads-dbirth-seq-inc":                                        "topics-dbirth-seq",
	"payloads-ndata-seq-inc":                                         "topics-ndata-seq-num",
	"payloads-ddata-seq-inc":                                         "topics-ddata-seq-num",
	"payloads-ddeath-seq-number":                                     "topics-ddeath-seq-num",
	"payloads-ndeath-will-message-publisher":                         "operational-behavior-edge-node-intentional-disconnect-ndeath",
}

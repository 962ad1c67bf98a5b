package sparkplug

// Message is what is published, or given to CONNECT as its Will.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
}

// The metrics that the specification gives a meaning to.
const (
	MetricBdSeq      = "bdSeq"
	MetricRebirth    = "Node Control/Rebirth"     // Boolean: publish all births again
	MetricReboot     = "Node Control/Reboot"      // Boolean
	MetricNextServer = "Node Control/Next Server" // Boolean: go to the next MQTT server
	MetricScanRate   = "Node Control/Scan Rate"   // Int64, milliseconds
)

// StateMessage is STATE of a host application: online its birth, and offline
// its Will, and what it publishes before it leaves. The Will of a CONNECT and
// the birth after it have the same timestamp, that of the CONNECT
// [tck-id-payloads-state-birth-payload]. BadName when host cannot be in a topic.
//
// [tck-id-payloads-state-will-message] [tck-id-host-topic-phid-birth-message]
func StateMessage(host string, s HostState) (Message, error) {
	t := Topic{Type: State, Host: host, Legacy: s.Legacy}
	if err := t.Check(); err != nil {
		return Message{}, err
	}
	return Message{Topic: t.String(), Payload: s.Append(nil), QoS: State.QoS(), Retain: State.Retain()}, nil
}

// NodeDeath is the NDEATH of an edge node: the Will of its CONNECT, and what it
// publishes itself before it leaves. It has the bdSeq of the births of that
// connection and nothing else: no sequence number. timestamp is that of the
// CONNECT in milliseconds. BadName when group or node cannot be in a topic.
//
// [tck-id-payloads-ndeath-will-message] [tck-id-topics-ndeath-payload] [tck-id-topics-ndeath-seq]
// [tck-id-payloads-ndeath-seq] [tck-id-message-flow-edge-node-birth-publish-will-message-topic]
// [tck-id-message-flow-edge-node-birth-publish-will-message-payload]
// [tck-id-message-flow-edge-node-birth-publish-will-message-payload-bdSeq]
// [tck-id-message-flow-edge-node-birth-publish-will-message-qos]
// [tck-id-message-flow-edge-node-birth-publish-will-message-will-retained]
func NodeDeath(group, node string, bdSeq uint8, timestamp uint64) (Message, error) {
	t := Topic{Type: NDeath, Group: group, Node: node}
	if err := t.Check(); err != nil {
		return Message{}, err
	}
	p := Payload{Timestamp: timestamp, HasTimestamp: true, Metrics: []Metric{BdSeqMetric(bdSeq, timestamp)}}
	return Message{Topic: t.String(), Payload: p.Append(nil), QoS: NDeath.QoS(), Retain: NDeath.Retain()}, nil
}

// BdSeqMetric is the metric that ties NBIRTH and NDEATH together
// [tck-id-topics-nbirth-bdseq-included], an Int64
// [tck-id-message-flow-edge-node-birth-publish-nbirth-payload-bdSeq].
func BdSeqMetric(bdSeq uint8, timestamp uint64) Metric {
	return Metric{
		Name: []byte(MetricBdSeq), Datatype: TypeInt64, Timestamp: timestamp, HasTimestamp: true,
		Value: Value{form: FormLong, bits: uint64(bdSeq)},
	}
}

// BdSeq is the bdSeq of an NBIRTH or NDEATH, out of either integer field and
// of whatever integer type, because writers differ. The errors are of Code
// Missing, Mismatch and OutOfRange.
func (p *Payload) BdSeq() (uint8, error) {
	m := p.Find(MetricBdSeq)
	switch {
	case m == nil:
		return 0, &Error{Missing, "no metric bdSeq"}
	case m.Null || m.Value.form == FormNone:
		return 0, &Error{Missing, "bdSeq has no value"}
	case m.Value.form != FormInt && m.Value.form != FormLong:
		return 0, mismatch(m.Value.form, TypeInt64)
	case m.Value.bits > 255:
		return 0, &Error{OutOfRange, "bdSeq is above 255"}
	}
	return uint8(m.Value.bits), nil
}

// RebirthMetric is Node Control/Rebirth: false in every NBIRTH, true in the
// NCMD that asks for one. It always goes by its name and with its datatype,
// also in an NCMD, because some edge nodes do not know it otherwise.
//
// [tck-id-topics-nbirth-rebirth-metric] [tck-id-payloads-nbirth-rebirth-req]
// [tck-id-operational-behavior-data-commands-rebirth-value]
// [tck-id-operational-behavior-data-commands-ncmd-rebirth-value]
func RebirthMetric(ask bool, timestamp uint64) Metric {
	return Metric{
		Name: []byte(MetricRebirth), Datatype: TypeBoolean, Timestamp: timestamp, HasTimestamp: true, Value: NewBool(ask),
	}
}

// AsksRebirth tells whether an NCMD asks for births: the metric is there by its
// name, or by the alias that the NBIRTH gave it when aliased is true, and is
// true. It needs no datatype.
func (p *Payload) AsksRebirth(alias uint64, aliased bool) bool {
	for i := range p.Metrics {
		m := &p.Metrics[i]
		named := string(m.Name) == MetricRebirth || m.Name == nil && aliased && m.HasAlias && m.Alias == alias
		if ask, err := m.Value.Bool(); named && !m.Null && err == nil && ask {
			return true
		}
	}
	return false
}

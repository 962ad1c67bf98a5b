package session

import (
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
)

// Kind is what an Event says.
type Kind uint8

// The kinds of events.
const (
	// NodeBirth begins everything anew: Unit is that of the edge node, Values
	// are those of the NBIRTH, and devices are unknown until their DeviceBirth
	// [tck-id-operational-behavior-data-commands-rebirth-action-2].
	NodeBirth Kind = iota + 1
	// NodeDeath makes every value of the node and of its devices stale, as of
	// At, the time of the host
	// [tck-id-operational-behavior-edge-node-termination-host-action-ndeath-node-tags-stale].
	NodeDeath
	// DeviceBirth puts Unit in the place of what was known of Device.
	DeviceBirth
	// DeviceDeath makes the values of Device stale, as of Timestamp, or At when
	// the message has none
	// [tck-id-operational-behavior-edge-node-termination-host-action-ddeath-devices-tags-stale].
	DeviceDeath
	// Data brings Values of Unit; there may be none.
	Data
	// Stale says that the values of the node and of its devices can no longer be
	// trusted, though nobody died; Reason says why.
	Stale
	// Gap says that Missing messages at least did not come: from number Seq on.
	Gap
	// Late is a message left out: repeated, or of the time before the NBIRTH.
	Late
	// Ignored is a birth or death left out: of another session, or repeated.
	Ignored
	// Malformed is something that is not as it must be; Err may say more. Where
	// it is about one metric, Metric has its place in the message, else it is
	// -1. What else the message holds counts. There are at most 16 for a message.
	Malformed
	// RebirthWanted asks for a rebirth, again and again while one is needed and
	// the node gives signs of life. When to ask is for who sends it.
	RebirthWanted
)

var kindNames = [...]string{
	NodeBirth: "node_birth", NodeDeath: "node_death", DeviceBirth: "device_birth", DeviceDeath: "device_death", Data: "data",
	Stale: "stale", Gap: "gap", Late: "late", Ignored: "ignored", Malformed: "malformed", RebirthWanted: "rebirth_wanted",
}

// String returns a word for logs and labels.
func (k Kind) String() string { return word(kindNames[:], int(k)) }

// Reason is why; the set is closed, and its words are labels of metrics.
type Reason uint8

// The reasons.
const (
	NoReason Reason = iota
	// Of RebirthWanted, most of them of Stale as well.
	ReorderTimeout  // a hole was not filled in time
	HeldOverflow    // too much was held behind a hole
	SequenceRestart // numbers began again, or very many were lost, and no NBIRTH came
	BeforeBirth     // a message of a node that has no NBIRTH, or is offline
	BeforeDeviceBirth
	UnknownAlias
	UnknownMetric
	Unreadable // in its place in the sequence, but its content could not be read
	ServerLost // the host's connection, not the node's
	TooMuchDefined
	// Of Malformed, besides Unreadable.
	NotFromNode // a type of message that edge nodes do not publish
	Retained
	NoSequence // none, or above 255
	NoBdSeq
	NoName // neither name nor alias
	BadValue
	DuplicateName
	DuplicateAlias // within one birth: of no use for its metrics
	SharedAlias    // of a metric of the node and one of its device
	AliasMismatch  // name and alias are those of two metrics; the name counts
	UnknownTemplate
	DefinitionInDevice // a Template's definition belongs into the NBIRTH
	// Of Late and Ignored.
	Repeated
	BeforeNBirth // older than the NBIRTH
	OtherSession // the bdSeq is another
	AfterDeath   // an NBIRTH that the NDEATH of its session has overtaken
	NotBorn      // a death of what is not there
	// Requested is of rebirths that a person asks for; no event has it.
	Requested
)

var reasonNames = [...]string{
	NoReason: "", ReorderTimeout: "reorder_timeout", HeldOverflow: "held_overflow", SequenceRestart: "sequence_restart",
	BeforeBirth: "before_birth", BeforeDeviceBirth: "before_device_birth", UnknownAlias: "unknown_alias",
	UnknownMetric: "unknown_metric", Unreadable: "unreadable", ServerLost: "server_lost", TooMuchDefined: "too_much_defined",
	NotFromNode: "not_from_node", Retained: "retained", NoSequence: "no_sequence", NoBdSeq: "no_bdseq", NoName: "no_name",
	BadValue: "bad_value", DuplicateName: "duplicate_name", DuplicateAlias: "duplicate_alias", SharedAlias: "shared_alias",
	AliasMismatch: "alias_mismatch", UnknownTemplate: "unknown_template", DefinitionInDevice: "definition_in_device",
	Repeated: "repeated", BeforeNBirth: "older_than_birth", OtherSession: "other_session", AfterDeath: "after_death", NotBorn: "not_born",
	Requested: "requested",
}

// String returns a word for logs and labels.
func (r Reason) String() string { return word(reasonNames[:], int(r)) }

func word(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return "?"
}

// Event is something that happened to an edge node.
type Event struct {
	Kind         Kind
	Reason       Reason
	HasTimestamp bool
	Held         bool  // the message came before its turn and waited for it
	Seq          uint8 // of the message, where it has one
	Missing      int   // of Gap
	Metric       int   // of Malformed
	Type         sparkplug.MessageType
	Device       string    // empty for the node itself
	At           time.Time // when the message was received, or what else happened
	Timestamp    uint64    // of the payload, in milliseconds, if HasTimestamp
	Unit         *Unit     // of births and Data
	Values       []Value   // of births and Data; borrowed until Actions.Reset
	Err          error
}

// Value is a metric of a message and what its birth declared. Raw is a value of
// Datatype, or Null. A Historical one is not the live value.
type Value struct {
	Metric *Metric
	Raw    *sparkplug.Metric // borrowed until Actions.Reset
}

// Datatype is that of the birth or, when it has none, of the message.
func (v Value) Datatype() sparkplug.Datatype {
	if v.Metric.Datatype != 0 {
		return v.Metric.Datatype
	}
	return v.Raw.Datatype
}

// Actions is what came out of a step. Steps append to it; the caller resets it
// when it has done with the events. The zero Actions is ready. Used again and
// again, it allocates nothing.
type Actions struct {
	Events []Event

	values []Value
	slots  []*slot
	used   int
	in     input
}

// slot is the memory of one decoded message.
type slot struct {
	payload  sparkplug.Payload
	inflater sparkplug.Inflater
}

// slotMetrics is the largest message whose memory is kept for later ones.
const slotMetrics = 16_384

// Reset takes back the events and all that they borrowed.
func (a *Actions) Reset() {
	clear(a.Events)
	clear(a.values)
	a.Events, a.values = a.Events[:0], a.values[:0]
	for i, s := range a.slots[:a.used] {
		if cap(s.payload.Metrics) > slotMetrics {
			a.slots[i] = new(slot)
		}
	}
	a.used = 0
	a.in = input{}
}

func (a *Actions) slot() *slot {
	if a.used == len(a.slots) {
		a.slots = append(a.slots, new(slot))
	}
	a.used++
	return a.slots[a.used-1]
}

func (a *Actions) add(e Event) { a.Events = append(a.Events, e) }

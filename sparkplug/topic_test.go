package sparkplug

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Shows [tck-id-topic-structure] [tck-id-topic-structure-namespace-a]
// [tck-id-topic-structure-namespace-valid-group-id]
// [tck-id-topic-structure-namespace-valid-edge-node-id]
// [tck-id-topic-structure-namespace-valid-device-id]
// [tck-id-topic-structure-namespace-device-id-associated-message-types]
// [tck-id-topic-structure-namespace-device-id-non-associated-message-types]
// [tck-id-topic-structure-namespace-duplicate-device-id-across-edge-node]
// [tck-id-topics-nbirth-topic] [tck-id-topics-ndata-topic] [tck-id-topics-ndeath-topic] [tck-id-topics-ncmd-topic]
// [tck-id-topics-dbirth-topic] [tck-id-topics-ddata-topic] [tck-id-topics-ddeath-topic] [tck-id-topics-dcmd-topic]
// [tck-id-host-topic-phid-birth-topic] [tck-id-host-topic-phid-death-topic].
func TestParseTopic(t *testing.T) {
	long := strings.Repeat("x", 65535-len("spBv1.0/g/NDATA/"))
	for _, c := range []struct {
		topic string
		want  Topic
		code  Code
	}{
		{"spBv1.0/g/NBIRTH/n", Topic{Type: NBirth, Group: "g", Node: "n"}, 0},
		{"spBv1.0/g/NDEATH/n", Topic{Type: NDeath, Group: "g", Node: "n"}, 0},
		{"spBv1.0/g/NDATA/n", Topic{Type: NData, Group: "g", Node: "n"}, 0},
		{"spBv1.0/g/NCMD/n", Topic{Type: NCmd, Group: "g", Node: "n"}, 0},
		{"spBv1.0/g/DBIRTH/n/d", Topic{Type: DBirth, Group: "g", Node: "n", Device: "d"}, 0},
		{"spBv1.0/g/DDEATH/n/d", Topic{Type: DDeath, Group: "g", Node: "n", Device: "d"}, 0},
		{"spBv1.0/g/DDATA/n/d", Topic{Type: DData, Group: "g", Node: "n", Device: "d"}, 0},
		{"spBv1.0/g/DCMD/n2/d", Topic{Type: DCmd, Group: "g", Node: "n2", Device: "d"}, 0},
		{"spBv1.0/STATE/host 1", Topic{Type: State, Host: "host 1"}, 0},
		{"STATE/h", Topic{Type: State, Host: "h", Legacy: true}, 0},
		// Names that only look wrong.
		{"spBv1.0/STATE/NDATA/n", Topic{Type: NData, Group: "STATE", Node: "n"}, 0},
		{"spBv1.0/STATE/NDATA", Topic{Type: State, Host: "NDATA"}, 0},
		{"spBv1.0/a b.ü$/NDATA/NDATA", Topic{Type: NData, Group: "a b.ü$", Node: "NDATA"}, 0},
		{"spBv1.0/g/NDATA/" + long, Topic{Type: NData, Group: "g", Node: long}, 0},
		// Somebody else's.
		{"", Topic{}, ForeignTopic}, {"spCv1.0/g/NDATA/n", Topic{}, ForeignTopic}, {"spbv1.0/g/NDATA/n", Topic{}, ForeignTopic},
		{"spBv1.0", Topic{}, ForeignTopic}, {"spAv1.0/g/NDATA/n", Topic{}, ForeignTopic}, {"STATE", Topic{}, ForeignTopic},
		{"STATE/a/b", Topic{}, ForeignTopic}, {"$sparkplug/certificates/spBv1.0/g/NBIRTH/n", Topic{}, ForeignTopic},
		{"state/h", Topic{}, ForeignTopic},
		// Ours, and wrong.
		{"spBv1.0/", Topic{}, BadTopic}, {"spBv1.0/g", Topic{}, BadTopic}, {"spBv1.0/g/NDATA", Topic{}, BadTopic},
		{"spBv1.0/STATE", Topic{}, BadName}, {"spBv1.0/STATE/", Topic{}, BadName}, {"spBv1.0/g/STATE/n", Topic{}, BadTopic},
		{"spBv1.0/g/XDATA/n", Topic{}, BadTopic}, {"spBv1.0/g//n", Topic{}, BadTopic}, {"spBv1.0/g/ndata/n", Topic{}, BadTopic},
		{"spBv1.0/g/NDATA/n/d", Topic{}, BadTopic}, {"spBv1.0/g/NDATA/n/", Topic{}, BadTopic}, {"spBv1.0/g/DDATA/n", Topic{}, BadTopic},
		{"spBv1.0/g/DDATA/n/d/e", Topic{}, BadTopic}, {"spBv1.0/g/DDATA/n/d/", Topic{}, BadTopic},
		{"spBv1.0//NDATA/n", Topic{}, BadName}, {"spBv1.0/g/NDATA/", Topic{}, BadName}, {"spBv1.0/g/DDATA//d", Topic{}, BadName},
		{"spBv1.0/g/DDATA/n/", Topic{}, BadName}, {"spBv1.0/+/NDATA/n", Topic{}, BadName}, {"spBv1.0/g/NDATA/#", Topic{}, BadName},
		{"spBv1.0/g/DCMD/n/d+", Topic{}, BadName}, {"spBv1.0/g\x00/NDATA/n", Topic{}, BadName}, {"spBv1.0/g/NDATA/\xff", Topic{}, BadName},
		{"STATE/", Topic{}, BadName}, {"STATE/+", Topic{}, BadName}, {"spBv1.0/g/NDATA/" + long + "x", Topic{}, BadTopic},
	} {
		got, err := ParseTopic(c.topic)
		if code(err) != c.code || err == nil && got != c.want {
			t.Errorf("%.60q: %+v, %v", c.topic, got, err)
		}
		if err == nil && got.String() != c.topic {
			t.Errorf("%.60q became %.60q", c.topic, got)
		}
	}
}

// TestTopicCheck: a topic that could not be read again is not written.
//
// Shows [tck-id-intro-group-id-string] [tck-id-intro-edge-node-id-string] [tck-id-intro-device-id-string].
func TestTopicCheck(t *testing.T) {
	id := rapid.OneOf(rapid.SampledFrom([]string{"", "a", "a/b", "+", "x#", "\xff", "NUL\x00", "STATE", "ü", "NDATA"}), rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		topic := Topic{Type: MessageType(rapid.IntRange(0, 11).Draw(t, "type")), Group: id.Draw(t, "group"), Node: id.Draw(t, "node"),
			Device: id.Draw(t, "device"), Host: id.Draw(t, "host"), Legacy: rapid.Bool().Draw(t, "legacy")}
		if rapid.Bool().Draw(t, "tidy") {
			if topic.Type == State {
				topic.Group, topic.Node, topic.Device = "", "", ""
			} else {
				topic.Host, topic.Legacy = "", false
				if !topic.Type.OfDevice() {
					topic.Device = ""
				}
			}
		}
		again, parsed := ParseTopic(topic.String())
		written, err := topic.Append([]byte("x"))
		if (err == nil) != (parsed == nil && again == topic) {
			t.Fatalf("%+v: %v, and read as %+v, %v", topic, err, again, parsed)
		}
		if err != nil && string(written) != "x" || err == nil && string(written) != "x"+topic.String() {
			t.Fatalf("%+v: %q, %v", topic, written, err)
		}
	})
}

// What an identifier may be: UTF-8 without what MQTT means something by. Shows
// [tck-id-intro-group-id-chars] [tck-id-intro-edge-node-id-chars] [tck-id-intro-device-id-chars].
func TestValidID(t *testing.T) {
	for _, id := range []string{"", "+", "a+", "#", "a#b", "/", "a/b", "a\x00", "\xff", "ü\xff"} {
		if ValidID(id) == nil {
			t.Errorf("%q is taken", id)
		}
	}
	for _, id := range []string{"a", "Line 1", "ü", "$", "STATE", "a\\b", "\t"} {
		if err := ValidID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestParseTopicAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		if _, err := ParseTopic("spBv1.0/plant-7/DDATA/line-1/press-042"); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Shows [tck-id-topics-nbirth-mqtt] [tck-id-topics-ndata-mqtt] [tck-id-topics-ncmd-mqtt] [tck-id-topics-dbirth-mqtt]
// [tck-id-topics-ddata-mqtt] [tck-id-topics-dcmd-mqtt] [tck-id-topics-ddeath-mqtt] [tck-id-payloads-ndeath-will-message-qos]
// [tck-id-payloads-ndeath-will-message-retain] [tck-id-host-topic-phid-birth-qos] [tck-id-host-topic-phid-birth-retain]
// [tck-id-host-topic-phid-death-qos] [tck-id-host-topic-phid-death-retain] [tck-id-payloads-state-will-message-qos]
// [tck-id-payloads-state-will-message-retain] [tck-id-payloads-nbirth-qos] [tck-id-payloads-nbirth-retain]
// [tck-id-payloads-dbirth-qos] [tck-id-payloads-dbirth-retain] [tck-id-payloads-ndata-qos] [tck-id-payloads-ndata-retain]
// [tck-id-payloads-ddata-qos] [tck-id-payloads-ddata-retain] [tck-id-payloads-ncmd-qos] [tck-id-payloads-ncmd-retain]
// [tck-id-payloads-dcmd-qos] [tck-id-payloads-dcmd-retain] [tck-id-payloads-sequence-num-always-included].
func TestMessageTypes(t *testing.T) {
	for _, c := range []struct {
		t                           MessageType
		name                        string
		qos                         byte
		retain, ofDevice, sequenced bool
	}{
		{NBirth, "NBIRTH", 0, false, false, true}, {NDeath, "NDEATH", 1, false, false, false},
		{DBirth, "DBIRTH", 0, false, true, true}, {DDeath, "DDEATH", 0, false, true, true},
		{NData, "NDATA", 0, false, false, true}, {DData, "DDATA", 0, false, true, true},
		{NCmd, "NCMD", 0, false, false, false}, {DCmd, "DCMD", 0, false, true, false},
		{State, "STATE", 1, true, false, false}, {0, "", 0, false, false, false}, {200, "", 0, false, false, false},
	} {
		if c.t.String() != c.name || c.t.QoS() != c.qos || c.t.Retain() != c.retain || c.t.OfDevice() != c.ofDevice || c.t.Sequenced() != c.sequenced {
			t.Errorf("%d: %s, QoS %d, retain %v, device %v, sequenced %v", c.t, c.t, c.t.QoS(), c.t.Retain(), c.t.OfDevice(), c.t.Sequenced())
		}
	}
}

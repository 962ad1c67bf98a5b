package sparkplug

import (
	"math"
	"testing"
)

// Shows [tck-id-host-topic-phid-birth-payload] [tck-id-host-topic-phid-death-payload]
// [tck-id-payloads-state-will-message-payload] [tck-id-payloads-state-birth-payload].
func TestParseState(t *testing.T) {
	for _, c := range []struct {
		in   string
		want HostState
		ok   bool
	}{
		{`{"online":true,"timestamp":1767225600000}`, HostState{Online: true, Timestamp: 1767225600000}, true},
		{` { "timestamp" : 0 , "online" : false , "bd_seq" : [1, {}] } `, HostState{}, true},
		{`{"online":false,"online":true,"timestamp":1,"timestamp":2}`, HostState{Online: true, Timestamp: 2}, true},
		{`{"online":true,"Online":false,"timestamp":9223372036854775807}`, HostState{Online: true, Timestamp: math.MaxInt64}, true},
		{"ONLINE", HostState{Online: true, Legacy: true}, true}, {"OFFLINE", HostState{Legacy: true}, true},
		{in: ""}, {in: "online"}, {in: "null"}, {in: "{}"}, {in: "[]"}, {in: `{"online":true}`}, {in: `{"timestamp":1}`},
		{in: `{"Online":true,"timestamp":1}`}, {in: `{"online":"true","timestamp":1}`}, {in: `{"online":1,"timestamp":1}`},
		{in: `{"online":null,"timestamp":1}`}, {in: `{"online":true,"timestamp":"1"}`}, {in: `{"online":true,"timestamp":-1}`},
		{in: `{"online":true,"timestamp":1.5}`}, {in: `{"online":true,"timestamp":9223372036854775808}`},
		{in: `{"online":true,"timestamp":null}`}, {in: `{"online":true,"timestamp":1}x`}, {in: `{"online":true,"timestamp":1`},
		{in: "\xff"}, {in: "\x08\x01"},
	} {
		got, err := ParseState([]byte(c.in))
		if c.ok && (err != nil || got != c.want) || !c.ok && code(err) != Malformed {
			t.Errorf("%s: %+v, %v", c.in, got, err)
		}
	}
	if got := string(HostState{Online: true, Timestamp: 5}.Append([]byte("-"))); got != `-{"online":true,"timestamp":5}` {
		t.Error(got)
	}
}

// Shows [tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp].
func TestStateCounts(t *testing.T) {
	at := func(ms uint64) HostState { return HostState{Timestamp: ms} }
	for _, c := range []struct {
		s, last HostState
		want    bool
	}{{at(2), at(1), true}, {at(2), at(2), true}, {at(1), at(2), false}, {HostState{Legacy: true}, at(2), true}, {at(1), HostState{Legacy: true}, true}} {
		if c.s.Counts(c.last) != c.want {
			t.Errorf("%+v after %+v", c.s, c.last)
		}
	}
}

// Shows [tck-id-payloads-state-will-message] [tck-id-host-topic-phid-birth-message] [tck-id-payloads-state-birth-payload].
func TestStateMessage(t *testing.T) {
	for _, c := range []struct {
		s              HostState
		topic, payload string
	}{
		{HostState{Online: true, Timestamp: 7}, "spBv1.0/STATE/h", `{"online":true,"timestamp":7}`},
		{HostState{Timestamp: 7}, "spBv1.0/STATE/h", `{"online":false,"timestamp":7}`},
		{HostState{Online: true, Legacy: true}, "STATE/h", "ONLINE"}, {HostState{Legacy: true}, "STATE/h", "OFFLINE"},
	} {
		m, err := StateMessage("h", c.s)
		if err != nil || m.Topic != c.topic || string(m.Payload) != c.payload || m.QoS != 1 || !m.Retain {
			t.Errorf("%+v: %+v, %v", c.s, m, err)
		}
		if back, err := ParseState(m.Payload); err != nil || back != c.s {
			t.Errorf("%+v came back as %+v, %v", c.s, back, err)
		}
	}
	if _, err := StateMessage("a/b", HostState{}); code(err) != BadName {
		t.Error(err)
	}
}

// Shows [tck-id-payloads-ndeath-will-message] [tck-id-topics-ndeath-payload] [tck-id-topics-ndeath-seq] [tck-id-payloads-ndeath-seq]
// [tck-id-message-flow-edge-node-birth-publish-will-message-topic]
// [tck-id-message-flow-edge-node-birth-publish-will-message-payload]
// [tck-id-message-flow-edge-node-birth-publish-will-message-payload-bdSeq]
// [tck-id-message-flow-edge-node-birth-publish-will-message-qos]
// [tck-id-message-flow-edge-node-birth-publish-will-message-will-retained]
// [tck-id-topics-nbirth-bdseq-included] [tck-id-message-flow-edge-node-birth-publish-nbirth-payload-bdSeq].
func TestNodeDeath(t *testing.T) {
	m, err := NodeDeath("g", "n", 200, 300)
	want := join(num(1, 300), msg(2, text(1, "bdSeq"), num(3, 300), num(4, 4), num(11, 200)))
	if err != nil || m.Topic != "spBv1.0/g/NDEATH/n" || string(m.Payload) != string(want) || m.QoS != 1 || m.Retain {
		t.Errorf("%+v, %v", m, err)
	}
	var p Payload
	if err := p.Decode(m.Payload, Limits{}); err != nil {
		t.Fatal(err)
	}
	if n, err := p.BdSeq(); err != nil || n != 200 {
		t.Error(n, err)
	}
	for v := range Violations(NDeath, &p) {
		t.Errorf("%+v", v)
	}
	for _, ids := range [][2]string{{"", "n"}, {"g", "n+"}} {
		if _, err := NodeDeath(ids[0], ids[1], 0, 0); code(err) != BadName {
			t.Error(ids, err)
		}
	}
}

// TestBdSeqForms are the ways in which writers put bdSeq.
func TestBdSeqForms(t *testing.T) {
	name := text(1, "bdSeq")
	for what, c := range map[string]struct {
		wire []byte
		want uint8
		code Code
	}{
		"Int64":       {msg(2, name, num(4, 4), num(11, 255)), 255, 0},
		"UInt64":      {msg(2, name, num(4, 8), num(11, 3)), 3, 0},
		"Int32":       {msg(2, name, num(4, 3), num(10, 3)), 3, 0},
		"long UInt32": {msg(2, name, num(4, 7), num(11, 3)), 3, 0},
		"no type":     {msg(2, name, num(11, 0)), 0, 0},
		"256":         {msg(2, name, num(11, 256)), 0, OutOfRange},
		"-1":          {msg(2, name, num(11, math.MaxUint64)), 0, OutOfRange},
		"text":        {msg(2, name, text(15, "3")), 0, Mismatch},
		"null":        {msg(2, name, num(7, 1), num(11, 3)), 0, Missing},
		"no value":    {msg(2, name), 0, Missing},
		"alias only":  {msg(2, num(2, 0), num(11, 3)), 0, Missing},
		"empty":       {nil, 0, Missing},
	} {
		var p Payload
		if err := p.Decode(c.wire, Limits{}); err != nil {
			t.Fatal(err)
		}
		if n, err := p.BdSeq(); n != c.want || code(err) != c.code {
			t.Errorf("%s: %d, %v", what, n, err)
		}
	}
}

// Shows [tck-id-topics-nbirth-rebirth-metric] [tck-id-payloads-nbirth-rebirth-req]
// [tck-id-operational-behavior-data-commands-rebirth-value]
// [tck-id-operational-behavior-data-commands-ncmd-rebirth-value].
func TestRebirth(t *testing.T) {
	p := Payload{Metrics: []Metric{RebirthMetric(true, 300)}}
	if got, want := p.Append(nil), msg(2, text(1, "Node Control/Rebirth"), num(3, 300), num(4, 11), num(14, 1)); string(got) != string(want) {
		t.Errorf("% x", got)
	}
	p.Metrics = []Metric{RebirthMetric(false, 300)}
	if got, want := p.Append(nil), msg(2, text(1, "Node Control/Rebirth"), num(3, 300), num(4, 11), num(14, 0)); string(got) != string(want) {
		t.Errorf("% x", got)
	}
	name := text(1, "Node Control/Rebirth")
	for what, c := range map[string]struct {
		wire    []byte
		aliased bool
		want    bool
	}{
		"with its type":       {msg(2, name, num(4, 11), num(14, 1)), false, true},
		"without":             {msg(2, name, num(14, 1)), false, true},
		"after another":       {join(msg(2, text(1, "x"), num(14, 1)), msg(2, name, num(14, 1))), false, true},
		"by alias":            {msg(2, num(2, 7), num(14, 1)), true, true},
		"by alias 0":          {msg(2, num(2, 0), num(14, 1)), true, false},
		"by an alias unknown": {msg(2, num(2, 7), num(14, 1)), false, false},
		"another's name":      {msg(2, text(1, "x"), num(2, 7), num(14, 1)), true, false},
		"false":               {msg(2, name, num(14, 0)), false, false},
		"null":                {msg(2, name, num(7, 1), num(14, 1)), false, false},
		"a number":            {msg(2, name, num(10, 1)), false, false},
		"nothing":             {nil, true, false},
	} {
		var p Payload
		if err := p.Decode(c.wire, Limits{}); err != nil {
			t.Fatal(err)
		}
		if got := p.AsksRebirth(7, c.aliased); got != c.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}

func TestFind(t *testing.T) {
	p := Payload{Metrics: []Metric{{Value: NewBool(true)}, {Name: []byte{}, HasAlias: true}, {Name: []byte("a"), Alias: 5, HasAlias: true}, {Name: []byte("a")}}}
	if p.Find("a") != &p.Metrics[2] || p.Find("") != &p.Metrics[1] || p.Find("b") != nil {
		t.Error("by name")
	}
	if p.FindAlias(5) != &p.Metrics[2] || p.FindAlias(0) != &p.Metrics[1] || p.FindAlias(6) != nil {
		t.Error("by alias")
	}
	s := &PropertySet{Keys: [][]byte{[]byte("a"), []byte("b")}, Values: []PropertyValue{{Null: true}}}
	if s.Find("a") != &s.Values[0] || s.Find("b") != nil || (*PropertySet)(nil).Find("a") != nil {
		t.Error("of a property")
	}
}

// Shows [tck-id-payloads-sequence-num-incrementing].
func TestNextSeq(t *testing.T) {
	if NextSeq(0) != 1 || NextSeq(254) != 255 || NextSeq(255) != 0 {
		t.Error("wrong numbers")
	}
}

package node

import (
	"maps"
	"slices"

	"github.com/wilco-iot/wilco/sparkplug"
)

// host reads what a node publishes as a strict host application would, by rules
// of its own: it knows the messages, and which devices are there, and nothing of
// how the node decides. Whatever is against the specification fails the test.
type host struct {
	st    *stage
	alive bool  // NBIRTH without NDEATH
	ended bool  // an NDEATH was published in this connection
	first bool  // nothing has been published in this connection
	will  uint8 // bdSeq of the Will of this connection
	next  uint8

	up      map[string]bool // devices that are there, as the driver knows
	owed    map[string]bool // to be born before any DATA
	streams map[string]map[string]*seen
	aliases map[uint64]*sparkplug.Metric // of all births of this NBIRTH
	byAlias map[uint64]*seen
	told    map[string][]string // by stream/metric: every value that was told, live or past
	pipe    [][][2]string       // what messages told that are not known to be written: lost with the connection
	quiet   bool                // says nothing into the stage's lines
}

// seen is a metric as the host knows it.
type seen struct {
	birth sparkplug.Metric
	value string
	key   string
}

func newHost(st *stage) *host {
	return &host{st: st, up: map[string]bool{"press": true}, told: map[string][]string{}}
}

// connect takes the Will of a new connection. The server has published that of
// the former one.
func (h *host) connect(will sparkplug.Message) {
	t, err := sparkplug.ParseTopic(will.Topic)
	var p sparkplug.Payload
	if err != nil || t.Type != sparkplug.NDeath || will.QoS != 1 || will.Retain || p.Decode(will.Payload, sparkplug.Limits{}) != nil {
		h.st.t.Fatalf("the Will %+v is no NDEATH", will)
	}
	h.violations(t, &p)
	h.will, err = p.BdSeq()
	if err != nil {
		h.st.t.Fatal(err)
	}
	h.alive, h.ended, h.first, h.streams = false, false, true, map[string]map[string]*seen{}
	if !h.quiet {
		h.st.say("will %s", describe(t, &p, will, nil))
	}
}

func (h *host) violations(t sparkplug.Topic, p *sparkplug.Payload) {
	for v := range sparkplug.Violations(t.Type, p) {
		h.st.t.Fatalf("%s breaks %s (metric %d)", t, v.Statement, v.Metric)
	}
}

func (h *host) read(m sparkplug.Message) {
	tt := h.st.t
	t, err := sparkplug.ParseTopic(m.Topic)
	if err != nil {
		tt.Fatal(err)
	}
	var p sparkplug.Payload
	// [tck-id-message-flow-edge-node-birth-publish-nbirth-payload]
	// [tck-id-message-flow-device-birth-publish-dbirth-payload]
	if err := p.Decode(m.Payload, sparkplug.Limits{}); err != nil {
		tt.Fatal(err)
	}
	h.violations(t, &p)
	// [tck-id-topics-nbirth-timestamp] [tck-id-topics-dbirth-timestamp] [tck-id-topics-ndata-timestamp]
	// [tck-id-topics-ddata-timestamp] [tck-id-payloads-nbirth-timestamp] [tck-id-payloads-ddeath-timestamp]
	if t.Type != sparkplug.NDeath && p.Timestamp != millis(h.st.now) {
		tt.Fatalf("%s of %d, at %d", t, p.Timestamp, millis(h.st.now))
	}
	if m.QoS != t.Type.QoS() || m.Retain {
		tt.Fatalf("%s with QoS %d, retain %v", t, m.QoS, m.Retain)
	}
	switch {
	case h.ended:
		tt.Fatalf("%s after the NDEATH", t)
	case h.first && t.Type != sparkplug.NBirth: // [tck-id-principles-birth-certificates-order]
		tt.Fatalf("the first message is %s", t)
	}
	h.first = false
	h.pipe = append(h.pipe, nil)
	h.sequence(t, &p)
	switch t.Type {
	case sparkplug.NBirth:
		h.nodeBirth(&p)
	case sparkplug.NDeath:
		if b, _ := p.BdSeq(); b != h.will { // [tck-id-payloads-ndeath-bdseq]
			tt.Fatalf("NDEATH has bdSeq %d, the Will %d", b, h.will)
		}
		h.alive, h.ended = false, true
	case sparkplug.DBirth:
		h.birth(t.Device, &p)
		delete(h.owed, t.Device)
	case sparkplug.DDeath:
		if h.streams[t.Device] == nil {
			tt.Fatalf("DDEATH of %s, which is not born", t.Device)
		}
		for _, x := range h.streams[t.Device] {
			delete(h.aliases, x.birth.Alias)
			delete(h.byAlias, x.birth.Alias)
		}
		delete(h.streams, t.Device)
	case sparkplug.NData, sparkplug.DData:
		h.data(t, &p)
	default:
		tt.Fatalf("an edge node published %s", t)
	}
	if !h.quiet {
		h.st.say("%s", describe(t, &p, m, h.aliases))
	}
}

// sequence: [tck-id-topics-nbirth-seq-num], [tck-id-payloads-sequence-num-incrementing],
// [tck-id-payloads-dbirth-seq-inc], [tck-id-payloads-ndata-seq-inc],
// [tck-id-payloads-ddata-seq-inc], [tck-id-payloads-ddeath-seq-inc],
// [tck-id-topics-ndata-seq-num], [tck-id-topics-dbirth-seq], [tck-id-topics-ddata-seq-num],
// [tck-id-topics-ddeath-seq-num].
func (h *host) sequence(t sparkplug.Topic, p *sparkplug.Payload) {
	switch {
	case t.Type == sparkplug.NDeath:
		return
	case t.Type == sparkplug.NBirth:
		h.next = 0
	case !h.alive: // [tck-id-message-flow-device-birth-publish-nbirth-wait]
		h.st.t.Fatalf("%s of a node that is not born", t)
	}
	if p.Seq != uint64(h.next) {
		h.st.t.Fatalf("%s has seq %d, want %d", t, p.Seq, h.next)
	}
	h.next++
}

func (h *host) nodeBirth(p *sparkplug.Payload) {
	if b, _ := p.BdSeq(); b != h.will { // [tck-id-topics-nbirth-bdseq-matching], [tck-id-payloads-nbirth-bdseq-repeat]
		h.st.t.Fatalf("NBIRTH has bdSeq %d, the Will %d", b, h.will)
	}
	h.alive = true
	h.streams = map[string]map[string]*seen{}
	h.aliases, h.byAlias = map[uint64]*sparkplug.Metric{}, map[uint64]*seen{}
	h.owed = maps.Clone(h.up)
	h.birth("", p)
	if r := p.Find(sparkplug.MetricRebirth); r == nil || r.HasAlias { // [tck-id-operational-behavior-data-commands-rebirth-name-aliases]
		h.st.t.Fatal("the metric for rebirth is missing, or has an alias")
	}
}

func (h *host) birth(device string, p *sparkplug.Payload) {
	if device != "" && h.streams[device] != nil {
		h.st.t.Fatalf("DBIRTH of %s, which lives", device)
	}
	s := map[string]*seen{}
	for i := range p.Metrics {
		m := p.Metrics[i].Clone()
		if err := m.Check(0); err != nil {
			h.st.t.Fatalf("%s in a birth: %v", m.Name, err)
		}
		x := &seen{birth: m, value: textOf(&m, m.Datatype), key: device + "/" + string(m.Name)}
		s[string(m.Name)] = x
		h.hear(x.key, x.value)
		if m.HasAlias {
			if h.aliases[m.Alias] != nil { // [tck-id-payloads-alias-uniqueness]
				h.st.t.Fatalf("alias %d of %s is that of %s", m.Alias, m.Name, h.aliases[m.Alias].Name)
			}
			h.aliases[m.Alias], h.byAlias[m.Alias] = &m, x
		}
	}
	h.streams[device] = s
}

func (h *host) data(t sparkplug.Topic, p *sparkplug.Payload) {
	tt := h.st.t
	if len(h.owed) > 0 { // [tck-id-payloads-dbirth-order], [tck-id-payloads-ndata-order], [tck-id-payloads-ddata-order]
		tt.Fatalf("%s while births of %v are owed", t, slices.Collect(maps.Keys(h.owed)))
	}
	s := h.streams[t.Device]
	if s == nil {
		tt.Fatalf("%s, which is not born", t)
	}
	for i := range p.Metrics {
		m := &p.Metrics[i]
		x := s[string(m.Name)]
		if m.Name == nil {
			x = h.byAlias[m.Alias]
			if x != nil && s[string(x.birth.Name)] != x {
				tt.Fatalf("alias %d in %s is of another stream", m.Alias, t)
			}
		}
		switch {
		// [tck-id-topics-nbirth-metric-reqs] [tck-id-topics-dbirth-metric-reqs]
		// [tck-id-operational-behavior-data-publish-nbirth] [tck-id-operational-behavior-data-publish-dbirth]
		case x == nil:
			tt.Fatalf("%s: metric %q, alias %d is in no birth", t, m.Name, m.Alias)
		case m.Name != nil && x.birth.HasAlias:
			tt.Fatalf("%s: %s goes by its name in spite of its alias", t, m.Name)
		case m.Datatype != 0: // [tck-id-payloads-metric-datatype-not-req]
			tt.Fatalf("%s: %s has a datatype", t, x.birth.Name)
		}
		if err := m.Check(x.birth.Datatype); err != nil {
			tt.Fatalf("%s: %s: %v", t, x.birth.Name, err)
		}
		if !m.Null && !x.birth.Null && m.Value.Form() != x.birth.Value.Form() {
			tt.Fatalf("%s: %s comes as %s, its birth as %s", t, x.birth.Name, m.Value.Form(), x.birth.Value.Form())
		}
		v := textOf(m, x.birth.Datatype)
		h.hear(x.key, v)
		if !m.Historical {
			x.value = v
		}
	}
}

// hear notes a value of the message that is being read.
func (h *host) hear(key, value string) {
	last := len(h.pipe) - 1
	h.pipe[last] = append(h.pipe[last], [2]string{key, value})
}

// written says that all messages so far have arrived; lost, that those which are
// not known to have been written have not.
func (h *host) written() {
	for _, m := range h.pipe {
		for _, kv := range m {
			h.told[kv[0]] = append(h.told[kv[0]], kv[1])
		}
	}
	h.pipe = nil
}

func (h *host) lost() { h.pipe = nil }

// setUp tells the oracle what the driver did to a device.
func (h *host) setUp(device string, up bool) {
	if up {
		h.up[device] = true
		return
	}
	delete(h.up, device)
	delete(h.owed, device)
}

package host_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// want is a metric as somebody asks for it.
func want(name string, x float64) sparkplug.Metric {
	m := double(name, 0, x)
	m.HasAlias, m.Datatype = false, 0
	return m
}

// TestWrite is what goes out for a write, and what is refused before. Shows
// [tck-id-topics-ncmd-topic] [tck-id-topics-dcmd-topic] [tck-id-payloads-dcmd-timestamp]
// [tck-id-payloads-dcmd-seq] [tck-id-payloads-alias-data-cmd-requirement]
// [tck-id-topics-ncmd-payload] [tck-id-topics-dcmd-payload]
// [tck-id-operational-behavior-data-commands-ncmd-verb]
// [tck-id-operational-behavior-data-commands-dcmd-verb].
func TestWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		l := listen(t, s.options())
		h := startHost(t, one(s, host.Options{}))
		id := host.NodeID{Group: "g", Node: "n"}
		write := func(device string, m sparkplug.Metric) error {
			written := make(chan error, 1)
			if err := h.Write(id, device, []sparkplug.Metric{m}, func(err error) { written <- err }); err != nil {
				return err
			}
			return <-written
		}
		if err := write("", want("temp", 1)); !errors.Is(err, host.ErrNotOnline) {
			t.Errorf("before the birth: %v", err)
		}
		e := startEdge(t, s.options(), "edge")
		e.c.Unsubscribe(t.Context(), "spBv1.0/g/NCMD/+") // it knows rebirths only
		e.birth("n")
		settle(time.Second)
		if err := write("dev", want("speed", 7)); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		heard := l.heard("spBv1.0/g/DCMD/n/dev")
		if len(heard) != 1 {
			t.Fatalf("%d commands", len(heard))
		}
		var p sparkplug.Payload
		if err := p.Decode([]byte(heard[0]), sparkplug.Limits{}); err != nil {
			t.Fatal(err)
		}
		m := p.Metrics[0]
		if x, err := m.Value.Float(sparkplug.TypeDouble); p.HasSeq || !p.HasTimestamp || len(p.Metrics) != 1 || m.Name != nil || m.Timestamp != p.Timestamp ||
			!m.HasAlias || m.Alias != 2 || m.Datatype != sparkplug.TypeDouble || err != nil || x != 7 {
			t.Errorf("%+v", p)
		}
		if err := write("", want("temp", 30)); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		if n := len(l.heard("spBv1.0/g/NCMD/n")); n != 1 {
			t.Errorf("%d commands to the node itself", n)
		}
		var bad *sparkplug.Error
		text := sparkplug.Metric{Name: []byte("speed"), Value: sparkplug.NewText([]byte("fast"))}
		if err := write("dev", text); !errors.As(err, &bad) {
			t.Errorf("a text for a Double: %v", err)
		}
		if err := write("dev", want("sped", 1)); !errors.Is(err, host.ErrUnknownMetric) {
			t.Errorf("an unknown metric: %v", err)
		}
		if err := write("other", want("speed", 1)); !errors.Is(err, host.ErrNotOnline) {
			t.Errorf("an unknown device: %v", err)
		}
		e.death("n", 0)
		settle(time.Second)
		if err := write("dev", want("speed", 1)); !errors.Is(err, host.ErrNotOnline) {
			t.Errorf("after the death: %v", err)
		}
		if u, online := h.Unit(id, "dev"); u == nil || online || u.Find("speed") == nil {
			t.Errorf("what the birth declared outlives the death: %v, online %v", u, online)
		}
		if v, ok := h.Value(id, "dev", "speed"); !ok || v.Quality != host.Stale {
			t.Errorf("%+v, %v", v, ok)
		}
		passive := startHost(t, host.Options{Role: host.Passive, Servers: []host.Server{{Name: "one", Client: client.Options{Dial: s.dial, ClientID: "passive"}}}})
		if err := passive.Write(id, "dev", nil, nil); !errors.Is(err, host.ErrPassive) {
			t.Errorf("a passive host: %v", err)
		}
	})
}

// TestHealth is what is counted of one node: what came out of order, what it was
// asked for and why.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		h := startHost(t, one(s, host.Options{}))
		e := startEdge(t, s.options(), "edge")
		id := host.NodeID{Group: "g", Node: "n"}
		e.birth("n")
		settle(time.Second)
		value := func(seq uint64, x float64) {
			e.publish(sparkplug.NData, "n", "", &sparkplug.Payload{HasSeq: true, Seq: seq, Metrics: []sparkplug.Metric{double("", 1, x)}})
		}
		value(4, 24)
		value(3, 23)
		value(2, 22)
		settle(time.Second)
		if n, _, _ := h.Node(id); n.Reordered != 2 || n.Gaps != 0 || len(n.Rebirths) != 0 {
			t.Errorf("two messages before their turn: %+v", n)
		}
		expect(t, h, "n", "online temp=24 speed=5")
		value(9, 29)
		h.Rebirth(id)
		settle(30 * time.Second)
		value(9, 29)
		settle(time.Minute)
		n, _, _ := h.Node(id)
		by := n.Rebirths
		if len(by) != 2 || by[0] != (host.Count{Kind: session.RebirthWanted, Reason: session.Requested, N: 1}) ||
			by[1] != (host.Count{Kind: session.RebirthWanted, Reason: session.ReorderTimeout, N: 1}) || n.Asked != 2 || !n.Quarantine.IsZero() {
			t.Errorf("rebirths by reason: %+v, %d in all, quarantine %s", by, n.Asked, n.Quarantine)
		}
	})
}

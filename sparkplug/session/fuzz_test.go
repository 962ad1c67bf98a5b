package session_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// FuzzReceive takes bytes as a series of messages and moments: nothing of it may
// panic, exceed the bounds, or leave the node in a state that contradicts itself.
func FuzzReceive(f *testing.F) {
	birth, data := traffic(false)
	seed := func(list ...session.Message) []byte {
		var b []byte
		for _, m := range list {
			b = append(b, byte(m.Type), 1, byte(len(m.Payload)), byte(len(m.Payload)>>8))
			b = append(b, m.Payload...)
		}
		return b
	}
	f.Add(seed(birth, data[0], data[2], data[1], data[1]))
	f.Add(seed(data[5], birth, data[3]))
	f.Fuzz(func(t *testing.T, b []byte) {
		cfg := session.Config{HeldBytes: 2000, Definitions: 50, Limits: sparkplug.Limits{Bytes: 10_000, Elements: 1000}}
		n := session.New(&cfg)
		var out session.Actions
		now := start
		for len(b) >= 4 {
			size := min(int(b[2])|int(b[3])<<8, len(b)-4)
			m := session.Message{Type: sparkplug.MessageType(b[0]), Retained: b[1]&128 != 0, Payload: b[4 : 4+size]}
			if b[1]&1 == 0 {
				m.Device = "dev"
			}
			n.Receive(m, now, &out)
			now = now.Add(time.Duration(b[1]) * 20 * time.Millisecond)
			n.Due(now, &out)
			switch {
			case b[1] == 64:
				n.Lost(now, &out)
			case b[1] == 65:
				n.Found(now, &out)
			}
			for _, e := range out.Events {
				for _, v := range e.Values {
					if err := v.Raw.Check(v.Datatype()); err != nil {
						t.Fatalf("%v of %s: %v", e.Kind, v.Metric.Name, err)
					}
				}
			}
			out.Reset()
			held, bytes := n.Held()
			if bytes > cfg.HeldBytes || held > 200 || (held == 0) != n.Deadline().IsZero() {
				t.Fatalf("%d held, %d bytes", held, bytes)
			}
			alive := n.State() == session.Online || n.State() == session.Reordering
			if alive && n.Unit("") == nil || n.State() == session.Reordering && held == 0 || !alive && n.State() == session.Offline && n.Devices() > 0 {
				t.Fatal(n.State(), held, n.Devices())
			}
			b = b[4+size:]
		}
	})
}

// TestNasty25BigBirth is a birth of 100,000 metrics, and data after it.
func TestNasty25BigBirth(t *testing.T) {
	p := sparkplug.Payload{Timestamp: 1, HasTimestamp: true, HasSeq: true}
	for i := range 100_000 {
		p.Metrics = append(p.Metrics, sparkplug.Metric{
			Name: fmt.Appendf(nil, "a/b/metric-%d", i), Alias: uint64(i), HasAlias: true, Datatype: sparkplug.TypeBoolean, Value: sparkplug.NewBool(true),
		})
	}
	var cfg session.Config
	n := session.New(&cfg)
	var out session.Actions
	n.Receive(session.Message{Type: sparkplug.NBirth, Payload: p.Append(nil)}, start, &out)
	last := out.Events[len(out.Events)-1]
	if last.Kind != session.NodeBirth || len(last.Values) != 100_000 {
		t.Fatal(last.Kind, len(last.Values))
	}
	out.Reset()
	p.Seq, p.Metrics = 1, p.Metrics[99_999:]
	p.Metrics[0].Name = nil
	n.Receive(session.Message{Type: sparkplug.NData, Payload: p.Append(nil)}, start, &out)
	if e := out.Events[0]; e.Kind != session.Data || e.Values[0].Metric.Name != "a/b/metric-99999" {
		t.Error(e)
	}
}

// TestComplaintsAreBounded: what is wrong with a message is told a few times.
func TestComplaintsAreBounded(t *testing.T) {
	p := sparkplug.Payload{HasSeq: true, Metrics: make([]sparkplug.Metric, 5000)}
	var cfg session.Config
	n := session.New(&cfg)
	var out session.Actions
	n.Receive(session.Message{Type: sparkplug.NBirth, Payload: p.Append(nil)}, start, &out)
	if len(out.Events) > 20 {
		t.Errorf("%d events", len(out.Events))
	}
}

// TestNastyShapes has values that cannot be taken beside one that can: tables
// with rows of the wrong width (52), properties whose keys and values do not pair
// and one with a quality (53), an extension (56), a part of a file (58).
func TestNastyShapes(t *testing.T) {
	x, _ := sparkplug.NewInt(sparkplug.TypeInt32, 1)
	table := &sparkplug.DataSet{NumColumns: 1, Columns: [][]byte{[]byte("c")}, Types: []sparkplug.Datatype{sparkplug.TypeInt32}}
	wide := *table
	wide.Rows = [][]sparkplug.Value{{x, x}}
	quality := &sparkplug.PropertySet{Keys: [][]byte{[]byte(sparkplug.Quality)}, Values: []sparkplug.PropertyValue{{Datatype: sparkplug.TypeInt32, Value: x}}}
	odd := &sparkplug.PropertySet{Keys: [][]byte{[]byte("a"), []byte("b")}, Values: quality.Values}
	p := sparkplug.Payload{Timestamp: 1, HasTimestamp: true, HasSeq: true, Metrics: []sparkplug.Metric{
		{Name: []byte("table"), Datatype: sparkplug.TypeDataSet, DataSet: table},
		{Name: []byte("wide"), Datatype: sparkplug.TypeDataSet, DataSet: &wide},
		{Name: []byte("quality"), Datatype: sparkplug.TypeInt32, Value: x, Properties: quality},
		{Name: []byte("odd"), Datatype: sparkplug.TypeInt32, Value: x, Properties: odd},
		{Name: []byte("file"), Datatype: sparkplug.TypeFile, Value: sparkplug.NewBytes([]byte("part")), Meta: &sparkplug.MetaData{MultiPart: true, Seq: 3}},
	}}
	wire := p.Append(nil)
	// An extension field of the payload.
	wire = append(wire, 0x32, 1, 7)
	var cfg session.Config
	n := session.New(&cfg)
	var out session.Actions
	n.Receive(session.Message{Type: sparkplug.NBirth, Payload: wire}, start, &out)
	got := map[string]bool{}
	bad := 0
	for _, e := range out.Events {
		if e.Kind == session.Malformed && e.Reason == session.BadValue {
			bad++
		}
		for _, v := range e.Values {
			got[v.Metric.Name] = true
		}
	}
	if n.State() != session.Online || bad != 2 || len(got) != 3 || !got["table"] || !got["quality"] || !got["file"] {
		t.Errorf("%v, %d refused, taken: %v", n.State(), bad, got)
	}
}

package node

import (
	"testing"

	"github.com/wilco-iot/wilco/sparkplug"
)

// FuzzCommand gives a node bytes as NCMD and as DCMD. Nothing panics; what comes
// out as a write is of a metric that may be written, and fits it; and the strict
// host finds no fault with what the node publishes then.
func FuzzCommand(f *testing.F) {
	for _, p := range []*sparkplug.Payload{
		{Metrics: []sparkplug.Metric{sparkplug.RebirthMetric(true, 1)}},
		command([][2]string{{"mode", "3"}, {"goal", "!4"}, {"#2", "!5"}, {"#99", "6"}}),
		command([][2]string{{"mode#1", "3"}, {"temp", "null"}, {"mode", "null"}}),
		{Metrics: []sparkplug.Metric{{HasAlias: true}, {Name: []byte{}}, {Name: []byte{0xFF}}, {}}},
		{Metrics: []sparkplug.Metric{{Name: []byte("mode"), Template: &sparkplug.Template{}, DataSet: &sparkplug.DataSet{}}}},
		{Metrics: []sparkplug.Metric{{Name: []byte(sparkplug.MetricNextServer), Value: sparkplug.NewBool(true)}}},
		{Seq: 1 << 40, HasSeq: true, UUID: []byte(sparkplug.CompressedUUID), Body: []byte("x")},
	} {
		f.Add(p.Append(nil), uint8(0))
		f.Add(p.Append(nil), uint8(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, how uint8) {
		var z sparkplug.Inflater
		var p sparkplug.Payload
		if z.Decode(b, &p, sparkplug.Limits{}) != nil {
			return
		}
		st := newStage(t, Config{Aliases: how&1 != 0, Servers: 1 + int(how>>2&1)})
		st.host.quiet = true
		st.step("connecting bdseq=1")
		st.step("connected")
		writable := map[string]sparkplug.Datatype{"/mode": sparkplug.TypeInt32, "press/goal": sparkplug.TypeUInt32}
		for _, device := range []string{"", "press", "saw"} {
			st.c.Command(device, &p, st.now)
			for _, a := range st.c.Actions() {
				if a.Kind != Write {
					continue
				}
				d, ok := writable[a.Device+"/"+string(a.Metric.Name)]
				if !ok || a.Metric.Datatype != d || a.Metric.Check(d) != nil {
					t.Fatalf("write of %q of %q: %+v", a.Metric.Name, a.Device, a.Metric)
				}
				if how&2 != 0 {
					// A handler that takes it as it is.
					if err := st.c.Update(a.Device, []sparkplug.Metric{a.Metric}, st.now); err != nil {
						t.Fatalf("update with what was written: %v", err)
					}
				}
			}
		}
		st.step("wait 1s")
		st.step("update temp=77")
		if st.c.State() == Online && st.c.Stats().Waiting > 0 {
			t.Fatal("online, and a sample waits")
		}
	})
}

package session_test

import (
	"math"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

const benchTime = 1_767_225_600_000

// traffic is an NBIRTH of ten doubles and the 256 NDATA after it, each with all
// ten by alias and with times of their own.
func traffic(named bool) (birth session.Message, data [256]session.Message) {
	p := sparkplug.Payload{Timestamp: benchTime, HasTimestamp: true, HasSeq: true, Seq: 255, Metrics: []sparkplug.Metric{sparkplug.BdSeqMetric(0, benchTime)}}
	for i := range 10 {
		x, _ := sparkplug.NewFloat(sparkplug.TypeDouble, 20+float64(i)/3)
		p.Metrics = append(p.Metrics, sparkplug.Metric{
			Name: []byte("line-1/press-042/temperature-" + string(rune('0'+i))), Alias: uint64(100 + i), HasAlias: true,
			Datatype: sparkplug.TypeDouble, Value: x, Timestamp: benchTime, HasTimestamp: true,
		})
	}
	birth = session.Message{Type: sparkplug.NBirth, Payload: p.Append(nil)}
	p.Metrics = p.Metrics[1:]
	for i := range p.Metrics {
		p.Metrics[i].Datatype = 0
		if named {
			p.Metrics[i].HasAlias = false
		} else {
			p.Metrics[i].Name = nil
		}
	}
	for i := range data {
		p.Seq, p.Timestamp = uint64(i), benchTime+uint64(i)
		data[i] = session.Message{Type: sparkplug.NData, Payload: p.Append(nil)}
	}
	return birth, data
}

// BenchmarkReceive is NDATA of ten doubles from bytes to named values: in order
// by alias, the same with 1 % of the messages one place late, and by name.
func BenchmarkReceive(b *testing.B) {
	for _, bc := range []struct {
		name    string
		reorder int // one of so many
		named   bool
	}{{"in order", 0, false}, {"1% reordered", 100, false}, {"by name", 0, true}} {
		b.Run(bc.name, func(b *testing.B) {
			birth, data := traffic(bc.named)
			var cfg session.Config
			n := session.New(&cfg)
			var out session.Actions
			now := time.Unix(benchTime/1000, 0)
			n.Receive(birth, now, &out)
			out.Reset()
			now = now.Add(time.Minute)
			values, sum := 0, 0.0
			take := func(i int) {
				n.Receive(data[i&255], now, &out)
				for _, e := range out.Events {
					for _, v := range e.Values {
						x, err := v.Raw.Value.Float(v.Metric.Datatype)
						if err != nil {
							b.Fatal(err)
						}
						sum += x
						values++
					}
				}
				out.Reset()
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				switch {
				case bc.reorder > 0 && i%bc.reorder == 0:
					take(i + 1)
				case bc.reorder > 0 && i%bc.reorder == 1:
					take(i - 1)
				default:
					take(i)
				}
				i++
			}
			b.StopTimer()
			if n.State() > session.Reordering || values < 10*(i-1) || math.IsNaN(sum) {
				b.Fatal(n.State(), values, i)
			}
			b.ReportMetric(float64(i)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

// BenchmarkBirth is an NBIRTH of 1000 metrics, a rebirth each.
func BenchmarkBirth(b *testing.B) {
	p := sparkplug.Payload{HasTimestamp: true, HasSeq: true, Metrics: []sparkplug.Metric{sparkplug.BdSeqMetric(0, 0)}}
	x, _ := sparkplug.NewFloat(sparkplug.TypeDouble, 20.5)
	for i := range 1000 {
		p.Metrics = append(p.Metrics, sparkplug.Metric{
			Name: []byte("line-1/press-042/temperature-" + string(rune('a'+i%26)) + string(rune('a'+i/26))), Alias: uint64(i), HasAlias: true,
			Datatype: sparkplug.TypeDouble, Value: x,
		})
	}
	var cfg session.Config
	n := session.New(&cfg)
	var out session.Actions
	var wire []byte
	b.ReportAllocs()
	for b.Loop() {
		p.Timestamp++
		wire = p.Append(wire[:0])
		n.Receive(session.Message{Type: sparkplug.NBirth, Payload: wire}, start, &out)
		out.Reset()
	}
}

// TestNoAllocation holds the steady state to no allocation.
func TestNoAllocation(t *testing.T) {
	birth, data := traffic(false)
	var cfg session.Config
	n := session.New(&cfg)
	var out session.Actions
	n.Receive(birth, start, &out)
	out.Reset()
	i := 0
	got := testing.AllocsPerRun(2000, func() {
		// Two of each ten change places.
		place := i
		switch i % 10 {
		case 3:
			place++
		case 4:
			place--
		}
		n.Receive(data[place&255], start.Add(time.Hour), &out)
		out.Reset()
		i++
	})
	if got != 0 || n.State() != session.Online {
		t.Errorf("%v allocations per message, state %v", got, n.State())
	}
}

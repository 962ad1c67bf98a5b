package host

import (
	"testing"
	"time"

	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug"
)

// BenchmarkShard is NDATA of ten doubles by alias through a shard: session,
// values for readers, counters; a thousand nodes by turns. Nobody watches.
func BenchmarkShard(b *testing.B) {
	h, err := New(Options{Role: Passive, Shards: 1, Servers: []Server{{Name: "a", Client: client.Options{Servers: []string{"mqtt://x"}}}}})
	if err != nil {
		b.Fatal(err)
	}
	s, l := h.shards[0], h.links[0]
	p := sparkplug.Payload{Timestamp: 1, HasTimestamp: true, HasSeq: true, Seq: 255}
	x, _ := sparkplug.NewFloat(sparkplug.TypeDouble, 1.5)
	for i := range 10 {
		p.Metrics = append(p.Metrics, sparkplug.Metric{
			Name: []byte{'m', byte('0' + i)}, Alias: uint64(i), HasAlias: true, Datatype: sparkplug.TypeDouble, Value: x, Timestamp: 1, HasTimestamp: true,
		})
	}
	const nodes = 1000
	at := time.Unix(1_000_000, 0)
	births := make([]item, nodes)
	for i := range births {
		births[i] = item{link: l, at: at, msg: &client.Delivery{Message: client.Message{Payload: p.Append(nil)}}, topic: sparkplug.Topic{
			Type: sparkplug.NBirth, Group: "g", Node: string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)),
		}}
		s.receive(&births[i])
	}
	for i := range p.Metrics {
		p.Metrics[i].Name, p.Metrics[i].Datatype = nil, 0
	}
	var data [256]*client.Delivery
	for i := range data {
		p.Seq = uint64(i)
		data[i] = &client.Delivery{Message: client.Message{Payload: p.Append(nil)}}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		it := births[i%nodes]
		it.topic.Type, it.msg, it.at = sparkplug.NData, data[i/nodes&255], at.Add(time.Minute)
		s.receive(&it)
		i++
	}
	b.StopTimer()
	if n, d, _ := h.Node(NodeID{"g", "aaa"}); n.Status != Online || d[0].Metrics[9].Received.Equal(at) {
		b.Fatal(n, d)
	}
	b.ReportMetric(float64(i)/b.Elapsed().Seconds(), "msgs/s")
}

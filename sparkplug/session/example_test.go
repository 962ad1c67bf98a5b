package session_test

import (
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// A node is born, and its second message comes before its first.
func ExampleNode() {
	var cfg session.Config
	node := session.New(&cfg)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

	var out session.Actions
	receive := func(kind sparkplug.MessageType, seq uint64, metrics ...sparkplug.Metric) {
		p := sparkplug.Payload{Timestamp: uint64(now.UnixMilli()), HasTimestamp: true, Seq: seq, HasSeq: true, Metrics: metrics}
		node.Receive(session.Message{Type: kind, Payload: p.Append(nil)}, now, &out)
		for _, e := range out.Events {
			fmt.Print(e.Kind)
			for _, v := range e.Values {
				x, _ := v.Raw.Value.Float(v.Datatype())
				fmt.Printf(" %s=%v", v.Metric.Name, x)
			}
			fmt.Println()
		}
		fmt.Println("  ", node.State())
		out.Reset()
	}
	temperature := func(name string, x float64) sparkplug.Metric {
		v, _ := sparkplug.NewFloat(sparkplug.TypeDouble, x)
		m := sparkplug.Metric{Alias: 7, HasAlias: true, Value: v}
		if name != "" {
			m.Name, m.Datatype = []byte(name), sparkplug.TypeDouble
		}
		return m
	}
	receive(sparkplug.NBirth, 0, temperature("temperature", 20), sparkplug.BdSeqMetric(0, 0))
	receive(sparkplug.NData, 2, temperature("", 22))
	receive(sparkplug.NData, 1, temperature("", 21))
	// Output:
	// node_birth temperature=20 bdSeq=0
	//    online
	//    reordering
	// data temperature=21
	// data temperature=22
	//    online
}

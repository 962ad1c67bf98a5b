package sparkplug_test

import (
	"fmt"

	"github.com/wilco-iot/wilco/sparkplug"
)

// A device says its temperature, and a host reads it.
func Example() {
	temperature, err := sparkplug.NewFloat(sparkplug.TypeFloat, 21.5)
	if err != nil {
		fmt.Println(err)
		return
	}
	sent := sparkplug.Payload{
		Timestamp: 1_767_225_600_000, HasTimestamp: true,
		Seq: 3, HasSeq: true,
		Metrics: []sparkplug.Metric{{
			Name:      []byte("temperature"),
			Timestamp: 1_767_225_600_000, HasTimestamp: true,
			Value: temperature, // the BIRTH said that it is a Float
		}},
	}
	wire := sent.Append(nil)

	topic, err := sparkplug.ParseTopic("spBv1.0/plant/DDATA/line-1/press-42")
	if err != nil {
		fmt.Println(err)
		return
	}
	var got sparkplug.Payload // used again for every message
	if err := got.Decode(wire, sparkplug.Limits{}); err != nil {
		fmt.Println(err)
		return
	}
	m := &got.Metrics[0]
	if err := m.Check(sparkplug.TypeFloat); err != nil {
		fmt.Println(err)
		return
	}
	x, _ := m.Value.Float(sparkplug.TypeFloat)
	fmt.Printf("%s of %s behind %s: %s = %v\n", topic.Type, topic.Device, topic.Node, m.Name, x)
	// Output: DDATA of press-42 behind line-1: temperature = 21.5
}

// A command is written in the form that the metric's BIRTH had, because some
// readers know one form of UInt32 only.
func ExampleValue_In() {
	birth := sparkplug.FormLong // as Tahu writes UInt32
	v, err := sparkplug.NewInt(sparkplug.TypeUInt32, 100)
	fmt.Println(v.Form(), v.In(birth, sparkplug.TypeUInt32).Form(), err)
	_, err = sparkplug.NewInt(sparkplug.TypeUInt8, 256)
	fmt.Println(err)
	// Output:
	// int_value long_value <nil>
	// sparkplug: out of range: the number does not fit UInt8
}

// A host application goes online: its Will first, then its birth.
func ExampleStateMessage() {
	connected := uint64(1_767_225_600_000)
	for _, online := range []bool{false, true} {
		m, err := sparkplug.StateMessage("scada", sparkplug.HostState{Online: online, Timestamp: connected})
		fmt.Println(m.Topic, string(m.Payload), m.QoS, m.Retain, err)
	}
	// Output:
	// spBv1.0/STATE/scada {"online":false,"timestamp":1767225600000} 1 true <nil>
	// spBv1.0/STATE/scada {"online":true,"timestamp":1767225600000} 1 true <nil>
}

// Seq and time are known before the metrics are read.
func ExamplePeek() {
	p := sparkplug.Payload{Seq: 255, HasSeq: true, Metrics: make([]sparkplug.Metric, 1000)}
	h, err := sparkplug.Peek(p.Append(nil))
	fmt.Println(h.Seq, h.HasTimestamp, sparkplug.NextSeq(uint8(h.Seq)), err)
	// Output: 255 false 0 <nil>
}

package order_test

import (
	"context"
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/order"
)

// A publisher numbers its messages; a subscriber sees what is missing.
func ExampleTracker() {
	stamper, err := order.NewStamper("press-7", 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	var messages [][]mqtt.UserProperty
	for range 5 {
		properties, err := order.AppendProperties[mqtt.UserProperty](nil, stamper.Next())
		if err != nil {
			fmt.Println(err)
			return
		}
		messages = append(messages, properties)
	}

	tracker := order.NewTracker("press-7", order.TrackerOptions{})
	for _, i := range []int{0, 1, 4, 4, 2} { // the network drops, repeats and delays
		stamp, err := order.ParseProperties(messages[i])
		if err != nil {
			fmt.Println(err)
			return
		}
		seen := tracker.Observe(stamp)
		fmt.Println(stamp, seen.Kind, seen.Gap)
	}
	tracker.Explain(4, 4, order.Expired)
	for gap := range tracker.Gaps() {
		fmt.Println("missing", gap)
	}
	// Output:
	// press-7/1/1 in order none
	// press-7/1/2 in order none
	// press-7/1/5 ahead 3-4
	// press-7/1/5 duplicate none
	// press-7/1/3 late 3
	// missing 4 (expired)
}

// A wilco broker tells what it had to drop; the tracker learns why its numbers are
// missing.
func ExampleParseGap() {
	property := func(key, value string) mqtt.UserProperty { return mqtt.UserProperty{Key: key, Value: value} }
	stamped := func(seq string, more ...mqtt.UserProperty) []mqtt.UserProperty {
		return append([]mqtt.UserProperty{property(order.PropertyStream, "press-7"),
			property(order.PropertyEpoch, "1"), property(order.PropertySeq, seq)}, more...)
	}
	tracker := order.NewTracker("press-7", order.TrackerOptions{})
	var notes order.Notes // one for the whole session
	for _, user := range [][]mqtt.UserProperty{
		stamped("1"),
		stamped("2", property(order.PropertyGap, "3 queue_full")), // the queue was full behind 2
		stamped("6"),
		stamped("8"), // nobody has told of 7
	} {
		stamp, err := order.ParseProperties(user)
		if err != nil {
			fmt.Println(err)
			return
		}
		seen := tracker.Observe(stamp)
		if seen.Kind.New() { // a repeat repeats what it told
			told, err := order.ParseGap(user)
			if err != nil {
				fmt.Println(err)
				return
			}
			notes.Add(told)
		}
		if seen.Kind == order.Ahead {
			tracker.Explain(seen.Gap.From, seen.Gap.To, notes.Take(seen.Gap))
		}
	}
	for gap := range tracker.Gaps() {
		fmt.Println("missing", gap)
	}
	// Output:
	// missing 3-5 (overflow)
	// missing 7
}

// MQTT 3.1.1 has no user properties: the stamp goes in front of the payload.
func ExampleCutPrefix() {
	payload, err := order.AppendPrefix(nil, order.Stamp{Stream: "press-7", Epoch: 1, Seq: 42})
	if err != nil {
		fmt.Println(err)
		return
	}
	payload = append(payload, `{"on":true}`...)

	stamp, body, err := order.CutPrefix(payload)
	fmt.Println(stamp, string(body), err)
	_, body, err = order.CutPrefix([]byte(`{"on":true}`))
	fmt.Println(string(body), err)
	// Output:
	// press-7/1/42 {"on":true} <nil>
	// {"on":true} message carries no stamp
}

// What was shuffled comes out in order; what is lost is waited for, but not for
// ever.
func ExampleReorder() {
	buffer := order.NewReorder[string](order.ReorderOptions{Timeout: 2 * time.Second})
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	show := func(outs []order.Out[string]) {
		for _, out := range outs {
			if out.IsGap() {
				fmt.Println("missing", out.Gap, out.Cause)
				continue
			}
			fmt.Println(out.Item.Seq, out.Item.Value)
		}
	}
	for _, it := range []order.Item[string]{{Seq: 2, Value: "two"}, {Seq: 1, Value: "one"}, {Seq: 4, Value: "four"}} {
		outs, fate := buffer.Push(it, now)
		fmt.Println("push", it.Seq, fate)
		show(outs)
	}
	if due, waiting := buffer.Due(); waiting {
		fmt.Println("wait for", due.Sub(now))
		show(buffer.Expire(due))
	}
	// Output:
	// push 2 held
	// push 1 passed
	// 1 one
	// 2 two
	// push 4 held
	// wait for 2s
	// missing 3 timed out
	// 4 four
}

// Work in parallel, in order per device, acknowledged in the order of receipt.
func ExampleLanes() {
	type message struct{ device, text string }
	lanes := order.NewLanes(order.LaneOptions[string, message]{
		Workers: 4,
		Handle: func(_ context.Context, device string, m message) error {
			return nil // the work
		},
		Ack: func(device string, m message, err error) {
			fmt.Println("ack", m.device, m.text, err) // with mqtt/client: Delivery.Ack
		},
	})
	ctx := context.Background()
	for _, m := range []message{{"lamp", "on"}, {"valve", "open"}, {"lamp", "off"}} {
		if err := lanes.Submit(ctx, m.device, m); err != nil {
			fmt.Println(err)
		}
	}
	if err := lanes.Drain(ctx, "lamp"); err != nil { // before another server takes it over
		fmt.Println(err)
	}
	if err := lanes.Stop(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// ack lamp on <nil>
	// ack valve open <nil>
	// ack lamp off <nil>
}

// A broker resent after a reconnect, in the wrong order, and lost the last.
func ExampleJudge() {
	report := order.Judge(order.Log{
		Sent:  4,
		Acked: []order.Gap{{From: 1, To: 4}},
		Arrivals: []order.Arrival{
			{Seq: 1, QoS: 1, Conn: 1}, {Seq: 2, QoS: 1, Conn: 1}, {Seq: 3, QoS: 1, Conn: 1},
			{Seq: 3, QoS: 1, Conn: 2, Dup: true}, {Seq: 2, QoS: 1, Conn: 2, Dup: true},
		},
	})
	for _, finding := range report.Findings {
		fmt.Println(finding)
	}
	fmt.Println("violates:", report.Verdicts.Any(order.Violations))
	// Output:
	// REORDER-LAST of 2 at arrival 4
	// LOSS-ACKED-POSTFIX of 4
	// violates: true
}

// Two subscribers saw two publishers' messages in different orders.
func ExampleTotalOrder() {
	fmt.Println(order.TotalOrder([]string{"a1", "b1", "a2"}, []string{"a1", "b1", "a2"}))
	fmt.Println(order.TotalOrder([]string{"a1", "b1", "a2"}, []string{"b1", "a1", "a2"}))
	// Output:
	// true
	// false
}

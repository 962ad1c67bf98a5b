package session_test

import (
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
)

type everybody struct{}

func (everybody) MayReceive(string) bool { return true }

// The way of a message through a session costs no allocation while nothing is
// lost, nor, at QoS 0, does telling what was.
func TestAllocations(t *testing.T) {
	lim := session.Limits{
		ReceiveMaximum: 10, Inflight: 10, InflightBytes: 1 << 20, QueueMessages: 1, QueueBytes: 1 << 20,
		QoS0Messages: 10, QoS0Bytes: 1 << 20, Window: 10, TopicAliases: 1,
	}
	s := session.New(&lim)
	s.Attach(session.Link{Version: mqtt.V5, Overflow: session.DropOldest})
	now := time.Unix(0, 0)
	var acts session.Actions
	buf := make([]byte, 0, 1<<12)
	seq, id := uint64(0), uint16(0)
	messages := [2]*session.Message{}
	for qos := range messages {
		messages[qos] = session.NewMessage(&mqtt.Publish{Payload: []byte("x"), QoS: mqtt.QoS(qos)}, "t", "p", "o", now)
	}
	deliver := func(qos mqtt.QoS, lose bool) func() {
		return func() {
			seq++
			s.Enqueue(session.Delivery{Message: messages[qos], Seq: seq, QoS: qos}, &acts)
			if lose {
				s.Missed(session.DropQueueFull)
			}
			out, _ := s.Next(buf, 1<<12, now, 0, everybody{}, &acts)
			if told := len(out) > 30; len(out) == 0 || told != lose {
				t.Fatalf("%q", out)
			}
			if qos > 0 {
				id++
				s.Receive(&mqtt.Ack{Kind: mqtt.TypePuback, PacketID: id}, now, &acts)
			}
			acts.Reset()
		}
	}
	for name, f := range map[string]struct {
		run  func()
		most float64
	}{
		"QoS 0": {deliver(0, false), 0}, "QoS 0 with a note": {deliver(0, true), 1},
		"QoS 1": {deliver(1, false), 1}, // the Ack of this test
	} {
		f.run()
		if n := testing.AllocsPerRun(100, f.run); n > f.most {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

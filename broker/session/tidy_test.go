package session

import (
	"testing"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

type open struct{}

func (open) MayReceive(string) bool { return true }

// A client that does not answer, with a message of a share in its queue, costs no
// more than its limits, whatever is dropped, lent and taken back behind that.
func TestMarkedMessagesDoNotGather(t *testing.T) {
	lim := Limits{Inflight: 1, InflightBytes: 1 << 20, QueueMessages: 10, QueueBytes: 1 << 20, Window: 1000}
	s := New(&lim)
	s.Attach(Link{Version: mqtt.V5, Overflow: DropOldest})
	m := NewMessage(&mqtt.Publish{QoS: 1}, "t", "", "", time.Time{})
	var acts Actions
	seq := uint64(0)
	add := func(lent bool) {
		seq++
		if !s.Enqueue(Delivery{Message: m, Seq: seq, QoS: 1, Lent: lent, Forced: lent}, &acts) {
			t.Fatalf("message %d was not taken", seq)
		}
		acts.Reset()
	}
	add(false)
	s.Next(nil, 1<<20, time.Time{}, 0, open{}, &acts) // and the window is closed
	add(true)
	first := seq
	for range 10_000 {
		add(false)
		add(true)
		s.Recall(nil, false, func(seq uint64) bool { return seq > first })
	}
	if most := 2*lim.QueueMessages + modest + 2; s.queue.n > most {
		t.Errorf("%d messages in a queue of %d", s.queue.n, lim.QueueMessages)
	}
	if s.queueMem != s.queue.n*m.Size() {
		t.Errorf("%d bytes, %d messages of %d", s.queueMem, s.queue.n, m.Size())
	}
	// What is left comes in order: the lent one, and the newest.
	s.puback(&mqtt.Ack{Kind: mqtt.TypePuback, PacketID: 1}, &acts)
	var got []uint64
	for range lim.QueueMessages {
		s.Next(nil, 1<<20, time.Time{}, 0, open{}, &acts)
		if s.live == 0 {
			break
		}
		got = append(got, s.fly.head().Seq)
		s.puback(&mqtt.Ack{Kind: mqtt.TypePuback, PacketID: s.fly.head().ID}, &acts)
	}
	if len(got) < 2 || got[0] != first || got[len(got)-1] != seq-1 {
		t.Errorf("came: %v", got)
	}
	if n, _ := s.Queued(); n != 0 {
		t.Errorf("%d are left", n)
	}
}

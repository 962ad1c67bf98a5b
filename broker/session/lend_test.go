package session

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// lending is a session with a stored queue and a window, to which messages were
// lent.
type lending struct {
	*testing.T
	s    *Session
	acts Actions
}

var lendingLimits = Limits{
	ReceiveMaximum: 10, Inflight: 10, InflightBytes: 1 << 20, QueueMessages: 10, QueueBytes: 1 << 20,
	QoS0Messages: 10, QoS0Bytes: 1 << 20, Window: 10,
}

func newLending(t *testing.T, window uint16, expiry uint32) *lending {
	x := &lending{T: t, s: New(&lendingLimits)}
	x.s.Attach(Link{Version: mqtt.V5, ReceiveMaximum: window, ExpirySeconds: expiry})
	return x
}

func (x *lending) add(seq uint64, qos mqtt.QoS, lent bool) {
	m := NewMessage(&mqtt.Publish{QoS: qos}, "t", "p", "o", time.Time{})
	x.s.Enqueue(Delivery{Message: m, Seq: seq, QoS: qos, Lent: lent, After: seq, Stored: !lent && x.s.Stored()}, &x.acts)
	m.Release()
}

type everything struct{}

func (everything) MayReceive(string) bool { return true }

// next sends what may be sent, and says how many.
func (x *lending) next(durable uint64) int {
	x.acts.Reset()
	x.s.Next(nil, 1<<20, time.Time{}, durable, everything{}, &x.acts)
	return x.acts.Published
}

func (x *lending) ack(kind mqtt.Type, id uint16) {
	x.acts.Reset()
	x.s.Receive(&mqtt.Ack{Kind: kind, PacketID: id}, time.Time{}, &x.acts)
}

func (x *lending) want(what string, got, want any) {
	x.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		x.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func all(uint64) bool { return true }

// What is lent waits for After, changes nothing that is stored, and is told when
// it is done.
func TestLentIsToldAndNotStored(t *testing.T) {
	for _, expiry := range []uint32{0, 60} {
		x := newLending(t, 10, expiry)
		x.add(5, mqtt.AtLeastOnce, true)
		x.want("sent before it is durable", x.next(4), 0)
		x.want("sent", x.next(5), 1)
		x.ack(mqtt.TypePuback, 1)
		x.want("ended", x.acts.Ended, []uint64{5})
		x.want("stored", x.acts.Store, []Change{})
		n, size := x.s.Queued()
		x.want("queued", fmt.Sprint(n, size), "0 0")
	}
	x := newLending(t, 10, 0)
	x.add(7, mqtt.ExactlyOnce, true)
	x.want("sent", x.next(7), 1)
	x.ack(mqtt.TypePubrec, 1)
	x.want("ended by PUBREC", x.acts.Ended, []uint64{})
	x.ack(mqtt.TypePubcomp, 1)
	x.want("ended by PUBCOMP", x.acts.Ended, []uint64{7})
}

func TestRecall(t *testing.T) {
	x := newLending(t, 3, 60)
	for seq := range uint64(6) {
		x.add(seq+1, []mqtt.QoS{1, 2}[seq%2], true)
	}
	x.want("sent", x.next(6), 3)
	x.want("not sent", x.s.Recall(nil, false, func(seq uint64) bool { return seq != 5 }), []uint64{4, 6})
	x.want("the other", x.s.Recall(nil, false, all), []uint64{5})
	x.want("again", x.s.Recall(nil, false, all), []uint64{})
	x.s.Detach(time.Time{}, &x.acts)
	x.want("sent, of QoS 1", x.s.Recall(nil, true, all), []uint64{1, 3})
	n, _ := x.s.Queued()
	x.want("queued", n, 1)
	x.s.Attach(Link{Version: mqtt.V5, ExpirySeconds: 60})
	x.want("sent again", x.next(6), 1)
	x.ack(mqtt.TypePuback, 1) // of a message that is another's by now
	x.want("ended", x.acts.Ended, []uint64{})
	x.want("closed", x.acts.Close, false)
	x.ack(mqtt.TypePubrec, 2)
	x.ack(mqtt.TypePubcomp, 2)
	x.want("ended", x.acts.Ended, []uint64{2})
	n, _ = x.s.Queued()
	x.want("queued in the end", n, 0)
}

// A message that is lent does not hide older ones of the stored queue, nor keep
// their packet ids from being confirmed.
func TestLentBesideStored(t *testing.T) {
	x := newLending(t, 10, 60)
	x.s.Detach(time.Time{}, &x.acts)
	x.add(1, mqtt.ExactlyOnce, false) // waits in the store
	x.s.Attach(Link{Version: mqtt.V5, ExpirySeconds: 60})
	x.add(2, mqtt.AtLeastOnce, true)
	x.want("lent", x.next(2), 1)
	after, _, ok := x.s.Missing()
	x.want("missing", fmt.Sprint(after, ok), "0 true")
	x.want("unsent", x.s.Unsent(1), true)
	m := NewMessage(&mqtt.Publish{QoS: mqtt.ExactlyOnce}, "t", "p", "o", time.Time{})
	x.s.Feed([]Delivery{{Message: m, Seq: 1, QoS: mqtt.ExactlyOnce, Stored: true}}, 2)
	m.Release()
	x.add(3, mqtt.AtLeastOnce, true)
	x.next(3)
	x.want("reserved", x.acts.Store, []Change{{Kind: Reserved, ID: 2, Seq: 1}})
	x.s.Confirm(1)
	x.want("sent", x.next(3), 2)
	x.want("unsent", x.s.Unsent(1), false)
}

func TestLose(t *testing.T) {
	x := newLending(t, 10, 0)
	x.add(1, mqtt.AtLeastOnce, true)
	x.add(2, mqtt.AtLeastOnce, true)
	x.s.Recall(nil, false, func(seq uint64) bool { return seq == 2 })
	x.s.Lose(1)
	x.s.Lose(2) // it is another's by now
	n, size := x.s.Queued()
	x.want("queued", fmt.Sprint(n, size), "0 0")
	x.want("sent", x.next(9), 0)
	if !slices.Equal(x.acts.Ended, []uint64{1}) {
		t.Errorf("ended %v", x.acts.Ended)
	}
}

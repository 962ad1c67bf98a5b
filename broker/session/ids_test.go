package session_test

import (
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
)

// More messages than there are packet ids, while two ids are held: they are not
// used again, and what is kept for the held ones stays bounded.
// Shows [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1].
func TestIDsWrapAroundHeldOnes(t *testing.T) {
	st := newStage()
	st.lim.Inflight, st.lim.QueueMessages = 100, 1000
	st.attach(args{"expiry": "0"})
	held := map[uint16]bool{}
	m := session.NewMessage(&mqtt.Publish{QoS: 1}, "t", "", "", time.Time{})
	for i := range 150_000 {
		st.s.Enqueue(session.Delivery{Message: m, Seq: uint64(i + 1), QoS: 1}, new(session.Actions))
		var acts session.Actions
		b, _ := st.s.Next(nil, 1, st.now, 0, st, &acts)
		list, err := decode(b, mqtt.V5)
		if err != nil || len(list) != 1 {
			t.Fatal(i, list, err)
		}
		id := list[0].(*mqtt.Publish).PacketID
		switch {
		case id == 0 || held[id]:
			t.Fatalf("message %d: id %d", i, id)
		case i == 4 || i == 70_000:
			held[id] = true
		default:
			st.s.Receive(&mqtt.Ack{Kind: mqtt.TypePuback, PacketID: id}, st.now, &acts)
		}
	}
	if n, _ := st.s.Queued(); n != 2 {
		t.Errorf("%d left", n)
	}
	var acts session.Actions
	st.s.Detach(st.now, &acts)
	st.attach(args{})
	b, _ := st.s.Next(nil, 1000, st.now, 0, st, &acts)
	list, err := decode(b, mqtt.V5)
	if err != nil || len(list) != 2 || !list[0].(*mqtt.Publish).Dup || !held[list[0].(*mqtt.Publish).PacketID] {
		t.Errorf("%v %v", list, err)
	}
}

// The QoS 2 messages whose ids could not be stored are asked for again.
func TestReservationDenied(t *testing.T) {
	st := newStage()
	st.attach(args{"expiry": "60"})
	st.message([]string{"t", "x"}, args{"qos": "2"}, new(session.Actions))
	for range 2 {
		var acts session.Actions
		if b, _ := st.s.Next(nil, 1000, st.now, st.durable, st, &acts); len(b) != 0 || len(acts.Store) != 1 || acts.Store[0].Kind != session.Reserved {
			t.Fatalf("%x %v", b, acts.Store)
		}
		st.s.Deny()
	}
	var acts session.Actions
	st.s.Next(nil, 1000, st.now, st.durable, st, &acts)
	st.s.Confirm(acts.Store[0].Seq)
	if b, _ := st.s.Next(nil, 1000, st.now, st.durable, st, &acts); len(b) == 0 {
		t.Error("not sent after Confirm")
	}
}

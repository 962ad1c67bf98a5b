package broker

import (
	"testing"

	"github.com/wilco-iot/wilco/mqtt"
)

// Shows [MQTT-2.2.1-5] [MQTT-3.3.4-1] [MQTT-3.8.4-8] [MQTT-4.3.2-4] [MQTT-4.3.3-4]
// [MQTT-4.3.3-8] [MQTT-4.3.3-11] [MQTT-4.3.1-1] [MQTT-3.12.4-1].
func TestPublishToSubscriber(t *testing.T) {
	for qos := range mqtt.QoS(3) {
		b := start(t, Options{})
		sub, from := join(t, b, clean("sub")), join(t, b, clean("from"))
		sub.subscribe(qos, "a/+")
		sub.quiet()
		switch qos {
		case 0:
			from.send(pub("a/b", "x", 0, 0))
			sub.expect(pub("a/b", "x", 0, 0))
		case 1:
			from.send(pub("a/b", "x", 1, 7))
			from.expect(ack(mqtt.TypePuback, 7))
			sub.expect(pub("a/b", "x", 1, 1))
			sub.send(ack(mqtt.TypePuback, 1))
		case 2:
			from.send(pub("a/b", "x", 2, 7))
			from.expect(ack(mqtt.TypePubrec, 7))
			from.send(ack(mqtt.TypePubrel, 7))
			from.expect(ack(mqtt.TypePubcomp, 7))
			sub.expect(pub("a/b", "x", 2, 1))
			sub.send(ack(mqtt.TypePubrec, 1))
			sub.expect(ack(mqtt.TypePubrel, 1))
			sub.send(ack(mqtt.TypePubcomp, 1))
		}
		sub.quiet()
		from.quiet()
	}
}

// The unacknowledged come first, with DUP and in their order, then PUBRELs,
// then the backlog, then what is live.
// Shows [MQTT-3.3.1-1] [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-4.6.0-4] [MQTT-4.9.0-1]
// [MQTT-4.9.0-2] [B3a].
func TestResumeOrder(t *testing.T) {
	b := start(t, Options{})
	sub, from := join(t, b, mqtt.Connect{ClientID: "sub", SessionExpirySeconds: 60, ReceiveMaximum: 4}), join(t, b, clean("from"))
	sub.subscribe(2, "#")
	for i, qos := range []mqtt.QoS{2, 1, 2, 1, 1, 2} {
		from.send(pub("t", string(rune('a'+i)), qos, uint16(i+1)))
		if qos == 1 {
			from.expect(ack(mqtt.TypePuback, uint16(i+1)))
		} else {
			from.expect(ack(mqtt.TypePubrec, uint16(i+1)))
		}
	}
	sub.expect(pub("t", "a", 2, 1), pub("t", "b", 1, 2), pub("t", "c", 2, 3), pub("t", "d", 1, 4))
	sub.send(ack(mqtt.TypePubrec, 1))
	sub.expect(ack(mqtt.TypePubrel, 1))
	sub.quiet()
	sub.drop(b, "sub")
	from.send(pub("t", "g", 1, 10))
	from.expect(ack(mqtt.TypePuback, 10))

	sub = open(t, b)
	if a := sub.connect(mqtt.Connect{ClientID: "sub", SessionExpirySeconds: 60}); !a.SessionPresent {
		t.Fatal("session lost")
	}
	sub.expect(
		dup(pub("t", "b", 1, 2)), dup(pub("t", "c", 2, 3)), dup(pub("t", "d", 1, 4)),
		ack(mqtt.TypePubrel, 1),
		pub("t", "e", 1, 5), pub("t", "f", 2, 6), pub("t", "g", 1, 7))
	from.send(pub("t", "h", 1, 11))
	sub.expect(pub("t", "h", 1, 8))
}

// Shows [MQTT-3.1.4-3] [MQTT-4.13.2-1] [B3b].
func TestTakeover(t *testing.T) {
	b := start(t, Options{})
	first := join(t, b, lasting("x"))
	first.subscribe(1, "t")
	second := open(t, b)
	if a := second.connect(lasting("x")); !a.SessionPresent {
		t.Fatal("session lost")
	}
	first.expect(&mqtt.Disconnect{Reason: mqtt.SessionTakenOver})
	first.closed()
	second.send(pub("t", "x", 1, 1))
	second.expect(ack(mqtt.TypePuback, 1), pub("t", "x", 1, 1))
}

package check

import (
	"fmt"

	"github.com/wilco-iot/wilco/mqtt"
)

// killed kills the broker right after an acknowledgement, and starts it again:
// what it acknowledged must be there for a persistent session.
func killed(t *trial) {
	for round := range t.size(5, 1000) {
		if t.over() {
			return
		}
		qos := mqtt.QoS(1 + round%2)
		topic := t.topic(fmt.Sprintf("k%d", round))
		sub := t.subscriber(topic, qos, 20)
		sub.leave()
		pub := t.publisher(fmt.Sprintf("p%d", round))
		pub.send(20+t.rng.IntN(60), message{topic: topic, qos: qos})
		t.process.kill()
		pub.cut()
		if !t.restart() || !sub.connect() {
			return
		}
		if !sub.connack.SessionPresent {
			t.note("round %d: the session was gone after kill -9", round)
			t.settle(sub) // nothing is to be waited for
			t.judge(Rule{}, sub, pub)
			return
		}
		t.check(Rule{}, sub, pub)
		sub.leave()
	}
}

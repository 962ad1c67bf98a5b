package gateway

import (
	"log/slog"
	"testing"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/gateway/config"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

// What is being said is not dropped, and what is dropped was not said: also by what its
// properties take.
func TestDownLane(t *testing.T) {
	message := func(text string) *client.Delivery {
		return &client.Delivery{Message: client.Message{Topic: "t", Payload: []byte(text),
			User: []mqtt.UserProperty{{Key: "k", Value: string(make([]byte, 100))}}}}
	}
	for name, bounds := range map[string]config.Queue{"messages": {MaxMessages: 2, MaxBytes: 1 << 20}, "bytes": {MaxMessages: 10, MaxBytes: 250}} {
		bounds.Overflow = broker.DropOldest
		l := newDownLane(&Gateway{log: slog.New(slog.DiscardHandler)}, config.Mirror{Queue: bounds})
		l.take(message("1"))
		said := l.next()
		for _, text := range []string{"2", "3", "4"} {
			l.take(message(text))
		}
		left := ""
		for d := l.next(); d != nil; d = l.next() {
			left += string(d.Payload)
		}
		if string(said.Payload) != "1" || left != "34" || l.dropped != 1 || l.bytes != 0 {
			t.Errorf("%s: said %s, left %s, %d dropped, %d bytes", name, said.Payload, left, l.dropped, l.bytes)
		}
	}
}

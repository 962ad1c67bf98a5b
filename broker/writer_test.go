package broker

import (
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/mqtt"
)

// A publisher whose messages are written by its own reader is not held up by a
// subscriber that reads nothing, and what the subscriber's socket has taken by
// half goes on where it stopped.
func TestStalledSubscriberOfSmallMessages(t *testing.T) {
	b := start(t, Options{Listeners: loopback, Limits: Limits{WriteStall: 2 * patience}})
	sub, from := dial(t, b, "tcp"), dial(t, b, "tcp")
	sub.connect(clean("sub"))
	sub.subscribe(0, "t")
	from.connect(clean("from"))
	b.hub.mu.Lock()
	cl := b.hub.clients["sub"]
	err := errors.Join(sub.nc.(*net.TCPConn).SetReadBuffer(4<<10), cl.conn.nc.(*net.TCPConn).SetWriteBuffer(4<<10))
	b.hub.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	stalled := func() bool {
		cl.mu.Lock()
		defer cl.mu.Unlock()
		return cl.conn.writing && !cl.core.RoomQoS0(b.limits.QoS0Bytes-100<<10) // that much waits
	}
	number := func(n int) string { return string(binary.BigEndian.AppendUint32(nil, uint32(n))) }
	sent := 0
	for ; !stalled(); sent++ {
		if sent == 50_000 {
			t.Fatal("the subscriber's socket takes everything")
		}
		from.send(pub("t", number(sent)+strings.Repeat("x", 200), 1, 1)) // small enough for the small buffer
		from.expect(ack(mqtt.TypePuback, 1))
	}
	for n := range sent {
		p, ok := sub.must().(*mqtt.Publish)
		if !ok || string(p.Payload[:4]) != number(n) || len(p.Payload) != 204 {
			t.Fatalf("message %d of %d: %v", n, sent, p)
		}
	}
	for reason, n := range b.Stats().Dropped {
		if n > 0 {
			t.Errorf("%d dropped: %s", n, reason)
		}
	}
}

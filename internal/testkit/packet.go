package testkit

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// patience is how long something is waited for: it only guards against a hang.
const patience = time.Minute

// ReadPacket reads one packet off c, whole and nothing behind it, or fails the test.
func ReadPacket(t testing.TB, c net.Conn, v mqtt.Version) mqtt.Packet {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var head []byte
	for {
		head = append(head, 0)
		if _, err := io.ReadFull(c, head[len(head)-1:]); err != nil {
			t.Fatal(err)
		}
		h, n, err := mqtt.ParseHeader(head, 0)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			continue
		}
		body := make([]byte, h.Length)
		if _, err := io.ReadFull(c, body); err != nil {
			t.Fatal(err)
		}
		p, err := mqtt.DecodePacket(h, body, v)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}

// WritePacket writes p to c, or fails the test.
func WritePacket(t testing.TB, c net.Conn, v mqtt.Version, p mqtt.Packet) {
	t.Helper()
	b, err := p.Append(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

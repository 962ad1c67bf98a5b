package interop

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// tap listens to one client's connections and notes the packets of QoS 1 and 2
// handshakes in the order in which they pass.
type tap struct {
	version mqtt.Version

	mu      sync.Mutex
	passed  []passage
	conns   []net.Conn
	changed chan struct{} // closed and replaced at each packet
}

// passage is one packet; up is from the client.
type passage struct {
	up   bool
	kind mqtt.Type
	id   uint16
}

func (p passage) String() string { return fmt.Sprintf("up=%v type=%d id=%d", p.up, p.kind, p.id) }

func newTap(v mqtt.Version) *tap { return &tap{version: v, changed: make(chan struct{})} }

func (p *tap) wrap(nc net.Conn) net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, nc)
	return &tapConn{Conn: nc, tap: p}
}

// sever ends the connections without a word, and forgets what has passed.
func (p *tap) sever() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, nc := range p.conns {
		nc.Close()
	}
	p.conns, p.passed = nil, nil
}

// note cuts complete packets off the front of b.
func (p *tap) note(b []byte, up bool) (rest []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		h, n, err := mqtt.ParseHeader(b, 1<<20)
		if err != nil || n == 0 || len(b) < n+h.Length {
			return b
		}
		packet, err := mqtt.DecodePacket(h, b[n:n+h.Length], p.version)
		b = b[n+h.Length:]
		switch packet := packet.(type) {
		case *mqtt.Publish:
			if packet.QoS == 0 {
				continue
			}
			p.passed = append(p.passed, passage{up, h.Type, packet.PacketID})
		case *mqtt.Ack:
			p.passed = append(p.passed, passage{up, packet.Kind, packet.PacketID})
		default:
			continue
		}
		if err != nil {
			p.passed[len(p.passed)-1].kind = 0 // fits nothing
		}
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// await blocks until n packets of a kind have passed in one direction, and
// returns their identifiers.
func (p *tap) await(t *testing.T, up bool, kind mqtt.Type, n int) (ids []uint16) {
	t.Helper()
	end := time.After(patience)
	for {
		p.mu.Lock()
		ids = ids[:0]
		for _, x := range p.passed {
			if x.up == up && x.kind == kind {
				ids = append(ids, x.id)
			}
		}
		changed := p.changed
		p.mu.Unlock()
		if len(ids) >= n {
			return ids
		}
		select {
		case <-changed:
		case <-end:
			t.Fatalf("%d of %d packets of type %d", len(ids), n, kind)
		}
	}
}

// underway is the largest number of messages that were published in one
// direction and not yet acknowledged.
func (p *tap) underway(up bool) (most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := 0
	for _, x := range p.passed {
		switch {
		case x.up == up && x.kind == mqtt.TypePublish:
			now++
			most = max(most, now)
		case x.up != up && (x.kind == mqtt.TypePuback || x.kind == mqtt.TypePubcomp):
			now--
		}
	}
	return most
}

type tapConn struct {
	net.Conn
	tap       *tap
	sent, got []byte // the packet that is not complete yet
}

func (c *tapConn) Write(p []byte) (int, error) {
	c.sent = c.tap.note(append(c.sent, p...), true)
	return c.Conn.Write(p)
}

func (c *tapConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.got = c.tap.note(append(c.got, p[:n]...), false)
	return n, err
}

// dialTapped dials without a proxy, and listens at the client's end.
func dialTapped(r *rig, network string, p *tap) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		nc, err := r.dial(ctx, network)
		if err != nil {
			return nil, err
		}
		return p.wrap(nc), nil
	}
}

// take receives n values.
func take[T any](t *testing.T, from <-chan T, n int) []T {
	t.Helper()
	end := time.After(patience)
	var got []T
	for len(got) < n {
		select {
		case v := <-from:
			got = append(got, v)
		case <-end:
			t.Fatalf("%d of %d", len(got), n)
		}
	}
	return got
}

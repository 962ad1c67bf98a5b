package sim

import (
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/pipe"
)

// Faults are the chances, 0 to 1 for each message, that a network and a broker
// do what they do at times. All stay within what MQTT allows, but for the
// losses: those are what a broker does that drops what it has acknowledged.
type Faults struct {
	LoseDown      float64 // a command is acknowledged to the broker and never reaches the device
	DuplicateDown float64 // a command reaches the device twice
	LoseUp        float64 // an ack or result is acknowledged to the device and never reaches the server
	DuplicateUp   float64 // an ack or result is sent twice
	Swap          float64 // an ack or result waits until the next one has overtaken it
	Cut           float64 // the connection breaks behind a message
}

// Counts is how often each fault was made.
type Counts struct {
	LostDown, DuplicatedDown, LostUp, DuplicatedUp, Swapped, Cut atomic.Int64
}

// maxHold is how long a swapped message waits for another to overtake it.
const maxHold = 150 * time.Millisecond

// network stands between a device and its broker, and passes packets on with
// faults. Two goroutines each; both end when either side closes.
type network struct {
	device, broker net.Conn
	faults         func() Faults
	counts         *Counts

	mu    sync.Mutex // guards the random numbers and what follows
	rnd   *rand.Rand
	held  []byte              // a packet that waits to be overtaken
	twice map[uint16]bool     // up: ids whose second PUBACK is for the device to never see
	ghost map[uint16]struct{} // down: ids that we made up; their PUBACKs stop here
	next  uint16
}

// throughFaults connects a device to broker through faults, which are asked for
// anew at each message. It returns the device's end. Rnd is the network's own.
func throughFaults(broker net.Conn, rnd *rand.Rand, faults func() Faults, counts *Counts) net.Conn {
	a, b := pipe.Pipe()
	n := &network{device: b, broker: broker, faults: faults, counts: counts, rnd: rnd,
		twice: make(map[uint16]bool), ghost: make(map[uint16]struct{}), next: 60000}
	go n.pass(n.device, n.up)
	go n.pass(n.broker, n.down)
	return a
}

func (n *network) close() {
	n.device.Close()
	n.broker.Close()
}

// pass reads packets from one side and gives them to handle until it fails.
func (n *network) pass(from net.Conn, handle func(mqtt.Header, []byte) bool) {
	defer n.close()
	r := mqtt.NewReader(from, 1<<20)
	for {
		h, body, err := r.Next()
		if err != nil || !handle(h, body) {
			return
		}
	}
}

// roll says yes with chance p. The caller holds mu.
func (n *network) roll(p float64) bool { return p > 0 && n.rnd.Float64() < p }

// up handles a packet from the device; false cuts the connection.
func (n *network) up(h mqtt.Header, body []byte) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.faults()
	switch h.Type {
	case mqtt.TypePuback:
		if id := packetID(body); id >= 60000 {
			if _, made := n.ghost[id]; made {
				delete(n.ghost, id)
				return true
			}
		}
	case mqtt.TypePublish:
		return n.upPublish(h, body, f)
	}
	return n.write(n.broker, frame(h, body))
}

func (n *network) upPublish(h mqtt.Header, body []byte, f Faults) bool {
	var p mqtt.Publish
	if p.Decode(h, body, mqtt.V5) != nil || p.QoS != mqtt.AtLeastOnce || strings.HasSuffix(string(p.Topic), "/status") {
		return n.write(n.broker, frame(h, body))
	}
	if n.roll(f.LoseUp) {
		n.counts.LostUp.Add(1)
		return n.write(n.device, mqtt.AppendAck(nil, mqtt.V5, mqtt.TypePuback, p.PacketID, mqtt.Success))
	}
	out := frame(h, body)
	if n.roll(f.DuplicateUp) {
		n.counts.DuplicatedUp.Add(1)
		n.twice[p.PacketID] = true
		h.Flags |= 0x08 // DUP
		out = append(out, frame(h, body)...)
	}
	if n.held == nil && n.roll(f.Swap) {
		n.counts.Swapped.Add(1)
		n.held = out
		time.AfterFunc(maxHold, func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.release()
		})
		return true
	}
	ok := n.write(n.broker, out) && n.release()
	if n.roll(f.Cut) {
		n.counts.Cut.Add(1)
		return false
	}
	return ok
}

// release sends the packet that waits. The caller holds mu.
func (n *network) release() bool {
	out := n.held
	n.held = nil
	return out == nil || n.write(n.broker, out)
}

// down handles a packet from the broker; false cuts the connection.
func (n *network) down(h mqtt.Header, body []byte) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.faults()
	switch h.Type {
	case mqtt.TypePuback:
		if id := packetID(body); n.twice[id] {
			delete(n.twice, id) // the device expects one
			return true
		}
	case mqtt.TypePublish:
		var p mqtt.Publish
		if p.Decode(h, body, mqtt.V5) == nil && p.QoS == mqtt.AtLeastOnce {
			return n.downPublish(h, body, &p, f)
		}
	}
	return n.write(n.device, frame(h, body))
}

func (n *network) downPublish(h mqtt.Header, body []byte, p *mqtt.Publish, f Faults) bool {
	if n.roll(f.LoseDown) {
		n.counts.LostDown.Add(1)
		return n.write(n.broker, mqtt.AppendAck(nil, mqtt.V5, mqtt.TypePuback, p.PacketID, mqtt.Success))
	}
	ok := n.write(n.device, frame(h, body))
	if ok && n.roll(f.DuplicateDown) {
		n.counts.DuplicatedDown.Add(1)
		if n.next++; n.next < 60000 {
			n.next = 60000
		}
		n.ghost[n.next] = struct{}{}
		p.PacketID = n.next
		second, err := p.Append(nil, mqtt.V5)
		ok = err == nil && n.write(n.device, second)
	}
	if n.roll(f.Cut) {
		n.counts.Cut.Add(1)
		return false
	}
	return ok
}

func (n *network) write(to net.Conn, b []byte) bool {
	_, err := to.Write(b)
	return err == nil
}

func packetID(body []byte) uint16 {
	if len(body) < 2 {
		return 0
	}
	return uint16(body[0])<<8 | uint16(body[1])
}

// frame puts the fixed header before a body again.
func frame(h mqtt.Header, body []byte) []byte {
	out := append(make([]byte, 0, 5+len(body)), byte(h.Type)<<4|h.Flags)
	n := len(body)
	for {
		b := byte(n & 0x7f)
		if n >>= 7; n == 0 {
			return append(append(out, b), body...)
		}
		out = append(out, b|0x80)
	}
}

package sim

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/pipe"
)

// Faults are what a network and a broker do at times. All stay within what MQTT
// allows, but for the losses and the reordering: those are what a broker does
// that drops what it has acknowledged, or keeps no order.
type Faults struct {
	Down Direction // commands, on their way to the device
	Up   Direction // acks and results, on their way to the server
	Cut  float64   // chance, for each of these messages, that the connection breaks behind it
}

// Direction is the faults of one way. The chances, 0 to 1, are for each message.
type Direction struct {
	Lose      float64 `json:"lose"`      // it is acknowledged to its sender and never arrives
	Duplicate float64 `json:"duplicate"` // it arrives twice
	Reorder   float64 `json:"reorder"`   // it waits until the next one has overtaken it
	Delay     Span    `json:"delay"`     // of every packet; packets do not overtake each other by it
}

// Counts is how often each fault was made.
type Counts struct {
	LostDown, DuplicatedDown, SwappedDown, LostUp, DuplicatedUp, SwappedUp, Cut atomic.Int64
}

// maxHold is how long a message waits for another to overtake it.
const maxHold = 150 * time.Millisecond

// maxOnTheWay is how many packets are on their way in one direction before the
// sender has to wait.
const maxOnTheWay = 256

// network stands between a device and its broker, and passes packets on with
// faults:
//
//	device ─► pull ─► queue, each packet with its time ─► push ─► broker, and back
//
// Four goroutines each; all end when either side closes.
type network struct {
	device, broker net.Conn
	faults         func() Faults
	counts         *Counts
	muted          func(tid string) bool // nil: no answer is
	over           chan struct{}         // closed by close
	once           sync.Once

	mu       sync.Mutex // guards what follows
	up, down way
	twice    map[uint16]bool     // up: ids whose second PUBACK is for the device to never see
	ghost    map[uint16]struct{} // down: ids that we made up; their PUBACKs stop here
	next     uint16
}

// way is one direction.
type way struct {
	rnd  *rand.Rand
	held []byte // a packet that waits to be overtaken
}

// ghosts is the first packet identifier that we make up.
const ghosts = 60000

type packet struct {
	due    time.Time
	header mqtt.Header
	body   []byte
}

// open starts a network whose broker, faults, counts and random numbers are set,
// and returns the device's end. The faults are asked for anew at each message.
func (n *network) open() net.Conn {
	a, b := pipe.Pipe()
	n.device, n.over, n.next = b, make(chan struct{}), ghosts
	n.twice, n.ghost = make(map[uint16]bool), make(map[uint16]struct{})
	n.start(n.device, &n.up, func(f Faults) Span { return f.Up.Delay }, n.passUp)
	n.start(n.broker, &n.down, func(f Faults) Span { return f.Down.Delay }, n.passDown)
	return a
}

func (n *network) close() {
	n.once.Do(func() {
		close(n.over)
		n.device.Close()
		n.broker.Close()
	})
}

func (n *network) start(from net.Conn, w *way, delay func(Faults) Span, handle func(mqtt.Header, []byte) bool) {
	queue := make(chan packet, maxOnTheWay)
	go n.pull(from, w, delay, queue)
	go n.push(queue, handle)
}

// pull reads packets until it fails, and says when each is to arrive.
func (n *network) pull(from net.Conn, w *way, delay func(Faults) Span, queue chan<- packet) {
	defer close(queue)
	r := mqtt.NewReader(from, 1<<20)
	var last time.Time
	for {
		h, body, err := r.Next()
		if err != nil {
			return
		}
		due := time.Now()
		if d := delay(n.faults()); d.Max > 0 {
			n.mu.Lock()
			due = due.Add(d.draw(w.rnd))
			n.mu.Unlock()
		}
		if due.Before(last) {
			due = last
		}
		last = due
		select {
		case queue <- packet{due, h, bytes.Clone(body)}:
		case <-n.over:
			return
		}
	}
}

// push handles packets when their time has come, and closes both sides when
// there are no more.
func (n *network) push(queue <-chan packet, handle func(mqtt.Header, []byte) bool) {
	defer n.close()
	for p := range queue {
		if wait := time.Until(p.due); wait > 0 {
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-n.over:
				t.Stop()
				return
			}
		}
		if !handle(p.header, p.body) {
			return
		}
	}
}

// roll says yes with chance p. The caller holds mu.
func (w *way) roll(p float64) bool { return p > 0 && w.rnd.Float64() < p }

// passUp handles a packet from the device; false cuts the connection.
func (n *network) passUp(h mqtt.Header, body []byte) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch h.Type {
	case mqtt.TypePuback:
		id := packetID(body)
		if _, made := n.ghost[id]; made {
			delete(n.ghost, id)
			return true
		}
	case mqtt.TypePublish:
		return n.answer(h, body, n.faults())
	}
	return n.write(n.broker, frame(h, body))
}

// answers says whether a topic is for acks or results. Presence and state have
// faults of the connection only: nothing repeats them before the next one.
func answers(topic string) bool {
	return strings.HasSuffix(topic, "/ack") || strings.HasSuffix(topic, "/result")
}

// answer handles what a device says.
func (n *network) answer(h mqtt.Header, body []byte, f Faults) bool {
	var p mqtt.Publish
	if p.Decode(h, body, mqtt.V5) != nil || p.QoS != mqtt.AtLeastOnce || !answers(string(p.Topic)) {
		return n.write(n.broker, frame(h, body))
	}
	if n.silenced(&p) || n.up.roll(f.Up.Lose) {
		n.counts.LostUp.Add(1)
		return n.write(n.device, mqtt.AppendAck(nil, mqtt.V5, mqtt.TypePuback, p.PacketID, mqtt.Success))
	}
	out := frame(h, body)
	if n.up.roll(f.Up.Duplicate) {
		n.counts.DuplicatedUp.Add(1)
		n.twice[p.PacketID] = true
		h.Flags |= 0x08 // DUP
		out = append(out, frame(h, body)...)
	}
	if n.hold(&n.up, n.broker, f.Up.Reorder, out) {
		n.counts.SwappedUp.Add(1)
		return true
	}
	return n.write(n.broker, out) && n.release(&n.up, n.broker) && !n.cut(&n.up, f.Cut)
}

// silenced says whether the message is about a command of which the server is to
// hear nothing.
func (n *network) silenced(p *mqtt.Publish) bool {
	if n.muted == nil {
		return false
	}
	var doc struct{ TID string }
	return json.Unmarshal(p.Payload, &doc) == nil && doc.TID != "" && n.muted(doc.TID)
}

// hold keeps a packet back, with a chance, for the next to overtake it.
func (n *network) hold(w *way, to net.Conn, chance float64, out []byte) bool {
	if w.held != nil || !w.roll(chance) {
		return false
	}
	w.held = out
	time.AfterFunc(maxHold, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.release(w, to)
	})
	return true
}

// release sends the packet that waits. The caller holds mu.
func (n *network) release(w *way, to net.Conn) bool {
	out := w.held
	w.held = nil
	return out == nil || n.write(to, out)
}

func (n *network) cut(w *way, chance float64) bool {
	if !w.roll(chance) {
		return false
	}
	n.counts.Cut.Add(1)
	return true
}

// passDown handles a packet from the broker; false cuts the connection.
func (n *network) passDown(h mqtt.Header, body []byte) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch h.Type {
	case mqtt.TypePuback:
		if id := packetID(body); n.twice[id] {
			delete(n.twice, id) // the device expects one
			return true
		}
	case mqtt.TypePublish:
		var p mqtt.Publish
		if p.Decode(h, body, mqtt.V5) == nil && p.QoS == mqtt.AtLeastOnce {
			return n.command(h, body, &p, n.faults())
		}
	}
	return n.write(n.device, frame(h, body))
}

// command handles what the server says.
func (n *network) command(h mqtt.Header, body []byte, p *mqtt.Publish, f Faults) bool {
	if n.down.roll(f.Down.Lose) {
		n.counts.LostDown.Add(1)
		return n.write(n.broker, mqtt.AppendAck(nil, mqtt.V5, mqtt.TypePuback, p.PacketID, mqtt.Success))
	}
	out := frame(h, body)
	if n.down.roll(f.Down.Duplicate) {
		n.counts.DuplicatedDown.Add(1)
		if n.next++; n.next < ghosts {
			n.next = ghosts
		}
		n.ghost[n.next] = struct{}{}
		p.PacketID = n.next
		second, err := p.Append(nil, mqtt.V5)
		if err != nil {
			return false
		}
		out = append(out, second...)
	}
	if n.hold(&n.down, n.device, f.Down.Reorder, out) {
		n.counts.SwappedDown.Add(1)
		return true
	}
	return n.write(n.device, out) && n.release(&n.down, n.device) && !n.cut(&n.down, f.Cut)
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

package bench

import (
	"encoding/binary"

	"github.com/wilco-iot/wilco/mqtt"
)

// checkedSize is the length of what a payload carries, in bytes:
//
//	0          8         16                     24
//	+----------+----------+----------------------+---------
//	| who sent | number   | when, ns since       | filler
//	| it       | from 0   | load.epoch, 0: not   |
//	|          |          | sampled              |
//	+----------+----------+----------------------+---------
const checkedSize = 24

// frame is a PUBLISH that was encoded once; for each message a copy of it gets
// its identifier and its stamp.
type frame struct {
	bytes   []byte
	qos     mqtt.QoS
	idAt    int
	payload int // where it begins
	checked bool
}

func newFrame(topic string, size int, qos mqtt.QoS, v mqtt.Version) (*frame, error) {
	p := mqtt.Publish{Topic: []byte(topic), Payload: make([]byte, size), QoS: qos}
	for i := range p.Payload {
		p.Payload[i] = 'x'
	}
	if qos > 0 {
		p.PacketID = 1
	}
	b, err := p.Append(nil, v)
	if err != nil {
		return nil, err
	}
	_, n, err := mqtt.ParseHeader(b, 0)
	return &frame{bytes: b, qos: qos, idAt: n + 2 + len(topic), payload: len(b) - size, checked: size >= checkedSize}, err
}

// send puts a copy of f behind what is to be written. For QoS 1 and 2 there must
// be a free identifier. c.mu is held.
func (c *link) send(f *frame, from, number uint64, at int64) {
	begin := len(c.out)
	c.out = append(c.out, f.bytes...)
	b := c.out[begin:]
	if f.qos > 0 {
		id := c.free[len(c.free)-1]
		c.free = c.free[:len(c.free)-1]
		c.await[id] = mqtt.TypePuback
		if f.qos == mqtt.ExactlyOnce {
			c.await[id] = mqtt.TypePubrec
		}
		binary.BigEndian.PutUint16(b[f.idAt:], id)
	}
	if f.checked {
		stamp(b[f.payload:], from, number, at)
	}
}

func stamp(payload []byte, from, number uint64, at int64) {
	binary.LittleEndian.PutUint64(payload, from)
	binary.LittleEndian.PutUint64(payload[8:], number)
	binary.LittleEndian.PutUint64(payload[16:], uint64(at))
}

func readStamp(payload []byte) (from, number uint64, at int64) {
	_ = payload[checkedSize-1]
	return binary.LittleEndian.Uint64(payload), binary.LittleEndian.Uint64(payload[8:]),
		int64(binary.LittleEndian.Uint64(payload[16:]))
}

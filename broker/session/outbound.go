package session

import (
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// inline is the largest payload, in bytes, that Next copies into its buffer.
const inline = 4 << 10

// Gate is asked whether the client may receive a message, at the time it is
// delivered.
type Gate interface{ MayReceive(topic string) bool }

// RoomQoS0 tells whether the queue takes a QoS 0 message of that size. The bytes
// of the queue are for both; what QoS 0 has of them it gives to the others when
// they need it.
func (s *Session) RoomQoS0(size int) bool {
	return s.zero.n < s.lim.QoS0Messages && s.zeroMem+size <= s.lim.QoS0Bytes &&
		s.bytes+s.zeroMem+size <= s.mostBytes()
}

// Enqueue takes a message for the client, of which it holds its own reference,
// and tells whether it did. What is dropped, this message or others that make
// room for it, is in out. Whoever can tell the publisher asks Offer before: what
// does not fit is dropped here, whatever the policy. A stored delivery must be
// in the store, or be put there in the same turn, after what out.Store says.
func (s *Session) Enqueue(d Delivery, out *Actions) bool {
	size := d.Size()
	if d.QoS == mqtt.AtMostOnce {
		switch {
		case !s.attached:
			s.adopt(&d)
			s.drop(DropOffline, &d, out)
			return false
		case !s.RoomQoS0(size):
			s.adopt(&d)
			s.drop(DropQoS0Full, &d, out)
			return false
		}
		d.Message.Hold()
		s.zero.push(d) // [MQTT-4.3.1-1]
		s.zeroMem += size
		return true
	}
	if !d.Forced && !s.Room(size) && (s.overflow != DropOldest || !s.makeRoom(size, out)) {
		s.drop(DropQueueFull, &d, out)
		return false
	}
	s.count++
	s.bytes += size
	s.shedZero(out)
	if d.Stored {
		s.last = d.Seq
		full := s.queue.n >= s.lim.Window || s.queueMem > s.lim.InflightBytes
		if s.behind || !s.attached || full && !s.link.Handover {
			s.behind = true
			return true
		}
	}
	s.push(d)
	return true
}

func (s *Session) push(d Delivery) {
	d.Message.Hold()
	s.queueMem += d.Size()
	s.queue.push(d) // [MQTT-4.6.0-5] [MQTT-4.6.0-6]
	if !d.Lent {
		s.cursor = d.Seq
	}
}

// Missing says what Feed should be given: messages of the stored queue after a
// sequence number, and how many at most.
func (s *Session) Missing() (after uint64, limit int, ok bool) {
	if !s.behind || !s.attached || s.queue.n > s.lim.Window/2 || s.queueMem > s.lim.InflightBytes {
		return 0, 0, false
	}
	return s.cursor, s.lim.Window - s.queue.n, true
}

// Feed takes messages read from the stored queue, in order. durable is as for
// Next, read before the store was. It tells whether that brought anything new;
// if not, there is nothing to read before the next Enqueue.
func (s *Session) Feed(list []Delivery, durable uint64) bool {
	if !s.attached || !s.behind {
		return false
	}
	from := s.cursor
	for _, d := range list {
		switch {
		case d.Seq <= s.cursor:
		case d.Seq <= s.oldest.gone && waits(&d): // dropped since it was read
			s.cursor = d.Seq
		default:
			s.push(d)
		}
	}
	s.passFront()
	if s.cursor >= s.last || len(list) == 0 && durable >= s.last {
		s.behind = false
	}
	return s.cursor > from || !s.behind
}

// Discard forgets the stored message seq of that size, which the store could
// not keep. It has not been sent, since it was never durable.
func (s *Session) Discard(seq uint64, size int) {
	if seq <= s.oldest.gone { // it has made room for another meanwhile
		return
	}
	s.count--
	s.bytes -= size
	for p := s.queue.base; p < s.queue.end(); p++ {
		if d := s.queue.at(p); d.Seq == seq {
			d.QoS = discarded
		}
	}
}

// discarded marks a queued message that must not be sent.
const discarded mqtt.QoS = 0xFF

// recalled marks a queued message that another client gets.
const recalled mqtt.QoS = 0xFE

// Confirm tells that the packet ids reserved for messages up to seq are durable.
func (s *Session) Confirm(seq uint64) {
	for p := s.sent; p < s.fly.end(); p++ {
		switch f := s.fly.at(p); {
		case f.Lent: // its number says nothing about those of the stored queue
		case f.Seq > seq:
			return
		default:
			f.wait = false
		}
	}
}

// Deny tells that packet ids which were reserved could not be stored: Next asks
// for that again.
func (s *Session) Deny() { s.denied = true }

// reserve asks again for the packet ids that are not durable.
func (s *Session) reserve(out *Actions) {
	s.denied = false
	for p := s.sent; p < s.fly.end(); p++ {
		if f := s.fly.at(p); f.wait && !f.gone {
			out.Store = append(out.Store, Change{Kind: Reserved, ID: f.ID, Seq: f.Seq})
		}
	}
}

// Next appends what may be sent now to dst, until dst holds at least limit
// bytes. Stored messages above durable wait. When a payload is too large to be
// copied, Next returns its message, held for the caller: the payload is to be
// written after dst, then released.
func (s *Session) Next(dst []byte, limit int, now time.Time, durable uint64, gate Gate, out *Actions) ([]byte, *Message) {
	if !s.attached || s.closing {
		return dst, nil
	}
	if s.denied {
		s.reserve(out)
	}
	var big *Message
	for len(dst) < limit && big == nil {
		switch s.step(durable) {
		case sendFlight:
			dst, big = s.sendFlight(dst, now, gate, out)
		case sendRelease:
			if r := s.rel.at(s.relSent); !r.gone {
				dst = mqtt.AppendAck(dst, s.link.Version, mqtt.TypePubrel, r.id, mqtt.Success)
			}
			s.relSent++
		case sendZero:
			dst, big = s.sendZero(dst, now, gate, out)
		case admit:
			s.admit(now, gate, out)
		default:
			return dst, nil
		}
	}
	return dst, big
}

type step uint8

const (
	wait step = iota
	sendFlight
	sendRelease
	sendZero
	admit
)

// step decides what goes out next. It is the order promised: what is in fly,
// then PUBRELs left over from another connection, then queue and zero by
// sequence number.
func (s *Session) step(durable uint64) step {
	if s.sent < s.fly.end() {
		if f := s.fly.at(s.sent); f.gone || s.quota > 0 && !f.wait { // [MQTT-3.3.4-9] [MQTT-4.9.0-2] [MQTT-3.3.4-10] [MQTT-4.9.0-3]
			return sendFlight
		}
	}
	if s.relSent < s.rel.end() {
		return sendRelease
	}
	if s.zero.n > 0 && s.zeroTurn(durable) {
		return sendZero
	}
	return s.admissible(durable)
}

// zeroTurn tells whether the head of zero is next.
func (s *Session) zeroTurn(durable uint64) bool {
	d := s.zero.head()
	switch {
	case d.Stored && d.Seq > durable:
		return false
	case !s.roomToFly(): // the client's window is closed: QoS 0 passes
		return true
	case s.sent < s.fly.end():
		return false
	case s.queue.n > 0:
		return d.Seq < s.queue.head().Seq
	}
	return !s.behind // the store may have older ones
}

// admissible is admit when the head of queue may go to fly.
func (s *Session) admissible(durable uint64) step {
	if s.queue.n == 0 || !s.roomToFly() {
		return wait
	}
	d := s.queue.head()
	if (d.Stored && d.Seq > durable || d.Lent && d.After > durable) && d.QoS < recalled {
		return wait
	}
	return admit
}

func (s *Session) roomToFly() bool {
	ahead := int(s.fly.end() - s.sent)
	return s.quota > ahead && s.live+s.released < min(s.lim.Inflight, maxIDs) &&
		(s.live == 0 || s.flyBytes < s.lim.InflightBytes)
}

// maxIDs keeps a search for a free packet id short.
const maxIDs = 60_000

// verdict says whether m may go out to the client as it is now.
func (s *Session) verdict(d *Delivery, now time.Time, gate Gate) (DropReason, bool) {
	if d.Message.Expired(now) { // [MQTT-3.3.2-5]
		return DropExpired, false
	}
	return s.deliverable(d, gate)
}

func (s *Session) deliverable(d *Delivery, gate Gate) (DropReason, bool) {
	if !gate.MayReceive(d.Message.Topic) {
		return DropDenied, false
	}
	if s.link.MaximumPacketSize != 0 {
		f := frame{m: d.Message, version: s.link.Version, qos: d.QoS, subs: d.SubscriptionIDs, number: s.number(d)}
		if !s.suits(&f) {
			return DropTooLarge, false
		}
	}
	return 0, true
}

// admit moves the head of queue to fly, with a packet id, or drops it.
func (s *Session) admit(now time.Time, gate Gate, out *Actions) {
	d := *s.queue.head()
	if !d.Lent {
		s.admitted = d.Seq
	}
	if d.QoS >= recalled {
		if d.Lent && d.QoS == discarded {
			out.Ended = append(out.Ended, d.Seq)
			s.adopt(&d)
		}
		s.popQueue()
		return
	}
	if reason, ok := s.verdict(&d, now, gate); !ok && (d.ID == 0 || d.QoS != mqtt.ExactlyOnce) {
		// Dropped is as good as delivered [MQTT-3.1.2-25].
		s.over(&d, out)
		s.adopt(&d)
		s.drop(reason, &d, out)
		s.count--
		s.bytes -= d.Size()
		s.popQueue()
		return
	}
	f := flight{Delivery: d, bytes: d.Size()}
	f.Message.Hold()
	s.popQueue()
	if f.ID == 0 {
		f.ID = s.freshID() // [MQTT-4.3.2-1] [MQTT-4.3.3-1]
		if s.stored && f.Stored && f.QoS == mqtt.ExactlyOnce {
			// The client tells a repeat by its id, so the id must survive a crash.
			f.wait = true
			out.Store = append(out.Store, Change{Kind: Reserved, ID: f.ID, Seq: f.Seq})
		}
	} else {
		f.dup = true // it had an id before a restart, and may have been sent
	}
	s.compact()
	s.use(f.ID, place{pos: s.fly.end()})
	s.fly.push(f)
	s.live++
	s.flyBytes += f.bytes
}

// over tells the shell that the client has done with d.
func (s *Session) over(d *Delivery, out *Actions) {
	if d.Lent {
		out.Ended = append(out.Ended, d.Seq)
	} else {
		s.change(out, Change{Kind: Removed, Seq: d.Seq})
	}
}

// land takes f out of fly; its id is dealt with by the caller.
func (s *Session) land(f *flight) {
	f.Message.Release()
	f.gone, f.Message, f.note = true, nil, nil
	s.live--
	s.flyBytes -= f.bytes
	s.count--
	s.bytes -= f.bytes
	for s.fly.n > 0 && s.fly.head().gone {
		s.fly.pop()
	}
	s.sent = max(s.sent, s.fly.base)
}

// sendFlight sends the entry of fly at the cursor.
func (s *Session) sendFlight(dst []byte, now time.Time, gate Gate, out *Actions) ([]byte, *Message) {
	f := s.fly.at(s.sent)
	s.sent++
	if f.gone {
		return dst, nil
	}
	if f.dup { // rights, or the client's limits, may have changed since it was admitted [MQTT-4.3.3-7]
		if reason, ok := s.deliverable(&f.Delivery, gate); !ok {
			s.giveUp(f, reason, out)
			return dst, nil
		}
	}
	s.quota--
	fr := s.frame(&f.Delivery, now)
	s.tellFlight(f, &fr)
	s.tellShare(&f.Delivery, &fr)
	fr.id, fr.dup = f.ID, f.dup // [MQTT-3.3.1-1] [MQTT-3.3.1-3] [MQTT-4.3.2-2] [MQTT-4.3.3-2]
	f.dup = true
	out.Published++
	return s.append(dst, &fr)
}

// giveUp drops a message that may have been sent on another connection. QoS 2
// goes on to PUBREL, so that the client forgets the id as well [MQTT-4.3.3-6].
func (s *Session) giveUp(f *flight, reason DropReason, out *Actions) {
	if f.note != nil {
		s.untell(f)
	}
	s.adopt(&f.Delivery)
	s.drop(reason, &f.Delivery, out)
	if f.QoS == mqtt.ExactlyOnce {
		s.change(out, Change{Kind: Released, ID: f.ID, Seq: f.Seq})
		s.ids[f.ID] = place{pos: s.rel.end(), rel: true}
		s.rel.push(release{id: f.ID, seq: f.Seq, lent: f.Lent})
		s.released++
	} else {
		s.over(&f.Delivery, out)
		delete(s.ids, f.ID)
	}
	s.land(f)
}

func (s *Session) sendZero(dst []byte, now time.Time, gate Gate, out *Actions) ([]byte, *Message) {
	d := s.zero.head()
	defer s.popZero()
	if reason, ok := s.verdict(d, now, gate); !ok {
		s.drop(reason, d, out)
		return dst, nil
	}
	fr := s.frame(d, now)
	s.tellZero(&fr, out)
	s.tellShare(d, &fr)
	d.Note = nil
	out.Published++
	return s.append(dst, &fr)
}

// frame is d as this client gets it now.
func (s *Session) frame(d *Delivery, now time.Time) frame {
	f := frame{
		m: d.Message, version: s.link.Version, qos: d.QoS,
		retain: d.Retain, subs: d.SubscriptionIDs, number: s.number(d),
	}
	if f.m.HasExpiry { // [MQTT-3.3.2-6]
		f.expiry = uint32(max(0, (f.m.Expires.Sub(now)+time.Second-1)/time.Second))
	}
	if s.link.TopicAliasMaximum > 0 && s.link.Version == mqtt.V5 { // [MQTT-3.1.2-27]
		s.alias(&f)
	}
	return f
}

// number is what the frame of d tells as its number; 0: nothing.
func (s *Session) number(d *Delivery) uint64 {
	if s.link.Numbered {
		return d.Seq
	}
	return 0
}

// aliasSize is what the topic alias property costs, in bytes.
const aliasSize = 3

// alias gives the frame a topic alias: the first topics of a connection get
// one [MQTT-3.3.2-8] [MQTT-3.3.2-11] [MQTT-3.1.2-26]. A topic that is shorter
// than the property gets none: the frame would outgrow what was measured.
func (s *Session) alias(f *frame) {
	if len(f.m.Topic) < aliasSize {
		return
	}
	if f.alias, f.bare = s.aliasOut[f.m.Topic]; f.bare {
		return
	}
	// The frame that introduces an alias is larger than the one that was
	// measured against the client's limit.
	_, body := f.sizes()
	if limit := int(s.link.MaximumPacketSize); limit != 0 && body+16 > limit {
		return
	}
	if n := uint16(len(s.aliasOut)); n < min(s.link.TopicAliasMaximum, s.lim.TopicAliases) {
		if s.aliasOut == nil {
			s.aliasOut = make(map[string]uint16)
		}
		s.aliasOut[f.m.Topic] = n + 1
		f.alias = n + 1
	}
}

func (s *Session) append(dst []byte, f *frame) ([]byte, *Message) {
	props, body := f.sizes()
	dst = f.appendHead(dst, props, body)
	if len(f.m.Payload) > inline {
		return dst, f.m.Hold()
	}
	return append(dst, f.m.Payload...), nil
}

func (s *Session) popQueue() {
	d := s.queue.head()
	s.queueMem -= d.Size()
	m := d.Message
	s.queue.pop()
	m.Release()
}

func (s *Session) popZero() {
	d := s.zero.head()
	s.adopt(d)
	s.zeroMem -= d.Size()
	m := d.Message
	s.zero.pop()
	m.Release()
}

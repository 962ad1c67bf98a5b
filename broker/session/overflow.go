package session

import (
	"fmt"
	"slices"

	"github.com/wilco-iot/wilco/mqtt"
)

// Overflow says what becomes of a QoS 1 or 2 message for a session whose queue
// is at its limit, in messages or in bytes. Stored by number, and known by
// name; never change.
type Overflow uint8

// The policies.
const (
	// Refuse: the publisher is told that there is no room, and nobody gets the
	// message. The default.
	Refuse Overflow = iota
	// DropNewest: this session does not get the message, all others do.
	DropNewest
	// DropOldest: the oldest messages that have not been sent make room, never
	// one that is in flight. When that does not help, as DropNewest.
	DropOldest
)

var overflowNames = [...]string{"refuse", "newest", "oldest"}

// String is the policy's name in settings.
func (o Overflow) String() string {
	if int(o) < len(overflowNames) {
		return overflowNames[o]
	}
	return fmt.Sprintf("Overflow(%d)", uint8(o))
}

// ParseOverflow reads a name that String gives; "" is Refuse.
func ParseOverflow(name string) (Overflow, error) {
	if i := slices.Index(overflowNames[:], name); i >= 0 {
		return Overflow(i), nil
	}
	if name == "" {
		return Refuse, nil
	}
	return 0, fmt.Errorf("overflow policy %q is not one of refuse, newest, oldest", name)
}

// Fit is what Offer says.
type Fit uint8

// What can be said of a message before it is routed.
const (
	Fits    Fit = iota // Enqueue has a way to deal with it
	NoRoom             // it is to be refused to its publisher
	Unknown            // what makes room is in the store: call Unread, Scout, and Offer again
)

// Room tells whether the queue takes a QoS 1 or 2 message of that size, in
// bytes, without dropping anything.
func (s *Session) Room(size int) bool {
	return s.count < s.mostMessages() && s.bytes+size <= s.mostBytes()
}

// mostMessages and mostBytes are the bounds of the queue, as the last connection has
// set them.
func (s *Session) mostMessages() int {
	if s.link.QueueMessages > 0 {
		return s.link.QueueMessages
	}
	return s.lim.QueueMessages
}

func (s *Session) mostBytes() int {
	if s.link.QueueBytes > 0 {
		return s.link.QueueBytes
	}
	return s.lim.QueueBytes
}

// Offer says whether a QoS 1 or 2 message of that size may be given to Enqueue,
// under the session's policy.
func (s *Session) Offer(size int) Fit {
	switch {
	case s.Room(size):
		return Fits
	case s.overflow == Refuse:
		return NoRoom
	case s.overflow == DropOldest && !s.dispensable(size) && s.unread():
		return Unknown
	}
	return Fits
}

// scouted is how many of the oldest messages that are only in the store are
// known at a time, 16 bytes each.
const scouted = 64

// oldest is what a session that drops the oldest knows of the messages which
// wait in the store and are not in queue.
type oldest struct {
	front []mark // the first of them, without those that have a packet id
	seen  uint64 // looked at up to here; front has nothing above
	// gone: of the messages without packet id that waited, all up to here were
	// dropped. What was read from the store before that may still have them.
	gone uint64
	from uint64 // in queue, nothing before this position may be dropped
}

// mark is one message in the store.
type mark struct {
	seq  uint64
	size int32
	qos  mqtt.QoS
}

// position is up to where front cannot begin: queue has it, it is gone, or it
// was looked at.
func (s *Session) position() uint64 { return max(s.cursor, s.oldest.gone, s.oldest.seen) }

// unread tells whether the store holds messages that were not looked at.
func (s *Session) unread() bool { return s.stored && s.behind && s.position() < s.last }

// Unread says what Scout should be given: messages of the stored queue after a
// sequence number, and how many at most.
func (s *Session) Unread() (after uint64, limit int, ok bool) {
	return s.position(), scouted, s.unread()
}

// Scout takes note of messages read from the stored queue, as Unread said, in
// order; it holds none of them. upto is the newest number that was in the store
// before it was read: an empty list says that nothing waits up to there.
func (s *Session) Scout(after, upto uint64, list []Delivery) {
	if !s.unread() || after > s.position() {
		return // the connection went meanwhile, and what waits begins earlier
	}
	o := &s.oldest
	if len(list) == 0 {
		o.seen = max(o.seen, min(upto, s.last))
		return
	}
	for i := range list {
		d := &list[i]
		if d.Seq > s.position() && waits(d) {
			o.front = append(o.front, mark{d.Seq, int32(d.Size()), d.QoS})
		}
		o.seen = max(o.seen, d.Seq)
	}
}

// forgetFront is called when what waits in the store begins earlier than before.
func (s *Session) forgetFront() { s.oldest.front, s.oldest.seen = nil, 0 }

// passFront lets go of marks of messages that are in queue by now.
func (s *Session) passFront() {
	o := &s.oldest
	for len(o.front) > 0 && o.front[0].seq <= s.cursor {
		o.front = o.front[1:]
	}
}

// waits tells whether a queued message may be dropped: not one that is only lent;
// one with a packet id may have been sent before a restart, and the client may
// have it half way.
func waits(d *Delivery) bool {
	return d.QoS < recalled && !d.Lent && (d.ID == 0 || d.QoS != mqtt.ExactlyOnce)
}

// excess is what has to go for a message of that size, in messages and bytes.
func (s *Session) excess(size int) (messages, bytes int) {
	return s.count + 1 - s.mostMessages(), s.bytes + size - s.mostBytes()
}

// dispensable tells whether dropping what waits, as far as it is known, makes
// room for a message of that size.
func (s *Session) dispensable(size int) bool {
	messages, bytes := s.excess(size)
	for p := max(s.queue.base, s.oldest.from); p < s.queue.end() && (messages > 0 || bytes > 0); p++ {
		if d := s.queue.at(p); waits(d) {
			messages--
			bytes -= d.Size()
		}
	}
	s.passFront()
	for _, m := range s.oldest.front {
		if messages <= 0 && bytes <= 0 {
			break
		}
		messages--
		bytes -= int(m.size)
	}
	return messages <= 0 && bytes <= 0
}

// makeRoom drops the oldest that wait until a message of that size fits. It
// says false, and drops nothing, when that is not to be had.
func (s *Session) makeRoom(size int, out *Actions) bool {
	if !s.dispensable(size) {
		return false
	}
	for p := max(s.queue.base, s.oldest.from); p < s.queue.end() && !s.Room(size); p++ {
		s.oldest.from = p + 1
		d := s.queue.at(p)
		if !waits(d) {
			continue
		}
		out.drop(DropQueueFull, d)
		s.discard(d.Seq, d.Size(), out)
		d.QoS = discarded
	}
	for s.queue.n > 0 && s.queue.head().QoS == discarded && !s.queue.head().Lent {
		s.admitted = s.queue.head().Seq
		s.popQueue()
	}
	for !s.Room(size) {
		m := s.oldest.front[0]
		s.oldest.front = s.oldest.front[1:]
		out.Drops = append(out.Drops, Drop{Reason: DropQueueFull, QoS: m.qos, Count: 1})
		s.discard(m.seq, int(m.size), out)
	}
	s.tidy()
	return true
}

// tidy takes marked messages out of the middle of queue when they are most of it:
// behind one that waits for the client's window they could gather without end. A
// lent one that was lost is still to be reported.
func (s *Session) tidy() {
	if s.queue.n <= 2*s.count+modest {
		return
	}
	old := s.queue
	s.queue = ring[Delivery]{base: old.end()}
	s.oldest.from = s.queue.base
	for p := old.base; p < old.end(); p++ {
		d := old.at(p)
		if d.QoS < recalled || d.Lent && d.QoS == discarded {
			s.queue.push(*d)
			continue
		}
		s.queueMem -= d.Size()
		d.Message.Release()
	}
}

// discard takes a message that waited off the totals, and out of the store.
func (s *Session) discard(seq uint64, size int, out *Actions) {
	s.count--
	s.bytes -= size
	s.oldest.gone = seq
	s.change(out, Change{Kind: Removed, Seq: seq})
	s.lose(DropQueueFull, 1, true, out)
}

// shedZero drops QoS 0 messages, oldest first, while they and the others
// together have more bytes than the queue may: QoS 0 goes first.
func (s *Session) shedZero(out *Actions) {
	for s.zero.n > 0 && s.bytes+s.zeroMem > s.mostBytes() {
		s.drop(DropQoS0Full, s.zero.head(), out)
		s.popZero()
	}
}

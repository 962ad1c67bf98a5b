package session

import (
	"encoding/binary"
	"strconv"

	"github.com/wilco-iot/wilco/mqtt"
)

// GapProperty is the name of the user property that tells an MQTT 5 subscriber
// what its session has lost since the last message that told it. The value is
// "<count> <reason>", as in "3 queue_full", with the name of a [DropReason];
// there is one property for each reason, after all properties that the
// publisher gave [MQTT-3.3.2-18]. Sent; never change.
const GapProperty = "wilco-gap"

// Losses counts messages by why they were lost.
type Losses [DropReasons]uint64

// lost tells whether a drop is a loss of the session's client that it cannot
// know of: not what it refused itself, or what was its own as a publisher.
func (r DropReason) lost() bool {
	switch r {
	case DropExpired, DropTooLarge, DropDenied, DropQoS0Full, DropQueueFull, DropOffline, DropStoreFull, DropDamaged:
		return true
	}
	return false
}

// ledger is what a session has lost and not told, or not known to be heard.
type ledger struct {
	untold note
	// kept is what the store has: the losses of untold, and of the notes in fly,
	// that the store was told of.
	kept Losses
}

// note is what one message tells. When that message is sent again it tells the
// same.
type note struct {
	lost Losses
	kept Losses // the part that the store was told of
	any  bool
}

// lose takes note of n lost messages. With keep the store takes note too.
func (s *Session) lose(r DropReason, n int, keep bool, out *Actions) {
	if !r.lost() || n == 0 {
		return
	}
	if s.losses == nil {
		s.losses = new(ledger)
	}
	u := &s.losses.untold
	u.lost[r] += uint64(n)
	u.any = true
	if keep && s.stored {
		u.kept[r] += uint64(n)
		s.losses.kept[r] += uint64(n)
		s.keepLosses(r, out)
	}
}

func (s *Session) keepLosses(r DropReason, out *Actions) {
	s.change(out, Change{Kind: Lost, ID: uint16(r), Seq: s.losses.kept[r]})
}

// drop tells of a message that the client will not get. QoS 0 is told without
// the store: it would not survive a restart either.
func (s *Session) drop(r DropReason, d *Delivery, out *Actions) {
	out.drop(r, d)
	s.lose(r, 1, d.QoS > mqtt.AtMostOnce, out)
}

// Missed takes note of a message that was for this session and got no further
// than its shell. The store is not told.
func (s *Session) Missed(r DropReason) { s.lose(r, 1, false, nil) }

// annotate puts n into the frame, unless the client does not know user
// properties or the packet would become larger than it takes.
func (s *Session) annotate(f *frame, n *note) bool {
	if s.link.Version != mqtt.V5 {
		return false
	}
	if f.note = &n.lost; !s.suits(f) {
		f.note = nil
		return false
	}
	return true
}

// suits tells whether the frame is not larger than the client takes [MQTT-3.1.2-24].
func (s *Session) suits(f *frame) bool {
	limit := s.link.MaximumPacketSize
	if limit == 0 {
		return true
	}
	_, body := f.sizes()
	return 1+varLen(body)+body <= int(limit)
}

// tellFlight has a PUBLISH with a packet id tell what was lost. A repeat tells
// what the first copy did, so that who ignores repeats counts right.
func (s *Session) tellFlight(f *flight, fr *frame) {
	switch {
	case f.note != nil:
		if !s.annotate(fr, f.note) {
			s.untell(f)
		}
	case !f.dup && s.losses != nil && s.losses.untold.any:
		n := s.losses.untold
		if s.annotate(fr, &n) {
			f.note = &n
			s.losses.untold = note{}
		}
	}
}

// tellZero has a QoS 0 PUBLISH tell what was lost.
func (s *Session) tellZero(fr *frame, out *Actions) {
	if s.losses == nil || !s.losses.untold.any {
		return
	}
	n := s.losses.untold
	if s.annotate(fr, &n) {
		s.losses.untold = note{}
		s.heard(&n, out)
	}
}

// Carries tells whether d can tell its Note to the client as it is connected now. A
// Delivery whose note it carries must be given to Enqueue as it is. If that turns
// out not to reach the client, the note is told by the next that does.
func (s *Session) Carries(d *Delivery) bool {
	f := frame{m: d.Message, version: s.link.Version, qos: d.QoS, subs: d.SubscriptionIDs, note: d.Note}
	return s.attached && s.link.Version == mqtt.V5 && s.suits(&f)
}

// Owe has what a share has lost told by this session as its own, with the next
// message that has room for it, also after a restart.
func (s *Session) Owe(lost *Losses, out *Actions) {
	for r, n := range lost {
		if n > 0 {
			s.lose(DropReason(r), int(n), true, out)
		}
	}
}

// tellShare has a PUBLISH tell what d's share has lost, beside what the frame tells
// already.
func (s *Session) tellShare(d *Delivery, fr *frame) {
	if d.Note == nil {
		return
	}
	own, all := fr.note, note{lost: *d.Note}
	if own != nil {
		for r, n := range own {
			all.lost[r] += n
		}
	}
	if !s.annotate(fr, &all) {
		fr.note = own
		s.adopt(d)
	}
}

// adopt has the note of a share's message that will not carry it told by another.
func (s *Session) adopt(d *Delivery) {
	if d.Note != nil {
		for r, n := range d.Note {
			s.lose(DropReason(r), int(n), false, nil)
		}
		d.Note = nil
	}
}

// got takes note that the client has f, and what it told.
func (s *Session) got(f *flight, out *Actions) {
	if f.note != nil {
		s.heard(f.note, out)
	}
}

// heard strikes from the ledger what the client was told.
func (s *Session) heard(n *note, out *Actions) {
	for r, lost := range n.kept {
		if lost > 0 {
			s.losses.kept[r] -= lost
			s.keepLosses(DropReason(r), out)
		}
	}
}

// untell has the note of a message that will not carry it told by another.
func (s *Session) untell(f *flight) {
	u := &s.losses.untold
	for r := range u.lost {
		u.lost[r] += f.note.lost[r]
		u.kept[r] += f.note.kept[r]
	}
	u.any, f.note = true, nil
}

// size is what a note takes in a packet, in bytes.
func (l *Losses) size() (n int) {
	for r, count := range l {
		if count > 0 {
			n += 1 + 2 + len(GapProperty) + 2 + digits(count) + 1 + len(dropNames[r])
		}
	}
	return n
}

func digits(n uint64) int {
	d := 1
	for ; n >= 10; n /= 10 {
		d++
	}
	return d
}

// append writes the note's properties.
func (l *Losses) append(b []byte) []byte {
	for r, count := range l {
		if count == 0 {
			continue
		}
		b = appendBytes(append(b, propUser), GapProperty)
		b = binary.BigEndian.AppendUint16(b, uint16(digits(count)+1+len(dropNames[r])))
		b = append(strconv.AppendUint(b, count, 10), ' ')
		b = append(b, dropNames[r]...)
	}
	return b
}

package session

import (
	"slices"
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
)

// held is a message that waits: for those before it, or, penned, for an NBIRTH
// that it may belong to. It stays as it came until its turn, because only then
// it is known what its aliases mean.
type held struct {
	msg    Message
	at     time.Time
	header sparkplug.Header
	penned bool
}

// A list in the order of arrival does for both: there is rarely more than one
// in it, its first has the deadline, and it is short: 127 numbers can be ahead.
const maxPenned = 64

func (n *Node) keep(in *input, penned bool) {
	at := in.now
	if k := len(n.held); k > 0 && at.Before(n.held[k-1].at) {
		at = n.held[k-1].at
	}
	n.held = append(n.held, held{msg: in.Message, at: at, header: in.header, penned: penned})
	n.heldBytes += len(in.Payload)
}

// drop removes held message i.
func (n *Node) drop(i int) {
	n.heldBytes -= len(n.held[i].msg.Payload)
	n.held = slices.Delete(n.held, i, i+1)
}

func (n *Node) forget() {
	clear(n.held)
	n.held, n.heldBytes = n.held[:0], 0
	if cap(n.held) > 16 {
		n.held = nil
	}
}

func (n *Node) heldAt(seq uint8, penned bool) int {
	return slices.IndexFunc(n.held, func(h held) bool { return h.penned == penned && uint8(h.header.Seq) == seq })
}

// hold keeps a message that came before its turn
// [tck-id-operational-behavior-host-reordering-start].
func (n *Node) hold(in *input, out *Actions) {
	switch {
	case n.heldAt(uint8(in.header.Seq), false) >= 0:
		out.add(in.event(Late, Repeated))
		return
	case n.cfg.reorderTimeout() == 0:
		n.keep(in, false)
		in.reason = ReorderTimeout
		n.giveUp(in, out)
		return
	}
	n.makeRoom(len(in.Payload))
	n.keep(in, false)
	if n.heldBytes > n.cfg.heldBytes() {
		in.reason = HeldOverflow
		n.giveUp(in, out)
		return
	}
	n.state = Reordering
}

// pen keeps a message that has no place in this session for the one that may
// begin at any moment.
func (n *Node) pen(in *input, out *Actions) {
	if n.cfg.reorderTimeout() == 0 {
		if n.state == Online || n.state == Reordering {
			in.reason = SequenceRestart
			n.giveUp(in, out)
			return
		}
		in.reason = BeforeBirth
		n.want(in, out)
		return
	}
	// The later one of a number is the likelier one to be of the next session,
	// but its predecessor's time goes on: else it would never run out.
	if i := n.heldAt(uint8(in.header.Seq), true); i >= 0 {
		h := &n.held[i]
		n.heldBytes += len(in.Payload) - len(h.msg.Payload)
		h.msg, h.header = in.Message, in.header
	} else {
		n.keep(in, true)
	}
	n.makeRoom(0)
}

// makeRoom drops the penned messages that are too many: of those before its
// NBIRTH a session has a few. The oldest one stays until last, for its time.
func (n *Node) makeRoom(more int) {
	penned := 0
	for i := range n.held {
		if n.held[i].penned {
			penned++
		}
	}
	for penned > maxPenned || penned > 0 && n.heldBytes+more > n.cfg.heldBytes() {
		i := slices.IndexFunc(n.held, func(h held) bool { return h.penned })
		if penned > 1 {
			// The second: the first keeps the time.
			i += 1 + slices.IndexFunc(n.held[i+1:], func(h held) bool { return h.penned })
		}
		n.drop(i)
		penned--
	}
}

// drain applies what was held, as far as it follows without a hole
// [tck-id-operational-behavior-host-reordering-success].
func (n *Node) drain(out *Actions) {
	for n.state == Reordering {
		i := n.heldAt(n.expect, false)
		if i < 0 {
			break
		}
		h := n.held[i]
		n.drop(i)
		in := &out.in
		*in = input{Message: h.msg, now: h.at, header: h.header, held: true}
		n.apply(in, out)
	}
	if n.state == Reordering && !slices.ContainsFunc(n.held, func(h held) bool { return !h.penned }) {
		n.state = Online
	}
}

// hole is the first number that is missing, and how many are until the first
// held message; 0 when none is.
func (n *Node) hole() (seq uint8, missing int) {
	for i := range n.held {
		if h := &n.held[i]; !h.penned {
			if d := int(uint8(h.header.Seq) - n.expect); missing == 0 || d < missing {
				missing = d
			}
		}
	}
	return n.expect, missing
}

// adopt keeps of what was held, in the state before, what a new session may
// have sent.
func (n *Node) adopt(was State) {
	kept := n.held[:0]
	n.heldBytes = 0
	for _, h := range n.held {
		if n.mayFollow(&h, was) && !holds(kept, h.header.Seq) {
			h.penned = false
			kept = append(kept, h)
			n.heldBytes += len(h.msg.Payload)
		}
	}
	clear(n.held[len(kept):])
	n.held = kept
	if len(kept) > 0 {
		n.state = Reordering
	}
}

// mayFollow tells whether a held message may be one of the session that begins:
// not before its NBIRTH in number, and younger. Of the same millisecond may be
// one that follows and one of the session before; then it counts whether the
// session before had a place for it, and that DBIRTHs come after an NBIRTH.
func (n *Node) mayFollow(h *held, was State) bool {
	if !n.born.HasTimestamp || !h.header.HasTimestamp || uint8(h.header.Seq)-n.expect >= 128 {
		return false
	}
	if h.header.Timestamp == n.born.Timestamp {
		return h.msg.Type == sparkplug.DBirth || h.penned && was != Resync
	}
	return h.header.Timestamp > n.born.Timestamp
}

func holds(list []held, seq uint64) bool {
	return slices.ContainsFunc(list, func(h held) bool { return h.header.Seq == seq })
}

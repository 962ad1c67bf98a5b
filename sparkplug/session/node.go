package session

import (
	"hash/crc32"
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
)

// Config is what the Nodes of a host have in common. They read it and do not
// change it. A field that is 0 has its default.
type Config struct {
	// ReorderTimeout is how long a message may wait for the ones before it
	// [tck-id-operational-behavior-host-reordering-param]. Default 5 s; negative:
	// not at all.
	ReorderTimeout time.Duration
	// Guard is how long after an NDEATH an NBIRTH of the same session is taken
	// for one that the NDEATH has overtaken. Default 250 ms; negative: never.
	Guard time.Duration
	// HeldBytes is how much payload may be held and penned. Default 1 MiB.
	HeldBytes int
	// Definitions is how many metrics and devices the births of a node may
	// declare in all. Default 262,144, which takes some 32 MiB.
	Definitions int
	// AnyDeath takes an NDEATH without bdSeq as one of the session in force,
	// though it breaks the specification: some edge nodes know no better.
	AnyDeath bool
	// Limits are those of payloads.
	Limits sparkplug.Limits
}

func (c *Config) reorderTimeout() time.Duration { return orDefault(c.ReorderTimeout, 5*time.Second) }
func (c *Config) guard() time.Duration          { return orDefault(c.Guard, 250*time.Millisecond) }
func (c *Config) heldBytes() int                { return orDefault(c.HeldBytes, 1<<20) }
func (c *Config) definitions() int              { return orDefault(c.Definitions, 262_144) }

func orDefault[T ~int | ~int64](x, or T) T {
	if x == 0 {
		return or
	}
	return max(x, 0)
}

// Message is a message of one edge node or of a device behind it.
type Message struct {
	Type     sparkplug.MessageType
	Retained bool   // it was delivered with the RETAIN flag
	Device   string // empty for the node's own
	Payload  []byte // not to be changed after Receive
}

// Node is the session of one edge node at one broker.
//
// Invariants, between any two calls:
//
//   - state is Reordering exactly when some of held is not penned
//   - state is Online or Reordering exactly when numbers mean something
//   - held is in the order of arrival, and heldBytes is the sum of its payloads
//   - devices are empty unless the NBIRTH of this epoch was seen
type Node struct {
	cfg   *Config
	state State

	// The session: what the last NBIRTH said, and when.
	epoch    uint64 // counts NBIRTHs
	bdSeq    uint8
	hasBdSeq bool
	born     sparkplug.Header
	bornSum  uint32 // of its bytes
	bornSize int
	diedAt   time.Time

	expect   uint8     // the number that comes next
	newest   uint64    // the latest timestamp of what was applied
	repeats  int       // messages in a row that were left out as repeated
	pastTo   time.Time // until then, what is older than the NBIRTH is left out
	leftOut  [4]uint64 // the numbers of which something was, since the NBIRTH: a bit each
	backward int       // holes in a row that nothing else explains

	wanted bool // a rebirth was asked for since the last NBIRTH or NDEATH
	unsure bool // the connection was lost since the last NBIRTH

	own     *Unit
	devices map[string]*Unit // those that are born
	defined int              // cost of own and of devices

	held      []held
	heldBytes int
}

// New makes a Node of which nothing is known. It keeps cfg.
func New(cfg *Config) *Node { return &Node{cfg: cfg} }

// State is what is known of the node.
func (n *Node) State() State { return n.state }

// Epoch counts the NBIRTHs that were accepted.
func (n *Node) Epoch() uint64 { return n.epoch }

// BdSeq is the bdSeq of the session; ok is false when it has none.
func (n *Node) BdSeq() (bdSeq uint8, ok bool) { return n.bdSeq, n.hasBdSeq }

// Unit is what the births in force declared: of the node itself for "", or of a
// device. nil when it is not born.
func (n *Node) Unit(device string) *Unit {
	if device == "" {
		return n.own
	}
	return n.devices[device]
}

// Devices is the number of devices that are born.
func (n *Node) Devices() int { return len(n.devices) }

// Held is how many messages, and bytes of payload, wait for others.
func (n *Node) Held() (messages, bytes int) { return len(n.held), n.heldBytes }

// Receive takes the next message of the node, received at now, and appends what
// came of it to out. A message whose time has run out while it waited for this
// call fills its hole all the same: so a slow host does not look like a loss.
func (n *Node) Receive(m Message, now time.Time, out *Actions) {
	in := &out.in
	*in = input{Message: m, now: now}
	n.do(n.classify(in, out), in, out)
}

// Deadline is when Due is to be called; zero when there is nothing to wait for.
func (n *Node) Deadline() time.Time {
	if len(n.held) == 0 {
		return time.Time{}
	}
	return n.held[0].at.Add(n.cfg.reorderTimeout())
}

// Due does what is due at now: it gives up a hole
// [tck-id-operational-behavior-host-reordering-rebirth] or a birth that did not
// come. Before Deadline it does nothing.
func (n *Node) Due(now time.Time, out *Actions) {
	in := &out.in
	for {
		deadline := n.Deadline()
		if deadline.IsZero() || now.Before(deadline) {
			return
		}
		*in = input{now: now, reason: ReorderTimeout}
		k := holeDue
		if h := &n.held[0]; h.penned {
			k, in.reason = penDue, BeforeBirth
			if n.state == Online || n.state == Reordering {
				in.reason = SequenceRestart
			}
			n.drop(0)
		}
		n.do(k, in, out)
	}
}

// Lost says that the connection to the broker has ended: what the node does
// meanwhile stays unknown, so that nothing of it can be trusted.
func (n *Node) Lost(now time.Time, out *Actions) { n.tell(lost, now, out) }

// Found says that the connection is there again. A rebirth is wanted then,
// because nothing tells whether messages were missed, and a node that reports
// by exception may be silent for hours.
func (n *Node) Found(now time.Time, out *Actions) {
	if n.unsure {
		n.tell(found, now, out)
	}
}

func (n *Node) tell(k kind, now time.Time, out *Actions) {
	out.in = input{now: now, reason: ServerLost}
	n.do(k, &out.in, out)
}

// input is one message on its way through the machine.
type input struct {
	Message
	now    time.Time
	header sparkplug.Header
	slot   *slot // where it is decoded, if it had to be
	bdSeq  uint8
	has    bool // it has a bdSeq
	held   bool // it waited for others before it
	reason Reason
	err    error

	complaints int
}

// event is an event about the message.
func (in *input) event(k Kind, r Reason) Event {
	return Event{
		Kind: k, Reason: r, Type: in.Type, Device: in.Device, At: in.now, Seq: uint8(in.header.Seq), Metric: -1,
		Timestamp: in.header.Timestamp, HasTimestamp: in.header.HasTimestamp, Held: in.held, Err: in.err,
	}
}

// do takes the step that the table has for an input.
func (n *Node) do(k kind, in *input, out *Actions) {
	switch table[n.state][k] {
	case beBorn:
		n.beBorn(in, out)
	case ignore:
		out.add(in.event(Ignored, in.reason))
	case die:
		n.die(in, out)
	case apply:
		// The time of what was held behind it is its own.
		n.apply(in, out)
		n.drain(out)
	case hold:
		n.hold(in, out)
	case pen:
		n.pen(in, out)
	case late:
		if in.reason == BeforeNBirth {
			n.leftOut[in.header.Seq/64] |= 1 << (in.header.Seq % 64)
		}
		out.add(in.event(Late, in.reason))
	case reject:
		out.add(in.event(Malformed, in.reason))
	case ask:
		if in.err != nil {
			out.add(in.event(Malformed, in.reason))
		}
		n.want(in, out)
	case giveUp:
		n.giveUp(in, out)
	case doubt:
		n.unsure = true
		n.distrustValues(in, out)
	case forget:
		n.forget()
	}
}

func (n *Node) want(in *input, out *Actions) {
	n.wanted = true
	out.add(Event{Kind: RebirthWanted, Reason: in.reason, Type: in.Type, Device: in.Device, At: in.now, Metric: -1})
}

// giveUp ends the stream of messages: one is missing, or cannot be read. Those
// behind the hole are not applied, because their order is part of what they say.
func (n *Node) giveUp(in *input, out *Actions) {
	if in.err != nil {
		out.add(in.event(Malformed, in.reason))
	}
	if seq, missing := n.hole(); missing > 0 {
		out.add(Event{Kind: Gap, Reason: in.reason, At: in.now, Seq: seq, Missing: missing, Metric: -1})
		n.blameClock(seq, missing)
	}
	n.distrustValues(in, out)
	n.want(in, out)
}

// maxBackward is how many holes show that timestamps run backward. One can be
// chance: a lost message, and a late one of the time before with its number.
const maxBackward = 2

// blameClock looks at a hole: when all that is missing came and was left out as
// older than the NBIRTH, the clock of the node was set back.
func (n *Node) blameClock(seq uint8, missing int) {
	for range missing {
		if n.leftOut[seq/64]&(1<<(seq%64)) == 0 {
			n.backward = 0
			return
		}
		seq++
	}
	n.backward++
}

func (n *Node) distrustValues(in *input, out *Actions) {
	if n.state != Resync {
		out.add(Event{Kind: Stale, Reason: in.reason, At: in.now, Metric: -1})
	}
	n.state = Resync
	n.forget()
}

// classify says what kind of input a message is. It decodes only what cannot be
// judged otherwise.
func (n *Node) classify(in *input, out *Actions) kind {
	switch in.Type {
	case sparkplug.NBirth, sparkplug.NDeath, sparkplug.NData, sparkplug.DBirth, sparkplug.DData, sparkplug.DDeath:
	default:
		in.reason = NotFromNode
		return broken
	}
	if in.Retained {
		// It tells of some former time, and not even of which one.
		// [tck-id-payloads-nbirth-retain] [tck-id-payloads-ndeath-will-message-retain]
		in.reason = Retained
		return broken
	}
	in.header, in.err = sparkplug.Peek(in.Payload)
	if in.err != nil {
		in.reason = Unreadable
		return broken
	}
	switch {
	case in.Type == sparkplug.NDeath:
		return n.classifyDeath(in, out)
	case in.Type == sparkplug.NBirth:
		return n.classifyBirth(in, out)
	case in.header.Compressed && !(in.header.HasSeq && in.header.HasTimestamp):
		if n.decode(in, out); in.err != nil {
			in.reason = Unreadable
			return broken
		}
	}
	if !in.header.HasSeq || in.header.Seq > sparkplug.MaxSeq {
		// [tck-id-payloads-sequence-num-always-included]
		in.reason = NoSequence
		return broken
	}
	return n.classifySeq(in)
}

func (n *Node) classifySeq(in *input) kind {
	h := &in.header
	if h.HasTimestamp && n.born.HasTimestamp && h.Timestamp < n.born.Timestamp && in.now.Before(n.pastTo) && n.backward < maxBackward {
		in.reason = BeforeNBirth
		return outdated
	}
	switch d := uint8(h.Seq) - n.expect; {
	case d == 0:
		return next
	case d < 128:
		return ahead
	case h.HasTimestamp && h.Timestamp <= n.newest && n.repeats < maxRepeats:
		n.repeats++
		in.reason = Repeated
		return again
	}
	return behind
}

// maxRepeats is how many messages in a row can be repetitions. More are those
// of a node that began its numbers again and whose clock was set back.
const maxRepeats = 32

func (n *Node) classifyBirth(in *input, out *Actions) kind {
	if n.decode(in, out); in.err != nil {
		in.reason = Unreadable
		return noBirth
	}
	if in.header.Seq > sparkplug.MaxSeq {
		in.reason, in.err = NoSequence, errSeq
		return noBirth
	}
	in.readBdSeq(nil)
	switch {
	case n.epoch > 0 && n.sameBirth(in) && !n.wanted && !n.unsure:
		in.reason = Repeated
		return repeat
	case n.state == Offline && in.has && n.hasBdSeq && in.bdSeq == n.bdSeq && !n.wanted &&
		in.now.Before(n.diedAt.Add(n.cfg.guard())):
		in.reason = AfterDeath
		return early
	}
	return birth
}

var errSeq = &sparkplug.Error{Code: sparkplug.OutOfRange, Text: "the sequence number is above 255"}

func (n *Node) sameBirth(in *input) bool {
	return in.header == n.born && len(in.Payload) == n.bornSize && sum(in.Payload) == n.bornSum
}

func sum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (n *Node) classifyDeath(in *input, out *Actions) kind {
	if n.decode(in, out); in.err != nil {
		in.reason = Unreadable
		return broken
	}
	in.readBdSeq(n.own)
	in.reason = OtherSession
	switch {
	case n.state == Offline:
		in.reason = Repeated
		return stray
	case n.state == Unknown, n.state == Resync && n.unsure:
		// An NBIRTH can have been missed, and there is nothing to lose.
		return death
	case !in.has && n.hasBdSeq && !n.cfg.AnyDeath:
		in.reason = NoBdSeq
		return stray
	case !in.has || !n.hasBdSeq || in.bdSeq == n.bdSeq:
		// [tck-id-operational-behavior-edge-node-termination-host-action-ndeath-node-offline]
		return death
	}
	return stray
}

// readBdSeq finds the bdSeq by its name or, in an NDEATH, by the alias that the
// births gave it. One that is no number from 0 to 255 is none.
func (in *input) readBdSeq(births *Unit) {
	p := &in.slot.payload
	b, err := p.BdSeq()
	if err != nil && births != nil {
		if def := births.Find(sparkplug.MetricBdSeq); def != nil && def.HasAlias {
			if m := p.FindAlias(def.Alias); m != nil {
				named := *m
				named.Name = []byte(sparkplug.MetricBdSeq)
				b, err = (&sparkplug.Payload{Metrics: []sparkplug.Metric{named}}).BdSeq()
			}
		}
	}
	in.bdSeq, in.has = b, err == nil
}

// decode reads the whole message, and learns what a compressed one hides.
func (n *Node) decode(in *input, out *Actions) {
	in.slot = out.slot()
	p := &in.slot.payload
	if in.err = in.slot.inflater.Decode(in.Payload, p, n.cfg.Limits); in.err == nil {
		in.header.Timestamp, in.header.HasTimestamp = p.Timestamp, p.HasTimestamp
		in.header.Seq, in.header.HasSeq = p.Seq, p.HasSeq
	}
}

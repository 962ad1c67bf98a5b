package session

import (
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// Limits bounds one session. All fields must be positive.
type Limits struct {
	ReceiveMaximum int    // QoS 1 and 2 messages of the client awaiting our answer
	Inflight       int    // messages awaiting the client's answer
	InflightBytes  int    // the same in bytes; one always goes out
	TopicAliases   uint16 // each way
	QueueMessages  int    // QoS 1 and 2 messages not yet acknowledged
	QueueBytes     int
	QoS0Messages   int // QoS 0 messages waiting to be written
	QoS0Bytes      int
	Window         int // messages of a stored queue kept in memory
}

// Link is what one connection agreed on in CONNECT and CONNACK.
type Link struct {
	Version           mqtt.Version
	ReceiveMaximum    uint16 // the client's; 0: 65,535
	MaximumPacketSize uint32 // the client's; 0: none
	TopicAliasMaximum uint16 // the client's; 0: no aliases towards it
	ExpirySeconds     uint32 // session expiry interval, as granted
	Overflow          Overflow
	// QueueMessages and QueueBytes are in the place of those of Limits; 0: those.
	QueueMessages, QueueBytes int
	// Numbered has each message carry its Seq, see [NumberProperty].
	Numbered bool
	// Handover means that the client is where its messages are kept, see
	// [Session.Takes]: what comes while it is connected stays in memory, however
	// much of Limits.Window that is.
	Handover bool
	Will     *mqtt.Will
}

// Delivery is a message on its way to one client.
type Delivery struct {
	Message *Message
	// Seq is the message's place in the order of all messages. It rises from
	// one Enqueue to the next.
	Seq    uint64
	QoS    mqtt.QoS
	Retain bool
	// Stored means that the message is in the session's stored queue, and may
	// be sent when the store says that Seq is durable.
	Stored bool
	// Lent means that the message, of QoS 1 or 2, stays with the shell, whether
	// the session is stored or not: Actions.Ended tells when the client has done
	// with it, and Recall takes it back. It is sent when the store says that
	// After is durable. A message that is Lent is not Stored.
	Lent bool
	// Forced means that the message is taken whether there is room or not: it
	// was counted elsewhere, where it waited.
	Forced bool
	// ID is the packet id that the store holds for it, 0 for none.
	ID uint16
	// SubscriptionIDs is shared, and read only.
	SubscriptionIDs []uint32
	After           uint64 // when Lent
	// Note is what the share that the message comes from has lost, and tells with
	// it; nil for nothing, and for what is Stored. See [Session.Carries].
	Note *Losses
}

// Size is what d counts for in limits, in bytes. The identifier of one subscription is
// shared by all its messages, those of several are this one's own; for what is stored
// the limits are those of the store, which has its own memory of them.
func (d *Delivery) Size() int {
	size := d.Message.Size()
	if n := len(d.SubscriptionIDs); n > 1 && !d.Stored && !d.Lent {
		size += 4 * n
	}
	return size
}

// DropReason says why a message was not delivered. Stored and shown by number
// and name; never change.
type DropReason uint8

// The reasons. DropReasons is their number.
const (
	DropExpired       DropReason = iota // its expiry interval had passed
	DropTooLarge                        // larger than the client's Maximum Packet Size
	DropDenied                          // the client may not receive it, or may not any more
	DropDeniedPublish                   // the client may not publish it
	DropQoS0Full                        // QoS 0, and the client is too slow
	DropQueueFull                       // QoS 1 or 2, and the session's queue is full
	DropOffline                         // QoS 0, and the client is away
	DropSessionEnded                    // waiting when the session ended
	DropRefused                         // the client answered PUBACK or PUBREC >= 0x80
	DropRetainRefused                   // not retained: not allowed there, or no room
	DropStoreFull                       // the store has no room; its publisher was told
	DropDamaged                         // the store's disk has lost it
	DropReasons
)

var dropNames = [DropReasons]string{
	"expired", "too_large", "denied", "denied_publish", "qos0_full",
	"queue_full", "offline", "session_ended", "refused", "retain_refused", "store_full", "damaged",
}

// String is the reason's name, made for metric labels.
func (r DropReason) String() string {
	if r < DropReasons {
		return dropNames[r]
	}
	return "unknown"
}

// Drop is one message that this session will not deliver.
type Drop struct {
	Reason DropReason
	Topic  string // empty when Count is above 1, or when the message was only in the store
	QoS    mqtt.QoS
	Count  int
}

// ChangeKind is a kind of change to the stored part of a session.
type ChangeKind uint8

// The kinds. Received and Forgotten are about messages from the client, the
// others about messages to it.
const (
	Received  ChangeKind = iota // ID: a QoS 2 message came in; a repeat is not routed
	Forgotten                   // ID: its handshake ended
	Reserved                    // ID is the packet id of the QoS 2 message Seq from now on
	Released                    // PUBREC came: Seq's content may go, ID awaits PUBCOMP
	Removed                     // Seq is done
	Lost                        // Seq messages were lost for DropReason ID and not told: replaces the last count
)

// Change is one change to the stored part of a session. Only sessions that
// outlive their connection make any.
type Change struct {
	Kind ChangeKind
	ID   uint16
	Seq  uint64
}

// Actions is what the shell has to do after a step.
type Actions struct {
	Send  []byte   // packets for the client, to leave when Store is durable
	Store []Change // in order
	Drops []Drop
	Ended []uint64 // Seqs of lent messages that the client has done with
	// Close asks for the end of the connection, with Code as the reason; a
	// DISCONNECT goes to the client when Tell is set.
	Close bool
	Tell  bool
	Code  mqtt.ReasonCode
	// Published is how many PUBLISHes Next wrote.
	Published int
	// Aliased is the topic when a routed PUBLISH carries an alias.
	Aliased string
}

// Reset empties a for the next step and keeps its memory.
func (a *Actions) Reset() {
	*a = Actions{Send: a.Send[:0], Store: a.Store[:0], Drops: a.Drops[:0], Ended: a.Ended[:0]}
}

func (a *Actions) fail(code mqtt.ReasonCode) {
	a.Close, a.Tell, a.Code = true, true, code
}

// Session is one session. See the package comment.
type Session struct {
	lim *Limits

	// life
	attached bool
	closing  bool // a DISCONNECT or an error ended the connection's traffic
	stored   bool // outlives its connection, so changes are stored
	denied   bool // reserved ids have to be stored again
	behind   bool // see the package comment
	overflow Overflow
	nextID   uint16
	links    uint // counts the connections
	link     Link
	will     *mqtt.Will
	willAt   time.Time // when detached with a will
	endsAt   time.Time // when detached

	// from the client
	unanswered int                // counts against our Receive Maximum
	received   map[uint16]inbound // QoS 2 ids between PUBLISH and PUBREL
	aliasIn    []string           // [alias-1]

	// to the client
	quota    int // what the client's Receive Maximum still allows
	ids      map[uint16]place
	fly      ring[flight]
	sent     uint64 // position in fly of the next to be sent on this connection
	live     int    // entries of fly that are not gone
	rel      ring[release]
	relSent  uint64 // position in rel of the next PUBREL to be sent on this connection
	released int    // entries of rel that are not gone
	flyBytes int
	aliasOut map[string]uint16

	queue    ring[Delivery] // QoS 1 and 2
	queueMem int            // bytes of queue
	zero     ring[Delivery] // QoS 0
	zeroMem  int
	count    int    // QoS 1 and 2 messages not yet acknowledged, wherever they are
	bytes    int    // of those
	cursor   uint64 // Seq of the newest that queue has or had
	admitted uint64 // Seq of the newest that left queue
	last     uint64 // Seq of the newest stored
	oldest   oldest
	losses   *ledger // nil: nothing was ever lost
}

// inbound is the state of a QoS 2 id of the client between PUBLISH and PUBREL.
type inbound uint8

const (
	pending  inbound = iota // not decided; forgotten with the connection
	counted                 // taken, and counts against our Receive Maximum
	earlier                 // taken on an earlier connection
	doubtful                // the same, unless that it ended was lost: only a PUBLISH with DUP is a repeat
)

// place is where an outbound packet id is in use.
type place struct {
	pos uint64
	rel bool // in rel, else in fly
}

// flight is a PUBLISH with a packet id, from its admission to PUBACK or PUBREC.
type flight struct {
	Delivery
	dup   bool // may have been sent before
	wait  bool // its id is not durable yet
	gone  bool
	bytes int
	note  *note // what it tells of losses, or nil
}

// release is a QoS 2 handshake between PUBREC and PUBCOMP.
type release struct {
	id   uint16
	seq  uint64
	link uint // the connection on which its PUBLISH was sent last, see Session.links
	lent bool
	gone bool
}

// New returns a fresh session without connection. lim is shared.
func New(lim *Limits) *Session { return &Session{lim: lim} }

// Saved is the stored part of a session, read back after a restart.
type Saved struct {
	ExpirySeconds uint32
	Will          *mqtt.Will
	DetachedAt    time.Time
	Received      []uint16 // inbound QoS 2 ids
	Doubtful      []uint16 // inbound QoS 2 ids whose handshake may have ended: a new message may have them
	Reserved      []uint16 // packet ids of queued messages
	Released      []Handshake
	Count, Bytes  int    // of the queue
	Last          uint64 // newest Seq of the queue
	Overflow      Overflow
	Lost          Losses // not told yet
}

// Handshake is an outbound QoS 2 handshake that awaits PUBCOMP.
type Handshake struct {
	ID  uint16
	Seq uint64
}

// Restore returns the session that was saved, without connection.
func Restore(lim *Limits, v Saved) *Session {
	s := New(lim)
	s.stored = true
	s.link.ExpirySeconds = v.ExpirySeconds
	s.will = v.Will
	for _, id := range v.Received {
		s.receive(id, earlier)
	}
	for _, id := range v.Doubtful {
		s.receive(id, doubtful)
	}
	for _, id := range v.Reserved {
		s.use(id, place{pos: noPosition})
	}
	for _, r := range v.Released {
		s.use(r.ID, place{pos: s.rel.end(), rel: true})
		s.rel.push(release{id: r.ID, seq: r.Seq})
		s.released++
	}
	s.count, s.bytes, s.last = v.Count, v.Bytes, v.Last
	s.behind = v.Count > 0
	s.overflow = v.Overflow
	if v.Lost != (Losses{}) {
		s.losses = &ledger{untold: note{lost: v.Lost, kept: v.Lost, any: true}, kept: v.Lost}
	}
	s.schedule(v.DetachedAt)
	return s
}

// noPosition is the place of an id whose message is still in the store.
const noPosition = ^uint64(0)

// Attached tells whether the session has a connection.
func (s *Session) Attached() bool { return s.attached }

// Stored tells whether the session outlives its connection.
func (s *Session) Stored() bool { return s.stored }

// Takes tells whether a message may be lent to the session in place of being
// stored for it: its client keeps what it acknowledges, is connected, and nothing
// waits for it in the store that would be overtaken.
func (s *Session) Takes() bool { return s.link.Handover && s.attached && !s.behind }

// Queued is how many QoS 1 and 2 messages are not acknowledged, and their bytes.
func (s *Session) Queued() (messages, bytes int) { return s.count, s.bytes }

// Window is how many QoS 1 and 2 messages may await the answer of the client as
// it connected last.
func (s *Session) Window() int { return min(int(s.link.ReceiveMaximum), s.lim.Inflight) }

// Overflow is the policy in force: that of the last connection.
func (s *Session) Overflow() Overflow { return s.overflow }

// ExpirySeconds is the session expiry interval in force.
func (s *Session) ExpirySeconds() uint32 { return s.link.ExpirySeconds }

// Will is the will that has not been published or discarded, or nil.
func (s *Session) Will() *mqtt.Will { return s.will }

// Attach gives the session a connection. It must not have one.
func (s *Session) Attach(l Link) {
	if l.ReceiveMaximum == 0 {
		l.ReceiveMaximum = 65535
	}
	s.overflow = l.Overflow
	s.link, s.will = l, l.Will // a will that waited is cancelled [MQTT-3.1.3-9] [MQTT-3.1.2-7]
	s.willAt, s.endsAt = time.Time{}, time.Time{}
	s.attached, s.closing = true, false
	s.links++
	s.stored = s.stored || l.ExpirySeconds > 0
	s.unanswered = 0
	for id, state := range s.received {
		switch state {
		case pending:
			delete(s.received, id)
		case counted:
			s.received[id] = earlier
		}
	}
	s.quota = s.Window()                       // [MQTT-4.9.0-1]
	s.sent, s.relSent = s.fly.base, s.rel.base // [MQTT-4.8.2-4]
}

// Detach takes the connection away at now, after Recall has taken back what was
// lent and not sent. What may be sent again stays, what was only for this
// connection goes. Due tells what time does from here on.
func (s *Session) Detach(now time.Time, out *Actions) {
	if !s.attached {
		return
	}
	s.attached = false
	s.aliasIn, s.aliasOut = nil, nil // [MQTT-3.3.2-7]
	if s.zero.n > 0 {
		out.Drops = append(out.Drops, Drop{Reason: DropOffline, Count: s.zero.n})
		s.lose(DropOffline, s.zero.n, false, out)
	}
	for s.zero.n > 0 {
		s.popZero()
	}
	if s.stored { // [MQTT-3.1.2-23]
		s.behind = s.behind || s.queue.n > 0
		for s.queue.n > 0 {
			s.popQueue()
		}
		s.cursor = s.admitted
		s.forgetFront()
	}
	s.schedule(now)
}

// schedule sets the times of will and end, counted from now.
func (s *Session) schedule(now time.Time) {
	s.endsAt = now.Add(time.Duration(s.link.ExpirySeconds) * time.Second)
	if s.will != nil { // at the delay or at the end of the session, whichever is first [MQTT-3.1.2-8]
		s.willAt = now.Add(time.Duration(min(s.will.DelaySeconds, s.link.ExpirySeconds)) * time.Second)
	}
}

// Due says what time has brought to a session without connection: the will to
// be published now, or nil, whether the session is over, and when to ask again
// if it is not. A will is given out once [MQTT-3.1.2-10].
func (s *Session) Due(now time.Time) (will *mqtt.Will, over bool, next time.Time) {
	if s.attached { // [MQTT-4.1.0-1]
		return nil, false, time.Time{}
	}
	if s.will != nil && !now.Before(s.willAt) {
		will, s.will = s.will, nil
	}
	if !now.Before(s.endsAt) { // [MQTT-4.1.0-2]
		return will, true, time.Time{}
	}
	if s.will != nil {
		return will, false, s.willAt
	}
	return will, false, s.endsAt
}

// TakeWill gives out the will and forgets it: the session ends now.
func (s *Session) TakeWill() *mqtt.Will {
	w := s.will
	s.will = nil
	return w
}

// End lets go of all messages. It returns how many QoS 1 and 2 messages were
// never acknowledged.
func (s *Session) End() int {
	for ; s.fly.n > 0; s.fly.pop() { // [MQTT-4.8.2-5]
		if f := s.fly.head(); !f.gone {
			f.Message.Release()
		}
	}
	for s.queue.n > 0 {
		s.popQueue()
	}
	for s.zero.n > 0 {
		s.popZero()
	}
	s.attached, s.ids, s.received = false, nil, nil
	n := s.count
	s.count, s.bytes, s.live = 0, 0, 0
	return n
}

func (a *Actions) drop(r DropReason, d *Delivery) {
	a.Drops = append(a.Drops, Drop{Reason: r, Topic: d.Message.Topic, QoS: d.QoS, Count: 1})
}

func (s *Session) change(out *Actions, c Change) {
	if s.stored {
		out.Store = append(out.Store, c)
	}
}

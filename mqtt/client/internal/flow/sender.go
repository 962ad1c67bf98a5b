package flow

import (
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client/internal/ring"
)

// stage is how far a message has come.
type stage uint8

const (
	waiting  stage = iota // never sent, or to be sent as new
	sent                  // PUBLISH went out on this or a former connection
	released              // QoS 2: PUBREC came, PUBREL is due or out
	ended                 // its outcome is known; earlier ones may not be
)

type entry struct {
	msg     Message
	stage   stage
	id      uint16 // 0 while waiting
	size    int
	outcome Outcome
}

// Sender is the outgoing half of a session: the queue of messages and their
// handshakes.
//
// The queue holds messages in the order of Push, which is the order of their
// sequence numbers, from the oldest whose outcome was not yet taken. On a
// connection a cursor moves over it from the front:
//
//	first        cursor              end
//	  │ gone out on   │ not on this   │
//	  │ this link     │ link yet      │
//	  ▼               ▼               ▼
//	 [s][e][r][s][s]  [s][s][w][w][w]          s sent  r released  e ended  w waiting
//
// A new connection puts the cursor back to the front, and so everything is sent
// again in its original order [MQTT-4.6.0-1], before anything new. The cursor
// stops where the server's Receive Maximum is used up [MQTT-4.9.0-2].
type Sender struct {
	version mqtt.Version
	queue   ring.Queue[entry]
	cursor  uint64 // position of the first entry that this connection has not seen
	written uint64 // entries before it have left the process; matters for QoS 0
	busy    int    // QoS > 0 before the cursor and not ended
	bytes   int
	ids     ids
	limits  Limits
	up      bool

	maxMessages, maxBytes int

	changes []Change
	clocked int          // entries with an expiry
	packet  mqtt.Publish // scratch, so that encoding does not allocate
	topic   []byte
	other   []byte
	user    []mqtt.BorrowedProperty
}

// NewSender returns a sender for one protocol version with bounds on what may
// wait in it.
func NewSender(v mqtt.Version, maxMessages, maxBytes int) *Sender {
	return &Sender{version: v, maxMessages: maxMessages, maxBytes: maxBytes}
}

// Len returns how many messages have no outcome taken yet.
func (s *Sender) Len() int { return s.queue.Len() }

// NextSeq returns the sequence number that the next Push will give.
func (s *Sender) NextSeq() uint64 { return s.queue.Next() }

// Full reports whether a message of that size has no room.
func (s *Sender) Full(size int) bool {
	n := s.queue.Len()
	return n >= s.maxMessages || n > 0 && s.bytes+size > s.maxBytes
}

// NeedsClock reports whether Pump looks at its time.
func (s *Sender) NeedsClock() bool { return s.clocked > 0 }

// Push adds a message at the end and returns its sequence number. The caller
// has asked Full.
func (s *Sender) Push(m Message) uint64 {
	e := entry{msg: m, size: m.Size()}
	s.bytes += e.size
	if !m.Expires.IsZero() {
		s.clocked++
	}
	return s.queue.Push(e)
}

// Restore adds a message of a former process. All are restored before the first
// Push, in rising order of seq; a gap in seq is filled with ended entries that
// have no outcome to tell.
func (s *Sender) Restore(seq uint64, id uint16, pubrec bool, m Message) {
	if s.queue.Len() == 0 {
		s.queue.Start(seq)
	}
	for s.queue.Next() < seq {
		s.queue.Push(entry{stage: ended})
	}
	s.Push(m)
	e := s.queue.At(seq)
	switch {
	case id == 0:
		return
	case pubrec:
		e.stage = released
	default:
		e.stage = sent
	}
	e.id = id
	s.ids.keep(id, seq)
	s.ids.last = id
}

// Up begins a connection. With sessionPresent everything unacknowledged is
// resent, PUBLISH with DUP and PUBREL, in the original order [MQTT-4.4.0-1].
// Without it the server has forgotten the session: each message that is not
// ended starts again as a new one, a QoS 2 message after PUBREC included. That
// is a choice for at least once: a server may pass a message on only at PUBREL.
func (s *Sender) Up(l Limits, sessionPresent bool) {
	s.limits, s.up = l, true
	s.cursor, s.written, s.busy = s.queue.First(), s.queue.First(), 0
	if sessionPresent {
		return
	}
	for pos := s.queue.First(); pos < s.queue.Next(); pos++ {
		if e := s.queue.At(pos); e.stage == sent || e.stage == released {
			s.ids.free(e.id)
			e.id, e.stage = 0, waiting // [MQTT-3.2.2-5]
			s.note(pos, e)
		}
	}
}

// Down ends a connection. QoS 0 messages that did not leave are lost.
func (s *Sender) Down() {
	s.up = false
	for pos := s.queue.First(); pos < s.queue.Next(); pos++ {
		e := s.queue.At(pos)
		switch {
		case e.msg.QoS > mqtt.AtMostOnce || e.stage == ended:
		case e.stage == sent && pos < s.written:
			s.end(pos, e, Outcome{})
		default:
			s.end(pos, e, Outcome{Verdict: LinkLost})
		}
	}
	s.cursor, s.busy = s.queue.First(), 0
}

// Pump appends what may be sent now and returns the longer buffer. It stops
// adding once the buffer holds room bytes [MQTT-3.3.4-8].
func (s *Sender) Pump(out []byte, now time.Time, room int) []byte {
	for s.up && s.cursor < s.queue.Next() && len(out) < room {
		e := s.queue.At(s.cursor)
		switch e.stage {
		case ended:
		case released:
			out = mqtt.AppendAck(out, s.version, mqtt.TypePubrel, e.id, mqtt.Success)
			s.busy++
		default:
			if e.msg.QoS > 0 && s.busy >= min(int(s.limits.ReceiveMaximum), maxBusy) {
				return out
			}
			var ok bool
			if out, ok = s.publish(out, e, now); !ok {
				return out
			}
		}
		s.cursor++
	}
	return out
}

// publish sends the entry at the cursor, or ends it; false means not now.
func (s *Sender) publish(out []byte, e *entry, now time.Time) ([]byte, bool) {
	m := &e.msg
	if v := s.refusal(e, now); v != Answered {
		s.end(s.cursor, e, Outcome{Verdict: v})
		return out, true
	}
	again := e.stage == sent
	if m.QoS > 0 && !again {
		id := s.ids.take(s.cursor)
		if id == 0 {
			return out, false
		}
		e.id = id
	}
	start := len(out)
	s.fill(e, again, now)
	longer, err := s.packet.Append(out, s.version)
	if err != nil {
		s.end(s.cursor, e, Outcome{Verdict: Invalid, Err: err})
		return out, true
	}
	if limit := s.limits.MaximumPacketSize; limit > 0 && len(longer)-start > int(limit) {
		s.end(s.cursor, e, Outcome{Verdict: TooLarge}) // [MQTT-3.2.2-15]
		return out[:start], true
	}
	e.stage = sent
	if m.QoS > 0 {
		s.busy++
		if !again {
			s.note(s.cursor, e)
		}
	}
	return longer, true
}

// refusal says why an entry may not be sent at all on this connection.
func (s *Sender) refusal(e *entry, now time.Time) Verdict {
	switch m := &e.msg; {
	case m.QoS > s.limits.MaximumQoS: // [MQTT-3.2.2-11]
		return QoSDenied
	case m.Retain && s.limits.NoRetain: // [MQTT-3.2.2-14]
		return NoRetain
	case e.stage == waiting && !m.Expires.IsZero() && !now.Before(m.Expires):
		return Expired
	}
	return Answered
}

// fill sets the scratch packet.
func (s *Sender) fill(e *entry, dup bool, now time.Time) {
	m, p := &e.msg, &s.packet
	s.topic = append(s.topic[:0], m.Topic...)
	*p = mqtt.Publish{
		Topic: s.topic, Payload: m.Payload, PacketID: e.id,
		QoS: m.QoS, Dup: dup, Retain: m.Retain, // [MQTT-3.3.1-1]
	}
	if s.version != mqtt.V5 {
		return
	}
	if !m.Expires.IsZero() {
		p.HasExpiry = true
		p.ExpirySeconds = seconds(m.Expires.Sub(now))
	}
	p.HasCorrelation, p.CorrelationData = m.CorrelationData != nil, m.CorrelationData
	s.other = append(append(s.other[:0], m.ContentType...), m.ResponseTopic...)
	if m.ContentType != "" {
		p.ContentType = s.other[:len(m.ContentType)]
	}
	if m.ResponseTopic != "" {
		p.ResponseTopic = s.other[len(m.ContentType):]
	}
	if len(m.User) > 0 {
		s.user = s.user[:0]
		for _, u := range m.User {
			s.user = append(s.user, mqtt.BorrowedProperty{Key: []byte(u.Key), Value: []byte(u.Value)})
		}
		p.User = s.user
	}
}

// seconds rounds up, so that what is left of a second is not told as nothing.
func seconds(d time.Duration) uint32 {
	n := (d + time.Second - 1) / time.Second
	return uint32(min(max(n, 0), 1<<32-1))
}

// Written notes that everything Pump has given so far has left the process.
func (s *Sender) Written(mark uint64) { s.written = max(s.written, mark) }

// Mark is what to give to Written once the bytes so far have left.
func (s *Sender) Mark() uint64 { return s.cursor }

// find returns the entry an acknowledgement on this connection is for, or nil
// when there is none: a stale or invented one, which must free nobody.
func (s *Sender) find(id uint16) (uint64, *entry) {
	pos, ok := s.ids.owner[id]
	if !ok || pos == noMessage || pos >= s.cursor {
		return 0, nil
	}
	return pos, s.queue.At(pos)
}

// Puback takes a PUBACK. A code of 0x80 or above ends the message too, and it
// is not sent again [MQTT-4.4.0-2].
func (s *Sender) Puback(id uint16, code mqtt.ReasonCode, text string) error {
	pos, e := s.find(id)
	if e == nil {
		return nil
	}
	if e.msg.QoS != mqtt.AtLeastOnce {
		return protocolError("PUBACK for a QoS 2 message")
	}
	s.settle(pos, e, Outcome{Reason: code, Text: text})
	return nil
}

// Pubrec takes a PUBREC and answers it with PUBREL, at once and so in the order
// of the PUBRECs [MQTT-4.6.0-4].
func (s *Sender) Pubrec(out []byte, id uint16, code mqtt.ReasonCode, text string) ([]byte, error) {
	pos, e := s.find(id)
	switch {
	case e == nil:
		return mqtt.AppendAck(out, s.version, mqtt.TypePubrel, id, mqtt.PacketIdentifierNotFound), nil
	case e.msg.QoS != mqtt.ExactlyOnce:
		return out, protocolError("PUBREC for a QoS 1 message")
	case code.Failed() && e.stage == sent:
		s.settle(pos, e, Outcome{Reason: code, Text: text}) // [MQTT-4.3.3-4]: no PUBREL then
		return out, nil
	case e.stage == sent:
		e.stage = released
		e.outcome.Reason = code // NoMatchingSubscribers is said here, not in PUBCOMP
		s.note(pos, e)
	}
	return mqtt.AppendAck(out, s.version, mqtt.TypePubrel, id, mqtt.Success), nil
}

// Pubcomp takes a PUBCOMP.
func (s *Sender) Pubcomp(id uint16, code mqtt.ReasonCode, text string) error {
	pos, e := s.find(id)
	switch {
	case e == nil:
		return nil
	case e.stage != released:
		return protocolError("PUBCOMP before PUBREC")
	}
	o := Outcome{Reason: e.outcome.Reason, Text: text}
	if code.Failed() && code != mqtt.PacketIdentifierNotFound {
		o.Reason = code
	}
	// PacketIdentifierNotFound answers a repeated PUBREL: the first one did it.
	s.settle(pos, e, o)
	return nil
}

// settle ends an entry that was in flight on this connection.
func (s *Sender) settle(pos uint64, e *entry, o Outcome) {
	s.busy--
	s.end(pos, e, o)
}

// end sets the outcome and lets go of all but that.
func (s *Sender) end(pos uint64, e *entry, o Outcome) {
	o.Seq = pos
	if e.id != 0 {
		s.ids.free(e.id)
	}
	if !e.msg.Expires.IsZero() {
		s.clocked--
	}
	s.bytes -= e.size
	qos := e.msg.QoS
	e.stage, e.outcome, e.id, e.size = ended, o, 0, 0
	e.msg = Message{QoS: qos}
	if qos > 0 {
		s.note(pos, e)
	}
}

// Outcomes appends the outcomes that are due, in the order of Push: one waits
// until all before it are known.
func (s *Sender) Outcomes(dst []Outcome) []Outcome {
	for s.queue.Len() > 0 {
		pos := s.queue.First()
		e := s.queue.At(pos)
		if e.stage == sent && e.msg.QoS == mqtt.AtMostOnce && pos < s.written {
			s.end(pos, e, Outcome{})
		}
		if e.stage != ended {
			break
		}
		dst = append(dst, e.outcome)
		s.queue.Pop()
	}
	s.cursor = max(s.cursor, s.queue.First())
	return dst
}

func (s *Sender) note(pos uint64, e *entry) {
	c := Change{Seq: pos, PacketID: e.id, Released: e.stage == released, Ended: e.stage == ended}
	if n := len(s.changes); n > 0 && s.changes[n-1].Seq == pos {
		s.changes[n-1] = c
		return
	}
	s.changes = append(s.changes, c)
}

// Changes returns what a store must note since the last call. The slice is
// valid until the next step.
func (s *Sender) Changes() []Change {
	c := s.changes
	s.changes = s.changes[:0]
	return c
}

// TakeID reserves a packet identifier for SUBSCRIBE or UNSUBSCRIBE; 0 when all
// are in use.
func (s *Sender) TakeID() uint16 { return s.ids.take(noMessage) }

// FreeID gives back what TakeID gave.
func (s *Sender) FreeID(id uint16) {
	if s.ids.owner[id] == noMessage {
		s.ids.free(id)
	}
}

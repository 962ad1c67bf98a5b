package pebblestore

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// Version of the encoding of values. Stored; never change.
const version1 = 1

// doubtful follows the version of a QoS 2 packet id from a client whose handshake
// may have ended, see putright. Stored; never change.
const doubtful = 1

// Bits of flags. Stored; never change.
const (
	qosMask       = 0x03
	flagRetain    = 0x04
	flagExpiry    = 0x08 // of messages and wills
	flagShared    = 0x08 // of entries: the message is under its own key
	flagWill      = 0x04 // of records
	flagDetached  = 0x08 // of records
	flagUTF8      = 0x10 // of wills
	flagCorr      = 0x20 // of wills
	flagNoLocal   = 0x04 // of subscriptions
	flagPublished = 0x08 // of subscriptions: Retain As Published
	handlingShift = 4    // of subscriptions
	overflowShift = 4    // of records, two bits
)

// errMalformed says that a value is not what was written: a checksum that
// should have told has not.
var errMalformed = errors.New("value is malformed")

func appendString[T string | []byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendTime(b []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(t.UnixNano()))
}

// decoder reads values. After an error everything reads as zero.
type decoder struct {
	b   []byte
	bad bool
}

func newDecoder(b []byte) *decoder {
	d := &decoder{b: b}
	if d.byte() != version1 {
		d.fail()
	}
	return d
}

func (d *decoder) fail() { d.bad, d.b = true, nil }

func (d *decoder) err() error {
	if d.bad {
		return errMalformed
	}
	return nil
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	s := d.b[:n]
	d.b = d.b[n:]
	return s
}

func (d *decoder) byte() byte {
	if s := d.bytes(1); len(s) == 1 {
		return s[0]
	}
	return 0
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// string returns borrowed bytes.
func (d *decoder) string() []byte { return d.bytes(d.uint()) }

func (d *decoder) time() time.Time {
	if s := d.bytes(8); len(s) == 8 {
		return time.Unix(0, int64(binary.BigEndian.Uint64(s)))
	}
	return time.Time{}
}

func appendMessage(b []byte, m *session.Message) []byte {
	flags := byte(m.QoS) & qosMask
	if m.Retain {
		flags |= flagRetain
	}
	if m.HasExpiry {
		flags |= flagExpiry
	}
	b = append(b, version1, flags)
	if m.HasExpiry {
		b = appendTime(b, m.Expires)
	}
	b = appendString(b, m.Topic)
	b = appendString(b, m.Publisher)
	b = appendString(b, m.Owner)
	b = appendString(b, m.Properties)
	return appendString(b, m.Payload)
}

// names keeps the strings that the messages of one read share.
type names struct{ topic, publisher, owner string }

func same(kept *string, b []byte) string {
	if *kept != string(b) {
		*kept = string(b)
	}
	return *kept
}

// decodeMessage makes a message with one reference out of b, which it copies.
func decodeMessage(b []byte, n *names) (*session.Message, error) {
	d := newDecoder(b)
	flags := d.byte()
	p := mqtt.Publish{QoS: mqtt.QoS(flags & qosMask), Retain: flags&flagRetain != 0}
	var expires time.Time
	if flags&flagExpiry != 0 {
		expires = d.time()
	}
	topic := same(&n.topic, d.string())
	publisher := same(&n.publisher, d.string())
	owner := same(&n.owner, d.string())
	props := d.string()
	p.Payload = d.string()
	if d.bad || len(d.b) > 0 || !decodeProperties(props, &p) {
		return nil, errMalformed
	}
	m := session.NewMessage(&p, topic, publisher, owner, time.Time{})
	if flags&flagExpiry != 0 {
		m.HasExpiry, m.Expires = true, expires
	}
	return m, nil
}

// decodeProperties reads the properties that a message carries, which are
// encoded as in a packet (MQTT 5.0, 2.2.2.2).
func decodeProperties(b []byte, p *mqtt.Publish) bool {
	field := func() []byte {
		if len(b) < 2 || len(b) < 2+int(binary.BigEndian.Uint16(b)) {
			b = nil
			return nil
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		s := b[2:n]
		b = b[n:]
		return s
	}
	for len(b) > 0 {
		id := b[0]
		b = b[1:]
		var s []byte
		if id == 0x01 {
			if len(b) == 0 {
				return false
			}
			p.PayloadUTF8 = b[0] == 1
			b = b[1:]
			continue
		}
		if s = field(); s == nil {
			return false
		}
		switch id {
		case 0x03:
			p.ContentType = s
		case 0x08:
			p.ResponseTopic = s
		case 0x09:
			p.HasCorrelation, p.CorrelationData = true, s
		case 0x26:
			v := field()
			if v == nil {
				return false
			}
			p.User = append(p.User, mqtt.BorrowedProperty{Key: s, Value: v})
		default:
			return false
		}
	}
	return true
}

// appendEntry writes a target's entry of its queue up to the message, which
// follows unless it is shared.
func appendEntry(b []byte, t *store.Target, size int, shared bool) []byte {
	flags := byte(t.QoS) & qosMask
	if t.Retain {
		flags |= flagRetain
	}
	if shared {
		flags |= flagShared
	}
	b = binary.AppendUvarint(append(b, version1, flags), uint64(size))
	b = binary.AppendUvarint(b, uint64(len(t.SubscriptionIDs)))
	for _, id := range t.SubscriptionIDs {
		b = binary.AppendUvarint(b, uint64(id))
	}
	return b
}

// entry is one entry of a queue, as read.
type entry struct {
	item
	qos     mqtt.QoS
	retain  bool
	ids     []uint32
	message []byte // borrowed; nil when shared
}

func decodeEntry(seq uint64, b []byte) (entry, error) {
	d := newDecoder(b)
	flags := d.byte()
	e := entry{qos: mqtt.QoS(flags & qosMask), retain: flags&flagRetain != 0}
	e.item = item{seq: seq, size: uint32(d.uint()), shared: flags&flagShared != 0}
	if n := d.uint(); n > 0 && n <= uint64(len(d.b)) {
		e.ids = make([]uint32, n)
		for i := range e.ids {
			e.ids[i] = uint32(d.uint())
		}
	} else if n > 0 {
		d.fail()
	}
	e.message = d.b
	if e.shared && len(d.b) > 0 {
		d.fail()
	}
	return e, d.err()
}

func appendRecord(b []byte, sid uint64, r *store.Record) []byte {
	var flags byte
	if r.Will != nil {
		flags |= flagWill
	}
	if !r.DetachedAt.IsZero() {
		flags |= flagDetached
	}
	flags |= byte(r.Overflow&3) << overflowShift
	b = binary.AppendUvarint(append(b, version1, flags), sid)
	b = binary.AppendUvarint(b, uint64(r.ExpirySeconds))
	if !r.DetachedAt.IsZero() {
		b = appendTime(b, r.DetachedAt)
	}
	b = appendString(b, r.Owner)
	if r.Will != nil {
		b = appendWill(b, r.Will)
	}
	return b
}

func decodeRecord(client string, b []byte) (sid uint64, r store.Record, err error) {
	d := newDecoder(b)
	flags := d.byte()
	sid = d.uint()
	r = store.Record{ClientID: client, ExpirySeconds: uint32(d.uint()), Overflow: session.Overflow(flags >> overflowShift & 3)}
	if flags&flagDetached != 0 {
		r.DetachedAt = d.time()
	}
	r.Owner = string(d.string())
	if flags&flagWill != 0 {
		r.Will = decodeWill(d)
	}
	return sid, r, d.err()
}

func appendWill(b []byte, w *mqtt.Will) []byte {
	flags := byte(w.QoS) & qosMask
	if w.Retain {
		flags |= flagRetain
	}
	if w.HasExpiry {
		flags |= flagExpiry
	}
	if w.PayloadUTF8 {
		flags |= flagUTF8
	}
	if w.CorrelationData != nil {
		flags |= flagCorr
	}
	b = binary.AppendUvarint(append(b, flags), uint64(w.DelaySeconds))
	b = binary.AppendUvarint(b, uint64(w.ExpirySeconds))
	b = appendString(b, w.Topic)
	b = appendString(b, w.Payload)
	b = appendString(b, w.ContentType)
	b = appendString(b, w.ResponseTopic)
	b = appendString(b, w.CorrelationData)
	b = binary.AppendUvarint(b, uint64(len(w.User)))
	for _, u := range w.User {
		b = appendString(appendString(b, u.Key), u.Value)
	}
	return b
}

func decodeWill(d *decoder) *mqtt.Will {
	flags := d.byte()
	w := &mqtt.Will{
		QoS: mqtt.QoS(flags & qosMask), Retain: flags&flagRetain != 0,
		HasExpiry: flags&flagExpiry != 0, PayloadUTF8: flags&flagUTF8 != 0,
		DelaySeconds: uint32(d.uint()), ExpirySeconds: uint32(d.uint()),
		Topic: string(d.string()), Payload: slices.Clone(d.string()),
		ContentType: string(d.string()), ResponseTopic: string(d.string()),
	}
	if corr := d.string(); flags&flagCorr != 0 {
		w.CorrelationData = append([]byte{}, corr...)
	}
	for n := d.uint(); n > 0 && !d.bad; n-- {
		w.User = append(w.User, mqtt.UserProperty{Key: string(d.string()), Value: string(d.string())})
	}
	return w
}

func appendSubscription(b []byte, s *store.Subscription) []byte {
	flags := byte(s.QoS)&qosMask | s.RetainHandling<<handlingShift
	if s.NoLocal {
		flags |= flagNoLocal
	}
	if s.RetainAsPublished {
		flags |= flagPublished
	}
	return binary.AppendUvarint(append(b, version1, flags), uint64(s.ID))
}

func decodeSubscription(filter string, b []byte) (store.Subscription, error) {
	d := newDecoder(b)
	flags := d.byte()
	return store.Subscription{
		Subscription: mqtt.Subscription{
			Filter: filter, QoS: mqtt.QoS(flags & qosMask), NoLocal: flags&flagNoLocal != 0,
			RetainAsPublished: flags&flagPublished != 0, RetainHandling: flags >> handlingShift,
		},
		ID: uint32(d.uint()),
	}, d.err()
}

// totals is what is kept of a queue as a whole.
type totals struct {
	low, last            uint64
	count, bytes, shared int
	// lost is what the session has lost and not told, nil for nothing. It follows
	// the rest as pairs of reason and count; what older versions wrote has none.
	lost *session.Losses
}

func (t *totals) append(b []byte) []byte {
	b = append(b, version1)
	for _, v := range [...]uint64{t.low, t.last, uint64(t.count), uint64(t.bytes), uint64(t.shared)} {
		b = binary.AppendUvarint(b, v)
	}
	if t.lost != nil {
		for r, n := range t.lost {
			if n > 0 {
				b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(r)), n)
			}
		}
	}
	return b
}

func decodeTotals(b []byte) (totals, error) {
	d := newDecoder(b)
	t := totals{low: d.uint(), last: d.uint()}
	t.count, t.bytes, t.shared = int(d.uint()), int(d.uint()), int(d.uint())
	for len(d.b) > 0 {
		if t.lost == nil {
			t.lost = new(session.Losses)
		}
		if r, n := d.uint(), d.uint(); r < uint64(len(t.lost)) { // else of a later version
			t.lost[r] = n
		}
	}
	return t, d.err()
}

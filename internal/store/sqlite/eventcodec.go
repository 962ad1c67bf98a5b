package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

// Events are stored packed, because each is written once, read at most a few
// times, and never selected by what is in it. One event is
//
//	flags (1 byte), time in ms (varint), attempt (varint), [tid (16 bytes)],
//	[percent (8 bytes)], [version (varint)], then eleven texts, each its length (uvarint) and its bytes,
//	[the id of a roll-out, a text, how many groups (uvarint), and their names, texts]
//
// The ID is not in it: it follows from the row's first ID and the place in the
// row. Stored; never change: a new form wants a new column.
const (
	flagTID       = 1 << iota // a tid follows
	flagHasOnline             // Online is set
	flagOnline                // to true
	flagNoTime                // At is zero
	flagPercent               // a percentage follows
	flagVersion               // a version follows
	flagRollout               // a roll-out and groups follow at the end
)

// eventBlock is packed events in a row of the table.
type eventBlock struct {
	n      int
	at     int64 // ms, of the newest
	body   []byte
	joined bool // body is the transaction's own
}

// maxBlock bounds the events of one row, and so what must be skipped to find one.
const maxBlock = 256

// packEvents packs all events into blocks.
func packEvents(events []store.Event) (blocks []eventBlock) {
	for len(events) > 0 {
		n := min(len(events), maxBlock)
		b := eventBlock{n: n, at: math.MinInt64, body: make([]byte, 0, n*160)}
		for i := range events[:n] {
			b.body = appendEvent(b.body, &events[i])
			b.at = max(b.at, events[i].At.UnixMilli())
		}
		blocks, events = append(blocks, b), events[n:]
	}
	return blocks
}

func appendEvent(b []byte, e *store.Event) []byte {
	var flags byte
	if e.TID != nil {
		flags |= flagTID
	}
	if e.Online != nil {
		flags |= flagHasOnline
		if *e.Online {
			flags |= flagOnline
		}
	}
	if e.Percent != nil {
		flags |= flagPercent
	}
	if e.Version != 0 {
		flags |= flagVersion
	}
	if e.Rollout != "" || len(e.Groups) > 0 {
		flags |= flagRollout
	}
	ms := e.At.UnixMilli()
	if e.At.IsZero() {
		flags |= flagNoTime
		ms = 0
	}
	b = append(b, flags)
	b = binary.AppendVarint(b, ms)
	b = binary.AppendVarint(b, int64(e.Attempt))
	if e.TID != nil {
		b = append(b, e.TID[:]...)
	}
	if e.Percent != nil {
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(*e.Percent))
	}
	if e.Version != 0 {
		b = binary.AppendVarint(b, e.Version)
	}
	for _, s := range [...]string{string(e.Type), e.Device.Group, e.Device.Device, e.Name, string(e.Kind),
		string(e.From), string(e.State), string(e.Reason), e.By, e.Detail, e.Boot} {
		b = appendText(b, s)
	}
	if flags&flagRollout != 0 {
		b = appendText(b, e.Rollout)
		b = binary.AppendUvarint(b, uint64(len(e.Groups)))
		for _, g := range e.Groups {
			b = appendText(b, g)
		}
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// errPacked says that a stored row is not what appendEvent writes.
var errPacked = errors.New("store: a stored event cannot be read")

// unpacker reads packed events; after a mistake it gives zeros.
type unpacker struct {
	b   []byte
	bad bool
}

func (u *unpacker) take(n uint64) []byte {
	if u.bad || n > uint64(len(u.b)) {
		u.bad = true
		return nil
	}
	p := u.b[:n]
	u.b = u.b[n:]
	return p
}

func (u *unpacker) varint() int64 {
	v, n := binary.Varint(u.b)
	if n <= 0 {
		u.bad = true
		return 0
	}
	u.b = u.b[n:]
	return v
}

func (u *unpacker) uvarint() uint64 {
	v, n := binary.Uvarint(u.b)
	if n <= 0 {
		u.bad = true
		return 0
	}
	u.b = u.b[n:]
	return v
}

func (u *unpacker) bytes() []byte { return u.take(u.uvarint()) }

// event reads the next event; with skip it only passes over it.
func (u *unpacker) event(skip bool) (e store.Event, err error) {
	flags := u.take(1)
	if u.bad {
		return e, errPacked
	}
	ms, attempt := u.varint(), u.varint()
	var tid []byte
	if flags[0]&flagTID != 0 {
		tid = u.take(16)
	}
	var percent []byte
	if flags[0]&flagPercent != 0 {
		percent = u.take(8)
	}
	var version int64
	if flags[0]&flagVersion != 0 {
		version = u.varint()
	}
	var text [11][]byte
	for i := range text {
		text[i] = u.bytes()
	}
	if flags[0]&flagRollout != 0 {
		e.Rollout = string(u.bytes())
		for n := u.uvarint(); n > 0 && !u.bad; n-- {
			e.Groups = append(e.Groups, string(u.bytes()))
		}
	}
	if u.bad {
		return e, errPacked
	}
	if skip {
		return e, nil
	}
	if tid != nil {
		e.TID = (*uuid.UUID)(append([]byte(nil), tid...))
	}
	if percent != nil {
		p := math.Float64frombits(binary.BigEndian.Uint64(percent))
		e.Percent = &p
	}
	if flags[0]&flagHasOnline != 0 {
		online := flags[0]&flagOnline != 0
		e.Online = &online
	}
	if flags[0]&flagNoTime == 0 {
		e.At = time.UnixMilli(ms).UTC()
	}
	e.Attempt, e.Version = int(attempt), version
	e.Type = store.EventType(text[0])
	e.Device = wire.Address{Group: string(text[1]), Device: string(text[2])}
	e.Name, e.Kind = string(text[3]), command.Kind(text[4])
	e.From, e.State, e.Reason = command.State(text[5]), command.State(text[6]), command.Reason(text[7])
	e.By, e.Detail, e.Boot = string(text[8]), string(text[9]), string(text[10])
	return e, nil
}

// unpack adds to dst the events of a row from ID on, until dst holds limit.
func unpack(dst []store.Event, first, n, from int64, body []byte, limit int) ([]store.Event, error) {
	u := unpacker{b: body}
	for id := first; id < first+n && len(dst) < limit; id++ {
		e, err := u.event(id < from)
		if err != nil {
			return nil, fmt.Errorf("%w: ID %d", err, id)
		}
		if id >= from {
			e.ID = id
			dst = append(dst, e)
		}
	}
	return dst, nil
}

package sqlite

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/wire"
)

// A command is written about three times in its life, whole, and read about
// once: the engine has the young ones in memory. Nothing is selected by what is
// in its document, so that is packed: a third of the bytes of JSON, and so fewer
// pages for each commit, and a fifth of the time. It is
//
//	docPacked (1 byte), flags (1 byte), then the fields in the order of packCommand:
//	numbers as varint, texts and raw JSON with their length (uvarint) before them,
//	floats as 8 bytes, times as timeCode, what is absent by its flag not at all;
//	and behind them, when there is any, what few commands have, as JSON
//
// Documents of schema versions 1 and 2 are JSON and begin with a brace. The tests
// compare both forms over all fields, so that a new field of command.Command
// cannot be forgotten here. Stored; never change: a new form wants a new first
// byte.
const docPacked = 1

const (
	flagRetryOf = 1 << iota
	flagSupersededBy
	flagSupersede
	flagProgress
	flagProgressPercent
	flagParked
	flagCancelAsked
	flagClosed
)

const flagAnomaly = 1 // of a line of the timeline

// docWriter appends packed fields; it keeps the first mistake.
type docWriter struct {
	b    []byte
	base int64 // ms; times are told from here
	err  error
}

// packCommand appends the document of a command. On an error, raw JSON that is
// none or a time that JSON cannot say, dst is returned as it was.
func packCommand(dst []byte, c *command.Command) ([]byte, error) {
	w := docWriter{b: append(dst, docPacked, docFlags(c)), base: c.Created.UnixMilli()}
	w.check(c.Created)
	w.integer(w.base)
	w.b = append(w.b, c.TID[:]...)
	w.text(c.Device.Group)
	w.text(c.Device.Device)
	w.text(c.Name)
	w.raw("params", c.Params)
	w.policy(&c.Policy)
	w.text(c.RequestedBy)
	w.text(c.Key)
	w.text(c.Digest)
	w.tid(c.RetryOf)
	w.time(c.NotAfter)
	w.text(string(c.State))
	w.text(string(c.Reason))
	w.text(c.Detail)
	w.integer(c.Version)
	w.integer(int64(c.Attempt))
	w.integer(int64(c.Refused))
	w.integer(int64(c.Tries))
	w.integer(c.Epoch)
	w.integer(c.Seq)
	w.text(c.Boot)
	if p := c.Progress; p != nil {
		if p.Percent != nil {
			w.float(*p.Percent)
		}
		w.text(p.Note)
	}
	w.raw("result", c.Result)
	w.raw("deviceState", c.DeviceState)
	for _, t := range [...]*time.Time{&c.FirstSent, &c.LastSent, &c.Acked, &c.LastHeard, &c.TimedOutAt, &c.Ended, &c.FinishDue, &c.Wake} {
		w.time(*t)
	}
	w.integer(int64(c.Anomalies))
	w.tid(c.SupersededBy)
	w.timeline(c.Timeline)
	w.rare(c)
	if w.err != nil {
		return dst, w.err
	}
	return w.b, nil
}

// rare is what few commands have; its names are those of command.Command.
type rare struct {
	Approval   *command.Approval `json:"approval,omitempty"`
	Converging bool              `json:"converging,omitempty"`
	Former     json.RawMessage   `json:"former,omitempty"`
	After      json.RawMessage   `json:"after,omitempty"`
	Terms      *command.Terms    `json:"terms,omitempty"`
	Held       bool              `json:"held,omitempty"`
	Rollout    string            `json:"rollout,omitempty"`
	Undoes     *command.TID      `json:"undoes,omitempty"`
	UndoneBy   *command.TID      `json:"undoneBy,omitempty"`
	Forced     bool              `json:"forced,omitempty"`
}

func (r *rare) none() bool {
	return r.Approval == nil && !r.Converging && len(r.Former)+len(r.After) == 0 && r.Terms == nil && !r.Held && r.Rollout == "" &&
		r.Undoes == nil && r.UndoneBy == nil && !r.Forced
}

func (w *docWriter) rare(c *command.Command) {
	r := rare{Approval: c.Approval, Converging: c.Converging, Former: c.Former, After: c.After, Terms: c.Terms, Held: c.Held, Rollout: c.Rollout,
		Undoes: c.Undoes, UndoneBy: c.UndoneBy, Forced: c.Forced}
	if r.none() {
		return
	}
	b, err := json.Marshal(r)
	if err != nil {
		w.fail(err)
	}
	w.b = append(w.b, b...)
}

func docFlags(c *command.Command) (flags byte) {
	for _, f := range [...]struct {
		set  bool
		flag byte
	}{
		{c.RetryOf != nil, flagRetryOf}, {c.SupersededBy != nil, flagSupersededBy}, {c.Policy.Supersede, flagSupersede},
		{c.Progress != nil, flagProgress}, {c.Progress != nil && c.Progress.Percent != nil, flagProgressPercent},
		{c.Parked, flagParked}, {c.CancelAsked, flagCancelAsked}, {c.Closed, flagClosed},
	} {
		if f.set {
			flags |= f.flag
		}
	}
	return flags
}

func (w *docWriter) policy(p *command.Policy) {
	for _, d := range [...]command.Duration{p.DeliverBy, p.AckBy, p.Heartbeat, p.FinishBy, p.Settle, p.MaxBackoff} {
		w.integer(int64(d))
	}
	w.text(string(p.Backoff))
	w.integer(int64(p.MaxAttempts))
	w.float(p.Jitter)
}

// timeline writes the number of lines and one, because none is not the same as
// an empty one, and the lines.
func (w *docWriter) timeline(entries []command.Entry) {
	if entries == nil {
		w.b = append(w.b, 0)
		return
	}
	w.b = binary.AppendUvarint(w.b, uint64(len(entries))+1)
	for i := range entries {
		e := &entries[i]
		var flags byte
		if e.Anomaly {
			flags = flagAnomaly
		}
		w.b = append(w.b, flags)
		w.time(e.At)
		w.time(e.Until)
		for _, s := range [...]string{string(e.Kind), string(e.State), string(e.Reason), e.By, e.Detail} {
			w.text(s)
		}
		w.integer(int64(e.Attempt))
		w.integer(int64(e.Count))
	}
}

func (w *docWriter) text(s string) {
	w.b = binary.AppendUvarint(w.b, uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *docWriter) integer(n int64) { w.b = binary.AppendVarint(w.b, n) }

func (w *docWriter) float(f float64) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		w.fail(errors.New("a number is not finite"))
	}
	w.b = binary.BigEndian.AppendUint64(w.b, math.Float64bits(f))
}

func (w *docWriter) tid(id *command.TID) {
	if id != nil {
		w.b = append(w.b, id[:]...)
	}
}

func (w *docWriter) raw(name string, v json.RawMessage) {
	if len(v) > 0 && !json.Valid(v) {
		w.fail(fmt.Errorf("%s is not JSON", name))
	}
	w.b = binary.AppendUvarint(w.b, uint64(len(v)))
	w.b = append(w.b, v...)
}

// time writes the timeCode: 0 for the zero time, else one more than the
// milliseconds since the command was created, zigzag, as uvarint.
func (w *docWriter) time(t time.Time) {
	if t.IsZero() {
		w.b = append(w.b, 0)
		return
	}
	w.check(t)
	d := t.UnixMilli() - w.base
	w.b = binary.AppendUvarint(w.b, uint64(d<<1^(d>>63))+1)
}

// check refuses the times that the API could not tell, as it speaks JSON.
func (w *docWriter) check(t time.Time) {
	const year0, year10000 = -62167219200, 253402300800
	if s := t.Unix(); s < year0 || s >= year10000 {
		w.fail(fmt.Errorf("a time is in the year %d", t.Year()))
	}
}

func (w *docWriter) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// parseCommand reads a document, packed or JSON.
func parseCommand(doc []byte) (c command.Command, err error) {
	if len(doc) > 0 && doc[0] == docPacked {
		return unpackCommand(doc[1:])
	}
	if err := json.Unmarshal(doc, &c); err != nil {
		return command.Command{}, fmt.Errorf("store: a stored command cannot be read: %w", err)
	}
	return c, nil
}

// docReader reads what docWriter wrote; after a mistake it gives zeros.
type docReader struct {
	unpacker
	base  int64
	flags byte
}

func unpackCommand(doc []byte) (c command.Command, err error) {
	r := docReader{unpacker: unpacker{b: doc}}
	r.flags = r.byte()
	r.base = r.varint()
	c.Created = time.UnixMilli(r.base).UTC()
	copy(c.TID[:], r.take(16))
	c.Device = wire.Address{Group: r.text(), Device: r.text()}
	c.Name = r.text()
	c.Params = r.raw()
	r.policy(&c.Policy)
	c.RequestedBy, c.Key, c.Digest = r.text(), r.text(), r.text()
	c.RetryOf = r.tid(flagRetryOf)
	c.NotAfter = r.time()
	c.State, c.Reason, c.Detail = command.State(r.text()), command.Reason(r.text()), r.text()
	c.Version = r.varint()
	c.Attempt, c.Refused, c.Tries = int(r.varint()), int(r.varint()), int(r.varint())
	c.Epoch, c.Seq = r.varint(), r.varint()
	c.Boot = r.text()
	if r.has(flagProgress) {
		c.Progress = &wire.Progress{}
		if r.has(flagProgressPercent) {
			percent := r.float()
			c.Progress.Percent = &percent
		}
		c.Progress.Note = r.text()
	}
	c.Result, c.DeviceState = r.raw(), r.raw()
	for _, t := range [...]*time.Time{&c.FirstSent, &c.LastSent, &c.Acked, &c.LastHeard, &c.TimedOutAt, &c.Ended, &c.FinishDue, &c.Wake} {
		*t = r.time()
	}
	c.Anomalies = int(r.varint())
	c.SupersededBy = r.tid(flagSupersededBy)
	c.Parked, c.CancelAsked, c.Closed = r.has(flagParked), r.has(flagCancelAsked), r.has(flagClosed)
	c.Timeline = r.timeline()
	r.rare(&c)
	if r.bad {
		return command.Command{}, errors.New("store: a stored command cannot be read: its document is damaged")
	}
	return c, nil
}

func (r *docReader) rare(c *command.Command) {
	if r.bad || len(r.b) == 0 {
		return
	}
	var v rare
	if json.Unmarshal(r.b, &v) != nil {
		r.bad = true
	}
	c.Approval, c.Converging, c.Former, c.After, c.Terms, c.Held = v.Approval, v.Converging, v.Former, v.After, v.Terms, v.Held
	c.Rollout, c.Undoes, c.UndoneBy, c.Forced = v.Rollout, v.Undoes, v.UndoneBy, v.Forced
}

func (r *docReader) policy(p *command.Policy) {
	for _, d := range [...]*command.Duration{&p.DeliverBy, &p.AckBy, &p.Heartbeat, &p.FinishBy, &p.Settle, &p.MaxBackoff} {
		*d = command.Duration(r.varint())
	}
	p.Backoff = command.Backoff(r.text())
	p.MaxAttempts = int(r.varint())
	p.Jitter = r.float()
	p.Supersede = r.has(flagSupersede)
}

func (r *docReader) timeline() []command.Entry {
	n := r.uvarint()
	if n == 0 || n-1 > uint64(len(r.b)) { // a line is longer than a byte
		r.bad = r.bad || n > 0
		return nil
	}
	entries := make([]command.Entry, n-1)
	for i := range entries {
		if r.bad {
			return nil
		}
		e := &entries[i]
		e.Anomaly = r.byte()&flagAnomaly != 0
		e.At, e.Until = r.time(), r.time()
		e.Kind, e.State, e.Reason = command.Kind(r.text()), command.State(r.text()), command.Reason(r.text())
		e.By, e.Detail = r.text(), r.text()
		e.Attempt, e.Count = int(r.varint()), int(r.varint())
	}
	return entries
}

func (r *docReader) has(flag byte) bool { return r.flags&flag != 0 }

func (r *docReader) byte() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *docReader) text() string { return string(r.bytes()) }

// raw gives a part of the document, which belongs to the reader.
func (r *docReader) raw() json.RawMessage {
	if p := r.bytes(); len(p) > 0 {
		return p[:len(p):len(p)]
	}
	return nil
}

func (r *docReader) float() float64 {
	if p := r.take(8); p != nil {
		return math.Float64frombits(binary.BigEndian.Uint64(p))
	}
	return 0
}

func (r *docReader) tid(flag byte) *command.TID {
	if !r.has(flag) {
		return nil
	}
	var id command.TID
	copy(id[:], r.take(16))
	return &id
}

func (r *docReader) time() time.Time {
	code := r.uvarint()
	if code == 0 {
		return time.Time{}
	}
	code--
	return time.UnixMilli(r.base + (int64(code>>1) ^ -int64(code&1))).UTC()
}

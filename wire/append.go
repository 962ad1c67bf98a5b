package wire

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// writer appends one JSON object. Like the scanner, it keeps the first mistake
// and its callers look at it once, in done.
type writer struct {
	b     []byte
	start int
	comma bool
	err   *Error
}

func write(dst []byte) writer { return writer{b: append(dst, '{'), start: len(dst)} }

// done ends the object and returns the whole, or dst as it was.
func (w *writer) done() ([]byte, error) {
	w.b = append(w.b, '}')
	if len(w.b)-w.start > MaxDocument {
		w.fail("document", "would be longer than "+strconv.Itoa(MaxDocument)+" bytes")
	}
	if w.err != nil {
		return w.b[:w.start], w.err
	}
	return w.b, nil
}

func (w *writer) fail(field, text string) {
	if w.err == nil {
		w.err = &Error{Field: field, Text: text}
	}
}

// name begins a member. Names are ours and need no escaping.
func (w *writer) name(name string) {
	if w.comma {
		w.b = append(w.b, ',')
	}
	w.comma = true
	w.b = append(w.b, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
}

func (w *writer) tid(tid string) {
	if !validName(tid) {
		w.fail("tid", nameRule)
	}
	w.name("tid")
	w.quote(tid)
}

func (w *writer) status(status string, allowed []string) {
	if !slices.Contains(allowed, status) && w.err == nil {
		w.err = statusError(allowed)
	}
	w.name("status")
	w.quote(status)
}

// label writes a short string, or nothing when it is empty.
func (w *writer) label(name, text string, limit int) {
	if text == "" {
		return
	}
	if len(text) > limit {
		w.fail(name, "is longer than "+strconv.Itoa(limit)+" bytes")
	}
	if !utf8.ValidString(text) {
		w.fail(name, "is not valid UTF-8")
	}
	w.text(name, text)
}

func (w *writer) text(name, text string) {
	for i := range len(text) {
		if text[i] == 0 {
			w.fail(name, "holds the character U+0000; leave it out")
		}
	}
	w.name(name)
	w.b = appendString(w.b, text)
}

// quote writes a string known to need no escaping, or wrong anyway.
func (w *writer) quote(s string) {
	w.b = append(w.b, '"')
	w.b = append(w.b, s...)
	w.b = append(w.b, '"')
}

func (w *writer) integer(name string, n int64) {
	if n == 0 {
		return
	}
	if n < 0 {
		w.fail(name, "must not be negative")
	}
	w.name(name)
	w.b = strconv.AppendInt(w.b, n, 10)
}

func (w *writer) time(name string, t time.Time) {
	if t.IsZero() {
		return
	}
	t = t.UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		w.fail(name, "must be in a year from 0 to 9999")
	}
	w.name(name)
	w.b = append(w.b, '"')
	w.b = t.AppendFormat(w.b, "2006-01-02T15:04:05.000Z")
	w.b = append(w.b, '"')
}

// raw writes a JSON value as it stands, or nothing when it is empty.
func (w *writer) raw(name string, v json.RawMessage) {
	if len(v) == 0 {
		return
	}
	if len(v) > MaxValue {
		w.fail(name, "is longer than "+strconv.Itoa(MaxValue)+" bytes")
	} else if err := validValue(v); err != nil {
		w.fail(name, "is not a JSON value: "+err.Text)
	}
	w.name(name)
	w.b = append(w.b, v...)
}

func (w *writer) reason(r *Reason) {
	if r == nil {
		return
	}
	w.name("reason")
	w.b = append(w.b, '{')
	w.comma = false
	if r.Code != "" {
		w.text("code", cut(r.Code, MaxCode))
	}
	if r.Text != "" {
		w.text("text", cut(r.Text, MaxText))
	}
	w.b = append(w.b, '}')
	w.comma = true
}

func (w *writer) progress(p *Progress) {
	if p == nil {
		return
	}
	w.name("progress")
	w.b = append(w.b, '{')
	w.comma = false
	if p.Percent != nil {
		f := *p.Percent
		if !(f >= 0 && f <= 100) { // also for NaN
			w.fail("progress.percent", "must be from 0 to 100")
		}
		w.name("percent")
		w.b = strconv.AppendFloat(w.b, f, 'f', -1, 64)
	}
	if p.Note != "" {
		w.text("note", cut(p.Note, MaxText))
	}
	w.b = append(w.b, '}')
	w.comma = true
}

func appendCommand(dst []byte, c Command) ([]byte, error) {
	w := write(dst)
	w.tid(c.TID)
	if c.Cmd == "" && c.Status == Request {
		w.fail("cmd", "is missing; a request names what is to be done")
	}
	w.label("cmd", c.Cmd, MaxCmd)
	w.status(c.Status, commandStatuses)
	if len(c.Params) == 0 && c.Status == Request {
		c.Params = emptyObject
	}
	w.raw("params", c.Params)
	w.integer("seq", c.Seq)
	w.integer("epoch", c.Epoch)
	w.integer("attempt", int64(c.Attempt))
	w.time("issued", c.Issued)
	w.time("notAfter", c.NotAfter)
	w.raw("if", c.If)
	return w.done()
}

var emptyObject = json.RawMessage("{}")

func appendAck(dst []byte, a Ack) ([]byte, error) {
	w := write(dst)
	w.tid(a.TID)
	w.status(a.Status, ackStatuses)
	w.reason(a.Reason)
	return w.done()
}

func appendResult(dst []byte, r Result) ([]byte, error) {
	w := write(dst)
	w.tid(r.TID)
	w.status(r.Status, resultStatuses)
	w.progress(r.Progress)
	w.raw("result", r.Result)
	w.reason(r.Reason)
	w.raw("state", r.State)
	return w.done()
}

func appendStatus(dst []byte, s Status) ([]byte, error) {
	w := write(dst)
	w.name("online")
	w.b = strconv.AppendBool(w.b, s.Online)
	w.label("boot", s.Boot, MaxLabel)
	w.time("ts", s.TS)
	w.label("firmware", s.Firmware, MaxLabel)
	if s.Online || len(s.InProgress) > 0 {
		w.tids("inProgress", s.InProgress)
	}
	if len(s.Commands) > 0 {
		w.commands(s.Commands)
	}
	return w.done()
}

func (w *writer) commands(names []string) {
	if len(names) > MaxCommands {
		w.fail("commands", "has more than "+strconv.Itoa(MaxCommands)+" entries")
	}
	w.name("commands")
	w.b = append(w.b, '[')
	for i, name := range names {
		if len(name) > MaxCommand || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
			w.fail("commands", "each must be at most "+strconv.Itoa(MaxCommand)+" bytes of UTF-8 without U+0000")
		}
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = appendString(w.b, name)
	}
	w.b = append(w.b, ']')
}

func (w *writer) tids(name string, tids []string) {
	if len(tids) > MaxRunning {
		w.fail(name, "has more than "+strconv.Itoa(MaxRunning)+" entries")
	}
	w.name(name)
	w.b = append(w.b, '[')
	for i, tid := range tids {
		if !validName(tid) {
			w.fail(name, nameRule)
		}
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.quote(tid)
	}
	w.b = append(w.b, ']')
}

func appendAtlasCommand(dst []byte, c Command) ([]byte, error) {
	if c.Status != Request {
		return dst, ErrUnsupported
	}
	w := write(dst)
	if c.Cmd == "" {
		w.fail("cmd", "is missing; a request names what is to be done")
	}
	w.label("cmd", c.Cmd, MaxCmd)
	w.tid(c.TID)
	w.status(c.Status, commandStatuses)
	if string(c.Params) != "{}" {
		w.raw("params", c.Params)
	}
	return w.done()
}

func appendAtlasAnswer(dst []byte, tid, status string, allowed []string) ([]byte, error) {
	w := write(dst)
	w.tid(tid)
	w.status(status, allowed)
	return w.done()
}

// appendString appends s as a JSON string. Ill-formed UTF-8 becomes U+FFFD;
// U+2028 and U+2029 are escaped, because JavaScript once took them for the end
// of a line.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && n == 1:
				dst = append(append(dst, s[start:i]...), "\ufffd"...)
				start = i + n
			case r == '\u2028' || r == '\u2029':
				dst = append(append(dst, s[start:i]...), '\\', 'u', '2', '0', '2', hex[r&0xf])
				start = i + n
			}
			i += n
			continue
		}
		if c >= 0x20 && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
)

// A command is written as JSON about four times in its life and read about once:
// the engine has the young ones in memory. So it is written by hand, which takes
// a third of the time of encoding/json, and read by encoding/json. The tests
// compare what both write over all fields, so that a new field of
// command.Command cannot be forgotten here.

// docWriter appends one JSON object; it keeps the first mistake.
type docWriter struct {
	b     []byte
	comma bool
	err   error
}

// appendCommand appends the JSON that a command is kept as: that of encoding/json,
// except for white space and escapes.
func appendCommand(dst []byte, c *command.Command) ([]byte, error) {
	w := docWriter{b: dst}
	w.open('{')
	w.text("tid", c.TID.String())
	w.text("device", c.Device.String())
	w.text("name", c.Name)
	w.raw("params", c.Params)
	w.key("policy")
	w.policy(&c.Policy)
	w.label("requestedBy", c.RequestedBy)
	w.label("key", c.Key)
	w.label("digest", c.Digest)
	w.tid("retryOf", c.RetryOf)
	w.timeAlways("created", c.Created)
	w.timeAlways("notAfter", c.NotAfter)
	w.text("state", string(c.State))
	w.text("reason", string(c.Reason))
	w.label("detail", c.Detail)
	w.key("version")
	w.b = strconv.AppendInt(w.b, c.Version, 10)
	w.integer("attempt", int64(c.Attempt))
	w.integer("refused", int64(c.Refused))
	w.integer("tries", int64(c.Tries))
	w.integer("epoch", c.Epoch)
	w.integer("seq", c.Seq)
	w.label("boot", c.Boot)
	if p := c.Progress; p != nil {
		w.key("progress")
		w.open('{')
		if p.Percent != nil {
			w.key("percent")
			w.float(*p.Percent)
		}
		w.label("note", p.Note)
		w.close('}')
	}
	w.raw("result", c.Result)
	w.raw("deviceState", c.DeviceState)
	w.time("firstSent", c.FirstSent)
	w.time("lastSent", c.LastSent)
	w.time("acked", c.Acked)
	w.time("lastHeard", c.LastHeard)
	w.time("timedOutAt", c.TimedOutAt)
	w.time("ended", c.Ended)
	w.time("finishDue", c.FinishDue)
	w.flag("parked", c.Parked)
	w.flag("cancelAsked", c.CancelAsked)
	w.flag("closed", c.Closed)
	w.integer("anomalies", int64(c.Anomalies))
	w.tid("supersededBy", c.SupersededBy)
	w.time("wake", c.Wake)
	w.key("timeline")
	w.timeline(c.Timeline)
	w.close('}')
	if w.err != nil {
		return dst, w.err
	}
	return w.b, nil
}

func (w *docWriter) policy(p *command.Policy) {
	w.open('{')
	w.duration("deliverBy", p.DeliverBy)
	w.duration("ackBy", p.AckBy)
	if p.Heartbeat != 0 {
		w.duration("heartbeat", p.Heartbeat)
	}
	w.duration("finishBy", p.FinishBy)
	w.duration("settle", p.Settle)
	w.text("backoff", string(p.Backoff))
	w.key("maxAttempts")
	w.b = strconv.AppendInt(w.b, int64(p.MaxAttempts), 10)
	if p.Jitter != 0 {
		w.key("jitter")
		w.float(p.Jitter)
	}
	w.flag("supersede", p.Supersede)
	if p.MaxBackoff != 0 {
		w.duration("maxBackoff", p.MaxBackoff)
	}
	w.close('}')
}

func (w *docWriter) timeline(entries []command.Entry) {
	if entries == nil {
		w.b = append(w.b, "null"...)
		return
	}
	w.open('[')
	for i := range entries {
		e := &entries[i]
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.open('{')
		w.timeAlways("at", e.At)
		w.text("kind", string(e.Kind))
		w.text("state", string(e.State))
		w.text("reason", string(e.Reason))
		w.label("by", e.By)
		w.label("detail", e.Detail)
		w.integer("attempt", int64(e.Attempt))
		w.integer("count", int64(e.Count))
		w.time("until", e.Until)
		w.flag("anomaly", e.Anomaly)
		w.close('}')
	}
	w.close(']')
}

func (w *docWriter) open(c byte) {
	w.b = append(w.b, c)
	w.comma = false
}

func (w *docWriter) close(c byte) {
	w.b = append(w.b, c)
	w.comma = true
}

// key begins a member. Names are ours and need no escapes.
func (w *docWriter) key(name string) {
	if w.comma {
		w.b = append(w.b, ',')
	}
	w.comma = true
	w.b = append(w.b, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
}

func (w *docWriter) text(name, s string) {
	w.key(name)
	w.quote(s)
}

// label is text that is left out when empty.
func (w *docWriter) label(name, s string) {
	if s != "" {
		w.text(name, s)
	}
}

// quote writes a string; one that is not plain ASCII as encoding/json does.
func (w *docWriter) quote(s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			b, err := json.Marshal(s)
			w.fail(err)
			w.b = append(w.b, b...)
			return
		}
	}
	w.b = append(w.b, '"')
	w.b = append(w.b, s...)
	w.b = append(w.b, '"')
}

func (w *docWriter) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *docWriter) raw(name string, v json.RawMessage) {
	if len(v) == 0 {
		return
	}
	if !json.Valid(v) {
		w.fail(fmt.Errorf("%s is not JSON", name))
	}
	w.key(name)
	w.b = append(w.b, v...)
}

func (w *docWriter) tid(name string, id *command.TID) {
	if id != nil {
		w.text(name, id.String())
	}
}

func (w *docWriter) integer(name string, n int64) {
	if n != 0 {
		w.key(name)
		w.b = strconv.AppendInt(w.b, n, 10)
	}
}

func (w *docWriter) flag(name string, set bool) {
	if set {
		w.key(name)
		w.b = append(w.b, "true"...)
	}
}

func (w *docWriter) float(f float64) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		w.fail(errors.New("a number is not finite"))
	}
	w.b = strconv.AppendFloat(w.b, f, 'g', -1, 64)
}

func (w *docWriter) duration(name string, d command.Duration) {
	w.text(name, d.String())
}

func (w *docWriter) time(name string, t time.Time) {
	if !t.IsZero() {
		w.timeAlways(name, t)
	}
}

func (w *docWriter) timeAlways(name string, t time.Time) {
	if y := t.Year(); y < 0 || y > 9999 {
		w.fail(fmt.Errorf("%s is in the year %d", name, y))
	}
	w.key(name)
	w.b = append(w.b, '"')
	w.b = t.UTC().AppendFormat(w.b, time.RFC3339Nano)
	w.b = append(w.b, '"')
}

func parseCommand(doc []byte) (c command.Command, err error) {
	if err := json.Unmarshal(doc, &c); err != nil {
		return command.Command{}, fmt.Errorf("store: a stored command cannot be read: %w", err)
	}
	return c, nil
}

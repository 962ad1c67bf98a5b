package spcommand

import (
	"slices"
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
)

// Command is what was asked of an edge node or, where Device is not empty, of a
// device behind it. Without Writes it asks the node for its births.
type Command struct {
	TID    string
	Device string
	Writes []sparkplug.Metric // Name, Datatype, and Value or Null, as Parse rounds it
	Until  time.Time          // it is of interest no longer than this
}

// Reading is a value of a metric as a host has it.
type Reading struct {
	Metric *sparkplug.Metric // Value or Null, or nested
	// Good: it is in force, and the node does not say otherwise.
	Good bool
	// Time is that of the node's clock, 0 when there is none.
	Time uint64
}

// Kind is what a Verdict says.
type Kind uint8

// The verdicts. Confirmed and Superseded are the last about a command.
const (
	// Confirmed: every metric has its value, or has had it since. Already are those
	// that had it before the send, and of which nothing else was heard.
	Confirmed Kind = iota + 1
	// Contradicted: Metric is reported with another value, Value.
	Contradicted
	// Lost: the session that it was sent in has ended.
	Lost
	// Superseded: a newer write of Metric, By, is confirmed, and what became of
	// this one cannot be known any more.
	Superseded
)

var kindNames = [...]string{Confirmed: "confirmed", Contradicted: "contradicted", Lost: "lost", Superseded: "superseded"}

// String returns a word.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "?"
}

// Verdict is what is known of a command now.
type Verdict struct {
	TID     string
	Device  string
	Kind    Kind
	Metric  string
	Value   *sparkplug.Metric // of Contradicted, with its Datatype
	By      string            // of Superseded: a TID
	Born    bool              // of Ask: a birth of its device was taken since the send
	Already []string
}

// MaxOpen is how many commands a Book follows; the oldest gives way.
const MaxOpen = 1000

// Book has the open commands of one edge node. The zero Book is ready.
type Book struct {
	open []*entry // in the order of Send
}

// entry is an open command.
type entry struct {
	Command
	written bool // it went out for certain; what was there before may count
	lost    bool
	born    bool // a birth of its device came since
	told    bool // Contradicted was told
	last    []*sparkplug.Metric
	writes  []write
}

// Send notes a command that is about to go out, before it does, so that no answer
// can be earlier. now gives the present value of a metric of its device.
func (b *Book) Send(c Command, now func(metric string) (Reading, bool)) {
	b.Drop(c.TID)
	e := &entry{Command: c, writes: writesOf(c.Writes)}
	for i := range e.writes {
		w := &e.writes[i]
		r, ok := now(w.metric)
		if !ok {
			continue
		}
		w.before = r.Time
		v, said := w.in(r.Metric)
		w.already = said && r.Good && v.Holds(w.want, 0) && !b.writing(c.Device, w)
	}
	if len(b.open) == MaxOpen {
		b.open = slices.Delete(b.open, 0, 1)
	}
	b.open = append(b.open, e)
}

// writing tells whether another value than w's may be on its way.
func (b *Book) writing(device string, w *write) bool {
	for _, e := range b.open {
		if e.Device == device && e.against(w) {
			return true
		}
	}
	return false
}

// Written says that a command went out. It is confirmed at once when its metrics
// had their values before.
func (b *Book) Written(tid string) []Verdict {
	e := b.entry(tid)
	if e == nil {
		return nil
	}
	e.written = true
	return b.settle(nil, e)
}

// Resume takes up a command that was sent before this Book was made. since gives
// the value of a metric, if it was received after the command was sent. same says
// that the session is still the one that it was sent in.
func (b *Book) Resume(c Command, same bool, since func(metric string) (Reading, bool)) []Verdict {
	if b.entry(c.TID) != nil {
		return nil
	}
	b.Send(c, func(string) (Reading, bool) { return Reading{}, false })
	e := b.open[len(b.open)-1]
	e.written, e.lost, e.born = true, !same, len(c.Writes) > 0
	var out []Verdict
	for i := range e.writes {
		if r, ok := since(e.writes[i].metric); ok {
			out = e.read(out, i, r)
		}
	}
	return b.settle(out, e)
}

// Data takes a live value that was reported after everything that came before it.
// Historical values are not for here.
func (b *Book) Data(device, metric string, r Reading) (out []Verdict) {
	for _, e := range slices.Clone(b.open) {
		if e.Device != device || e.lost {
			continue
		}
		heard := false
		for i := range e.writes {
			if w := &e.writes[i]; w.metric == metric && (r.Time == 0 || r.Time >= w.before) {
				heard = true
				out = e.read(out, i, r)
			}
		}
		if heard {
			out = b.settle(out, e)
		}
	}
	return out
}

// Birth takes the birth of the edge node, where device is empty, or of a device.
// same says that the session of the node is the one that was there before; now
// gives a metric's value in the birth.
func (b *Book) Birth(device string, same bool, now func(metric string) (Reading, bool)) (out []Verdict) {
	for _, e := range slices.Clone(b.open) {
		if device == "" && !same {
			out = e.lose(out)
		}
		if e.Device != device {
			continue
		}
		e.born = true
		for i := range e.writes {
			if r, ok := now(e.writes[i].metric); ok {
				out = e.read(out, i, r)
			}
		}
		out = b.settle(out, e)
	}
	return out
}

// Death takes the death of the edge node, and so of all devices, where device is
// empty, or of a device.
func (b *Book) Death(device string) (out []Verdict) {
	for _, e := range b.open {
		if device == "" || e.Device == device {
			out = e.lose(out)
		}
	}
	return out
}

// Ask repeats what is known of an open command: Contradicted, Lost, or nothing
// yet. ok is false when the Book does not follow it.
func (b *Book) Ask(tid string) (v Verdict, ok bool) {
	e := b.entry(tid)
	if e == nil {
		return Verdict{}, false
	}
	for i, v := range e.last {
		if v != nil && !e.writes[i].done {
			return Verdict{TID: tid, Device: e.Device, Kind: Contradicted, Metric: e.writes[i].name, Value: v, Born: e.born}, true
		}
	}
	if e.lost {
		return Verdict{TID: tid, Device: e.Device, Kind: Lost, Born: e.born}, true
	}
	return Verdict{TID: tid, Device: e.Device, Born: e.born}, true
}

// Drop forgets a command.
func (b *Book) Drop(tid string) {
	b.open = slices.DeleteFunc(b.open, func(e *entry) bool { return e.TID == tid })
}

// Tick forgets what is of no interest any more.
func (b *Book) Tick(now time.Time) {
	b.open = slices.DeleteFunc(b.open, func(e *entry) bool { return !e.Until.IsZero() && now.After(e.Until) })
}

// Open is how many commands are open.
func (b *Book) Open() int { return len(b.open) }

func (b *Book) entry(tid string) *entry {
	for _, e := range b.open {
		if e.TID == tid {
			return e
		}
	}
	return nil
}

// against tells whether e waits for another value of what w is about.
func (e *entry) against(w *write) bool {
	return slices.ContainsFunc(e.writes, func(o write) bool { return !o.done && o.clashes(w) })
}

// read takes a value of the metric of write i that came after the send.
func (e *entry) read(out []Verdict, i int, r Reading) []Verdict {
	w := &e.writes[i]
	v, said := w.in(r.Metric)
	switch {
	case w.done || !r.Good || !said:
		return out
	case v.Holds(w.want, 0):
		w.done, w.already = true, false
		return out
	}
	w.already = false
	if e.last == nil {
		e.last = make([]*sparkplug.Metric, len(e.writes))
	}
	own := v.Clone()
	if own.Datatype == 0 {
		own.Datatype = w.want.Datatype
	}
	e.last[i] = &own
	if e.told {
		return out
	}
	e.told = true
	return append(out, Verdict{TID: e.TID, Device: e.Device, Kind: Contradicted, Metric: w.name, Value: &own})
}

// lose ends the session that the command was sent in. A command that asks for
// births has nothing to lose.
func (e *entry) lose(out []Verdict) []Verdict {
	if e.lost || len(e.writes) == 0 {
		return out
	}
	e.lost = true
	for i := range e.writes {
		e.writes[i].already = false
	}
	return append(out, Verdict{TID: e.TID, Device: e.Device, Kind: Lost})
}

// settle ends e when all its metrics have, or have had, their values, and with it
// the older writes of theirs that asked for something else.
func (b *Book) settle(out []Verdict, e *entry) []Verdict {
	var already []string
	for i := range e.writes {
		switch w := &e.writes[i]; {
		case w.done:
		case w.already && e.written:
			already = append(already, w.name)
		default:
			return out
		}
	}
	if len(e.writes) == 0 && !e.born {
		return out
	}
	at := slices.Index(b.open, e)
	if at < 0 {
		return out // superseded by what was settled just now
	}
	out = append(out, Verdict{TID: e.TID, Device: e.Device, Kind: Confirmed, Already: already})
	b.open = slices.Delete(b.open, at, at+1)
	for _, o := range slices.Clone(b.open[:at]) {
		i := slices.IndexFunc(e.writes, func(w write) bool { return o.Device == e.Device && o.against(&w) })
		if i >= 0 {
			out = append(out, Verdict{TID: o.TID, Device: o.Device, Kind: Superseded, Metric: e.writes[i].name, By: e.TID})
			b.Drop(o.TID)
		}
	}
	return out
}

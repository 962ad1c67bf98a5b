package undo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/replica"
	"github.com/wilco-iot/wilco/wire/state"
)

// Plan is what taking a command back means as things stand.
type Plan struct {
	// Name and Params are of the command that takes it back; empty when there is no
	// such command.
	Name   string
	Params json.RawMessage
	// Changes are all paths that the command says it changes, in its order.
	Changes []Change
	// Refusal says why it must not be made; nil: it may.
	Refusal *Refusal
}

// Change is one path of a plan. Nil values mean that nothing is there.
type Change struct {
	Path               string
	Former, After, Now json.RawMessage
	Differs            bool // there is something to be brought back
	// Foreign says that what is there now is not the command's own doing, or that
	// somebody else has Desired another value since. By is who wants it so and TID
	// the command that did it, as far as the state tells; At is when it was last said.
	Foreign bool
	Desired json.RawMessage
	By, TID string
	At      time.Time
}

// Refusal says why a command must not be taken back.
type Refusal struct {
	Text  string // for people, with the cure
	Force bool   // who knows better may pass over it
}

// Error returns the text.
func (r *Refusal) Error() string { return r.Text }

func refuse(format string, args ...any) *Refusal { return &Refusal{Text: fmt.Sprintf(format, args...)} }

// Of plans how c is taken back on a device of which that is known now. Who names the
// requester of a command, "" when it is not known.
func Of(c *command.Command, now *replica.Replica, who func(tid string) string) Plan {
	if r := sent(c); r != nil {
		return Plan{Refusal: r}
	}
	rec, r := recorded(c)
	if r != nil {
		return Plan{Refusal: r}
	}
	var p Plan
	p.Changes = rec.changes(now)
	for i := range p.Changes {
		if ch := &p.Changes[i]; ch.Foreign && ch.By == "" && ch.TID != "" {
			ch.By = who(ch.TID)
		}
	}
	if p.Refusal = rec.known(); p.Refusal != nil {
		return p
	}
	p.Name, p.Params = rec.inverse(now)
	p.Refusal = verdict(p.Changes)
	return p
}

// sent says what is wrong with c's state.
func sent(c *command.Command) *Refusal {
	switch {
	case c.State == command.AwaitingApproval, c.State == command.Created:
		return refuse("it has not been sent, so there is nothing to take back; cancel it: wilco cancel %s", c.TID)
	case c.State.InFlight():
		return refuse("it is %s; cancel it first (wilco cancel %s), or wait for its end", c.State, c.TID)
	case c.FirstSent.IsZero():
		return refuse("it was never sent, so there is nothing to take back")
	case c.State == command.Expired, c.State == command.Denied:
		return refuse("it is %s and was certainly not executed: there is nothing to take back", c.State)
	}
	return nil
}

// record is a command with what was kept of its device's state.
type record struct {
	c             *command.Command
	former, after replica.Former
	asked         []replica.FormerValue // by effect, what the command asks for; no path: that is not known
}

func recorded(c *command.Command) (*record, *Refusal) {
	if len(c.Former) == 0 {
		return nil, refuse("nothing was recorded before it was sent, because the type of %s declared no effects; apply a type that does, for the commands to come", c.Name)
	}
	r := &record{c: c}
	if json.Unmarshal(c.Former, &r.former) != nil || len(c.After) > 0 && json.Unmarshal(c.After, &r.after) != nil {
		return nil, refuse("what was recorded before it was sent cannot be read")
	}
	params, err := state.Parse(c.Params)
	if err != nil {
		params = nil
	}
	r.asked = make([]replica.FormerValue, len(r.former.Values))
	for i, f := range r.former.Values {
		if v, ok := params.Get(asks(c, f.Path)); ok {
			r.asked[i] = replica.FormerValue{Path: f.Path, Value: v, Absent: v == nil}
		}
	}
	return r, nil
}

// asks is where the parameters of c have the value at path; "" where they have none.
func asks(c *command.Command, path string) string {
	if c.Name == StateDesired && len(c.Effects()) == 0 {
		return path
	}
	return param(c, path)
}

// param is the parameter that sets the value at path; "" when none does.
func param(c *command.Command, path string) string {
	for _, e := range c.Effects() {
		if e.Path == path {
			return e.Param
		}
	}
	return ""
}

// known refuses what would bring back nothing but silence. Where somebody desired
// what was not there before, that it is not there is what comes back.
func (r *record) known() *Refusal {
	var paths []string
	for _, f := range r.former.Values {
		if !f.Absent || len(r.c.Effects()) == 0 {
			return nil
		}
		paths = append(paths, f.Path)
	}
	return refuse("the device had reported nothing at %s before it was sent: what was there is not known", some(paths))
}

// changes compares what was recorded with now.
func (r *record) changes(now *replica.Replica) []Change {
	list := make([]Change, len(r.former.Values))
	for i, f := range r.former.Values {
		v, there := now.Reported.Get(f.Path)
		ch := Change{Path: f.Path, Former: text(f.Value, !f.Absent), Now: text(v, there), Differs: !f.Is(v, there)}
		if i < len(r.after.Values) {
			ch.After = text(r.after.Values[i].Value, !r.after.Values[i].Absent)
		}
		if ch.Differs && !r.own(i, v, there, now) {
			last := replica.Latest(now.ReportedMeta, f.Path)
			ch.Foreign, ch.TID, ch.At = true, last.TID, last.At
		}
		r.wanted(i, &ch, now)
		list[i] = ch
	}
	return list
}

// own says whether v, which is not what stood there before, is the doing of the
// command.
func (r *record) own(i int, v any, there bool, now *replica.Replica) bool {
	if a := r.asked[i]; a.Path != "" && a.Is(v, there) {
		return true
	}
	last := replica.Latest(now.ReportedMeta, r.former.Values[i].Path)
	if last.TID != "" {
		return last.TID == r.c.TID.String()
	}
	return i < len(r.after.Values) && r.after.Values[i].Is(v, there) && last.Version <= r.after.Version
}

// wanted looks at what is desired at a path and is not the former value. What the
// command has desired stays so whatever became of it, and has to be taken back too;
// what somebody else has desired since is theirs.
func (r *record) wanted(i int, ch *Change, now *replica.Replica) {
	v, there := now.Desired.Get(ch.Path)
	if !there || r.former.Values[i].Is(v, there) {
		return
	}
	last := replica.Latest(now.DesiredMeta, ch.Path)
	own, since := last.TID == r.c.TID.String(), last.Version > r.former.Version
	if r.c.Name == StateDesired {
		ch.Differs, since = true, true
	}
	if since && !own {
		ch.Foreign, ch.Desired, ch.By, ch.TID, ch.At = true, text(v, there), last.By, last.TID, last.At
	}
}

// verdict is what the changes say.
func verdict(changes []Change) *Refusal {
	differ := false
	var foreign []string
	for i := range changes {
		ch := &changes[i]
		differ = differ || ch.Differs
		if ch.Foreign {
			foreign = append(foreign, ch.String())
		}
	}
	switch {
	case !differ:
		return refuse("everything is as it was before it was sent: there is nothing to take back")
	case len(foreign) > 0:
		return &Refusal{Force: true, Text: "changed since: " + some(foreign)}
	}
	return nil
}

// String is the change for people.
func (c *Change) String() string {
	s := fmt.Sprintf("%s was %s before it, %s after it, and is %s now", c.Path, value(c.Former), value(c.After), value(c.Now))
	if c.Desired != nil {
		s += ", and shall be " + value(c.Desired)
	}
	switch {
	case c.By != "" && c.TID != "":
		s += fmt.Sprintf(" (%s, with %s)", c.By, c.TID)
	case c.TID != "":
		s += fmt.Sprintf(" (with %s)", c.TID)
	}
	return s
}

// some joins the first few of a list.
func some(list []string) string {
	const most = 3
	if len(list) > most {
		return strings.Join(list[:most], "; ") + fmt.Sprintf("; and %d more", len(list)-most)
	}
	return strings.Join(list, "; ")
}

func value(raw json.RawMessage) string {
	const most = 40
	switch {
	case raw == nil:
		return "absent"
	case len(raw) > most:
		return strings.ToValidUTF8(string(raw[:most]), "") + "…"
	}
	return string(raw)
}

func text(v any, there bool) json.RawMessage {
	if !there {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil // cannot be: it was read from JSON
	}
	return b
}

// Again refuses a second undo while first, which undoes the same command, is under
// way or has taken effect; nil when it has ended without.
func Again(first *command.Command) *Refusal {
	switch {
	case !first.Final():
		return refuse("%s takes it back already, and is %s", first.TID, first.State)
	case first.State == command.Executed:
		return refuse("%s has taken it back already; to bring it about once more, send it anew, or undo %s", first.TID, first.TID)
	case first.State == command.TimedOut:
		return &Refusal{Force: true, Text: fmt.Sprintf("%s was to take it back, and its outcome will never be known; look at the device", first.TID)}
	}
	return nil
}

// TookEffect says whether c has, or may have, changed its device's state, so that
// there may be something to take back: it was executed, or nobody knows, or it ended
// otherwise and left a value that is not the former one. A report that comes after
// such an end can still tell of a change; then the answer stays false.
func TookEffect(c *command.Command) bool {
	rec, r := recorded(c)
	if sent(c) != nil || r != nil {
		return false
	}
	if c.State == command.Executed || c.State == command.TimedOut {
		return true
	}
	for i, f := range rec.former.Values {
		if i < len(rec.after.Values) {
			if a := rec.after.Values[i]; !f.Is(a.Value, !a.Absent) {
				return true
			}
		}
	}
	return false
}

// Echo refuses to take c back while a value that c has brought about is also what
// other has asked for: one that came later, and was executed, or may have been. The
// state does not tell it, because nothing changed by it. What takes back asks for nothing.
// Whether other was taken back itself is for the caller to say.
func Echo(c, other *command.Command, now *replica.Replica) *Refusal {
	if bytes.Compare(other.TID[:], c.TID[:]) <= 0 || other.Undoes != nil ||
		other.State != command.Executed && other.State != command.TimedOut {
		return nil
	}
	rec, no := recorded(c)
	params, err := state.Parse(other.Params)
	if no != nil || err != nil {
		return nil
	}
	for _, f := range rec.former.Values {
		v, there := now.Reported.Get(f.Path)
		if f.Is(v, there) {
			continue // as it was before c
		}
		wish, asked := params.Get(asks(other, f.Path))
		if want := (replica.FormerValue{Path: f.Path, Value: wish, Absent: wish == nil}); asked && want.Is(v, there) {
			return &Refusal{Force: true, Text: fmt.Sprintf("changed since: %s is what %s (%s, by %s) has asked for too: take that back, or force this", f.Path, other.TID, other.Name, other.RequestedBy)}
		}
	}
	return nil
}

// Rival refuses to take c back while other, which has not ended, changes one of the
// same values. The paths are those that each changes.
func Rival(c, other *command.Command, paths, others []string) *Refusal {
	if other.TID == c.TID || other.Final() {
		return nil
	}
	for _, p := range paths {
		for _, q := range others {
			if p == q || strings.HasPrefix(p, q+".") || strings.HasPrefix(q, p+".") {
				return &Refusal{Force: true, Text: fmt.Sprintf("%s (%s) changes %s too, and is %s: wait for its end", other.TID, other.Name, q, other.State)}
			}
		}
	}
	return nil
}

// Package replica is the state of one device as the server has it: what is
// wanted of it, what it says of itself, and what of the former is still
// outstanding.
//
//	person, program ── Desire ──▶ desired ──┐
//	                                        ├── Delta: outstanding, marked pending
//	device          ── Report ──▶ reported ─┘
//
// Only a report of the device makes reported state; nothing is ever copied there
// from what is desired. Every change of a value raises Version by one and gives a
// [Revision] for the history. A report that tells nothing new raises nothing, but
// makes the values younger.
//
// Each leaf of both documents has a [Stamp]: since which version it has its
// value, who said so, and when. From these come the ages that conditions ask for
// ([Replica.AsOf]), and the guard of a rollback (package undo).
//
// The package is pure, and a Replica is a value: Desire and Report return a new
// one, and share with the old one what they have not changed.
package replica

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/wire/state"
)

// Replica is the state of one device. The zero value is that of a device of which
// nothing is known and nothing wanted. The JSON form is what stores keep. Stored;
// never change the names.
type Replica struct {
	Version        int64            `json:"version"`        // rises by one with each change of a value
	DesiredVersion int64            `json:"desiredVersion"` // of the last change of desired
	Desired        state.Object     `json:"desired,omitempty"`
	Reported       state.Object     `json:"reported,omitempty"`
	DesiredMeta    map[string]Stamp `json:"desiredMeta,omitempty"` // by the path of each leaf
	ReportedMeta   map[string]Stamp `json:"reportedMeta,omitempty"`
}

// Stamp is where the value of a leaf comes from. Stored; never change the names.
type Stamp struct {
	Version int64     `json:"v"`            // since which it has this value
	At      time.Time `json:"at"`           // when it was last said, by the server's clock
	TS      time.Time `json:"ts,omitzero"`  // the same by the device's clock, if it told
	Boot    string    `json:"b,omitempty"`  // of the device, when it said so
	By      string    `json:"by,omitempty"` // who wants it
	TID     string    `json:"t,omitempty"`  // of the command that it was said with
}

// Side is one of the two documents. Stored; never change.
type Side string

// The sides.
const (
	Desired  Side = "desired"
	Reported Side = "reported"
)

// Revision is one change, as the history keeps it. Stored; never change the names.
type Revision struct {
	Version int64        `json:"version"`
	At      time.Time    `json:"at"`
	Side    Side         `json:"side"`
	Patch   state.Object `json:"patch"` // what became different, and no more
	By      string       `json:"by,omitempty"`
	Why     string       `json:"why,omitempty"`
	TID     string       `json:"tid,omitempty"`
	TS      time.Time    `json:"ts,omitzero"`
	Boot    string       `json:"boot,omitempty"`
}

// Change is what somebody wants of the device.
type Change struct {
	Patch state.Object // merge patch of the desired document
	By    string
	Why   string
	TID   string // of the command that it becomes
	// IfVersion is the DesiredVersion that the patch was made for; nil: any.
	IfVersion *int64
}

// Report is what the device says of itself.
type Report struct {
	Patch state.Object // merge patch of the reported document
	TS    time.Time    // by the device's clock; zero: it did not say
	Boot  string
	TID   string // of the command that it is about; "" for none
}

// ConflictError says that somebody else has changed desired.
type ConflictError struct{ Have, Want int64 }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("the desired state is at version %d, not %d: look again, and decide anew", e.Have, e.Want)
}

// Desire changes what is wanted at now. The revision is nil when that is no
// change. Errors: *ConflictError, and *state.Error for a document that would be
// too large; r is then returned as it was.
func (r Replica) Desire(c Change, now time.Time) (Replica, *Revision, error) {
	if c.IfVersion != nil && *c.IfVersion != r.DesiredVersion {
		return r, nil, &ConflictError{Have: r.DesiredVersion, Want: *c.IfVersion}
	}
	next := state.Merge(r.Desired, c.Patch)
	if err := next.Check(); err != nil {
		return r, nil, err
	}
	diff := state.Diff(r.Desired, next)
	if len(diff) == 0 {
		return r, nil, nil
	}
	now = milliseconds(now)
	out := r
	out.Version++
	out.DesiredVersion = out.Version
	out.Desired = next
	out.DesiredMeta = restamp(r.DesiredMeta, r.Desired, next, diff, Stamp{Version: out.Version, At: now, By: c.By, TID: c.TID})
	return out, &Revision{Version: out.Version, At: now, Side: Desired, Patch: diff, By: c.By, Why: c.Why, TID: c.TID}, nil
}

// Report takes in at now what the device says. The revision is nil when it tells
// nothing new. Errors: *state.Error for a document that would be too large; r is
// then returned as it was.
func (r Replica) Report(p Report, now time.Time) (Replica, *Revision, error) {
	next := state.Merge(r.Reported, p.Patch)
	if err := next.Check(); err != nil {
		return r, nil, err
	}
	now = milliseconds(now)
	diff := state.Diff(r.Reported, next)
	out := r
	out.Reported = next
	if len(diff) > 0 {
		out.Version++
	}
	stamp := Stamp{Version: out.Version, At: now, TS: milliseconds(p.TS), Boot: p.Boot, TID: p.TID}
	out.ReportedMeta = restamp(r.ReportedMeta, r.Reported, next, p.Patch, stamp)
	if len(diff) == 0 {
		return out, nil, nil
	}
	return out, &Revision{Version: out.Version, At: now, Side: Reported, Patch: diff, TID: p.TID, TS: stamp.TS, Boot: p.Boot}, nil
}

// restamp gives the leaves of next that patch has said their stamps, and takes
// away those of leaves that are no more. A leaf whose value stays keeps the
// version that gave it.
func restamp(meta map[string]Stamp, before, next, patch state.Object, stamp Stamp) map[string]Stamp {
	out := maps.Clone(meta)
	if out == nil {
		out = make(map[string]Stamp)
	}
	r := restamper{out, stamp}
	r.walk("", before, next, patch)
	return out
}

type restamper struct {
	meta  map[string]Stamp
	stamp Stamp
}

func (r restamper) walk(prefix string, before, next, patch state.Object) {
	for name := range patch {
		path := prefix + state.JoinPath(name)
		was, known := before[name]
		now, there := next[name]
		old, nested := was.(state.Object)
		switch {
		case !there || isLeaf(now):
			s := r.stamp
			if prior := r.meta[path]; known && there && state.Equal(was, now) {
				s.Version, s.TID = prior.Version, prior.TID
			}
			if nested && len(old) > 0 {
				r.forget(path + ".")
			}
			if delete(r.meta, path); there {
				r.meta[path] = s
			}
		default: // the patch has an object here too, or there would be none now
			delete(r.meta, path)
			r.walk(path+".", old, now.(state.Object), patch[name].(state.Object))
		}
	}
}

// forget takes away the stamps of the paths that begin with prefix.
func (r restamper) forget(prefix string) {
	maps.DeleteFunc(r.meta, func(path string, _ Stamp) bool { return strings.HasPrefix(path, prefix) })
}

func isLeaf(v any) bool {
	o, ok := v.(state.Object)
	return !ok || len(o) == 0
}

// milliseconds is how fine the times of stores are.
func milliseconds(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Millisecond)
}

// Delta is what the device has yet to do; empty when all is as desired.
func (r Replica) Delta() state.Object { return state.Delta(r.Desired, r.Reported) }

// Pending lists the paths of the leaves of Delta, sorted: what is desired there
// is not what the device has reported.
func (r Replica) Pending() []string {
	var list []string
	for path := range r.Delta().Leaves() {
		list = append(list, path)
	}
	return list
}

// AsOf is the reported state as conditions see it at now.
func (r *Replica) AsOf(now time.Time) state.Reported { return view{r, now} }

type view struct {
	r   *Replica
	now time.Time
}

// Value implements state.Reported.
func (v view) Value(path string) (any, time.Duration, bool) {
	value, ok := v.r.Reported.Get(path)
	if !ok {
		return nil, 0, false
	}
	if s, leaf := v.r.ReportedMeta[path]; leaf {
		return value, v.now.Sub(s.At), true
	}
	var age time.Duration
	for p, s := range v.r.ReportedMeta {
		if strings.HasPrefix(p, path+".") {
			age = max(age, v.now.Sub(s.At))
		}
	}
	return value, age, true
}

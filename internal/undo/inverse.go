package undo

import (
	"encoding/json"

	"github.com/wilco-iot/wilco/internal/replica"
	"github.com/wilco-iot/wilco/wire"
	"github.com/wilco-iot/wilco/wire/state"
)

// StateDesired is the name of the command that changes what is desired of a device.
const StateDesired = wire.StateDesired

// inverse is the command that brings the former values back: the same one where each
// of them has a parameter, else a change of the desired state.
func (r *record) inverse(now *replica.Replica) (name string, params json.RawMessage) {
	if o, ok := r.params(); ok {
		return r.c.Name, o.Append(nil)
	}
	patch := state.Object{}
	for _, f := range r.former.Values {
		v, _ := now.Reported.Get(f.Path)
		put(patch, f.Path, restore(f.Value, v))
	}
	return StateDesired, patch.Append(nil)
}

// params puts the former values into the command's parameters. It says false when
// they cannot say them all: what is absent is no parameter.
func (r *record) params() (state.Object, bool) {
	if len(r.c.Effects()) == 0 {
		return nil, false
	}
	o := state.Object{}
	if len(r.c.Params) > 0 {
		var err error
		if o, err = state.Parse(r.c.Params); err != nil {
			return nil, false
		}
	}
	for _, f := range r.former.Values {
		to := param(r.c, f.Path)
		if to == "" || f.Absent {
			return nil, false
		}
		put(o, to, f.Value)
	}
	return o, true
}

// restore is the patch that makes former out of now: where both are objects, the
// members that former has not are taken away. A former that was absent is nil.
func restore(former, now any) any {
	f, isF := former.(state.Object)
	n, isN := now.(state.Object)
	if !isF || !isN {
		return former
	}
	out := make(state.Object, len(f))
	for name := range n {
		out[name] = nil
	}
	for name, v := range f {
		out[name] = restore(v, n[name])
	}
	return out
}

// put sets v at a path of o, in place of what is there; nil stays nil. What is in
// the way and is no object gives way.
func put(o state.Object, path string, v any) {
	names, err := state.SplitPath(path)
	if err != nil {
		return // cannot be: the path was read before
	}
	for _, name := range names[:len(names)-1] {
		inner, ok := o[name].(state.Object)
		if !ok {
			inner = state.Object{}
			o[name] = inner
		}
		o = inner
	}
	o[names[len(names)-1]] = v
}

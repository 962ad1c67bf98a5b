package state

// Merge returns doc as patch changes it (RFC 7396). Neither is written to; what
// the patch does not touch is shared. A nil doc is an empty one, so that
// Merge(nil, patch) is the patch as a document, without its nulls.
func Merge(doc, patch Object) Object {
	if len(patch) == 0 && doc != nil {
		return doc
	}
	out := make(Object, len(doc)+len(patch))
	for name, v := range doc {
		out[name] = v
	}
	for name, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(out, name)
		case Object:
			old, _ := out[name].(Object)
			out[name] = Merge(old, v)
		default:
			out[name] = v
		}
	}
	return out
}

// Diff returns the patch that makes to out of from: Merge(from, Diff(from, to))
// equals to. It is empty, and not nil, when they are equal.
func Diff(from, to Object) Object {
	patch := Object{}
	for name := range from {
		if _, there := to[name]; !there {
			patch[name] = nil
		}
	}
	for name, v := range to {
		old, there := from[name]
		if there && Equal(old, v) {
			continue
		}
		a, isA := old.(Object)
		b, isB := v.(Object)
		if isA && isB {
			patch[name] = Diff(a, b)
			continue
		}
		patch[name] = v
	}
	return patch
}

// Delta returns the part of desired that reported does not have: the leaves that
// are absent or other there. What desired does not name is free, so nothing in
// the delta is null. It is empty, and not nil, when all is as desired.
func Delta(desired, reported Object) Object {
	delta := Object{}
	for name, want := range desired {
		have, there := reported[name]
		if there && Equal(have, want) {
			continue
		}
		a, isA := want.(Object)
		b, isB := have.(Object)
		if !isA || !isB {
			delta[name] = want
			continue
		}
		if d := Delta(a, b); len(d) > 0 {
			delta[name] = d
		}
	}
	return delta
}

// Within tells whether reported has all that patch asks for: the leaves of the
// patch with their values, and nothing where it says null. That is how a change
// of desired state is known to have taken effect.
func Within(patch, reported Object) bool {
	for name, want := range patch {
		have, there := reported[name]
		switch want := want.(type) {
		case nil:
			if there {
				return false
			}
		case Object:
			inner, ok := have.(Object)
			if !ok || !Within(want, inner) {
				return false
			}
		default:
			if !there || !Equal(want, have) {
				return false
			}
		}
	}
	return true
}

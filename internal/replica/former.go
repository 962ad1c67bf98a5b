package replica

import (
	"fmt"
	"strings"

	"github.com/wilco-iot/wilco/wire/state"
)

// Former is what the device reported at some paths, at some moment: taken when a
// command is sent, so that it can be undone. Stored; never change the names.
type Former struct {
	Version int64         `json:"version"` // of the replica
	Values  []FormerValue `json:"values"`
}

// FormerValue is what stood at one path.
type FormerValue struct {
	Path   string `json:"path"`
	Value  any    `json:"value,omitempty"`
	Absent bool   `json:"absent,omitempty"` // nothing stood there
}

// UnmarshalJSON reads the value as [state.Parse] reads documents.
func (f *FormerValue) UnmarshalJSON(b []byte) error {
	o, err := state.Parse(b)
	if err != nil {
		return err
	}
	f.Path, _ = o["path"].(string)
	f.Absent, _ = o["absent"].(bool)
	f.Value = o["value"]
	return nil
}

// Former takes what the device reports at paths now.
func (r Replica) Former(paths []string) Former {
	f := Former{Version: r.Version}
	for _, path := range paths {
		v, there := r.Reported.Get(path)
		f.Values = append(f.Values, FormerValue{Path: path, Value: v, Absent: !there})
	}
	return f
}

// Patch is what makes the former values come back, as a merge patch.
func (f Former) Patch() (state.Object, error) {
	patch := state.Object{}
	for _, v := range f.Values {
		value := v.Value
		if v.Absent {
			value = nil
		}
		at, err := state.At(v.Path, value)
		if err != nil {
			return nil, err
		}
		join(patch, at)
	}
	return patch, nil
}

// join puts more into patch, nulls kept.
func join(patch, more state.Object) {
	for name, v := range more {
		a, isA := patch[name].(state.Object)
		b, isB := v.(state.Object)
		if isA && isB {
			join(a, b)
		} else {
			patch[name] = v
		}
	}
}

// Difference is one path of a rollback: what was there, and what is there now.
type Difference struct {
	Path   string `json:"path"`
	Former any    `json:"former"` // nil: nothing
	Now    any    `json:"now"`    // nil: nothing
	// Changed says that the value is another, or was set again, since the command
	// ended: somebody or something else did that.
	Changed bool `json:"changed"`
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: %v now, %v before", d.Path, d.Now, d.Former)
}

// Compare says what undoing a command would change. Before was taken when the
// command was sent, after when it had ended, with the same paths. Paths where
// the former value stands are left out.
func Compare(before, after Former, now Replica) []Difference {
	var list []Difference
	for i, f := range before.Values {
		v, there := now.Reported.Get(f.Path)
		if f.is(v, there) {
			continue
		}
		list = append(list, Difference{Path: f.Path, Former: f.Value, Now: v,
			Changed: i >= len(after.Values) || !after.Values[i].is(v, there) || now.changed(f.Path) > after.Version})
	}
	return list
}

// is tells whether v, when there is one, is what stood at the path.
func (f FormerValue) is(v any, there bool) bool {
	if f.Absent || !there {
		return f.Absent && !there
	}
	return state.Equal(v, f.Value)
}

// changed is the version that last changed the value at path, or any below it; 0
// when nothing is there.
func (r *Replica) changed(path string) int64 {
	last := r.ReportedMeta[path].Version
	for p, s := range r.ReportedMeta {
		if strings.HasPrefix(p, path+".") {
			last = max(last, s.Version)
		}
	}
	return last
}

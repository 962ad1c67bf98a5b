package replica

import (
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

// Is tells whether v, when there is one, is what stood at the path.
func (f FormerValue) Is(v any, there bool) bool {
	if f.Absent || !there {
		return f.Absent && !there
	}
	return state.Equal(v, f.Value)
}

// Latest is the stamp of the last change at path, or anywhere below it; zero when
// nothing is there.
func Latest(meta map[string]Stamp, path string) Stamp {
	last := meta[path]
	for p, s := range meta {
		if strings.HasPrefix(p, path+".") && s.Version > last.Version {
			last = s
		}
	}
	return last
}

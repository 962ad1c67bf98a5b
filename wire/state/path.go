package state

import (
	"iter"
	"slices"
	"strconv"
	"strings"
)

// MaxPath is the longest path, in bytes.
const MaxPath = 1024

var (
	escaper   = strings.NewReplacer("~", "~0", ".", "~1")
	unescaper = strings.NewReplacer("~0", "~", "~1", ".")
)

// JoinPath writes the path of the names.
func JoinPath(names ...string) string {
	if len(names) == 1 && !strings.ContainsAny(names[0], "~.") {
		return names[0]
	}
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = escaper.Replace(n)
	}
	return strings.Join(parts, ".")
}

// SplitPath reads a path. The error is an *Error.
func SplitPath(path string) ([]string, error) {
	if path == "" || len(path) > MaxPath {
		return nil, &Error{Path: "path", Text: "must be 1 to " + strconv.Itoa(MaxPath) + " bytes"}
	}
	names := strings.Split(path, ".")
	if len(names) >= MaxDepth {
		return nil, &Error{Path: "path", Text: "has more than " + strconv.Itoa(MaxDepth-1) + " names"}
	}
	for i, n := range names {
		if n == "" {
			return nil, &Error{Path: "path", Text: `has an empty name; names are joined by single dots, and a dot in a name is "~1"`}
		}
		for j := range len(n) {
			if n[j] == '~' && (j+1 == len(n) || n[j+1] != '0' && n[j+1] != '1') {
				return nil, &Error{Path: "path", Text: `has a "~" that is neither "~0" nor "~1"`}
			}
		}
		names[i] = unescaper.Replace(n)
	}
	return names, nil
}

// Get returns what stands at path, which may be an object. It says false when
// there is nothing, or when the path is none.
func (o Object) Get(path string) (any, bool) {
	names, err := SplitPath(path)
	if err != nil {
		return nil, false
	}
	for i, name := range names {
		v, ok := o[name]
		if !ok || i == len(names)-1 {
			return v, ok
		}
		if o, ok = v.(Object); !ok {
			return nil, false
		}
	}
	return nil, false
}

// At returns the patch that puts v at path; nil takes away what is there.
func At(path string, v any) (Object, error) {
	names, err := SplitPath(path)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Backward(names) {
		v = Object{name: v}
	}
	return v.(Object), nil
}

// Leaves yields the paths and values of all leaves, sorted by path. In a patch
// nulls are leaves.
func (o Object) Leaves() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		o.leaves("", yield)
	}
}

func (o Object) leaves(prefix string, yield func(string, any) bool) bool {
	names := make([]string, 0, len(o))
	for name := range o {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		path := prefix + escaper.Replace(name)
		inner, ok := o[name].(Object)
		if ok && len(inner) > 0 {
			if !inner.leaves(path+".", yield) {
				return false
			}
		} else if !yield(path, o[name]) {
			return false
		}
	}
	return true
}

package spcommand

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// nearNames is how many names Near gives at most, nearEdits how many letters they may
// be away.
const (
	nearNames = 3
	nearEdits = 2
)

// Near gives names that somebody may have meant who wrote name: those that differ in
// letter case, in the last part of their path, or in a letter or two; nearest first.
func Near(name string, names iter.Seq[string]) []string {
	type near struct {
		name string
		far  int
	}
	var list []near
	lower := strings.ToLower(name)
	last := lower[strings.LastIndexByte(lower, '/')+1:]
	for n := range names {
		other := strings.ToLower(n)
		switch far := edits(lower, other, nearEdits+1); {
		case far <= nearEdits && far < len(lower):
			list = append(list, near{n, far})
		case last != "" && other[strings.LastIndexByte(other, '/')+1:] == last:
			list = append(list, near{n, nearEdits + 1})
		}
	}
	slices.SortFunc(list, func(a, b near) int { return cmp.Or(a.far-b.far, strings.Compare(a.name, b.name)) })
	var out []string
	for _, n := range list[:min(len(list), nearNames)] {
		out = append(out, n.name)
	}
	return out
}

// edits is how many bytes must be added, taken or changed to make b of a; most when
// there are at least so many.
func edits(a, b string, most int) int {
	if d := len(a) - len(b); d >= most || -d >= most {
		return most
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		least := row[0]
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
			least = min(least, row[j+1])
		}
		if least >= most {
			return most
		}
	}
	return min(row[len(b)], most)
}

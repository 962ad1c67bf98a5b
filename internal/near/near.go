// Package near finds the names that somebody who has misspelt one may have meant.
// It is pure.
package near

import (
	"slices"
	"strings"
)

// Names gives those of the names that are near to name, the nearest first; at most 3.
// Near is a few letters away, the more the longer the name is, in whatever case; or
// a name that holds name, or is held by it.
func Names(name string, of []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	name = strings.ToLower(name)
	limit := min(1+len(name)/3, 3)
	var found []candidate
	for _, other := range of {
		lower := strings.ToLower(other)
		d := Distance(name, lower)
		if len(name) > 2 && len(lower) > 2 && (strings.Contains(lower, name) || strings.Contains(name, lower)) {
			d = min(d, limit)
		}
		if d <= limit {
			found = append(found, candidate{other, d})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return a.distance - b.distance })
	names := make([]string, 0, 3)
	for _, c := range found[:min(len(found), 3)] {
		names = append(names, c.name)
	}
	return names
}

// Distance is the Levenshtein distance of a and b, in bytes; of texts longer than
// 64 bytes it is what both have together.
func Distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return len(a) + len(b)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

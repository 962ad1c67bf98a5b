package near

import (
	"slices"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	all := []string{"valve.open", "valve.close", "move", "remove", "reboot", "Mode"}
	for name, want := range map[string][]string{
		"valve.opne": {"valve.open"},
		"valve":      {"valve.open", "valve.close"},
		"moove":      {"move", "Mode"},
		"mode":       {"Mode", "move"},
		"move.now":   {"move"},
		"x":          {},
		"paint":      {},
	} {
		if got := Names(name, all); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if got := Names("a.b", []string{"a.b1", "a.b2", "a.b3", "a.b4"}); len(got) != 3 {
		t.Errorf("%d names", len(got))
	}
}

func TestDistance(t *testing.T) {
	for pair, want := range map[[2]string]int{
		{"", ""}: 0, {"a", ""}: 1, {"kitten", "sitting"}: 3, {"ab", "ba"}: 2,
		{strings.Repeat("a", 65), "a"}: 66,
	} {
		if got := Distance(pair[0], pair[1]); got != want {
			t.Errorf("%v: %d, want %d", pair, got, want)
		}
	}
}

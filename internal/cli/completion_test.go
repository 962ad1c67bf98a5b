package cli

import (
	"slices"
	"testing"
)

// TestWordsForAShell: names that a device says of itself are no programs for the shell,
// and descriptions cannot move the cursor.
func TestWordsForAShell(t *testing.T) {
	got := harmless([]string{"open", "valve.open-2\topens\x1b[2J it\nnow", "close", "o;reboot", "o$(reboot)", "o p", "o\nx", "-o", "", "o`x`", "o'"}, "")
	if want := []string{"open", "valve.open-2\topens [2J it now", "close"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := harmless([]string{"open", "close"}, "cl"); !slices.Equal(got, []string{"close"}) {
		t.Errorf("%q", got)
	}
}

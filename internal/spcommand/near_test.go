package spcommand

import (
	"slices"
	"strings"
	"testing"
)

func TestNear(t *testing.T) {
	names := []string{"speed", "Inputs/A", "Outputs/A", "Process/Temperature", "Process/Temperatures", "spend", "x"}
	for name, want := range map[string]string{
		"Speed":               "speed,spend",
		"sped":                "speed,spend",
		"A":                   "Inputs/A,Outputs/A",
		"Process/temperatur":  "Process/Temperature,Process/Temperatures",
		"Temperature":         "Process/Temperature",
		"nothing of the kind": "",
		"":                    "",
	} {
		if got := strings.Join(Near(name, slices.Values(names)), ","); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

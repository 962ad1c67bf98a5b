package cli

import (
	"testing"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
)

func TestEveryReasonHasWords(t *testing.T) {
	for _, r := range command.Reasons {
		if reasonTexts[r] == "" {
			t.Errorf("%s has no words for people", r)
		}
	}
	if len(reasonTexts) != len(command.Reasons) {
		t.Errorf("%d texts for %d reasons", len(reasonTexts), len(command.Reasons))
	}
}

// TestEveryStateHasAnExitCode goes over all states: ends differ from each other
// and from 0, but for executed.
func TestEveryStateHasAnExitCode(t *testing.T) {
	want := map[command.State]fault.Code{command.Failed: fault.CommandFailed, command.Rejected: fault.CommandRejected,
		command.Expired: fault.CommandExpired, command.Cancelled: fault.CommandCancelled, command.Denied: fault.CommandCancelled,
		command.TimedOut: fault.OutcomeUnknown}
	for _, s := range command.States {
		if got := fault.CodeOf(outcome(&client.Command{State: client.State(s)})); got != want[s] {
			t.Errorf("%s: %q, want %q", s, got, want[s])
		}
	}
}

func TestTyped(t *testing.T) {
	for in, want := range map[string]string{"40": `40`, "true": `true`, "null": `null`, "-1.5e3": `-1.5e3`, "forty": `"forty"`, "": `""`,
		`"5"`: `"5"`, `{"a":1}`: `{"a":1}`, "[1": `"[1"`, "a\"b\n": `"a\"b\n"`, "007": `"007"`, "1 2": `"1 2"`} {
		if got := string(typed(in)); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	if got := clean("a\x1b[2J\r\nb\u009bc\u00e9"); got != "a [2J  b c\u00e9" {
		t.Errorf("got %q", got)
	}
}

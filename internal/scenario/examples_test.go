package scenario

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/internal/fault"
)

// The examples hold what they promise, in virtual time and for more than their own seed.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/scenarios/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d examples: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s, err := Parse(filepath.Base(file), text)
			if err != nil {
				t.Fatal(err)
			}
			for seed := s.Seed; seed < s.Seed+2; seed++ {
				if r := inVirtualTime(t, s, seed); r == nil || !r.Good() {
					if r != nil {
						r.Print(t.Output())
					}
					t.Errorf("seed %d", seed)
				}
			}
		})
	}
}

// What is not as expected is found and said.
func TestAnExpectationThatIsNotMet(t *testing.T) {
	s := read(t, least+"expect: [executed = 0, p99Ms < 60000, unsettled <= 3]\n")
	r := inVirtualTime(t, s, 1)
	if r == nil || r.Good() || r.Total == 0 || r.Commands["executed"] != r.Total {
		t.Fatalf("%+v", r)
	}
	var out strings.Builder
	r.Print(&out)
	for _, line := range []string{"NOT as expected: executed = 0", "as expected: p99Ms < 60000", "as expected: unsettled <= 3", "as expected: untrue = 0"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("%q is not in\n%s", line, out.String())
		}
	}
}

// A run needs what the scenario asks for.
func TestRestartsNeedAServerOfOnesOwn(t *testing.T) {
	s := read(t, least+"server: {restarts: [1s]}\n")
	if _, err := Run(t.Context(), s, World{}, Options{}); fault.CodeOf(err) != fault.Invalid {
		t.Error(err)
	}
}

// An answer of no command reaches the server, so that every outcome stays unknown.
func TestDevicesThatNeverAnswer(t *testing.T) {
	s := read(t, strings.Replace(least, "count: 1", "count: 3, neverAnswer: 1", 1))
	r := inVirtualTime(t, s, 1)
	if r == nil || !r.Good() || r.Commands["timed_out"] == 0 || r.Commands["executed"] > 0 {
		t.Errorf("%+v", r)
	}
}

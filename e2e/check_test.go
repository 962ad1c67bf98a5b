package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/internal/testkit"
)

// checkReport is what programs read of wilco check broker --json.
type checkReport struct {
	Broker, Version string
	Seed            uint64
	Seconds         float64
	Strengths       []string
	Cases           []struct {
		ID, Group, Title string
		Verdicts         []string
		Violated         bool
		Skipped, Detail  string
		Counts           map[string]int
	}
}

// runCheck runs wilco check broker over our broker, which it starts and kills.
// Without data the broker keeps its queues in memory.
func runCheck(t *testing.T, data string, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	address := testkit.FreeAddress(t)
	start := program("wilco") + " broker --anonymous --tcp " + address
	if data != "" {
		start += " --data " + data
		args = append(args, "--data", data)
	}
	cmd := command(append([]string{"check", "broker", "mqtt://" + address, "--start", start}, args...)...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	var failed *exec.ExitError
	if err := cmd.Run(); errors.As(err, &failed) {
		exit = failed.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return exit, out.String(), complaints.String()
}

func parseReport(t *testing.T, s string) (r checkReport) {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal([]byte(s), &all); err != nil {
		t.Fatalf("%v: %s", err, s)
	}
	for _, key := range []string{"broker", "version", "seed", "strict", "cases", "strengths", "seconds"} {
		if _, ok := all[key]; !ok {
			t.Errorf("%s is missing", key)
		}
	}
	if err := json.Unmarshal([]byte(s), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCheckOfAGoodBroker(t *testing.T) {
	t.Parallel()
	exit, out, said := runCheck(t, t.TempDir(), "--json", "--seed", "7", "--case", "O03", "--case", "o25", "--case", "O22")
	r := parseReport(t, out)
	if exit != 0 || said != "" || r.Seed != 7 || len(r.Cases) != 3 {
		t.Fatalf("exit code %d, %q, %s", exit, said, out)
	}
	if c := r.Cases[0]; c.ID != "O03" || fmt.Sprint(c.Verdicts) != "[STRICT]" || c.Counts["received"] != 200 {
		t.Errorf("%+v", c)
	}
	if c := r.Cases[1]; !strings.Contains(c.Skipped, "not for a single broker") {
		t.Errorf("%+v", c)
	}
	if c := r.Cases[2]; c.ID != "O25" || c.Violated || fmt.Sprint(c.Verdicts) != "[STRICT]" {
		t.Errorf("%+v", c)
	}
	if fmt.Sprint(r.Strengths) != "[CROSS-TOPIC]" {
		t.Errorf("%v", r.Strengths)
	}
}

// TestCheckOfABadBroker has ours without a disk, which forgets when it is
// killed; its report then goes into a table.
func TestCheckOfABadBroker(t *testing.T) {
	t.Parallel()
	exit, out, said := runCheck(t, "", "--json", "--case", "O25")
	r := parseReport(t, out)
	if exit != 5 || !strings.Contains(said, "1 of 1 cases are violated") {
		t.Errorf("exit code %d, %q", exit, said)
	}
	if c := r.Cases[0]; !c.Violated || fmt.Sprint(c.Verdicts) != "[LOSS-ACKED]" || c.Counts["lostPostfix"] == 0 || c.Detail == "" {
		t.Errorf("%+v", c)
	}
	file := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	table, err := command("check", "table", "ours|here="+file, "again="+file).Output()
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| O25 \| kill -9 .* \| \*\*LOSS-ACKED \(postfix \d+\)\*\* \| \*\*LOSS-ACKED \(postfix \d+\)\*\* \|$`)
	if !row.Match(table) || !bytes.Contains(table, []byte(`| ours\|here | 5 | 1 | 1 | 1 | - |`)) {
		t.Errorf("%s", table)
	}
	if err := command("check", "table", "no file").Run(); err == nil {
		t.Error("a table of nothing")
	}
}

// TestCheckForPeople looks at what is printed where, and that a line is enough
// to run it again.
func TestCheckForPeople(t *testing.T) {
	t.Parallel()
	exit, out, said := runCheck(t, "", "--seed", "9", "--case", "O01", "--case", "O25", "--mqtt-version", "3.1.1")
	if exit != 5 {
		t.Errorf("exit code %d", exit)
	}
	for _, want := range []string{", MQTT 3.1.1, seed 9, ", "ok   O01  steady", "BAD  O25  durability LOSS-ACKED (postfix ", "2 cases: 1 as the standard demands, 1 violated"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in %s", want, out)
		}
	}
	for _, want := range []string{"1/2 ok   O01", "2/2 BAD  O25"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is missing in %s", want, said)
		}
	}
	exit, _, said = runCheck(t, "", "--case", "O99")
	if exit != 2 || !strings.Contains(said, "O01 to O38") {
		t.Errorf("exit code %d, %s", exit, said)
	}
}

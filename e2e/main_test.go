package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// programs is the directory of the programs under test: wilco, and the examples
// device, of the device library, and webhook, of the client.
var programs string

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := build(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func build(m *testing.M) (code int, err error) {
	if programs, err = os.MkdirTemp("", "wilco-e2e-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(programs)) }()
	cmd := exec.Command("go", "build", "-o", programs+string(filepath.Separator), "../cmd/wilco", "../examples/device", "../examples/webhook")
	if out, err := cmd.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build the programs under test: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// program is the path of a program under test.
func program(name string) string { return filepath.Join(programs, name) }

// within asks again and again until the answer is nil. It returns the last
// answer when the time is over.
func within(limit time.Duration, ask func() error) error {
	deadline := time.Now().Add(limit)
	pause := 5 * time.Millisecond
	for {
		err := ask()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-time.After(pause)
		pause = min(2*pause, 100*time.Millisecond)
	}
}

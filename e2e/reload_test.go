package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/wilco-iot/wilco/internal/fleet"
)

// TestReload: SIGHUP makes the program read its users anew, and does not end it.
func TestReload(t *testing.T) {
	t.Parallel()
	_, hash := fleet.NewSecret()
	secret, other := fleet.NewSecret()
	file := filepath.Join(t.TempDir(), "users.yaml")
	users := func(hash string) {
		t.Helper()
		if err := os.WriteFile(file, fmt.Appendf(nil, "users:\n  - name: valve\n    secret: %s\n", hash), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	users(hash)
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	p, err := spawn("wilco broker", nil, nil, program("wilco"), "broker", "--tcp", address, "--users", file)
	if err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	in := func() error { return knock(address, "valve", secret) }
	refused := within(patience, func() error {
		if err := in(); err == nil || err.Error() != "CONNACK 20 02 00 04" {
			return fmt.Errorf("with another secret: %v", err)
		}
		return nil
	})
	if refused != nil {
		t.Fatalf("%v\n%s", refused, p.out.String())
	}
	users(other)
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := within(patience, in); err != nil {
		t.Errorf("after SIGHUP: %v\n%s", err, p.out.String())
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
}

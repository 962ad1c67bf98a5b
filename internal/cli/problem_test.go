package cli

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestOwnFaults: what goes wrong in this process has a cure that helps here, and
// none that sends people to the log of a server.
func TestOwnFaults(t *testing.T) {
	for _, test := range []struct {
		err  error
		exit int
		cure string
	}{
		{fmt.Errorf("broker: %w", os.NewSyscallError("bind", syscall.EADDRINUSE)), 5, "choose another address"},
		{fmt.Errorf("store: %w", &os.PathError{Op: "mkdir", Path: "/x", Err: syscall.EACCES}), 3, "give the user of this process the right"},
		{fmt.Errorf("store: %w", syscall.ENOSPC), 6, "free space on this machine"},
		{fmt.Errorf("something else"), 1, ""},
	} {
		var out bytes.Buffer
		a := &app{IO: IO{Err: &out}, started: true}
		if exit := a.finish(t.Context(), test.err); exit != test.exit {
			t.Errorf("%v: exit code %d, want %d", test.err, exit, test.exit)
		}
		said, cure, _ := strings.Cut(out.String(), "cure: ")
		if !strings.HasPrefix(said, "wilco: "+test.err.Error()+"\n") || !strings.Contains(cure, test.cure) || test.cure == "" && cure != "" {
			t.Errorf("%v: %q", test.err, out.String())
		}
	}
}

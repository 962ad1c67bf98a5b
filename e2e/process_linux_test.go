package e2e

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the system kill the process when the test's own process is
// killed, so that nothing is left behind.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

package e2e

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the system kill the process when the test's own process is
// killed, so that nothing is left behind.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// endWithGroup puts a shell and all that it leaves in the background into a group
// of processes of their own.
func endWithGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

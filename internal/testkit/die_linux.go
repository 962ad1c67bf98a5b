package testkit

import (
	"os/exec"
	"syscall"
)

// dieWithUs makes the kernel end the program when the test's process crashes.
func dieWithUs(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

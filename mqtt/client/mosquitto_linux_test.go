package client_test

import (
	"os/exec"
	"syscall"
)

// dieWithUs makes the kernel end the broker when the test process crashes.
func dieWithUs(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

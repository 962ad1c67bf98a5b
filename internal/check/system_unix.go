//go:build unix

package check

import (
	"os/exec"
	"syscall"
)

// ownGroup gives the command a process group, so that what it starts can be
// ended with it.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func signalGroup(cmd *exec.Cmd, how syscall.Signal) { _ = syscall.Kill(-cmd.Process.Pid, how) }

// freeSpace is how many bytes can be written below dir.
func freeSpace(dir string) (uint64, error) {
	var s syscall.Statfs_t
	err := syscall.Statfs(dir, &s)
	return uint64(s.Bavail) * uint64(s.Bsize), err
}

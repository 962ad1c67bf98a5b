//go:build !unix

package check

import (
	"errors"
	"os/exec"
	"syscall"
)

func ownGroup(*exec.Cmd) {}

// signalGroup kills, whatever is asked for: there is nothing gentler.
func signalGroup(cmd *exec.Cmd, _ syscall.Signal) { _ = cmd.Process.Kill() }

func freeSpace(string) (uint64, error) {
	return 0, errors.New("the free space is not to be had on this system")
}

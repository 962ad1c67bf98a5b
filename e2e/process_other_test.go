//go:build !linux

package e2e

import "os/exec"

// dieWithParent does nothing: only Linux can do it.
func dieWithParent(*exec.Cmd) {}

// endWithGroup does nothing: the shell alone is ended.
func endWithGroup(*exec.Cmd) {}

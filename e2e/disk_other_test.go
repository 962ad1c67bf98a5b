//go:build !linux

package e2e

import "testing"

// smallDisk skips the test: only Linux makes one so easily.
func smallDisk(t *testing.T, _ string, _ int) {
	t.Helper()
	t.Skip("there is no small disk on this system")
}

//go:build !unix

package sqlite

import (
	"fmt"
	"os"
)

// lockFile opens the lock file without locking it: here only SQLite's own
// locks keep two processes apart, and the second sees busy errors.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of %s: %w", path, err)
	}
	return f, nil
}

// checkOwner and checkFile have nothing to look at: there are no owner and mode
// bits as on Unix.
func checkOwner(string) error { return nil }
func checkFile(string) error  { return nil }

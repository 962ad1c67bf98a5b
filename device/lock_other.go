//go:build !unix

package device

import "os"

// lockDir only makes the file: this system has no lock that ends with the
// process. Two devices must not share a directory.
func lockDir(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
}

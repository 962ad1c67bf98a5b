//go:build !linux

package device

import "os"

func syncData(f *os.File) error { return f.Sync() }

package device

import (
	"os"
	"syscall"
)

// syncData leaves out the times of the file: half the work of fsync where the
// space was allocated ahead.
func syncData(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

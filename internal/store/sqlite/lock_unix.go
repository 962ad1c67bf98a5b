//go:build unix

package sqlite

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/wilco-iot/wilco/internal/fault"
)

// lockFile takes the lock that keeps a second process out. It is a file of its
// own: closing any descriptor of the database file would drop SQLite's locks.
// The lock goes with its process, however that ends.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of %s: %w", path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(f, 32)) // only to say who it is
		f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s.lock: %w", path, err)
		}
		who := "another process"
		if pid := strings.TrimSpace(string(holder)); pid != "" {
			who = "process " + pid
		}
		return nil, &fault.Error{Code: fault.Conflict, Message: path + " is in use by " + who, Cure: "stop that one first, or give this one another directory"}
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write %s.lock: %w", path, err)
	}
	return f, nil
}

// checkOwner refuses a directory that another user could change files in.
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d and this process runs as user %d: chown it, or run as its owner", dir, stat.Uid, os.Geteuid())
	}
	if info.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("everybody may write to %s: chmod o-w it, or use a directory of its own", dir)
	}
	return nil
}

// checkFile refuses a file that others may read or that is not where it seems
// to be. A file that does not exist is well.
func checkFile(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file (%s): name the file itself", path, info.Mode().Type())
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s may be used by others (mode %04o) and holds secrets: chmod 600 %s", path, info.Mode().Perm(), filepath.Base(path))
	}
	return nil
}

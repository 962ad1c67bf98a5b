package sqlite

import (
	"context"
	"errors"

	engine "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/wilco-iot/wilco/internal/fault"
)

// errClosed answers what is asked of a closed store.
var errClosed = fault.New(fault.Unavailable, "the store is closed")

// public turns an error of SQLite into a fault. Faults, conflicts and the
// errors of contexts stay as they are.
func public(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var f *fault.Error
	var e *engine.Error
	if errors.As(err, &f) || !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Code()&0xff == codes.SQLITE_FULL,
		e.Code() == codes.SQLITE_IOERR_SHMSIZE: // the index of the WAL could not grow
		return fault.Wrap(err, fault.StorageFull, "the server's storage is full")
	case e.Code()&0xff == codes.SQLITE_BUSY, e.Code()&0xff == codes.SQLITE_LOCKED:
		return fault.Wrap(err, fault.Unavailable, "the database is locked by another program")
	}
	return err
}

// isCode says whether err is SQLite's error code, extended codes included.
func isCode(err error, code int) bool {
	var e *engine.Error
	return errors.As(err, &e) && e.Code()&0xff == code
}

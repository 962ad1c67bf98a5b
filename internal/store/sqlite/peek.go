package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/wilco-iot/wilco/internal/store"
)

// ReadDevices gives all devices of the store in the file at path, in the order
// of their addresses. It only reads, and may be called while another process has
// the store open. The file must exist and have the schema of this program.
func ReadDevices(ctx context.Context, path string) (devices []store.Device, err error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	c, err := dial(path, "busy_timeout = 5000", "query_only = ON", "trusted_schema = OFF")
	if err != nil {
		return nil, fmt.Errorf("store: %w", explain(path, err))
	}
	s := &Store{path: path, readers: make(chan *conn, 1), nread: 1}
	s.readers <- c
	defer func() { err = errors.Join(err, s.closeReaders()) }()
	version, err := c.number(ctx, "PRAGMA user_version")
	if err != nil {
		return nil, fmt.Errorf("store: %w", explain(path, err))
	}
	if version != int64(len(migrations)) {
		return nil, fmt.Errorf("store: %s has schema version %d and this wilco wants %d: start the server of the same version first", path, version, len(migrations))
	}
	for d, err := range s.AllDevices(ctx) {
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		devices = append(devices, d)
	}
	return devices, nil
}

package pebblestore

import "github.com/cockroachdb/pebble/v2/vfs"

// On gives o another file system, without a reserve of space.
func (o Options) On(fs vfs.FS) Options {
	o.fs, o.Reserve = fs, -1
	return o
}

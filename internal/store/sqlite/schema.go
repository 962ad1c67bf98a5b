package sqlite

import (
	"context"
	"errors"
	"fmt"
)

// applicationID marks the file as wilco's: "wlco". Stored; never change.
const applicationID = 0x776c636f

// migrations bring an older file forward, one version each: the first makes an
// empty file version 1. Stored; never change one that has been released, append.
var migrations = []func(*conn) error{
	statements(
		`CREATE TABLE commands (
			tid BLOB PRIMARY KEY,
			device TEXT NOT NULL,        -- group/device
			name TEXT NOT NULL,
			requested_by TEXT NOT NULL,
			created INTEGER NOT NULL,    -- ms
			key TEXT,                    -- idempotency key, if any
			digest TEXT,
			version INTEGER NOT NULL,
			open INTEGER NOT NULL,       -- 1 until it has ended for good
			state TEXT NOT NULL,
			wake INTEGER NOT NULL,       -- ms; 0: never
			ended INTEGER NOT NULL,      -- ms; 0: not
			doc BLOB NOT NULL            -- the command, JSON
		) STRICT, WITHOUT ROWID`,
		`CREATE INDEX commands_open ON commands (tid) WHERE open = 1`,
		`CREATE INDEX commands_device ON commands (device, tid)`,
		`CREATE UNIQUE INDEX commands_key ON commands (key, device) WHERE key IS NOT NULL`,
		`CREATE TABLE ended (
			grp TEXT NOT NULL,
			state TEXT NOT NULL,
			n INTEGER NOT NULL,
			PRIMARY KEY (grp, state)
		) STRICT, WITHOUT ROWID`,
		`CREATE TABLE events (
			first INTEGER PRIMARY KEY,   -- ID of the first event in the row
			n INTEGER NOT NULL,
			at INTEGER NOT NULL,         -- ms, of the newest event in the row
			body BLOB NOT NULL
		) STRICT`,
		`CREATE TABLE devices (
			address TEXT PRIMARY KEY,
			secret BLOB,
			profile TEXT NOT NULL,
			window INTEGER NOT NULL,
			tags TEXT NOT NULL,          -- JSON
			note TEXT NOT NULL,
			disabled INTEGER NOT NULL,
			created INTEGER NOT NULL,
			rotated INTEGER NOT NULL,
			version INTEGER NOT NULL,
			known INTEGER NOT NULL DEFAULT 0,
			online INTEGER NOT NULL DEFAULT 0,
			boot TEXT NOT NULL DEFAULT '',
			firmware TEXT NOT NULL DEFAULT '',
			since INTEGER NOT NULL DEFAULT 0,
			seen INTEGER NOT NULL DEFAULT 0,
			anomalies INTEGER NOT NULL DEFAULT 0  -- how many there ever were
		) STRICT, WITHOUT ROWID`,
		`CREATE TABLE anomalies (
			device TEXT NOT NULL,
			slot INTEGER NOT NULL,       -- number of the anomaly, modulo how many are kept
			number INTEGER NOT NULL,
			body BLOB NOT NULL,          -- JSON
			PRIMARY KEY (device, slot)
		) STRICT, WITHOUT ROWID`,
		`CREATE TABLE tokens (
			id TEXT PRIMARY KEY,
			hash BLOB NOT NULL,
			name TEXT NOT NULL,
			role TEXT NOT NULL,
			grp TEXT NOT NULL,
			created INTEGER NOT NULL,
			expires INTEGER NOT NULL     -- ms; 0: never
		) STRICT, WITHOUT ROWID`,
		`CREATE TABLE meta (
			key TEXT PRIMARY KEY,
			value BLOB NOT NULL
		) STRICT, WITHOUT ROWID`,
	),
	statements(
		`CREATE TABLE documents (
			kind TEXT NOT NULL,
			key BLOB NOT NULL,
			version INTEGER NOT NULL,
			body BLOB NOT NULL,
			PRIMARY KEY (kind, key)
		) STRICT, WITHOUT ROWID`,
	),
	statements(
		`CREATE TABLE listed (
			device TEXT NOT NULL,        -- group/device
			tid BLOB NOT NULL,
			PRIMARY KEY (device, tid)
		) STRICT, WITHOUT ROWID`,
		`INSERT INTO listed SELECT device, tid FROM commands INDEXED BY commands_device ORDER BY device, tid`,
		`INSERT INTO meta SELECT '`+listedKey+`', coalesce(max(tid), zeroblob(16)) FROM commands`,
		`DROP INDEX commands_device`,
	),
	statements(`ALTER TABLE commands ADD COLUMN priority INTEGER NOT NULL DEFAULT 0`),
	statements(
		`ALTER TABLE commands ADD COLUMN interlocked INTEGER NOT NULL DEFAULT 0`,
		`ALTER TABLE devices ADD COLUMN commands TEXT NOT NULL DEFAULT ''`, // JSON; '': not announced
	),
	statements(`ALTER TABLE devices ADD COLUMN via TEXT NOT NULL DEFAULT ''`), // group/device of the gateway
	func(c *conn) error {
		if err := moveTokens(c); err != nil {
			return err
		}
		return c.once(`DROP TABLE tokens`)
	},
}

func statements(sql ...string) func(*conn) error {
	return func(c *conn) error {
		for _, s := range sql {
			if err := c.once(s); err != nil {
				return err
			}
		}
		return nil
	}
}

// inspect refuses a file of another program or of a newer wilco. It looks before
// any setting is made, because journal mode and page size are kept in the file.
func inspect(path string) (err error) {
	c, err := dial(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	var version, owner, tables int64
	for sql, n := range map[string]*int64{
		"PRAGMA user_version": &version, "PRAGMA application_id": &owner, "SELECT count(*) FROM sqlite_schema": &tables,
	} {
		if *n, err = c.number(context.Background(), sql); err != nil {
			return err
		}
	}
	if tables > 0 && owner != applicationID {
		return fmt.Errorf("%s is an SQLite database of another program: name another file, or move it away", path)
	}
	if newest := int64(len(migrations)); version > newest {
		return fmt.Errorf("%s has schema version %d and this wilco knows versions up to %d: run the newer wilco that wrote it, or restore a backup from before the upgrade",
			path, version, newest)
	}
	return nil
}

// migrate brings the file to the newest version, each step in a transaction of
// its own.
func migrate(c *conn, path string) error {
	version, err := c.number(context.Background(), "PRAGMA user_version")
	if err != nil {
		return err
	}
	for v := version; v < int64(len(migrations)); v++ {
		if err := step(c, v); err != nil {
			return fmt.Errorf("bring %s to schema version %d: %w", path, v+1, err)
		}
	}
	return nil
}

func step(c *conn, v int64) error {
	if err := c.once("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := migrations[v](c)
	if err == nil {
		err = c.once(fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, v+1))
	}
	if err == nil {
		err = c.once("COMMIT")
	}
	if err != nil {
		_ = c.once("ROLLBACK") // fails when SQLite has rolled back already; err says why
	}
	return err
}

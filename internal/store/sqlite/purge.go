package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/wire"
)

// maxPurge bounds how long one purge keeps the writer.
const maxPurge = 1000

// Purge forgets up to limit commands that had ended before a time, and up to
// limit rows of events older than it; limit is 1 to 1000, 0 means 1000. It
// answers how many commands and events it has forgotten; when that is 0 there
// is nothing left to do. The newest events always stay, so that IDs go on.
func (s *Store) Purge(ctx context.Context, before time.Time, limit int) (int, error) {
	if limit < 0 || limit > maxPurge {
		return 0, fault.Field("limit", "must be from 1 to %d", maxPurge)
	}
	if limit == 0 {
		limit = maxPurge
	}
	var forgotten int
	_, err := s.submit(ctx, change(func(t *tx) error {
		commands, err := t.purgeCommands(before, limit)
		if err != nil {
			return err
		}
		events, err := t.purgeEvents(before, limit)
		forgotten = commands + events
		return err
	}))
	if err != nil {
		return 0, err // forgotten may still be written to
	}
	return forgotten, nil
}

// purgeCommands finds the ended ones without an index: what has ended before t
// was made before t, and little that is older has not gone already.
func (t *tx) purgeCommands(before time.Time, limit int) (int, error) {
	type victim struct {
		tid    []byte
		device string
		group  string
		state  command.State
	}
	var victims []victim
	high := tidAt(before.Add(clockSlack))
	err := t.query(context.Background(), func(v []driver.Value) error {
		a, err := wire.ParseAddress(v[1].(string))
		victims = append(victims, victim{v[0].([]byte), a.String(), a.Group, command.State(v[2].(string))})
		return err
	}, "SELECT tid, device, state FROM commands NOT INDEXED WHERE tid < ? AND open = 0 AND ended < ? ORDER BY tid LIMIT ?",
		high[:], before.UnixMilli(), int64(limit))
	if err != nil {
		return 0, fmt.Errorf("find ended commands: %w", err)
	}
	for _, v := range victims {
		if _, err := t.exec("DELETE FROM commands WHERE tid = ?", v.tid); err != nil {
			return 0, err
		}
		if err := t.unlist(v.device, v.tid); err != nil {
			return 0, err
		}
		t.count(v.group, v.state, -1)
	}
	return len(victims), nil
}

// purgeEvents drops rows from the oldest on, never one behind a row that stays.
func (t *tx) purgeEvents(before time.Time, limit int) (forgotten int, err error) {
	end, err := t.number(context.Background(), "SELECT first FROM events WHERE at >= ? ORDER BY first LIMIT 1", before.UnixMilli())
	if err != nil {
		return 0, err
	}
	newest, err := t.number(context.Background(), "SELECT max(first) FROM events")
	if err != nil {
		return 0, err
	}
	if end == 0 {
		end = newest
	}
	err = t.query(context.Background(), func(v []driver.Value) error {
		forgotten += int(v[0].(int64))
		return nil
	}, "DELETE FROM events WHERE first IN (SELECT first FROM events WHERE first < ? ORDER BY first LIMIT ?) RETURNING n", end, int64(limit))
	return forgotten, err
}

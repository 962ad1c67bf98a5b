package sqlite

import (
	"context"
	"database/sql/driver"
	"iter"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

const byTID = "SELECT doc FROM commands WHERE tid = ?"

// Command gives the command with that tid, or NotFound.
func (s *Store) Command(ctx context.Context, tid command.TID) (command.Command, error) {
	found, err := s.Commands(ctx, []command.TID{tid})
	if err != nil {
		return command.Command{}, err
	}
	if len(found) == 0 {
		return command.Command{}, fault.New(fault.NotFound, "there is no command %s", tid)
	}
	return found[0], nil
}

// Commands gives those of the commands that exist, in any order.
func (s *Store) Commands(ctx context.Context, tids []command.TID) ([]command.Command, error) {
	docs := make([][]byte, 0, len(tids))
	err := s.read(ctx, func(c *conn) error {
		for i := range tids {
			_, err := c.one(ctx, func(v []driver.Value) error {
				docs = append(docs, v[0].([]byte))
				return nil
			}, byTID, tids[i][:])
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return parseCommands(docs)
}

// parseCommands reads the documents after their connection has been given back.
func parseCommands(docs [][]byte) ([]command.Command, error) {
	commands := make([]command.Command, 0, len(docs))
	for _, doc := range docs {
		c, err := parseCommand(doc)
		if err != nil {
			return nil, err
		}
		commands = append(commands, c)
	}
	return commands, nil
}

// CommandByKey gives the tid of the device's command with that idempotency key,
// and the digest of its request; or NotFound.
func (s *Store) CommandByKey(ctx context.Context, device wire.Address, key string) (tid command.TID, digest string, err error) {
	var found bool
	err = s.read(ctx, func(c *conn) error {
		found, err = c.one(ctx, func(v []driver.Value) error {
			copy(tid[:], v[0].([]byte))
			digest = v[1].(string)
			return nil
		}, "SELECT tid, digest FROM commands WHERE device = ? AND key = ?", device.String(), key)
		return err
	})
	if err == nil && !found {
		err = fault.New(fault.NotFound, "%s has no command with this idempotency key", device)
	}
	return tid, digest, err
}

// Counts tells how many commands there are in each state, in one group or, with
// "", in all. It reads the index of the open commands and counters of the ended ones.
func (s *Store) Counts(ctx context.Context, group string) (map[command.State]int64, error) {
	counts := map[command.State]int64{}
	add := func(v []driver.Value) error {
		if n := v[1].(int64); n != 0 {
			counts[command.State(v[0].(string))] += n
		}
		return nil
	}
	from, to := groupRange(group)
	if group == "" {
		from, to = "", "\x7f"
	}
	err := s.read(ctx, func(c *conn) error {
		// One statement, because two would see two snapshots, and a command that
		// ends in between would be counted twice or not at all.
		return c.query(ctx, add, `
			SELECT state, count(*) FROM commands INDEXED BY commands_open WHERE open = 1 AND device >= ?1 AND device < ?2 GROUP BY state
			UNION ALL
			SELECT state, sum(n) FROM ended WHERE ?3 = '' OR grp = ?3 GROUP BY state`, from, to, group)
	})
	if err != nil {
		return nil, err
	}
	return counts, nil
}

// OpenCommands gives all commands that have not ended for good, in order of
// their TID. It reads in pages, so a slow consumer holds up nobody; a command
// that is made or ends meanwhile may be there or not.
func (s *Store) OpenCommands(ctx context.Context) iter.Seq2[store.Open, error] {
	const page = 4096
	return func(yield func(store.Open, error) bool) {
		var after command.TID // no command has the zero TID
		rows := make([]store.Open, 0, page)
		for {
			rows = rows[:0]
			err := s.read(ctx, func(c *conn) error {
				return c.query(ctx, func(v []driver.Value) error {
					o, err := scanOpen(v)
					rows = append(rows, o)
					return err
				}, `SELECT tid, device, state, wake, priority, interlocked FROM commands INDEXED BY commands_open
					WHERE open = 1 AND tid > ? ORDER BY tid LIMIT ?`, after[:], int64(page))
			})
			if err != nil {
				yield(store.Open{}, err)
				return
			}
			for _, o := range rows {
				if !yield(o, nil) {
					return
				}
			}
			if len(rows) < page {
				return
			}
			after = rows[len(rows)-1].TID
		}
	}
}

func scanOpen(v []driver.Value) (o store.Open, err error) {
	copy(o.TID[:], v[0].([]byte))
	o.Device, err = wire.ParseAddress(v[1].(string))
	o.State = command.State(v[2].(string))
	o.Wake = instant(v[3])
	o.Priority = int(v[4].(int64))
	o.Interlocked = v[5].(int64) != 0
	return o, err
}

// tidAt is the lowest TID of a UUIDv7 that is made at t.
func tidAt(t time.Time) (tid command.TID) {
	ms := max(t.UnixMilli(), 0)
	for i := range 6 {
		tid[i] = byte(ms >> (8 * (5 - i)))
	}
	return tid
}

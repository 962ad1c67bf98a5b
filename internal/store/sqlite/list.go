package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
)

// Bounds of a page.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// List gives one page of the commands that q selects, newest first unless it
// asks for the oldest first, and the cursor of the next page, "" when there is
// none. Order is that of the TIDs. A page is a snapshot; between two pages
// commands may come, change and go, but none is given twice. What is wrong
// with q is an Invalid fault that names the field.
func (s *Store) List(ctx context.Context, q store.Query) (page []command.Command, next string, err error) {
	limit, err := pageLimit(q.Limit)
	if err != nil {
		return nil, "", err
	}
	if q.Device != "" && q.Group == "" {
		return nil, "", fault.Field("group", "is needed to select by device")
	}
	mark := fingerprint("c", q.Group, q.Device, fmt.Sprint(q.States), q.Name, q.RequestedBy,
		fmt.Sprint(millis(q.Since)), fmt.Sprint(millis(q.Before)), fmt.Sprint(q.OldestFirst))
	after, err := parseCursor(q.Cursor, mark)
	if err != nil {
		return nil, "", err
	}
	if q.Cursor != "" && len(after) != len(command.TID{}) {
		return nil, "", errCursor()
	}
	sql, args := listSQL(&q, after, limit)
	var docs [][]byte
	var last []byte
	err = s.read(ctx, func(c *conn) error {
		return c.query(ctx, func(v []driver.Value) error {
			if len(docs) == limit {
				next = cursor(mark, last)
				return nil
			}
			last = v[0].([]byte)
			docs = append(docs, v[1].([]byte))
			return nil
		}, sql, args...)
	})
	if err != nil {
		return nil, "", err
	}
	page, err = parseCommands(docs)
	return page, next, err
}

// clockSlack is how far the time of a TID and that of its command's creation
// may be apart: the TID bounds what is read, the creation decides.
const clockSlack = time.Minute

// listSQL selects tid and doc of one page and one row more.
func listSQL(q *store.Query, after []byte, limit int) (string, []driver.Value) {
	var where []string
	var args []driver.Value
	and := func(condition string, a ...driver.Value) {
		where = append(where, condition)
		args = append(args, a...)
	}
	table, order, beyond := "commands NOT INDEXED", "DESC", "tid < ?"
	if q.OldestFirst {
		order, beyond = "ASC", "tid > ?"
	}
	switch {
	case q.Device != "":
		table = "commands INDEXED BY commands_device"
		and("device = ?", q.Group+"/"+q.Device)
	case onlyOpen(q.States):
		table = "commands INDEXED BY commands_open"
		and("open = 1")
	}
	if q.Device == "" && q.Group != "" {
		from, to := groupRange(q.Group)
		and("device >= ? AND device < ?", from, to)
	}
	if len(q.States) > 0 {
		var states []driver.Value
		for _, s := range q.States {
			states = append(states, string(s))
		}
		and("state IN (?"+strings.Repeat(", ?", len(states)-1)+")", states...)
	}
	if q.Name != "" {
		and("name = ?", q.Name)
	}
	if q.RequestedBy != "" {
		and("requested_by = ?", q.RequestedBy)
	}
	if !q.Since.IsZero() {
		low := tidAt(q.Since.Add(-clockSlack))
		and("tid >= ? AND created >= ?", low[:], q.Since.UnixMilli())
	}
	if !q.Before.IsZero() {
		high := tidAt(q.Before.Add(clockSlack))
		and("tid < ? AND created < ?", high[:], q.Before.UnixMilli())
	}
	if after != nil {
		and(beyond, after)
	}
	sql := "SELECT tid, doc FROM " + table
	if len(where) > 0 {
		sql += " WHERE " + strings.Join(where, " AND ")
	}
	sql += " ORDER BY tid " + order + " LIMIT ?"
	return sql, append(args, int64(limit)+1)
}

// onlyOpen says whether all commands in these states are open. Those that timed
// out may be closed.
func onlyOpen(states []command.State) bool {
	return len(states) > 0 && !slices.ContainsFunc(states, func(s command.State) bool {
		return s.Final() || s == command.TimedOut || !slices.Contains(command.States, s)
	})
}

func pageLimit(n int) (int, error) {
	switch {
	case n == 0:
		return defaultLimit, nil
	case n < 0 || n > maxLimit:
		return 0, fault.Field("limit", "must be from 1 to %d", maxLimit)
	}
	return n, nil
}

// A cursor is base64url of a version, the fingerprint of its query, and the
// last row's key. It is opaque to clients and good for the same query only.
const cursorVersion = 1

func fingerprint(parts ...string) [4]byte {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return [4]byte(h.Sum(nil))
}

func cursor(mark [4]byte, key []byte) string {
	b := append([]byte{cursorVersion}, mark[:]...)
	return base64.RawURLEncoding.EncodeToString(append(b, key...))
}

func errCursor() error {
	return fault.Field("cursor", "is not one that a page of this query has given: begin again without one")
}

// parseCursor gives the key in a cursor, nil when there is no cursor.
func parseCursor(text string, mark [4]byte) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < 5 || b[0] != cursorVersion || [4]byte(b[1:5]) != mark {
		return nil, errCursor()
	}
	return b[5:], nil
}

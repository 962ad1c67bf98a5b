package sqlite

import (
	"bytes"
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
	mark := fingerprint("c", q.Group, strings.Join(q.Groups, ","), q.Device, fmt.Sprint(q.States), q.Name, q.RequestedBy,
		fmt.Sprint(millis(q.Since)), fmt.Sprint(millis(q.Before)), fmt.Sprint(q.OldestFirst))
	after, err := parseCursor(q.Cursor, mark)
	if err != nil {
		return nil, "", err
	}
	if q.Cursor != "" && len(after) != len(command.TID{}) {
		return nil, "", errCursor()
	}
	p := reading{q: &q, after: after, limit: limit}
	if q.Device != "" {
		p.unlisted = s.backlog.of(q.Group + "/" + q.Device)
	}
	if err := s.read(ctx, func(c *conn) error { return p.read(ctx, c) }); err != nil {
		return nil, "", err
	}
	docs := make([][]byte, 0, limit)
	for i, r := range p.rows {
		if i == limit {
			next = cursor(mark, p.rows[i-1].tid)
			break
		}
		docs = append(docs, r.doc)
	}
	page, err = parseCommands(docs)
	return page, next, err
}

// reading is one page being read: its rows and one more, if there are more.
type reading struct {
	q        *store.Query
	after    []byte // the page follows this TID; nil: it is the first
	limit    int
	unlisted []command.TID // those of q's device that may not be listed
	rows     []pageRow
}

type pageRow struct{ tid, doc []byte }

func (p *reading) add(v []driver.Value) error {
	p.rows = append(p.rows, pageRow{v[0].([]byte), v[1].([]byte)})
	return nil
}

// read reads the page: the commands of a device out of the list and beside it,
// in one snapshot.
func (p *reading) read(ctx context.Context, c *conn) (err error) {
	if len(p.unlisted) == 0 {
		return p.table(ctx, c)
	}
	if _, err := c.exec("BEGIN"); err != nil {
		return err
	}
	defer func() {
		if _, end := c.exec("ROLLBACK"); err == nil { // nothing was written
			err = end
		}
	}()
	if err := p.table(ctx, c); err != nil {
		return err
	}
	if err := p.beside(ctx, c); err != nil {
		return err
	}
	slices.SortFunc(p.rows, func(a, b pageRow) int { return p.compare(a.tid, b.tid) })
	// One may have been listed after it was found not to be.
	p.rows = slices.CompactFunc(p.rows, func(a, b pageRow) bool { return bytes.Equal(a.tid, b.tid) })
	p.rows = p.rows[:min(len(p.rows), p.limit+1)]
	return nil
}

func (p *reading) compare(a, b []byte) int {
	if p.q.OldestFirst {
		return bytes.Compare(a, b)
	}
	return bytes.Compare(b, a)
}

// table reads the page out of the table or index that suits the query.
func (p *reading) table(ctx context.Context, c *conn) error {
	where, args := p.conditions()
	table := "commands NOT INDEXED"
	switch {
	case p.q.Device != "":
		table = "listed CROSS JOIN commands USING (tid)" // in this order
		where += " AND listed.device = ?"
		args = append(args, p.q.Group+"/"+p.q.Device)
	case onlyOpen(p.q.States):
		table = "commands INDEXED BY commands_open"
		where += " AND open = 1"
	}
	order := " DESC"
	if p.q.OldestFirst {
		order = " ASC"
	}
	return c.query(ctx, p.add, "SELECT tid, doc FROM "+table+" WHERE "+where+" ORDER BY tid"+order+" LIMIT ?",
		append(args, int64(p.limit)+1)...)
}

// beside reads those of the commands that are not listed that would fit into
// the page.
func (p *reading) beside(ctx context.Context, c *conn) error {
	where, args := p.conditions()
	slices.SortFunc(p.unlisted, func(a, b command.TID) int { return p.compare(a[:], b[:]) })
	enough := len(p.rows) + p.limit + 1
	for _, tid := range p.unlisted {
		if len(p.rows) == enough {
			return nil
		}
		if p.after != nil && p.compare(tid[:], p.after) <= 0 {
			continue
		}
		_, err := c.one(ctx, p.add, "SELECT tid, doc FROM commands WHERE "+where+" AND tid = ?", append(slices.Clip(args), tid[:])...)
		if err != nil {
			return err
		}
	}
	return nil
}

// clockSlack is how far the time of a TID and that of its command's creation
// may be apart: the TID bounds what is read, the creation decides.
const clockSlack = time.Minute

// conditions are those of the query but for its device, and of the cursor.
func (p *reading) conditions() (where string, args []driver.Value) {
	q := p.q
	where = "true"
	and := func(condition string, a ...driver.Value) {
		where += " AND " + condition
		args = append(args, a...)
	}
	if q.Device == "" && q.Group != "" {
		from, to := groupRange(q.Group)
		and("device >= ? AND device < ?", from, to)
	}
	if q.Group == "" && len(q.Groups) > 0 {
		condition, a := inGroups("device", q.Groups)
		and(condition, a...)
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
	switch {
	case p.after == nil:
	case q.OldestFirst:
		and("tid > ?", p.after)
	default:
		and("tid < ?", p.after)
	}
	return where, args
}

// inGroups is the condition that a column, an address, is of one of the groups.
func inGroups(column string, groups []string) (condition string, args []driver.Value) {
	for _, g := range groups {
		from, to := groupRange(g)
		condition += " OR " + column + " >= ? AND " + column + " < ?"
		args = append(args, from, to)
	}
	return "(" + strings.TrimPrefix(condition, " OR ") + ")", args
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

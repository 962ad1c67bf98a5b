package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"

	engine "modernc.org/sqlite"
)

// conn is one connection with its prepared statements. It speaks to the driver
// without database/sql, whose pool, locks and conversions cost as much as the
// statements themselves. A conn belongs to one goroutine at a time.
type conn struct {
	raw   driver.Conn
	stmts map[string]statement
	named []driver.NamedValue // reused between calls
	cells []driver.Value      // reused between calls
}

type statement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// dial opens a connection to the file at path and applies pragmas to it.
func dial(path string, pragmas ...string) (*conn, error) {
	// A URI, because a plain name would be cut at a question mark.
	u := url.URL{Scheme: "file", OmitHost: true, Path: path}
	raw, err := (&engine.Driver{}).Open(u.String())
	if err != nil {
		return nil, err
	}
	c := &conn{raw: raw, stmts: map[string]statement{}}
	for _, p := range pragmas {
		if err := c.once("PRAGMA " + p); err != nil {
			return nil, errors.Join(fmt.Errorf("PRAGMA %s: %w", p, err), c.close())
		}
	}
	return c, nil
}

// close gives everything back. The conn must not be used again.
func (c *conn) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	clear(c.stmts)
	return errors.Join(append(errs, c.raw.Close())...)
}

// once runs SQL that is not worth keeping prepared.
func (c *conn) once(sql string) error {
	s, err := c.raw.Prepare(sql)
	if err != nil {
		return err
	}
	_, err = s.(statement).ExecContext(context.Background(), nil)
	return errors.Join(err, s.Close())
}

func (c *conn) prepare(sql string) (statement, error) {
	if s, ok := c.stmts[sql]; ok {
		return s, nil
	}
	raw, err := c.raw.Prepare(sql)
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", sql, err)
	}
	s := raw.(statement)
	c.stmts[sql] = s
	return s, nil
}

// bind numbers the arguments; the slice is good until the next call.
func (c *conn) bind(args []driver.Value) []driver.NamedValue {
	c.named = c.named[:0]
	for i, a := range args {
		c.named = append(c.named, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return c.named
}

// exec runs a statement, prepared once, and tells how many rows it changed.
// Arguments are int64, string, []byte, bool or nil.
func (c *conn) exec(sql string, args ...driver.Value) (int64, error) {
	s, err := c.prepare(sql)
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(context.Background(), c.bind(args))
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// query runs a statement, prepared once, and hands on each row. The slice is
// reused; the strings and blobs in it are the caller's.
func (c *conn) query(ctx context.Context, row func([]driver.Value) error, sql string, args ...driver.Value) (err error) {
	s, err := c.prepare(sql)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(ctx, c.bind(args))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if n := len(rows.Columns()); cap(c.cells) < n {
		c.cells = make([]driver.Value, n)
	}
	c.cells = c.cells[:len(rows.Columns())]
	for {
		switch err := rows.Next(c.cells); {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if err := row(c.cells); err != nil {
			return err
		}
		// The driver watches ctx only until the first row.
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// one is query for at most one row; found tells whether there was one.
func (c *conn) one(ctx context.Context, row func([]driver.Value) error, sql string, args ...driver.Value) (found bool, err error) {
	err = c.query(ctx, func(v []driver.Value) error {
		found = true
		return row(v)
	}, sql, args...)
	return found, err
}

// number reads one integer; 0 when there is no row or it is NULL.
func (c *conn) number(ctx context.Context, sql string, args ...driver.Value) (n int64, err error) {
	_, err = c.one(ctx, func(v []driver.Value) error {
		n, _ = v[0].(int64)
		return nil
	}, sql, args...)
	return n, err
}

package sqlite

import (
	"bytes"
	"cmp"
	"context"
	"database/sql/driver"
	"slices"
	"sync"

	"github.com/wilco-iot/wilco/internal/command"
)

// Commands are found by device in the table listed. New ones come in the order
// of their TIDs and belong to any device, so that each would change another page
// of that table, and writing these pages was a good part of what a command
// costs. So they are listed late and together, in the order of the table:
//
//	insert ──► fresh ──(every full)──► leaving, sorted ──(a share with each commit)──► listed
//
// Nothing more is durable for it than a mark in meta: commands with a TID below
// the mark are listed; of the others it is not known, and Open reads them. One
// that is made below the mark is listed at once. Whoever lists by device looks
// into both.

// A listing is one row of the table listed.
type listing struct {
	device string
	tid    command.TID
}

// listEvery is how many commands are listed together. They are in memory, about
// 100 bytes each, and up to twice as many are read at Open.
const listEvery = 16384

// listedKey is where meta has the mark. Stored; never change.
const listedKey = "sqlite.listed"

// backlog is what has been committed and is not listed. The writer alone changes
// it, after a COMMIT, and may read it without the lock. What the slices hold is
// never changed in place, so that readers only need the lock to get hold of them.
type backlog struct {
	every int
	mark  command.TID // the one that is durable

	mu      sync.Mutex
	fresh   []listing // as they came
	leaving []listing // sorted
	gone    int       // of leaving, those that are listed
}

// of gives the TIDs of a device's commands that may not be listed, sorted. To
// miss none, take the snapshot of the database afterwards.
func (b *backlog) of(device string) (tids []command.TID) {
	b.mu.Lock()
	fresh, leaving := b.fresh, b.leaving[b.gone:]
	b.mu.Unlock()
	for _, l := range fresh {
		if l.device == device {
			tids = append(tids, l.tid)
		}
	}
	at, _ := slices.BinarySearchFunc(leaving, device, func(l listing, device string) int { return cmp.Compare(l.device, device) })
	for ; at < len(leaving) && leaving[at].device == device; at++ {
		tids = append(tids, leaving[at].tid)
	}
	slices.SortFunc(tids, compareTIDs)
	return tids
}

func compareTIDs(a, b command.TID) int { return bytes.Compare(a[:], b[:]) }

// listed is what a transaction does to the backlog once it is committed.
type listed struct {
	added  []listing
	moved  int          // of leaving
	mark   *command.TID // the new one, if it has changed
	purged map[command.TID]struct{}
}

// settle makes true what t has committed.
func (b *backlog) settle(t *listed) {
	if len(t.added)+t.moved+len(t.purged) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fresh = append(b.fresh, t.added...)
	b.gone += t.moved
	if len(t.purged) > 0 {
		b.fresh, b.leaving, b.gone = t.left(b.fresh), t.left(b.leaving[b.gone:]), 0
	}
	if t.mark != nil {
		b.mark = *t.mark
	}
	if b.gone == len(b.leaving) {
		b.leaving, b.gone = nil, 0
	}
	if len(b.leaving) == 0 && len(b.fresh) >= b.every {
		b.leaving, b.fresh = slices.Clone(b.fresh), nil
		slices.SortFunc(b.leaving, func(x, y listing) int {
			return cmp.Or(cmp.Compare(x.device, y.device), compareTIDs(x.tid, y.tid))
		})
	}
}

// left gives those that were not purged, in a slice of their own.
func (t *listed) left(all []listing) (left []listing) {
	for _, l := range all {
		if _, gone := t.purged[l.tid]; !gone {
			left = append(left, l)
		}
	}
	return left
}

// list takes note of a new command.
func (t *tx) list(r *commandRow) error {
	l := listing{r.device, r.tid}
	if compareTIDs(r.tid, t.backlog.mark) < 0 {
		return t.putListed(&l)
	}
	t.listed.added = append(t.listed.added, l)
	return nil
}

// putListed may find it there: before a crash, or a mark that did not move.
func (t *tx) putListed(l *listing) error {
	_, err := t.exec("INSERT OR IGNORE INTO listed (device, tid) VALUES (?, ?)", l.device, l.tid[:])
	return err
}

// unlist takes a purged command out of the list.
func (t *tx) unlist(device string, tid []byte) error {
	if id := command.TID(tid); compareTIDs(id, t.backlog.mark) >= 0 {
		if t.listed.purged == nil {
			t.listed.purged = map[command.TID]struct{}{}
		}
		t.listed.purged[id] = struct{}{}
	}
	_, err := t.exec("DELETE FROM listed WHERE device = ? AND tid = ?", device, tid)
	return err
}

// moveListed lists a share of those that are leaving: twice as many as came, so
// that they are gone before there are as many again.
func (t *tx) moveListed() error {
	b := t.backlog
	leaving := b.leaving[b.gone:]
	n := min(len(leaving), 2*len(t.listed.added))
	if n == 0 {
		return nil
	}
	for i := range leaving[:n] {
		if _, gone := t.listed.purged[leaving[i].tid]; gone {
			continue
		}
		if err := t.putListed(&leaving[i]); err != nil {
			return err
		}
	}
	t.listed.moved = n
	if n < len(leaving) {
		return nil
	}
	mark := t.listed.added[0].tid // the lowest of all that are left
	for _, part := range [][]listing{t.listed.added, b.fresh} {
		for i := range part {
			if compareTIDs(part[i].tid, mark) < 0 {
				mark = part[i].tid
			}
		}
	}
	t.listed.mark = &mark
	_, err := t.exec("UPDATE meta SET value = ? WHERE key = ?", mark[:], listedKey)
	return err
}

// load reads what may not be listed.
func (b *backlog) load(c *conn) error {
	ctx := context.Background()
	_, err := c.one(ctx, func(v []driver.Value) error {
		copy(b.mark[:], v[0].([]byte))
		return nil
	}, "SELECT value FROM meta WHERE key = ?", listedKey)
	if err != nil {
		return err
	}
	var found listed
	err = c.query(ctx, func(v []driver.Value) error {
		found.added = append(found.added, listing{v[0].(string), command.TID(v[1].([]byte))})
		return nil
	}, "SELECT device, tid FROM commands NOT INDEXED WHERE tid >= ?", b.mark[:])
	b.settle(&found)
	return err
}

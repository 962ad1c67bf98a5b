package sqlite

import (
	"os"
	"sync/atomic"
	"time"
)

// Stats is what a store has done since it was opened. Counters only rise.
type Stats struct {
	Batches      uint64 // commits and other writes asked for
	Transactions uint64 // that carried them
	Rows         uint64 // written
	Events       uint64 // written
	Conflicts    uint64 // batches refused because a row had changed
	Repeats      uint64 // transactions done again because of that
	Failures     uint64 // transactions that failed: disk full, locked, I/O

	Writing     time.Duration // spent in transactions, syncing included
	Syncing     time.Duration // of it in COMMIT
	SlowestSync time.Duration // the longest COMMIT

	Queued    int   // batches that wait for the writer now
	FileBytes int64 // of the database file
	WALBytes  int64 // of its write-ahead log
}

type counters struct {
	batches, transactions, rowsWritten, events, conflicts, repeats, failures atomic.Uint64
	writing, syncing, slowest                                                atomic.Int64
}

func (c *counters) wrote(batches, rows, conflicts int, failed bool, took time.Duration) {
	c.batches.Add(uint64(batches))
	c.transactions.Add(1)
	c.conflicts.Add(uint64(conflicts))
	c.writing.Add(int64(took))
	if failed {
		c.failures.Add(1)
		return
	}
	c.rowsWritten.Add(uint64(rows))
}

// synced is called by the writer alone.
func (c *counters) synced(took time.Duration) {
	c.syncing.Add(int64(took))
	c.slowest.Store(max(c.slowest.Load(), int64(took)))
}

// Stats tells what the store has done. It does not block.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	queued := len(s.queue)
	s.mu.Unlock()
	c := &s.counters
	return Stats{
		Batches: c.batches.Load(), Transactions: c.transactions.Load(), Rows: c.rowsWritten.Load(), Events: c.events.Load(),
		Conflicts: c.conflicts.Load(), Repeats: c.repeats.Load(), Failures: c.failures.Load(),
		Writing: time.Duration(c.writing.Load()), Syncing: time.Duration(c.syncing.Load()), SlowestSync: time.Duration(c.slowest.Load()),
		Queued: queued, FileBytes: size(s.path), WALBytes: size(s.path + "-wal"),
	}
}

// size looks the file up by name: opening and closing it would drop SQLite's locks.
func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	codes "modernc.org/sqlite/lib"
)

// Options are the settings of a store. The zero value is right.
type Options struct {
	// BusyTimeout is how long another process may hold the write lock before
	// commits fail as unavailable. 0 means 5 s.
	BusyTimeout time.Duration
	// Readers is the number of connections that read. 0 means 4.
	Readers int

	pragmas   []string // more settings of the writer, for tests
	listEvery int      // in place of the constant, for tests
}

// Store is a store in one SQLite file. All methods are safe for concurrent use.
type Store struct {
	path    string
	lock    *os.File
	readers chan *conn // the idle ones
	nread   int
	reading sync.WaitGroup

	mu      sync.Mutex
	queue   []*job
	closed  bool
	changed chan struct{} // closed at the next commit that has events

	wake      chan struct{} // something is queued, or the store is closing
	stop      chan struct{} // closed when Close begins
	finished  chan struct{} // closed when all is closed; closeErr is set then
	closeErr  error
	lastEvent atomic.Int64
	counters  counters
	backlog   backlog
}

const (
	pageSize        = 8192
	checkpointPages = 4096
)

// Open opens the store in the file at path, and makes it, with mode 0600, when
// it does not exist; missing directories are made with mode 0700. The file
// belongs to this process until Close. Errors name the file and the cure.
func Open(path string, o Options) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	lock, err := claim(path)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s := &Store{
		path: path, lock: lock,
		changed: make(chan struct{}), wake: make(chan struct{}, 1), stop: make(chan struct{}), finished: make(chan struct{}),
	}
	w, err := s.connect(o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store: %w", explain(path, err)), lock.Close())
	}
	go s.write(w)
	return s, nil
}

// claim makes sure that the file is ours alone, and makes it.
func claim(path string) (*os.File, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := checkOwner(dir); err != nil {
		return nil, err
	}
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		if err := checkFile(path + suffix); err != nil {
			return nil, err
		}
	}
	lock, err := lockFile(path)
	if err != nil {
		return nil, err
	}
	// SQLite gives WAL and shared memory the mode of the file, so it is made here.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// connect opens the writer, brings the schema up to date, and opens the readers.
func (s *Store) connect(o Options) (_ *conn, err error) {
	busy := o.BusyTimeout
	if busy == 0 {
		busy = 5 * time.Second
	}
	pragmas := append([]string{
		fmt.Sprintf("busy_timeout = %d", busy.Milliseconds()),
		fmt.Sprintf("page_size = %d", pageSize), // before the first write
		"journal_mode = WAL",
		"synchronous = FULL",
		fmt.Sprintf("wal_autocheckpoint = %d", checkpointPages),
		fmt.Sprintf("journal_size_limit = %d", checkpointPages*pageSize),
		"cache_size = -8192",
		"temp_store = MEMORY",
		"trusted_schema = OFF",
	}, o.pragmas...)
	if err := inspect(s.path); err != nil {
		return nil, err
	}
	w, err := dial(s.path, pragmas...)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.closeReaders(), w.close())
		}
	}()
	if err := migrate(w, s.path); err != nil {
		return nil, err
	}
	last, err := w.number(context.Background(), "SELECT first + n - 1 FROM events ORDER BY first DESC LIMIT 1")
	if err != nil {
		return nil, err
	}
	s.lastEvent.Store(last)
	s.backlog.every = cmp.Or(o.listEvery, listEvery)
	if err := s.backlog.load(w); err != nil {
		return nil, err
	}
	n := o.Readers
	if n == 0 {
		n = 4
	}
	s.readers = make(chan *conn, n)
	for range n {
		r, err := dial(s.path, fmt.Sprintf("busy_timeout = %d", busy.Milliseconds()), "query_only = ON",
			"cache_size = -8192", "temp_store = MEMORY", "trusted_schema = OFF")
		if err != nil {
			return nil, err
		}
		s.readers <- r
		s.nread++
	}
	return w, nil
}

// explain names the file and the cure for what SQLite finds wrong with it.
func explain(path string, err error) error {
	switch {
	case isCode(err, codes.SQLITE_NOTADB):
		return fmt.Errorf("%s is not an SQLite database: name another file, or move it away: %w", path, err)
	case isCode(err, codes.SQLITE_CORRUPT):
		return fmt.Errorf("%s is damaged: restore a backup, or save what is left with sqlite3 %s .recover: %w", path, filepath.Base(path), err)
	case isCode(err, codes.SQLITE_BUSY):
		return fmt.Errorf("%s is locked by another program: end it and try again: %w", path, err)
	case isCode(err, codes.SQLITE_CANTOPEN), isCode(err, codes.SQLITE_READONLY), isCode(err, codes.SQLITE_PERM):
		return fmt.Errorf("%s cannot be opened for writing: check the rights of the file and its directory: %w", path, err)
	case isCode(err, codes.SQLITE_FULL):
		return fmt.Errorf("no space for %s: free some on its disk: %w", path, err)
	}
	return err
}

// Close takes no more work, commits what is queued, and closes the file. It
// blocks until done. Closing again waits for the same end and gives the same
// answer.
func (s *Store) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.stop)
	}
	s.mu.Unlock()
	<-s.finished
	return s.closeErr
}

// finish closes everything, on the writer's goroutine.
func (s *Store) finish(w *conn) {
	s.reading.Wait()
	// What is in the WAL is durable; emptying it is a courtesy to backups and
	// may fail.
	_ = w.once("PRAGMA wal_checkpoint(TRUNCATE)")
	err := errors.Join(s.closeReaders(), w.close(), s.lock.Close())
	if err != nil {
		s.closeErr = fmt.Errorf("store: close %s: %w", s.path, err)
	}
	close(s.finished)
}

func (s *Store) closeReaders() error {
	var errs []error
	for range s.nread {
		errs = append(errs, (<-s.readers).close())
	}
	return errors.Join(errs...)
}

// read runs fn on a reading connection of its own.
func (s *Store) read(ctx context.Context, fn func(*conn) error) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errClosed
	}
	s.reading.Add(1)
	s.mu.Unlock()
	defer s.reading.Done()
	select {
	case c := <-s.readers:
		defer func() { s.readers <- c }()
		return public(fn(c))
	case <-ctx.Done():
		return ctx.Err()
	}
}

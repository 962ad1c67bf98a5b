package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/wilco-iot/wilco/internal/store"
)

// maxRows bounds one transaction, and with it how long its first caller waits
// for the last one's rows.
const maxRows = 4096

// A task is what one caller wants written. apply may be called twice, the
// second time after the transaction of the first has been undone. What it
// refuses it returns as a refusal, before it has written anything; every other
// error ends the transaction.
type task interface {
	apply(*tx) error
	rows() int
}

// job is a task in the queue, and its answer.
type job struct {
	ctx  context.Context
	task task
	done chan struct{}
	err  error
	last int64 // ID of the last event written so far
}

// refusal is an answer to one caller that leaves the transaction alone.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// errSurprise asks for the transaction to be done again with care.
var errSurprise = errors.New("a row is not as expected")

// tx is the transaction that is being written.
type tx struct {
	*conn
	careful bool // compare first, write after
	events  []eventBlock
	next    int64 // ID of the next event
	ended   map[endKey]int64
	backlog *backlog
	listed  listed
}

// submit queues t and waits for its answer. When ctx ends first t may still be
// written.
func (s *Store) submit(ctx context.Context, t task) (last int64, err error) {
	j := &job{ctx: ctx, task: t, done: make(chan struct{})}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return 0, errClosed
	}
	s.queue = append(s.queue, j)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default: // it has been woken already
	}
	select {
	case <-j.done:
		return j.last, public(j.err)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// write is the writer goroutine. It ends when the store is closed and the queue
// is empty.
func (s *Store) write(w *conn) {
	defer s.finish(w)
	for {
		jobs, closed := s.take()
		if len(jobs) > 0 {
			s.transact(w, jobs)
			continue
		}
		if closed {
			return
		}
		select {
		case <-s.wake:
		case <-s.stop:
		}
	}
}

// take removes jobs of at most maxRows rows from the queue, one at least.
func (s *Store) take() (jobs []*job, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, rows := 0, 0
	for n < len(s.queue) {
		rows += s.queue[n].task.rows()
		if n > 0 && rows > maxRows {
			break
		}
		n++
	}
	jobs = s.queue[:n:n]
	s.queue = s.queue[n:]
	if len(s.queue) == 0 {
		s.queue = nil // let go of the answered ones
	}
	return jobs, s.closed
}

// transact writes the jobs in one transaction and answers all of them.
func (s *Store) transact(w *conn, jobs []*job) {
	start := time.Now()
	t := &tx{conn: w, backlog: &s.backlog}
	err := s.attempt(t, jobs)
	if errors.Is(err, errSurprise) {
		s.counters.repeats.Add(1)
		t.careful = true
		err = s.attempt(t, jobs)
	}
	rows, conflicts := 0, 0
	for _, j := range jobs {
		var conflict *store.ConflictError
		switch {
		case err != nil:
			j.err = err
		case errors.As(j.err, &conflict):
			conflicts++
		case j.err == nil:
			rows += j.task.rows()
		}
	}
	s.counters.wrote(len(jobs), rows, conflicts, err != nil, time.Since(start))
	if err == nil {
		s.backlog.settle(&t.listed)
	}
	if err == nil && len(t.events) > 0 {
		s.announce(t.next - 1)
	}
	for _, j := range jobs {
		close(j.done)
	}
}

// announce makes the committed events known.
func (s *Store) announce(last int64) {
	s.counters.events.Add(uint64(last - s.lastEvent.Load()))
	s.lastEvent.Store(last)
	s.mu.Lock()
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
}

// attempt tries to write the jobs in one transaction. When it fails nothing of
// them is there, and every job may be tried again.
func (s *Store) attempt(t *tx, jobs []*job) (err error) {
	t.events, t.next, t.ended, t.listed = t.events[:0], s.lastEvent.Load()+1, nil, listed{}
	if _, err := t.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_, _ = t.exec("ROLLBACK") // fails when SQLite has rolled back already; err says why
		}
	}()
	for _, j := range jobs {
		if j.err = j.ctx.Err(); j.err != nil {
			continue
		}
		err := j.task.apply(t)
		var no refusal
		if errors.As(err, &no) {
			j.err = no.error
		} else if err != nil {
			return err
		}
		j.last = t.next - 1
	}
	if err := t.moveListed(); err != nil {
		return err
	}
	if err := t.writeEnded(); err != nil {
		return err
	}
	if err := t.writeEvents(); err != nil {
		return err
	}
	start := time.Now()
	if _, err = t.exec("COMMIT"); err != nil {
		return err
	}
	s.counters.synced(time.Since(start))
	return nil
}

// change is a task of one row that is neither a batch nor often done. It must
// read before it writes.
type change func(*tx) error

func (f change) apply(t *tx) error { return f(t) }
func (f change) rows() int         { return 1 }

package order

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Defaults of [LaneOptions].
const (
	DefaultWorkers = 4
	DefaultQueue   = 1024
)

var (
	// ErrStopped says that Stop was called.
	ErrStopped = errors.New("lanes are stopped")
	// ErrFull says that there is no room now.
	ErrFull = errors.New("lanes are full")
	// ErrExited says that a handler left its goroutine with runtime.Goexit.
	ErrExited = errors.New("handler ended its goroutine")
)

// PanicError is what Ack gets for an item whose handler panicked.
type PanicError struct{ Value any }

// Error returns the value of the panic in words.
func (e *PanicError) Error() string { return fmt.Sprintf("handler panicked: %v", e.Value) }

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// LaneOptions are the settings of Lanes; only Handle must be set.
type LaneOptions[K comparable, T any] struct {
	// Handle does the work of one item, on one of the workers. Items of one key
	// are handled one after the other in the order of Submit, items of
	// different keys at the same time. ctx ends when the one given to Stop does.
	Handle func(ctx context.Context, key K, item T) error
	// Ack, if set, is called once for each item that was handled, in the order
	// of Submit over all keys, and not before all items up to it were handled:
	// the order that MQTT wants PUBACK and PUBREC in [MQTT-4.6.0-2]
	// [MQTT-4.6.0-3]. err is what Handle returned, a *PanicError, or
	// ErrExited. Calls do not overlap, and happen before Stop returns; while
	// one blocks, so does the worker that makes it. Ack must return.
	Ack func(key K, item T, err error)
	// OnPanic, if set, is called with the value of a handler's panic before the
	// item counts as handled, in the panicking goroutine: runtime/debug.Stack
	// shows where. Without OnPanic and Ack there is nobody to tell, and the
	// panic ends the program as panics do. A panic in Ack or OnPanic does too.
	OnPanic func(key K, item T, value any)

	Workers int // items handled at the same time, at most; default DefaultWorkers
	// Queue bounds the items that were submitted and are not done: not
	// acknowledged, if Ack is set, so that one slow item holds at most so many
	// behind it; not handled, if not. Default DefaultQueue.
	Queue int
}

// LaneStats are counts since the Lanes were made, and what they hold now.
type LaneStats struct {
	Submitted, Handled, Acked uint64
	Failed, Panicked          uint64 // of those handled; a panic is also a failure
	Keys                      int    // with work, or paused, now
}

// Lanes handles items on a fixed number of workers, in order per key, in
// parallel across keys. A key is known only while it has work or is paused:
// idle keys cost nothing, and no key has a goroutine. Safe for concurrent use.
//
//	Submit ─▶ lane of key A ▪▪▪ ─┐             ┌▶ worker ─┐
//	       ─▶ lane of key B ▪▪   ├─ ready ring ┼▶ worker ─┼▶ handled ─▶ Ack, in submit order
//	       ─▶ lane of key C ▪    ┘             └▶ worker ─┘
//
// A lane is in the ready ring, or with a worker, or paused, or has no work;
// one of these. The worker takes one item and puts the lane back at the end, so
// keys share the workers evenly.
type Lanes[K comparable, T any] struct {
	o    LaneOptions[K, T]
	free chan int32     // slots without an item: room
	stop chan struct{}  // closed by Stop
	done chan struct{}  // closed when the last worker is gone
	wg   sync.WaitGroup // workers

	cancel context.CancelFunc // of what handlers get

	mu       sync.Mutex
	work     sync.Cond // a lane is ready, or the end is near
	slots    []slot[K, T]
	lanes    map[K]*lane[K]
	spare    *lane[K] // lanes without a key, linked by next
	ready    *lane[K] // the last of the ring; its next is the first
	running  int
	stopping bool
	dropping bool // start nothing any more
	ended    bool // all workers are gone
	acks     ackQueue
	acking   bool         // a worker is at it
	batch    []slot[K, T] // of that worker
	stats    LaneStats
}

// slot holds an item from Submit until it is done.
type slot[K comparable, T any] struct {
	lane     *lane[K]
	key      K
	item     T
	err      error
	next     int32 // in its lane; -1 at the end
	handled  bool
	panicked bool
}

// lane is the work of one key.
type lane[K comparable] struct {
	key        K
	next       *lane[K]
	head, tail int32  // slots; head is -1 when there is no work
	queued     uint64 // items since the lane was made,
	begun      uint64 // those of them that a worker took,
	handled    uint64 // and those that it is done with
	running    bool
	paused     bool
	waiting    []waiter
}

// NewLanes starts the workers. It panics without Handle: that is a mistake in
// the program.
func NewLanes[K comparable, T any](o LaneOptions[K, T]) *Lanes[K, T] {
	if o.Handle == nil {
		panic("order: LaneOptions.Handle is not set")
	}
	if o.Workers <= 0 {
		o.Workers = DefaultWorkers
	}
	if o.Queue <= 0 {
		o.Queue = DefaultQueue
	}
	l := &Lanes[K, T]{
		o:     o,
		free:  make(chan int32, o.Queue),
		stop:  make(chan struct{}),
		done:  make(chan struct{}),
		slots: make([]slot[K, T], o.Queue),
		lanes: map[K]*lane[K]{},
	}
	l.work.L = &l.mu
	if o.Ack != nil {
		l.acks.ring = make([]int32, o.Queue)
	}
	for i := range o.Queue {
		l.free <- int32(i)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	for range o.Workers {
		l.wg.Go(func() { l.worker(ctx) })
	}
	return l
}

// Submit queues an item behind all others of its key. It blocks while Queue is
// used up, until ctx ends or Stop is called: then the item was not taken, and
// the error is the one of ctx, or ErrStopped. A handler that calls Submit can
// wait for room that only itself could make; it should use TrySubmit.
func (l *Lanes[K, T]) Submit(ctx context.Context, key K, item T) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("submitting: %w", err)
	}
	select {
	case i := <-l.free: // costs much less than the select with all cases
		return l.put(i, key, item)
	default:
	}
	select {
	case i := <-l.free:
		return l.put(i, key, item)
	case <-ctx.Done():
		return fmt.Errorf("submitting: %w", ctx.Err())
	case <-l.stop:
		return ErrStopped
	}
}

// TrySubmit is Submit without blocking: ErrFull when there is no room now.
func (l *Lanes[K, T]) TrySubmit(key K, item T) error {
	select {
	case i := <-l.free:
		return l.put(i, key, item)
	case <-l.stop:
		return ErrStopped
	default:
		return ErrFull
	}
}

func (l *Lanes[K, T]) put(i int32, key K, item T) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopping {
		l.free <- i
		return ErrStopped
	}
	ln := l.lane(key)
	l.slots[i] = slot[K, T]{lane: ln, key: key, item: item, next: -1}
	if ln.head < 0 {
		ln.head = i
	} else {
		l.slots[ln.tail].next = i
	}
	ln.tail = i
	ln.queued++
	l.stats.Submitted++
	if l.o.Ack != nil {
		l.acks.push(i)
	}
	if ln.head == i && !ln.running && !ln.paused {
		l.enqueue(ln)
		l.work.Signal()
	}
	return nil
}

// lane returns the lane of key, which is made when the key is idle.
func (l *Lanes[K, T]) lane(key K) *lane[K] {
	ln := l.lanes[key]
	if ln == nil {
		if ln = l.spare; ln != nil {
			l.spare = ln.next
			*ln = lane[K]{waiting: ln.waiting[:0]}
		} else {
			ln = new(lane[K])
		}
		ln.key, ln.head = key, -1
		l.lanes[key] = ln
	}
	return ln
}

// retire forgets a lane that has nothing to do. There are never more spare ones
// than there were keys at work at the same time, and so than slots and pauses.
func (l *Lanes[K, T]) retire(ln *lane[K]) {
	if ln.head >= 0 || ln.running || ln.paused {
		return
	}
	delete(l.lanes, ln.key)
	var none K
	ln.key = none
	ln.next, l.spare = l.spare, ln
}

// enqueue puts a lane at the end of the ready ring.
func (l *Lanes[K, T]) enqueue(ln *lane[K]) {
	if l.ready == nil {
		ln.next = ln
	} else {
		ln.next, l.ready.next = l.ready.next, ln
	}
	l.ready = ln
}

// dequeue takes the first lane out of the ready ring.
func (l *Lanes[K, T]) dequeue() *lane[K] {
	first := l.ready.next
	if first == l.ready {
		l.ready = nil
	} else {
		l.ready.next = first.next
	}
	first.next = nil
	return first
}

// unready takes a lane out of the middle of the ready ring.
func (l *Lanes[K, T]) unready(ln *lane[K]) {
	before := l.ready
	for before.next != ln {
		before = before.next
	}
	before.next = ln.next
	switch {
	case before == ln:
		l.ready = nil
	case l.ready == ln:
		l.ready = before
	}
	ln.next = nil
}

// Stats returns the counts.
func (l *Lanes[K, T]) Stats() LaneStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Keys = len(l.lanes)
	return s
}

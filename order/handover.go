package order

import (
	"context"
	"fmt"
	"slices"
)

// waiter is told when its lane has handled count items.
type waiter struct {
	count uint64
	done  chan error // has room for one
}

// Drain waits until every item of key that was submitted before the call is
// handled; nil at once when there is none. To hand a key over to somebody else:
// stop submitting its items, Drain, hand over. Errors: of ctx; ErrStopped when
// the items will not be handled any more. While the key is paused, Drain waits
// for Resume.
func (l *Lanes[K, T]) Drain(ctx context.Context, key K) error {
	l.mu.Lock()
	ln := l.lanes[key]
	if ln == nil {
		l.mu.Unlock()
		return nil
	}
	return l.wait(ctx, ln, ln.queued)
}

// Pause starts no item of key until Resume, and waits for the one that is being
// handled, if any; called by that one's handler, it would wait for itself. When
// ctx ends before, the error is the one of ctx, and the key is paused all the
// same. What is queued, and is submitted meanwhile, stays queued and uses up
// Queue, also for others. A paused key is remembered until Resume. Pausing
// twice is pausing.
func (l *Lanes[K, T]) Pause(ctx context.Context, key K) error {
	l.mu.Lock()
	ln := l.lane(key)
	if !ln.paused {
		ln.paused = true
		if ln.head >= 0 && !ln.running {
			l.unready(ln)
		}
	}
	return l.wait(ctx, ln, ln.begun)
}

// Resume ends Pause; false if key is not paused. After Stop, nothing of the key
// is started any more.
func (l *Lanes[K, T]) Resume(key K) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.lanes[key]
	if ln == nil || !ln.paused {
		return false
	}
	if l.stopping {
		return true // what it holds is abandoned already
	}
	ln.paused = false
	if ln.head >= 0 && !ln.running {
		l.enqueue(ln)
		l.work.Signal()
	} else {
		l.retire(ln)
	}
	return true
}

// wait is called with mu locked, and unlocks it. It returns when the lane has
// handled count items.
func (l *Lanes[K, T]) wait(ctx context.Context, ln *lane[K], count uint64) error {
	if ln.handled >= count {
		l.mu.Unlock()
		return nil
	}
	if l.ended {
		l.mu.Unlock()
		return ErrStopped
	}
	w := waiter{count, make(chan error, 1)}
	ln.waiting = append(ln.waiting, w)
	l.mu.Unlock()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
	}
	// The lane may belong to another key by now; then w is not in it.
	l.mu.Lock()
	defer l.mu.Unlock()
	ln.waiting = slices.DeleteFunc(ln.waiting, func(o waiter) bool { return o.done == w.done })
	return fmt.Errorf("waiting for a key: %w", ctx.Err())
}

// release tells those whose count is reached.
func (ln *lane[K]) release() {
	if len(ln.waiting) == 0 {
		return
	}
	ln.waiting = slices.DeleteFunc(ln.waiting, func(w waiter) bool {
		if w.count > ln.handled {
			return false
		}
		w.done <- nil
		return true
	})
}

// Stop takes no more items, waits until those that were taken are handled and
// acknowledged, and ends the workers. Items of paused keys are abandoned:
// neither handled nor acknowledged, so that a broker delivers them again.
//
// When ctx ends before, the ctx of the handlers ends, no item is started any
// more, and Stop returns the error of ctx without waiting for handlers that do
// not listen. Stop can be called again, also at the same time, to wait for
// those. After nil, nothing runs. A handler that calls Stop waits for itself.
func (l *Lanes[K, T]) Stop(ctx context.Context) error {
	l.mu.Lock()
	if !l.stopping {
		l.stopping = true
		close(l.stop)
		l.work.Broadcast()
		go l.end() // ends after the workers, which Stop waits for
	}
	l.mu.Unlock()
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	l.dropping = true
	l.work.Broadcast()
	l.mu.Unlock()
	l.cancel()
	return fmt.Errorf("stopping lanes: %w", ctx.Err())
}

// end waits for the workers, and tells those who wait for what will not be.
func (l *Lanes[K, T]) end() {
	l.wg.Wait()
	l.cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for _, ln := range l.lanes {
		for _, w := range ln.waiting {
			w.done <- ErrStopped
		}
		ln.waiting = nil
	}
	close(l.done)
}

package order

import "context"

// ackBatch bounds how many acknowledgements go out between two looks at the
// lock, and so how long their slots stay taken.
const ackBatch = 64

// ackQueue holds the slots in submit order until they are acknowledged. Each
// entry has a slot of its own, so a ring of as many entries as slots never
// overflows.
type ackQueue struct {
	ring       []int32
	head, tail uint64
}

func (q *ackQueue) push(i int32) {
	q.ring[q.tail%uint64(len(q.ring))] = i
	q.tail++
}

func (q *ackQueue) empty() bool  { return q.head == q.tail }
func (q *ackQueue) first() int32 { return q.ring[q.head%uint64(len(q.ring))] }

// worker handles one item after the other until there will be none.
func (l *Lanes[K, T]) worker(ctx context.Context) {
	leaving := false
	defer func() {
		if !leaving { // a handler called runtime.Goexit; another worker takes this one's place
			l.wg.Go(func() { l.worker(ctx) })
		}
	}()
	for {
		i, ok := l.take()
		if !ok {
			leaving = true
			return
		}
		l.handle(ctx, i)
	}
}

// take waits for an item that can be handled now; false when none will come.
func (l *Lanes[K, T]) take() (int32, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.ready == nil || l.dropping {
		// What remains then belongs to paused keys, or must not be started.
		if l.stopping && (l.running == 0 || l.dropping) {
			return 0, false
		}
		l.work.Wait()
	}
	ln := l.dequeue()
	i := ln.head
	ln.head = l.slots[i].next
	ln.begun++
	ln.running = true
	l.running++
	return i, true
}

// handle does the work of slot i, which is this worker's alone until finish.
func (l *Lanes[K, T]) handle(ctx context.Context, i int32) {
	s := &l.slots[i]
	s.err = ErrExited // stays if the handler neither returns nor panics
	defer l.finish(i)
	defer l.contain(s)
	s.err = l.o.Handle(ctx, s.key, s.item)
}

// contain is deferred: it keeps the panic of a handler to its item. It leaves
// the panic alone when there is nobody who would hear of it.
func (l *Lanes[K, T]) contain(s *slot[K, T]) {
	if l.o.OnPanic == nil && l.o.Ack == nil {
		return
	}
	v := recover()
	if v == nil {
		return
	}
	s.err, s.panicked = &PanicError{v}, true
	if l.o.OnPanic != nil {
		l.o.OnPanic(s.key, s.item, v)
	}
}

// finish marks slot i as handled, and does what that makes possible. It wakes
// nobody for the lane's next item: this worker comes back for it.
func (l *Lanes[K, T]) finish(i int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.slots[i]
	ln := s.lane
	s.handled, s.lane = true, nil
	l.count(s)
	l.running--
	ln.running = false
	ln.handled++
	ln.release()
	if ln.head >= 0 && !ln.paused {
		l.enqueue(ln)
	} else {
		l.retire(ln)
	}
	if l.stopping {
		l.work.Broadcast() // who waits in take looks whether this was the last one
	}
	if l.o.Ack == nil {
		l.vacate(i)
		return
	}
	l.acknowledge()
}

func (l *Lanes[K, T]) count(s *slot[K, T]) {
	l.stats.Handled++
	if s.err != nil {
		l.stats.Failed++
	}
	if s.panicked {
		l.stats.Panicked++
	}
}

// vacate makes room. It never blocks: free has room for every slot.
func (l *Lanes[K, T]) vacate(i int32) {
	l.slots[i] = slot[K, T]{}
	l.free <- i
}

// acknowledge calls Ack for what is handled with nothing unhandled before it.
// mu is free during the calls, and only one worker at a time makes them: what
// others finish meanwhile is left to it.
func (l *Lanes[K, T]) acknowledge() {
	if l.acking {
		return
	}
	l.acking = true
	for {
		first := l.acks.head
		for len(l.batch) < ackBatch && !l.acks.empty() && l.slots[l.acks.first()].handled {
			l.batch = append(l.batch, l.slots[l.acks.first()])
			l.acks.head++
		}
		if len(l.batch) == 0 {
			break
		}
		if l.ready != nil {
			l.work.Signal() // Ack may block, and then this worker does not come back soon
		}
		l.callAck()
		l.stats.Acked += uint64(len(l.batch))
		for k := range l.batch {
			l.vacate(l.acks.ring[(first+uint64(k))%uint64(len(l.acks.ring))])
		}
		clear(l.batch)
		l.batch = l.batch[:0]
	}
	l.acking = false
}

// callAck has mu unlocked while it works, and locked again however it ends, so
// that a panic in Ack is what the program dies of.
func (l *Lanes[K, T]) callAck() {
	l.mu.Unlock()
	defer l.mu.Lock()
	for k := range l.batch {
		b := &l.batch[k]
		l.o.Ack(b.key, b.item, b.err)
	}
}

package broker

import (
	"sync/atomic"
	"time"
)

// telling is what the log was told of one thing that happens. What clients can
// cause at will must not fill the disk: there is one line a second, and each says
// how many it stands for, so that none is left out in silence.
type telling struct {
	total atomic.Uint64 // how often it has happened
	told  atomic.Uint64 // those that a line has told of
	at    atomic.Int64  // when the last line was written, since Broker.epoch; 0: never
	due   atomic.Bool   // a timer tells of the rest
}

// happened counts n more and says whether a line is due: now, or soon, by in.
func (b *Broker) happened(l *telling, n uint64) (now, soon bool) {
	l.total.Add(n)
	at, last := int64(time.Since(b.epoch))|1, l.at.Load() // never 0
	if (last == 0 || at-last >= int64(time.Second)) && l.at.CompareAndSwap(last, at) {
		return true, false
	}
	return false, l.due.CompareAndSwap(false, true)
}

// in calls tell when the next line may be written.
func (b *Broker) in(l *telling, tell func()) {
	time.AfterFunc(time.Second, func() {
		l.due.Store(false)
		l.at.Store(int64(time.Since(b.epoch)))
		tell()
	})
}

// untold is how many no line has told of until now, and how many there are in all.
func (l *telling) untold() (n, total uint64) {
	total = l.total.Load()
	if told := l.told.Swap(total); total > told {
		return total - told, total
	}
	return 0, total
}

package broker

import (
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
)

// dropLog is what the log was told of one reason for drops. What clients can
// cause at will must not fill the disk: there is one line a second, and each says
// how many it stands for, so that none is left out in silence.
type dropLog struct {
	total atomic.Uint64 // drops
	told  atomic.Uint64 // those that a line has told of
	at    atomic.Int64  // when the last line was written, since Broker.epoch; 0: never
	due   atomic.Bool   // a timer tells of the rest
}

// drops counts what was dropped and tells of it. It is called outside locks.
func (b *Broker) drops(client string, list []session.Drop) {
	for _, d := range list {
		b.drop(Drop{Reason: d.Reason, ClientID: client, Topic: d.Topic, QoS: d.QoS, Count: d.Count})
	}
}

func (b *Broker) drop(d Drop) {
	l := &b.count.dropped[d.Reason]
	l.total.Add(uint64(d.Count))
	now, last := int64(time.Since(b.epoch)), l.at.Load()
	switch {
	case (last == 0 || now-last >= int64(time.Second)) && l.at.CompareAndSwap(last, now):
		b.tellDrops(d.Reason, "client", d.ClientID, "topic", d.Topic)
	case l.due.CompareAndSwap(false, true):
		time.AfterFunc(time.Second, func() {
			l.due.Store(false)
			l.at.Store(int64(time.Since(b.epoch)))
			b.tellDrops(d.Reason)
		})
	}
	if b.options.Events.Dropped != nil {
		b.options.Events.Dropped(d)
	}
}

// tellDrops writes the line about what was dropped since the last one.
func (b *Broker) tellDrops(r session.DropReason, more ...any) {
	l := &b.count.dropped[r]
	total := l.total.Load()
	told := l.told.Swap(total)
	if total > told {
		b.log.Warn("messages dropped", append([]any{"reason", r.String(), "count", total - told, "total", total}, more...)...)
	}
}

// tellAllDrops writes what is left to be told when the broker stops.
func (b *Broker) tellAllDrops() {
	for r := range session.DropReasons {
		b.tellDrops(r)
	}
}

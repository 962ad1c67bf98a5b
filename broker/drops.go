package broker

import "github.com/wilco-iot/wilco/broker/session"

// drops counts what was dropped and tells of it. It is called outside locks.
func (b *Broker) drops(client string, list []session.Drop) {
	for _, d := range list {
		b.drop(Drop{Reason: d.Reason, ClientID: client, Topic: d.Topic, QoS: d.QoS, Count: d.Count})
	}
}

func (b *Broker) drop(d Drop) {
	l := &b.count.dropped[d.Reason]
	switch now, soon := b.happened(l, uint64(d.Count)); {
	case now:
		b.tellDrops(d.Reason, "client", d.ClientID, "topic", d.Topic)
	case soon:
		b.in(l, func() { b.tellDrops(d.Reason) })
	}
	if b.options.Events.Dropped != nil {
		b.options.Events.Dropped(d)
	}
}

// tellDrops writes the line about what was dropped since the last one.
func (b *Broker) tellDrops(r session.DropReason, more ...any) {
	if n, total := b.count.dropped[r].untold(); n > 0 {
		b.log.Warn("messages dropped", append([]any{"reason", r.String(), "count", n, "total", total}, more...)...)
	}
}

// tellRest writes what is left to be told when the broker stops.
func (b *Broker) tellRest() {
	for r := range session.DropReasons {
		b.tellDrops(r)
	}
	b.tellRefused()
}

package broker

import (
	"net"
	"sync/atomic"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
)

// ConnInfo names a connection in events.
type ConnInfo struct {
	ClientID string
	Identity string // Identity.Name
	Remote   net.Addr
	Listener string // empty for in-process connections
	Version  mqtt.Version
}

// Drop tells of messages that will not be delivered.
type Drop struct {
	Reason   session.DropReason
	ClientID string // who should have got it, a client or the filter of a share, or, for denied_publish, who sent it
	Topic    string
	QoS      mqtt.QoS
	Count    int // more than one when they went together; Topic is then empty
}

// Events tells the embedding program what happens. Each func is optional. They
// are called outside the broker's locks, by the goroutine it happened on, and
// so hold up that one client when they block; events of different clients come
// concurrently.
type Events struct {
	Connected    func(c ConnInfo, sessionPresent bool)
	Disconnected func(c ConnInfo, code mqtt.ReasonCode, err error)
	// Refused tells of a CONNECT that was not accepted.
	Refused func(c ConnInfo, code mqtt.ReasonCode, err error)
	// Dropped tells of each drop. The counters of Stats hold the same by reason.
	Dropped func(Drop)
	// SessionEnded tells that a session and its queue are gone.
	SessionEnded func(clientID string)
	// StoreFailed tells that the store could not keep something; what it
	// belonged to was not acknowledged. It is called by a goroutine of its own, and
	// no more once the broker stops.
	StoreFailed func(error)
}

// Stats is a snapshot of the counters. All counters rise only; Connections,
// Sessions, Subscriptions, Retained and RetainedBytes are levels.
type Stats struct {
	Connections, Sessions, Subscriptions int
	Retained, RetainedBytes              int
	Accepted, Refused                    uint64 // connections
	PacketsIn, BytesIn, BytesOut         uint64
	PacketsOut                           uint64 // but for CONNACKs that refuse, and PUBRELs that are sent again
	PublishIn, PublishOut                uint64
	StoreFailures                        uint64
	RetainedRefused                      uint64 // by Options.RefuseRetained
	Dropped                              map[session.DropReason]uint64
}

// counters are the atomics behind Stats.
type counters struct {
	connections             atomic.Int64
	accepted                atomic.Uint64
	refused                 telling       // with an answer, or owed one
	silent                  atomic.Uint64 // refused before they asked for anything
	packetsIn, packetsOut   atomic.Uint64
	bytesIn, bytesOut       atomic.Uint64
	publishIn, publishOut   atomic.Uint64
	storeFailures, retained atomic.Uint64
	waiting                 waiting
	dropped                 [session.DropReasons]telling
}

// Stats returns the counters as they are now. It is safe for concurrent use.
func (b *Broker) Stats() Stats {
	c := &b.count
	s := Stats{
		Connections: int(c.connections.Load()),
		Accepted:    c.accepted.Load(), Refused: c.refused.total.Load() + c.silent.Load(),
		PacketsIn: c.packetsIn.Load(), PacketsOut: c.packetsOut.Load(), BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
		PublishIn: c.publishIn.Load(), PublishOut: c.publishOut.Load(),
		StoreFailures: c.storeFailures.Load(), RetainedRefused: c.retained.Load(),
		Dropped: make(map[session.DropReason]uint64, session.DropReasons),
	}
	for r := range c.dropped {
		s.Dropped[session.DropReason(r)] = c.dropped[r].total.Load()
	}
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	s.Sessions = len(b.hub.clients)
	s.Subscriptions = b.hub.index.size
	s.Retained, s.RetainedBytes = b.hub.retained.count, b.hub.retained.bytes
	return s
}

package host

import (
	"slices"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/sparkplug/session"
)

// Status is whether an edge node is there.
type Status uint8

// The statuses.
const (
	Unborn  Status = iota // messages of it were seen, and no NBIRTH
	Online                // its values are good
	Unsure                // its values are stale, and a rebirth is wanted
	Offline               // it is dead
)

var statusNames = [...]string{"unborn", "online", "unsure", "offline"}

// String returns the status in a word.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "?"
}

// Node is what is known of an edge node, without its metrics.
type Node struct {
	ID      NodeID
	Status  Status
	Server  string // of its last NBIRTH; empty before the first one
	Since   time.Time
	Born    time.Time // when its last NBIRTH was received
	HasTime bool
	Time    uint64 // of that NBIRTH, by the node's clock, in milliseconds
	Births  uint64
	BdSeq   int            // -1 when it has none
	Devices int            // that are known
	Reason  session.Reason // why it is not online
	Asked   int            // rebirths asked for
	// Rebirths is Asked by reason, those that there were; Kind is RebirthWanted.
	Rebirths []Count
	// Quarantine is until when it is not asked for rebirths, because two nodes seem
	// to have its name; zero when that never was.
	Quarantine time.Time
	// Since the node is known: holes that were not filled in time, messages that
	// were missing in them at least, messages left out as repeated or too old, and
	// messages that came before their turn and were put in order.
	Gaps, Missing, Late, Reordered uint64
}

// Skew is how far the node's clock was ahead of ours at its last NBIRTH, the time
// of travel included; 0 when it told no time.
func (n *Node) Skew() time.Duration {
	if !n.HasTime || n.Born.IsZero() {
		return 0
	}
	const most = int64(1<<63-1) / int64(time.Millisecond)
	// As floats, because a clock in microseconds overflows a Duration.
	ms := float64(n.Time) - float64(n.Born.UnixMilli())
	return time.Duration(int64(max(-float64(most), min(float64(most), ms)))) * time.Millisecond
}

// Device is a device behind an edge node, or its own metrics where Device is "".
type Device struct {
	Device  string
	Online  bool      // born and not dead, as far as is known: see Node.Status
	Since   time.Time // online or offline, by the clock of the host or of its DDEATH
	Metrics []Metric
}

// entry is an edge node over all servers. The goroutine of its shard changes it,
// under the shard's lock.
type entry struct {
	id      NodeID
	at      []*sess
	info    Node
	current *sess // that of the last NBIRTH
	own     *unit
	devices map[string]*unit
	turn    uint64
}

// sess is the session of an edge node at one server.
type sess struct {
	entry    *entry
	link     *link
	node     *session.Node
	deadline time.Time
	place    int // in the shard's queue; -1 when not in it
	heldLast int // bytes, as last counted
}

// took keeps what an event says. It returns whether the event is about the
// server that counts.
func (e *entry) took(s *sess, ev *session.Event, b *budget) bool {
	if ev.Kind == session.NodeBirth {
		e.born(s, ev, b)
		return true
	}
	if e.current != s {
		if e.current == nil && ev.Kind == session.NodeDeath {
			e.info.Status, e.info.Since = Offline, ev.At
		}
		// Case 65: what comes by way of a server that the node has left.
		return e.current == nil
	}
	if ev.Held && (ev.Kind == session.Data || ev.Kind == session.DeviceBirth || ev.Kind == session.DeviceDeath) {
		e.info.Reordered++
	}
	switch ev.Kind {
	case session.NodeDeath:
		// [tck-id-operational-behavior-edge-node-termination-host-action-ndeath-node-offline]
		// [tck-id-operational-behavior-edge-node-termination-host-action-ndeath-devices-offline]
		e.info.Status, e.info.Since, e.info.Reason = Offline, ev.At, session.NoReason
		e.doubt()
		for _, u := range e.devices {
			if u.online {
				u.online, u.since = false, ev.At
			}
		}
	case session.Gap:
		e.info.Gaps++
		e.info.Missing += uint64(max(ev.Missing, 0))
	case session.Late:
		e.info.Late++
	case session.Stale:
		e.info.Status, e.info.Since, e.info.Reason = Unsure, ev.At, ev.Reason
		e.doubt()
	case session.DeviceBirth:
		u := e.devices[ev.Device]
		if u == nil {
			u = &unit{}
			e.devices[strings.Clone(ev.Device)] = u
		}
		u.fill(ev, b)
	case session.DeviceDeath:
		if u := e.devices[ev.Device]; u != nil {
			// [tck-id-operational-behavior-edge-node-termination-host-action-ddeath-devices-offline]
			u.online, u.stale, u.since = false, true, ev.At
			if ev.HasTimestamp {
				u.since = time.UnixMilli(int64(min(ev.Timestamp, 1<<53)))
			}
		}
	case session.Data:
		u := e.own
		if ev.Device != "" {
			u = e.devices[ev.Device]
		}
		if u != nil && u.def == ev.Unit {
			e.turn++
			u.set(ev, e.turn, b)
		}
	}
	return true
}

// born begins a session. Devices are unknown until their DBIRTH: those that were
// not born in the session before, either, are forgotten.
func (e *entry) born(s *sess, ev *session.Event, b *budget) {
	e.current = s
	bdSeq := -1
	if n, ok := s.node.BdSeq(); ok {
		bdSeq = int(n)
	}
	was := e.info
	e.info = Node{
		ID: e.id, Status: Online, Server: s.link.name, Since: ev.At, Born: ev.At, HasTime: ev.HasTimestamp, Time: ev.Timestamp,
		Births: was.Births + 1, BdSeq: bdSeq, Asked: was.Asked, Rebirths: was.Rebirths, Quarantine: was.Quarantine,
		Gaps: was.Gaps, Missing: was.Missing, Late: was.Late, Reordered: was.Reordered,
	}
	if e.own == nil {
		e.own = &unit{}
	}
	e.own.fill(ev, b)
	for name, u := range e.devices {
		if !u.online {
			u.drop(b)
			delete(e.devices, name)
			continue
		}
		u.online, u.stale, u.since = false, true, ev.At
	}
	if e.devices == nil {
		e.devices = map[string]*unit{}
	}
}

// doubt makes all values stale
// [tck-id-operational-behavior-edge-node-termination-host-action-ndeath-node-tags-stale]
// [tck-id-operational-behavior-edge-node-termination-host-action-ndeath-devices-tags-stale].
func (e *entry) doubt() {
	if e.own != nil {
		e.own.stale, e.own.online = true, false
	}
	for _, u := range e.devices {
		u.stale = true
	}
}

func (e *entry) node() Node {
	n := e.info
	n.ID, n.Devices, n.Rebirths = e.id, len(e.devices), slices.Clone(n.Rebirths)
	return n
}

// units is a copy of all metrics for readers: the node's own first, then devices
// by name.
func (e *entry) units() []Device {
	if e.own == nil {
		return nil
	}
	list := make([]Device, 1, 1+len(e.devices))
	list[0] = Device{Online: e.info.Status == Online, Since: e.info.Since, Metrics: e.own.metrics()}
	for name, u := range e.devices {
		list = append(list, Device{Device: name, Online: u.online, Since: u.since, Metrics: u.metrics()})
	}
	slices.SortFunc(list, func(a, b Device) int { return strings.Compare(a.Device, b.Device) })
	return list
}

// asked counts a rebirth that was asked for.
func (e *entry) asked(r session.Reason) {
	e.info.Asked++
	for i := range e.info.Rebirths {
		if e.info.Rebirths[i].Reason == r {
			e.info.Rebirths[i].N++
			return
		}
	}
	e.info.Rebirths = append(e.info.Rebirths, Count{session.RebirthWanted, r, 1})
}

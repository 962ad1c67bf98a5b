package uplink

import (
	"math/bits"
	"slices"
	"sync"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
)

// Count is how many messages of a lane have not gone up for a reason: one of the
// broker's drop reasons, "aggregated", or "refused" by the server above.
type Count struct {
	Lane, Reason string
	N            uint64
}

// counts are those since the start.
type counts struct {
	mu sync.Mutex
	by map[Count]uint64 // N is 0
}

// add says how many there are now, and whether that is to be told: ever more seldom, as
// all that waits may be of the same kind.
func (c *counts) add(lane, reason string, n uint64) (all uint64, tell bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[Count]uint64{}
	}
	key := Count{Lane: lane, Reason: reason}
	c.by[key] += n
	all = c.by[key]
	return all, bits.Len64(all) > bits.Len64(all-n)
}

// lost counts messages of a lane that do not go up, and tells of them.
func (u *Uplink) lost(lane, reason string, n uint64) {
	if all, tell := u.count.add(lane, reason, n); tell {
		u.log.Warn("messages on their way up are lost", "filter", lane, "reason", reason, "so far", all)
	}
}

// Counts are what has not gone up since the start, in no order.
func (u *Uplink) Counts() (list []Count) {
	u.count.mu.Lock()
	defer u.count.mu.Unlock()
	for key, n := range u.count.by {
		key.N = n
		list = append(list, key)
	}
	return list
}

// Lanes calls f for each lane with its name, the client identifier of its session, and
// how many topics of it wait beside what waits there.
func (u *Uplink) Lanes(f func(name, client string, topics int)) {
	for _, l := range u.lanes {
		n := 0
		if l.latest != nil {
			l.latest.mu.Lock()
			n = len(l.latest.topic)
			l.latest.mu.Unlock()
		}
		f(l.Name, l.Client, n)
	}
}

// known is a reason that may be a label: a publisher can write any into a property of
// the gap note's name.
func known(reason string) string {
	for r := range session.DropReasons {
		if r.String() == reason {
			return reason
		}
	}
	if reason == aggregated {
		return reason
	}
	return "other"
}

// nameOf is the name of the lane of a topic.
func (u *Uplink) nameOf(topic string) string {
	for _, l := range u.lanes {
		if slices.ContainsFunc(l.Subscriptions, func(s mqtt.Subscription) bool { return mqtt.Match(s.Filter, topic) }) {
			return l.Name
		}
	}
	return "other"
}

package broker

import (
	"sync"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
)

// client is one session and what the broker needs around it. It exists from
// the first CONNECT until the session ends; a connection comes and goes.
//
// Locks: the hub's mutex before mu, never the other way.
type client struct {
	id string

	// guarded by the hub's mutex
	owner         string
	tenant        string // whose shares it joins
	subscriptions []store.Subscription
	mark          uint64 // see index.serial
	slot          int
	kept          bool // the store has a record of it
	ended         bool
	timer         *time.Timer       // for Due, while there is no connection
	detachedAt    time.Time         // when it lost its connection
	window        int               // see session.Session.Window
	lent          map[uint64]*entry // messages of shares that it has, by their numbers here
	ready         []claim           // lanes that wait for its window, in order
	claimed       uint64            // the last number of a claim
	tidy          int               // ready is looked through when it has so many
	hash          uint64            // of id, when it is in a share

	mu   sync.Mutex
	core *session.Session
	// counted is what counters.waiting has of core.
	counted held
	// Writing these two takes the hub's mutex too, so holding either is enough
	// to read them.
	identity Identity // nil after a restart, until somebody connects
	conn     *conn    // nil while there is none
	// pending counts the turns, of this connection or earlier ones, that the
	// store is not done with: no answer may leave before those.
	pending int
}

// wake makes the writer of the client's connection look again. c.mu is held.
// It returns the connection whose writer the caller has to start, if any.
func (c *client) wake() *conn {
	if c.conn == nil {
		return nil
	}
	c.conn.wakes++
	c.conn.starved = false
	if c.conn.writing || c.conn.hold > 0 && len(c.conn.ctl) == 0 {
		return nil
	}
	c.conn.writing = true
	return c.conn
}

// rouse is wake, for who holds no lock and starts the writer itself.
func (c *client) rouse() {
	c.mu.Lock()
	w := c.wake()
	c.mu.Unlock()
	if w != nil {
		w.startWriter()
	}
}

// subscription returns the client's subscription to a filter, or nil.
func (c *client) subscription(filter string) *store.Subscription {
	for i := range c.subscriptions {
		if c.subscriptions[i].Filter == filter {
			return &c.subscriptions[i]
		}
	}
	return nil
}

// record is what the store keeps of c. at is when it lost its connection, zero
// while it has one. c.mu is held.
func (c *client) record(at time.Time) *store.Record {
	return &store.Record{
		ClientID: c.id, Owner: c.owner, ExpirySeconds: c.core.ExpirySeconds(),
		Overflow: c.core.Overflow(), Will: c.core.Will(), DetachedAt: at,
	}
}

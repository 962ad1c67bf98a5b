package node

import (
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
)

const (
	// debounce is the least time between two NBIRTHs of one connection: requests
	// of several hosts that come together are answered by one.
	debounce = time.Second
	// patience is how long to wait for the primary host to be seen at one of
	// several servers before the next one is tried.
	patience = 10 * time.Second
	// batch is how many samples go into one message at most.
	batch = 500
	// overhead is what MQTT adds to topic and payload of a PUBLISH at QoS 1.
	overhead = 1 + 4 + 2 + 2 + 1
)

// Config says what the node is.
type Config struct {
	Group, Node string
	PrimaryHost string // births wait for its STATE; empty: for nobody
	Legacy      bool   // STATE in the words of Sparkplug 2.2 counts, too
	Servers     int    // how many servers there are to go to
	Aliases     bool   // metrics go by number after their birth
	Echo        bool   // Wrote tells a value also when it is the one already there
	History     int    // samples that wait, of all streams together; at least 1
}

// State is where the connection of a node stands.
type State uint8

// The states.
const (
	Offline    State = iota // no connection
	Connecting              // CONNECT is about to go, or on its way
	Waiting                 // connected; the primary host is not known to be online
	Birthing                // births are going out, and nothing else
	Online                  // all are born: DATA may go
	Ending                  // NDEATH is due or out; the connection is to be ended
)

// String is the state in a word.
func (s State) String() string {
	return [...]string{"offline", "connecting", "waiting", "birthing", "online", "ending"}[s]
}

// Core is an edge node. Make it with New.
type Core struct {
	cfg   Config
	state State

	bdSeq     uint8
	connected uint64    // milliseconds of the CONNECT, which its NDEATHs have
	limit     int       // of a PUBLISH in bytes; 0: none
	seq       uint8     // of the next message
	host      hostState // what was last accepted from the primary host

	node    *stream
	devices map[string]*stream
	order   []*stream // devices as they were added, and ghosts
	block   []*stream // what is still to be born while Birthing
	turns   []*stream // streams that may have something to send, first come first served
	flight  []draft   // taken by publish, not known to be written

	alias   uint64 // the last one given
	samples uint64 // numbers the samples of all streams
	waiting int    // samples in all queues

	unkept  []unkept // that Records has to look at
	records []Record // of samples that wait no longer

	bornAt    time.Time // when the last NBIRTH went
	rebirthAt time.Time // zero: nobody has asked
	waitUntil time.Time // zero: for ever

	farewell bool   // an NDEATH is due
	reason   Reason // why the connection is to be ended
	actions  []Action
	stats    Stats
}

// Stats count since New.
type Stats struct {
	Births     uint64 // NBIRTHs
	Messages   uint64 // taken by publish, births and deaths included
	Samples    uint64 // told in DATA
	Suppressed uint64 // samples that changed nothing
	Dropped    uint64 // samples that waited and had to make room, or are too large for the server
	Writes     uint64 // handed out
	Refused    uint64 // metrics of commands that were not
	Waiting    int    // samples now waiting
}

// New makes a node that is offline. The errors are about names, datatypes and
// values that cannot be in an NBIRTH.
func New(cfg Config, metrics []Metric) (*Core, error) {
	t := sparkplug.Topic{Type: sparkplug.NBirth, Group: cfg.Group, Node: cfg.Node}
	if err := t.Check(); err != nil {
		return nil, err
	}
	if cfg.PrimaryHost != "" {
		if err := sparkplug.ValidID(cfg.PrimaryHost); err != nil {
			return nil, err
		}
	}
	c := &Core{cfg: cfg, devices: map[string]*stream{}}
	var err error
	if c.node, err = c.stream("", metrics); err != nil {
		return nil, err
	}
	c.node.up = true
	return c, nil
}

// State tells where the connection stands.
func (c *Core) State() State { return c.state }

// Stats are the counters.
func (c *Core) Stats() Stats {
	s := c.stats
	s.Waiting = c.waiting
	return s
}

// Connecting says that a CONNECT is about to be sent, and gives its Will. bdSeq
// is the number of this CONNECT, already kept where a crash does not lose it.
//
// [tck-id-payloads-ndeath-will-message] [tck-id-message-flow-edge-node-birth-publish-will-message]
// [tck-id-payloads-ndeath-bdseq] [tck-id-topics-nbirth-bdseq-matching]
func (c *Core) Connecting(bdSeq uint8, now time.Time) sparkplug.Message {
	if c.state != Offline && c.state != Connecting {
		c.Disconnected()
	}
	c.state, c.bdSeq, c.connected = Connecting, bdSeq, millis(now)
	c.host = hostState{} // the first STATE of a connection always counts
	return c.death()
}

// Connected says that the server has taken the node and its subscriptions.
// limit is the server's Maximum Packet Size, 0 for none.
//
// [tck-id-message-flow-edge-node-birth-publish-connect]
func (c *Core) Connected(limit int, now time.Time) {
	if c.state != Connecting {
		return
	}
	c.limit = limit
	if c.cfg.PrimaryHost == "" {
		c.birth()
		return
	}
	c.state = Waiting // [tck-id-operational-behavior-edge-node-birth-sequence-wait]
	if c.cfg.Servers > 1 {
		c.waitUntil = now.Add(patience)
	}
	c.heed()
}

// Disconnected says that the connection has ended, however it did, and that no
// more results of its messages will come. What was not written waits again.
func (c *Core) Disconnected() {
	c.state, c.farewell, c.limit = Offline, false, 0
	c.rebirthAt, c.waitUntil, c.bornAt = time.Time{}, time.Time{}, time.Time{}
	c.unbear()
	c.restore()
	c.makeRoom()
}

// Leave ends the connection in good order: with an NDEATH if there was an
// NBIRTH, and then the action Disconnect. Offline it does nothing.
func (c *Core) Leave(why Reason) {
	if c.state == Offline || c.state == Ending {
		return
	}
	c.farewell = c.node.born
	c.state, c.reason = Ending, why
	c.rebirthAt, c.waitUntil = time.Time{}, time.Time{}
	if !c.farewell {
		// The first PUBLISH of a connection is a birth, so there is none
		// [tck-id-principles-birth-certificates-order].
		c.act(Action{Kind: Disconnect, Reason: why})
	}
}

// Due is when Tick has something to do, false for never.
func (c *Core) Due() (time.Time, bool) {
	switch c.state {
	case Waiting:
		return c.waitUntil, !c.waitUntil.IsZero()
	case Online:
		return c.rebirthAt, !c.rebirthAt.IsZero()
	}
	return time.Time{}, false
}

// Tick lets time pass.
func (c *Core) Tick(now time.Time) {
	at, ok := c.Due()
	if !ok || now.Before(at) {
		return
	}
	if c.state == Waiting {
		// [tck-id-operational-behavior-primary-application-state-with-multiple-servers-walk]
		c.Leave(HostAbsent)
	} else {
		c.birth()
	}
}

// Resync says that a message which publish had taken could not be sent while
// the connection stands: only births bring the sequence back in order.
func (c *Core) Resync(now time.Time) { c.askRebirth(now) }

// birth begins a block of births: all streams are unborn, and nothing else is
// sent before those that are up have been born.
//
// [tck-id-operational-behavior-data-commands-rebirth-action-1]
// [tck-id-operational-behavior-data-commands-rebirth-action-2]
func (c *Core) birth() {
	c.unbear()
	c.state = Birthing
	c.block = []*stream{c.node} // the devices are those that there are when the NBIRTH goes
	c.rebirthAt, c.waitUntil = time.Time{}, time.Time{}
}

// unbear forgets what was born in this connection.
func (c *Core) unbear() {
	for _, s := range c.turns {
		s.turn = false
	}
	c.turns, c.block = nil, nil
	c.node.unbear()
	for _, s := range c.order {
		s.unbear()
	}
}

// askRebirth answers a request for births: at once, or when the last ones are
// old enough. A request that comes before the NBIRTH of a block is answered by
// it.
func (c *Core) askRebirth(now time.Time) {
	if !c.node.born || c.state != Online && c.state != Birthing || !c.rebirthAt.IsZero() {
		return
	}
	c.rebirthAt = c.bornAt.Add(debounce)
	if c.rebirthAt.Before(now) {
		c.rebirthAt = now
	}
	c.Tick(now)
}

func millis(t time.Time) uint64 { return uint64(max(t.UnixMilli(), 0)) }

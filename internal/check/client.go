package check

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// client is one MQTT session of the tester. It outlives its connections and does
// only what a case tells it to: answers are held back when manual is set, and
// QoS 2 handshakes stop where stopAt says.
//
// A case uses it from one goroutine; the reader of each connection is another.
// What both touch is guarded by mu. The fields above mu are set before connect.
type client struct {
	t         *trial
	id        string        // client identifier
	name      string        // as a publisher, in stamps
	clean     bool          // start anew, keep nothing
	url       *url.URL      // nil: the broker that is tested
	expiry    time.Duration // of the session; 0: 5 minutes
	window    uint16        // receive maximum; 0: not told
	maxPacket uint32
	will      *mqtt.Will
	reply     func(p *mqtt.Publish) // makes answers to requests; called with mu held
	refuse    mqtt.ReasonCode       // not 0: said in acknowledgements

	mu      sync.Mutex
	wake    chan struct{} // closed and replaced when something changed
	nc      *gated        // nil: not connected
	old     []*gated      // given up, and not closed
	out     []byte
	conn    int // number of the connection
	ended   map[int]error
	connack *mqtt.Connack
	answers map[uint16]mqtt.Packet // SUBACK, UNSUBACK
	nextID  uint16

	got     []Receipt
	have    map[Key]bool // of got
	raw     []packetSeen
	ids     map[uint16]bool // QoS 2 identifiers received and not yet released
	unacked []held
	manual  bool
	keep    int       // so many more are not acknowledged by itself
	stopAt  mqtt.Type // QoS 2: neither answer this packet nor go on
	stopped int       // how often it was held there
	most    int       // most messages unacknowledged at once
	reused  bool      // an identifier came again while it was not acknowledged
	told    int       // missing, as the broker said
	pings   int

	sent    []Sent
	flights map[uint16]*flight
	order   []uint16 // of flights, by time of sending
}

// packetSeen is what a case may want to know of a PUBLISH beside its Receipt.
type packetSeen struct {
	ids           []uint32
	hasExpiry     bool
	expiry        uint32
	response      string
	correlation   string
	packetID      uint16
	at            time.Time
	place         int64 // among all that came in the case
	hasCorrelated bool
}

// held is a received message that was not acknowledged.
type held struct {
	id  uint16
	qos mqtt.QoS
	Key
}

// flight is a published message whose handshake is not complete.
type flight struct {
	n        int
	p        *mqtt.Publish
	released bool // PUBREC came: PUBREL is due, or sent
}

// connect opens a connection and waits for CONNACK. A broker that closes it
// without an answer is asked again for a while: some do so to clients that come
// back quickly. When the session is present it then goes on with the handshakes
// of its own messages [MQTT-4.4.0-1].
func (c *client) connect() bool {
	if c.t.over() {
		return false
	}
	c.mu.Lock()
	before, was := c.nc, c.conn
	if before != nil {
		c.old = append(c.old, before)
	}
	c.mu.Unlock()
	for began := time.Now(); ; {
		if !c.open(before, was) {
			return false
		}
		c.wait(c.t.patience(), func() bool { return c.connack != nil || c.ended[c.conn] != nil })
		c.mu.Lock()
		answered := c.connack != nil
		shut := !answered && c.ended[c.conn] != nil
		c.mu.Unlock()
		if answered {
			break
		}
		if !shut || time.Since(began) > c.t.patience() || c.t.over() {
			return c.until("CONNACK for "+c.name, func() bool { return c.connack != nil })
		}
		c.t.pass(5 * quiet)
	}
	if code := c.connack.Reason; code.Failed() {
		return c.t.stop(fmt.Errorf("connect %s: refused: %s", c.name, code))
	}
	if c.connack.SessionPresent {
		return c.again()
	}
	return true
}

// open dials, sends CONNECT and starts the reader. before is the connection
// with the number was, if the new one takes over from it.
func (c *client) open(before *gated, was int) bool {
	ctx, cancel := context.WithTimeout(c.t.ctx, c.t.patience())
	defer cancel()
	nc, err := c.t.dial(ctx, c.where())
	if err != nil {
		return c.t.stop(fmt.Errorf("connect %s: %w", c.name, err))
	}
	c.mu.Lock()
	c.conn++
	conn := c.conn
	c.nc, c.connack = nc, nil
	c.out = c.out[:0]
	c.answers = map[uint16]mqtt.Packet{}
	c.unacked = nil
	c.mu.Unlock()
	connect := c.packet()
	b, err := connect.Append(nil, c.t.version)
	if err == nil {
		_ = nc.SetWriteDeadline(time.Now().Add(c.t.patience()))
		_, err = nc.Write(b)
	}
	if err != nil {
		_ = nc.Close()
		return c.t.stop(fmt.Errorf("connect %s: %w", c.name, err))
	}
	c.t.readers.Go(func() { c.read(nc, conn, before, was) })
	return true
}

func (c *client) where() *url.URL {
	if c.url != nil {
		return c.url
	}
	return c.t.url
}

func (c *client) packet() *mqtt.Connect {
	p := &mqtt.Connect{Version: c.t.version, ClientID: c.id, CleanStart: c.clean, KeepAlive: 60, Will: c.will,
		ReceiveMaximum: c.window, MaximumPacketSize: c.maxPacket}
	if c.t.version == mqtt.V5 {
		if !c.clean {
			p.SessionExpirySeconds = 300
			if c.expiry > 0 {
				p.SessionExpirySeconds = uint32(c.expiry / time.Second)
			}
		}
	} else {
		p.ReceiveMaximum, p.MaximumPacketSize = 0, 0
	}
	if u := c.where().User; u != nil {
		p.HasUsername, p.Username = true, u.Username()
		password, has := u.Password()
		p.HasPassword, p.Password = has, []byte(password)
	}
	return p
}

// again resends what the publisher has under way, in its order [MQTT-4.6.0-1].
func (c *client) again() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range c.order {
		f := c.flights[id]
		if f.released {
			c.out = mqtt.AppendAck(c.out, c.t.version, mqtt.TypePubrel, id, mqtt.Success)
			continue
		}
		f.p.Dup = true // [MQTT-3.3.1-1]
		c.append(f.p)
	}
	c.flushLocked()
	return true
}

func (c *client) append(p mqtt.Packet) {
	b, err := p.Append(c.out, c.t.version)
	if err != nil {
		c.t.stop(fmt.Errorf("encode %s: %w", p.Type(), err))
		return
	}
	c.out = b
}

// flushLocked writes what has gathered. A connection that is gone is seen by
// its reader.
func (c *client) flushLocked() {
	if len(c.out) > 0 && c.nc != nil {
		_ = c.nc.SetWriteDeadline(time.Now().Add(c.t.patience()))
		_, _ = c.nc.Write(c.out)
	}
	c.out = c.out[:0]
}

func (c *client) signalLocked() {
	close(c.wake)
	c.wake = make(chan struct{})
}

// errCut is how a connection ends that the tester ended.
var errCut = errors.New("cut by the tester")

// wait waits until cond, which is called with mu held. It says false when the
// patience, or the case, is over.
func (c *client) wait(d time.Duration, cond func() bool) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		c.mu.Lock()
		ok, wake := cond(), c.wake
		c.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-wake:
		case <-timer.C:
			return false
		case <-c.t.ctx.Done():
			return false
		}
	}
}

// until waits for what a broker owes at once, and calls its absence a stall.
// The end of the connection ends it too.
func (c *client) until(what string, cond func() bool) bool {
	if c.t.over() {
		return false
	}
	met := false
	c.wait(c.t.patience(), func() bool {
		met = cond()
		return met || c.ended[c.conn] != nil
	})
	if met {
		return true
	}
	c.mu.Lock()
	err := c.ended[c.conn]
	c.mu.Unlock()
	if err != nil {
		return c.t.stop(fmt.Errorf("waiting for %s: the connection ended: %w", what, err))
	}
	if c.t.ctx.Err() == nil {
		c.t.find(Stall, "no %s within %s", what, c.t.patience())
	}
	return c.t.stop(errStalled)
}

var errStalled = errors.New("the case cannot go on")

// cut ends the connection hard.
func (c *client) cut() {
	c.mu.Lock()
	nc, conn := c.nc, c.conn
	c.nc = nil
	if c.ended[conn] == nil {
		c.ended[conn] = errCut
	}
	c.mu.Unlock()
	if nc != nil {
		nc.reset()
	}
}

// vanish stops reading and writing without closing: half-open. The next connect
// takes the session over.
func (c *client) vanish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nc == nil {
		return
	}
	c.nc.pause()
	c.old = append(c.old, c.nc)
	c.ended[c.conn] = errCut
	c.nc = nil
}

// leave disconnects in good order, and lets the broker close the connection: as
// long as it has not read the DISCONNECT, it may begin to deliver.
func (c *client) leave() {
	c.mu.Lock()
	nc, conn := c.nc, c.conn
	if nc == nil {
		c.mu.Unlock()
		return
	}
	c.append(&mqtt.Disconnect{})
	c.flushLocked()
	c.nc = nil
	c.mu.Unlock()
	c.wait(min(c.t.patience(), time.Second), func() bool { return c.ended[conn] != nil })
	c.mu.Lock()
	c.ended[conn] = errCut
	c.mu.Unlock()
	_ = nc.Close()
}

// close lets go of everything, at the end of a case.
func (c *client) close() {
	c.cut()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, nc := range c.old {
		nc.reset()
	}
	c.old = nil
}

// id takes a packet identifier that is not in use. mu is held.
func (c *client) freeID() uint16 {
	for {
		c.nextID++
		if c.nextID != 0 && c.flights[c.nextID] == nil {
			return c.nextID
		}
	}
}

// ask sends SUBSCRIBE or UNSUBSCRIBE and waits for the answer.
func (c *client) ask(make func(id uint16) mqtt.Packet) (mqtt.Packet, bool) {
	if c.t.over() {
		return nil, false
	}
	c.mu.Lock()
	id := c.freeID()
	p := make(id)
	c.append(p)
	c.flushLocked()
	c.mu.Unlock()
	ok := c.until("answer to "+p.Type().String(), func() bool { return c.answers[id] != nil })
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answers[id], ok
}

// subscribe insists on what it asks for.
func (c *client) subscribe(filter string, qos mqtt.QoS) bool {
	code, ok := c.trySubscribe(0, mqtt.Subscription{Filter: filter, QoS: qos})
	if ok && code != mqtt.ReasonCode(qos) {
		return c.t.stop(fmt.Errorf("subscribe with QoS %d: the broker answered %s", qos, code))
	}
	return ok
}

func (c *client) trySubscribe(subID uint32, s mqtt.Subscription) (mqtt.ReasonCode, bool) {
	if c.t.version == mqtt.V311 {
		subID, s = 0, mqtt.Subscription{Filter: s.Filter, QoS: s.QoS}
	}
	p, ok := c.ask(func(id uint16) mqtt.Packet {
		return &mqtt.Subscribe{PacketID: id, SubscriptionID: subID, Subscriptions: []mqtt.Subscription{s}}
	})
	if !ok {
		return 0, false
	}
	a, ok := p.(*mqtt.Suback)
	if !ok || len(a.Reasons) != 1 {
		return 0, c.t.stop(errors.New("the answer to SUBSCRIBE makes no sense"))
	}
	return a.Reasons[0], true
}

func (c *client) unsubscribe(filter string) bool {
	_, ok := c.ask(func(id uint16) mqtt.Packet { return &mqtt.Unsubscribe{PacketID: id, Filters: []string{filter}} })
	return ok
}

// alive asks for a sign of life.
func (c *client) alive() bool {
	c.mu.Lock()
	was := c.pings
	c.append(&mqtt.Pingreq{})
	c.flushLocked()
	c.mu.Unlock()
	return c.wait(c.t.patience(), func() bool { return c.pings > was || c.ended[c.conn] != nil }) && c.pingsAbove(was)
}

func (c *client) pingsAbove(was int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pings > was
}

// receipts gives what has come so far.
func (c *client) receipts() []Receipt {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Receipt(nil), c.got...)
}

// seen gives the packets behind receipts, one for one.
func (c *client) seen() []packetSeen {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]packetSeen(nil), c.raw...)
}

// summary is what has been seen so far, without the messages.
type summary struct {
	most, different int // unacknowledged at once; different messages
	told            int // missing, as the broker said
	reused          bool
}

func (c *client) summary() summary {
	c.mu.Lock()
	defer c.mu.Unlock()
	return summary{c.most, len(c.have), c.told, c.reused}
}

// keysSeen are the messages received so far.
func (c *client) keysSeen() map[Key]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.have)
}

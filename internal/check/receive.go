package check

import (
	"strconv"
	"strings"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// read takes what comes on one connection until it ends. When the connection
// takes a session over from one that is still open, it reads on after CONNACK
// only when that one has ended, so that what came earlier is noted earlier.
func (c *client) read(nc *gated, conn int, before *gated, was int) {
	defer func() { _ = nc.Close() }()
	in := mqtt.NewReader(nc, 0)
	for {
		h, body, err := in.Next()
		if err != nil {
			c.end(conn, err)
			return
		}
		c.mu.Lock()
		err = c.take(h, body, conn)
		if in.Buffered() == 0 || len(c.out) > 32<<10 || h.Type == mqtt.TypeConnack {
			if c.conn == conn {
				c.flushLocked()
			}
			c.signalLocked()
		}
		c.mu.Unlock()
		if err != nil {
			c.end(conn, err)
			return
		}
		if h.Type == mqtt.TypeConnack && before != nil {
			c.takenOver(was, before)
		}
	}
}

// takenOver waits for the end of the connection whose session this one has.
func (c *client) takenOver(conn int, before *gated) {
	if !c.wait(c.t.patience(), func() bool { return c.ended[conn] != nil }) && c.t.ctx.Err() == nil {
		c.t.find(Split, "the old connection of a client identifier was still open %s after the new one's CONNACK", c.t.patience()) // [MQTT-3.1.4-3]
	}
	_ = before.Close()
}

func (c *client) end(conn int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended[conn] == nil {
		c.ended[conn] = err
	}
	c.signalLocked()
}

// take handles one packet. mu is held.
func (c *client) take(h mqtt.Header, body []byte, conn int) error {
	switch h.Type {
	case mqtt.TypePublish:
		return c.publishCame(h, body, conn)
	case mqtt.TypePingresp:
		c.pings++
		return nil
	}
	if conn != c.conn && h.Type != mqtt.TypeDisconnect {
		return nil // the new connection settles what this one had under way
	}
	p, err := mqtt.DecodePacket(h, body, c.t.version)
	if err != nil {
		return err
	}
	switch p := p.(type) {
	case *mqtt.Connack:
		c.connack = p
	case *mqtt.Suback:
		c.answers[p.PacketID] = p
	case *mqtt.Unsuback:
		c.answers[p.PacketID] = p
	case *mqtt.Disconnect:
		return disconnected(p.Reason)
	case *mqtt.Ack:
		c.ackCame(p)
	}
	return nil
}

// disconnected is how a connection ends that the broker ended with a reason.
type disconnected mqtt.ReasonCode

func (d disconnected) Error() string {
	return "the broker disconnected: " + mqtt.ReasonCode(d).String()
}

// gapTold is how many messages a user property says are missing: one whose key
// speaks of a gap, and whose value begins with a number, such as wilco-gap: 12
// overflow.
func gapTold(key, value string) int {
	key = strings.ToLower(key)
	if !strings.Contains(key, "gap") && !strings.Contains(key, "drop") && !strings.Contains(key, "lost") {
		return 0
	}
	number, _, _ := strings.Cut(value, " ")
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func (c *client) publishCame(h mqtt.Header, body []byte, conn int) error {
	var p mqtt.Publish
	if err := p.Decode(h, body, c.t.version); err != nil {
		return err
	}
	r := Receipt{Topic: string(p.Topic), QoS: p.QoS, Dup: p.Dup, Retain: p.Retain, Conn: conn}
	r.Key, r.Foreign, r.Corrupt = parseStamp(p.Payload, c.t.prefix, r.Topic)
	for _, u := range p.User {
		if !c.have[r.Key] { // a resend tells it again
			c.told += gapTold(string(u.Key), string(u.Value))
		}
	}
	if p.QoS == mqtt.ExactlyOnce {
		r.Again = c.ids[p.PacketID]
		c.ids[p.PacketID] = true
	}
	c.got = append(c.got, r)
	c.raw = append(c.raw, packetSeen{ids: append([]uint32(nil), p.SubscriptionIDs...), hasExpiry: p.HasExpiry, expiry: p.ExpirySeconds,
		response: string(p.ResponseTopic), correlation: string(p.CorrelationData), hasCorrelated: p.HasCorrelation, packetID: p.PacketID,
		at: time.Now(), place: c.t.arrived.Add(1)})
	c.have[r.Key] = true
	if c.reply != nil {
		c.reply(&p)
	}
	if p.QoS == mqtt.AtMostOnce || conn != c.conn {
		return nil
	}
	for _, u := range c.unacked {
		c.reused = c.reused || u.id == p.PacketID
	}
	c.unacked = append(c.unacked, held{p.PacketID, p.QoS, r.Key})
	c.most = max(c.most, len(c.unacked))
	switch {
	case c.stopAt == mqtt.TypePublish && p.QoS == mqtt.ExactlyOnce:
		c.stopped++
	case c.keep > 0:
		c.keep--
	case !c.manual:
		c.ackLocked(len(c.unacked) - 1)
	}
	return nil
}

// ackLocked acknowledges the i-th message held.
func (c *client) ackLocked(i int) {
	u := c.unacked[i]
	kind := mqtt.TypePuback
	if u.qos == mqtt.ExactlyOnce {
		kind = mqtt.TypePubrec
	}
	c.out = mqtt.AppendAck(c.out, c.t.version, kind, u.id, c.refuse)
	if u.qos == mqtt.AtLeastOnce || c.refuse.Failed() {
		c.unacked = append(c.unacked[:i], c.unacked[i+1:]...)
		delete(c.ids, u.id)
	}
}

// ack acknowledges the messages held at these places, which are counted anew
// after each.
func (c *client) ack(places ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range places {
		if i < len(c.unacked) {
			c.ackLocked(i)
		}
	}
	c.flushLocked()
}

// ackAll acknowledges what is held, in the order of arrival, and from now on
// everything at once.
func (c *client) ackAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.manual = false
	for i := 0; i < len(c.unacked); {
		was := len(c.unacked)
		c.ackLocked(i)
		if len(c.unacked) == was {
			i++ // QoS 2 stays until PUBREL
		}
	}
	c.flushLocked()
}

// ackCame goes on with a handshake. mu is held.
func (c *client) ackCame(a *mqtt.Ack) {
	if a.Kind == mqtt.TypePubrel {
		if c.stopAt == mqtt.TypePubrel {
			c.stopped++
			return
		}
		delete(c.ids, a.PacketID) // [MQTT-4.3.3-11]
		for i, u := range c.unacked {
			if u.id == a.PacketID {
				c.unacked = append(c.unacked[:i], c.unacked[i+1:]...)
				break
			}
		}
		c.out = mqtt.AppendAck(c.out, c.t.version, mqtt.TypePubcomp, a.PacketID, mqtt.Success)
		return
	}
	f := c.flights[a.PacketID]
	if f == nil {
		return
	}
	s := &c.sent[f.n-1]
	switch a.Kind {
	case mqtt.TypePuback:
		s.Acked, s.Refused = !a.Reason.Failed(), a.Reason.Failed()
		c.landed(a.PacketID)
	case mqtt.TypePubrec:
		if c.stopAt == mqtt.TypePubrec {
			c.stopped++
			return
		}
		if s.Refused = a.Reason.Failed(); s.Refused {
			c.landed(a.PacketID)
			return
		}
		s.Acked, f.released = true, true
		if c.stopAt == mqtt.TypePubrel {
			c.stopped++
			return
		}
		c.out = mqtt.AppendAck(c.out, c.t.version, mqtt.TypePubrel, a.PacketID, mqtt.Success)
	case mqtt.TypePubcomp:
		if c.stopAt == mqtt.TypePubcomp {
			c.stopped++
			return
		}
		c.landed(a.PacketID)
	}
}

// landed forgets a flight. mu is held.
func (c *client) landed(id uint16) {
	delete(c.flights, id)
	for i, x := range c.order {
		if x == id {
			c.order = append(c.order[:i], c.order[i+1:]...)
			return
		}
	}
}

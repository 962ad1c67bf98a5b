package check

import (
	"github.com/wilco-iot/wilco/mqtt"
)

// message is what a case wants published.
type message struct {
	topic     string
	qos       mqtt.QoS
	retain    bool
	pad       int    // bytes more
	expiry    uint32 // seconds; 0: none
	optional  bool
	forbidden Verdict
	response  string
	correlate string
}

// publish sends one message as soon as the broker's receive maximum and limit
// allow, and waits for nothing else. It may stay in the buffer until flush.
func (c *client) publish(m message) bool {
	if c.t.over() {
		return false
	}
	if m.qos > 0 && !c.room() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := Key{c.name, len(c.sent) + 1}
	p := &mqtt.Publish{Topic: []byte(m.topic), QoS: m.qos, Retain: m.retain, Payload: appendStamp(nil, c.t.prefix, k, m.topic, m.pad)}
	if c.t.version == mqtt.V5 {
		if m.expiry > 0 {
			p.HasExpiry, p.ExpirySeconds = true, m.expiry
		}
		if m.response != "" {
			p.ResponseTopic, p.HasCorrelation, p.CorrelationData = []byte(m.response), true, []byte(m.correlate)
		}
	}
	c.sent = append(c.sent, Sent{Key: k, Topic: m.topic, QoS: m.qos, Optional: m.optional, Forbidden: m.forbidden})
	if m.qos > 0 {
		p.PacketID = c.freeID()
		c.flights[p.PacketID] = &flight{n: k.N, p: p}
		c.order = append(c.order, p.PacketID)
	}
	c.append(p)
	if len(c.out) > 16<<10 {
		c.flushLocked()
	}
	return true
}

// most is how many unacknowledged messages a publisher has at most.
const mostFlights = 64

// room waits until another message may be sent [MQTT-4.9.0-2].
func (c *client) room() bool {
	limit := mostFlights
	c.mu.Lock()
	if c.connack != nil && c.connack.ReceiveMaximum > 0 {
		limit = min(limit, int(c.connack.ReceiveMaximum))
	}
	full := len(c.flights) >= limit
	if full {
		c.flushLocked()
	}
	c.mu.Unlock()
	return !full || c.until("acknowledgement for publisher "+c.name, func() bool { return len(c.flights) < limit })
}

func (c *client) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushLocked()
}

// send publishes n messages and waits until all handshakes are complete.
func (c *client) send(n int, m message) bool {
	for range n {
		if !c.publish(m) {
			return false
		}
	}
	return c.complete()
}

// complete waits for the end of all handshakes.
func (c *client) complete() bool {
	c.flush()
	return c.until("acknowledgement for publisher "+c.name, func() bool { return len(c.flights) == 0 })
}

// sentSoFar copies what was published.
func (c *client) sentSoFar() []Sent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Sent(nil), c.sent...)
}

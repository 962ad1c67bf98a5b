package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

const (
	// maxInbox and maxInboxZeros bound what waits for OnMessage: everything in
	// bytes, and QoS 0 in number.
	maxInbox      = 16 << 20
	maxInboxZeros = 4096
	// deliverySize is what a delivery costs beside its bytes.
	deliverySize = 256
	// userSize is what a user property costs beside its bytes.
	userSize = 48
	// maxTopics is how many topic names a connection keeps to hand out again.
	maxTopics    = 1024
	maxTopicSize = 256
)

// readLoop is the reader. When the link is dead it reads on, and ignores what
// it reads, until the other side closes or the socket is closed.
func (c *Client) readLoop(l *link) {
	l.topics = make(map[string]string)
	for {
		h, body, err := l.in.Next()
		if err == nil {
			err = c.receive(l, h, body)
		}
		if err != nil {
			c.mu.Lock()
			already := l.dead
			c.fail(l, err)
			c.mu.Unlock()
			if !already || !errors.Is(err, errLinkDead) {
				return
			}
		}
	}
}

// errLinkDead says that a packet came too late to matter.
var errLinkDead = errors.New("packet after the end")

// receive handles one packet; body is borrowed.
func (c *Client) receive(l *link, h mqtt.Header, body []byte) error {
	switch h.Type {
	case mqtt.TypePublish:
		if err := l.publish.Decode(h, body, c.opts.Version); err != nil {
			return err
		}
		return c.receivePublish(l, &l.publish)
	case mqtt.TypePuback, mqtt.TypePubrec, mqtt.TypePubrel, mqtt.TypePubcomp:
		if err := l.answer.Decode(h, body, c.opts.Version); err != nil {
			return err
		}
		return c.receiveAck(l, &l.answer)
	}
	p, err := mqtt.DecodePacket(h, body, c.opts.Version)
	if err != nil {
		return err
	}
	if a, ok := p.(*mqtt.Auth); ok {
		return c.receiveAuth(l, a)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.dead {
		return errLinkDead
	}
	l.received++
	switch p := p.(type) {
	case *mqtt.Pingresp:
		return nil
	case *mqtt.Suback:
		return c.answerSub(p.PacketID, mqtt.TypeSuback, p.Reasons)
	case *mqtt.Unsuback:
		return c.answerSub(p.PacketID, mqtt.TypeUnsuback, p.Reasons)
	case *mqtt.Disconnect:
		if c.opts.Version == mqtt.V5 {
			if p.ServerReference != "" {
				c.opts.Logger.Warn("mqtt: the server refers to another", "reference", p.ServerReference)
			}
			return &ReasonError{mqtt.TypeDisconnect, p.Reason, p.ReasonString}
		}
	}
	return &mqtt.Error{Code: mqtt.ProtocolError, Text: fmt.Sprintf("unexpected packet of type %d from the server", h.Type)}
}

// receiveAck gives an acknowledgement to the half it belongs to.
func (c *Client) receiveAck(l *link, p *mqtt.Ack) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(l.out) >= stopReading && !l.dead {
		c.waitDrained(l)
	}
	if l.dead {
		return errLinkDead
	}
	l.received++
	switch p.Kind {
	case mqtt.TypePuback:
		err = c.snd.Puback(p.PacketID, p.Reason, p.ReasonString)
	case mqtt.TypePubrec:
		l.out, err = c.snd.Pubrec(l.out, p.PacketID, p.Reason, p.ReasonString)
	case mqtt.TypePubcomp:
		err = c.snd.Pubcomp(p.PacketID, p.Reason, p.ReasonString)
	case mqtt.TypePubrel:
		l.out, err = c.rcv.Pubrel(l.out, p.PacketID)
	}
	if err != nil {
		return err
	}
	c.step()
	return nil
}

// waitDrained lets the reader wait for a change. mu is held.
func (c *Client) waitDrained(l *link) {
	l.readerWaits = true
	c.drained.Wait()
	l.readerWaits = false
}

// receivePublish puts a message into the inbox, or gives it to the Request that
// waits for it.
func (c *Client) receivePublish(l *link, p *mqtt.Publish) error {
	if p.TopicAlias != 0 { // we allow none: Topic Alias Maximum is 0 [MQTT-3.1.2-26]
		return &mqtt.Error{Code: mqtt.TopicAliasInvalid, Text: "topic alias from the server, above our maximum of 0"}
	}
	d := c.delivery(l, p)
	c.mu.Lock()
	defer c.mu.Unlock()
	for !l.dead && (len(l.out) >= stopReading || c.inboxFull(d)) {
		c.waitDrained(l)
	}
	if l.dead {
		return errLinkDead
	}
	l.received++
	if d.QoS > mqtt.AtMostOnce {
		var deliver bool
		var err error
		l.out, d.ticket, deliver, err = c.rcv.Publish(l.out, p.PacketID, p.QoS)
		if err != nil {
			return err
		}
		if len(l.out) > 0 {
			l.ready.Signal()
		}
		if !deliver {
			return nil
		}
	}
	if c.requests.owns(d.Topic) {
		c.answerRequest(d)
		return nil
	}
	c.toInbox(d)
	return nil
}

// inboxFull reports whether reading must wait before d is taken. mu is held.
func (c *Client) inboxFull(d *Delivery) bool {
	switch {
	case c.inbox.Len() == 0 || c.requests.owns(d.Topic): // the latter goes past the inbox
		return false
	case d.QoS == mqtt.AtMostOnce && c.inboxZeros >= maxInboxZeros:
		return true
	}
	return c.inboxBytes+d.size() > maxInbox
}

// delivery copies a packet out of the reader's buffer.
func (c *Client) delivery(l *link, p *mqtt.Publish) *Delivery {
	d := &Delivery{
		Message: Message{
			Topic: l.topic(p.Topic), QoS: p.QoS, Retain: p.Retain,
			ContentType: string(p.ContentType), ResponseTopic: string(p.ResponseTopic),
		},
		Dup:    p.Dup,
		client: c,
	}
	if p.HasExpiry {
		d.Expiry = time.Duration(p.ExpirySeconds) * time.Second
	}
	n := len(p.Payload)
	buf := make([]byte, n+len(p.CorrelationData))
	copy(buf, p.Payload)
	copy(buf[n:], p.CorrelationData)
	d.Payload = buf[:n:n]
	if p.HasCorrelation {
		d.CorrelationData = buf[n:]
	}
	if len(p.SubscriptionIDs) > 0 {
		d.SubscriptionIDs = append([]uint32(nil), p.SubscriptionIDs...)
	}
	for _, u := range p.User {
		d.User = append(d.User, mqtt.UserProperty{Key: string(u.Key), Value: string(u.Value)})
	}
	return d
}

// topic returns b as a string, the same one for a topic that was seen before.
func (l *link) topic(b []byte) string {
	if s, ok := l.topics[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(s) <= maxTopicSize {
		if len(l.topics) == maxTopics {
			clear(l.topics)
		}
		l.topics[s] = s
	}
	return s
}

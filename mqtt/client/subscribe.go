package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// subCall is a SUBSCRIBE or UNSUBSCRIBE that waits for its answer.
type subCall struct {
	kind   mqtt.Type // of the answer
	subs   []mqtt.Subscription
	ends   []string // filters
	count  int
	answer chan subAnswer // has room for one
}

type subAnswer struct {
	codes []mqtt.ReasonCode
	err   error
}

// maxFilters and maxFilterBytes bound one SUBSCRIBE when many subscriptions are
// renewed; some servers take few filters in a packet.
const (
	maxFilters     = 64
	maxFilterBytes = 16 << 10
)

// Subscribe makes subscriptions and returns the server's code for each: a
// granted QoS, or a failure (Failed reports true), in the same order. Granted
// ones are renewed whenever the server has lost the session. It waits for a
// connection, and asks again on the next one if it ends before the answer. The
// error is that of ctx, ErrStopped, ErrSize when the server takes no packet as
// large as this one, or an *mqtt.Error for a filter that is not valid; it is not
// an error that the server refuses.
func (c *Client) Subscribe(ctx context.Context, subs ...mqtt.Subscription) ([]mqtt.ReasonCode, error) {
	for _, s := range subs {
		if err := mqtt.ValidFilter(s.Filter); err != nil {
			return nil, fmt.Errorf("subscribe: %w", err)
		}
	}
	if len(subs) == 0 {
		return nil, nil
	}
	codes, err := c.ask(ctx, &mqtt.Subscribe{Subscriptions: slices.Clone(subs)}, len(subs))
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return codes, nil
}

// Unsubscribe ends subscriptions, at the server and for renewals. The first
// refusal of the server is returned as a *ReasonError; MQTT 3.1.1 has none.
// Otherwise it is like Subscribe.
func (c *Client) Unsubscribe(ctx context.Context, filters ...string) error {
	if len(filters) == 0 {
		return nil
	}
	c.mu.Lock()
	c.dropSubs(filters)
	c.mu.Unlock()
	codes, err := c.ask(ctx, &mqtt.Unsubscribe{Filters: filters}, len(filters))
	if err != nil {
		return fmt.Errorf("unsubscribe: %w", err)
	}
	for _, code := range codes {
		if code.Failed() {
			return &ReasonError{mqtt.TypeUnsuback, code, ""}
		}
	}
	return nil
}

// keepSub adds to the set of renewals, or replaces. mu is held.
func (c *Client) keepSub(s mqtt.Subscription) {
	for i := range c.subs {
		if c.subs[i].Filter == s.Filter {
			c.subs[i] = s
			return
		}
	}
	c.subs = append(c.subs, s)
}

// dropSubs takes filters out of the set of renewals. mu is held.
func (c *Client) dropSubs(filters []string) {
	c.subs = slices.DeleteFunc(c.subs, func(s mqtt.Subscription) bool { return slices.Contains(filters, s.Filter) })
}

// ask sends a SUBSCRIBE or UNSUBSCRIBE, on as many connections as it takes.
func (c *Client) ask(ctx context.Context, p mqtt.Packet, count int) ([]mqtt.ReasonCode, error) {
	for {
		if err := c.awaitLink(ctx); err != nil {
			return nil, err
		}
		c.mu.Lock()
		l := c.live()
		if l == nil {
			c.mu.Unlock()
			continue
		}
		call, err := c.send(l, p, count)
		c.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case a := <-call.answer:
			if !errors.Is(a.err, ErrDown) {
				return a.codes, a.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// awaitLink is AwaitUp that a refusal of the server does not end.
func (c *Client) awaitLink(ctx context.Context) error {
	for {
		c.mu.Lock()
		up, stopping, changed := c.up && c.live() != nil, c.stopping, c.changed
		c.mu.Unlock()
		switch {
		case stopping:
			return ErrStopped
		case up:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errNoPacketID = errors.New("all packet identifiers are in use")

// send puts the packet into the link's buffer with an identifier of its own. mu
// is held.
func (c *Client) send(l *link, p mqtt.Packet, count int) (*subCall, error) {
	id := c.snd.TakeID()
	if id == 0 {
		return nil, errNoPacketID
	}
	call := &subCall{count: count, answer: make(chan subAnswer, 1)}
	switch p := p.(type) {
	case *mqtt.Subscribe:
		p.PacketID, call.kind, call.subs = id, mqtt.TypeSuback, p.Subscriptions
	case *mqtt.Unsubscribe:
		p.PacketID, call.kind, call.ends = id, mqtt.TypeUnsuback, p.Filters
	}
	out, err := p.Append(l.out, c.opts.Version)
	if err == nil && l.maxPacket > 0 && len(out)-len(l.out) > l.maxPacket { // [MQTT-3.2.2-15]
		err = ErrSize
	}
	if err != nil {
		c.snd.FreeID(id)
		return nil, err
	}
	c.subCalls[id] = call
	l.out = out
	l.ready.Signal()
	return call, nil
}

// answerSub gives a SUBACK or UNSUBACK to who waits for it. One that nobody
// waits for is ignored. mu is held.
func (c *Client) answerSub(id uint16, kind mqtt.Type, codes []mqtt.ReasonCode) error {
	call := c.subCalls[id]
	if call == nil {
		return nil
	}
	if call.kind != kind {
		return &mqtt.Error{Code: mqtt.ProtocolError, Text: "SUBACK and UNSUBACK confused"}
	}
	if len(codes) != call.count && !(kind == mqtt.TypeUnsuback && c.opts.Version == mqtt.V311) {
		return &mqtt.Error{Code: mqtt.ProtocolError, Text: "not one code for each filter"} // [MQTT-3.8.4-6]
	}
	delete(c.subCalls, id)
	c.snd.FreeID(id)
	for i, s := range call.subs {
		if !codes[i].Failed() {
			c.keepSub(s)
		}
	}
	c.dropSubs(call.ends) // a SUBACK may have brought them back meanwhile
	call.answer <- subAnswer{codes: codes}
	return nil
}

// renew makes the subscriptions that a new session lacks, before anything else
// is sent, and then lets the publishes go. A session that this client finds at
// its first connection may have been made with other subscriptions, and one
// whose connection ended before SUBACK may have none, so they are made then,
// too. It returns those that were refused.
func (c *Client) renew(l *link) (refused []mqtt.Subscription, err error) {
	c.mu.Lock()
	var subs []mqtt.Subscription
	if !c.subscribed {
		subs = slices.Clone(c.subs)
	}
	var calls []*subCall
	var parts [][]mqtt.Subscription
	for len(subs) > 0 && err == nil {
		n := splitSubs(subs, l.maxPacket)
		var call *subCall
		call, err = c.send(l, &mqtt.Subscribe{Subscriptions: subs[:n]}, n)
		calls, parts, subs = append(calls, call), append(parts, subs[:n]), subs[n:]
	}
	if err == nil {
		l.open = true
		c.step()
	}
	c.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("renew subscriptions: %w", err)
	}
	timer := time.NewTimer(c.opts.ConnectTimeout)
	defer timer.Stop()
	for i, call := range calls {
		var a subAnswer
		select {
		case a = <-call.answer:
		case <-l.failed:
			return nil, fmt.Errorf("renew subscriptions: %w", l.err)
		case <-timer.C:
			return nil, errors.New("renew subscriptions: no answer in time")
		case <-c.running.Done():
			return nil, ErrStopped
		}
		for j, code := range a.codes {
			if code.Failed() {
				refused = append(refused, parts[i][j])
				c.opts.Logger.Warn("mqtt: subscription refused", "filter", parts[i][j].Filter, "code", code)
			}
		}
	}
	c.mu.Lock()
	c.subscribed = true
	c.mu.Unlock()
	return refused, nil
}

// splitSubs returns how many of the subscriptions go into one packet, of which
// the server takes up to maxPacket bytes, 0 for any.
func splitSubs(subs []mqtt.Subscription, maxPacket int) int {
	most := maxFilterBytes
	if maxPacket > 0 {
		most = min(most, maxPacket-8) // fixed header, identifier, no properties
	}
	size := 0
	for i, s := range subs {
		size += len(s.Filter) + 3
		if i > 0 && (i == maxFilters || size > most) {
			return i
		}
	}
	return len(subs)
}

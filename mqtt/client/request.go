package client

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/wilco-iot/wilco/mqtt"
)

// requests are the calls of Request that wait for an answer.
type requests struct {
	topic      string // where answers come; empty until the first Request
	begun      bool
	subscribed bool
	prefix     [8]byte // random, so that an answer to a former process fits nothing
	last       uint64
	waiting    map[string]chan *Delivery
	making     sync.Mutex // one caller subscribes, the others wait for it
}

func (r *requests) owns(topic string) bool { return r.begun && topic == r.topic }

// Request publishes a message with a Response Topic of this client and fresh
// Correlation Data, both of which it sets, and waits for the answer, which is
// acknowledged already. Any number may be under way; answers may come in any
// order, and do not wait for OnMessage. It blocks until connected and
// subscribed to the Response Topic, and returns the error of ctx, one of
// Publish, or ErrNoRequests when the version is 3.1.1. Answers that nobody
// waits for any more are dropped.
func (c *Client) Request(ctx context.Context, m Message) (*Delivery, error) {
	if c.opts.Version != mqtt.V5 {
		return nil, ErrNoRequests
	}
	if err := c.prepareRequests(ctx); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	answer := make(chan *Delivery, 1)
	c.mu.Lock()
	r := &c.requests
	r.last++
	key := binary.BigEndian.AppendUint64(r.prefix[:], r.last)
	r.waiting[string(key)] = answer
	m.ResponseTopic, m.CorrelationData = r.topic, key
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(r.waiting, string(key))
		c.mu.Unlock()
	}()

	published := make(chan Result, 1)
	if err := c.enqueue(&m, call{wait: published}); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	for {
		select {
		case d := <-answer:
			return d, nil
		case result := <-published:
			if result.Err != nil {
				return nil, fmt.Errorf("request: %w", result.Err)
			}
			published = nil // accepted; the answer may have come before or come yet
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.running.Done():
			return nil, ErrStopped
		}
	}
}

// ErrNoRequests is returned by Request where the protocol has none.
var ErrNoRequests = errors.New("request and response need MQTT 5")

// prepareRequests subscribes to the response topic, once for a session.
func (c *Client) prepareRequests(ctx context.Context) error {
	c.requests.making.Lock()
	defer c.requests.making.Unlock()
	if err := c.awaitLink(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	r := &c.requests
	if !r.begun {
		rand.Read(r.prefix[:])
		r.waiting = make(map[string]chan *Delivery)
		if r.topic == "" {
			r.topic = "reply/" + c.clientID
		}
		r.begun = true
	}
	ready, topic := r.subscribed, r.topic
	c.mu.Unlock()
	if ready {
		return nil
	}
	codes, err := c.Subscribe(ctx, mqtt.Subscription{Filter: topic, QoS: mqtt.AtLeastOnce})
	if err != nil {
		return err
	}
	if codes[0].Failed() {
		return fmt.Errorf("response topic %.200q: %w", topic, &ReasonError{mqtt.TypeSuback, codes[0], ""})
	}
	c.mu.Lock()
	r.subscribed = true
	c.mu.Unlock()
	return nil
}

// answerRequest gives an answer to its Request. mu is held.
func (c *Client) answerRequest(d *Delivery) {
	if l := c.live(); l != nil && d.QoS > mqtt.AtMostOnce {
		l.out = c.rcv.Ack(l.out, d.ticket)
		l.ready.Signal()
	}
	key := string(d.CorrelationData)
	if answer := c.requests.waiting[key]; answer != nil {
		delete(c.requests.waiting, key) // a second answer finds nobody
		answer <- d
		return
	}
	c.opts.Logger.Debug("mqtt: answer that nobody waits for", "topic", d.Topic)
}

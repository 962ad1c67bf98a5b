package node

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/wilco-iot/wilco/sparkplug"
)

// draft is a message that is about to go. Until publish has taken it, nothing
// has happened.
type draft struct {
	kind    sparkplug.MessageType
	stream  *stream
	items   []item // samples in it
	message sparkplug.Message
}

// Send gives publish what is due, in order, until nothing is or publish has an
// error, which it returns. A message that publish has not taken is not sent: it
// has used no sequence number, and what it says is said by a later one. Each
// message that publish takes is answered by Written, in the same order, or by
// the end of the connection.
//
// [tck-id-payloads-sequence-num-incrementing]
func (c *Core) Send(now time.Time, publish func(sparkplug.Message) error) error {
	for {
		d, ok := c.next(now)
		if !ok {
			return nil
		}
		if err := publish(d.message); err != nil {
			return err
		}
		c.sent(d, now)
	}
}

// Written says that the oldest message which publish has taken is out of our
// hands. Until then the samples in it are kept for the case that the connection
// ends.
func (c *Core) Written() {
	if len(c.flight) > 0 {
		c.done(c.flight[0].items...)
		c.flight[0] = draft{}
		c.flight = c.flight[1:]
	}
}

func (c *Core) next(now time.Time) (draft, bool) {
	// [tck-id-operational-behavior-edge-node-intentional-disconnect-ndeath]
	if c.state == Ending && c.farewell {
		return draft{kind: sparkplug.NDeath, message: c.death()}, true
	}
	// [tck-id-payloads-dbirth-order] [tck-id-message-flow-device-birth-publish-nbirth-wait]
	// [tck-id-payloads-ndata-order] [tck-id-payloads-ddata-order]
	for c.state == Birthing && len(c.block) > 0 {
		s := c.block[0]
		if d, ok := c.birthOf(s, now); ok {
			return d, true
		}
		if s == c.node {
			c.Leave(TooLarge)
			return draft{}, false
		}
		c.block = c.block[1:]
	}
	if c.state == Birthing {
		c.state = Online
		c.Tick(now)
		if c.state == Birthing {
			return c.next(now)
		}
	}
	// While births have been asked for, nothing else goes
	// [tck-id-operational-behavior-data-commands-rebirth-action-1].
	for c.state == Online && c.rebirthAt.IsZero() && len(c.turns) > 0 {
		s := c.turns[0]
		if d, ok := c.turnOf(s, now); ok {
			return d, true
		}
		s.turn = false
		c.turns = c.turns[1:]
	}
	return draft{}, false
}

// turnOf is what a stream has to say outside of a block of births.
func (c *Core) turnOf(s *stream, now time.Time) (draft, bool) {
	switch {
	case s.dying:
		// [tck-id-topics-ddeath-seq-num] [tck-id-payloads-ddeath-seq-inc] [tck-id-payloads-ddeath-timestamp]
		p := c.payload(now)
		return draft{kind: sparkplug.DDeath, stream: s, message: c.message(sparkplug.DDeath, s, p)}, true
	case !s.born:
		return c.birthOf(s, now)
	}
	return c.data(s, now)
}

// birthOf is the birth of a stream, if it is to be born and the server takes it.
//
// [tck-id-operational-behavior-data-publish-nbirth] [tck-id-operational-behavior-data-publish-dbirth]
// [tck-id-topics-nbirth-metric-reqs] [tck-id-topics-dbirth-metric-reqs]
func (c *Core) birthOf(s *stream, now time.Time) (draft, bool) {
	if s.born || !s.up || s.unfit || s.gone {
		return draft{}, false
	}
	kind, p := sparkplug.DBirth, c.payload(now)
	if s == c.node {
		kind = sparkplug.NBirth
		p.Seq = 0 // [tck-id-topics-nbirth-seq-num]
		// [tck-id-payloads-nbirth-bdseq-repeat] [tck-id-operational-behavior-data-commands-rebirth-action-3]
		p.Metrics = append(p.Metrics, sparkplug.BdSeqMetric(c.bdSeq, p.Timestamp), sparkplug.RebirthMetric(false, p.Timestamp))
		if c.cfg.Servers > 1 {
			p.Metrics = append(p.Metrics, sparkplug.Metric{
				Name: []byte(sparkplug.MetricNextServer), Datatype: sparkplug.TypeBoolean,
				Timestamp: p.Timestamp, HasTimestamp: true, Value: sparkplug.NewBool(false),
			})
		}
	}
	for _, x := range s.metrics {
		p.Metrics = append(p.Metrics, x.inBirth(p.Timestamp))
	}
	arrange(p.Metrics)
	d := draft{kind: kind, stream: s, message: c.message(kind, s, p)}
	if !c.fits(d.message) {
		s.unfit = true
		c.act(Action{Kind: Unfit, Device: s.device, Err: tooLarge(kind, d.message, c.limit)})
		return draft{}, false
	}
	return d, true
}

// arrange puts the metrics of a birth in the order of their times, and before
// them the definitions of templates, which have no time of their own.
//
// [tck-id-operational-behavior-data-publish-nbirth-order]
// [tck-id-operational-behavior-data-publish-dbirth-order]
func arrange(metrics []sparkplug.Metric) {
	first := metrics[0].Timestamp
	for i := range metrics {
		first = min(first, metrics[i].Timestamp)
	}
	for i := range metrics {
		if t := metrics[i].Template; t != nil && t.Definition {
			metrics[i].Timestamp = first
		}
	}
	defines := func(m *sparkplug.Metric) int {
		if m.Template != nil && m.Template.Definition {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(metrics, func(a, b sparkplug.Metric) int {
		return cmp.Or(cmp.Compare(defines(&a), defines(&b)), cmp.Compare(a.Timestamp, b.Timestamp))
	})
}

// data is the next DATA of a stream: as many of its samples as go into one
// message. A sample that is too large for the server by itself is dropped.
//
// [tck-id-topics-ndata-payload] [tck-id-topics-ddata-payload]
func (c *Core) data(s *stream, now time.Time) (draft, bool) {
	kind := sparkplug.DData
	if s == c.node {
		kind = sparkplug.NData
	}
	for n := rising(s.queue[:min(len(s.queue), batch)]); n > 0; {
		p := c.payload(now)
		p.Metrics = make([]sparkplug.Metric, n)
		for i := range p.Metrics {
			p.Metrics[i] = s.queue[i].inData()
		}
		d := draft{kind: kind, stream: s, items: slices.Clone(s.queue[:n]), message: c.message(kind, s, p)}
		switch {
		case c.fits(d.message):
			return d, true
		case n > 1:
			n /= 2
		default:
			c.act(Action{Kind: Unfit, Device: s.device, Err: fmt.Errorf("metric %q: %w", s.queue[0].Name, tooLarge(kind, d.message, c.limit))})
			c.drop(s.queue[0])
			s.queue = s.queue[1:]
			n = rising(s.queue[:min(len(s.queue), batch)])
		}
	}
	return draft{}, false
}

// rising is how many samples can be in one message, whose live values must not
// go back in time.
//
// [tck-id-operational-behavior-data-publish-nbirth-order]
// [tck-id-operational-behavior-data-publish-dbirth-order]
func rising(queue []item) int {
	var live uint64
	for i := range queue {
		if queue[i].past || queue[i].Historical {
			continue
		}
		if queue[i].Timestamp < live {
			return i
		}
		live = queue[i].Timestamp
	}
	return len(queue)
}

// sent makes a draft that publish has taken a fact.
func (c *Core) sent(d draft, now time.Time) {
	c.stats.Messages++
	s := d.stream
	defer func() { c.flight = append(c.flight, draft{stream: s, items: d.items}) }()
	switch d.kind {
	case sparkplug.NDeath:
		c.farewell = false
		c.act(Action{Kind: Disconnect, Reason: c.reason, Death: true})
		return
	case sparkplug.NBirth:
		c.seq, c.bornAt = 0, now
		c.stats.Births++
		c.block = append(c.block, c.order...)
		fallthrough
	case sparkplug.DBirth:
		s.born = true
		d.items = c.settle(s)
		if len(s.queue) > 0 {
			c.wake(s)
		}
	case sparkplug.DDeath:
		s.born, s.dying = false, false
	default:
		s.queue = s.queue[len(d.items):]
		c.waiting -= len(d.items)
		c.stats.Samples += uint64(len(d.items))
	}
	c.seq = sparkplug.NextSeq(c.seq)
	switch {
	case c.state == Birthing:
		c.block = c.block[1:]
	case len(c.turns) > 0: // to the end, so that all streams get on
		c.turns = append(c.turns[1:], s)
	}
}

// payload has what every message but an NDEATH has: the time of its sending and
// the next sequence number, which only sent uses up.
//
// [tck-id-payloads-sequence-num-always-included] [tck-id-topics-nbirth-timestamp]
// [tck-id-topics-dbirth-timestamp] [tck-id-topics-ndata-timestamp] [tck-id-topics-ddata-timestamp]
// [tck-id-topics-ndata-seq-num] [tck-id-topics-ddata-seq-num] [tck-id-topics-dbirth-seq]
// [tck-id-message-flow-edge-node-birth-publish-nbirth-payload-seq]
// [tck-id-message-flow-device-birth-publish-dbirth-payload-seq] [tck-id-payloads-ddeath-seq-number]
func (c *Core) payload(now time.Time) *sparkplug.Payload {
	return &sparkplug.Payload{Timestamp: millis(now), HasTimestamp: true, Seq: uint64(c.seq), HasSeq: true}
}

// message is p on the topic of its kind, QoS 0 and not retained.
//
// [tck-id-message-flow-edge-node-birth-publish-nbirth-topic]
// [tck-id-message-flow-edge-node-birth-publish-nbirth-qos]
// [tck-id-message-flow-edge-node-birth-publish-nbirth-retained]
// [tck-id-message-flow-device-birth-publish-dbirth-topic]
// [tck-id-message-flow-device-birth-publish-dbirth-match-edge-node-topic]
// [tck-id-message-flow-device-birth-publish-dbirth-payload]
// [tck-id-message-flow-device-birth-publish-dbirth-qos]
// [tck-id-message-flow-device-birth-publish-dbirth-retained]
// [tck-id-message-flow-edge-node-birth-publish-nbirth-payload]
func (c *Core) message(kind sparkplug.MessageType, s *stream, p *sparkplug.Payload) sparkplug.Message {
	t := sparkplug.Topic{Type: kind, Group: c.cfg.Group, Node: c.cfg.Node, Device: s.device}
	return sparkplug.Message{Topic: t.String(), Payload: p.Append(nil), QoS: kind.QoS(), Retain: kind.Retain()}
}

// death is the NDEATH of this connection: its Will, and what the node says
// itself before it leaves.
func (c *Core) death() sparkplug.Message {
	m, _ := sparkplug.NodeDeath(c.cfg.Group, c.cfg.Node, c.bdSeq, c.connected) // New has checked the names
	return m
}

func (c *Core) fits(m sparkplug.Message) bool {
	return c.limit == 0 || size(m) <= c.limit
}

func size(m sparkplug.Message) int { return overhead + len(m.Topic) + len(m.Payload) }

func tooLarge(kind sparkplug.MessageType, m sparkplug.Message, limit int) error {
	return fmt.Errorf("%s of %d bytes: the server takes %d", kind, size(m), limit)
}

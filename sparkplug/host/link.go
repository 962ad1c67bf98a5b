package host

import (
	"context"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/host/internal/rebirth"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

// link is one server.
type link struct {
	h     *Host
	name  string
	index int
	opts  client.Options
	epoch uint64 // of the connection; the manager's
	wake  chan struct{}
	// client is that of the connection; nil while there is none.
	client atomic.Pointer[client.Client]

	mu       sync.Mutex
	presence presence // [tck-id-operational-behavior-host-application-multi-server-timestamp]
	asks     *rebirth.Scheduler[NodeID]
}

// Waits between connections: the client's own back-off does not know of those
// that end soon after they were made.
const (
	retryMin = 250 * time.Millisecond
	retryMax = 30 * time.Second
	stable   = 10 * time.Second
	goodbye  = 5 * time.Second
)

// maxPacket is the largest packet taken by default: a birth can have a hundred
// thousand metrics.
const maxPacket = 16 << 20

func newLink(h *Host, index int, s Server) *link {
	l := &link{h: h, name: s.Name, index: index, opts: s.Client, wake: make(chan struct{}, 1)}
	l.asks = rebirth.New[NodeID](rebirth.Config{Rate: h.opts.RebirthRate, Rand: rand.Float64})
	o := &l.opts
	// [tck-id-message-flow-phid-sparkplug-clean-session-311]
	// [tck-id-message-flow-phid-sparkplug-clean-session-50]
	o.CleanStart, o.SessionExpiry, o.Store = true, 0, nil
	// A client for each connection, so that a STATE of one that has ended, and
	// was not acknowledged, does not come back in the next.
	o.Once = true
	o.Subscriptions = h.opts.subscriptions()
	if o.MaximumPacketSize == 0 {
		o.MaximumPacketSize = maxPacket
	}
	return l
}

// run is the manager: one connection after the other, until ctx ends.
func (l *link) run(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		began := time.Now()
		again := l.connection(ctx)
		switch {
		case again, time.Since(began) >= stable:
			failures = 0
		default:
			failures++
		}
		wait := retryMin
		if failures > 0 {
			wait = min(retryMin<<min(failures, 10), retryMax)
		}
		// Full jitter: many hosts may have lost the same server.
		sleep(ctx, time.Duration(rand.Float64()*float64(wait)))
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// connection is one connection from its CONNECT to its end. It returns true when
// it was ended to begin a better one.
func (l *link) connection(ctx context.Context) (again bool) {
	l.epoch++
	epoch := l.epoch
	up, down := make(chan struct{}), make(chan struct{})
	o := l.opts
	o.Will = l.will
	o.OnMessage = func(d *client.Delivery) { l.message(d, epoch) }
	var c *client.Client
	o.OnUp = func(u client.Up) {
		l.up(c, u)
		close(up)
	}
	o.OnDown = func(error) { close(down) }
	c, err := client.New(o)
	if err != nil {
		l.h.alarm(Alarm{Kind: SubscriptionRefused, Server: l.name, Text: "the options of the client: " + err.Error()})
		return false
	}
	// Before the first message, which can be there before OnUp.
	l.h.toShards(item{what: opened, link: l, epoch: epoch})
	c.Start()
	err = c.AwaitUp(ctx)
	if err == nil {
		<-up
		l.h.toShards(item{what: found, link: l, at: time.Now()})
		again = l.serve(ctx, c, down)
	}
	l.leave(ctx, c)
	if err == nil {
		l.mu.Lock()
		l.asks.Clear()
		l.mu.Unlock()
		l.h.toShards(item{what: lost, link: l, at: time.Now()})
	}
	return again
}

// leave ends a connection: with a word, when the host stops
// [tck-id-operational-behavior-host-application-termination], and DISCONNECT
// [tck-id-operational-behavior-host-application-disconnect-intentional].
func (l *link) leave(ctx context.Context, c *client.Client) {
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	if l.h.opts.Role == Primary && ctx.Err() != nil {
		l.mu.Lock()
		stamp, born := l.presence.death(time.Now()), l.presence.born
		l.mu.Unlock()
		if born {
			// An error says that the connection is gone: then the Will speaks.
			_ = c.Publish(end, l.state(false, stamp))
		}
	}
	_ = c.Stop(end)
}

// will is the STATE that the server publishes when we are gone.
//
// [tck-id-host-topic-phid-death-required] [tck-id-operational-behavior-host-application-connect-will]
// [tck-id-operational-behavior-host-application-connect-will-payload]
func (l *link) will() *mqtt.Will {
	if l.h.opts.Role != Primary {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.state(false, l.presence.connect(time.Now()))
	return &mqtt.Will{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain}
}

func (l *link) state(online bool, stamp uint64) client.Message {
	// The host id is valid, so there is no error.
	m, _ := sparkplug.StateMessage(l.h.opts.HostID, sparkplug.HostState{Online: online, Timestamp: stamp})
	return client.Message{Topic: m.Topic, Payload: m.Payload, QoS: mqtt.QoS(m.QoS), Retain: m.Retain}
}

// up publishes the birth, first of all, when the subscriptions are made
// [tck-id-message-flow-phid-sparkplug-subscription]
// [tck-id-operational-behavior-primary-application-state-with-multiple-servers-state].
func (l *link) up(c *client.Client, u client.Up) {
	for _, s := range u.Refused {
		l.h.alarm(Alarm{Kind: SubscriptionRefused, Server: l.name, Text: s.Filter})
	}
	if l.h.opts.Role != Primary {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// [tck-id-host-topic-phid-birth-payload-timestamp]
	// [tck-id-operational-behavior-host-application-connect-birth] [tck-id-host-topic-phid-birth-required]
	if err := c.PublishAsync(l.state(true, l.presence.stamp), nil); err == nil {
		l.presence.born = true
	}
}

// serve does what is due while the connection is up. It returns true when it
// should be made anew.
func (l *link) serve(ctx context.Context, c *client.Client, down <-chan struct{}) (again bool) {
	l.client.Store(c)
	defer l.client.Store(nil)
	l.h.setUp(l, true)
	defer l.h.setUp(l, false)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-down:
			return false
		case <-l.wake:
		case <-timer.C:
		}
		next, how := l.due(c, time.Now())
		if how == reconnect {
			return true
		}
		if next.IsZero() {
			next = time.Now().Add(time.Hour)
		}
		timer.Reset(time.Until(next))
	}
}

// due publishes what is due, and returns when there is more.
func (l *link) due(c *client.Client, now time.Time) (next time.Time, how repair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if how = l.presence.repair(now); how == republish {
		_ = c.PublishAsync(l.state(true, l.presence.stamp), nil)
	}
	for {
		ask, ok := l.asks.Next(now)
		if !ok {
			break
		}
		// One that cannot be sent, because the connection is gone, is asked
		// again on the next one.
		if m, err := rebirthCommand(ask.Key, now); err == nil && c.PublishAsync(m, nil) == nil {
			l.h.asked(ask.Key, session.Reason(ask.Reason))
		}
	}
	next = l.asks.Deadline(now)
	if d := l.presence.due; !d.IsZero() && (next.IsZero() || d.Before(next)) {
		next = d
	}
	return next, how
}

// rebirthCommand asks a node for its births.
//
// [tck-id-operational-behavior-data-commands-ncmd-rebirth-verb]
// [tck-id-operational-behavior-data-commands-ncmd-rebirth-name]
// [tck-id-operational-behavior-data-commands-ncmd-rebirth-value]
// [tck-id-payloads-ncmd-timestamp] [tck-id-payloads-ncmd-seq] [tck-id-topics-ncmd-topic]
func rebirthCommand(id NodeID, now time.Time) (client.Message, error) {
	topic, err := sparkplug.Topic{Type: sparkplug.NCmd, Group: id.Group, Node: id.Node}.Append(nil)
	if err != nil {
		return client.Message{}, err
	}
	ms := millis(now)
	p := sparkplug.Payload{Timestamp: ms, HasTimestamp: true, Metrics: []sparkplug.Metric{sparkplug.RebirthMetric(true, ms)}}
	return client.Message{Topic: string(topic), Payload: p.Append(nil), QoS: mqtt.QoS(sparkplug.NCmd.QoS()), Retain: sparkplug.NCmd.Retain()}, nil
}

// message takes what the server delivers.
func (l *link) message(d *client.Delivery, epoch uint64) {
	topic, err := sparkplug.ParseTopic(d.Topic)
	switch {
	case err != nil:
		l.h.foreign.Add(1)
		d.Ack()
	case topic.Type == sparkplug.State:
		if !topic.Legacy && l.h.opts.Role == Primary && topic.Host == l.h.opts.HostID {
			l.heard(d)
		}
		d.Ack()
	case topic.Type == sparkplug.NCmd, topic.Type == sparkplug.DCmd:
		d.Ack() // of a host, and maybe our own
	default:
		l.h.toShard(item{what: message, link: l, epoch: epoch, msg: d, topic: topic, at: time.Now()})
	}
}

// heard takes a STATE under our own id.
func (l *link) heard(d *client.Delivery) {
	l.mu.Lock()
	foreign := l.presence.receive(d.Payload, d.Retain, time.Now())
	l.mu.Unlock()
	if foreign {
		l.h.alarm(Alarm{Kind: ForeignState, Server: l.name, Text: "somebody publishes STATE as " + l.h.opts.HostID})
		l.rouse()
	}
}

func (l *link) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *link) want(id NodeID, r session.Reason, after time.Duration, now time.Time) {
	if l.h.opts.Role == Passive {
		return
	}
	l.mu.Lock()
	before := l.asks.Waiting()
	l.asks.Want(id, rebirth.Reason(r), after, now)
	more := l.asks.Waiting() > before
	l.mu.Unlock()
	if more {
		l.rouse()
	}
}

// born returns until when the node is in quarantine, zero when it was in none.
func (l *link) born(id NodeID, bdSeq int, now time.Time) time.Time {
	l.mu.Lock()
	alarm := l.asks.Born(id, bdSeq, now)
	until := l.asks.Quarantine(id)
	l.mu.Unlock()
	if alarm {
		l.h.alarm(Alarm{Kind: DuplicateNode, Server: l.name, Node: id, Text: "births come as if of two nodes with one name"})
	}
	return until
}

func (l *link) dead(id NodeID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asks.Dead(id)
}

func (l *link) forget(id NodeID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asks.Forget(id)
}

var seed = maphash.MakeSeed()

func hash(group, node string) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	h.WriteString(group)
	h.WriteByte('/')
	h.WriteString(node)
	return h.Sum64()
}

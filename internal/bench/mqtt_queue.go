package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// MQTTQueueReport is how fast a broker queues messages for a session that is
// away, and hands them out when it is back.
type MQTTQueueReport struct {
	URL              string  `json:"url"` // without user and password
	Messages         int     `json:"messages"`
	Size             int     `json:"size"`
	QueueSeconds     float64 `json:"queueSeconds"` // until the last one was acknowledged to the publisher
	QueuedPerSecond  float64 `json:"queuedPerSecond"`
	DrainSeconds     float64 `json:"drainSeconds"` // from CONNECT to the last one
	DrainedPerSecond float64 `json:"drainedPerSecond"`
	Refused          int64   `json:"refused"`
	Lost             int64   `json:"lost"`
	OutOfOrder       int64   `json:"outOfOrder"`
	Duplicates       int64   `json:"duplicates"`

	CPUSecondsPerMillion float64 `json:"cpuSecondsPerMillion,omitempty"` // queued and drained
	PeakMemoryMiB        float64 `json:"peakMemoryMiB,omitempty"`        // the broker's, since it started
}

// MQTTQueue publishes n messages of QoS 1 to a session without connection, and
// then connects it. Of o it uses URL, ServerPID, Version, Size (24 or more),
// Window and Progress. It leaves no session behind, unless it fails.
func MQTTQueue(ctx context.Context, o MQTTOptions, n int) (MQTTQueueReport, error) {
	if n < 1 || o.Size < checkedSize {
		return MQTTQueueReport{}, fmt.Errorf("a queue needs a message, and %d bytes or more in each", checkedSize)
	}
	o.QoS, o.Publishers, o.Subscribers, o.Persistent, o.Rate = 1, 1, 1, true, 0
	r := MQTTQueueReport{Messages: n}
	done, err := perform(ctx, o, func(l *load, ctx context.Context) error { return l.queue(ctx, &r) })
	r.URL, r.Size, r.Refused = done.URL, done.Size, done.Refused
	r.Lost, r.OutOfOrder, r.Duplicates = done.Lost, done.OutOfOrder, done.Duplicates
	r.CPUSecondsPerMillion, r.PeakMemoryMiB = done.CPUSecondsPerMillion, done.PeakMemoryMiB
	return r, err
}

func (l *load) queue(ctx context.Context, r *MQTTQueueReport) error {
	l.lead.init(&l.o)
	topic, id := "bench/"+l.name, l.name+"s0"
	if err := l.absent(ctx, id, topic); err != nil {
		return err
	}
	p, err := l.newPublisher(ctx, 0, topic)
	if err != nil {
		return err
	}
	p.most, l.publishers = int64(r.Messages), []*publisher{p}
	l.o.Progress(fmt.Sprintf("publishing %d messages", r.Messages))
	used, err := l.meter()
	if err != nil {
		return err
	}
	begin := l.since()
	if err := p.publish(ctx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r.QueueSeconds = float64(l.since()-begin) / 1e9
	r.QueuedPerSecond = float64(r.Messages) / r.QueueSeconds

	l.o.Progress("draining")
	begin = l.since()
	c, err := l.dial(ctx, id, true)
	if err != nil {
		return err
	}
	if !c.connack.SessionPresent {
		return errors.New("the broker has forgotten the session")
	}
	s := &subscriber{link: c, l: l, checker: newChecker(1)}
	l.subscribers = []*subscriber{s}
	l.read(c, s)
	end, err := l.drain(ctx, begin)
	if err != nil {
		return err
	}
	l.count()
	r.DrainSeconds = float64(end-begin) / 1e9
	r.DrainedPerSecond = float64(l.report.Delivered) / r.DrainSeconds
	if err := used(); err != nil {
		return err
	}
	return l.farewell(ctx)
}

// absent makes a session with a subscription, and leaves it.
func (l *load) absent(ctx context.Context, id, topic string) error {
	c, err := l.dial(ctx, id, true)
	if err != nil {
		return err
	}
	if err := c.subscribe(topic, mqtt.AtLeastOnce); err != nil {
		return err
	}
	return c.leave()
}

// leave says DISCONNECT, and waits until the broker has closed the connection
// [MQTT-3.14.4-1]; so it has taken notice, and no port of ours is used up.
func (c *link) leave() error {
	b, err := (&mqtt.Disconnect{}).Append(nil, c.version)
	if err != nil {
		return err
	}
	if _, err := c.nc.Write(b); err != nil {
		return err
	}
	if err := c.nc.SetReadDeadline(time.Now().Add(setUp)); err != nil {
		return err
	}
	if _, err := c.nc.Read(make([]byte, 1)); err == nil {
		return errors.New("the broker has more to say after DISCONNECT")
	}
	return c.nc.Close()
}

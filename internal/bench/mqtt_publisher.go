package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// publisher sends. One goroutine decides when and writes; the link's reader
// takes the acknowledgements.
type publisher struct {
	*link
	l      *load
	frame  *frame
	number uint64        // its place among the publishers
	size   int           // packet identifiers in all
	batch  int           // most messages in one write
	opened chan struct{} // enough identifiers are free
	ready  chan struct{} // the lead has shrunk
	timer  *time.Timer
	every  uint64 // each which message carries the time
	most   int64  // messages in all, 0: until the load is over

	// guarded by link.mu
	want     int // how many free identifiers opened is waited for; 0: nobody waits
	sent     int64
	accepted int64
	refused  int64
}

// writeSize is how much is written at once, in bytes, if one message is not more.
const writeSize = 16 << 10

func (l *load) newPublisher(ctx context.Context, i int, topic string) (*publisher, error) {
	c, err := l.dial(ctx, fmt.Sprintf("%sp%d", l.name, i), false)
	if err != nil {
		return nil, err
	}
	f, err := newFrame(topic, l.o.Size, mqtt.QoS(l.o.QoS), l.o.Version)
	if err != nil {
		return nil, err
	}
	if err := c.takes(f); err != nil {
		return nil, err
	}
	p := &publisher{
		link: c, l: l, frame: f, number: uint64(i), every: 64,
		opened: make(chan struct{}, 1), ready: make(chan struct{}, 1), timer: time.NewTimer(0),
	}
	if l.o.Rate > 0 {
		p.every = 1
	}
	p.batch = min(max(writeSize/len(f.bytes), 1), l.lead.share)
	if f.qos > 0 {
		c.window(l.o.Window)
		p.size = len(c.free)
		p.batch = min(p.batch, p.size)
	}
	l.read(c, p)
	return p, nil
}

// takes says whether the broker takes such messages at all.
func (c *link) takes(f *frame) error {
	if most := int(c.connack.MaximumPacketSize); most != 0 && len(f.bytes) > most { // [MQTT-3.2.2-15]
		return fmt.Errorf("the broker takes no packets of %d bytes, only of %d", len(f.bytes), most)
	}
	if c.connack.HasMaximumQoS && f.qos > c.connack.MaximumQoS { // [MQTT-3.2.2-11]
		return fmt.Errorf("the broker takes QoS %d at most", c.connack.MaximumQoS)
	}
	return nil
}

// publish sends until the load is over, or all is sent, and then waits for the acknowledgements.
func (p *publisher) publish(ctx context.Context) error {
	pace := newPace(p.l.o.Rate/float64(p.l.o.Publishers), p.number, p.l.o.Publishers)
	for {
		n := p.batch
		if p.most > 0 {
			n = int(min(int64(n), p.most-p.sent))
		}
		if pace != nil && n > 0 {
			n = pace.due(n, p.sent, p.timer, p.l.over)
		}
		n, err := p.identifiers(ctx, n)
		if err != nil {
			return err
		}
		if pace == nil {
			if err := p.l.lead.wait(ctx, p, n); err != nil {
				return err
			}
		}
		if n == 0 || p.sent > 0 && isClosed(p.l.over) {
			break // a measurement has something from each, however short it is
		}
		if err := p.write(n, pace); err != nil {
			return fmt.Errorf("client %s: %w", p.id, err)
		}
	}
	return p.settle(ctx)
}

// write sends n messages in one go.
func (p *publisher) write(n int, pace *pace) error {
	now := p.l.since()
	p.mu.Lock()
	defer p.mu.Unlock()
	for range n {
		var at int64
		if number := uint64(p.sent); number%p.every == 0 {
			at = now
			if pace != nil {
				at = pace.stamp(p.l.epoch, now, p.sent)
			}
		}
		p.send(p.frame, p.number, uint64(p.sent), at)
		p.sent++
	}
	if p.frame.qos == mqtt.AtMostOnce {
		p.accepted += int64(n)
	}
	return p.flush()
}

// identifiers waits until a quarter of the window is free, so that a broker that
// acknowledges one at a time does not make us write one at a time. It returns
// how many of n may go, and 0 when the load is over.
func (p *publisher) identifiers(ctx context.Context, n int) (int, error) {
	if p.frame.qos == mqtt.AtMostOnce || n == 0 {
		return n, nil
	}
	want := max(1, min(n, p.size/4))
	for {
		p.mu.Lock()
		free := len(p.free)
		if p.want = 0; free < want {
			p.want = want
		}
		p.mu.Unlock()
		if free >= want {
			return min(n, free), nil
		}
		select {
		case <-p.opened:
		case <-p.l.over:
			return 0, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// settle waits until everything is acknowledged, or nothing is any more.
func (p *publisher) settle(ctx context.Context) error {
	if p.frame.qos == mqtt.AtMostOnce {
		return nil
	}
	for {
		p.mu.Lock()
		free := len(p.free)
		p.want = free + 1
		p.mu.Unlock()
		if free == p.size {
			return nil
		}
		p.timer.Reset(p.l.o.quiet)
		select {
		case <-p.opened:
		case <-p.timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *publisher) acknowledged(code mqtt.ReasonCode) error {
	switch {
	case !code.Failed():
		p.accepted++
	case code == mqtt.QuotaExceeded:
		p.refused++
	default:
		return fmt.Errorf("the broker refused a message: %s", code)
	}
	if p.want > 0 && len(p.free) >= p.want {
		p.want = 0
		signal(p.opened)
	}
	return nil
}

func (p *publisher) message([]byte) error {
	return errors.New("the broker sent a message to a publisher")
}

func (p *publisher) settled() {}

// signal wakes the one who waits, now or when it comes to wait.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

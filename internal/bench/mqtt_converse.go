package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// MQTTRequests measures the way there and back: each publisher sends one message
// to a subscriber, who answers it, and only then comes the next. What is
// published are the requests, what is delivered the answers. With o.Rate one
// more publisher sends that many messages a second meanwhile, to a subscriber of
// its own; their flaws are counted as well. Otherwise it is as MQTT.
func MQTTRequests(ctx context.Context, o MQTTOptions) (MQTTReport, error) {
	if o.Size < checkedSize || o.Subscribers == 0 {
		return MQTTReport{}, fmt.Errorf("request and response need a subscriber and %d bytes or more", checkedSize)
	}
	return perform(ctx, o, (*load).converse)
}

func (l *load) converse(ctx context.Context) error {
	l.o.Progress(fmt.Sprintf("connecting %d publishers and %d subscribers", l.o.Publishers, l.o.Subscribers))
	base := "bench/" + l.name
	answers := make([]*frame, l.o.Publishers)
	for i := range answers {
		var err error
		if answers[i], err = newFrame(fmt.Sprint(base, "/back/", i), l.o.Size, mqtt.QoS(l.o.QoS), l.o.Version); err != nil {
			return err
		}
	}
	err := each(l.o.Subscribers, func(i int) error {
		s, err := l.newSpeaker(ctx, fmt.Sprintf("%ss%d", l.name, i), fmt.Sprint(base, "/to/", i), answers[0])
		if err == nil {
			l.read(s.link, &responder{s, answers})
		}
		return err
	})
	if err != nil {
		return err
	}
	requesters := make([]*requester, l.o.Publishers)
	err = each(len(requesters), func(i int) error {
		f, err := newFrame(fmt.Sprint(base, "/to/", i%l.o.Subscribers), l.o.Size, mqtt.QoS(l.o.QoS), l.o.Version)
		if err != nil {
			return err
		}
		s, err := l.newSpeaker(ctx, fmt.Sprintf("%sp%d", l.name, i), fmt.Sprint(base, "/back/", i), f)
		if err == nil {
			requesters[i] = &requester{speaker: s, l: l, frame: f, number: uint64(i), done: make(chan struct{})}
			l.read(s.link, requesters[i])
		}
		return err
	})
	if err != nil {
		return err
	}
	report, err := l.beside(ctx)
	if err != nil {
		return err
	}
	if err := l.await(ctx, requesters); err != nil {
		return err
	}
	return report()
}

// lap is by how much the messages beside the requests outlast them.
const lap = 300 * time.Millisecond

// beside starts the messages beside the requests, and returns when they flow.
// report waits for their end.
func (l *load) beside(ctx context.Context) (report func() error, err error) {
	if l.o.Rate == 0 {
		return func() error { return nil }, nil
	}
	o := l.o
	o.Publishers, o.Subscribers, o.For, o.ServerPID, o.Progress = 1, 1, o.For+lap, 0, nil
	flows, ended := make(chan struct{}), make(chan error, 1)
	o.begun = func() { close(flows) }
	var r MQTTReport
	go func() {
		var err error
		r, err = MQTT(ctx, o)
		ended <- err
	}()
	select {
	case <-flows:
	case err := <-ended:
		return nil, err
	}
	return func() error {
		if err := <-ended; err != nil {
			return err
		}
		l.report.BesidePerSecond = r.DeliveredPerSecond
		l.report.Lost += r.Lost
		l.report.OutOfOrder += r.OutOfOrder
		l.report.Duplicates += r.Duplicates
		return nil
	}, nil
}

// await runs the conversations until they are over.
func (l *load) await(ctx context.Context, requesters []*requester) error {
	l.o.Progress(fmt.Sprintf("one message at a time for %s", l.o.For))
	used, err := l.meter()
	if err != nil {
		return err
	}
	begin := l.since()
	timer := time.AfterFunc(l.o.For, func() { close(l.over) })
	defer timer.Stop()
	for _, r := range requesters {
		if err := r.start(); err != nil {
			return err
		}
	}
	end, stop := context.WithTimeout(ctx, l.o.For+l.o.quiet)
	defer stop()
	for _, r := range requesters {
		select {
		case <-r.done:
		case <-end.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	l.report.Seconds = float64(l.since()-begin) / 1e9
	l.close()
	for _, r := range requesters {
		l.report.Published += r.sent
		l.report.Delivered += r.received
		l.report.Duplicates += r.duplicates
		l.report.Lost += r.sent - r.received
	}
	l.percentiles()
	l.report.PublishedPerSecond = float64(l.report.Published) / l.report.Seconds
	l.report.DeliveredPerSecond = float64(l.report.Delivered) / l.report.Seconds
	return used()
}

// speaker is a client that both publishes and subscribes.
type speaker struct {
	*link
	later []order // wait for a packet identifier; guarded by link.mu
}

// order is a message to be sent.
type order struct {
	frame        *frame
	from, number uint64
	at           int64
}

func (l *load) newSpeaker(ctx context.Context, id, filter string, f *frame) (*speaker, error) {
	c, err := l.dial(ctx, id, false)
	if err != nil {
		return nil, err
	}
	if err := c.takes(f); err != nil {
		return nil, err
	}
	c.window(l.o.Window)
	return &speaker{link: c}, c.subscribe(filter, f.qos)
}

// say sends, now or when there is an identifier for it. link.mu is held.
func (s *speaker) say(o order) {
	if o.frame.qos > 0 && len(s.free) == 0 {
		s.later = append(s.later, o)
		return
	}
	s.send(o.frame, o.from, o.number, o.at)
}

func (s *speaker) acknowledged(code mqtt.ReasonCode) error {
	if code.Failed() {
		return fmt.Errorf("the broker refused a message: %s", code)
	}
	if len(s.later) > 0 {
		o := s.later[0]
		s.later = s.later[1:]
		s.say(o)
	}
	return nil
}

func (s *speaker) settled() {}

// responder sends back what it gets.
type responder struct {
	*speaker
	answers []*frame // by publisher
}

func (r *responder) message(payload []byte) error {
	if len(payload) < checkedSize {
		return fmt.Errorf("a request of %d bytes arrived", len(payload))
	}
	from, number, at := readStamp(payload)
	if from >= uint64(len(r.answers)) {
		return fmt.Errorf("a request arrived that nobody sent: of publisher %d", from)
	}
	r.say(order{r.answers[from], from, number, at})
	return nil
}

// requester sends the next request when it has the answer.
type requester struct {
	*speaker
	l      *load
	frame  *frame
	number uint64
	done   chan struct{} // closed with the last answer
	ended  sync.Once

	// guarded by link.mu
	sent, received, duplicates int64
}

func (r *requester) start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ask()
	return r.flush()
}

func (r *requester) ask() {
	r.say(order{r.frame, r.number, uint64(r.sent), r.l.since()})
	r.sent++
}

func (r *requester) message(payload []byte) error {
	if len(payload) < checkedSize {
		return fmt.Errorf("an answer of %d bytes arrived", len(payload))
	}
	from, number, at := readStamp(payload)
	switch {
	case from != r.number || number >= uint64(r.sent):
		return fmt.Errorf("an answer arrived to what was not asked: number %d of publisher %d", number, from)
	case number < uint64(r.received):
		r.duplicates++
		return nil
	}
	r.received++
	r.l.latency.add(r.l.since() - at)
	if isClosed(r.l.over) {
		r.ended.Do(func() { close(r.done) })
		return nil
	}
	r.ask()
	return nil
}

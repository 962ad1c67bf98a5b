package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// MQTTOptions say how a broker is measured. Zero fields have defaults where one
// is named.
type MQTTOptions struct {
	// URL is where the broker is: mqtt, mqtts, ws or wss, with user:password@ if
	// it asks for that. Required.
	URL         string
	QoS         int // of publishing and of the subscriptions, 0 to 2
	Publishers  int // default 1; all publish on one topic
	Subscribers int // each gets everything; 0 measures publishing alone
	// Size is the length of a payload in bytes. From checkedSize on it carries
	// who sent it, which number it is and when; below that, messages are only
	// counted.
	Size int
	For  time.Duration // of publishing; default 5 s
	// ServerPID is the broker's process, on this machine, whose CPU time and
	// memory are reported; 0 if it is not known.
	ServerPID  int
	Version    mqtt.Version // default mqtt.V5
	Persistent bool         // the subscribers have sessions that outlive their connections
	// Window is how many messages of one publisher may await their
	// acknowledgement, from 1 to 65,535; QoS 0 has none. Default 100. The broker
	// may ask for less.
	Window int
	// Rate is how many messages a second all publishers send together. 0 is as
	// fast as it goes without a queue that only grows: see lead.
	Rate     float64
	Progress func(string) // is told what goes on; may be nil

	quiet time.Duration                           // how long nothing may come before the rest counts as lost; 0: quiet
	begun func()                                  // is called when publishing begins; may be nil
	dial  func(context.Context) (net.Conn, error) // connects, in place of URL; may be nil
}

// MQTTReport is what was measured. Times run from the first message to the last
// one that arrived.
type MQTTReport struct {
	URL         string  `json:"url"` // without user and password
	QoS         int     `json:"qos"`
	Publishers  int     `json:"publishers"`
	Subscribers int     `json:"subscribers"`
	Size        int     `json:"size"`
	Seconds     float64 `json:"seconds"`

	// Published counts what the broker took: with QoS 1 and 2 what it has
	// acknowledged. Refused is what it said no to for want of room, and
	// Unacknowledged what it has not answered at all.
	Published      int64 `json:"published"`
	Refused        int64 `json:"refused"`
	Unacknowledged int64 `json:"unacknowledged"`
	// Delivered counts every copy at every subscriber, Lost the published ones
	// that did not arrive there, OutOfOrder those that arrived after a later one
	// of the same publisher, and Duplicates the second and further copies.
	Delivered  int64 `json:"delivered"`
	Lost       int64 `json:"lost"`
	OutOfOrder int64 `json:"outOfOrder"`
	Duplicates int64 `json:"duplicates"`

	PublishedPerSecond float64 `json:"publishedPerSecond"`
	DeliveredPerSecond float64 `json:"deliveredPerSecond"`
	// The broker's CPU time needs ServerPID. A million is one of delivered
	// messages, or of published ones if there are no subscribers.
	CPUSecondsPerMillion     float64 `json:"cpuSecondsPerMillion,omitempty"`
	LoadCPUSecondsPerMillion float64 `json:"loadCpuSecondsPerMillion,omitempty"` // of this process
	// From sending to arrival, or of the way there and back; sampled.
	P50Ms         float64 `json:"p50Ms,omitempty"`
	P99Ms         float64 `json:"p99Ms,omitempty"`
	P999Ms        float64 `json:"p999Ms,omitempty"`
	PeakMemoryMiB float64 `json:"peakMemoryMiB,omitempty"` // the broker's, since it started
	// BesidePerSecond is what MQTTRequests has delivered beside the answers.
	BesidePerSecond float64 `json:"besidePerSecond,omitempty"`
}

// quiet is how long nothing may arrive before what is missing counts as lost.
const quiet = 2 * time.Second

func (o MQTTOptions) withDefaults() (MQTTOptions, *url.URL, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return o, nil, fmt.Errorf("broker URL: %w", err)
	}
	if _, ok := defaultPorts[u.Scheme]; !ok || u.Host == "" {
		return o, nil, fmt.Errorf("broker URL %q: want mqtt, mqtts, ws or wss and a host", u.Redacted())
	}
	def(&o.Publishers, 1)
	def(&o.For, 5*time.Second)
	def(&o.Version, mqtt.V5)
	def(&o.Window, 100)
	def(&o.quiet, quiet)
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	switch {
	case o.QoS < 0 || o.QoS > 2:
		err = fmt.Errorf("QoS %d: want 0, 1 or 2", o.QoS)
	case o.Publishers < 0 || o.Subscribers < 0 || o.Size < 0 || o.For < 0 || o.Rate < 0:
		err = errors.New("publishers, subscribers, size, duration and rate may not be negative")
	case o.Window < 1 || o.Window > 65_535:
		err = fmt.Errorf("window %d: want 1 to 65,535", o.Window)
	}
	return o, u, err
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// MQTT measures a broker, with all its clients in this process. It blocks for
// the time to connect, o.For, and until everything has arrived or nothing has
// for a while. A broker that breaks off a connection, refuses a subscription or
// a message for another reason than want of room, or breaks a handshake, makes
// it fail; loss, disorder and duplicates do not: they are reported.
func MQTT(ctx context.Context, o MQTTOptions) (MQTTReport, error) {
	return perform(ctx, o, (*load).stream)
}

// perform runs one measurement, and closes its connections.
func perform(ctx context.Context, o MQTTOptions, run func(*load, context.Context) error) (MQTTReport, error) {
	o, u, err := o.withDefaults()
	if err != nil {
		return MQTTReport{}, err
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	l := &load{
		o: o, url: u, fail: fail, epoch: time.Now(), over: make(chan struct{}),
		name: "bench" + strings.ToLower(rand.Text()[:8]), latency: new(histogram), links: make(map[*link]struct{}),
	}
	// Much is read at once, unless there are very many clients.
	l.piece = min(max(allPieces/(o.Publishers+o.Subscribers), leastPiece), mostPiece)
	defer l.close()
	defer context.AfterFunc(ctx, l.cut)()
	l.report = MQTTReport{URL: bare(u), QoS: o.QoS, Publishers: o.Publishers, Subscribers: o.Subscribers, Size: o.Size}
	if err := run(l, ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return l.report, err
	}
	return l.report, nil
}

// bare is u without user and password.
func bare(u *url.URL) string {
	b := *u
	b.User = nil
	return b.String()
}

// How much a client reads at once, and all clients together, in bytes.
const mostPiece, leastPiece, allPieces = 128 << 10, 4 << 10, 256 << 20

// load is one measurement. What its clients share is here.
type load struct {
	o     MQTTOptions
	url   *url.URL
	piece int    // how much a client reads at once, in bytes
	name  string // random, and part of topics and client identifiers
	epoch time.Time
	fail  context.CancelCauseFunc // ends the measurement

	publishers  []*publisher
	subscribers []*subscriber
	lead        lead
	latency     *histogram
	over        chan struct{} // closed when publishing ends
	reading     sync.WaitGroup

	mu      sync.Mutex
	links   map[*link]struct{}
	closing bool // connections end as intended

	report MQTTReport
}

// since is the time on the clock that messages carry; it is never 0.
func (l *load) since() int64 { return int64(time.Since(l.epoch)) | 1 }

// stream measures publishers and subscribers on one topic.
func (l *load) stream(ctx context.Context) error {
	l.o.Progress(fmt.Sprintf("connecting %d publishers and %d subscribers", l.o.Publishers, l.o.Subscribers))
	if err := l.connect(ctx); err != nil {
		return err
	}
	l.o.Progress(fmt.Sprintf("publishing for %s", l.o.For))
	used, err := l.meter()
	if err != nil {
		return err
	}
	if l.o.begun != nil {
		l.o.begun()
	}
	begin := l.since()
	timer := time.AfterFunc(l.o.For, func() { close(l.over) })
	defer timer.Stop()
	var publishing sync.WaitGroup
	for _, p := range l.publishers {
		publishing.Go(func() { l.check(p.publish(ctx)) })
	}
	publishing.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	sent := l.since()
	l.o.Progress("waiting for the rest")
	last, err := l.drain(ctx, sent)
	if err != nil {
		return err
	}
	l.count()
	l.report.Seconds = float64(last-begin) / 1e9
	l.report.PublishedPerSecond = float64(l.report.Published) / (float64(sent-begin) / 1e9)
	l.report.DeliveredPerSecond = float64(l.report.Delivered) / l.report.Seconds
	if err := used(); err != nil {
		return err
	}
	return l.farewell(ctx)
}

// connect brings up the subscribers and then, when all have their
// subscriptions, the publishers.
func (l *load) connect(ctx context.Context) error {
	l.lead.init(&l.o)
	l.subscribers = make([]*subscriber, l.o.Subscribers)
	l.publishers = make([]*publisher, l.o.Publishers)
	topic := "bench/" + l.name
	err := each(len(l.subscribers), func(i int) (err error) {
		l.subscribers[i], err = l.newSubscriber(ctx, i, topic)
		return err
	})
	if err != nil {
		return err
	}
	l.lead.subscribers = l.subscribers
	return each(len(l.publishers), func(i int) (err error) {
		l.publishers[i], err = l.newPublisher(ctx, i, topic)
		return err
	})
}

// drain waits until every subscriber has everything, or nothing has come for a
// while. It returns when the last message came, or at if that is later.
func (l *load) drain(ctx context.Context, at int64) (int64, error) {
	var published int64
	for _, p := range l.publishers {
		p.mu.Lock() // its last acknowledgements may be late
		published += p.accepted
		p.mu.Unlock()
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		last, complete := at, true
		for _, s := range l.subscribers {
			last = max(last, s.last.Load())
			complete = complete && s.arrived.Load() >= published
		}
		if complete || l.since()-last > int64(l.o.quiet) {
			return last, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
	}
}

// count sums up what the clients have seen, after their connections are closed.
func (l *load) count() {
	l.close()
	r := &l.report
	for _, p := range l.publishers {
		r.Published += p.accepted
		r.Refused += p.refused
		r.Unacknowledged += p.sent - p.accepted - p.refused
	}
	for _, s := range l.subscribers {
		r.Delivered += s.received
		r.Duplicates += s.checker.duplicates
		r.OutOfOrder += s.checker.late
		r.Lost += max(0, r.Published-(s.received-s.checker.duplicates))
	}
	l.percentiles()
}

func (l *load) percentiles() {
	r := &l.report
	r.P50Ms, r.P99Ms, r.P999Ms = l.latency.ms(0.5), l.latency.ms(0.99), l.latency.ms(0.999)
}

// meter reads the CPU clocks now; what it returns reads them again and reports
// the difference, and the broker's memory.
func (l *load) meter() (used func() error, err error) {
	read := func() (server, own float64, err error) {
		if l.o.ServerPID != 0 {
			if server, err = cpuSeconds(l.o.ServerPID); err != nil {
				return 0, 0, err
			}
		}
		own, err = cpuSeconds(os.Getpid())
		return server, own, err
	}
	server, own, err := read()
	return func() error {
		serverNow, ownNow, err := read()
		if err != nil {
			return err
		}
		r := &l.report
		n := r.Delivered
		if r.Subscribers == 0 {
			n = r.Published
		}
		if n > 0 {
			r.CPUSecondsPerMillion = (serverNow - server) / float64(n) * 1e6
			r.LoadCPUSecondsPerMillion = (ownNow - own) / float64(n) * 1e6
		}
		if l.o.ServerPID != 0 {
			r.PeakMemoryMiB, err = peakMiB(l.o.ServerPID)
		}
		return err
	}, err
}

// farewell ends the persistent sessions, so that the broker keeps nothing of a
// measurement.
func (l *load) farewell(ctx context.Context) error {
	if !l.o.Persistent {
		return nil
	}
	return each(len(l.subscribers), func(i int) error {
		c, err := l.dial(ctx, l.subscribers[i].id, false)
		if err != nil {
			return fmt.Errorf("end the session of %s: %w", l.subscribers[i].id, err)
		}
		return c.nc.Close()
	})
}

// read runs a client's receiving side until its connection ends.
func (l *load) read(c *link, r role) {
	l.reading.Go(func() { l.check(c.receive(r)) })
}

// check ends the measurement at the first error that is not our own doing.
func (l *load) check(err error) {
	l.mu.Lock()
	closing := l.closing
	l.mu.Unlock()
	if err != nil && !closing {
		l.fail(err)
	}
}

// close closes all connections and waits for those who read them. It may be
// called again.
func (l *load) close() {
	l.cut()
	l.reading.Wait()
}

// cut closes all connections, so that nobody waits for one any more.
func (l *load) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closing = true
	for c := range l.links {
		_ = c.nc.Close() // nothing more is expected of it
	}
	clear(l.links)
}

// connecting is how many connections are being made at once.
const connecting = 32

// each calls f for 0 to n-1, several at a time, and returns the first error it
// has seen.
func each(n int, f func(i int) error) error {
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	room := make(chan struct{}, connecting)
	for i := range n {
		room <- struct{}{}
		wg.Go(func() {
			if err := f(i); err != nil {
				once.Do(func() { first = err })
			}
			<-room
		})
	}
	wg.Wait()
	return first
}

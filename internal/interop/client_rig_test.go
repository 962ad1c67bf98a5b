package interop

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

// schemes are the URL schemes of a client by the broker's network; "memory" is
// Broker.Dial, which has no URL.
var schemes = map[string]string{"tcp": "mqtt", "tls": "mqtts", "ws": "ws", "wss": "wss", "memory": ""}

var versions = map[string]mqtt.Version{"3.1.1": mqtt.V311, "5": mqtt.V5}

// rig is a broker that listens on one network, or on none for "memory", and
// that may be restarted over its store.
type rig struct {
	t     *testing.T
	roots *x509.CertPool

	mu      sync.Mutex
	options broker.Options
	broker  *broker.Broker // nil while it is stopped
}

func newRig(t *testing.T, network string, limits broker.Limits) *rig {
	t.Helper()
	r := &rig{t: t, options: broker.Options{
		Authority: broker.AllowAnonymous(), Limits: limits, Store: store.NewMemory(),
	}}
	if network != "memory" {
		l := broker.Listener{Name: network, Network: network, Address: "127.0.0.1:0"}
		if network == "tls" || network == "wss" {
			ca := testkit.NewCA(t)
			r.roots = ca.Pool()
			l.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Sign("server", nil)}}
		}
		r.options.Listeners = []broker.Listener{l}
	}
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *rig) start() {
	r.t.Helper()
	b, err := broker.New(r.options)
	if err == nil {
		err = b.Start()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.broker = b
	r.mu.Unlock()
}

func (r *rig) stop() {
	r.t.Helper()
	r.mu.Lock()
	b := r.broker
	r.broker = nil // its port may be another's soon
	r.mu.Unlock()
	if b == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.Stop(ctx); err != nil {
		r.t.Errorf("stop the broker: %v", err)
	}
}

func (r *rig) current() *broker.Broker {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broker
}

// dial connects to the broker as it is now.
func (r *rig) dial(ctx context.Context, network string) (net.Conn, error) {
	b := r.current()
	if b == nil {
		return nil, broker.ErrStopped
	}
	if network == "memory" {
		return b.Dial(ctx)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", b.Addr(network).String())
}

// client returns the options of a client whose session lasts. Its connections
// go through wrap, which may be nil.
func (r *rig) client(network string, v mqtt.Version, id string, wrap func(net.Conn) net.Conn) client.Options {
	o := client.Options{
		Version: v, ClientID: id, SessionExpiry: time.Hour,
		TLS:     &tls.Config{RootCAs: r.roots},
		Backoff: client.Backoff{Min: time.Millisecond, Max: 4 * time.Millisecond},
	}
	switch {
	case network == "memory":
		o.Dial = func(ctx context.Context) (net.Conn, error) {
			nc, err := r.dial(ctx, network)
			if err != nil || wrap == nil {
				return nc, err
			}
			return wrap(nc), nil
		}
	case wrap == nil:
		o.Servers = []string{schemes[network] + "://" + r.current().Addr(network).String()}
	default:
		o.Servers = []string{schemes[network] + "://" + r.proxy(network, wrap)}
	}
	return o
}

// open runs a client until the end of the test.
func open(t *testing.T, o client.Options) *client.Client {
	t.Helper()
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	t.Cleanup(func() { shut(t, c) })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.AwaitUp(ctx); err != nil {
		t.Fatalf("%s: %v", o.ClientID, err)
	}
	return c
}

func shut(t *testing.T, c *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// arrival is one call of OnMessage.
type arrival struct {
	n     int
	topic string
	qos   mqtt.QoS
	dup   bool
}

// journal is what a subscriber has seen of messages whose payloads are 0, 1, 2
// and so on.
type journal struct {
	want int
	full chan struct{} // closed when want different messages are there

	mu   sync.Mutex
	seen []arrival
	each map[int]int
}

func newJournal(want int) *journal {
	return &journal{want: want, full: make(chan struct{}), each: make(map[int]int)}
}

func (j *journal) add(d *client.Delivery) {
	n, err := strconv.Atoi(string(d.Payload))
	if err != nil {
		n = -1 // breaks every order
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seen = append(j.seen, arrival{n, d.Topic, d.QoS, d.Dup})
	if j.each[n]++; j.each[n] == 1 && len(j.each) == j.want {
		close(j.full)
	}
}

// await blocks until all messages have come.
func (j *journal) await(t *testing.T) {
	t.Helper()
	select {
	case <-j.full:
	case <-time.After(patience):
		j.mu.Lock()
		defer j.mu.Unlock()
		t.Fatalf("%d of %d messages came; the last: %v", len(j.each), j.want, j.seen[max(0, len(j.seen)-10):])
	}
}

// ordered expects that the first copies came in the order of publishing, and
// those of QoS 0 and 2 once.
func (j *journal) ordered(t *testing.T) (copies int) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	next := 0
	for i, a := range j.seen {
		switch {
		case a.n == next:
			next++
		case a.n > next || a.n < 0:
			t.Fatalf("arrival %d is message %d before %d: %v", i, a.n, next, j.seen[max(0, i-10):i+1])
		case a.qos != mqtt.AtLeastOnce:
			t.Fatalf("message %d of QoS %d came again, as arrival %d", a.n, a.qos, i)
		}
	}
	if next != j.want {
		t.Fatalf("%d of %d messages", next, j.want)
	}
	return len(j.seen) - next
}

// strict expects repetitions only of the message just before: 1 2 3 3 4, and
// never 1 2 3 2 3 4.
func (j *journal) strict(t *testing.T) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	last := -1
	for i, a := range j.seen {
		if a.n != last && a.n != last+1 {
			t.Fatalf("arrival %d is message %d after %d: %v", i, a.n, last, j.seen[max(0, i-10):i+1])
		}
		last = a.n
	}
}

// publisher sends numbered messages, and expects that each is accepted, and
// told of in its turn.
type publisher struct {
	t    *testing.T
	c    *client.Client
	next int
	told chan int
}

func newPublisher(t *testing.T, c *client.Client, room int) *publisher {
	return &publisher{t: t, c: c, told: make(chan int, room)}
}

// send publishes n messages, over topics x/0 to x/2, with the QoS in turn.
func (p *publisher) send(n int, qos ...mqtt.QoS) {
	p.t.Helper()
	for range n {
		i := p.next
		p.next++
		m := client.Message{Topic: fmt.Sprintf("x/%d", i%3), Payload: fmt.Append(nil, i), QoS: qos[i%len(qos)]}
		if err := p.c.PublishAsync(m, func(r client.Result) {
			if r.Err != nil {
				p.t.Errorf("message %d: %v", i, r.Err)
			}
			p.told <- i
		}); err != nil {
			p.t.Fatalf("message %d: %v", i, err)
		}
	}
}

// settled waits for the results of messages from to the newest, in order.
func (p *publisher) settled(from int) {
	p.t.Helper()
	end := time.After(patience)
	for i := from; i < p.next; i++ {
		select {
		case n := <-p.told:
			if n != i {
				p.t.Fatalf("result of message %d before that of %d", n, i)
			}
		case <-end:
			p.t.Fatalf("results of %d of %d messages", i, p.next)
		}
	}
}

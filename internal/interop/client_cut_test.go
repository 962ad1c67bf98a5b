package interop

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

// cutter ends connections after a random number of bytes, in the middle of
// whatever is said then.
type cutter struct {
	mu     sync.Mutex
	random *rand.Rand
	floor  int // bytes that every connection gets
	spread int // and at most so many more
	left   int // connections still to be cut
	made   int
}

var errCut = errors.New("cut")

func (c *cutter) wrap(nc net.Conn) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &cutConn{Conn: nc, by: c, budget: c.floor + c.random.IntN(c.spread)}
}

// calm lets all connections live from now on.
func (c *cutter) calm() (made int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = 0
	return c.made
}

// cutConn ends after its budget of bytes, both ways together.
type cutConn struct {
	net.Conn
	by     *cutter
	budget int // guarded by the cutter's mutex
	cut    bool
}

// spend says how many of n bytes may still pass, and whether that is the end.
func (c *cutConn) spend(n int) (int, bool) {
	c.by.mu.Lock()
	defer c.by.mu.Unlock()
	switch {
	case c.cut:
		return 0, true
	case c.by.left == 0:
		return n, false
	case n < c.budget:
		c.budget -= n
		return n, false
	}
	c.cut = true
	c.by.left--
	c.by.made++
	return c.budget, true
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n, end := c.spend(n); end {
		c.Conn.Close()
		return n, errCut
	}
	return n, err
}

func (c *cutConn) Write(p []byte) (int, error) {
	n, end := c.spend(len(p))
	if !end {
		return c.Conn.Write(p)
	}
	n, _ = c.Conn.Write(p[:n])
	c.Conn.Close()
	return n, errCut
}

// proxy stands between clients and one of the broker's listeners, also when the
// broker is another one by then, and returns its address.
func (r *rig) proxy(network string, wrap func(net.Conn) net.Conn) string {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { r.forward(near, network, wrap) })
		}
	})
	r.t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return l.Addr().String()
}

// forward carries one connection. An end in good order is passed on as such, so
// that last words arrive; everything else closes both sides.
func (r *rig) forward(near net.Conn, network string, wrap func(net.Conn) net.Conn) {
	defer near.Close()
	far, err := r.dial(context.Background(), network)
	if err != nil {
		return // the broker is away
	}
	defer far.Close()
	cut := wrap(near)
	carry := func(to, from net.Conn, close func() error) {
		if _, err := io.Copy(to, from); err != nil {
			near.Close()
			far.Close()
			return
		}
		close()
	}
	var up sync.WaitGroup
	up.Go(func() { carry(far, cut, far.(*net.TCPConn).CloseWrite) })
	carry(cut, far, near.(*net.TCPConn).CloseWrite)
	up.Wait()
}

// window keeps what is resent after a cut well below what a connection may
// carry, or nothing would ever get through.
const window = 8

// newCutter leaves room for what a network says before MQTT.
func newCutter(network string, seed uint64, cuts int) *cutter {
	before := map[string]int{"tls": 2000, "ws": 400, "wss": 2800}
	return &cutter{random: rand.New(rand.NewPCG(seed, 1)), floor: 60 + before[network], spread: 800, left: cuts}
}

// Publisher and subscriber are cut off again and again; what arrives is as if
// nothing had happened, but for repetitions of QoS 1.
// Shows [B1b] [B3a].
func TestClientResumesWhileBeingCut(t *testing.T) {
	for _, tc := range []struct {
		network string
		n       int
		qos     []mqtt.QoS
	}{
		{"tcp", 600, []mqtt.QoS{1}},
		{"tcp", 600, []mqtt.QoS{2}},
		{"tcp", 600, []mqtt.QoS{1, 2, 2, 1, 1}},
		{"memory", 600, []mqtt.QoS{1}},
		{"memory", 600, []mqtt.QoS{2}},
		{"memory", 600, []mqtt.QoS{1, 2, 2, 1, 1}},
		{"tls", 300, []mqtt.QoS{1, 2, 2, 1, 1}},
		{"ws", 300, []mqtt.QoS{1, 2, 2, 1, 1}},
		{"wss", 300, []mqtt.QoS{1, 2, 2, 1, 1}},
	} {
		for name, version := range versions {
			t.Run(tc.network+" "+name+" "+qosName(tc.qos), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, tc.network, broker.Limits{Inflight: window})
				seen := newJournal(tc.n + 1)
				cutSub, cutPub := newCutter(tc.network, 1, 40), newCutter(tc.network, 2, 40)
				o := r.client(tc.network, version, "sub", cutSub.wrap)
				o.Subscriptions = []mqtt.Subscription{{Filter: "x/#", QoS: 2}}
				acks := newShuffler(t, 3)
				o.OnMessage = func(d *client.Delivery) { seen.add(d); acks.take(d) }
				open(t, o)
				o = r.client(tc.network, version, "pub", cutPub.wrap)
				o.MaxInflight = window
				pub := newPublisher(t, open(t, o), tc.n+1)
				pub.send(tc.n, tc.qos...)
				pub.settled(0)
				a, b := cutPub.calm(), cutSub.calm()
				pub.send(1, 2) // what could still be repeated comes before this one
				pub.settled(tc.n)
				seen.await(t)
				copies := seen.ordered(t)
				if a < 5 || b < 5 {
					t.Errorf("only %d and %d cuts", a, b)
				}
				t.Logf("cut %d and %d times; %d repetitions", a, b, copies)
			})
		}
	}
}

func qosName(list []mqtt.QoS) string {
	if len(list) > 1 {
		return "mixed"
	}
	return "qos" + string('0'+rune(list[0]))
}

// shuffler acknowledges messages from a goroutine of its own, in random order.
type shuffler struct {
	in chan *client.Delivery
}

func newShuffler(t *testing.T, seed uint64) *shuffler {
	s := &shuffler{in: make(chan *client.Delivery, 10_000)}
	var running sync.WaitGroup
	running.Go(func() {
		random := rand.New(rand.NewPCG(seed, 1))
		var batch []*client.Delivery
		for d := range s.in {
			batch = append(batch, d)
			if len(s.in) > 0 && len(batch) < window {
				continue
			}
			random.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
			for _, d := range batch {
				d.Ack()
			}
			batch = batch[:0]
		}
	})
	t.Cleanup(func() { // the client has stopped by then
		close(s.in)
		running.Wait()
	})
	return s
}

func (s *shuffler) take(d *client.Delivery) { s.in <- d }

// With Receive Maximum 1 on both sides, a message comes again only directly
// after itself, however the connections end.
// Shows [B7c].
func TestClientReceiveMaximumOneWhileBeingCut(t *testing.T) {
	for _, network := range []string{"tcp", "memory"} {
		for name, version := range versions {
			t.Run(network+" "+name, func(t *testing.T) {
				t.Parallel()
				const n = 300
				limits := broker.Limits{ReceiveMaximum: 1}
				if version == mqtt.V311 { // it has no word for it, so each side must know
					limits.Inflight = 1
				}
				r := newRig(t, network, limits)
				seen := newJournal(n)
				cutSub, cutPub := newCutter(network, 5, 30), newCutter(network, 6, 30)
				o := r.client(network, version, "sub", cutSub.wrap)
				o.ReceiveMaximum = 1
				o.Subscriptions = []mqtt.Subscription{{Filter: "x/#", QoS: 1}}
				acks := newShuffler(t, 7)
				o.OnMessage = func(d *client.Delivery) { seen.add(d); acks.take(d) }
				open(t, o)
				o = r.client(network, version, "pub", cutPub.wrap)
				if version == mqtt.V311 {
					o.MaxInflight = 1
				}
				pub := newPublisher(t, open(t, o), n)
				pub.send(n, 1)
				pub.settled(0)
				seen.await(t)
				seen.strict(t)
				if a, b := cutPub.calm(), cutSub.calm(); a < 5 || b < 5 {
					t.Errorf("only %d and %d cuts", a, b)
				}
			})
		}
	}
}

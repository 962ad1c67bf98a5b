package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gate is a line between two places, in the test's hands.
type gate struct {
	mu    sync.Mutex
	shut  bool // nobody is let through, and who is through is cut off
	stuck bool // what is said vanishes, and nobody is told
	ends  map[*gated]struct{}
}

var errShut = errors.New("the line is cut")

// dial is through the gate.
func (g *gate) dial(to func() (net.Conn, error)) (net.Conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut || g.stuck {
		return nil, errShut
	}
	c, err := to()
	if err != nil {
		return nil, err
	}
	if g.ends == nil {
		g.ends = map[*gated]struct{}{}
	}
	end := &gated{c, g}
	g.ends[end] = struct{}{}
	return end, nil
}

func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	g.closeAll()
}

func (g *gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut
}

func (g *gate) closeAll() {
	for end := range g.ends {
		end.Conn.Close()
	}
	clear(g.ends)
}

// stick lets what is said vanish from now on.
func (g *gate) stick() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stuck = true
}

// mend lets new connections through.
func (g *gate) mend() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stuck {
		g.closeAll()
	}
	g.shut, g.stuck = false, false
}

// gated is a connection through a gate.
type gated struct {
	net.Conn
	g *gate
}

func (c *gated) isStuck() bool {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	return c.g.stuck
}

func (c *gated) Write(b []byte) (int, error) {
	if c.isStuck() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *gated) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.isStuck() {
			return n, err
		}
	}
}

// world is two brokers and an uplink between them.
type world struct {
	t            *testing.T
	below, above *broker.Broker
	upstream     client.Options
	dir          string
	lanes        []Lane
	u            *Uplink
	local, line  *gate // between the uplink and the two
	starts       int
	log          *slog.Logger
}

func fifo(filter string, q broker.Queue) Lane {
	return Lane{Client: "up/" + filter, Name: filter, Queue: q, Subscriptions: []mqtt.Subscription{{Filter: filter, QoS: mqtt.ExactlyOnce, RetainHandling: 1}}}
}

func newWorld(t *testing.T, lanes ...Lane) *world {
	w := &world{t: t, below: startBroker(t), above: startBroker(t), dir: t.TempDir(), lanes: lanes, log: slog.New(slog.DiscardHandler)}
	w.upstream = client.Options{KeepAlive: time.Second, Backoff: client.Backoff{Min: 10 * time.Millisecond, Max: time.Second}, Dial: w.above.Dial}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

func startBroker(t *testing.T) *broker.Broker {
	b, err := broker.New(broker.Options{Authority: broker.AllowAnonymous()})
	if err == nil {
		err = b.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// start makes an uplink of what the directory has.
func (w *world) start() {
	local := &gate{}
	if w.line == nil {
		w.line = &gate{}
	}
	line := w.line
	w.local = local
	up := w.upstream
	up.ClientID, up.SessionExpiry = "gw", forEver
	up.Dial = func(ctx context.Context) (net.Conn, error) {
		return line.dial(func() (net.Conn, error) { return w.upstream.Dial(ctx) })
	}
	var err error
	w.u, err = New(Options{Dir: w.dir, Lanes: w.lanes, Logger: w.log, NumberAbove: w.below.NumberAbove,
		Dial: func(ctx context.Context, q broker.Queue) (net.Conn, error) {
			return local.dial(func() (net.Conn, error) { return w.below.DialQueue(ctx, q) })
		}, Upstream: up})
	if err != nil {
		w.t.Fatal(err)
	}
	w.u.Start()
}

func (w *world) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.u.Stop(ctx); err != nil {
		w.t.Error(err)
	}
}

// kill is a kill -9 of the uplink, and a new start: from one moment on nothing that it
// does is seen by anybody, and the next has the files of that moment. A line above that
// is cut stays so.
func (w *world) kill() {
	shut := w.line.isShut()
	w.local.stick()
	w.line.stick()
	w.starts++
	dir := filepath.Join(w.t.TempDir(), fmt.Sprint(w.starts))
	if err := os.CopyFS(dir, os.DirFS(w.dir)); err != nil {
		w.t.Fatal(err)
	}
	w.local.cut()
	ghost, line := w.u, w.line
	line.cut()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	_ = ghost.Stop(ctx)
	cancel()
	w.line = &gate{shut: shut}
	w.dir = dir
	w.start()
}

// ear hears in order what comes to a broker.
type ear struct {
	*client.Client
	mu   sync.Mutex
	said []client.Message
}

func listen(t *testing.T, b *broker.Broker, filters ...string) *ear {
	e := &ear{}
	o := client.Options{Dial: b.Dial, ClientID: "ear", SessionExpiry: time.Hour, OnMessage: func(d *client.Delivery) {
		e.mu.Lock()
		e.said = append(e.said, d.Message)
		e.mu.Unlock()
		d.Ack()
	}}
	for _, f := range filters {
		o.Subscriptions = append(o.Subscriptions, mqtt.Subscription{Filter: f, QoS: mqtt.ExactlyOnce, RetainAsPublished: true})
	}
	e.Client = clientOf(t, o)
	return e
}

func clientOf(t *testing.T, o client.Options) *client.Client {
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	if err := c.AwaitUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

// heard is what has come so far, as "topic payload".
func (e *ear) heard() (list []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range e.said {
		list = append(list, m.Topic+" "+string(m.Payload))
	}
	return list
}

func speaker(t *testing.T, b *broker.Broker) *client.Client {
	return clientOf(t, client.Options{Dial: b.Dial, ClientID: "mouth", CleanStart: true})
}

func say(t *testing.T, c *client.Client, topic, text string) {
	t.Helper()
	if err := c.Publish(t.Context(), client.Message{Topic: topic, Payload: []byte(text), QoS: mqtt.AtLeastOnce}); err != nil {
		t.Fatal(err)
	}
}

// settle lets a long time pass.
func settle() {
	time.Sleep(time.Minute)
	synctest.Wait()
}

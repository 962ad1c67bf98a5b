package link

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

// line is between a link and its broker, in memory and in the test's hands.
type line struct {
	b *broker.Broker

	mu    sync.Mutex
	down  bool // nobody gets through
	stuck bool // what is said vanishes, and nobody is told
	conn  net.Conn
}

func (l *line) dial(ctx context.Context) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down || l.stuck {
		return nil, errors.New("the line is down")
	}
	c, err := l.b.Dial(ctx)
	l.conn = c
	return held{c, l}, err
}

// set cuts the line, or lets new connections through; a stuck one ends only then.
func (l *line) set(down, stuck bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down, l.stuck = down, stuck
	if !stuck {
		l.conn.Close()
	}
}

type held struct {
	net.Conn
	l *line
}

func (h held) isStuck() bool {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	return h.l.stuck
}

func (h held) Write(b []byte) (int, error) {
	if h.isStuck() {
		return len(b), nil
	}
	return h.Conn.Write(b)
}

func (h held) Read(b []byte) (int, error) {
	for {
		n, err := h.Conn.Read(b)
		if err != nil || !h.isStuck() {
			return n, err
		}
	}
}

// A line that is cut, and one that goes dead without a word: the engine is told, within
// the keep-alive; what was published meanwhile goes out once and in its order when the
// line is back, and what devices said meanwhile is heard.
func TestABadLine(t *testing.T) {
	for name, dead := range map[string]bool{"cut": false, "half-open": true} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { badLine(t, dead) }) })
	}
}

func badLine(t *testing.T, dead bool) {
	b, err := broker.New(broker.Options{Authority: broker.AllowAnonymous()})
	if err == nil {
		err = b.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer stopBroker(t, b)
	var heard []string
	device, err := client.New(client.Options{Dial: b.Dial, ClientID: "device", CleanStart: true,
		Subscriptions: []mqtt.Subscription{{Filter: command, QoS: 1}},
		OnMessage:     func(d *client.Delivery) { heard = append(heard, string(d.Payload)); d.Ack() }})
	if err != nil {
		t.Fatal(err)
	}
	device.Start()
	defer func() {
		if err := device.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	way := &line{b: b}
	p := &peer{messages: make(chan engine.Message, 100), link: make(chan bool, 100)}
	l := New(Options{Client: client.Options{Dial: way.dial, ClientID: "server", KeepAlive: 5 * time.Second, Backoff: client.Backoff{Min: time.Second, Max: time.Second}},
		Profiles: []wire.Profile{wire.NewWilco("")}, Logger: slog.New(slog.DiscardHandler)})
	if err := l.Start(p); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if !get(t, p.link) {
		t.Fatal("down before it was up")
	}
	way.set(!dead, dead)
	began := time.Now()
	results := make(chan error, 3)
	for _, text := range []string{"1", "2", "3"} {
		l.Publish(engine.Publication{Topic: command, Payload: []byte(text)}, func(err error) { results <- err })
	}
	if err := device.Publish(t.Context(), client.Message{Topic: "wilco/g/d/ack", Payload: []byte("{}"), QoS: mqtt.AtLeastOnce}); err != nil {
		t.Fatal(err)
	}
	if get(t, p.link) || l.Err() == nil {
		t.Error("the end of the line was not told")
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it was told after %s", took)
	}
	if len(results) > 0 {
		t.Errorf("a publication has a result while nobody can know: %v", <-results)
	}
	way.set(false, false)
	if !get(t, p.link) || l.Err() != nil {
		t.Errorf("not back: %v", l.Err())
	}
	for range 3 {
		if err := get(t, results); err != nil {
			t.Error(err)
		}
	}
	if m := get(t, p.messages); m.Topic != "wilco/g/d/ack" {
		t.Errorf("%+v", m)
	}
	synctest.Wait()
	if len(heard) != 3 || heard[0] != "1" || heard[1] != "2" || heard[2] != "3" {
		t.Errorf("the device heard %q", heard)
	}
}

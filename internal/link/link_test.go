package link

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/engine"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// rights lets everybody in and forbids publishing to topics with "denied" in them.
type rights struct{}

func (rights) Authenticate(_ context.Context, c broker.Credentials) (broker.Identity, error) {
	return somebody(c.ClientID), nil
}

type somebody string

func (s somebody) Name() string               { return string(s) }
func (somebody) MayPublish(topic string) bool { return !strings.Contains(topic, "denied") }
func (somebody) MaySubscribe(string) bool     { return true }
func (somebody) MayReceive(string) bool       { return true }

// peer hears what the link says to the engine.
type peer struct {
	messages chan engine.Message
	link     chan bool
}

func (p *peer) Receive(m engine.Message) { m.Ack(); p.messages <- m }
func (p *peer) LinkUp()                  { p.link <- true }
func (p *peer) LinkDown()                { p.link <- false }

func startBroker(t *testing.T, address string) *broker.Broker {
	t.Helper()
	b, err := broker.New(broker.Options{Authority: rights{}, Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: address}}})
	if err == nil {
		err = b.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopBroker(t, b) })
	return b
}

func stopBroker(t *testing.T, b *broker.Broker) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func startLink(t *testing.T, address string, v mqtt.Version) (*Link, *peer) {
	t.Helper()
	p := &peer{messages: make(chan engine.Message, 100), link: make(chan bool, 100)}
	l := New(Options{Client: client.Options{Servers: []string{"mqtt://" + address}, Version: v, ClientID: "server"},
		Profiles: []wire.Profile{wire.NewWilco("")}, Logger: slog.New(slog.DiscardHandler)})
	if err := l.Start(p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := l.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	if !get(t, p.link) {
		t.Fatal("down before it was up")
	}
	return l, p
}

func get[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// other is a client of the broker that is neither server nor broker.
func other(t *testing.T, address string, got chan *client.Delivery, filters ...string) *client.Client {
	t.Helper()
	o := client.Options{Servers: []string{"mqtt://" + address}, ClientID: "other", CleanStart: true,
		OnMessage: func(d *client.Delivery) { d.Ack(); got <- d }}
	for _, f := range filters {
		o.Subscriptions = append(o.Subscriptions, mqtt.Subscription{Filter: f, QoS: 1})
	}
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.AwaitUp(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop(context.Background()) })
	return c
}

const command = "wilco/g/d/command"

func TestPublicationsCarryWhatMQTT5CanSay(t *testing.T) {
	address := startBroker(t, "127.0.0.1:0").Addr("tcp").String()
	got := make(chan *client.Delivery, 10)
	other(t, address, got, command)
	l, p := startLink(t, address, mqtt.V5)
	done := make(chan error, 2)
	l.Publish(engine.Publication{Topic: command, Payload: []byte("{}"), Correlation: []byte("tid"), ResponseTopic: "wilco/g/d/result",
		Expiry: time.Hour}, func(err error) { done <- err })
	if err := get(t, done); err != nil {
		t.Fatal(err)
	}
	d := get(t, got)
	if d.Retain || string(d.CorrelationData) != "tid" || d.ResponseTopic != "wilco/g/d/result" || d.ContentType != "application/json" ||
		d.Expiry <= 50*time.Minute || d.Expiry > time.Hour {
		t.Errorf("%+v", d)
	}
	l.Publish(engine.Publication{Topic: "wilco/g/denied/command"}, func(err error) { done <- err })
	if err := get(t, done); !errors.Is(err, engine.ErrRefused) {
		t.Errorf("a publication that is not allowed: %v", err)
	}
	if len(p.messages) > 0 {
		t.Errorf("the server hears itself: %+v", <-p.messages)
	}
}

func TestSomebodyElsesCommandIsHeard(t *testing.T) {
	address := startBroker(t, "127.0.0.1:0").Addr("tcp").String()
	_, p := startLink(t, address, mqtt.V5)
	intruder := other(t, address, nil)
	if err := intruder.Publish(t.Context(), client.Message{Topic: command, Payload: []byte("{}"), QoS: 1}); err != nil {
		t.Fatal(err)
	}
	if m := get(t, p.messages); m.Topic != command || m.Retained {
		t.Errorf("%+v", m)
	}
	if err := intruder.Publish(t.Context(), client.Message{Topic: command, Payload: []byte("{}"), QoS: 1, Retain: true}); err != nil {
		t.Fatal(err)
	}
	if m := get(t, p.messages); m.Topic != command || !m.Retained {
		t.Errorf("retained: %+v", m)
	}
}

func TestRetainedCommandsAreFoundOverBothVersions(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		address := startBroker(t, "127.0.0.1:0").Addr("tcp").String()
		intruder := other(t, address, nil)
		if err := intruder.Publish(t.Context(), client.Message{Topic: command, Payload: []byte("{}"), QoS: 1, Retain: true}); err != nil {
			t.Fatal(err)
		}
		_, p := startLink(t, address, v)
		if m := get(t, p.messages); m.Topic != command || !m.Retained {
			t.Errorf("version %d: %+v", v, m)
		}
	}
}

func TestTheLinkComesBackWithTheBroker(t *testing.T) {
	b := startBroker(t, "127.0.0.1:0")
	address := b.Addr("tcp").String()
	l, p := startLink(t, address, mqtt.V5)
	if l.Err() != nil {
		t.Errorf("up, with the error %v", l.Err())
	}
	stopBroker(t, b)
	if get(t, p.link) || l.Err() == nil {
		t.Error("the end of the broker was not told")
	}
	startBroker(t, address)
	if !get(t, p.link) || l.Err() != nil {
		t.Errorf("not back: %v", l.Err())
	}
}

package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

// mosquitto is a running Eclipse Mosquitto with one listener of each kind.
type mosquitto struct {
	plain, tls, ws string // addresses
	roots          *x509.CertPool
}

// startMosquitto runs the broker until the end of the test.
func startMosquitto(t testing.TB) *mosquitto {
	t.Helper()
	ca := testkit.NewCA(t)
	cert, key := testkit.WriteCert(t, t.TempDir(), ca.Sign("127.0.0.1", nil))
	m := &mosquitto{plain: testkit.FreeAddress(t), tls: testkit.FreeAddress(t), ws: testkit.FreeAddress(t), roots: ca.Pool()}
	testkit.StartMosquitto(t, testkit.MosquittoConfig(t, "max_queued_messages 0",
		testkit.MosquittoListener(m.plain),
		testkit.MosquittoListener(m.tls), "certfile "+cert, "keyfile "+key,
		testkit.MosquittoListener(m.ws), "protocol websockets"))
	return m
}

// transports are the ways to reach the broker; versions the ways to speak.
func (m *mosquitto) transports() map[string]client.Options {
	return map[string]client.Options{
		"tcp": {Servers: []string{"mqtt://" + m.plain}},
		"tls": {Servers: []string{"mqtts://" + m.tls}, TLS: &tls.Config{RootCAs: m.roots}},
		"ws":  {Servers: []string{"ws://" + m.ws}},
	}
}

var versions = map[string]mqtt.Version{"3.1.1": mqtt.V311, "5.0": mqtt.V5}

// awaitUp gives a broker that is only just starting the time it needs.
func awaitUp(t testing.TB, c *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.AwaitUp(ctx); err != nil {
		t.Fatalf("not connected: %v", err)
	}
}

// stop ends a client in good order.
func stop(t testing.TB, c *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// Each QoS over each transport in each version: all messages arrive, once, in
// the order of publishing, across QoS for QoS 1 and 2.
// Shows [MQTT-4.2.0-1] [MQTT-6.0.0-3] [MQTT-6.0.0-1].
func TestMosquittoOrder(t *testing.T) {
	const count = 3000
	m := startMosquitto(t)
	for transport, options := range m.transports() {
		for name, version := range versions {
			for qos := range mqtt.QoS(3) {
				t.Run(fmt.Sprintf("%s/%s/qos%d", transport, name, qos), func(t *testing.T) {
					testOrder(t, options, version, qos, count)
				})
			}
		}
	}
}

func testOrder(t *testing.T, o client.Options, v mqtt.Version, qos mqtt.QoS, count int) {
	topic := "order/" + strings.ReplaceAll(t.Name(), "/", "-")
	got := make(chan string, count)
	sub := o
	sub.Version, sub.ClientID, sub.CleanStart = v, "s"+topic, true
	sub.Subscriptions = []mqtt.Subscription{{Filter: topic + "/#", QoS: qos}}
	sub.OnMessage = func(d *client.Delivery) { got <- string(d.Payload); d.Ack() }
	subscriber := start(t, sub)
	awaitUp(t, subscriber)
	pub := o
	pub.Version, pub.ClientID, pub.CleanStart = v, "p"+topic, true
	publisher := start(t, pub)
	awaitUp(t, publisher)

	var results []int
	for i := range count {
		err := publisher.PublishAsync(message(fmt.Sprintf("%s/%d", topic, i%7), fmt.Sprint(i), qos), func(r client.Result) {
			if r.Err != nil {
				t.Errorf("message %d: %v", i, r.Err)
			}
			results = append(results, i)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	timeout := time.After(2 * time.Minute)
	for i := range count {
		select {
		case s := <-got:
			if s != fmt.Sprint(i) {
				t.Fatalf("message %s arrived when %d was due", s, i)
			}
		case <-timeout:
			t.Fatalf("%d of %d messages arrived", i, count)
		}
	}
	stop(t, publisher)
	stop(t, subscriber)
	for i, r := range results {
		if i != r {
			t.Fatalf("result %d is that of message %d", i, r)
		}
	}
	if len(results) != count {
		t.Errorf("%d results for %d messages", len(results), count)
	}
}

// cutter is a Dial whose connections can be cut.
type cutter struct {
	address string
	mu      sync.Mutex
	conn    net.Conn
}

func (c *cutter) dial(ctx context.Context) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.address)
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
	return conn, err
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if tcp, ok := c.conn.(*net.TCPConn); ok {
		tcp.SetLinger(0) // a reset, with what is under way lost
		tcp.Close()
	}
}

// The connections of publisher and subscriber are cut again and again. With
// QoS 1 nothing is missing and last copies are in order; with QoS 2 each
// message arrives once, in order.
func TestMosquittoResume(t *testing.T) {
	m := startMosquitto(t)
	for name, version := range versions {
		for _, qos := range []mqtt.QoS{mqtt.AtLeastOnce, mqtt.ExactlyOnce} {
			t.Run(fmt.Sprintf("%s/qos%d", name, qos), func(t *testing.T) {
				testResume(t, m.plain, version, qos)
			})
		}
	}
}

func testResume(t *testing.T, address string, v mqtt.Version, qos mqtt.QoS) {
	const count, cuts = 4000, 8
	topic := "resume/" + strings.ReplaceAll(t.Name(), "/", "-")
	backoff := client.Backoff{Min: time.Millisecond, Max: 20 * time.Millisecond}
	far := &cutter{address: address}
	last := make(map[string]int) // payload: place of its last copy
	var order []string
	complete := make(chan struct{})
	subscriber := start(t, client.Options{
		Dial: far.dial, Version: v, ClientID: "rs" + topic, SessionExpiry: time.Hour, Backoff: backoff, ReceiveMaximum: 50,
		Subscriptions: []mqtt.Subscription{{Filter: topic, QoS: qos}},
		OnMessage: func(d *client.Delivery) {
			s := string(d.Payload)
			if last[s] == 0 && len(last)%(count/cuts) == count/cuts/2 {
				far.cut()
			}
			order = append(order, s)
			last[s] = len(order)
			d.Ack()
			if s == fmt.Sprint(count-1) && len(last) == count {
				select {
				case <-complete:
				default:
					close(complete)
				}
			}
		},
	})
	awaitUp(t, subscriber)
	near := &cutter{address: address}
	publisher := start(t, client.Options{Dial: near.dial, Version: v, ClientID: "rp" + topic, SessionExpiry: time.Hour, Backoff: backoff})
	awaitUp(t, publisher)
	for i := range count {
		err := publisher.PublishAsync(message(topic, fmt.Sprint(i), qos), func(r client.Result) {
			if r.Err != nil {
				t.Errorf("message %d: %v", i, r.Err)
			}
			if i%(count/cuts) == count/cuts/3 {
				near.cut()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-complete:
	case <-time.After(2 * time.Minute):
	}
	stop(t, publisher)
	stop(t, subscriber)
	place := 0
	for i := range count {
		p := last[fmt.Sprint(i)]
		if p == 0 {
			t.Fatalf("message %d is missing", i)
		}
		if p <= place {
			t.Fatalf("the last copy of message %d is at %d, that of the one before at %d", i, p, place)
		}
		place = p
	}
	if qos == mqtt.ExactlyOnce && len(order) != count {
		t.Errorf("%d deliveries for %d messages of QoS 2", len(order), count)
	}
	t.Logf("%d deliveries for %d messages", len(order), count)
}

// The Will is published when the connection is cut, and not after Stop.
func TestMosquittoWill(t *testing.T) {
	m := startMosquitto(t)
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			got := make(chan string, 10)
			watcher := start(t, client.Options{
				Servers: []string{"mqtt://" + m.plain}, Version: version, ClientID: "watcher", CleanStart: true,
				Subscriptions: []mqtt.Subscription{{Filter: "will/" + name, QoS: mqtt.AtLeastOnce}},
				OnMessage:     func(d *client.Delivery) { got <- string(d.Payload); d.Ack() },
			})
			awaitUp(t, watcher)
			link := &cutter{address: m.plain}
			wills := 0
			dying := start(t, client.Options{
				Dial: link.dial, Version: version, ClientID: "dying", CleanStart: true,
				Will: func() *mqtt.Will {
					wills++
					return &mqtt.Will{Topic: "will/" + name, Payload: fmt.Append(nil, "will ", wills), QoS: mqtt.AtLeastOnce}
				},
			})
			awaitUp(t, dying)
			link.cut()
			if s := testkit.Receive(t, got); s != "will 1" {
				t.Errorf("after the cut came %q", s)
			}
			awaitUp(t, dying)
			if err := dying.Publish(t.Context(), message("will/"+name, "farewell", mqtt.AtLeastOnce)); err != nil {
				t.Fatal(err)
			}
			stop(t, dying)
			if err := watcher.Publish(t.Context(), message("will/"+name, "end", mqtt.AtLeastOnce)); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"farewell", "end"} {
				if s := testkit.Receive(t, got); s != want {
					t.Errorf("came %q, want %q", s, want)
				}
			}
			stop(t, watcher)
		})
	}
}

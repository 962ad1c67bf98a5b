package edge_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/edge"
)

func TestMain(m *testing.M) {
	if file := os.Getenv(childFile); file != "" {
		fmt.Fprintln(os.Stderr, child(file, os.Getenv(childServer)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// patience is how long a test waits for what must come.
const patience = time.Minute

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// startBroker runs our broker and gives its address.
func startBroker(t testing.TB, authority broker.Authority) string {
	t.Helper()
	b, err := broker.New(broker.Options{
		Authority: authority,
		Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}},
	})
	if err == nil {
		err = b.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Stop(soon(t)) })
	return b.Addr("tcp").String()
}

func startMosquitto(t testing.TB) string {
	t.Helper()
	address := testkit.FreeAddress(t)
	testkit.StartMosquitto(t, testkit.MosquittoConfig(t, testkit.MosquittoListener(address)))
	return address
}

// everywhere runs a test at both brokers in both versions of MQTT.
func everywhere(t *testing.T, test func(t *testing.T, address string, v mqtt.Version)) {
	brokers := map[string]func(testing.TB) string{
		"wilco":     func(t testing.TB) string { return startBroker(t, broker.AllowAnonymous()) },
		"mosquitto": startMosquitto,
	}
	for name, start := range brokers {
		for version, v := range map[string]mqtt.Version{"3.1.1": mqtt.V311, "5": mqtt.V5} {
			t.Run(name+"/"+version, func(t *testing.T) { test(t, start(t), v) })
		}
	}
}

// wire lets a test cut the connections that are made with it.
type wire struct {
	address string
	mu      sync.Mutex
	conns   []net.Conn
	down    bool
}

func (w *wire) dial(ctx context.Context) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return nil, errors.New("the wire is cut")
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", w.address)
	if err == nil {
		w.conns = append(w.conns, c)
	}
	return c, err
}

// cut ends all connections; until mend there are no others.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = true
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = false
}

// message is a message as a test wants to see it.
type message struct {
	topic   sparkplug.Topic
	payload *sparkplug.Payload
}

// watcher is a host application that writes down what it gets.
type watcher struct {
	t        testing.TB
	c        *client.Client
	messages chan message
}

func watch(t testing.TB, address string) *watcher {
	t.Helper()
	w := &watcher{t: t, messages: make(chan message, 10_000)}
	var err error
	w.c, err = client.New(client.Options{
		Servers: []string{"mqtt://" + address}, ClientID: "watcher", CleanStart: true,
		Subscriptions: []mqtt.Subscription{{Filter: sparkplug.Namespace + "/#", QoS: mqtt.AtLeastOnce}},
		OnMessage: func(d *client.Delivery) {
			defer d.Ack()
			topic, err := sparkplug.ParseTopic(d.Topic)
			if err != nil || topic.Type == sparkplug.State || topic.Type == sparkplug.NCmd || topic.Type == sparkplug.DCmd {
				return
			}
			p := new(sparkplug.Payload)
			if err := p.Decode(d.Payload, sparkplug.Limits{}); err != nil {
				t.Errorf("%s: %v", d.Topic, err)
				return
			}
			for v := range sparkplug.Violations(topic.Type, p) {
				t.Errorf("%s breaks %s", d.Topic, v.Statement)
			}
			w.messages <- message{topic, p.Clone()}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.c.Start()
	if err := w.c.AwaitUp(soon(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.c.Stop(soon(t)) })
	return w
}

// next is the next message.
func (w *watcher) next() message {
	w.t.Helper()
	select {
	case m := <-w.messages:
		return m
	case <-time.After(patience):
		w.t.Fatal("no message came")
		return message{}
	}
}

// expect reads as many messages as there are descriptions, and compares. Of the
// metrics it looks at those of the test only, not at what each NBIRTH has.
func (w *watcher) expect(want ...string) {
	w.t.Helper()
	for _, s := range want {
		if got := describe(w.next()); got != s {
			w.t.Fatalf("got  %s\nwant %s", got, s)
		}
	}
}

func describe(m message) string {
	s := m.topic.Type.String()
	if m.topic.Device != "" {
		s += " " + m.topic.Device
	}
	if m.payload.HasSeq {
		s += fmt.Sprintf(" seq=%d", m.payload.Seq)
	}
	if b, err := m.payload.BdSeq(); err == nil {
		s += fmt.Sprintf(" bdSeq=%d", b)
	}
	for i := range m.payload.Metrics {
		x := &m.payload.Metrics[i]
		if strings.HasPrefix(string(x.Name), "Node Control/") || string(x.Name) == sparkplug.MetricBdSeq {
			continue
		}
		s += fmt.Sprintf(" %s", x.Name)
		if x.HasAlias {
			s += fmt.Sprintf("#%d", x.Alias)
		}
		// All metrics of these tests are Doubles.
		v, err := x.Value.Float(sparkplug.TypeDouble)
		if err != nil {
			s += "=" + err.Error()
		} else {
			s += fmt.Sprintf("=%g", v)
		}
		if x.Historical {
			s += " (past)"
		}
	}
	return s
}

// command sends an NCMD or DCMD to G/N.
func (w *watcher) command(device string, metrics ...sparkplug.Metric) {
	w.t.Helper()
	topic := sparkplug.Topic{Type: sparkplug.NCmd, Group: "G", Node: "N", Device: device}
	if device != "" {
		topic.Type = sparkplug.DCmd
	}
	p := sparkplug.Payload{Timestamp: 1, HasTimestamp: true, Metrics: metrics}
	w.publish(client.Message{Topic: topic.String(), Payload: p.Append(nil)})
}

// state says STATE of the host scada.
func (w *watcher) state(online bool, timestamp uint64) {
	w.t.Helper()
	m, err := sparkplug.StateMessage("scada", sparkplug.HostState{Online: online, Timestamp: timestamp})
	if err != nil {
		w.t.Fatal(err)
	}
	w.publish(client.Message{Topic: m.Topic, Payload: m.Payload, QoS: mqtt.QoS(m.QoS), Retain: m.Retain})
}

func (w *watcher) publish(m client.Message) {
	w.t.Helper()
	if err := w.c.Publish(soon(w.t), m); err != nil {
		w.t.Fatal(err)
	}
}

// run runs a node until the function that it returns is called.
func run(t testing.TB, cfg edge.Config) (n *edge.Node, stop func()) {
	t.Helper()
	cfg.Group, cfg.Node = "G", "N"
	if cfg.File == "" {
		cfg.File = filepath.Join(t.TempDir(), "bdseq")
	}
	n, err := edge.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return n, stop
}

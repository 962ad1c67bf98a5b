package host_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/sparkplug"
	"github.com/wilco-iot/wilco/sparkplug/host"
	"github.com/wilco-iot/wilco/sparkplug/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a broker of ours that can go away and come back empty.
type server struct {
	t testing.TB
	b atomic.Pointer[broker.Broker]
}

func startServer(t testing.TB) *server {
	s := &server{t: t}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *server) start() {
	b, err := broker.New(broker.Options{Authority: broker.AllowAnonymous()})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.b.Store(b)
}

func (s *server) stop() {
	if b := s.b.Swap(nil); b != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := b.Stop(ctx); err != nil {
			s.t.Error(err)
		}
	}
}

func (s *server) dial(ctx context.Context) (net.Conn, error) {
	if b := s.b.Load(); b != nil {
		return b.Dial(ctx)
	}
	return nil, net.ErrClosed
}

func (s *server) options() client.Options { return client.Options{Dial: s.dial, ClientID: "host"} }

// listener hears everything that is said at a server.
type listener struct {
	mu   sync.Mutex
	list []client.Delivery
	at   []time.Time
}

func listen(t testing.TB, o client.Options) *listener {
	l := &listener{}
	o.ClientID, o.CleanStart = "listener", true
	o.Subscriptions = []mqtt.Subscription{{Filter: "spBv1.0/#", QoS: 1}}
	o.OnMessage = func(d *client.Delivery) {
		l.mu.Lock()
		l.list, l.at = append(l.list, *d), append(l.at, time.Now())
		l.mu.Unlock()
		d.Ack()
	}
	startClient(t, o)
	return l
}

// heard is the payloads under a topic so far; of STATE as text.
func (l *listener) heard(topic string) (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.list {
		if l.list[i].Topic == topic {
			out = append(out, string(l.list[i].Payload))
		}
	}
	return out
}

func (l *listener) times(part string) (out []time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.list {
		if strings.Contains(l.list[i].Topic, part) {
			out = append(out, l.at[i])
		}
	}
	return out
}

func startClient(t testing.TB, o client.Options) *client.Client {
	t.Helper()
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.AwaitUp(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = c.Stop(ctx)
	})
	return c
}

// edge is edge nodes of group g over one connection. It says what it is told to,
// and answers NCMD with births if it is to.
type edge struct {
	t       testing.TB
	c       *client.Client
	mu      sync.Mutex
	seq     map[string]uint8
	bdSeq   int64
	answers bool
	asked   map[string]int
}

func startEdge(t testing.TB, o client.Options, name string) *edge {
	e := &edge{t: t, seq: map[string]uint8{}, answers: true, asked: map[string]int{}}
	o.ClientID, o.CleanStart = name, true
	o.Subscriptions = []mqtt.Subscription{{Filter: "spBv1.0/g/NCMD/+", QoS: 1}}
	o.OnMessage = func(d *client.Delivery) {
		node := strings.TrimPrefix(d.Topic, "spBv1.0/g/NCMD/")
		var p sparkplug.Payload
		if err := p.Decode(d.Payload, sparkplug.Limits{}); err != nil || p.HasSeq || !p.HasTimestamp || !p.AsksRebirth(0, false) {
			t.Errorf("not a rebirth request: %+v %v", p, err)
		}
		e.mu.Lock()
		e.asked[node]++
		answers := e.answers
		e.mu.Unlock()
		if answers {
			e.birth(node)
		}
		d.Ack()
	}
	e.c = startClient(t, o)
	return e
}

func (e *edge) publish(kind sparkplug.MessageType, node, device string, p *sparkplug.Payload) {
	topic := sparkplug.Topic{Type: kind, Group: "g", Node: node, Device: device}.String()
	if !p.HasTimestamp {
		p.Timestamp, p.HasTimestamp = uint64(time.Now().UnixMilli()), true
	}
	m := client.Message{Topic: topic, Payload: p.Append(nil), QoS: mqtt.QoS(kind.QoS())}
	if err := e.c.PublishAsync(m, nil); err != nil {
		e.t.Error(err)
	}
}

func (e *edge) next(node string) uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seq[node]++
	return uint64(e.seq[node])
}

func double(name string, alias uint64, x float64) sparkplug.Metric {
	v, _ := sparkplug.NewFloat(sparkplug.TypeDouble, x)
	m := sparkplug.Metric{Alias: alias, HasAlias: true, Value: v}
	if name != "" {
		m.Name, m.Datatype = []byte(name), sparkplug.TypeDouble
	}
	return m
}

// birth publishes NBIRTH and the DBIRTH of a device.
func (e *edge) birth(node string) {
	e.mu.Lock()
	e.seq[node] = 0
	bdSeq := e.bdSeq
	e.mu.Unlock()
	b := sparkplug.BdSeqMetric(uint8(bdSeq), uint64(time.Now().UnixMilli()))
	e.publish(sparkplug.NBirth, node, "", &sparkplug.Payload{HasSeq: true, Metrics: []sparkplug.Metric{
		b, sparkplug.RebirthMetric(false, uint64(time.Now().UnixMilli())), double("temp", 1, 20),
	}})
	e.publish(sparkplug.DBirth, node, "dev", &sparkplug.Payload{HasSeq: true, Seq: e.next(node), Metrics: []sparkplug.Metric{double("speed", 2, 5)}})
}

func (e *edge) data(node string, x float64) {
	e.publish(sparkplug.NData, node, "", &sparkplug.Payload{HasSeq: true, Seq: e.next(node), Metrics: []sparkplug.Metric{double("", 1, x)}})
}

func (e *edge) death(node string, bdSeq uint8) {
	m, err := sparkplug.NodeDeath("g", node, bdSeq, uint64(time.Now().UnixMilli()))
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.c.PublishAsync(client.Message{Topic: m.Topic, Payload: m.Payload, QoS: mqtt.QoS(m.QoS)}, nil); err != nil {
		e.t.Error(err)
	}
}

func (e *edge) timesAsked(node string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked[node]
}

// alarms collects what a host raises.
type alarms struct {
	mu   sync.Mutex
	list []host.Alarm
}

func (a *alarms) add(x host.Alarm) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, x)
}

func (a *alarms) count(k host.AlarmKind) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range a.list {
		if x.Kind == k {
			n++
		}
	}
	return n
}

func startHost(t testing.TB, o host.Options) *host.Host {
	t.Helper()
	h, err := host.New(o)
	if err != nil {
		t.Fatal(err)
	}
	h.Start()
	t.Cleanup(func() { stopHost(t, h) })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := h.AwaitUp(ctx); err != nil {
		t.Fatal(err)
	}
	return h
}

func stopHost(t testing.TB, h *host.Host) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := h.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// settle lets everybody do what there is to do, and d pass.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// show is a node in one line: its status and its values, with a ~ before those
// that are stale.
func show(h *host.Host, node string) string {
	n, devices, ok := h.Node(host.NodeID{Group: "g", Node: node})
	if !ok {
		return "not known"
	}
	out := n.Status.String()
	for _, d := range devices {
		for _, m := range d.Metrics {
			if m.Name == sparkplug.MetricBdSeq || m.Name == sparkplug.MetricRebirth {
				continue
			}
			x, _ := m.Value.Float(m.Datatype)
			out += " "
			if m.Quality != host.Good {
				out += "~"
			}
			out += fmt.Sprintf("%s=%v", m.Name, x)
		}
		if d.Device != "" && !d.Online {
			out += "(offline)"
		}
	}
	return out
}

func expect(t *testing.T, h *host.Host, node, want string) {
	t.Helper()
	if got := show(h, node); got != want {
		t.Errorf("%s is %q, want %q", node, got, want)
	}
}

func one(s *server, o host.Options) host.Options {
	o.Servers = []host.Server{{Name: "one", Client: s.options()}}
	if o.HostID == "" {
		o.HostID = "scada"
	}
	return o
}

// TestFollows is the life of a node over our own broker. Shows
// [tck-id-operational-behavior-edge-node-termination-host-action-ndeath-node-offline]
// [tck-id-operational-behavior-edge-node-termination-host-action-ndeath-node-tags-stale]
// [tck-id-operational-behavior-edge-node-termination-host-action-ndeath-devices-offline]
// [tck-id-operational-behavior-edge-node-termination-host-action-ndeath-devices-tags-stale]
// [tck-id-operational-behavior-edge-node-termination-host-action-ddeath-devices-tags-stale]
// [tck-id-operational-behavior-host-reordering-rebirth].
func TestFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		h := startHost(t, one(s, host.Options{}))
		e := startEdge(t, s.options(), "edge")
		e.birth("n")
		settle(0)
		expect(t, h, "n", "online temp=20 speed=5")
		e.data("n", 21)
		settle(0)
		expect(t, h, "n", "online temp=21 speed=5")
		// A hole: stale when its time has come, asked for a rebirth, good again.
		e.next("n")
		e.data("n", 22)
		settle(4900 * time.Millisecond)
		expect(t, h, "n", "online temp=21 speed=5")
		e.mu.Lock()
		e.answers = false
		e.mu.Unlock()
		settle(2 * time.Second)
		expect(t, h, "n", "unsure ~temp=21 ~speed=5")
		if n := e.timesAsked("n"); n != 1 {
			t.Errorf("asked %d times", n)
		}
		e.birth("n")
		settle(0)
		expect(t, h, "n", "online temp=20 speed=5")
		died := time.Now().Add(3 * time.Second) // by the node's clock
		e.publish(sparkplug.DDeath, "n", "dev", &sparkplug.Payload{
			HasSeq: true, Seq: e.next("n"), HasTimestamp: true, Timestamp: uint64(died.UnixMilli()),
		})
		settle(0)
		expect(t, h, "n", "online temp=20 ~speed=5(offline)")
		if _, devices, _ := h.Node(host.NodeID{Group: "g", Node: "n"}); !devices[1].Since.Equal(died) {
			t.Errorf("offline since %v, not since its DDEATH", devices[1].Since)
		}
		e.death("n", 9)
		settle(0)
		expect(t, h, "n", "online temp=20 ~speed=5(offline)")
		e.death("n", 0)
		settle(time.Minute)
		expect(t, h, "n", "offline ~temp=20 ~speed=5(offline)")
		if n := e.timesAsked("n"); n != 1 {
			t.Errorf("a dead node was asked: %d times", n)
		}
	})
}

// TestState is what a primary says of itself. Shows
// [tck-id-host-topic-phid-birth-message] [tck-id-host-topic-phid-birth-payload-timestamp]
// [tck-id-operational-behavior-host-application-termination]
// [tck-id-host-topic-phid-death-payload-timestamp-disconnect-clean]
// [tck-id-message-flow-hid-sparkplug-state-message-delivered]
// [tck-id-operational-behavior-host-application-host-id]
// [tck-id-operational-behavior-host-application-disconnect-intentional]
// [tck-id-operational-behavior-host-application-connect-birth].
func TestState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const topic = "spBv1.0/STATE/scada"
		s := startServer(t)
		l := listen(t, s.options())
		var a alarms
		began := time.Now().UnixMilli()
		h := startHost(t, one(s, host.Options{OnAlarm: a.add}))
		settle(time.Second)
		birth := fmt.Sprintf(`{"online":true,"timestamp":%d}`, began)
		want := []string{birth}
		check := func(what string) {
			t.Helper()
			if got := l.heard(topic); !slices.Equal(got, want) {
				t.Fatalf("%s: %q, want %q", what, got, want)
			}
		}
		check("birth")
		o := s.options()
		o.ClientID = "stranger"
		stranger := startClient(t, o)
		say := func(payload string) {
			if err := stranger.Publish(context.Background(), client.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: true}); err != nil {
				t.Fatal(err)
			}
			settle(0)
			want = append(want, payload)
		}
		old := fmt.Sprintf(`{"online":false,"timestamp":%d}`, began-5)
		say(old)
		want = append(want, birth)
		check("a foreign word is answered")
		say(old)
		check("the next answer waits")
		settle(time.Second)
		want = append(want, birth)
		check("and comes")
		say("")
		settle(2 * time.Second)
		want = append(want, birth)
		check("a deleted one is put back")
		// A newer one: only a new connection has an answer that counts.
		newer := began + 3_600_000
		say(fmt.Sprintf(`{"online":false,"timestamp":%d}`, newer))
		settle(10 * time.Second)
		want = append(want, fmt.Sprintf(`{"online":true,"timestamp":%d}`, newer+1))
		check("a newer word")
		if n := a.count(host.ForeignState); n != 4 {
			t.Errorf("%d alarms", n)
		}
		// The connection is lost: the Will has the timestamp of the birth.
		stopHost(t, h)
		settle(0)
		want = append(want, fmt.Sprintf(`{"online":false,"timestamp":%d}`, newer+1))
		check("death")
		if h.Up() != nil {
			t.Error("still up")
		}
	})
}

// TestRoles: who is no primary says nothing of itself, and who is passive says
// nothing at all.
func TestRoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		l := listen(t, s.options())
		e := startEdge(t, s.options(), "edge")
		for i, role := range []host.Role{host.Active, host.Passive} {
			node := fmt.Sprint("n", i)
			h, err := host.New(one(s, host.Options{Role: role}))
			if err != nil {
				t.Fatal(err)
			}
			h.Start()
			settle(time.Second)
			e.data(node, 1)
			settle(time.Minute)
			want := map[host.Role]string{host.Active: "online temp=20 speed=5", host.Passive: "unborn"}[role]
			expect(t, h, node, want)
			stopHost(t, h)
		}
		if got := l.heard("spBv1.0/STATE/scada"); got != nil {
			t.Errorf("STATE: %q", got)
		}
		if e.timesAsked("n1") > 0 {
			t.Error("a passive host asked for a rebirth")
		}
	})
}

// TestNasty65Moves: a node goes from one server to the other, and its death at
// the first comes after its birth at the second.
func TestNasty65Moves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := startServer(t), startServer(t)
		h := startHost(t, host.Options{HostID: "scada", Servers: []host.Server{{Name: "a", Client: a.options()}, {Name: "b", Client: b.options()}}})
		onA, onB := startEdge(t, a.options(), "edge"), startEdge(t, b.options(), "edge")
		onA.birth("n")
		onA.data("n", 1)
		settle(0)
		onB.bdSeq = 1
		onB.birth("n")
		settle(0)
		onA.data("n", 2)
		onA.death("n", 0)
		settle(0)
		expect(t, h, "n", "online temp=20 speed=5")
		if st := h.Stats(); st.Elsewhere != 1 {
			t.Errorf("%d data elsewhere", st.Elsewhere)
		}
		// The loss of the server that it has left is nothing to it either.
		a.stop()
		settle(time.Second)
		expect(t, h, "n", "online temp=20 speed=5")
		b.stop()
		settle(time.Second)
		expect(t, h, "n", "unsure ~temp=20 ~speed=5")
		if up := h.Up(); len(up) != 0 {
			t.Errorf("up: %q", up)
		}
	})
}

// TestNasty66ServerLost: stale with the loss of the server, and asked for a
// rebirth when it is back, if the node does not do it by itself.
// [UNTAGGED-host-stale-on-server-loss]
func TestNasty66ServerLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		h := startHost(t, one(s, host.Options{}))
		e := startEdge(t, s.options(), "edge")
		e.birth("itself")
		e.birth("asked")
		settle(0)
		s.stop()
		settle(time.Second)
		expect(t, h, "asked", "unsure ~temp=20 ~speed=5")
		s.start()
		settle(2 * time.Minute)
		e.birth("itself")
		settle(0)
		expect(t, h, "itself", "online temp=20 speed=5")
		expect(t, h, "asked", "online temp=20 speed=5")
		if n := e.timesAsked("asked"); n < 1 || n > 3 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestNasty72NoStorm: ten thousand nodes, with a host that knows none of them,
// and with a server that comes back. Rebirths are asked for at the rate that was
// set; who is born by itself is not asked.
func TestNasty72NoStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes, rate = 10_000, 50
		s := startServer(t)
		l := listen(t, s.options())
		e := startEdge(t, s.options(), "edge")
		h := startHost(t, one(s, host.Options{RebirthRate: rate, Shards: 4}))
		for i := range nodes {
			e.data(fmt.Sprint(i), 1)
			if i%1000 == 999 {
				settle(10 * time.Millisecond)
			}
		}
		online := func() (n int) {
			for _, x := range h.Nodes() {
				if x.Status == host.Online {
					n++
				}
			}
			return n
		}
		settle(nodes/rate*time.Second + time.Minute)
		if n := online(); n != nodes {
			t.Fatalf("%d nodes are online", n)
		}
		asks := l.times("/NCMD/")
		if len(asks) != nodes {
			t.Errorf("%d asks for %d nodes", len(asks), nodes)
		}
		perSecond := map[int64]int{}
		for _, at := range asks {
			perSecond[at.Unix()]++
		}
		for sec, n := range perSecond {
			if n > rate+11 {
				t.Errorf("%d asks in second %d", n, sec)
			}
		}
		// The server restarts, and the nodes with it.
		s.stop()
		settle(time.Second)
		if n := online(); n != 0 {
			t.Errorf("%d nodes are online without a server", n)
		}
		s.start()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if err := h.AwaitUp(ctx); err != nil {
			t.Fatal(err)
		}
		if err := e.c.AwaitUp(ctx); err != nil {
			t.Fatal(err)
		}
		for i := range nodes {
			e.birth(fmt.Sprint(i))
			if i%1000 == 999 {
				settle(time.Millisecond)
			}
		}
		settle(time.Minute)
		if n := online(); n != nodes {
			t.Errorf("%d nodes are online again", n)
		}
		if n := len(l.times("/NCMD/")) - len(asks); n != 0 {
			t.Errorf("%d nodes were asked that did it by themselves", n)
		}
	})
}

// TestWatch: events in order, with memory of their own, and what was missed.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		h := startHost(t, one(s, host.Options{}))
		e := startEdge(t, s.options(), "edge")
		w, slow := h.Watch(1000), h.Watch(1)
		e.birth("n")
		for i := range 10 {
			e.data("n", float64(i))
		}
		settle(0)
		var got []string
		for len(w.C) > 0 {
			ev := <-w.C
			got = append(got, ev.Kind.String())
			if ev.Kind == session.Data {
				x, err := ev.Values[0].Raw.Value.Float(ev.Values[0].Datatype())
				if err != nil || x != float64(len(got)-3) || ev.Values[0].Metric.Name != "temp" {
					t.Errorf("event %d: %v %v", len(got), x, err)
				}
			}
		}
		if len(got) != 12 || got[0] != "node_birth" || got[1] != "device_birth" || got[11] != "data" {
			t.Errorf("%q", got)
		}
		<-slow.C
		e.data("n", 100)
		settle(0)
		if ev := <-slow.C; ev.Missed != 11 {
			t.Errorf("missed %d", ev.Missed)
		}
		slow.Close()
		if _, ok := <-slow.C; ok {
			t.Error("an event after Close")
		}
		stopHost(t, h)
		for range w.C {
		}
	})
}

// TestNasty22Retained: what is retained makes nobody online, and is told once.
func TestNasty22Retained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		c := startClient(t, client.Options{Dial: s.dial, ClientID: "bad"})
		p := sparkplug.Payload{HasSeq: true, Metrics: []sparkplug.Metric{double("x", 1, 1)}}
		for range 2 {
			m := client.Message{Topic: "spBv1.0/g/NBIRTH/n", Payload: p.Append(nil), Retain: true}
			if err := c.Publish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		settle(time.Second) // until the broker has them, so that none comes live
		var a alarms
		h := startHost(t, one(s, host.Options{OnAlarm: a.add}))
		settle(time.Second)
		expect(t, h, "n", "not known")
		if n := a.count(host.RetainedMessage); n != 1 {
			t.Errorf("%d alarms", n)
		}
	})
}

// TestDuplicateNode: two nodes with one name. Each ask would bring two births.
func TestDuplicateNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		var a alarms
		h := startHost(t, one(s, host.Options{OnAlarm: a.add}))
		first, second := startEdge(t, s.options(), "first"), startEdge(t, s.options(), "second")
		second.bdSeq = 77
		first.birth("n")
		settle(100 * time.Millisecond)
		second.birth("n")
		for range 200 {
			first.data("n", 1)
			settle(300 * time.Millisecond)
			second.data("n", 2)
			settle(700 * time.Millisecond)
		}
		if n := a.count(host.DuplicateNode); n != 1 {
			t.Errorf("%d alarms, %+v", n, h.Stats())
		}
		if n, _, _ := h.Node(host.NodeID{Group: "g", Node: "n"}); !n.Quarantine.After(time.Now()) {
			t.Errorf("in quarantine until %s", n.Quarantine)
		}
		if n := first.timesAsked("n"); n > 6 {
			t.Errorf("asked %d times in 200 seconds", n)
		}
	})
}

// TestNasty77SlowHost: a host that is held up by its own reader loses no place.
func TestNasty77SlowHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		held := make(chan struct{})
		var seen atomic.Int32
		o := host.Options{Shards: 1, OnEvent: func(ev *host.Event) {
			if ev.Kind == session.Data && seen.Add(1) == 1 {
				<-held
			}
		}}
		h := startHost(t, one(s, o))
		e := startEdge(t, s.options(), "edge")
		e.birth("n")
		e.data("n", 1)
		// The second of these fills the hole before the first, a minute before it
		// is looked at.
		last := e.next("n")
		e.data("n", 3)
		e.publish(sparkplug.NData, "n", "", &sparkplug.Payload{HasSeq: true, Seq: last, Metrics: []sparkplug.Metric{double("", 1, 2)}})
		settle(time.Minute)
		close(held)
		settle(time.Second)
		expect(t, h, "n", "online temp=3 speed=5")
		if n := e.timesAsked("n"); n != 0 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestBounds: more nodes, and more metrics, than there may be.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		var a alarms
		h := startHost(t, one(s, host.Options{MaxNodes: 3, MaxMetrics: 5, Shards: 1, OnAlarm: a.add}))
		e := startEdge(t, s.options(), "edge")
		e.mu.Lock()
		e.answers = false
		e.mu.Unlock()
		for i := range 5 {
			e.birth(fmt.Sprint(i))
		}
		settle(time.Second)
		if n := len(h.Nodes()); n != 3 {
			t.Errorf("%d nodes", n)
		}
		expect(t, h, "0", "online temp=20 speed=5")
		expect(t, h, "2", "unsure ~temp=20")
		if n := a.count(host.TooMuch); n != 2 {
			t.Errorf("%d alarms", n)
		}
		h.Forget(host.NodeID{Group: "g", Node: "2"})
		h.Forget(host.NodeID{Group: "g", Node: "0"})
		settle(0)
		expect(t, h, "2", "not known")
		expect(t, h, "0", "online temp=20 speed=5")
	})
}

// TestOptions that cannot be.
func TestOptions(t *testing.T) {
	server := []host.Server{{Name: "a", Client: client.Options{Servers: []string{"mqtt://x"}}}}
	for name, o := range map[string]host.Options{
		"no server":           {HostID: "x"},
		"no host id":          {Servers: server},
		"bad host id":         {Servers: server, HostID: "a/b"},
		"the same name":       {Servers: append(server, server[0]), HostID: "x"},
		"no such role":        {Servers: server, HostID: "x", Role: 9},
		"67 a wildcard in it": {Servers: server, HostID: "#"},
	} {
		if _, err := host.New(o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	h, err := host.New(host.Options{Servers: server, Role: host.Passive})
	if err != nil {
		t.Fatal(err)
	}
	stopHost(t, h)
}

// TestStateOfEachServer: each server has a timestamp of its own, the birth is the
// first thing said there, and a stranger at one is no matter of the other. Shows
// [tck-id-operational-behavior-host-application-multi-server-timestamp]
// [tck-id-operational-behavior-primary-application-state-with-multiple-servers-state]
// [tck-id-host-topic-phid-birth-required].
func TestStateOfEachServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := startServer(t), startServer(t)
		onA, onB := listen(t, a.options()), listen(t, b.options())
		// A node that is alive before the host is.
		e := startEdge(t, a.options(), "edge")
		startHost(t, host.Options{HostID: "scada", Servers: []host.Server{{Name: "a", Client: a.options()}, {Name: "b", Client: b.options()}}})
		e.data("n", 1)
		settle(time.Minute)
		stranger := a.options()
		stranger.ClientID = "stranger"
		m := client.Message{Topic: "spBv1.0/STATE/scada", Payload: []byte(`{"online":false,"timestamp":99999999999999}`), QoS: 1, Retain: true}
		if err := startClient(t, stranger).Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		settle(time.Minute)
		got, other := onA.heard(m.Topic), onB.heard(m.Topic)
		if len(got) != 3 || got[2] != `{"online":true,"timestamp":100000000000000}` {
			t.Errorf("at a: %q", got)
		}
		if len(other) != 1 || other[0] != got[0] {
			t.Errorf("at b: %q", other)
		}
		onA.mu.Lock()
		defer onA.mu.Unlock()
		for _, d := range onA.list {
			if strings.Contains(d.Topic, "/NCMD/") {
				t.Error("a command before the birth")
			}
			if strings.Contains(d.Topic, "/STATE/") {
				break
			}
		}
	})
}

// A host that stops while its server is away does so at once.
func TestStopWithoutServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		h := startHost(t, one(s, host.Options{}))
		s.stop()
		settle(time.Minute)
		began := time.Now()
		stopHost(t, h)
		if d := time.Since(began); d > 6*time.Second {
			t.Errorf("it took %v", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.AwaitUp(ctx); err != host.ErrStopped {
			t.Error(err)
		}
	})
}

// TestNastyTopics: names that are hard (68, 69), levels that are wrong (70), other
// namespaces (23, 71), and a group named STATE (67).
func TestNastyTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		h := startHost(t, one(s, host.Options{Filters: []string{"#"}}))
		c := startClient(t, client.Options{Dial: s.dial, ClientID: "edge"})
		long := strings.Repeat("x", 60_000)
		birth := sparkplug.Payload{HasSeq: true, Metrics: []sparkplug.Metric{double("temp", 1, 1)}}
		device := sparkplug.Payload{HasSeq: true, Seq: 1, Metrics: []sparkplug.Metric{double("speed", 2, 2)}}
		nodes := []host.NodeID{
			{Group: "g", Node: "N"}, {Group: "g", Node: "n"}, {Group: "g h", Node: "ü.ß 1"}, {Group: "STATE", Node: "n"}, {Group: "g", Node: long},
		}
		say := func(topic string, p *sparkplug.Payload) {
			if err := c.Publish(t.Context(), client.Message{Topic: topic, Payload: p.Append(nil), QoS: 1}); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range nodes {
			say("spBv1.0/"+id.Group+"/NBIRTH/"+id.Node, &birth)
			say("spBv1.0/"+id.Group+"/DBIRTH/"+id.Node+"/dev", &device)
		}
		wrong := []string{
			"spBv1.0/g/NBIRTH/n/dev", "spBv1.0/g/DBIRTH/n", "spBv1.0/g/NBIRTH", "spBv1.0/g/OTHER/n", "spBv1.0//NBIRTH/n", "spBv1.0/g/DDATA/n/a/b",
			"spCv1.0/g/NBIRTH/n", "sparkplug/certificates/spBv1.0/g/NBIRTH/n", "anything",
		}
		for _, topic := range wrong {
			say(topic, &birth)
		}
		settle(time.Second)
		if got := h.Stats().Foreign; got != uint64(len(wrong)) {
			t.Errorf("%d foreign messages, want %d", got, len(wrong))
		}
		if got := len(h.Nodes()); got != len(nodes) {
			t.Errorf("%d nodes", got)
		}
		for _, id := range nodes {
			n, devices, ok := h.Node(id)
			if !ok || n.Status != host.Online || len(devices) != 2 || devices[1].Device != "dev" || !devices[1].Online {
				t.Errorf("%.20s: %v %+v", id, ok, n.Status)
			}
		}
	})
}

// TestNothingAskedWithinGrace: what was asked and not answered before the server
// went away is not asked again before its nodes had time to be born.
func TestNothingAskedWithinGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		h := startHost(t, one(s, host.Options{Grace: 30 * time.Second}))
		e := startEdge(t, s.options(), "edge")
		e.birth("n")
		settle(0)
		e.mu.Lock()
		e.answers = false
		e.mu.Unlock()
		e.next("n")
		e.data("n", 1)
		settle(7 * time.Second)
		before := e.timesAsked("n")
		if before == 0 {
			t.Fatal("not asked")
		}
		s.stop()
		settle(time.Second)
		s.start()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if err := h.AwaitUp(ctx); err != nil {
			t.Fatal(err)
		}
		if err := e.c.AwaitUp(ctx); err != nil {
			t.Fatal(err)
		}
		settle(20 * time.Second)
		if n := e.timesAsked("n") - before; n != 0 {
			t.Errorf("asked %d times within the grace", n)
		}
		settle(2 * time.Minute)
		if e.timesAsked("n") == before {
			t.Error("never asked again")
		}
	})
}

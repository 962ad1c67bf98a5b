package pebblestore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/wilco-iot/wilco/broker"
	"github.com/wilco-iot/wilco/broker/store/pebble"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

// machine is a broker over a store on a file system.
type machine struct {
	t *testing.T
	s *pebblestore.Store
	b *broker.Broker
}

func boot(t *testing.T, fs vfs.FS) *machine {
	t.Helper()
	s, err := pebblestore.Open("data", pebblestore.Options{}.On(fs))
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Options{Authority: broker.AllowAnonymous(), Store: s,
		Listeners: []broker.Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}}})
	if err == nil {
		err = b.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return &machine{t, s, b}
}

// off ends what runs; what it does on the way has no meaning any more.
func (m *machine) off() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := m.b.Stop(ctx); err != nil {
		m.t.Error(err)
	}
	_ = m.s.Close()
}

// connect brings a client in that does not come back by itself.
func (m *machine) connect(o client.Options) *client.Client {
	m.t.Helper()
	o.Servers = []string{"mqtt://" + m.b.Addr("tcp").String()}
	o.Backoff = client.Backoff{Min: time.Hour, Max: time.Hour}
	c, err := client.New(o)
	if err != nil {
		m.t.Fatal(err)
	}
	c.Start()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	if err := c.AwaitUp(ctx); err != nil {
		m.t.Fatal(err)
	}
	return c
}

// watched is what a lasting session has heard of statuses since it was last
// asked, up to a mark that it sets itself.
func (m *machine) watched() []string {
	m.t.Helper()
	heard := make(chan string, 100)
	c := m.connect(client.Options{ClientID: "watcher", SessionExpiry: time.Hour,
		Subscriptions: []mqtt.Subscription{{Filter: "status/#", QoS: 1, RetainHandling: 1}, {Filter: "mark", QoS: 1}},
		OnMessage:     func(d *client.Delivery) { d.Ack(); heard <- d.Topic + " " + string(d.Payload) }})
	defer stop(m.t, c)
	if err := c.Publish(m.t.Context(), client.Message{Topic: "mark", QoS: 1}); err != nil {
		m.t.Fatal(err)
	}
	var list []string
	for {
		select {
		case s := <-heard:
			if s == "mark " {
				return list
			}
			list = append(list, s)
		case <-time.After(time.Minute):
			m.t.Fatal("the mark did not come")
		}
	}
}

// retained is what is retained under status/device.
func (m *machine) retained() string {
	m.t.Helper()
	got := make(chan string, 1)
	c := m.connect(client.Options{ClientID: "looker", CleanStart: true, Subscriptions: []mqtt.Subscription{{Filter: "status/device", QoS: 1}},
		OnMessage: func(d *client.Delivery) { d.Ack(); got <- string(d.Payload) }})
	defer stop(m.t, c)
	select {
	case s := <-got:
		return s
	case <-time.After(time.Minute):
		m.t.Fatal("nothing is retained")
		return ""
	}
}

// device connects with a Will, and says that it is online.
func (m *machine) device(v mqtt.Version, o client.Options, delay uint32) *client.Client {
	m.t.Helper()
	w := &mqtt.Will{Topic: "status/device", Payload: []byte("offline"), QoS: 1, Retain: true}
	if v == mqtt.V5 {
		w.DelaySeconds = delay
	}
	o.ClientID, o.Version, o.Will = "device", v, func() *mqtt.Will { return w }
	c := m.connect(o)
	if err := c.Publish(m.t.Context(), client.Message{Topic: "status/device", Payload: []byte("online"), QoS: 1, Retain: true}); err != nil {
		m.t.Fatal(err)
	}
	return c
}

// crash gives what is on the disk when the power is cut now.
func crash(fs *vfs.MemFS, seed uint64) *vfs.MemFS {
	return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(seed%3) * 50, RNG: rand.New(rand.NewPCG(seed, 1))})
}

// The will of a client that was connected when the power went is published by
// the next start, once, and so what it has retained of itself comes true.
func TestWillSurvivesPowerCut(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		for _, clean := range []bool{true, false} {
			t.Run(fmt.Sprintf("version %d clean %v", v, clean), func(t *testing.T) {
				fs := vfs.NewCrashableMem()
				m := boot(t, fs)
				m.watched()
				o := client.Options{CleanStart: clean}
				if !clean {
					o.SessionExpiry = time.Hour
				}
				m.device(v, o, 0)
				cut := crash(fs, 0)
				m.off()

				m = boot(t, cut)
				if got := fmt.Sprint(m.watched()); got != "[status/device online status/device offline]" {
					t.Errorf("after the crash: %s", got)
				}
				if got := m.retained(); got != "offline" {
					t.Errorf("retained: %s", got)
				}
				again := crash(cut, 0)
				m.off()
				m = boot(t, again)
				defer m.off()
				if got := m.watched(); len(got) > 0 {
					t.Errorf("after the second crash: %q", got)
				}
			})
		}
	}
}

// A will with a delay waits from the start on, and not at all when its client
// is back before.
func TestDelayedWillAfterPowerCut(t *testing.T) {
	fs := vfs.NewCrashableMem()
	m := boot(t, fs)
	m.watched()
	m.device(mqtt.V5, client.Options{SessionExpiry: time.Hour}, 1800)
	cut := crash(fs, 0)
	m.off()
	m = boot(t, cut)
	defer m.off()
	if got := fmt.Sprint(m.watched()); got != "[status/device online]" {
		t.Errorf("before the delay was over: %s", got)
	}
	back := m.connect(client.Options{ClientID: "device", SessionExpiry: time.Hour})
	stop(t, back)
	if got := m.retained(); got != "online" {
		t.Errorf("retained: %s", got)
	}
}

// Who has said DISCONNECT has no will any more, whatever happens to the broker.
func TestNoWillAfterDisconnect(t *testing.T) {
	fs := vfs.NewCrashableMem()
	m := boot(t, fs)
	m.watched()
	stop(t, m.device(mqtt.V5, client.Options{CleanStart: true}, 0))
	for m.b.Stats().Connections > 0 {
		<-time.After(time.Millisecond) // until the broker has read it
	}
	m.watched() // stored after it
	cut := crash(fs, 0)
	m.off()
	m = boot(t, cut)
	defer m.off()
	if got := m.watched(); len(got) > 0 {
		t.Errorf("heard %q", got)
	}
}

// TestWillAtEveryCut cuts the power before each sync of a client's life: from
// CONNACK on its will is on the disk.
// Shows [B4e].
func TestWillAtEveryCut(t *testing.T) {
	fs := vfs.NewCrashableMem()
	type cut struct {
		disk      *vfs.MemFS
		connected bool
	}
	var mu sync.Mutex
	var cuts []cut
	var watching, connected atomic.Bool
	snapshot := func() {
		mu.Lock()
		defer mu.Unlock()
		was := connected.Load() // before the disk is copied: it cannot have less than that
		cuts = append(cuts, cut{crash(fs, uint64(len(cuts))), was})
	}
	m := boot(t, errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			if watching.Load() {
				snapshot()
			}
		}
		return nil
	})))
	m.watched()
	watching.Store(true)
	w := &mqtt.Will{Topic: "status/device", Payload: []byte("offline"), QoS: 1, Retain: true}
	m.connect(client.Options{ClientID: "device", CleanStart: true, Will: func() *mqtt.Will { return w }})
	connected.Store(true)
	snapshot()
	for range 3 { // others go on
		if err := m.connect(client.Options{ClientID: "other", CleanStart: true, SessionExpiry: time.Hour}).Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	watching.Store(false)
	m.off()
	before, after := 0, 0
	for i, c := range cuts {
		m := boot(t, c.disk)
		got := m.watched()
		switch {
		case c.connected && fmt.Sprint(got) != "[status/device offline]":
			t.Errorf("cut %d, after CONNACK: %q", i, got)
		case c.connected:
			after++
		case len(got) == 0:
			before++
		}
		m.off()
	}
	if before == 0 || after < 2 {
		t.Errorf("%d cuts found no will yet, %d one that had to be there: the test has shown nothing", before, after)
	}
}

package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
)

// bubble runs a test in virtual time, once for each version.
func bubble(t *testing.T, f func(t *testing.T, n *network)) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, newNetwork(t, version)) })
		})
	}
}

// bubble5 is bubble for what only MQTT 5 has.
func bubble5(t *testing.T, f func(t *testing.T, n *network)) {
	synctest.Test(t, func(t *testing.T) { f(t, newNetwork(t, mqtt.V5)) })
}

// results collects what PublishAsync tells.
type results struct {
	mu   sync.Mutex
	told []string
}

func (r *results) of(name string) func(client.Result) {
	return func(res client.Result) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if res.Err != nil {
			name += ": " + res.Err.Error()
		}
		r.told = append(r.told, name)
	}
}

// expect waits until nothing moves any more and compares.
func (r *results) expect(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.told, want) {
		t.Fatalf("results %q, want %q", r.told, want)
	}
}

// Shows [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-3.3.1-1].
func TestResumeKeepsOrder(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		var told results
		o := n.options()
		o.MaxInflight = 3
		c := start(t, o)
		publishAsync := func(payload string, qos mqtt.QoS) {
			t.Helper()
			if err := c.PublishAsync(message("t", payload, qos), told.of(payload)); err != nil {
				t.Fatal(err)
			}
		}
		publishAsync("a", 1) // before there is any connection
		s, connect := n.accept(mqtt.Connack{})
		if connect.CleanStart || connect.ClientID != "c" {
			t.Errorf("CONNECT: clean start %v, client id %q", connect.CleanStart, connect.ClientID)
		}
		s.expect("PUBLISH 1 q1 t=a")
		publishAsync("b", 2)
		publishAsync("c", 1)
		publishAsync("d", 2)
		s.expect("PUBLISH 2 q2 t=b", "PUBLISH 3 q1 t=c")
		s.send(pubrec(2))
		s.expect("PUBREL 2")
		s.send(puback(3)) // out of order: its result must wait
		s.expect("PUBLISH 4 q2 t=d")
		told.expect(t)
		s.conn.Close()

		publishAsync("e", 1) // while it is down
		s, _ = n.accept(mqtt.Connack{SessionPresent: true})
		s.expect("PUBLISH 1 q1 t=a dup", "PUBREL 2", "PUBLISH 4 q2 t=d dup")
		told.expect(t)
		s.send(puback(1), pubcomp(2))
		s.expect("PUBLISH 5 q1 t=e")
		told.expect(t, "a", "b", "c")
		s.conn.Close()

		s, _ = n.accept(mqtt.Connack{}) // the server has lost the session
		s.expect("PUBLISH 6 q2 t=d", "PUBLISH 7 q1 t=e")
		s.send(pubrec(6), puback(7), pubcomp(6))
		s.expect("PUBREL 6")
		told.expect(t, "a", "b", "c", "d", "e")
	})
}

// Shows [MQTT-3.3.4-7] [MQTT-4.9.0-2].
func TestServerWindow(t *testing.T) {
	bubble5(t, func(t *testing.T, n *network) {
		c := start(t, n.options())
		s, _ := n.accept(mqtt.Connack{ReceiveMaximum: 1})
		var told results
		for _, p := range []string{"a", "b", "c"} {
			c.PublishAsync(message("t", p, 1), told.of(p))
		}
		for i, p := range []string{"a", "b", "c"} {
			s.expect(fmt.Sprintf("PUBLISH %d q1 t=%s", i+1, p))
			synctest.Wait()
			s.conn.SetReadDeadline(time.Now().Add(time.Hour))
			if _, err := s.conn.Read(make([]byte, 1)); err == nil {
				t.Fatal("the client sent more than the Receive Maximum of 1")
			}
			s.conn.SetReadDeadline(time.Time{})
			*s = *s.again()
			s.send(puback(uint16(i + 1)))
		}
		told.expect(t, "a", "b", "c")
	})
}

// Shows [MQTT-3.2.2-11] [MQTT-3.2.2-14] [MQTT-3.2.2-15] [MQTT-4.4.0-2].
func TestServerLimits(t *testing.T) {
	bubble5(t, func(t *testing.T, n *network) {
		c := start(t, n.options())
		s, _ := n.accept(mqtt.Connack{HasMaximumQoS: true, MaximumQoS: 1, NoRetain: true, MaximumPacketSize: 50})
		ctx := t.Context()
		for _, tc := range []struct {
			m    client.Message
			want error
		}{
			{message("t", "x", 2), client.ErrQoS},
			{client.Message{Topic: "t", QoS: 1, Retain: true}, client.ErrRetain},
			{message("t", fmt.Sprintf("%50d", 1), 1), client.ErrSize},
		} {
			if err := c.Publish(ctx, tc.m); !errors.Is(err, tc.want) {
				t.Errorf("%+v gave %v, want %v", tc.m, err, tc.want)
			}
		}
		go c.Publish(ctx, message("t", "fits", 1))
		s.expect("PUBLISH 2 q1 t=fits")
		s.send(&mqtt.Ack{Kind: mqtt.TypePuback, PacketID: 2, Reason: mqtt.QuotaExceeded, ReasonString: "enough"})
		done := make(chan error)
		go func() { done <- c.Publish(ctx, message("t", "again", 1)) }()
		s.expect("PUBLISH 3 q1 t=again")
		s.send(&mqtt.Ack{Kind: mqtt.TypePuback, PacketID: 3, Reason: mqtt.NotAuthorized, ReasonString: "not you"})
		refused, ok := errors.AsType[*client.ReasonError](<-done)
		if !ok || refused.Code != mqtt.NotAuthorized || refused.Text != "not you" || !refused.Permanent() {
			t.Errorf("refusal: %+v", refused)
		}
		var bad *mqtt.Error
		if err := c.PublishAsync(message("a/+", "", 1), nil); !errors.As(err, &bad) {
			t.Errorf("a wildcard in a topic: %v", err)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		o := n.options()
		o.MaxQueued = 2
		var told results
		c := start(t, o)
		if err := c.PublishAsync(message("t", "z", 0), told.of("z")); !errors.Is(err, client.ErrDown) {
			t.Errorf("QoS 0 while down: %v", err)
		}
		c.PublishAsync(message("t", "a", 1), told.of("a"))
		c.PublishAsync(message("t", "b", 1), told.of("b"))
		if err := c.PublishAsync(message("t", "c", 1), told.of("c")); !errors.Is(err, client.ErrFull) {
			t.Errorf("a third: %v", err)
		}
		waiting := make(chan error, 1)
		go func() { waiting <- c.Publish(t.Context(), message("t", "d", 1)) }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Publish(ctx, message("t", "e", 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Publish into a full queue: %v", err)
		}
		s, _ := n.accept(mqtt.Connack{})
		s.expect("PUBLISH 1 q1 t=a", "PUBLISH 2 q1 t=b")
		s.send(puback(1))
		s.expect("PUBLISH 3 q1 t=d")
		s.send(puback(2), puback(3))
		if err := <-waiting; err != nil {
			t.Error(err)
		}
		told.expect(t, "a", "b")
	})
}

// Shows [MQTT-4.6.0-2] [MQTT-4.6.0-3].
func TestAcksLeaveInReceiveOrder(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		got := make(chan *client.Delivery, 10)
		o := n.options()
		o.OnMessage = func(d *client.Delivery) { got <- d }
		start(t, o)
		s, _ := n.accept(mqtt.Connack{})
		s.send(publish(1, 1, "t", "a"), publish(2, 2, "t", "b"), publish(0, 0, "t", "z"), publish(3, 1, "t", "c"))
		a, b, z, c := <-got, <-got, <-got, <-got
		c.Ack()
		z.Ack()
		b.Ack()
		synctest.Wait()
		a.Ack()
		a.Ack()
		s.expect("PUBACK 1", "PUBREC 2", "PUBACK 3")
		s.send(pubrel(2))
		s.expect("PUBCOMP 2")

		s.send(publish(4, 1, "t", "d"), publish(5, 2, "t", "e"))
		d, e := <-got, <-got
		s.conn.Close()
		s, _ = n.accept(mqtt.Connack{SessionPresent: true})
		d.Ack() // of the former connection: the same identifier must not be acknowledged
		again := publish(4, 1, "t", "d")
		again.Dup = true
		twin := publish(5, 2, "t", "e")
		twin.Dup = true
		s.send(again, twin)
		d2 := <-got
		if !d2.Dup || string(d2.Payload) != "d" {
			t.Errorf("resent: %+v", d2.Message)
		}
		e.Ack()
		synctest.Wait()
		d2.Ack()
		s.expect("PUBACK 4", "PUBREC 5")
		select {
		case x := <-got:
			t.Errorf("a QoS 2 message was delivered twice: %+v", x.Message)
		default:
		}
	})
}

// What waited for OnMessage when the connection ended comes again by the
// resume; it must not be shown twice, out of order.
func TestResumeDropsWhatWaits(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		var seen []string
		gate := make(chan struct{})
		o := n.options()
		o.SessionExpiry = time.Hour
		o.OnMessage = func(d *client.Delivery) {
			seen = append(seen, string(d.Payload))
			<-gate
			d.Ack()
		}
		start(t, o)
		s, _ := n.accept(mqtt.Connack{})
		s.send(publish(1, 1, "t", "1"), publish(2, 1, "t", "2"), publish(0, 0, "t", "z"), publish(3, 2, "t", "3"))
		synctest.Wait() // 1 is with OnMessage, the others wait
		s.conn.Close()
		synctest.Wait()
		gate <- struct{}{}
		s, _ = n.accept(mqtt.Connack{SessionPresent: true})
		s.send(publish(1, 1, "t", "1"), publish(2, 1, "t", "2"), publish(3, 2, "t", "3"))
		for range 4 {
			gate <- struct{}{}
		}
		s.expect("PUBACK 1", "PUBACK 2", "PUBREC 3")
		synctest.Wait()
		if want := []string{"1", "z", "1", "2", "3"}; !slices.Equal(seen, want) {
			t.Errorf("seen %q, want %q", seen, want)
		}
	})
}

// A handler that blocks holds back neither answers to our publishes nor
// PINGRESP; and OnMessage is not shown more than our Receive Maximum.
func TestBlockedHandler(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		gate := make(chan struct{})
		shown := 0
		var unacked []*client.Delivery
		o := n.options()
		o.KeepAlive = 10 * time.Second
		o.ReceiveMaximum = 3
		o.OnMessage = func(d *client.Delivery) {
			<-gate
			shown++
			unacked = append(unacked, d)
		}
		c := start(t, o)
		s, _ := n.accept(mqtt.Connack{})
		for id := range uint16(10) {
			s.send(publish(id+1, 1, "t", "x"))
		}
		done := make(chan error, 1)
		go func() { done <- c.Publish(t.Context(), message("t", "mine", 1)) }()
		s.expect("PUBLISH 1 q1 t=mine")
		s.send(puback(1))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for range 3 {
			s.expect("PINGREQ")
			s.send(&mqtt.Pingresp{})
		}
		close(gate)
		synctest.Wait()
		if shown != 3 {
			t.Fatalf("%d deliveries without an Ack, Receive Maximum 3", shown)
		}
		unacked[0].Ack()
		s.expect("PUBACK 1")
		synctest.Wait()
		if shown != 4 {
			t.Errorf("%d deliveries after one Ack", shown)
		}
	})
}

// The Ack of a former connection's delivery makes no room for one more now.
func TestStaleAckOpensNoWindow(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		var shown []*client.Delivery
		o := n.options()
		o.ReceiveMaximum = 1
		o.SessionExpiry = time.Hour
		o.OnMessage = func(d *client.Delivery) { shown = append(shown, d) }
		start(t, o)
		for i := range 2 {
			s, _ := n.accept(mqtt.Connack{SessionPresent: i > 0})
			s.send(publish(1, 1, "t", "a"), publish(2, 1, "t", "b"))
			synctest.Wait()
			if i == 0 {
				s.conn.Close()
			}
		}
		if len(shown) != 2 {
			t.Fatalf("%d deliveries, want a twice", len(shown))
		}
		shown[0].Ack()
		synctest.Wait()
		if len(shown) != 2 {
			t.Error("a stale Ack let another message through")
		}
		shown[1].Ack()
		synctest.Wait()
		if len(shown) != 3 {
			t.Error("the right Ack did not")
		}
	})
}

// What comes faster than OnMessage stops the reader, and so the server: QoS 0
// by number, everything by size.
func TestBackPressure(t *testing.T) {
	for name, flood := range map[string]struct {
		qos         mqtt.QoS
		total, size int
		user        int // properties of a key of 10,000 bytes
	}{
		"small of QoS 0":           {0, 20_000, 100, 0},
		"large of QoS 0":           {0, 40, 1_000_000, 0},
		"large of QoS 1":           {1, 40, 1_000_000, 0},
		"large for its properties": {1, 40, 0, 100},
	} {
		t.Run(name, func(t *testing.T) {
			each := bubble
			if flood.user > 0 {
				each = bubble5
			}
			each(t, func(t *testing.T, n *network) {
				gate := make(chan struct{})
				count := 0
				o := n.options()
				o.KeepAlive = 10 * time.Second
				o.OnMessage = func(d *client.Delivery) { <-gate; count++; d.Ack() }
				start(t, o)
				s, _ := n.accept(mqtt.Connack{})
				sent := 0
				var wg sync.WaitGroup
				wg.Go(func() {
					payload := strings.Repeat("x", flood.size)
					user := slices.Repeat([]mqtt.BorrowedProperty{{Key: bytes.Repeat([]byte("k"), 10_000)}}, flood.user)
					for i := range flood.total {
						p := publish(uint16(i+1)*uint16(flood.qos), flood.qos, "topic", payload)
						p.User = user
						s.send(p)
						sent++
					}
				})
				time.Sleep(time.Minute) // no PINGRESP is read, and that must not count
				synctest.Wait()
				if sent == flood.total {
					t.Fatal("all was read although OnMessage is blocked")
				}
				close(gate)
				wg.Wait()
				synctest.Wait()
				if count != flood.total {
					t.Errorf("%d of %d messages came", count, flood.total)
				}
			})
		})
	}
}

func TestStoreSurvivesTheProcess(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		store := new(client.MemoryStore)
		o := n.options()
		o.Store = store
		o.MaxInflight = 2
		first, err := client.New(o)
		if err != nil {
			t.Fatal(err)
		}
		first.Start()
		var told results
		for _, p := range []string{"a", "b", "c"} {
			m := message("t", p, 2)
			m.Expiry = time.Minute
			if err := first.PublishAsync(m, told.of(p)); err != nil {
				t.Fatal(err)
			}
		}
		s, _ := n.accept(mqtt.Connack{})
		expiry := ""
		if n.version == mqtt.V5 {
			expiry = " expiry=60"
		}
		s.expect("PUBLISH 1 q2 t=a"+expiry, "PUBLISH 2 q2 t=b"+expiry)
		s.send(pubrec(1))
		s.expect("PUBREL 1")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		first.Stop(ctx)
		s.gone()
		stopped := ": " + client.ErrStopped.Error()
		told.expect(t, "a"+stopped, "b"+stopped, "c"+stopped)

		time.Sleep(20 * time.Second)
		if n.version == mqtt.V5 {
			expiry = " expiry=40"
		}
		second := start(t, o)
		second.PublishAsync(message("t", "d", 1), told.of("d"))
		s, _ = n.accept(mqtt.Connack{SessionPresent: true})
		s.expect("PUBREL 1", "PUBLISH 2 q2 t=b dup"+expiry)
		s.send(pubcomp(1))
		s.expect("PUBLISH 3 q2 t=c" + expiry)
		s.send(pubrec(2), pubcomp(2))
		s.expect("PUBREL 2", "PUBLISH 4 q1 t=d")
		s.send(pubrec(3), pubcomp(3), puback(4))
		s.expect("PUBREL 3")
		told.expect(t, "a"+stopped, "b"+stopped, "c"+stopped, "d")
		if left, _ := store.Load(); len(left) != 0 {
			t.Errorf("the store still holds %+v", left)
		}
	})
}

// faultyStore fails on demand, and notes what was not synced.
type faultyStore struct {
	client.MemoryStore
	mu       sync.Mutex
	fail     map[string]bool // by method
	unsynced int
}

func (s *faultyStore) step(method string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsynced++
	if s.fail[method] {
		return errors.New("disk full")
	}
	if method == "Sync" {
		s.unsynced = 0
	}
	return nil
}

func (s *faultyStore) set(method string, fail bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = map[string]bool{method: fail}
}

func (s *faultyStore) Add(r client.Record) error {
	if err := s.step("Add"); err != nil {
		return err
	}
	return s.MemoryStore.Add(r)
}

func (s *faultyStore) Mark(seq uint64, id uint16, released bool) error {
	if err := s.step("Mark"); err != nil {
		return err
	}
	return s.MemoryStore.Mark(seq, id, released)
}

func (s *faultyStore) Remove(seq uint64) error {
	if err := s.step("Remove"); err != nil {
		return err
	}
	return s.MemoryStore.Remove(seq)
}

func (s *faultyStore) Sync() error { return s.step("Sync") }

// Nothing leaves that the store has not made durable.
func TestStoreBeforeNetwork(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		store := &faultyStore{}
		downs := make(chan error, 10)
		o := n.options()
		o.Store = store
		o.OnDown = func(err error) { downs <- err }
		c := start(t, o)
		s, _ := n.accept(mqtt.Connack{})
		synctest.Wait()
		var told results
		store.set("Add", true)
		if err := c.PublishAsync(message("t", "refused", 1), told.of("refused")); err == nil {
			t.Error("a message was taken that the store refused")
		}
		store.set("Add", false)
		for i, method := range []string{"Sync", "Mark"} {
			store.set(method, true)
			name := fmt.Sprint(i)
			if err := c.PublishAsync(message("t", name, 1), told.of(name)); err != nil {
				t.Fatal(err)
			}
			if err := <-downs; err == nil {
				t.Errorf("%s failed, and the connection stands", method)
			}
			if rest := s.gone(); len(rest) != 0 {
				t.Errorf("%s failed, and still %q left", method, rest)
			}
			store.set(method, false)
			s, _ = n.accept(mqtt.Connack{SessionPresent: true})
			p := s.read().(*mqtt.Publish)
			store.mu.Lock()
			if store.unsynced != 0 {
				t.Error("the message left before Sync")
			}
			store.mu.Unlock()
			s.send(puback(p.PacketID))
			synctest.Wait()
		}
		told.expect(t, "0", "1")
		store.set("Remove", true)
		c.PublishAsync(message("t", "2", 1), told.of("2"))
		p := s.read().(*mqtt.Publish)
		s.send(puback(p.PacketID))
		<-downs
		s.gone()
		store.set("Remove", false) // what the store missed is told it again
		n.accept(mqtt.Connack{SessionPresent: true})
		told.expect(t, "0", "1", "2")
		if left, _ := store.Load(); len(left) != 0 {
			t.Errorf("the store still holds %+v", left)
		}
	})
}

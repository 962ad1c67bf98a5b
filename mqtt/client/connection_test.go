package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/mqtt/pipe"
)

// waits runs a client whose connections end as the script says, and returns how
// long it waited before each attempt after the first.
func waits(t *testing.T, o client.Options, attempts int, script func(attempt int, s *peer)) (waited []time.Duration) {
	n := newNetwork(t, mqtt.V5)
	dials := make(chan time.Time, attempts+1)
	ended := time.Now()
	o.ClientID, o.KeepAlive = "c", -1
	o.Dial = func(context.Context) (net.Conn, error) {
		dials <- time.Now()
		near, far := pipe.Pipe()
		n.dialled <- far
		return near, nil
	}
	c := start(t, o)
	for i := range attempts {
		at := <-dials
		if i > 0 {
			waited = append(waited, at.Sub(ended))
		}
		s := n.next()
		script(i, s)
		ended = time.Now()
	}
	stopNow(c)
	return waited
}

func stopNow(c *client.Client) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c.Stop(ctx)
}

func TestBackoff(t *testing.T) {
	b := client.Backoff{Min: 250 * time.Millisecond, Max: 30 * time.Second}
	refuse := func(code mqtt.ReasonCode) func(int, *peer) {
		return func(_ int, s *peer) {
			s.read()
			s.send(&mqtt.Connack{Reason: code})
			s.gone()
		}
	}
	cut := func(_ int, s *peer) { s.conn.Close() }
	upFor := func(d time.Duration) func(int, *peer) {
		return func(_ int, s *peer) {
			s.read()
			s.send(&mqtt.Connack{})
			time.Sleep(d)
			s.conn.Close()
		}
	}
	takeover := func(_ int, s *peer) {
		s.read()
		s.send(&mqtt.Connack{}, &mqtt.Disconnect{Reason: mqtt.SessionTakenOver})
		s.gone()
	}
	for _, tc := range []struct {
		name   string
		script func(int, *peer)
		bound  func(i int) (low, high time.Duration)
	}{
		{"the server is away", cut, func(i int) (time.Duration, time.Duration) { return b.Min, min(b.Max, b.Min<<(i+1)) }},
		{"busy", refuse(mqtt.ServerBusy), func(i int) (time.Duration, time.Duration) { return b.Min, min(b.Max, b.Min<<(i+1)) }},
		{"accepts and drops", upFor(time.Second), func(i int) (time.Duration, time.Duration) { return b.Min, min(b.Max, b.Min<<(i+1)) }},
		{"up for a minute each time", upFor(time.Minute), func(int) (time.Duration, time.Duration) { return b.Min, 2 * b.Min }},
		{"bad password", refuse(mqtt.BadUserNameOrPassword), func(int) (time.Duration, time.Duration) { return b.Max / 2, b.Max }},
		{"taken over", takeover, func(int) (time.Duration, time.Duration) { return b.Max / 2, b.Max }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := waits(t, client.Options{Backoff: b}, 14, tc.script)
				for i, d := range got {
					if low, high := tc.bound(i); d < low || d > high {
						t.Errorf("wait %d is %v, want %v to %v", i, d, low, high)
					}
				}
				if slices.Max(got) == slices.Min(got) {
					t.Errorf("all waits are %v: no jitter", got[0])
				}
				// One in a million runs draws this low from a series that does rise.
				if _, high := tc.bound(len(got)); slices.Max(got) < high/8 {
					t.Errorf("the longest wait is %v of %v: it does not rise", slices.Max(got), high)
				}
			})
		})
	}
}

func TestAwaitUpTellsARefusal(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		o := n.options()
		o.Username, o.Password = "u", []byte("wrong")
		c := start(t, o)
		done := make(chan error, 1)
		go func() { done <- c.AwaitUp(t.Context()) }()
		s := n.next()
		if p := s.read().(*mqtt.Connect); p.Username != "u" || string(p.Password) != "wrong" {
			t.Errorf("credentials sent: %q, %q", p.Username, p.Password)
		}
		s.send(&mqtt.Connack{Reason: mqtt.NotAuthorized})
		if r, ok := errors.AsType[*client.ReasonError](<-done); !ok || r.Code != mqtt.NotAuthorized {
			t.Errorf("AwaitUp: %v", r)
		}
		s, _ = n.accept(mqtt.Connack{}) // the server has changed its mind
		synctest.Wait()
		if err := c.AwaitUp(t.Context()); err != nil {
			t.Errorf("AwaitUp after all: %v", err)
		}
		s.conn.Close()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := c.AwaitUp(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("AwaitUp while the connection is lost: %v", err)
		}
		stopNow(c)
		if err := c.AwaitUp(t.Context()); !errors.Is(err, client.ErrStopped) {
			t.Errorf("AwaitUp after Stop: %v", err)
		}
	})
}

// Shows [MQTT-3.1.2-20] [MQTT-3.1.2-21] [MQTT-3.2.2-21].
func TestKeepAlive(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		o := n.options()
		o.KeepAlive = 20 * time.Second
		down := make(chan error, 1)
		o.OnDown = func(err error) { down <- err }
		start(t, o)
		connack := mqtt.Connack{}
		interval := 20 * time.Second
		if n.version == mqtt.V5 {
			connack.HasServerKeepAlive, connack.ServerKeepAlive = true, 8
			interval = 8 * time.Second
		}
		s, connect := n.accept(connack)
		if connect.KeepAlive != 20 {
			t.Errorf("CONNECT says keep alive %d", connect.KeepAlive)
		}
		last := time.Now()
		for range 5 {
			s.expect("PINGREQ")
			if gap := time.Since(last); gap > interval {
				t.Errorf("silent for %v of %v", gap, interval)
			}
			last = time.Now()
			s.send(&mqtt.Pingresp{})
		}
		s.expect("PINGREQ")
		asked := time.Now()
		if err := <-down; err == nil || !strings.Contains(err.Error(), "PINGREQ") {
			t.Errorf("OnDown: %v", err)
		}
		if d := time.Since(asked); d > interval/2 {
			t.Errorf("a silent server was given up after %v", d)
		}
		s.gone()
	})
}

// What no server may send ends the connection with the right code, and the
// client comes back (attack H05).
// Shows [MQTT-4.13.1-1] [MQTT-3.1.2-26] [MQTT-3.14.4-1] [MQTT-3.14.4-2].
func TestHostileBytes(t *testing.T) {
	raw := func(b ...byte) func(*peer) { return func(s *peer) { s.conn.Write(b) } }
	packet := func(p mqtt.Packet) func(*peer) { return func(s *peer) { s.send(p) } }
	for name, tc := range map[string]struct {
		say  func(*peer)
		code mqtt.ReasonCode
	}{
		"five length bytes":        {raw(0x30, 0x80, 0x80, 0x80, 0x80, 1), mqtt.MalformedPacket},
		"QoS 3":                    {raw(0x36, 5, 0, 1, 't', 0, 1), mqtt.MalformedPacket},
		"packet above our maximum": {raw(0x30, 0xFF, 0xFF, 0xFF, 0x7F), mqtt.PacketTooLarge},
		"packet type 0":            {raw(0, 0), mqtt.MalformedPacket},
		"truncated SUBACK":         {raw(0x90, 1, 0), mqtt.MalformedPacket},
		"topic alias above ours":   {packet(&mqtt.Publish{Topic: []byte("t"), TopicAlias: 1}), mqtt.TopicAliasInvalid},
		"CONNACK again":            {packet(&mqtt.Connack{}), mqtt.ProtocolError},
		"CONNECT from the server":  {packet(&mqtt.Connect{Version: mqtt.V5, ClientID: "s"}), mqtt.ProtocolError},
		"AUTH without a method":    {packet(&mqtt.Auth{Reason: mqtt.ContinueAuthentication, Method: "m"}), mqtt.ProtocolError},
		"PUBREL out of the blue for a message without PUBREC": {func(s *peer) {
			s.send(publish(5, 2, "t", "x"), pubrel(5))
		}, mqtt.ProtocolError},
	} {
		t.Run(name, func(t *testing.T) {
			bubble5(t, func(t *testing.T, n *network) {
				o := n.options()
				o.OnMessage = func(*client.Delivery) {}
				start(t, o)
				s, _ := n.accept(mqtt.Connack{})
				tc.say(s)
				if got, want := s.gone(), []string{describe(&mqtt.Disconnect{Reason: tc.code})}; !slices.Equal(got, want) {
					t.Errorf("the client said %q, want %q", got, want)
				}
				s, _ = n.accept(mqtt.Connack{})
				s.conn.Close()
			})
		})
	}
}

// Before CONNACK there is nothing to say to a server that does not speak MQTT.
// Shows [MQTT-3.2.2-4] [MQTT-3.2.0-1].
func TestHostileHandshake(t *testing.T) {
	for name, say := range map[string]func(*peer){
		"not CONNACK": func(s *peer) { s.send(&mqtt.Pingresp{}) },
		"nonsense":    func(s *peer) { s.conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) },
		"silence":     func(*peer) {},
		"a session that was to start clean": func(s *peer) {
			s.send(&mqtt.Connack{SessionPresent: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble5(t, func(t *testing.T, n *network) {
				o := n.options()
				o.CleanStart = true
				c := start(t, o)
				s := n.next()
				s.read()
				say(s)
				if rest := s.gone(); rest != nil {
					t.Errorf("the client said %q", rest)
				}
				n.accept(mqtt.Connack{})
				synctest.Wait()
				if err := c.AwaitUp(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A server that asks for answers and does not read them gets no memory.
func TestServerThatDoesNotRead(t *testing.T) {
	bubble5(t, func(t *testing.T, n *network) {
		start(t, n.options())
		s, _ := n.accept(mqtt.Connack{})
		sent := 0
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for range 1_000_000 {
				s.send(pubrec(77)) // answered with PUBREL
				sent++
			}
		}()
		synctest.Wait()
		if sent > 400_000 {
			t.Errorf("%d unread answers are kept", sent)
		}
		s.conn.Close()
		<-ended
	})
}

func TestSubscriptions(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		ups := make(chan client.Up, 5)
		o := n.options()
		o.OnUp = func(u client.Up) { ups <- u }
		o.Subscriptions = []mqtt.Subscription{{Filter: "a/#", QoS: 1}, {Filter: "b", QoS: 2}}
		c := start(t, o)
		c.PublishAsync(message("t", "x", 1), nil) // must leave after SUBSCRIBE
		s, _ := n.accept(mqtt.Connack{})
		s.expect("SUBSCRIBE 1 a/#:1 b:2", "PUBLISH 2 q1 t=x")
		synctest.Wait()
		select {
		case <-ups:
			t.Fatal("OnUp before SUBACK")
		default:
		}
		s.send(puback(2), &mqtt.Suback{PacketID: 1, Reasons: []mqtt.ReasonCode{1, mqtt.UnspecifiedError}})
		if up := <-ups; up.SessionPresent || len(up.Refused) != 1 || up.Refused[0].Filter != "b" {
			t.Errorf("OnUp: %+v", up)
		}

		type answer struct {
			codes []mqtt.ReasonCode
			err   error
		}
		answers := make(chan answer, 1)
		subscribe := func() {
			codes, err := c.Subscribe(t.Context(), mqtt.Subscription{Filter: "c", QoS: 1}, mqtt.Subscription{Filter: "d", QoS: 1})
			answers <- answer{codes, err}
		}
		go subscribe()
		s.expect("SUBSCRIBE 3 c:1 d:1")
		s.conn.Close() // before the answer: it asks again on the next connection
		s, _ = n.accept(mqtt.Connack{SessionPresent: true})
		<-ups
		s.expect("SUBSCRIBE 4 c:1 d:1")
		s.send(&mqtt.Suback{PacketID: 4, Reasons: []mqtt.ReasonCode{0, mqtt.UnspecifiedError}})
		if a := <-answers; a.err != nil || !slices.Equal(a.codes, []mqtt.ReasonCode{0, mqtt.UnspecifiedError}) {
			t.Errorf("Subscribe: %v", a)
		}
		go c.Unsubscribe(t.Context(), "a/#")
		s.expect("UNSUBSCRIBE 5 a/#")
		reasons := []mqtt.ReasonCode{mqtt.Success}
		if n.version == mqtt.V311 {
			reasons = nil
		}
		s.send(&mqtt.Unsuback{PacketID: 5, Reasons: reasons})
		synctest.Wait()
		s.conn.Close()

		s, _ = n.accept(mqtt.Connack{}) // session lost: what is granted is renewed
		s.expect("SUBSCRIBE 6 b:2 c:1")
		s.send(&mqtt.Suback{PacketID: 6, Reasons: []mqtt.ReasonCode{2, 1}})
		if up := <-ups; len(up.Refused) != 0 {
			t.Errorf("OnUp: %+v", up)
		}
	})
}

// A session that was there before this client may lack its subscriptions.
func TestSubscribesAtTheFirstConnection(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		o := n.options()
		o.Subscriptions = []mqtt.Subscription{{Filter: "a", QoS: 1}}
		start(t, o)
		s, _ := n.accept(mqtt.Connack{SessionPresent: true})
		s.expect("SUBSCRIBE 1 a:1")
		s.send(&mqtt.Suback{PacketID: 1, Reasons: []mqtt.ReasonCode{1}})
		synctest.Wait()
		s.conn.Close()
		s, _ = n.accept(mqtt.Connack{SessionPresent: true})
		synctest.Wait()
		s.conn.SetReadDeadline(time.Now().Add(time.Second))
		if rest := s.gone(); rest != nil {
			t.Errorf("in a resumed session the client said %q", rest)
		}
	})
}

// A connection that ends before SUBACK leaves a session that may lack the
// subscriptions, though the server says at the next one that it has it.
func TestSubscribesUntilAnswered(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		o := n.options()
		o.Subscriptions = []mqtt.Subscription{{Filter: "a", QoS: 1}}
		start(t, o)
		for id, present := range []bool{false, true, false, true, true} {
			s, _ := n.accept(mqtt.Connack{SessionPresent: present})
			s.expect(fmt.Sprintf("SUBSCRIBE %d a:1", id+1))
			s.conn.Close()
		}
		s, _ := n.accept(mqtt.Connack{SessionPresent: true})
		s.expect("SUBSCRIBE 6 a:1")
		s.send(&mqtt.Suback{PacketID: 6, Reasons: []mqtt.ReasonCode{1}})
		synctest.Wait()
		s.conn.Close()
		s, _ = n.accept(mqtt.Connack{SessionPresent: true})
		synctest.Wait()
		s.conn.SetReadDeadline(time.Now().Add(time.Second))
		if rest := s.gone(); rest != nil {
			t.Errorf("after SUBACK, in a resumed session, the client said %q", rest)
		}
	})
}

func TestSubackOfTheWrongLength(t *testing.T) {
	bubble5(t, func(t *testing.T, n *network) {
		o := n.options()
		o.Subscriptions = []mqtt.Subscription{{Filter: "a"}}
		start(t, o)
		s, _ := n.accept(mqtt.Connack{})
		s.expect("SUBSCRIBE 1 a:0")
		s.send(&mqtt.Suback{PacketID: 9, Reasons: make([]mqtt.ReasonCode, 1000)}) // nobody asked
		s.send(&mqtt.Suback{PacketID: 1, Reasons: make([]mqtt.ReasonCode, 1000)})
		if got := s.gone(); !slices.Equal(got, []string{"DISCONNECT 0x82"}) {
			t.Errorf("the client said %q", got)
		}
	})
}

func TestRequests(t *testing.T) {
	bubble5(t, func(t *testing.T, n *network) {
		block := make(chan struct{})
		o := n.options()
		o.OnMessage = func(*client.Delivery) { <-block } // answers do not wait for it
		c := start(t, o)
		s, _ := n.accept(mqtt.Connack{})
		s.send(publish(0, 0, "other", ""))
		got := make(chan string, 3)
		ask := func(ctx context.Context, q string) {
			d, err := c.Request(ctx, message("ask", q, 1))
			if err != nil {
				got <- q + ": " + err.Error()
				return
			}
			got <- q + "=" + string(d.Payload)
		}
		go ask(t.Context(), "one")
		s.expect("SUBSCRIBE 1 reply/c:1")
		s.send(&mqtt.Suback{PacketID: 1, Reasons: []mqtt.ReasonCode{1}})
		one := s.read().(*mqtt.Publish)
		go ask(t.Context(), "two")
		two := s.read().(*mqtt.Publish)
		ctx, cancel := context.WithCancel(t.Context())
		go ask(ctx, "three")
		three := s.read().(*mqtt.Publish)
		if string(one.ResponseTopic) != "reply/c" || string(one.CorrelationData) == string(two.CorrelationData) {
			t.Errorf("requests: %q %x, %x", one.ResponseTopic, one.CorrelationData, two.CorrelationData)
		}
		cancel()
		if g := <-got; g != "three: context canceled" {
			t.Error(g)
		}
		answer := func(id uint16, q *mqtt.Publish, text string) *mqtt.Publish {
			p := publish(id, 1, "reply/c", text)
			p.HasCorrelation, p.CorrelationData = true, q.CorrelationData
			return p
		}
		// Out of order, before PUBACK, twice, late, and one from nowhere.
		s.send(answer(1, two, "2"), answer(2, two, "2 again"), answer(3, three, "late"),
			answer(4, &mqtt.Publish{CorrelationData: []byte("?")}, ""), answer(5, one, "1"))
		s.expect("PUBACK 1", "PUBACK 2", "PUBACK 3", "PUBACK 4", "PUBACK 5")
		answers := []string{<-got, <-got}
		slices.Sort(answers)
		if want := []string{"one=1", "two=2"}; !slices.Equal(answers, want) {
			t.Errorf("got %q, want %q", answers, want)
		}
		close(block)
	})
	if c, err := client.New(client.Options{Dial: newNetwork(t, mqtt.V311).dial, Version: mqtt.V311, ClientID: "c"}); err != nil {
		t.Error(err)
	} else if _, err := c.Request(t.Context(), message("t", "", 1)); !errors.Is(err, client.ErrNoRequests) {
		t.Errorf("Request in 3.1.1: %v", err)
	}
}

func TestStopFlushes(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		var told results
		downs := make(chan error, 1)
		o := n.options()
		o.OnDown = func(err error) { downs <- err }
		c := start(t, o)
		s, _ := n.accept(mqtt.Connack{})
		synctest.Wait()
		c.PublishAsync(message("t", "a", 2), told.of("a"))
		c.PublishAsync(message("t", "b", 0), told.of("b"))
		s.expect("PUBLISH 1 q2 t=a", "PUBLISH 0 q0 t=b")
		stopped := make(chan error, 1)
		go func() { stopped <- c.Stop(t.Context()) }()
		synctest.Wait()
		if err := c.PublishAsync(message("t", "c", 1), nil); !errors.Is(err, client.ErrStopped) {
			t.Errorf("publish while stopping: %v", err)
		}
		s.send(pubrec(1))
		s.expect("PUBREL 1")
		s.send(pubcomp(1))
		s.expect("DISCONNECT 0x0")
		s.conn.Close()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if err := <-downs; !errors.Is(err, client.ErrStopped) {
			t.Errorf("OnDown: %v", err)
		}
		told.expect(t, "a", "b")
		if err := c.Stop(t.Context()); err != nil {
			t.Errorf("second stop: %v", err)
		}
	})
}

func TestStopGivesUp(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		var told results
		c := start(t, n.options())
		s, _ := n.accept(mqtt.Connack{})
		c.PublishAsync(message("t", "a", 1), told.of("a"))
		s.expect("PUBLISH 1 q1 t=a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop: %v", err)
		}
		told.expect(t, "a: "+client.ErrStopped.Error())
	})
}

// Stop must not wait for a dial, a handshake, a SUBACK or a back-off.
func TestStopAtAnyMoment(t *testing.T) {
	for name, reach := range map[string]func(*network, *client.Client){
		"before Start":        nil,
		"while dialling":      func(n *network, c *client.Client) { c.Start() },
		"in the handshake":    func(n *network, c *client.Client) { c.Start(); n.next().read() },
		"before SUBACK":       func(n *network, c *client.Client) { c.Start(); n.accept(mqtt.Connack{}) },
		"while it backs off":  func(n *network, c *client.Client) { c.Start(); n.next().conn.Close() },
		"after a second call": func(n *network, c *client.Client) { c.Start(); c.Start() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble5(t, func(t *testing.T, n *network) {
				o := n.options()
				o.Subscriptions = []mqtt.Subscription{{Filter: "a"}}
				if name == "while dialling" {
					o.Dial = func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
				}
				var told results
				c, err := client.New(o)
				if err != nil {
					t.Fatal(err)
				}
				c.PublishAsync(message("t", "a", 1), told.of("a"))
				if reach != nil {
					reach(n, c)
				}
				synctest.Wait()
				began := time.Now()
				if err := c.Stop(t.Context()); err != nil {
					t.Error(err)
				}
				if d := time.Since(began); d > 2*time.Second {
					t.Errorf("Stop took %v", d)
				}
				told.expect(t, "a: "+client.ErrStopped.Error())
				c.Start() // must do nothing
			})
		})
	}
}

// Shows [MQTT-3.1.0-1].
func TestAssignedClientIDAndCleanStart(t *testing.T) {
	bubble5(t, func(t *testing.T, n *network) {
		o := n.options()
		o.ClientID, o.CleanStart, o.SessionExpiry = "", true, time.Hour
		start(t, o)
		s, connect := n.accept(mqtt.Connack{AssignedClientID: "given"})
		if !connect.CleanStart || connect.ClientID != "" || connect.SessionExpirySeconds != 3600 {
			t.Errorf("first CONNECT: %+v", connect)
		}
		s.conn.Close()
		_, connect = n.accept(mqtt.Connack{SessionPresent: true})
		if connect.CleanStart || connect.ClientID != "given" {
			t.Errorf("second CONNECT: %+v", connect)
		}
	})
}

func TestOptions(t *testing.T) {
	dial := newNetwork(t, mqtt.V5).dial
	for name, o := range map[string]client.Options{
		"neither Servers nor Dial":  {},
		"both":                      {Servers: []string{"mqtt://x"}, Dial: dial},
		"a scheme that is not MQTT": {Servers: []string{"http://u:secret@x"}},
		"no URL":                    {Servers: []string{"mqtt://u:secret@[x"}},
		"3.1.1 without identifier":  {Dial: dial, Version: mqtt.V311},
		"unknown version":           {Dial: dial, Version: 3},
		"bad filter":                {Dial: dial, Subscriptions: []mqtt.Subscription{{Filter: "a#"}}},
		"bad response topic":        {Dial: dial, ResponseTopic: "a/+"},
		"keep alive too long":       {Dial: dial, KeepAlive: 24 * time.Hour},
		"back-off upside down":      {Dial: dial, Backoff: client.Backoff{Min: time.Hour}},
	} {
		if _, err := client.New(o); err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
}

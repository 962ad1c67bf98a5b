package broker

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/broker/store"
	"github.com/wilco-iot/wilco/mqtt"
)

// pass lets virtual time go by, within virtual.
func pass(d time.Duration) { time.Sleep(d) }

// virtual runs f in a bubble of virtual time with a broker in it.
func virtual(t *testing.T, o Options, f func(t *testing.T, b *Broker)) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, o)
		f(t, b)
	})
}

func withWill(c mqtt.Connect, delay uint32) mqtt.Connect {
	c.Will = &mqtt.Will{Topic: "will", Payload: []byte("gone"), QoS: 1, DelaySeconds: delay}
	return c
}

// elapsed waits for the next packet, and says how long that took.
func (p *peer) elapsed(want mqtt.Packet) time.Duration {
	p.t.Helper()
	from := time.Now()
	_ = p.nc.SetReadDeadline(time.Now().Add(24 * time.Hour))
	h, body, err := p.in.Next()
	if err != nil {
		p.t.Fatal(err)
	}
	got, err := mqtt.DecodePacket(h, body, p.version)
	if err != nil {
		p.t.Fatal(err)
	}
	if show(got) != show(want) {
		p.t.Fatalf("got  %s\nwant %s", show(got), show(want))
	}
	return time.Since(from)
}

// Shows [MQTT-3.1.2-8].
func TestWillAfterItsDelay(t *testing.T) {
	virtual(t, Options{}, func(t *testing.T, b *Broker) {
		sub := join(t, b, mqtt.Connect{ClientID: "sub"})
		sub.subscribe(1, "will")
		p := join(t, b, withWill(lasting("p"), 30))
		_ = p.nc.Close()
		if d := sub.elapsed(pub("will", "gone", 1, 1)); d != 30*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

// Shows [MQTT-3.1.3-9].
func TestWillStoppedByReturn(t *testing.T) {
	virtual(t, Options{}, func(t *testing.T, b *Broker) {
		sub := join(t, b, mqtt.Connect{ClientID: "sub"})
		sub.subscribe(1, "will")
		p := join(t, b, withWill(lasting("p"), 30))
		_ = p.nc.Close()
		time.Sleep(29 * time.Second)
		join(t, b, lasting("p"))
		time.Sleep(time.Minute)
		sub.quiet()
	})
}

// Shows [MQTT-3.1.2-8].
func TestWillAtTheEndOfTheSession(t *testing.T) {
	virtual(t, Options{}, func(t *testing.T, b *Broker) {
		sub := join(t, b, mqtt.Connect{ClientID: "sub"})
		sub.subscribe(1, "will")
		p := join(t, b, withWill(mqtt.Connect{ClientID: "p", SessionExpirySeconds: 5}, 30))
		_ = p.nc.Close()
		if d := sub.elapsed(pub("will", "gone", 1, 1)); d != 5*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

// Shows [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.14.4-3].
func TestWillRules(t *testing.T) {
	leave := func(code mqtt.ReasonCode) func(*peer, *Broker) {
		return func(p *peer, _ *Broker) { p.send(&mqtt.Disconnect{Reason: code}) }
	}
	for _, c := range []struct {
		name string
		how  func(*peer, *Broker)
		sent bool
	}{
		{"normal DISCONNECT", leave(mqtt.NormalDisconnection), false},
		{"DISCONNECT with will", leave(mqtt.DisconnectWithWillMessage), true},
		{"cut", func(p *peer, _ *Broker) { _ = p.nc.Close() }, true},
		{"protocol error", func(p *peer, _ *Broker) { p.write([]byte{0xd0, 0}) }, true},
		{"takeover, session goes on", func(p *peer, b *Broker) { join(p.t, b, lasting("p")) }, true},
		{"takeover, clean start", func(p *peer, b *Broker) { join(p.t, b, clean("p")) }, true},
		{"administrative", func(_ *peer, b *Broker) { b.Disconnect("anonymous", mqtt.AdministrativeAction) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, Options{}, func(t *testing.T, b *Broker) {
				near, err := b.Dial(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				defer near.Close()
				sub := newPeer(t, near)
				sub.connect(clean("sub"))
				sub.subscribe(0, "will")
				p := join(t, b, withWill(lasting("p"), 0))
				c.how(p, b)
				synctest.Wait()
				if c.sent {
					sub.expect(pub("will", "gone", 0, 0))
				}
				time.Sleep(time.Second)
				sub.quiet()
			})
		})
	}
}

// The will's right is asked again when it is published.
// Shows [B10c].
func TestWillDeniedWhenDue(t *testing.T) {
	var revoked atomic.Bool
	device := trusted("device")
	device.noPublish = func() bool { return revoked.Load() }
	virtual(t, Options{Authority: door{"device": device, "sub": trusted("sub")}}, func(t *testing.T, b *Broker) {
		sub := join(t, b, as("sub", clean("sub")))
		sub.subscribe(0, "will")
		p := join(t, b, as("device", withWill(lasting("p"), 10)))
		_ = p.nc.Close()
		time.Sleep(5 * time.Second)
		revoked.Store(true)
		time.Sleep(10 * time.Second)
		sub.quiet()
		q := open(t, b)
		q.sendConnect(as("device", withWill(lasting("p"), 10)))
		q.expect(&mqtt.Connack{Reason: mqtt.NotAuthorized})
	})
}

// Shows [MQTT-3.1.2-22].
func TestKeepAlive(t *testing.T) {
	virtual(t, Options{}, func(t *testing.T, b *Broker) {
		p := join(t, b, mqtt.Connect{ClientID: "p", KeepAlive: 10, CleanStart: true})
		for range 10 { // spoken to in time, it stays
			time.Sleep(14 * time.Second)
			p.quiet()
		}
		if d := p.elapsed(&mqtt.Disconnect{Reason: mqtt.KeepAliveTimeout}); d != 15*time.Second {
			t.Errorf("after %v", d)
		}
		p.closed()
		old := open(t, b)
		old.connect(mqtt.Connect{Version: mqtt.V311, ClientID: "old", CleanStart: true}) // no keep alive
		time.Sleep(time.Hour)
		old.quiet()
	})
}

// A client that is not read from, since the store lags behind its messages, is not
// taken for a silent one.
func TestKeepAliveWhileTheStoreLags(t *testing.T) {
	disk := &lagging{Memory: store.NewMemory()}
	virtual(t, Options{Store: disk}, func(t *testing.T, b *Broker) {
		join(t, b, lasting("sub")).subscribe(1, "t")
		p := join(t, b, mqtt.Connect{ClientID: "p", KeepAlive: 10, CleanStart: true})
		disk.stall()
		const n = 2 * maxPending
		for i := range uint16(n) {
			p.send(pub("t", "x", 1, i+1))
			synctest.Wait() // each is a turn
		}
		for range 6 {
			pass(9 * time.Second)
			p.send(&mqtt.Pingreq{})
		}
		disk.settle(nil)
		for acks, answers := uint16(0), 0; acks < n || answers < 6; {
			switch x := p.must().(type) {
			case *mqtt.Pingresp: // has no order among PUBACKs
				answers++
			case *mqtt.Ack:
				if acks++; x.PacketID != acks {
					t.Fatalf("%d in place of %d", x.PacketID, acks)
				}
			default:
				t.Fatal(show(x))
			}
		}
		if d := p.elapsed(&mqtt.Disconnect{Reason: mqtt.KeepAliveTimeout}); d != 15*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

func TestConnectTimeout(t *testing.T) {
	virtual(t, Options{Limits: Limits{ConnectTimeout: 5 * time.Second}}, func(t *testing.T, b *Broker) {
		p := open(t, b)
		p.write([]byte{0x10})
		from := time.Now()
		p.closed()
		if d := time.Since(from); d != 5*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

// Shows [MQTT-4.1.0-2] [MQTT-3.1.2-23].
func TestSessionExpires(t *testing.T) {
	ended := make(chan string, 9)
	o := Options{Events: Events{SessionEnded: func(id string) { ended <- id }}}
	virtual(t, o, func(t *testing.T, b *Broker) {
		p := join(t, b, mqtt.Connect{ClientID: "p", SessionExpirySeconds: 60})
		p.subscribe(1, "t")
		p.drop(b, "p")
		time.Sleep(59 * time.Second)
		p = open(t, b)
		if a := p.connect(mqtt.Connect{ClientID: "p", SessionExpirySeconds: 60}); !a.SessionPresent {
			t.Fatal("ended early")
		}
		p.drop(b, "p")
		time.Sleep(61 * time.Second)
		if len(ended) != 1 || b.Stats().Sessions != 0 || b.Stats().Subscriptions != 0 {
			t.Errorf("%d ended, %+v", len(ended), b.Stats())
		}
		p = open(t, b)
		if a := p.connect(mqtt.Connect{ClientID: "p"}); a.SessionPresent {
			t.Error("session after its end")
		}
	})
}

// Shows [MQTT-3.3.2-5] [MQTT-3.3.2-6] [B9a] [B9b].
func TestMessageExpiry(t *testing.T) {
	virtual(t, Options{}, func(t *testing.T, b *Broker) {
		sub := join(t, b, lasting("sub"))
		sub.subscribe(1, "t")
		sub.drop(b, "sub")
		from := join(t, b, clean("from"))
		for i, seconds := range []uint32{10, 5, 100} {
			m := pub("t", string(rune('a'+i)), 1, uint16(i+1))
			m.HasExpiry, m.ExpirySeconds = true, seconds
			m.Retain = i == 1
			from.send(m)
			from.expect(ack(mqtt.TypePuback, uint16(i+1)))
		}
		time.Sleep(7 * time.Second)
		sub = open(t, b)
		sub.connect(lasting("sub"))
		a, c := pub("t", "a", 1, 1), pub("t", "c", 1, 2)
		a.HasExpiry, a.ExpirySeconds, c.HasExpiry, c.ExpirySeconds = true, 3, true, 93
		sub.expect(a, told(c, "1 expired"))
		other := join(t, b, clean("other"))
		other.subscribe(1, "#") // the retained one is over as well
		other.quiet()
		synctest.Wait()
		if s := b.Stats(); s.Retained != 0 || s.Dropped[0] != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// A broker that starts on the store of another finds its sessions, queues,
// retained messages, wills and half-done handshakes.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMemory()
		o := Options{Authority: AllowAnonymous(), Store: mem}
		b, _ := New(o)
		if err := b.Start(); err != nil {
			t.Fatal(err)
		}
		sub := join(t, b, mqtt.Connect{ClientID: "sub", SessionExpirySeconds: 3600, ReceiveMaximum: 2})
		sub.subscribe(2, "t", "will")
		from := join(t, b, withWill(lasting("from"), 5))
		r := pub("kept", "r", 1, 9)
		r.Retain = true
		from.send(r, pub("t", "a", 2, 1), pub("t", "b", 1, 2), pub("t", "c", 1, 3))
		from.expect(ack(mqtt.TypePuback, 9, mqtt.NoMatchingSubscribers), ack(mqtt.TypePubrec, 1), ack(mqtt.TypePuback, 2), ack(mqtt.TypePuback, 3))
		sub.expect(pub("t", "a", 2, 1), pub("t", "b", 1, 2))
		stop(t, b)
		sub.expect(&mqtt.Disconnect{Reason: mqtt.ServerShuttingDown})
		sub.closed()

		b = start(t, o)
		from = open(t, b)
		// Its QoS 2 message is known: no second copy.
		from.connect(lasting("from"))
		from.send(dup(pub("t", "a", 2, 1)), ack(mqtt.TypePubrel, 1))
		from.expect(ack(mqtt.TypePubrec, 1), ack(mqtt.TypePubcomp, 1))
		sub = open(t, b)
		if a := sub.connect(lasting("sub")); !a.SessionPresent {
			t.Fatal("session lost")
		}
		sub.expect(dup(pub("t", "a", 2, 1)), pub("t", "b", 1, 2), pub("t", "c", 1, 3))
		sub.subscribe(0, "kept")
		kept := pub("kept", "r", 0, 0)
		kept.Retain = true
		sub.expect(kept)
		// The one who never came back has its will published after the delay.
		_ = from.nc.Close()
		time.Sleep(10 * time.Second)
		sub.quiet() // it came back without a will
	})
}

// Shows [B4e].
func TestWillSurvivesRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMemory()
		o := Options{Authority: AllowAnonymous(), Store: mem}
		b, _ := New(o)
		if err := b.Start(); err != nil {
			t.Fatal(err)
		}
		sub := join(t, b, lasting("sub"))
		sub.subscribe(1, "will")
		join(t, b, withWill(clean("p"), 0))
		stop(t, b)
		b2 := start(t, o)
		sub = open(t, b2)
		sub.connect(lasting("sub"))
		sub.expect(pub("will", "gone", 1, 1))
	})
}

// What the writer of a session found is not kept for another session that has its name
// by then.
func TestLossesOfASessionThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dropped, told := make(chan bool), make(chan bool)
		o := Options{Store: store.NewMemory(), Events: Events{Dropped: func(d Drop) {
			if d.Reason == session.DropExpired {
				close(dropped)
				<-told
			}
		}}}
		b := start(t, o)
		sub := join(t, b, lasting("sub"))
		sub.subscribe(1, "t")
		sub.drop(b, "sub")
		m := pub("t", "x", 1, 1)
		m.HasExpiry, m.ExpirySeconds = true, 1
		join(t, b, clean("from")).publish(m)
		pass(2 * time.Second)
		join(t, b, lasting("sub"))
		<-dropped
		anew := lasting("sub")
		anew.CleanStart = true
		sub = join(t, b, anew)
		close(told)
		synctest.Wait()
		sub.subscribe(1, "t")
		stop(t, b)
		b = start(t, Options{Store: o.Store})
		sub = join(t, b, lasting("sub"))
		join(t, b, clean("from")).publish(pub("t", "y", 1, 1))
		sub.expect(pub("t", "y", 1, 1))
	})
}

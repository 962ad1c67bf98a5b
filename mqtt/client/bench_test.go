package client_test

import (
	"context"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	paho5 "github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/mqtt/pipe"
)

// serveBench is the smallest server there can be, so that what is measured is
// the client: it accepts, grants, acknowledges, and, for each number that comes
// by send, sends so many QoS 1 messages, keeping to a window.
func serveBench(conn net.Conn, version mqtt.Version, send <-chan int, done chan<- struct{}) {
	const window = 100
	var out []byte
	in := mqtt.NewReader(conn, 0)
	var mu sync.Mutex
	free := sync.NewCond(&mu)
	inflight, acked, want := 0, 0, 0
	ended := false
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { mu.Lock(); ended = true; free.Broadcast(); mu.Unlock() }()
	wg.Go(func() {
		var batch []byte
		payload := make([]byte, 64)
		var id uint16
		for n := range send {
			mu.Lock()
			acked, want = 0, n
			mu.Unlock()
			for n > 0 {
				mu.Lock()
				for inflight == window && !ended {
					free.Wait()
				}
				k := min(window-inflight, n)
				inflight += k
				mu.Unlock()
				if ended {
					return
				}
				batch = batch[:0]
				for range k {
					if id++; id == 0 {
						id = 1
					}
					p := mqtt.Publish{Topic: []byte("group/device/ack"), Payload: payload, QoS: 1, PacketID: id}
					batch, _ = p.Append(batch, version)
				}
				conn.Write(batch)
				n -= k
			}
		}
	})
	for {
		h, body, err := in.Next()
		if err != nil {
			return
		}
		switch h.Type {
		case mqtt.TypeConnect:
			out, _ = (&mqtt.Connack{}).Append(out, version)
		case mqtt.TypeSubscribe:
			p, _ := mqtt.DecodePacket(h, body, version)
			s := p.(*mqtt.Subscribe)
			out, _ = (&mqtt.Suback{PacketID: s.PacketID, Reasons: make([]mqtt.ReasonCode, len(s.Subscriptions))}).Append(out, version)
		case mqtt.TypePublish:
			var p mqtt.Publish
			p.Decode(h, body, version)
			if p.QoS == 1 {
				out = mqtt.AppendAck(out, version, mqtt.TypePuback, p.PacketID, 0)
			}
		case mqtt.TypePuback:
			mu.Lock()
			inflight--
			acked++
			last := acked == want
			mu.Unlock()
			free.Signal()
			if last {
				done <- struct{}{}
			}
		case mqtt.TypePingreq:
			out, _ = (&mqtt.Pingresp{}).Append(out, version)
		}
		if in.Buffered() == 0 && len(out) > 0 {
			conn.Write(out)
			out = out[:0]
		}
	}
}

// benchPeer starts serveBench on a pipe and returns the client's end.
type benchPeer struct {
	near net.Conn
	send chan int
	done chan struct{}
	wg   sync.WaitGroup
}

func newBenchPeer(b *testing.B, v mqtt.Version) *benchPeer {
	near, far := pipe.Pipe()
	p := &benchPeer{near: near, send: make(chan int), done: make(chan struct{}, 1)}
	p.wg.Go(func() { serveBench(far, v, p.send, p.done) })
	b.Cleanup(func() { close(p.send); near.Close(); p.wg.Wait() })
	return p
}

func (p *benchPeer) dial(context.Context) (net.Conn, error) { return p.near, nil }

var benchPayload = make([]byte, 64)

// BenchmarkPublishQoS1: up to 100 publishes wait for their PUBACK; the time is
// that of one message from the call to its result.
func BenchmarkPublishQoS1(b *testing.B) {
	const window = 100
	for name, version := range versions {
		b.Run("wilco/"+name, func(b *testing.B) {
			p := newBenchPeer(b, version)
			c := start(b, client.Options{Dial: p.dial, Version: version, ClientID: "c", MaxInflight: window})
			c.AwaitUp(b.Context())
			slots := make(chan struct{}, 2*window)
			done := func(r client.Result) {
				if r.Err != nil {
					b.Error(r.Err)
				}
				<-slots
			}
			b.ReportAllocs()
			for b.Loop() {
				slots <- struct{}{}
				if err := c.PublishAsync(client.Message{Topic: "group/device/command", Payload: benchPayload, QoS: 1}, done); err != nil {
					b.Fatal(err)
				}
			}
			for range 2 * window {
				slots <- struct{}{}
			}
			b.StopTimer()
			stop(b, c)
		})
	}
	b.Run("paho.golang/5.0", func(b *testing.B) {
		p := newBenchPeer(b, mqtt.V5)
		c := startPaho5(b, p, nil)
		var wg sync.WaitGroup
		work := make(chan struct{})
		for range window { // it has no asynchronous result; so many callers at once
			wg.Go(func() {
				for range work {
					if _, err := c.Publish(context.Background(), &paho5.Publish{Topic: "group/device/command", Payload: benchPayload, QoS: 1}); err != nil {
						b.Error(err)
					}
				}
			})
		}
		b.ReportAllocs()
		for b.Loop() {
			work <- struct{}{}
		}
		close(work)
		wg.Wait()
		b.StopTimer()
	})
	b.Run("paho.mqtt.golang/3.1.1", func(b *testing.B) {
		p := newBenchPeer(b, mqtt.V311)
		c := startPaho3(b, p, nil)
		tokens := make(chan paho3.Token, window)
		var wg sync.WaitGroup
		wg.Go(func() {
			for t := range tokens {
				t.Wait()
			}
		})
		b.ReportAllocs()
		for b.Loop() {
			tokens <- c.Publish("group/device/command", 1, false, benchPayload)
		}
		close(tokens)
		wg.Wait()
		b.StopTimer()
	})
}

// BenchmarkReceiveAck: messages of QoS 1 come in a window of 100 and are
// acknowledged one by one; the time is that of one message.
func BenchmarkReceiveAck(b *testing.B) {
	run := func(b *testing.B, p *benchPeer) {
		b.ReportAllocs()
		b.ResetTimer()
		p.send <- b.N
		<-p.done
		b.StopTimer()
	}
	for name, version := range versions {
		b.Run("wilco/"+name, func(b *testing.B) {
			p := newBenchPeer(b, version)
			c := start(b, client.Options{
				Dial: p.dial, Version: version, ClientID: "c", ReceiveMaximum: 100,
				OnMessage: func(d *client.Delivery) { d.Ack() },
			})
			c.AwaitUp(b.Context())
			run(b, p)
			stop(b, c)
		})
	}
	b.Run("paho.golang/5.0", func(b *testing.B) {
		p := newBenchPeer(b, mqtt.V5)
		c := startPaho5(b, p, func(r paho5.PublishReceived) (bool, error) { return true, r.Client.Ack(r.Packet) })
		run(b, p)
		_ = c
	})
	b.Run("paho.mqtt.golang/3.1.1", func(b *testing.B) {
		p := newBenchPeer(b, mqtt.V311)
		startPaho3(b, p, func(_ paho3.Client, m paho3.Message) { m.Ack() })
		run(b, p)
	})
}

// BenchmarkRoundTrip: one caller publishes with QoS 1 and waits for PUBACK.
func BenchmarkRoundTrip(b *testing.B) {
	b.Run("wilco/5.0", func(b *testing.B) {
		p := newBenchPeer(b, mqtt.V5)
		c := start(b, client.Options{Dial: p.dial, ClientID: "c"})
		c.AwaitUp(b.Context())
		ctx := b.Context()
		b.ReportAllocs()
		for b.Loop() {
			if err := c.Publish(ctx, client.Message{Topic: "group/device/command", Payload: benchPayload, QoS: 1}); err != nil {
				b.Fatal(err)
			}
		}
		b.StopTimer()
		stop(b, c)
	})
	b.Run("paho.golang/5.0", func(b *testing.B) {
		p := newBenchPeer(b, mqtt.V5)
		c := startPaho5(b, p, nil)
		b.ReportAllocs()
		for b.Loop() {
			c.Publish(context.Background(), &paho5.Publish{Topic: "group/device/command", Payload: benchPayload, QoS: 1})
		}
		b.StopTimer()
	})
	b.Run("paho.mqtt.golang/3.1.1", func(b *testing.B) {
		p := newBenchPeer(b, mqtt.V311)
		c := startPaho3(b, p, nil)
		b.ReportAllocs()
		for b.Loop() {
			c.Publish("group/device/command", 1, false, benchPayload).Wait()
		}
		b.StopTimer()
	})
}

func startPaho5(b *testing.B, p *benchPeer, on func(paho5.PublishReceived) (bool, error)) *paho5.Client {
	config := paho5.ClientConfig{Conn: packets.NewThreadSafeConn(p.near)}
	if on != nil {
		config.EnableManualAcknowledgment = true
		config.SendAcksInterval = time.Millisecond // the default is 50 ms
		config.OnPublishReceived = []func(paho5.PublishReceived) (bool, error){on}
	}
	c := paho5.NewClient(config)
	receiveMaximum := uint16(100)
	if _, err := c.Connect(context.Background(), &paho5.Connect{ClientID: "c", CleanStart: true, KeepAlive: 30, Properties: &paho5.ConnectProperties{ReceiveMaximum: &receiveMaximum}}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Disconnect(&paho5.Disconnect{}); <-c.Done() })
	return c
}

func startPaho3(b *testing.B, p *benchPeer, on paho3.MessageHandler) paho3.Client {
	o := paho3.NewClientOptions().AddBroker("tcp://in.process:1").SetClientID("c").SetAutoReconnect(false)
	o.SetCustomOpenConnectionFn(func(*url.URL, paho3.ClientOptions) (net.Conn, error) { return p.near, nil })
	if on != nil {
		o.SetAutoAckDisabled(true).SetDefaultPublishHandler(on)
	}
	c := paho3.NewClient(o)
	if t := c.Connect(); t.Wait() && t.Error() != nil {
		b.Fatal(t.Error())
	}
	b.Cleanup(func() { c.Disconnect(10) })
	return c
}

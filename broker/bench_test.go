package broker

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/broker/session"
	"github.com/wilco-iot/wilco/mqtt"
)

// dial gives a peer over loopback TCP.
func dial(t testing.TB, b *Broker, name string) *peer {
	t.Helper()
	nc, err := net.Dial("tcp", b.Addr(name).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return newPeer(t, nc)
}

var loopback = []Listener{{Name: "tcp", Network: "tcp", Address: "127.0.0.1:0"}}

func cpu() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkFanOut is one publisher of QoS 0 to 1 and 50 subscribers over
// loopback TCP, 64-byte payload. One op is one published message. The CPU time
// is that of both ends, since they share the process.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{1, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			br := start(b, Options{Listeners: loopback})
			frame, _ := pub("bench/topic/a", string(make([]byte, 64)), 0, 0).Append(nil, mqtt.V5)
			done := make(chan error, n)
			want := int64(b.N) * int64(len(frame))
			for i := range n {
				s := dial(b, br, "tcp")
				s.connect(clean(fmt.Sprint("sub", i)))
				s.subscribe(0, "bench/#")
				_ = s.nc.SetReadDeadline(time.Time{})
				go func() { done <- swallow(s.nc, want) }()
			}
			p := dial(b, br, "tcp")
			p.connect(clean("pub"))
			batch := make([]byte, 0, 200*len(frame))
			before := cpu()
			b.ResetTimer()
			for sent := 0; sent < b.N; {
				batch = batch[:0]
				for range min(200, b.N-sent) {
					batch = append(batch, frame...)
					sent++
				}
				if _, err := p.nc.Write(batch); err != nil {
					b.Fatal(err)
				}
			}
			end := time.After(time.Minute)
			for range n {
				select {
				case err := <-done:
					if err != nil {
						b.Fatal(err)
					}
				case <-end:
					b.Fatalf("dropped: %v", br.Stats().Dropped)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "delivered/s")
			b.ReportMetric(float64(cpu()-before)/float64(b.N*n), "cpu-ns/delivered")
		})
	}
}

func swallow(r io.Reader, n int64) error {
	buf := make([]byte, 64<<10)
	for n > 0 {
		m, err := r.Read(buf)
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

// BenchmarkQoS1 is one publisher with a window of 500 to one subscriber, each
// message acknowledged on both sides; the subscriber's session is a clean one,
// or one whose queue goes through the memory store, or it is the only member of
// a share.
func BenchmarkQoS1(b *testing.B) {
	b.Run("clean", func(b *testing.B) { benchmarkQoS1(b, clean("sub"), "bench/#") })
	b.Run("stored", func(b *testing.B) { benchmarkQoS1(b, lasting("sub"), "bench/#") })
	for how := RoundRobin; how <= ByPublisher; how++ {
		filter := "$share/" + how.String() + "/bench/#"
		b.Run("clean/"+how.String(), func(b *testing.B) { benchmarkQoS1(b, clean("sub"), filter) })
		b.Run("stored/"+how.String(), func(b *testing.B) { benchmarkQoS1(b, lasting("sub"), filter) })
	}
}

func benchmarkQoS1(b *testing.B, c mqtt.Connect, filter string) {
	o := Options{Listeners: loopback, Shares: map[string]ShareRule{}}
	for how := RoundRobin; how <= ByPublisher; how++ {
		o.Shares[how.String()] = ShareRule{How: how}
	}
	br := start(b, o)
	s := dial(b, br, "tcp")
	s.connect(c)
	s.subscribe(1, filter)
	_ = s.nc.SetReadDeadline(time.Time{})
	// The subscriber is behind by a part of what its queue takes at most.
	const window, behind = 500, 50_000
	var got atomic.Int64
	room := make(chan struct{}, 1)
	done := make(chan error, 1)
	go func() { done <- acknowledge(s.nc, b.N, &got, room) }()
	p := dial(b, br, "tcp")
	p.connect(clean("pub"))
	acks := bufio.NewReaderSize(p.nc, 64<<10)
	stuck := time.AfterFunc(time.Hour, func() { _, _ = p.nc.Close(), s.nc.Close() })
	defer stuck.Stop()
	failed := func(sent int, err error) {
		b.Helper()
		waiting, _ := br.Waiting()
		b.Fatalf("%v: %d sent, %d came, %d wait, dropped %v", err, sent, got.Load(), waiting, br.Stats().Dropped)
	}
	payload := string(make([]byte, 64))
	before := cpu()
	b.ResetTimer()
	var batch []byte
	for sent := 0; sent < b.N; {
		n := min(window, b.N-sent)
		batch = batch[:0]
		for i := range n {
			batch, _ = pub("bench/topic/a", payload, 1, uint16(i+1)).Append(batch, mqtt.V5)
		}
		stuck.Reset(patience)
		if _, err := p.nc.Write(batch); err != nil {
			failed(sent, err)
		}
		for range n {
			ack, err := acks.Peek(4)
			if err != nil {
				failed(sent, err)
			}
			if ack[0] != byte(mqtt.TypePuback)<<4 || ack[1] != 2 {
				failed(sent, fmt.Errorf("PUBACK % x", ack))
			}
			_, _ = acks.Discard(len(ack))
		}
		for sent += n; int64(sent)-got.Load() > behind; {
			select {
			case <-room:
				stuck.Reset(patience)
			case err := <-done:
				failed(sent, err)
			}
		}
	}
	stuck.Reset(patience)
	if err := <-done; err != nil {
		failed(b.N, err)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "delivered/s")
	b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/delivered")
}

// BenchmarkThereAndBack is one message at a time, QoS 1, from one client to
// another and its answer back, over loopback TCP, both acknowledged. One op is
// one way there and back.
func BenchmarkThereAndBack(b *testing.B) {
	br := start(b, Options{Listeners: loopback})
	join := func(name, filter string) *peer {
		p := dial(b, br, "tcp")
		p.connect(clean(name))
		p.subscribe(1, filter)
		_ = p.nc.SetReadDeadline(time.Time{})
		return p
	}
	ask, _ := pub("there", string(make([]byte, 64)), 1, 1).Append(nil, mqtt.V5)
	reply, _ := pub("back", string(make([]byte, 64)), 1, 1).Append(nil, mqtt.V5)
	asker, replier := join("asker", "back"), join("replier", "there")
	// One of them sends, the other waits for the message, acknowledges it, and sends.
	turns := func(p *peer, out []byte) error {
		in := mqtt.NewReader(p.nc, 0)
		for got := 0; got < b.N; {
			h, body, err := in.Next()
			if err != nil {
				return err
			}
			if h.Type != mqtt.TypePublish {
				continue // of its own message
			}
			var m mqtt.Publish
			if err := m.Decode(h, body, mqtt.V5); err != nil {
				return err
			}
			answer := mqtt.AppendAck(nil, mqtt.V5, mqtt.TypePuback, m.PacketID, mqtt.Success)
			if got++; got < b.N || p == replier {
				answer = append(answer, out...)
			}
			if _, err := p.nc.Write(answer); err != nil {
				return err
			}
		}
		return nil
	}
	done := make(chan error, 1)
	b.ResetTimer()
	before := cpu()
	go func() { done <- turns(replier, reply) }()
	if _, err := asker.nc.Write(ask); err != nil {
		b.Fatal(err)
	}
	if err := turns(asker, ask); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// acknowledge reads n messages of QoS 1 and answers them, a buffer at a time. It
// counts them in got, and says by room when that has grown.
func acknowledge(nc net.Conn, n int, got *atomic.Int64, room chan<- struct{}) error {
	in := mqtt.NewReader(nc, 0)
	var out []byte
	var p mqtt.Publish
	for n > 0 {
		h, body, err := in.Next()
		if err != nil {
			return err
		}
		if err := p.Decode(h, body, mqtt.V5); err != nil {
			return err
		}
		n--
		out = mqtt.AppendAck(out, mqtt.V5, mqtt.TypePuback, p.PacketID, mqtt.Success)
		if in.Buffered() == 0 || n == 0 {
			if _, err := nc.Write(out); err != nil {
				return err
			}
			got.Add(int64(len(out) / 4))
			out = out[:0]
			select {
			case room <- struct{}{}:
			default:
			}
		}
	}
	return nil
}

// TestIdleConnection holds an idle connection with a subscription to its budget
// of memory and goroutines.
func TestIdleConnection(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has its own costs")
	}
	const n = 2000
	b := start(t, Options{Listeners: loopback})
	grown := func() (int, int) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		t.Logf("heap %d, stacks %d", m.HeapInuse, m.StackInuse)
		return int(m.HeapInuse + m.StackInuse), runtime.NumGoroutine()
	}
	for range 8 { // what is needed once
		dial(t, b, "tcp").connect(clean(""))
	}
	memory, routines := grown()
	for i := range n {
		hello, _ := (&mqtt.Connect{Version: mqtt.V5, ClientID: fmt.Sprint(i), KeepAlive: 60}).Append(nil, 0)
		hello, _ = (&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: fmt.Sprint("some/topic/", i)}}}).Append(hello, mqtt.V5)
		bare(t, b.Addr("tcp").(*net.TCPAddr).Port, hello)
	}
	eventually(t, func() bool {
		return b.Stats().Connections == n+8 && b.Stats().Subscriptions == n && runtime.NumGoroutine() <= routines+n
	})
	after, _ := grown()
	each := (after - memory) / n
	t.Logf("%d bytes an idle connection", each)
	if each > 6<<10 {
		t.Errorf("an idle connection costs %d bytes", each)
	}
}

// bare connects without any memory of this process, sends hello and waits for
// the answer.
func bare(t *testing.T, port int, hello []byte) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := syscall.Write(fd, hello); err != nil {
		t.Fatal(err)
	}
	if _, err := syscall.Read(fd, make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkRetainedScan is a subscription over 1,000,000 retained messages,
// while another client publishes with QoS 1 one message after the other. It
// reports how long that client waited at most, and how long the subscription
// took.
func BenchmarkRetainedScan(b *testing.B) {
	const messages = 1_000_000
	for name, c := range map[string]struct {
		filter string
		queue  int
	}{"all": {"r/#", messages}, "until the queue is full": {"r/#", 0}, "none match": {"r/+/+/none", 0}} {
		b.Run(name, func(b *testing.B) {
			br := start(b, Options{Listeners: loopback, Limits: Limits{QoS0Messages: c.queue, QoS0Bytes: 1 << 30}})
			br.hub.mu.Lock()
			for i := range messages {
				m := session.NewMessage(&mqtt.Publish{Payload: []byte("x"), Retain: true}, fmt.Sprintf("r/%d/%d", i/1000, i%1000), "", "", time.Time{})
				br.hub.retained.put(m, new(putting))
				m.Release()
			}
			br.hub.mu.Unlock()
			other := dial(b, br, "tcp")
			other.connect(clean("other"))
			var most, took time.Duration
			for b.Loop() {
				p := dial(b, br, "tcp")
				p.connect(clean("sub"))
				done := make(chan time.Duration, 1)
				begun := time.Now()
				p.send(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: c.filter}}})
				go func() {
					p.must()
					done <- time.Since(begun)
					_, _ = io.Copy(io.Discard, p.nc)
				}()
				for waiting := true; waiting; {
					at := time.Now()
					other.publish(pub("elsewhere", "x", 1, 1), mqtt.NoMatchingSubscribers)
					most = max(most, time.Since(at))
					select {
					case d := <-done:
						took, waiting = took+d, false
					default:
					}
				}
				_ = p.nc.Close()
			}
			b.ReportMetric(float64(most.Microseconds()), "µs-wait-max")
			b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms-scan")
		})
	}
}

package device_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/device"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/pipe"
	"github.com/wilco-iot/wilco/wire"
)

var (
	address = wire.Address{Group: "north", Device: "valve-1"}
	profile = wire.NewWilco("")
)

// server is the other side of one device: a broker that knows one session, and
// a server that keeps what the device says. It is a few lines on purpose, so
// that the tests of this package fail for reasons of this package.
type server struct {
	t *testing.T

	mu       sync.Mutex
	conn     net.Conn
	down     bool            // refuse connections
	deaf     bool            // take publications without PUBACK
	session  bool            // the device has subscribed
	unacked  []*mqtt.Publish // commands without PUBACK, in order
	nextID   uint16
	connects []*mqtt.Connect
	subs     []mqtt.Subscription
	said     []wire.Up // by the device, in order
	retained []bool    // of each in said
	wills    int       // connections that ended without DISCONNECT
	seq      int64
	profile  wire.DeviceProfile // default: the wilco profile
	limit    uint32             // Maximum Packet Size, if any
	code     mqtt.ReasonCode    // of PUBACK
	total    int                // documents ever said
	heard    chan struct{}      // if set, gets a token for each of them, or for several
}

func (s *server) dial(context.Context) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errors.New("the server is down")
	}
	near, far := pipe.Pipe()
	s.conn = far
	go s.serve(far)
	return near, nil
}

// serve reads packets until the connection ends.
func (s *server) serve(conn net.Conn) {
	in := mqtt.NewReader(conn, 1<<20)
	polite := false
	for {
		h, body, err := in.Next()
		if err != nil {
			break
		}
		p, err := mqtt.DecodePacket(h, body, mqtt.V5)
		if err != nil {
			s.t.Errorf("the device sent %v: %v", h.Type, err)
			break
		}
		polite = h.Type == mqtt.TypeDisconnect
		s.answer(conn, p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	conn.Close()
	if s.conn == conn {
		s.conn = nil
	}
	if !polite {
		s.wills++
	}
}

func (s *server) answer(conn net.Conn, p mqtt.Packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch p := p.(type) {
	case *mqtt.Connect:
		if p.Will != nil {
			p.Will.Payload = slices.Clone(p.Will.Payload) // it borrows the reader's bytes
		}
		s.connects = append(s.connects, p)
		s.write(conn, &mqtt.Connack{SessionPresent: s.session, MaximumPacketSize: s.limit})
		for _, c := range s.unacked {
			c.Dup = true
			s.write(conn, c)
		}
	case *mqtt.Subscribe:
		s.session = true
		s.subs = slices.Clone(p.Subscriptions)
		s.write(conn, &mqtt.Suback{PacketID: p.PacketID, Reasons: slices.Repeat([]mqtt.ReasonCode{mqtt.GrantedQoS1}, len(p.Subscriptions))})
	case *mqtt.Publish:
		s.took(p)
		if !s.deaf {
			s.write(conn, &mqtt.Ack{Kind: mqtt.TypePuback, PacketID: p.PacketID, Reason: s.code})
		}
	case *mqtt.Ack:
		s.unacked = slices.DeleteFunc(s.unacked, func(c *mqtt.Publish) bool { return c.PacketID == p.PacketID })
	case *mqtt.Pingreq:
		s.write(conn, &mqtt.Pingresp{})
	}
}

// took notes a publication of the device; it must be a proper document.
func (s *server) took(p *mqtt.Publish) {
	up, err := s.speaks().ParseUp(string(p.Topic), slices.Clone(p.Payload))
	if err != nil || up.Address.Device != address.Device || p.QoS != mqtt.AtLeastOnce {
		s.t.Errorf("the device said %s on %s: %v", p.Payload, p.Topic, err)
		return
	}
	s.said = append(s.said, up)
	s.retained = append(s.retained, p.Retain)
	s.total++
	select {
	case s.heard <- struct{}{}:
	default:
	}
}

func (s *server) write(conn net.Conn, p mqtt.Packet) {
	b, err := p.Append(nil, mqtt.V5)
	if err != nil {
		s.t.Errorf("encode %v: %v", p.Type(), err)
		return
	}
	conn.Write(b) // the reader sees a broken connection
}

func (s *server) speaks() wire.DeviceProfile {
	if s.profile != nil {
		return s.profile
	}
	return profile
}

// publish sends a document to the device, or keeps it for later.
func (s *server) publish(payload string, retain bool) {
	s.publishOn(s.speaks().Topic(address), payload, retain)
}

func (s *server) publishOn(topic, payload string, retain bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextID++
	p := &mqtt.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: mqtt.AtLeastOnce,
		PacketID: s.nextID, Retain: retain}
	s.unacked = append(s.unacked, p)
	if s.conn != nil && s.session {
		s.write(s.conn, p)
	}
}

// send sends a command; a request without a seq gets the next of epoch 1.
func (s *server) send(c wire.Command) {
	if c.Status == wire.Request && c.Seq == 0 {
		s.seq++
		c.Seq, c.Epoch = s.seq, 1
	}
	b, err := s.speaks().AppendCommand(nil, c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.publish(string(b), false)
}

func (s *server) request(tid, cmd string) {
	s.send(wire.Command{TID: tid, Cmd: cmd, Status: wire.Request})
}
func (s *server) cancel(tid string) { s.send(wire.Command{TID: tid, Status: wire.Cancel}) }
func (s *server) query(tid string)  { s.send(wire.Command{TID: tid, Status: wire.Query}) }

// cut breaks the connection, and set changes how the server behaves.
func (s *server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
	}
}

func (s *server) set(change func(*server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// log returns what the device said about a tid since the last call, one line a
// document: "ack RECEIVED", "result SUCCESS 1", "result FAILURE (code)".
func (s *server) log(tid string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	var rest []wire.Up
	for _, up := range s.said {
		switch {
		case up.Kind == wire.UpAck && up.Ack.TID == tid:
			lines = append(lines, line("ack "+up.Ack.Status, nil, up.Ack.Reason, nil))
		case up.Kind == wire.UpResult && up.Result.TID == tid:
			r := up.Result
			lines = append(lines, line("result "+r.Status, r.Result, r.Reason, r.Progress))
		default:
			rest = append(rest, up)
		}
	}
	s.said = rest
	return lines
}

func line(s string, result json.RawMessage, reason *wire.Reason, progress *wire.Progress) string {
	if result != nil {
		s += " " + string(result)
	}
	if reason != nil {
		s += " (" + reason.Code + ")"
	}
	if progress != nil && progress.Percent != nil {
		s += fmt.Sprintf(" %v%%", *progress.Percent)
	}
	return s
}

// statuses returns the status documents since the last call.
func (s *server) statuses() []wire.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []wire.Status
	var rest []wire.Up
	for _, up := range s.said {
		if up.Kind == wire.UpStatus {
			all = append(all, up.Status)
		} else {
			rest = append(rest, up)
		}
	}
	s.said = rest
	return all
}

// bench is one device at its server.
type bench struct {
	t *testing.T
	*server
	device *device.Device
	stop   context.CancelCauseFunc
	result chan error
}

// start runs a device whose configuration may be changed before. It has
// connected when start returns, if it can.
func start(t *testing.T, s *server, journal device.Journal, change func(*device.Config), handle func(*device.Device)) *bench {
	t.Helper()
	cfg := device.Config{Address: address, Dial: s.dial, Journal: journal}
	if change != nil {
		change(&cfg)
	}
	d, err := device.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if handle != nil {
		handle(d)
	}
	b := &bench{t: t, server: s, device: d}
	b.run()
	return b
}

// run starts the device, again if it has stopped.
func (b *bench) run() {
	ctx, cancel := context.WithCancelCause(b.t.Context())
	b.stop, b.result = cancel, make(chan error, 1)
	go func() { b.result <- b.device.Run(ctx) }()
	synctest.Wait()
}

// end ends the device for a reason, and checks how.
func (b *bench) end(why, want error) {
	b.t.Helper()
	b.stop(why)
	if err := <-b.result; !errors.Is(err, want) {
		b.t.Errorf("Run returned %v, want %v", err, want)
	}
	synctest.Wait()
}

// expect compares what the device has said about a tid since the last time.
func (b *bench) expect(tid string, want ...string) {
	b.t.Helper()
	synctest.Wait()
	if got := b.log(tid); !slices.Equal(got, want) {
		b.t.Errorf("about %s the device said\n  %q, want\n  %q", tid, got, want)
	}
}

// wait lets virtual time pass.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

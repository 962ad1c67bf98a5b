package bench

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
)

// scripted is a broker for one topic that does to the messages what a script
// says. The script gets each message with its number in order of arrival, and
// returns what goes out instead.
type scripted struct {
	script func(n int, payload []byte) [][]byte
	answer []byte        // sent to the publisher for each message
	pause  time.Duration // before each packet: virtual time goes by only where somebody waits

	mu          sync.Mutex
	subscribers []net.Conn
	messages    int
}

// measure measures it, in memory.
func (s *scripted) measure(t *testing.T, o MQTTOptions) (MQTTReport, error) {
	l := testkit.NewListener()
	o.URL, o.dial = "mqtt://memory", l.Dial
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				if err := s.serve(nc); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
					t.Log(err)
				}
				_ = nc.Close()
			})
		}
	})
	defer func() { _ = l.Close(); serving.Wait() }()
	return MQTT(t.Context(), o)
}

func (s *scripted) serve(nc net.Conn) error {
	in := mqtt.NewReader(nc, 0)
	for {
		h, body, err := in.Next()
		if err != nil {
			return err
		}
		p, err := mqtt.DecodePacket(h, body, mqtt.V5)
		if err != nil {
			return err
		}
		time.Sleep(s.pause)
		if err := s.take(nc, p); err != nil {
			return err
		}
	}
}

func (s *scripted) take(nc net.Conn, p mqtt.Packet) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []byte
	switch p := p.(type) {
	case *mqtt.Connect:
		out, _ = (&mqtt.Connack{}).Append(nil, mqtt.V5)
	case *mqtt.Subscribe:
		s.subscribers = append(s.subscribers, nc)
		out, _ = (&mqtt.Suback{PacketID: p.PacketID, Reasons: []mqtt.ReasonCode{mqtt.ReasonCode(p.Subscriptions[0].QoS)}}).Append(nil, mqtt.V5)
	case *mqtt.Publish:
		for _, payload := range s.script(s.messages, p.Payload) {
			frame, _ := (&mqtt.Publish{Topic: p.Topic, Payload: payload}).Append(nil, mqtt.V5)
			for _, to := range s.subscribers {
				if _, err := to.Write(frame); err != nil {
					return err
				}
			}
		}
		s.messages++
		out = s.answer
	}
	_, err := nc.Write(out)
	return err
}

// What a broker does wrong is found, and counted once for each subscriber.
func TestMQTTFindsFaults(t *testing.T) {
	var kept []byte
	for name, test := range map[string]struct {
		script              func(n int, payload []byte) [][]byte
		lost, late, doubled int64
	}{
		"nothing": {func(_ int, p []byte) [][]byte { return [][]byte{p} }, 0, 0, 0},
		"loss": {func(n int, p []byte) [][]byte {
			if n == 7 || n >= 20 && n < 25 {
				return nil
			}
			return [][]byte{p}
		}, 6, 0, 0},
		"duplicates": {func(n int, p []byte) [][]byte {
			if n == 9 {
				return [][]byte{p, p, p}
			}
			return [][]byte{p}
		}, 0, 0, 2},
		"disorder": {func(n int, p []byte) [][]byte {
			switch n {
			case 11:
				kept = slices.Clone(p)
				return nil
			case 14:
				return [][]byte{p, kept}
			}
			return [][]byte{p}
		}, 0, 1, 0},
		"all at once": {func(n int, p []byte) [][]byte {
			switch n {
			case 3:
				return nil
			case 11:
				kept = slices.Clone(p)
				return nil
			case 12:
				return [][]byte{p, kept, p}
			}
			return [][]byte{p}
		}, 1, 1, 1},
	} {
		virtually(t, name, func(t *testing.T) {
			s := &scripted{script: test.script}
			r, err := s.measure(t, MQTTOptions{Subscribers: 2, Size: 64, Rate: 2000, For: 100 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if r.Published < 190 || r.Published > 201 {
				t.Fatalf("%d messages at 2000 a second in 100 ms", r.Published)
			}
			if r.Lost != 2*test.lost || r.OutOfOrder != 2*test.late || r.Duplicates != 2*test.doubled {
				t.Errorf("lost %d, out of order %d, duplicates %d", r.Lost, r.OutOfOrder, r.Duplicates)
			}
			if want := 2 * (r.Published - test.lost + test.doubled); r.Delivered != want {
				t.Errorf("%d delivered, want %d", r.Delivered, want)
			}
		})
	}
}

// Without a rate the publishers wait for the subscribers; loss must not make
// them wait for good.
func TestMQTTLossDoesNotStop(t *testing.T) {
	// So small that all a publisher may be ahead fits into a pipe: who blocks there
	// holds a mutex, and stops virtual time.
	for name, size := range map[string]int{"checked": checkedSize, "counted": 10} {
		virtually(t, name, func(t *testing.T) {
			s := &scripted{pause: 100 * time.Microsecond, script: func(n int, p []byte) [][]byte {
				if n < 6000 {
					return nil
				}
				return [][]byte{p}
			}}
			r, err := s.measure(t, MQTTOptions{Subscribers: 1, Size: size, For: 2 * time.Second, quiet: 200 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if r.Lost != 6000 || r.Delivered == 0 {
				t.Errorf("lost %d, delivered %d", r.Lost, r.Delivered)
			}
		})
	}
}

// A broker that breaks the protocol ends the measurement, and the error says why.
func TestMQTTFailsWithTheBroker(t *testing.T) {
	type script = func(n int, payload []byte) [][]byte
	var whole script = func(_ int, p []byte) [][]byte { return [][]byte{p} }
	disconnect, _ := (&mqtt.Disconnect{Reason: mqtt.ServerBusy}).Append(nil, mqtt.V5)
	publish, _ := (&mqtt.Publish{Topic: []byte("bench")}).Append(nil, mqtt.V5)
	ack := func(kind mqtt.Type, id uint16, code mqtt.ReasonCode) []byte {
		return mqtt.AppendAck(nil, mqtt.V5, kind, id, code)
	}
	for name, test := range map[string]struct {
		qos    int
		script script
		answer []byte
		want   string
	}{
		"cut payload":      {0, func(_ int, p []byte) [][]byte { return [][]byte{p[:30]} }, nil, "30 bytes"},
		"wrong stamp":      {0, func(int, []byte) [][]byte { return [][]byte{stamped(9)} }, nil, "nobody sent"},
		"disconnected":     {0, whole, disconnect, mqtt.ServerBusy.String()},
		"message too many": {0, whole, publish, "to a publisher"},
		"garbage":          {0, whole, []byte{0, 0}, "reserved"},
		"wrong id":         {1, whole, ack(mqtt.TypePuback, 200, mqtt.Success), "200"},
		"wrong kind":       {1, whole, ack(mqtt.TypePubcomp, 1, mqtt.Success), "PUBCOMP"},
		"PUBACK at QoS 2":  {2, whole, ack(mqtt.TypePuback, 1, mqtt.Success), "PUBACK"},
		"refused":          {1, whole, ack(mqtt.TypePuback, 1, mqtt.NotAuthorized), mqtt.NotAuthorized.String()},
	} {
		virtually(t, name, func(t *testing.T) {
			s := &scripted{script: test.script, answer: test.answer}
			_, err := s.measure(t, MQTTOptions{QoS: test.qos, Subscribers: 1, Size: 64, For: time.Minute})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want something with %q", err, test.want)
			}
		})
	}
	if _, err := MQTT(t.Context(), MQTTOptions{URL: "mqtt://" + testkit.FreeAddress(t), Subscribers: 1}); err == nil {
		t.Error("a broker that is not there was measured")
	}
}

// stamped is a payload of 64 bytes of a publisher.
func stamped(publisher uint64) []byte {
	b := make([]byte, 64)
	stamp(b, publisher, 0, 1)
	return b
}

// A refusal for want of room is no failure: it is counted.
func TestMQTTCountsRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{script: func(int, []byte) [][]byte { return nil }, answer: mqtt.AppendAck(nil, mqtt.V5, mqtt.TypePuback, 1, mqtt.QuotaExceeded)}
		r, err := s.measure(t, MQTTOptions{QoS: 1, Size: 64, Window: 1, Rate: 1000, For: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if r.Refused == 0 || r.Published != 0 || r.Unacknowledged != 0 {
			t.Errorf("refused %d, published %d, unacknowledged %d", r.Refused, r.Published, r.Unacknowledged)
		}
	})
}

// What a broker never answers is told, and waited for only for a while.
func TestMQTTCountsUnacknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{script: func(int, []byte) [][]byte { return nil }}
		r, err := s.measure(t, MQTTOptions{QoS: 1, Size: 64, Window: 5, For: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if r.Unacknowledged != 5 || r.Published != 0 || r.Lost != 0 {
			t.Errorf("unacknowledged %d, published %d, lost %d", r.Unacknowledged, r.Published, r.Lost)
		}
	})
}

// virtually runs f in virtual time.
func virtually(t *testing.T, name string, f func(*testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// The checker says the same as one that remembers everything.
func TestCheckerAgainstFullMemory(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := newChecker(2)
		var seen [2]map[uint64]bool
		var top [2]int64
		var late, duplicates int64
		for i := range seen {
			seen[i], top[i] = map[uint64]bool{}, -1
		}
		for range 300 {
			from, n := r.Uint64N(2), r.Uint64N(80)
			switch {
			case seen[from][n]:
				duplicates++
			case int64(n) < top[from]:
				late++
			}
			seen[from][n] = true
			top[from] = max(top[from], int64(n))
			c.see(from, n)
		}
		missing := top[0] + 1 - int64(len(seen[0])) + top[1] + 1 - int64(len(seen[1]))
		if c.late != late || c.duplicates != duplicates || c.missing != missing {
			t.Fatalf("seed %d: late %d, duplicates %d, missing %d; want %d, %d, %d", seed, c.late, c.duplicates, c.missing, late, duplicates, missing)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	if got := h.ms(0.5); got != 0 {
		t.Errorf("%v of nothing", got)
	}
	for us := int64(1); us <= 100_000; us++ {
		h.add(us * 1000)
	}
	for p, want := range map[float64]float64{0.5: 50, 0.99: 99, 0.999: 99.9} {
		if got := h.ms(p); got < want*0.97 || got > want*1.03 {
			t.Errorf("%v: %v ms, want about %v", p, got, want)
		}
	}
	for _, ns := range []int64{-1, 0, 63, 64, 1 << 62, 1<<63 - 1} {
		h.add(ns) // whatever a clock says
	}
}

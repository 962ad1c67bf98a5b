package uplink

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wilco-iot/wilco/internal/testkit"
	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/client"
	"github.com/wilco-iot/wilco/mqtt/pipe"
)

// peer is a server above that answers as the test says.
type peer struct {
	t *testing.T
	net.Conn
}

func (p peer) next() mqtt.Packet  { return testkit.ReadPacket(p.t, p.Conn, mqtt.V5) }
func (p peer) send(x mqtt.Packet) { testkit.WritePacket(p.t, p.Conn, mqtt.V5, x) }

// scripted is an uplink with one lane, a mouth, and the server above in the test's hands.
func scripted(t *testing.T) (w *world, dialled chan net.Conn) {
	dialled = make(chan net.Conn, 10)
	w = &world{t: t, below: startBroker(t), dir: t.TempDir(), lanes: []Lane{fifo("a/#", roomy)}, log: slog.New(slog.DiscardHandler)}
	w.upstream = client.Options{KeepAlive: -1, Backoff: client.Backoff{Min: time.Second, Max: time.Second},
		Dial: func(context.Context) (net.Conn, error) {
			near, far := pipe.Pipe()
			dialled <- far
			return near, nil
		}}
	w.start()
	t.Cleanup(func() { w.stop() })
	synctest.Wait() // it has subscribed
	return w, dialled
}

// answer reads the next PUBLISH and answers it.
func (p peer) answer(code mqtt.ReasonCode) (text string, dup bool, id uint16) {
	x, ok := p.next().(*mqtt.Publish)
	if !ok || x.QoS != mqtt.ExactlyOnce {
		p.t.Fatalf("%+v is no PUBLISH of QoS 2", x)
	}
	p.send(&mqtt.Ack{Kind: mqtt.TypePubrec, PacketID: x.PacketID, Reason: code})
	return string(x.Payload), x.Dup, x.PacketID
}

// release ends the handshake of a PUBLISH that was taken.
func (p peer) release() {
	x, ok := p.next().(*mqtt.Ack)
	if !ok || x.Kind != mqtt.TypePubrel {
		p.t.Fatalf("%+v is no PUBREL", x)
	}
	p.send(&mqtt.Ack{Kind: mqtt.TypePubcomp, PacketID: x.PacketID})
}

// What a server above refuses for now is offered again, also when the gateway is killed
// before; what it will never take is dropped, and counted.
func TestRefusedAbove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dialled := scripted(t)
		mouth := speaker(t, w.below)
		p := peer{t, <-dialled}
		p.next()
		p.send(&mqtt.Connack{})
		for n := range 4 {
			say(t, mouth, "a/x", strconv.Itoa(n))
		}
		codes := []mqtt.ReasonCode{mqtt.Success, mqtt.QuotaExceeded, mqtt.NotAuthorized, mqtt.Success, mqtt.Success}
		var got []string
		for released := 0; released < 3; {
			switch x := p.next().(type) {
			case *mqtt.Publish:
				got = append(got, string(x.Payload))
				p.send(&mqtt.Ack{Kind: mqtt.TypePubrec, PacketID: x.PacketID, Reason: codes[0]})
				codes = codes[1:]
			case *mqtt.Ack:
				p.send(&mqtt.Ack{Kind: mqtt.TypePubcomp, PacketID: x.PacketID})
				released++
			}
		}
		if !slices.Equal(got, []string{"0", "1", "2", "3", "1"}) {
			t.Errorf("%q", got)
		}
		settle()
		if counts := w.u.Counts(); !slices.Equal(counts, []Count{{"a/#", "refused", 1}}) {
			t.Errorf("%v", counts)
		}
		if list, err := w.u.box.Store.Load(); err != nil || len(list) > 0 {
			t.Errorf("the outbox keeps %+v: %v", list, err)
		}
		p.Close()
	})
}

// A server that says nothing more (half-open, or slow) holds at most a Window of the
// lanes; a cut before PUBREC repeats under the same identifier with DUP, and one after
// it repeats only the PUBREL.
func TestACutAmidAHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dialled := scripted(t)
		mouth := speaker(t, w.below)
		p := peer{t, <-dialled}
		p.next()
		p.send(&mqtt.Connack{})
		say(t, mouth, "a/x", "0")
		say(t, mouth, "a/x", "1")
		synctest.Wait() // both are on their way before the first is answered
		text, _, first := p.answer(mqtt.Success)
		if text != "0" {
			t.Fatal(text)
		}
		x, _ := p.next().(*mqtt.Publish)
		if y, ok := p.next().(*mqtt.Ack); x == nil || !ok || y.Kind != mqtt.TypePubrel || y.PacketID != first {
			t.Fatalf("%+v, %+v", x, y)
		}
		p.Close()
		p = peer{t, <-dialled}
		p.next()
		p.send(&mqtt.Connack{SessionPresent: true})
		p.release()
		if text, dup, id := p.answer(mqtt.Success); text != "1" || !dup || id != x.PacketID {
			t.Errorf("%q, dup %v, id %d", text, dup, id)
		}
		p.release()
		for n := range 2 * Window {
			say(t, mouth, "a/x", strconv.Itoa(n))
		}
		settle()
		if n := w.below.Queued("up/a/#"); n != Window {
			t.Errorf("%d wait in the session", n)
		}
		p.Close()
	})
}

// A line that is slower than what is said with QoS 0 fills the client's queue with that.
// What is kept waits until there is room, and goes on then, with nothing of its own to
// wake it; so does what belongs to no lane.
func TestRoomThatOthersMake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dialled := scripted(t)
		mouth := speaker(t, w.below)
		p := peer{t, <-dialled}
		p.next()
		p.send(&mqtt.Connack{})
		synctest.Wait()
		big := make([]byte, 1000)
		for range 8 * Window {
			if err := mouth.Publish(t.Context(), client.Message{Topic: "a/x", Payload: big}); err != nil {
				t.Fatal(err)
			}
		}
		settle()
		say(t, mouth, "a/x", "kept")
		said := make(chan error, 1)
		go func() {
			said <- w.u.Publish(t.Context(), client.Message{Topic: "status", Payload: []byte("said"), QoS: mqtt.AtLeastOnce})
		}()
		synctest.Wait()
		if n := w.below.Queued("up/a/#"); n != 1 {
			t.Fatalf("%d wait in the session; the queue was to be full", n)
		}
		for got := map[string]bool{}; !got["kept"] || !got["said"] || !got["released"]; {
			switch x := p.next().(type) {
			case *mqtt.Publish:
				got[string(x.Payload)] = true
				switch x.QoS {
				case mqtt.AtLeastOnce:
					p.send(&mqtt.Ack{Kind: mqtt.TypePuback, PacketID: x.PacketID})
				case mqtt.ExactlyOnce:
					p.send(&mqtt.Ack{Kind: mqtt.TypePubrec, PacketID: x.PacketID})
				}
			case *mqtt.Ack:
				got["released"] = true
				p.send(&mqtt.Ack{Kind: mqtt.TypePubcomp, PacketID: x.PacketID})
			}
		}
		if err := <-said; err != nil {
			t.Error(err)
		}
		p.Close()
	})
}

// What is refused for now expires in its time, also over a kill.
func TestWhatIsRefusedExpires(t *testing.T) {
	for _, kill := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w, dialled := scripted(t)
			p := peer{t, <-dialled}
			p.next()
			p.send(&mqtt.Connack{})
			began := time.Now()
			m := client.Message{Topic: "a/x", QoS: mqtt.AtLeastOnce, Expiry: 10 * time.Second}
			if err := speaker(t, w.below).Publish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			if kill {
				p.next()
				p.Close()
				w.stop()
				w.start()
				p = peer{t, <-dialled}
				p.next()
				p.send(&mqtt.Connack{SessionPresent: true})
			}
			time.Sleep(time.Until(began.Add(9500 * time.Millisecond)))
			p.answer(mqtt.QuotaExceeded)
			settle()
			if got := w.u.Counts(); !slices.Equal(got, []Count{{"a/#", "expired", 1}}) {
				t.Errorf("kill %v: counted %v", kill, got)
			}
			p.Close()
		})
	}
}

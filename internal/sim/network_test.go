package sim

import (
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/wilco-iot/wilco/mqtt"
	"github.com/wilco-iot/wilco/mqtt/pipe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wired is a network between two ends that the test holds.
type wired struct {
	t              *testing.T
	device, broker net.Conn
	fromDevice     *mqtt.Reader // what the broker sees
	fromBroker     *mqtt.Reader // what the device sees
	counts         Counts
}

func wire2(t *testing.T, f Faults, test func(*wired)) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipe.Pipe()
		w := &wired{t: t, broker: far}
		n := &network{broker: near, faults: func() Faults { return f }, counts: &w.counts}
		n.up.rnd, n.down.rnd = rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(3, 4))
		w.device = n.open()
		w.fromDevice, w.fromBroker = mqtt.NewReader(far, 1<<16), mqtt.NewReader(w.device, 1<<16)
		test(w)
		w.device.Close()
		w.broker.Close()
		synctest.Wait()
	})
}

func (w *wired) publish(to net.Conn, topic string, id uint16) {
	w.t.Helper()
	b, err := (&mqtt.Publish{Topic: []byte(topic), PacketID: id, QoS: 1, Payload: []byte("x")}).Append(nil, mqtt.V5)
	if err == nil {
		_, err = to.Write(b)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// next reads a packet: its type, and its packet id.
func (w *wired) next(r *mqtt.Reader) (mqtt.Type, uint16) {
	w.t.Helper()
	h, body, err := r.Next()
	if err != nil {
		w.t.Fatal(err)
	}
	if h.Type != mqtt.TypePublish {
		return h.Type, packetID(body)
	}
	var p mqtt.Publish
	if err := p.Decode(h, body, mqtt.V5); err != nil {
		w.t.Fatal(err)
	}
	return h.Type, p.PacketID
}

func (w *wired) expect(r *mqtt.Reader, typ mqtt.Type, id uint16) {
	w.t.Helper()
	if gotType, gotID := w.next(r); gotType != typ || gotID != id {
		w.t.Fatalf("%s %d, want %s %d", gotType, gotID, typ, id)
	}
}

func (w *wired) ack(to net.Conn, id uint16) {
	if _, err := to.Write(mqtt.AppendAck(nil, mqtt.V5, mqtt.TypePuback, id, mqtt.Success)); err != nil {
		w.t.Fatal(err)
	}
}

func TestAGoodNetworkChangesNothing(t *testing.T) {
	wire2(t, Faults{}, func(w *wired) {
		w.publish(w.device, "wilco/g/d/ack", 1)
		w.expect(w.fromDevice, mqtt.TypePublish, 1)
		w.ack(w.broker, 1)
		w.expect(w.fromBroker, mqtt.TypePuback, 1)
		w.publish(w.broker, "wilco/g/d/command", 7)
		w.expect(w.fromBroker, mqtt.TypePublish, 7)
		w.ack(w.device, 7)
		w.expect(w.fromDevice, mqtt.TypePuback, 7)
	})
}

func TestALossIsAcknowledgedToItsSender(t *testing.T) {
	wire2(t, Faults{Up: Direction{Lose: 1}, Down: Direction{Lose: 1}}, func(w *wired) {
		w.publish(w.device, "wilco/g/d/result", 3)
		w.expect(w.fromBroker, mqtt.TypePuback, 3)
		w.publish(w.broker, "wilco/g/d/command", 9)
		w.expect(w.fromDevice, mqtt.TypePuback, 9)
		// A status is no answer; it goes through, and shows that nothing came before it.
		w.publish(w.device, "wilco/g/d/status", 4)
		w.expect(w.fromDevice, mqtt.TypePublish, 4)
		if w.counts.LostUp.Load() != 1 || w.counts.LostDown.Load() != 1 {
			t.Error("not counted")
		}
	})
}

func TestADuplicateIsAcknowledgedOnceToItsSender(t *testing.T) {
	wire2(t, Faults{Up: Direction{Duplicate: 1}, Down: Direction{Duplicate: 1}}, func(w *wired) {
		w.publish(w.device, "wilco/g/d/ack", 3)
		w.expect(w.fromDevice, mqtt.TypePublish, 3)
		w.expect(w.fromDevice, mqtt.TypePublish, 3)
		w.ack(w.broker, 3)
		w.ack(w.broker, 3)
		w.publish(w.broker, "wilco/g/d/command", 9)
		w.expect(w.fromBroker, mqtt.TypePuback, 3) // one, and then the command
		w.expect(w.fromBroker, mqtt.TypePublish, 9)
		_, ghost := w.next(w.fromBroker)
		if ghost == 9 {
			t.Error("the copy has the identifier of the original")
		}
		w.ack(w.device, ghost)
		w.ack(w.device, 9)
		w.expect(w.fromDevice, mqtt.TypePuback, 9) // the copy's stays here
	})
}

func TestASwappedMessageIsOvertakenOrComesLate(t *testing.T) {
	wire2(t, Faults{Up: Direction{Reorder: 1}}, func(w *wired) {
		w.publish(w.device, "wilco/g/d/ack", 1)
		w.publish(w.device, "wilco/g/d/result", 2)
		w.expect(w.fromDevice, mqtt.TypePublish, 2)
		w.expect(w.fromDevice, mqtt.TypePublish, 1)
		began := time.Now()
		w.publish(w.device, "wilco/g/d/ack", 3)
		w.expect(w.fromDevice, mqtt.TypePublish, 3)
		if late := time.Since(began); late != maxHold {
			t.Errorf("alone it came after %s, want %s", late, maxHold)
		}
	})
}

func TestADelayKeepsTheOrder(t *testing.T) {
	delay := Span{100 * time.Millisecond, time.Second}
	wire2(t, Faults{Up: Direction{Delay: delay}, Down: Direction{Delay: delay}}, func(w *wired) {
		began := time.Now()
		for id := range uint16(20) {
			w.publish(w.device, "wilco/g/d/ack", id+1)
			w.publish(w.broker, "wilco/g/d/command", id+1)
		}
		for id := range uint16(20) {
			w.expect(w.fromDevice, mqtt.TypePublish, id+1)
			w.expect(w.fromBroker, mqtt.TypePublish, id+1)
		}
		if took := time.Since(began); took < delay.Min || took > delay.Max {
			t.Errorf("all together took %s", took)
		}
	})
}

func TestACommandIsOvertaken(t *testing.T) {
	wire2(t, Faults{Down: Direction{Reorder: 1}}, func(w *wired) {
		w.publish(w.broker, "wilco/g/d/command", 1)
		w.publish(w.broker, "wilco/g/d/command", 2)
		w.expect(w.fromBroker, mqtt.TypePublish, 2)
		w.expect(w.fromBroker, mqtt.TypePublish, 1)
	})
}

func TestACutEndsBothSides(t *testing.T) {
	wire2(t, Faults{Cut: 1}, func(w *wired) {
		w.publish(w.device, "wilco/g/d/ack", 1)
		w.expect(w.fromDevice, mqtt.TypePublish, 1)
		if _, _, err := w.fromDevice.Next(); err == nil {
			t.Error("the broker's side goes on")
		}
		if _, _, err := w.fromBroker.Next(); err == nil {
			t.Error("the device's side goes on")
		}
	})
}

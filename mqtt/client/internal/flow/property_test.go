package flow

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/mqtt"
)

// oracle is a server written without a look at the Sender: it knows only what
// MQTT asks of a client, and complains.
type oracle struct {
	t        *rapid.T
	session  map[uint16]string // QoS > 0 in flight as the session knows it: id -> payload
	stage    map[uint16]string // "published", "received" (PUBREC sent)
	wire     []uint16          // ids in flight in the order of first sending
	resend   []uint16          // what a resume owes, in this order
	owed     []string          // packets to be answered, in order: "puback 1", ...
	accepted map[string]bool   // payloads the server took, in any session
	last     int               // the newest message that this session took; -1: none
	window   int
	max      int
}

func (o *oracle) reset(keep bool) {
	o.owed, o.window = nil, 0
	if !keep {
		clear(o.session)
		clear(o.stage)
		o.wire = nil
		o.last = -1
	}
	o.resend = slices.Clone(o.wire)
}

func (o *oracle) see(p mqtt.Packet) {
	switch p := p.(type) {
	case *mqtt.Publish:
		o.publish(p)
	case *mqtt.Ack:
		id := p.PacketID
		if o.stage[id] != "received" {
			o.t.Fatalf("PUBREL %d without PUBREC", id)
		}
		if i := slices.Index(o.resend, id); i >= 0 {
			if i != 0 {
				o.t.Fatalf("PUBREL %d resent before %v", id, o.resend[:i])
			}
			o.resend = o.resend[1:]
			o.window++
		}
		o.owed = append(o.owed, fmt.Sprintf("pubcomp %d", id))
	}
}

func (o *oracle) publish(p *mqtt.Publish) {
	if !p.Dup {
		o.accept(string(p.Payload))
	}
	if p.QoS == 0 {
		return
	}
	id := p.PacketID
	if p.Dup {
		if len(o.resend) == 0 || o.resend[0] != id {
			o.t.Fatalf("DUP of %d when %v was due", id, o.resend)
		}
		if o.session[id] != string(p.Payload) || o.stage[id] != "published" {
			o.t.Fatalf("DUP of %d with another message, or after PUBREC", id)
		}
		o.resend = o.resend[1:]
	} else {
		if len(o.resend) > 0 {
			o.t.Fatalf("a new message overtook the resend of %v", o.resend)
		}
		if _, used := o.session[id]; used || id == 0 {
			o.t.Fatalf("identifier %d is in use", id)
		}
		o.session[id], o.stage[id] = string(p.Payload), "published"
		o.wire = append(o.wire, id)
	}
	if o.window++; o.window > o.max {
		o.t.Fatalf("%d in flight, Receive Maximum %d", o.window, o.max)
	}
	kind := "puback"
	if p.QoS == 2 {
		kind = "pubrec"
	}
	o.owed = append(o.owed, fmt.Sprintf("%s %d", kind, id))
}

// accept sees to it that a session takes new messages in the order of Push,
// whatever their QoS.
func (o *oracle) accept(payload string) {
	n, _ := strconv.Atoi(payload)
	if n <= o.last {
		o.t.Fatalf("message %d is new to the session after message %d", n, o.last)
	}
	o.last = n
	o.accepted[payload] = true
}

func (o *oracle) end(id uint16) {
	delete(o.session, id)
	delete(o.stage, id)
	o.wire = slices.DeleteFunc(o.wire, func(x uint16) bool { return x == id })
	o.window--
}

// Random publishes, answers, losses of connection and of session: no message is
// lost or overtaken, the window is kept, each result comes once and in order.
// Shows [MQTT-4.6.0-1] [MQTT-4.6.0-4] [MQTT-4.4.0-1] [MQTT-4.3.3-4].
func TestSenderAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewSender(mqtt.V5, 1<<20, 1<<30)
		o := &oracle{t: t, session: map[uint16]string{}, stage: map[uint16]string{}, accepted: map[string]bool{}, last: -1}
		var out []byte
		up := false
		pushed, results := 0, 0
		var qos []mqtt.QoS
		var verdicts []Verdict
		settle := func() {
			out = s.Pump(out, time.Time{}, 1<<20)
			for _, p := range decodeAll(t, out) {
				o.see(p)
			}
			out = out[:0]
			for _, oc := range s.Outcomes(nil) {
				if int(oc.Seq) != results {
					t.Fatalf("result of %d when %d was due", oc.Seq, results)
				}
				results++
				verdicts = append(verdicts, oc.Verdict)
			}
		}
		connect := func(keep bool) {
			if up {
				s.Down()
				settle()
			}
			o.max = rapid.IntRange(1, 5).Draw(t, "receive maximum")
			if keep { // a server does not lower it below what it has taken
				o.max = max(o.max, len(o.wire))
			}
			o.reset(keep)
			s.Up(Limits{ReceiveMaximum: uint16(o.max), MaximumQoS: 2}, keep)
			up = true
			settle()
		}
		answer := func() {
			kind, id := "", uint16(0)
			fmt.Sscanf(o.owed[0], "%s %d", &kind, &id)
			o.owed = o.owed[1:]
			var err error
			switch kind {
			case "puback":
				o.end(id)
				err = s.Puback(id, 0, "")
			case "pubrec":
				o.stage[id] = "received"
				out, err = s.Pubrec(out, id, 0, "")
			case "pubcomp":
				o.end(id)
				err = s.Pubcomp(id, 0, "")
			}
			if err != nil {
				t.Fatalf("%s %d: %v", kind, id, err)
			}
			settle()
		}
		t.Repeat(map[string]func(*rapid.T){
			"publish": func(t *rapid.T) {
				q := mqtt.QoS(rapid.IntRange(0, 2).Draw(t, "qos"))
				if q == 0 && !up {
					t.Skip("the client refuses it")
				}
				s.Push(Message{Topic: "t", Payload: fmt.Append(nil, pushed), QoS: q})
				qos = append(qos, q)
				pushed++
				settle()
			},
			"answer": func(t *rapid.T) {
				if len(o.owed) == 0 {
					t.Skip("nothing to answer")
				}
				answer()
			},
			"written": func(t *rapid.T) {
				s.Written(s.Mark())
				settle()
			},
			"cut":     func(t *rapid.T) { connect(true) },
			"restart": func(t *rapid.T) { connect(false) },
		})
		// A server that goes on answering brings everything to its end.
		connect(true)
		for len(o.owed) > 0 {
			answer()
		}
		s.Written(s.Mark())
		settle()
		if results != pushed || s.Len() != 0 {
			t.Fatalf("%d results for %d messages, %d held", results, pushed, s.Len())
		}
		checkAccepted(t, o.accepted, qos, verdicts)
	})
}

// checkAccepted: each QoS 1 and 2 message was taken at least once.
func checkAccepted(t *rapid.T, accepted map[string]bool, qos []mqtt.QoS, verdicts []Verdict) {
	for i, q := range qos {
		switch v := verdicts[i]; {
		case q == 0 && v == LinkLost:
		case v != Answered:
			t.Fatalf("message %d of QoS %d ended with %v", i, q, v)
		case q > 0 && !accepted[fmt.Sprint(i)]:
			t.Fatalf("message %d has a result, but the server never had it", i)
		}
	}
}

func decodeAll(t *rapid.T, b []byte) (packets []mqtt.Packet) {
	for len(b) > 0 {
		h, n, err := mqtt.ParseHeader(b, 0)
		if err != nil || n == 0 || len(b) < n+h.Length {
			t.Fatalf("half a packet in the buffer: %v", err)
		}
		p, err := mqtt.DecodePacket(h, b[n:n+h.Length], mqtt.V5)
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, p)
		b = b[n+h.Length:]
	}
	return packets
}

// Random receipts and Acks in any order over several connections: what leaves
// is in receive order, nothing of a former connection, and each QoS 2 message
// is delivered once.
// Shows [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.5.0-2] [MQTT-4.3.3-10] [MQTT-4.3.3-11]
// [MQTT-4.3.3-12].
func TestReceiverAgainstOracle(t *testing.T) {
	type message struct {
		id     uint16
		qos    mqtt.QoS
		ticket Ticket
		acked  bool // by the application
	}
	rapid.Check(t, func(t *rapid.T) {
		r := NewReceiver(mqtt.V5, 0)
		r.Up(false)
		var shown []*message             // all deliveries
		current := map[uint16]*message{} // QoS 2 by id until PUBREL
		answered := map[uint16]bool{}    // QoS 2 ids whose PUBREC this server has
		type owed struct {
			m  *message
			id uint16
		}
		var queue []owed // of this connection, in receive order
		var out []byte
		check := func(t *rapid.T) {
			for _, p := range decodeAll(t, out) {
				a := p.(*mqtt.Ack)
				if a.Kind == mqtt.TypePubcomp {
					continue
				}
				if len(queue) == 0 || queue[0].id != a.PacketID || !queue[0].m.acked {
					t.Fatalf("%v %d left; owed in this order: %v", a.Kind, a.PacketID, queue)
				}
				if queue[0].m.qos == 2 {
					answered[a.PacketID] = true
				}
				queue = queue[1:]
			}
			out = out[:0]
			if len(queue) > 0 && queue[0].m.acked {
				t.Fatalf("%d is acknowledged and first, but did not leave", queue[0].id)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"receive": func(t *rapid.T) {
				q := mqtt.QoS(rapid.IntRange(1, 2).Draw(t, "qos"))
				id := uint16(rapid.IntRange(1, 6).Draw(t, "id"))
				if q == 1 {
					id += 100
				}
				before := current[id]
				var ticket Ticket
				var deliver bool
				var err error
				out, ticket, deliver, err = r.Publish(out, id, q)
				if err != nil {
					t.Fatal(err)
				}
				if deliver != (before == nil) {
					t.Fatalf("QoS %d id %d: deliver is %v, seen before is %v", q, id, deliver, before != nil)
				}
				m := before
				if deliver {
					m = &message{id: id, qos: q, ticket: ticket}
					shown = append(shown, m)
					if q == 2 {
						current[id] = m
					}
				}
				if !slices.ContainsFunc(queue, func(o owed) bool { return o.m == m }) {
					queue = append(queue, owed{m, id})
				}
				check(t)
			},
			"ack": func(t *rapid.T) {
				if len(shown) == 0 {
					t.Skip("nothing delivered")
				}
				m := rapid.SampledFrom(shown).Draw(t, "message")
				m.acked = true
				out = r.Ack(out, m.ticket)
				check(t)
			},
			"pubrel": func(t *rapid.T) {
				for id := range uint16(7) {
					if !answered[id] || slices.ContainsFunc(queue, func(o owed) bool { return o.id == id }) {
						continue
					}
					var err error
					if out, err = r.Pubrel(out, id); err != nil {
						t.Fatal(err)
					}
					delete(answered, id)
					delete(current, id)
					check(t)
					return
				}
				t.Skip("nothing to release")
			},
			"reconnect": func(t *rapid.T) {
				keep := rapid.Bool().Draw(t, "session present")
				r.Down()
				r.Up(keep)
				queue = nil
				if !keep {
					clear(current)
					clear(answered)
				}
			},
		})
	})
}

// Whatever a server sends, in whatever order, nothing panics and the account of
// what is in flight stays sane.
func TestHostileServer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, r := NewSender(mqtt.V5, 100, 1<<20), NewReceiver(mqtt.V5, 10)
		var out []byte
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			id := uint16(rapid.IntRange(0, 5).Draw(t, "id"))
			code := mqtt.ReasonCode(rapid.SampledFrom([]byte{0, 0x10, 0x80, 0x92}).Draw(t, "code"))
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1:
				if !s.Full(100) {
					s.Push(Message{Topic: "t", QoS: mqtt.QoS(id % 3)})
				}
			case 2:
				s.Puback(id, code, "")
			case 3:
				out, _ = s.Pubrec(out, id, code, "")
			case 4:
				s.Pubcomp(id, code, "")
			case 5:
				out, _, _, _ = r.Publish(out, id, 1+mqtt.QoS(id%2))
			case 6:
				out, _ = r.Pubrel(out, id)
			case 7:
				s.Down()
				r.Down()
			case 8:
				s.Up(Limits{ReceiveMaximum: 3, MaximumQoS: 2}, id > 2)
				r.Up(id > 2)
			case 9:
				s.Written(s.Mark())
			}
			out = s.Pump(out, time.Time{}, 1<<20)
			s.Outcomes(nil)
			if s.busy < 0 || s.busy > s.Len() || s.bytes < 0 || r.busy < 0 {
				t.Fatalf("account: %d in flight of %d, %d bytes; %d received", s.busy, s.Len(), s.bytes, r.busy)
			}
		}
	})
}

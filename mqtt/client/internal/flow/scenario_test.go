package flow

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// world is both halves of a session and everything they said, in words.
type world struct {
	t       *testing.T
	version mqtt.Version
	snd     *Sender
	rcv     *Receiver
	now     time.Time
	out     []byte
	tickets map[string]Ticket // by payload
	written uint64
	limits  Limits
}

func newWorld(t *testing.T, v mqtt.Version) *world {
	return &world{
		t: t, version: v, snd: NewSender(v, 1000, 1<<20), rcv: NewReceiver(v, 3),
		now: time.Unix(1000, 0), tickets: make(map[string]Ticket),
		limits: Limits{ReceiveMaximum: 2, MaximumQoS: mqtt.ExactlyOnce},
	}
}

// do runs one line of a scenario and returns all that came out.
//
//	pub 1 a            Push of message a with QoS 1; "pub 1 a 5s" with expiry
//	up | up new        a connection with or without the session
//	down, write, wait 5s
//	puback 1 [0x97], pubrec 1 [code], pubcomp 1 [code]
//	in 1 7 x           PUBLISH from the server, QoS 1, id 7, payload x
//	ack x, pubrel 7, forget x
//	limit qos 1 | limit size 30 | limit noretain
func (w *world) do(line string) string {
	w.t.Helper()
	f := strings.Fields(line)
	var err error
	var told []string
	switch f[0] {
	case "pub", "retain":
		m := Message{Topic: "t", Payload: []byte(f[2]), QoS: mqtt.QoS(w.number(f[1])), Retain: f[0] == "retain"}
		if len(f) > 3 {
			d, _ := time.ParseDuration(f[3])
			m.Expires = w.now.Add(d)
		}
		w.snd.Push(m)
	case "up":
		w.snd.Up(w.limits, len(f) == 1)
		w.rcv.Up(len(f) == 1)
		w.written = 0
	case "down":
		w.snd.Down()
		w.rcv.Down()
		w.out = nil
	case "write":
		w.snd.Written(w.snd.Mark())
	case "wait":
		d, _ := time.ParseDuration(f[1])
		w.now = w.now.Add(d)
	case "limit":
		switch f[1] {
		case "qos":
			w.limits.MaximumQoS = mqtt.QoS(w.number(f[2]))
		case "size":
			w.limits.MaximumPacketSize = uint32(w.number(f[2]))
		case "noretain":
			w.limits.NoRetain = true
		}
	case "puback":
		err = w.snd.Puback(uint16(w.number(f[1])), w.code(f), "")
	case "pubrec":
		w.out, err = w.snd.Pubrec(w.out, uint16(w.number(f[1])), w.code(f), "")
	case "pubcomp":
		err = w.snd.Pubcomp(uint16(w.number(f[1])), w.code(f), "")
	case "in":
		var t Ticket
		var deliver bool
		w.out, t, deliver, err = w.rcv.Publish(w.out, uint16(w.number(f[2])), mqtt.QoS(w.number(f[1])))
		if deliver {
			w.tickets[f[3]] = t
			told = append(told, "deliver "+f[3])
		}
	case "ack":
		w.out = w.rcv.Ack(w.out, w.tickets[f[1]])
	case "forget":
		w.rcv.Forget(w.tickets[f[1]])
	case "pubrel":
		w.out, err = w.rcv.Pubrel(w.out, uint16(w.number(f[1])))
	default:
		w.t.Fatalf("no such step: %s", line)
	}
	var wrong *mqtt.Error
	if errors.As(err, &wrong) {
		told = append(told, fmt.Sprintf("error %#x", byte(wrong.Code)))
	} else if err != nil {
		w.t.Fatalf("%s: %v is not an *mqtt.Error", line, err)
	}
	w.out = w.snd.Pump(w.out, w.now, 1<<20)
	told = append(told, w.packets()...)
	for _, o := range w.snd.Outcomes(nil) {
		told = append(told, outcome(o))
	}
	return strings.Join(told, "; ")
}

func (w *world) number(s string) int {
	n, err := strconv.ParseInt(s, 0, 32)
	if err != nil {
		w.t.Fatal(err)
	}
	return int(n)
}

func (w *world) code(f []string) mqtt.ReasonCode {
	if len(f) < 3 {
		return mqtt.Success
	}
	return mqtt.ReasonCode(w.number(f[2]))
}

// packets takes what was appended for the network.
func (w *world) packets() (words []string) {
	w.t.Helper()
	b := w.out
	w.out = w.out[:0]
	for len(b) > 0 {
		h, n, err := mqtt.ParseHeader(b, 0)
		if err != nil || n == 0 || len(b) < n+h.Length {
			w.t.Fatalf("half a packet in the buffer: %v", err)
		}
		p, err := mqtt.DecodePacket(h, b[n:n+h.Length], w.version)
		if err != nil {
			w.t.Fatalf("decode: %v", err)
		}
		words = append(words, word(p))
		b = b[n+h.Length:]
	}
	return words
}

func word(p mqtt.Packet) string {
	switch p := p.(type) {
	case *mqtt.Publish:
		s := fmt.Sprintf("PUBLISH%d %d %s", p.QoS, p.PacketID, p.Payload)
		if p.Dup {
			s += " dup"
		}
		if p.HasExpiry {
			s += fmt.Sprintf(" %ds", p.ExpirySeconds)
		}
		return s
	case *mqtt.Ack:
		s := fmt.Sprintf("%s %d", [...]string{"PUBACK", "PUBREC", "PUBREL", "PUBCOMP"}[p.Kind-mqtt.TypePuback], p.PacketID)
		if p.Reason != 0 {
			s += fmt.Sprintf(" %#x", byte(p.Reason))
		}
		return s
	}
	return fmt.Sprintf("%T", p)
}

func outcome(o Outcome) string {
	names := [...]string{"ok", "expired", "too large", "QoS denied", "no retain", "lost", "invalid"}
	s := fmt.Sprintf("#%d %s", o.Seq, names[o.Verdict])
	if o.Reason != 0 {
		s += fmt.Sprintf(" %#x", byte(o.Reason))
	}
	return s
}

// Each step is "what happens -> what comes out".
var scenarios = map[string]string{
	"QoS 1 in order, window 2": `
		up ->
		pub 1 a -> PUBLISH1 1 a
		pub 1 b -> PUBLISH1 2 b
		pub 1 c ->
		puback 1 -> PUBLISH1 3 c; #0 ok
		puback 3 ->
		puback 2 -> #1 ok; #2 ok`,
	"QoS 2 and the window, which opens at PUBCOMP": `
		up ->
		pub 2 a -> PUBLISH2 1 a
		pub 2 b -> PUBLISH2 2 b
		pub 0 z -> PUBLISH0 0 z
		pub 1 c ->
		pubrec 1 -> PUBREL 1
		pubrec 2 -> PUBREL 2
		pubcomp 1 -> PUBLISH1 3 c; #0 ok`,
	"QoS 0 is not held by the window once it is its turn": `
		up ->
		pub 1 a -> PUBLISH1 1 a
		pub 0 b -> PUBLISH0 0 b
		write ->
		puback 1 -> #0 ok; #1 ok`,
	"queued while down": `
		pub 1 a ->
		pub 2 b ->
		up -> PUBLISH1 1 a; PUBLISH2 2 b
		puback 1 -> #0 ok
		pubrec 2 -> PUBREL 2
		pubcomp 2 -> #1 ok`,
	"resume: DUP and PUBREL in the original order, then the new": `
		up ->
		pub 2 a -> PUBLISH2 1 a
		pub 1 b -> PUBLISH1 2 b
		pub 1 c ->
		pubrec 1 -> PUBREL 1
		down ->
		pub 1 d ->
		up -> PUBREL 1; PUBLISH1 2 b dup
		pubcomp 1 -> PUBLISH1 3 c; #0 ok
		puback 2 -> PUBLISH1 4 d; #1 ok`,
	"resume with a smaller window keeps the order": `
		up ->
		pub 1 a -> PUBLISH1 1 a
		pub 1 b -> PUBLISH1 2 b
		down ->
		up -> PUBLISH1 1 a dup; PUBLISH1 2 b dup
		puback 2 ->
		down ->
		up -> PUBLISH1 1 a dup
		puback 1 -> #0 ok; #1 ok`,
	"session lost: all again as new messages, also after PUBREC": `
		up ->
		pub 2 a -> PUBLISH2 1 a
		pub 1 b -> PUBLISH1 2 b
		pubrec 1 -> PUBREL 1
		down ->
		up new -> PUBLISH2 3 a; PUBLISH1 4 b
		puback 2 ->
		puback 4 ->
		pubrec 3 -> PUBREL 3
		pubcomp 3 -> #0 ok; #1 ok`,
	"QoS 0 is lost with the connection unless it was written": `
		up ->
		pub 1 a -> PUBLISH1 1 a
		pub 0 b -> PUBLISH0 0 b
		write ->
		pub 0 c -> PUBLISH0 0 c
		down ->
		up -> PUBLISH1 1 a dup
		puback 1 -> #0 ok; #1 ok; #2 lost`,
	"refusals by the server": `
		up ->
		pub 1 a -> PUBLISH1 1 a
		pub 2 b -> PUBLISH2 2 b
		puback 1 0x87 -> #0 ok 0x87
		pubrec 2 0x97 -> #1 ok 0x97
		pub 2 c -> PUBLISH2 3 c
		pubrec 3 0x10 -> PUBREL 3
		pubcomp 3 -> #2 ok 0x10`,
	"PUBREC twice, and PUBCOMP not found after a resume": `
		up ->
		pub 2 a -> PUBLISH2 1 a
		pubrec 1 -> PUBREL 1
		pubrec 1 -> PUBREL 1
		down ->
		up -> PUBREL 1
		pubcomp 1 0x92 -> #0 ok`,
	"acknowledgements nobody waits for": `
		up ->
		puback 9 ->
		pubcomp 9 ->
		pubrec 9 -> PUBREL 9 0x92
		pub 1 a -> PUBLISH1 1 a
		puback 2 ->
		down ->
		puback 1 ->
		up -> PUBLISH1 1 a dup
		puback 1 -> #0 ok`,
	"PUBACK for QoS 2":      "up ->\npub 2 a -> PUBLISH2 1 a\npuback 1 -> error 0x82",
	"PUBREC for QoS 1":      "up ->\npub 1 a -> PUBLISH1 1 a\npubrec 1 -> error 0x82",
	"PUBCOMP before PUBREC": "up ->\npub 2 a -> PUBLISH2 1 a\npubcomp 1 -> error 0x82",
	"limits of the server": `
		limit qos 1 ->
		limit size 12 ->
		limit noretain ->
		up ->
		pub 2 a -> #0 QoS denied
		retain 1 b -> #1 no retain
		pub 1 ccccccccccccc -> #2 too large
		pub 1 d -> PUBLISH1 2 d
		puback 2 -> #3 ok`,
	"expiry counts down in the queue, and ends what was never sent": `
		pub 1 a 10s ->
		pub 1 b 3s ->
		wait 4s ->
		up -> PUBLISH1 1 a 6s
		down ->
		wait 20s ->
		up -> PUBLISH1 1 a dup 0s
		puback 1 -> #0 ok; #1 expired`,

	"received: PUBACK and PUBREC in receive order": `
		up ->
		in 1 5 x -> deliver x
		in 2 6 y -> deliver y
		in 1 7 z -> deliver z
		ack z ->
		ack y ->
		ack y ->
		ack x -> PUBACK 5; PUBREC 6; PUBACK 7
		pubrel 6 -> PUBCOMP 6
		ack x ->`,
	"received: our Receive Maximum of 3": `
		up ->
		in 2 1 a -> deliver a
		in 1 2 b -> deliver b
		in 1 3 c -> deliver c
		in 1 4 d -> error 0x93
		ack a -> PUBREC 1
		in 1 4 d -> error 0x93
		pubrel 1 -> PUBCOMP 1
		in 1 4 d -> deliver d`,
	"received: an Ack of a former connection leaks nothing": `
		up ->
		in 1 5 x -> deliver x
		down ->
		ack x ->
		up ->
		in 1 5 y -> deliver y
		ack x ->
		ack y -> PUBACK 5`,
	"received: QoS 2 again before PUBREL is not delivered": `
		up ->
		in 2 5 x -> deliver x
		in 2 5 x ->
		ack x -> PUBREC 5
		in 2 5 x -> PUBREC 5
		pubrel 5 -> PUBCOMP 5
		in 2 5 y -> deliver y`,
	"received: QoS 2 over a resume": `
		up ->
		in 2 5 x -> deliver x
		in 2 6 y -> deliver y
		down ->
		ack y ->
		up ->
		in 2 5 x ->
		in 2 6 y ->
		ack x -> PUBREC 5; PUBREC 6
		down ->
		up ->
		pubrel 5 -> PUBCOMP 5
		in 2 6 y -> PUBREC 6
		pubrel 6 -> PUBCOMP 6
		pubrel 6 -> PUBCOMP 6 0x92`,
	"received: QoS 2 when the session is lost is another message": `
		up ->
		in 2 5 x -> deliver x
		down ->
		up new ->
		in 2 5 y -> deliver y
		ack x ->
		ack y -> PUBREC 5`,
	"received: forgotten before it was shown": `
		up ->
		in 2 5 x -> deliver x
		down ->
		forget x ->
		up ->
		in 2 5 x2 -> deliver x2
		ack x ->
		ack x2 -> PUBREC 5`,
	"received: PUBREL before our PUBREC": "up ->\nin 2 5 x -> deliver x\npubrel 5 -> error 0x82",
}

// Shows [MQTT-3.2.2-5] [MQTT-3.3.4-8].
func TestScenarios(t *testing.T) {
	for name, script := range scenarios {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mqtt.V5)
			for line := range strings.Lines(strings.TrimSpace(script)) {
				step, want, ok := strings.Cut(line, "->")
				if !ok {
					t.Fatalf("no arrow in %q", line)
				}
				if got := w.do(step); got != strings.TrimSpace(want) {
					t.Fatalf("%s\ngave  %s\nwant %s", strings.TrimSpace(step), got, want)
				}
			}
		})
	}
}

// In 3.1.1 the same handshakes have no reason codes and no properties.
func TestScenario311(t *testing.T) {
	w := newWorld(t, mqtt.V311)
	for _, step := range [][2]string{
		{"up", ""},
		{"pub 2 a 10s", "PUBLISH2 1 a"},
		{"pubrec 9", "PUBREL 9"},
		{"pubrec 1", "PUBREL 1"},
		{"pubrel 3", "PUBCOMP 3"},
		{"pubcomp 1", "#0 ok"},
	} {
		if got := w.do(step[0]); got != step[1] {
			t.Fatalf("%s gave %q, want %q", step[0], got, step[1])
		}
	}
}

func TestRestore(t *testing.T) {
	w := newWorld(t, mqtt.V5)
	m := func(p string, q mqtt.QoS) Message { return Message{Topic: "t", Payload: []byte(p), QoS: q} }
	w.snd.Restore(7, 40, false, m("a", 1))
	w.snd.Restore(9, 41, true, m("b", 2))
	w.snd.Restore(10, 0, false, m("c", 1))
	for _, step := range [][2]string{
		{"pub 1 d", ""},
		{"up", "PUBLISH1 40 a dup; PUBREL 41"},
		{"pubcomp 41", "PUBLISH1 42 c"},
		{"puback 40", "PUBLISH1 43 d; #7 ok; #0 ok; #9 ok"},
		{"puback 42", "#10 ok"},
		{"puback 43", "#11 ok"},
	} {
		if got := w.do(step[0]); got != step[1] {
			t.Fatalf("%s gave %q, want %q", step[0], got, step[1])
		}
	}
}

func TestChangesForTheStore(t *testing.T) {
	w := newWorld(t, mqtt.V5)
	for _, step := range []struct {
		do   string
		want []Change
	}{
		{"pub 2 a", nil},
		{"up", []Change{{Seq: 0, PacketID: 1}}},
		{"pub 0 z", nil},
		{"pubrec 1", []Change{{Seq: 0, PacketID: 1, Released: true}}},
		{"down", nil},
		{"up new", []Change{{Seq: 0, PacketID: 2}}},
		{"pubrec 2 0x80", []Change{{Seq: 0, Ended: true}}},
	} {
		w.do(step.do)
		got := w.snd.Changes()
		if fmt.Sprint(got) != fmt.Sprint(step.want) && len(got)+len(step.want) > 0 {
			t.Fatalf("%s noted %+v, want %+v", step.do, got, step.want)
		}
	}
}

// Identifiers go round all 65,535 and pass over those in use (O18).
// Shows [MQTT-2.2.1-3].
func TestIdentifiersWrap(t *testing.T) {
	var p ids
	if p.take(1) != 1 {
		t.Fatal("the first identifier is not 1")
	}
	seen := map[uint16]bool{1: true}
	for i := 2; i <= 65535; i++ {
		id := p.take(uint64(i))
		if id == 0 || seen[id] {
			t.Fatalf("identifier %d at %d", id, i)
		}
		seen[id] = true
	}
	if id := p.take(1); id != 0 {
		t.Fatalf("all are in use, and still %d was given", id)
	}
	p.free(300)
	if id := p.take(1); id != 300 {
		t.Fatalf("only 300 is free, and %d was given", id)
	}
}

func TestFull(t *testing.T) {
	s := NewSender(mqtt.V5, 2, 1000)
	big := Message{Payload: make([]byte, 5000)}
	if s.Full(big.Size()) {
		t.Error("a message larger than the bound must fit into an empty queue")
	}
	s.Push(Message{Payload: make([]byte, 900)})
	if !s.Full(200) || s.Full(10) {
		t.Error("the bound in bytes is not kept")
	}
	s.Push(Message{})
	if !s.Full(0) {
		t.Error("the bound in messages is not kept")
	}
}

package broker

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/wilco-iot/wilco/mqtt"
)

// connectBytes is a CONNECT whose payload, with the properties of MQTT 5, is given.
func connectBytes(name string, level, flags byte, payload string) []byte {
	body := append([]byte{byte(len(name) >> 8), byte(len(name))}, name...)
	body = append(append(body, level, flags, 0, 60), payload...)
	head := []byte{byte(mqtt.TypeConnect) << 4}
	for n := len(body); ; n >>= 7 {
		if n < 0x80 {
			return append(append(head, byte(n)), body...)
		}
		head = append(head, byte(n)|0x80)
	}
}

// answers sends raw bytes as the first ones, and wants exactly this and the end.
// No session comes of it.
func (s *siege) answers(name string, raw, want []byte) {
	s.t.Helper()
	p := open(s.t, s.b)
	_, _ = p.nc.Write(raw) // it may be refused before its end
	if got := p.rest(); !bytes.Equal(got, want) {
		s.t.Errorf("%s: answered % x, want % x", name, got, want)
	}
	s.bystander.quiet()
	if n := s.b.Stats().Sessions; n != 1 {
		s.t.Errorf("%s: %d sessions", name, n)
	}
}

func TestB02_ProtocolNameAndLevel(t *testing.T) {
	s := besiege(t, Options{})
	old, now := []byte{0x20, 2, 0, 1}, []byte{0x20, 3, 0, byte(mqtt.UnsupportedProtocolVersion), 0}
	for _, c := range []struct {
		name  string
		level byte
		want  []byte
	}{
		{"MQTT", 2, old}, {"MQTT", 3, old}, {"MQTT", 6, now}, {"MQTT", 255, now}, {"mqtt", 5, now}, {"mqtt", 4, old}, {"", 5, now},
		{"MQIsdp", 3, old},
	} {
		s.answers(fmt.Sprint(c.name, c.level), connectBytes(c.name, c.level, 2, "\x00\x00"), c.want)
	}
}

func TestB03_ConnectFlags(t *testing.T) {
	s := besiege(t, Options{})
	for _, flags := range []byte{0x03, 0x1E, 0x0A, 0x22, 0x06} {
		s.answers(fmt.Sprintf("MQTT 5, %02x", flags), connectBytes("MQTT", 5, flags, "\x00\x00\x01x"), []byte{0x20, 3, 0, byte(malformed), 0})
		s.answers(fmt.Sprintf("3.1.1, %02x", flags), connectBytes("MQTT", 4, flags, "\x00\x01x"), nil)
	}
}

func TestB04_PasswordWithoutUserName(t *testing.T) {
	s := besiege(t, Options{})
	s.answers("3.1.1", connectBytes("MQTT", 4, 0x42, "\x00\x01x\x00\x01p"), nil)
	p := open(t, start(t, Options{})) // whose Authority lets in whoever comes
	p.write(connectBytes("MQTT", 5, 0x42, "\x00\x00\x01x\x00\x01p"))
	if a, ok := p.must().(*mqtt.Connack); !ok || a.Reason != mqtt.Success {
		t.Errorf("%+v", a)
	}
}

// Names that mean something elsewhere are only names here: each is a session of
// its own, and opens no topic.
func TestB10_LiteralNames(t *testing.T) {
	b := start(t, Options{})
	names := []string{"+", "#", "a/b", "$SYS", "../..", "a\nb", "%c", "x", strings.Repeat("x", 60000)}
	for i, name := range names {
		c := lasting(name)
		c.HasUsername, c.Username = true, name
		if len(name) > 1<<10 {
			c.Username = "" // both together are larger than a stranger may send
		}
		p := join(t, b, c)
		p.subscribe(1, "own")
		if n := b.Stats().Sessions; n != i+1 {
			t.Errorf("%.10q: %d sessions", name, n)
		}
		p.drop(b, name)
	}
	from := join(t, b, clean("from"))
	from.publish(pub("own", "1", 1, 1))
	for _, name := range names {
		p := open(t, b)
		if !p.connect(lasting(name)).SessionPresent {
			t.Errorf("%.10q lost its session", name)
		}
		p.expect(pub("own", "1", 1, 1))
	}
	s := besiege(t, Options{})
	s.answers("NUL", connectBytes("MQTT", 5, 2, "\x00\x00\x02a\x00"), []byte{0x20, 3, 0, byte(malformed), 0})
}

func TestB12_EmptyClientIdentifier(t *testing.T) {
	s := besiege(t, Options{})
	s.answers("3.1.1, session kept", connectBytes("MQTT", 4, 0, "\x00\x00"), []byte{0x20, 2, 0, 2})
}

func TestC02_BadTopicNames(t *testing.T) {
	s := besiege(t, Options{})
	s.bystander.subscribe(0, "#")
	publish := func(topic string) []byte {
		body := append([]byte{byte(len(topic) >> 8), byte(len(topic))}, topic...)
		body = append(body, 0)
		return append([]byte{0x30, byte(len(body))}, body...)
	}
	for _, topic := range []string{"+", "#", "a/+", "a/#", "a+b", "a#"} {
		s.ends(topic, publish(topic), mqtt.TopicNameInvalid)
	}
	s.ends("empty", publish(""), protocol, mqtt.TopicNameInvalid, mqtt.TopicAliasInvalid)
	s.ends("NUL", publish("a\x00"), malformed)
	longest := strings.Repeat("x", 65535)
	p := join(t, s.b, clean("p"))
	p.send(pub(longest, "x", 0, 0))
	s.bystander.expect(pub(longest, "x", 0, 0))
}

func TestC03_ManyLevels(t *testing.T) {
	s := besiege(t, Options{})
	deep := strings.Repeat("/", 65000)
	frame, err := (&mqtt.Publish{Topic: []byte(deep), Retain: true, Payload: []byte("x")}).Append(nil, mqtt.V5)
	if err == nil {
		s.ends("PUBLISH", frame, mqtt.TopicNameInvalid)
	} else { // our encoder has the same rule
		body := append([]byte{byte(len(deep) >> 8), byte(len(deep) & 0xFF)}, deep...)
		body = append(body, 0, 'x')
		head := []byte{0x31, byte(len(body))&0x7F | 0x80, byte(len(body)>>7)&0x7F | 0x80, byte(len(body) >> 14)}
		s.ends("PUBLISH", append(head, body...), mqtt.TopicNameInvalid)
	}
	most := strings.Repeat("/", mqtt.MaxLevels-1)
	p := join(t, s.b, clean("p"))
	p.subscribe(1, most, "#")
	p.send(retainedPub(most, "x", 1, 1))
	for range 2 {
		p.must() // PUBACK and one copy, in either order
	}
	p.send(&mqtt.Subscribe{PacketID: 3, Subscriptions: []mqtt.Subscription{{Filter: most}}})
	p.expect(&mqtt.Suback{PacketID: 3, Reasons: []mqtt.ReasonCode{0}})
	if m, ok := p.must().(*mqtt.Publish); !ok || string(m.Topic) != most || !m.Retain {
		t.Error("the deepest topic is not retained")
	}
}

func TestC05_ForeignWildcards(t *testing.T) {
	b := start(t, Options{})
	topics := []string{"*", "a/>", "a.b", "100%", "it's", `a\b`, "a:b", " ", "A", "a"}
	for i, filter := range topics {
		sub := join(t, b, clean(fmt.Sprint("sub", i)))
		sub.subscribe(0, filter)
		from := join(t, b, clean("from"))
		for _, topic := range topics {
			from.send(pub(topic, "x", 0, 0))
		}
		from.quiet()
		sub.expect(pub(filter, "x", 0, 0)) // and no other
		sub.quiet()
		from.nc.Close()
	}
}

// The one rule is to forward it: the payload is the application's.
func TestC17_PayloadFormat(t *testing.T) {
	b := start(t, Options{})
	sub, from := join(t, b, clean("sub")), join(t, b, clean("from"))
	sub.subscribe(0, "t")
	m := pub("t", "\xff", 0, 0)
	m.PayloadUTF8 = true
	from.send(m)
	sub.expect(m)
}

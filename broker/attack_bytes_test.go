package broker

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// siege is a broker with a client that must not be harmed.
type siege struct {
	t         *testing.T
	b         *Broker
	bystander *peer
}

func besiege(t *testing.T, o Options) *siege {
	b := start(t, o)
	return &siege{t, b, join(t, b, clean("bystander"))}
}

// ends sends raw bytes on a connection that MQTT 5 has accepted, and wants it
// ended with one of the codes.
func (s *siege) ends(name string, raw []byte, codes ...mqtt.ReasonCode) {
	s.t.Helper()
	p := join(s.t, s.b, clean("attacker"))
	p.write(raw)
	x := p.must()
	if d, ok := x.(*mqtt.Disconnect); !ok || !slices.Contains(codes, d.Reason) {
		s.t.Errorf("%s: %s", name, show(x))
	}
	p.closed()
	s.bystander.quiet()
}

// shut sends raw bytes as the first ones, and wants an end without an answer.
func (s *siege) shut(name string, raw []byte) {
	s.t.Helper()
	p := open(s.t, s.b)
	p.write(raw)
	_ = p.nc.SetReadDeadline(time.Now().Add(patience))
	if n, err := p.nc.Read(make([]byte, 1)); n > 0 || err == nil {
		s.t.Errorf("%s was answered", name)
	}
	s.bystander.quiet()
}

var malformed, protocol = mqtt.MalformedPacket, mqtt.ProtocolError

func TestA01_RemainingLengthOfFiveBytes(t *testing.T) {
	s := besiege(t, Options{})
	for kind := range 16 {
		raw := []byte{byte(kind << 4), 0x80, 0x80, 0x80, 0x80, 0x01}
		s.shut(fmt.Sprint("first, type ", kind), raw)
		s.ends(fmt.Sprint("type ", kind), raw, malformed, protocol)
	}
}

func TestA03_VariableIntegerNotShortest(t *testing.T) {
	s := besiege(t, Options{})
	s.ends("remaining length", []byte{0xC0, 0x80, 0x00}, malformed)
	s.ends("property length", []byte{0x30, 0x05, 0, 1, 't', 0x80, 0x00}, malformed)
}

func TestA04_Truncation(t *testing.T) {
	s := besiege(t, Options{})
	whole, err := (&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "a/b", QoS: 1}}}).Append(nil, mqtt.V5)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) - 2 {
		cut := bytes.Clone(whole[:2+n])
		cut[1] = byte(n)
		s.ends(fmt.Sprintf("% x", cut), cut, malformed, protocol)
	}
}

func TestA06_TrailingBytes(t *testing.T) {
	s := besiege(t, Options{})
	s.ends("PINGREQ", []byte{0xC0, 0x01, 0x00}, malformed)
	s.ends("PUBREL", []byte{0x62, 0x05, 0, 1, 0, 0, 0}, malformed)
}

func TestA07_InnerLengthBeyondThePacket(t *testing.T) {
	s := besiege(t, Options{})
	s.ends("topic", []byte{0x30, 0x03, 0xFF, 0xFF, 't'}, malformed)
	s.ends("properties", []byte{0x30, 0x04, 0, 1, 't', 0x7F}, malformed)
}

func TestA10_TypesThatDoNotExist(t *testing.T) {
	s := besiege(t, Options{})
	s.ends("type 0", []byte{0, 0}, malformed, protocol)
	p := open(t, s.b)
	p.connect(mqtt.Connect{Version: mqtt.V311, ClientID: "old", CleanStart: true})
	p.write([]byte{0xF0, 0})
	p.closed()
}

func TestA11_WrongFlags(t *testing.T) {
	s := besiege(t, Options{})
	for name, raw := range map[string][]byte{
		"PUBREL": {0x60, 2, 0, 1}, "SUBSCRIBE": {0x80, 7, 0, 1, 0, 0, 1, 't', 0}, "UNSUBSCRIBE": {0xA0, 6, 0, 1, 0, 0, 1, 't'},
		"PINGREQ": {0xC1, 0}, "PUBACK": {0x42, 2, 0, 1}, "DISCONNECT": {0xE1, 0},
	} {
		s.ends(name, raw, malformed)
	}
}

func TestA12_PacketIdentifierZero(t *testing.T) {
	s := besiege(t, Options{})
	for name, raw := range map[string][]byte{
		"PUBLISH": {0x32, 6, 0, 1, 't', 0, 0, 0}, "PUBACK": {0x40, 2, 0, 0}, "SUBSCRIBE": {0x82, 7, 0, 0, 0, 0, 1, 't', 0},
		"UNSUBSCRIBE": {0xA2, 6, 0, 0, 0, 0, 1, 't'},
	} {
		s.ends(name, raw, protocol, malformed)
	}
}

func TestA13_TextThatIsNotUTF8(t *testing.T) {
	s := besiege(t, Options{})
	for _, text := range []string{"\xc0\x80", "\xed\xa0\x80", "\xff", "a\x00"} {
		s.ends(fmt.Sprintf("topic % x", text), slices.Concat([]byte{0x30, byte(3 + len(text)), 0, byte(len(text))}, []byte(text), []byte{0}), malformed)
	}
}

func TestA16_PropertiesWhereTheyMayNotBe(t *testing.T) {
	s := besiege(t, Options{})
	s.ends("twice", []byte{0x30, 8, 0, 1, 't', 4, 1, 0, 1, 0}, protocol)
	s.ends("unknown", []byte{0x30, 6, 0, 1, 't', 2, 0x7E, 0}, malformed, protocol)
	s.ends("of another packet", []byte{0x30, 7, 0, 1, 't', 3, 0x21, 0, 1}, protocol, malformed)
}

func TestA19_AnySplit(t *testing.T) {
	s := besiege(t, Options{})
	s.bystander.subscribe(1, "t")
	p := open(t, s.b)
	var all []byte
	for _, x := range []mqtt.Packet{&mqtt.Connect{Version: mqtt.V5, ClientID: "slow", CleanStart: true}, pub("t", "x", 1, 1), &mqtt.Pingreq{}} {
		all, _ = x.Append(all, mqtt.V5)
	}
	for _, c := range all {
		p.write([]byte{c})
	}
	if _, ok := p.must().(*mqtt.Connack); !ok {
		t.Error("no CONNACK")
	}
	got := []string{show(p.must()), show(p.must())} // in the order in which they could be given
	slices.Sort(got)
	if want := []string{show(&mqtt.Pingresp{}), show(ack(mqtt.TypePuback, 1))}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	s.bystander.expect(pub("t", "x", 1, 1))
}

func TestC01_QoS3AndDUPWithQoS0(t *testing.T) {
	s := besiege(t, Options{})
	s.ends("QoS 3", []byte{0x36, 6, 0, 1, 't', 0, 1, 0}, malformed)
	s.ends("DUP", []byte{0x38, 4, 0, 1, 't', 0}, malformed)
}

func TestC13_TopicAlias(t *testing.T) {
	s := besiege(t, Options{Limits: Limits{TopicAliasMaximum: 2}})
	s.ends("0", []byte{0x30, 7, 0, 1, 't', 3, 0x23, 0, 0}, mqtt.TopicAliasInvalid)
	s.ends("above the maximum", []byte{0x30, 7, 0, 1, 't', 3, 0x23, 0, 3}, mqtt.TopicAliasInvalid)
	s.ends("unknown", []byte{0x30, 6, 0, 0, 3, 0x23, 0, 2}, mqtt.TopicAliasInvalid, protocol)
	// One of a connection before is unknown as well.
	set := []byte{0x30, 7, 0, 1, 't', 3, 0x23, 0, 1}
	p := join(t, s.b, clean("attacker"))
	p.write(set)
	p.quiet()
	_ = p.nc.Close()
	s.ends("after a reconnection", []byte{0x30, 6, 0, 0, 3, 0x23, 0, 1}, mqtt.TopicAliasInvalid, protocol)
}

// What is over is not delivered, and the subscriber is told.
func TestC16_Expiry(t *testing.T) {
	virtual(t, Options{}, func(t *testing.T, b *Broker) {
		sub, from := join(t, b, lasting("sub")), join(t, b, clean("from"))
		sub.subscribe(1, "t")
		sub.drop(b, "sub")
		for i, seconds := range []uint32{0, 1, 0xFFFFFFFF} {
			m := pub("t", fmt.Sprint(i), 1, 1)
			m.HasExpiry, m.ExpirySeconds = true, seconds
			from.publish(m)
		}
		pass(2 * time.Second)
		sub = open(t, b)
		sub.connect(lasting("sub"))
		last := pub("t", "2", 1, 1)
		last.HasExpiry, last.ExpirySeconds = true, 0xFFFFFFFF-2
		sub.expect(told(last, "2 expired"))
	})
}

func TestC18_ResponseTopic(t *testing.T) {
	s := besiege(t, Options{})
	s.ends("a wildcard", []byte{0x30, 8, 0, 1, 't', 4, 0x08, 0, 1, '#'}, protocol, malformed, mqtt.TopicNameInvalid)
	// A topic that the responder may not publish to is its own affair.
	w := &user{name: "w", password: "w", publish: "ok/#", subscribe: "#", receive: "#"}
	b := start(t, Options{Authority: door{"w": w, "all": trusted("all")}})
	p, from := join(t, b, as("w", clean("w"))), join(t, b, as("all", clean("from")))
	p.subscribe(1, "q")
	m := pub("q", "?", 1, 1)
	m.ResponseTopic = []byte("secret")
	from.publish(m)
	m.PacketID = 1
	p.expect(m)
	p.publish(pub("secret", "!", 1, 2), mqtt.NotAuthorized)
}

func TestC19_SubscriptionIdentifiers(t *testing.T) {
	s := besiege(t, Options{})
	s.ends("in a PUBLISH", []byte{0x30, 6, 0, 1, 't', 2, 0x0B, 1}, protocol)
}

func TestC20_MaximumPacketSize(t *testing.T) {
	s := besiege(t, Options{Limits: Limits{MaxPacketSize: 1000}})
	s.ends("in", []byte{0x30, 0xE9, 0x07}, mqtt.PacketTooLarge) // 1001, and said before the rest
	c := clean("small")
	c.MaximumPacketSize = 50
	sub, from := join(t, s.b, c), join(t, s.b, clean("from"))
	sub.subscribe(1, "t")
	from.publish(pub("t", strings.Repeat("x", 100), 1, 1))
	from.publish(pub("t", "y", 1, 1))
	sub.expect(told(pub("t", "y", 1, 1), "1 too_large"))
}

func TestD01_BadFilters(t *testing.T) {
	s := besiege(t, Options{})
	for _, f := range []string{"", "a#", "#/a", "a+/b", "+a", "a/#/b"} {
		raw := slices.Concat([]byte{0x82, byte(6 + len(f)), 0, 1, 0, 0, byte(len(f))}, []byte(f), []byte{0})
		s.ends(f, raw, mqtt.TopicFilterInvalid, malformed)
	}
	if n := s.b.Stats().Subscriptions; n != 0 {
		t.Errorf("%d subscriptions", n)
	}
}

func TestD02_SubscriptionOptions(t *testing.T) {
	s := besiege(t, Options{})
	s.ends("no filter", []byte{0x82, 3, 0, 1, 0}, protocol, malformed)
	s.ends("none to unsubscribe", []byte{0xA2, 3, 0, 1, 0}, protocol, malformed)
	for name, options := range map[string]byte{"QoS 3": 3, "retain handling 3": 0x30, "reserved": 0x40} {
		s.ends(name, []byte{0x82, 7, 0, 1, 0, 0, 1, 't', options}, protocol, malformed)
	}
}

func TestD03_FilterWithoutOptions(t *testing.T) {
	s := besiege(t, Options{})
	s.ends("SUBSCRIBE", []byte{0x82, 6, 0, 1, 0, 0, 1, 't'}, malformed)
}

func TestD06_SharedFilters(t *testing.T) {
	w := &user{name: "w", password: "w", publish: "#", subscribe: "ok", receive: "#"}
	b := start(t, Options{Authority: door{"w": w}})
	for f, want := range map[string]mqtt.ReasonCode{
		"$share/g/ok": mqtt.Success, "$share/g/denied": mqtt.NotAuthorized, "$share//ok": mqtt.TopicFilterInvalid,
		"$share/g": mqtt.TopicFilterInvalid, "$share/+/ok": mqtt.TopicFilterInvalid, "$share/g/": mqtt.TopicFilterInvalid,
		"$share/g/$share/h/ok": mqtt.TopicFilterInvalid,
	} {
		raw := slices.Concat([]byte{0x82, byte(6 + len(f)), 0, 1, 0, 0, byte(len(f))}, []byte(f), []byte{0})
		p := join(t, b, as("w", clean("w")))
		p.write(raw)
		if want == mqtt.TopicFilterInvalid {
			p.expect(&mqtt.Disconnect{Reason: want})
			p.closed()
			continue
		}
		p.expect(&mqtt.Suback{PacketID: 1, Reasons: []mqtt.ReasonCode{want}})
	}
}

func TestD07_NoLocalOnShared(t *testing.T) {
	s := besiege(t, Options{})
	s.ends("SUBSCRIBE", slices.Concat([]byte{0x82, 16, 0, 1, 0, 0, 10}, []byte("$share/g/t"), []byte{0x04}), protocol)
}

func TestD10_ManyFilters(t *testing.T) {
	b := start(t, Options{Limits: Limits{Subscriptions: 3}})
	p := join(t, b, clean("x"))
	var many []mqtt.Subscription
	for i := range 5 {
		many = append(many, mqtt.Subscription{Filter: fmt.Sprintf("a/+/+/%d/#", i)})
	}
	p.send(&mqtt.Subscribe{PacketID: 1, Subscriptions: many})
	p.expect(&mqtt.Suback{PacketID: 1, Reasons: []mqtt.ReasonCode{0, 0, 0, mqtt.QuotaExceeded, mqtt.QuotaExceeded}})
}

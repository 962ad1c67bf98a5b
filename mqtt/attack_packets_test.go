package mqtt

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func connectWire(t testing.TB, name string, level, flags byte, rest string) []byte {
	head := append(appendText(nil, []byte(name)), level, flags, 0, 0)
	return frame(0x10, append(head, unwire(t, rest)...))
}

// Shows [MQTT-3.1.2-1] [MQTT-3.1.2-2].
func TestB02_ProtocolNameAndLevel(t *testing.T) {
	for _, c := range []struct {
		name  string
		level byte
	}{
		{"MQTT", 2}, {"MQTT", 3}, {"MQTT", 6}, {"MQTT", 0}, {"MQTT", 255}, {"MQTT", 0x84}, {"MQIsdp", 3},
		{"mqtt", 5}, {"MQTTT", 5}, {"", 4}, {"\xff\xff\xff\xff", 5}, {strings.Repeat("M", 65535), 5},
	} {
		p, err := decodeFrame(connectWire(t, c.name, c.level, 2, "0000"), V5)
		wantCode(t, err, UnsupportedProtocolVersion)
		if got := p.(*Connect).Version; got != Version(c.level) {
			t.Errorf("level %d is told as %d", c.level, got)
		}
	}
	// The level is told for other faults as well, so that the answer can be
	// in the client's own version.
	p, err := decodeFrame(connectWire(t, "MQTT", 4, 3, "0000"), V5)
	wantCode(t, err, MalformedPacket)
	if p.(*Connect).Version != V311 {
		t.Error("version lost")
	}
	if _, err := (&Connect{Version: 3}).Append(nil, V5); err == nil {
		t.Error("encoded CONNECT of level 3")
	}
}

// Shows [MQTT-3.1.2-3] [MQTT-3.1.2-9] [MQTT-3.1.2-11] [MQTT-3.1.2-12] [MQTT-3.1.2-13].
func TestB03_ConnectFlags(t *testing.T) {
	will := "0000 0001 't' 0000 0001 'u' 0001 'p'"
	for v, between := range map[Version]string{V311: "", V5: "00"} {
		for n := range 256 {
			flags := byte(n)
			bad := flags&1 != 0 || flags&0x18 == 0x18 || flags&4 == 0 && flags&0x38 != 0 ||
				v == V311 && flags&0xC0 == 0x40
			_, err := decodeFrame(connectWire(t, "MQTT", byte(v), flags, between+" 0001 'c'"+
				map[bool]string{true: " " + between + " 0001 't' 0000"}[flags&4 != 0]+
				map[bool]string{true: " 0001 'u'"}[flags&0x80 != 0]+
				map[bool]string{true: " 0001 'p'"}[flags&0x40 != 0]), v)
			if bad {
				wantCode(t, err, MalformedPacket)
			} else if err != nil {
				t.Errorf("version %d flags %08b: %v", v, flags, err)
			}
		}
	}
	refuses(t, V311, MalformedPacket, connectWire(t, "MQTT", 4, 0x06, "0001 'c'"))      // no will fields
	refuses(t, V311, MalformedPacket, connectWire(t, "MQTT", 4, 0x06, "0001 'c' 0001")) // half of them
	refuses(t, V311, MalformedPacket, connectWire(t, "MQTT", 4, 0x02, will))            // will fields, no flag
	refuses(t, V5, TopicNameInvalid, connectWire(t, "MQTT", 5, 0x06, "00 0000 00 0003 'a/+' 0000"))
	refuses(t, V5, TopicNameInvalid, connectWire(t, "MQTT", 5, 0x06, "00 0000 00 0000 0000"))
	for _, w := range []*Will{{Topic: "#"}, {Topic: ""}, {Topic: "t", QoS: 3}, {Topic: "t", ResponseTopic: "+"}, {Topic: "t", Payload: make([]byte, 65536)}} {
		if _, err := (&Connect{Will: w}).Append(nil, V5); err == nil {
			t.Errorf("encoded will %+v", w)
		}
	}
	if _, err := (&Connect{CleanStart: true, Will: &Will{Topic: "t", DelaySeconds: 1}}).Append(nil, V311); err == nil {
		t.Error("encoded a will property for 3.1.1")
	}
}

// Shows [MQTT-3.1.2-22 v3.1.1].
func TestB04_PasswordWithoutUserName(t *testing.T) {
	refuses(t, V311, MalformedPacket, connectWire(t, "MQTT", 4, 0x42, "0001 'c' 0001 'p'"))
	p := accepts(t, V5, connectWire(t, "MQTT", 5, 0x42, "00 0001 'c' 0001 'p'")).(*Connect)
	if p.HasUsername || !p.HasPassword || string(p.Password) != "p" {
		t.Errorf("got %+v", p)
	}
	_, err := (&Connect{CleanStart: true, HasPassword: true}).Append(nil, V311)
	wantCode(t, err, MalformedPacket)
	for _, p := range []*Connect{{Username: "u"}, {Password: []byte("p")}} {
		if _, err := p.Append(nil, V5); err == nil {
			t.Errorf("silently left out credentials of %+v", p)
		}
	}
}

// TestB10_LiteralNames shows that names are neither refused nor changed for
// their characters; NUL and what is not UTF-8 is A13.
func TestB10_LiteralNames(t *testing.T) {
	for _, name := range []string{"+", "#", "a/b", "$SYS", "../..", "a\nb", strings.Repeat("x", 65535)} {
		p := &Connect{Version: V5, ClientID: name, HasUsername: true, Username: name}
		got := accepts(t, V5, mustAppend(t, p, V5)).(*Connect)
		if got.ClientID != name || got.Username != name {
			t.Errorf("%q came back as %q and %q", name, got.ClientID, got.Username)
		}
	}
	if _, err := (&Connect{ClientID: strings.Repeat("x", 65536)}).Append(nil, V5); err == nil {
		t.Error("encoded a client identifier of 65,536 bytes")
	}
}

// Shows [MQTT-3.1.3-7 v3.1.1] [MQTT-3.1.3-8 v3.1.1] [MQTT-3.1.3-9 v3.1.1].
func TestB12_EmptyClientIdentifier(t *testing.T) {
	refuses(t, V311, ClientIdentifierNotValid, connectWire(t, "MQTT", 4, 0, "0000"))
	accepts(t, V311, connectWire(t, "MQTT", 4, 2, "0000"))
	accepts(t, V5, connectWire(t, "MQTT", 5, 0, "00 0000"))
	if code, ok := ClientIdentifierNotValid.ReturnCode311(); !ok || code != 2 {
		t.Errorf("return code %d, want 2", code)
	}
	_, err := (&Connect{}).Append(nil, V311)
	wantCode(t, err, ClientIdentifierNotValid)
}

// Shows [MQTT-3.3.1-2] [MQTT-3.3.1-4].
func TestC01_QoS3AndDUPWithQoS0(t *testing.T) {
	for flags := byte(0); flags < 16; flags++ {
		bad := flags&6 == 6 || flags&8 != 0 && flags&6 == 0
		_, _, err := ParseHeader([]byte{0x30 | flags, 0}, 0)
		if bad != (err != nil) {
			t.Errorf("flags %04b: %v", flags, err)
		} else if bad {
			wantCode(t, err, MalformedPacket)
		}
	}
	for _, p := range []*Publish{
		{QoS: 3, PacketID: 1}, {Dup: true}, {PacketID: 1}, {QoS: 1}, {QoS: 2},
	} {
		p.Topic = []byte("t")
		for _, v := range []Version{V311, V5} {
			if out, err := p.Append([]byte("x"), v); err == nil || string(out) != "x" {
				t.Errorf("%+v: got % x, %v", p, out, err)
			}
		}
	}
}

// Shows [MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT-4.7.3-1] [MQTT-4.7.3-3].
func TestC02_BadTopicNames(t *testing.T) {
	publish := func(topic, properties string) []byte {
		return frame(0x30, append(appendText(nil, []byte(topic)), unwire(t, properties)...))
	}
	for _, topic := range []string{"+", "#", "a/+", "a/#", "a+b", "a#", "/+/", "abcdefgh+", "abcdefg#h", "ü#"} {
		refuses(t, V5, TopicNameInvalid, publish(topic, "00"))
		refuses(t, V311, TopicNameInvalid, publish(topic, ""))
		wantCode(t, ValidTopic(topic), TopicNameInvalid)
	}
	refuses(t, V5, ProtocolError, publish("", "00"))
	refuses(t, V311, TopicNameInvalid, publish("", ""))
	wantCode(t, ValidTopic(""), TopicNameInvalid)
	refuses(t, V5, MalformedPacket, publish("a\x00", "00"))
	longest := strings.Repeat("x", 65535)
	accepts(t, V5, publish(longest, "00"))
	if err := ValidTopic(longest); err != nil {
		t.Error(err)
	}
	wantCode(t, ValidTopic(longest+"x"), TopicNameInvalid)
	_, err := (&Publish{}).Append(nil, V5)
	wantCode(t, err, ProtocolError)
}

func TestC03_ManyLevels(t *testing.T) {
	most, beyond := strings.Repeat("/", MaxLevels-1), strings.Repeat("/", MaxLevels)
	for _, prefix := range []string{"", "ü"} {
		if err := errors.Join(ValidTopic(prefix+most), ValidFilter(prefix+most)); err != nil {
			t.Errorf("%d levels: %v", MaxLevels, err)
		}
		wantCode(t, ValidTopic(prefix+beyond), TopicNameInvalid)
		wantCode(t, ValidFilter(prefix+beyond), TopicFilterInvalid)
	}
	accepted := ValidFilter("$share/g/" + most)
	if accepted != nil {
		t.Error(accepted)
	}
	wantCode(t, ValidFilter("$share/g/"+beyond), TopicFilterInvalid)

	deep := strings.Repeat("a/", 32_500)
	text := fmt.Sprintf("%04x '%s'", len(deep), deep)
	refuses(t, V5, TopicNameInvalid, frame(0x30, unwire(t, text+" 00")))
	refuses(t, V5, TopicFilterInvalid, frame(0x82, unwire(t, "0001 00 "+text+" 00")))
	refuses(t, V5, TopicFilterInvalid, frame(0xa2, unwire(t, "0001 00 "+text)))
	refuses(t, V5, TopicNameInvalid, connectWire(t, "MQTT", 5, 0x06, "00 0000 00 "+text+" 0000"))
}

// TestC05_ForeignWildcards: characters that mean something elsewhere are text.
func TestC05_ForeignWildcards(t *testing.T) {
	for _, topic := range []string{"*", "a/>", "a.b", "100%", `it's`, `a\b`, "a:b", "a b", " ", "A"} {
		if err := errors.Join(ValidTopic(topic), ValidFilter(topic)); err != nil {
			t.Errorf("%q: %v", topic, err)
		}
		if !Match(topic, topic) || Match(topic, "a/b/c") || Match(topic, "a") {
			t.Errorf("%q is not matched literally", topic)
		}
	}
}

// Shows [MQTT-3.3.2-8].
func TestC13_TopicAlias(t *testing.T) {
	refuses(t, V5, TopicAliasInvalid, unwire(t, "30 07 0001 't' 03 23 0000"))
	for _, wire := range []string{"30 07 0001 't' 03 23 ffff", "30 06 0000 03 23 0001"} {
		accepts(t, V5, unwire(t, wire))
	}
	// An alias alone is no topic for 3.1.1.
	if _, err := (&Publish{TopicAlias: 1}).Append(nil, V311); err == nil {
		t.Error("encoded an alias for 3.1.1")
	}
}

func TestC16_MessageExpiryExtremes(t *testing.T) {
	for _, seconds := range []uint32{0, 1, 0xFFFFFFFF} {
		p := &Publish{Topic: []byte("t"), HasExpiry: true, ExpirySeconds: seconds}
		got := accepts(t, V5, mustAppend(t, p, V5)).(*Publish)
		if !got.HasExpiry || got.ExpirySeconds != seconds {
			t.Errorf("%d came back as %v %d", seconds, got.HasExpiry, got.ExpirySeconds)
		}
	}
}

// TestC17_PayloadFormat: the payload is passed on as it came.
func TestC17_PayloadFormat(t *testing.T) {
	p := accepts(t, V5, unwire(t, "30 07 0001 't' 02 01 01 ff")).(*Publish)
	if !p.PayloadUTF8 || !bytes.Equal(p.Payload, []byte{0xff}) {
		t.Errorf("got %+v", p)
	}
}

// Shows [MQTT-3.3.2-14].
func TestC18_ResponseTopic(t *testing.T) {
	for _, topic := range []string{"+", "a/#", "", strings.Repeat("/", 200)} {
		list := append([]byte{byte(propResponseTopic)}, appendText(nil, []byte(topic))...)
		list = append(appendVarint(nil, len(list)), list...)
		refuses(t, V5, ProtocolError, frame(0x30, append(unwire(t, "0001 't'"), list...)))
		head := unwire(t, "0004 'MQTT' 05 06 0000 00 0000")
		refuses(t, V5, ProtocolError, frame(0x10, append(append(head, list...), unwire(t, "0001 't' 0000")...)))
		if topic != "" {
			_, err := (&Publish{Topic: []byte("t"), ResponseTopic: []byte(topic)}).Append(nil, V5)
			wantCode(t, err, ProtocolError)
		}
	}
}

// TestC19_SubscriptionIdentifiers: the codec does not know who is speaking, so
// it shows them, and the server can tell that a client sent some.
// Shows [MQTT-3.3.4-6].
func TestC19_SubscriptionIdentifiers(t *testing.T) {
	p := accepts(t, V5, unwire(t, "30 08 0001 't' 04 0b 02 0b 01")).(*Publish)
	if len(p.SubscriptionIDs) != 2 || p.SubscriptionIDs[0] != 2 || p.SubscriptionIDs[1] != 1 {
		t.Errorf("got %v", p.SubscriptionIDs)
	}
	for _, id := range []uint32{0, 268_435_456} {
		_, err := (&Publish{Topic: []byte("t"), SubscriptionIDs: []uint32{id}}).Append(nil, V5)
		wantCode(t, err, ProtocolError)
	}
	_, err := (&Subscribe{PacketID: 1, SubscriptionID: 268_435_456, Subscriptions: []Subscription{{Filter: "a"}}}).Append(nil, V5)
	wantCode(t, err, ProtocolError)
}

// Shows [MQTT-3.1.2-24] [MQTT-3.2.2-15].
func TestC20_MaximumPacketSize(t *testing.T) {
	wire := mustAppend(t, benchPublish(false), V5)
	_, _, err := ParseHeader(wire, len(wire)-1)
	wantCode(t, err, PacketTooLarge)
	if _, n, err := ParseHeader(wire, len(wire)); err != nil || n != 3 {
		t.Errorf("got %d, %v", n, err)
	}
	_, _, err = NewReader(bytes.NewReader(wire), len(wire)-1).Next()
	wantCode(t, err, PacketTooLarge)
	beyond := &Publish{Topic: []byte("t"), Payload: make([]byte, maxRemaining)} // never touched, so it costs nothing
	_, err = beyond.Append(nil, V5)
	wantCode(t, err, PacketTooLarge)
}

// Shows [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.7.3-3].
func TestD01_BadFilters(t *testing.T) {
	for _, filter := range []string{"", "a#", "#/a", "a+/b", "+a", "a/#/b", "a/+b", "##", "++", "a/b#", "#a", "/#/"} {
		wantCode(t, ValidFilter(filter), TopicFilterInvalid)
		text := fmt.Sprintf("%04x %x", len(filter), filter)
		refuses(t, V5, TopicFilterInvalid, frame(0x82, unwire(t, "0001 00 "+text+" 00")))
		refuses(t, V311, TopicFilterInvalid, frame(0x82, unwire(t, "0001 "+text+" 00")))
		refuses(t, V5, TopicFilterInvalid, frame(0xa2, unwire(t, "0001 00 "+text)))
		_, err := (&Subscribe{PacketID: 1, Subscriptions: []Subscription{{Filter: filter}}}).Append(nil, V5)
		wantCode(t, err, TopicFilterInvalid)
		_, err = (&Unsubscribe{PacketID: 1, Filters: []string{filter}}).Append(nil, V5)
		wantCode(t, err, TopicFilterInvalid)
	}
	wantCode(t, ValidFilter(strings.Repeat("x", 65536)), TopicFilterInvalid)
	if err := ValidFilter(strings.Repeat("x", 65535)); err != nil {
		t.Error(err)
	}
}

// Shows [MQTT-3.8.3-2] [MQTT-3.8.3-5] [MQTT-3.10.3-2] [MQTT-3.8.3-4 v3.1.1]
// [MQTT-3.8.3-3 v3.1.1].
func TestD02_SubscriptionOptions(t *testing.T) {
	refuses(t, V5, ProtocolError, unwire(t, "82 03 0001 00"))
	refuses(t, V311, ProtocolError, unwire(t, "82 02 0001"))
	refuses(t, V5, ProtocolError, unwire(t, "a2 03 0001 00"))
	refuses(t, V311, ProtocolError, unwire(t, "a2 02 0001"))
	for n := range 256 {
		options := byte(n)
		v5 := frame(0x82, append(unwire(t, "0001 00 0001 'a'"), options))
		v311 := frame(0x82, append(unwire(t, "0001 0001 'a'"), options))
		switch {
		case options&0xC0 != 0:
			refuses(t, V5, MalformedPacket, v5)
		case options&3 == 3 || options>>4 == 3:
			refuses(t, V5, ProtocolError, v5)
		default:
			if got := accepts(t, V5, v5).(*Subscribe).Subscriptions[0].options(); got != options {
				t.Errorf("options %08b came back as %08b", options, got)
			}
		}
		if options < 3 {
			accepts(t, V311, v311)
		} else {
			refuses(t, V311, MalformedPacket, v311)
		}
	}
	for _, s := range []Subscription{{QoS: 3}, {RetainHandling: 3}} {
		s.Filter = "a"
		_, err := (&Subscribe{PacketID: 1, Subscriptions: []Subscription{s}}).Append(nil, V5)
		wantCode(t, err, ProtocolError)
	}
	for _, s := range []Subscription{{NoLocal: true}, {RetainAsPublished: true}, {RetainHandling: 1}} {
		s.Filter = "a"
		_, err := (&Subscribe{PacketID: 1, Subscriptions: []Subscription{s}}).Append(nil, V311)
		wantCode(t, err, ProtocolError)
	}
	for _, p := range []Packet{&Subscribe{PacketID: 1}, &Unsubscribe{PacketID: 1}} {
		_, err := p.Append(nil, V311)
		wantCode(t, err, ProtocolError)
	}
}

func TestD03_FilterWithoutOptions(t *testing.T) {
	refuses(t, V5, MalformedPacket, unwire(t, "82 06 0001 00 0001 'a'"))
	refuses(t, V311, MalformedPacket, unwire(t, "82 05 0001 0001 'a'"))
	refuses(t, V311, MalformedPacket, unwire(t, "82 09 0001 0001 'a' 00 0001 'a'"))
}

// Shows [MQTT-4.8.2-1] [MQTT-4.8.2-2].
func TestD06_SharedFilters(t *testing.T) {
	for _, filter := range []string{"$share//t", "$share/g", "$share/g/", "$share/", "$share/+/t", "$share/#/t", "$share/g+/t",
		"$share/g/$share/h/t", "$share/g/a#", "$share//"} {
		wantCode(t, ValidFilter(filter), TopicFilterInvalid)
		if _, _, shared := ParseShare(filter); !shared {
			t.Errorf("%q is taken for an ordinary filter", filter)
		}
	}
	for _, c := range []struct {
		filter, group, inner string
		shared               bool
	}{
		{"$share/g/t", "g", "t", true}, {"$share/g/a/+/#", "g", "a/+/#", true}, {"$share/g//", "g", "/", true},
		{"$share/ü/#", "ü", "#", true}, {"$share/g/$SYS/#", "g", "$SYS/#", true},
		{"$share", "", "$share", false}, {"$shared/g/t", "", "$shared/g/t", false}, {"a/$share/g/t", "", "a/$share/g/t", false},
		{"$SHARE/g/t", "", "$SHARE/g/t", false},
	} {
		if err := ValidFilter(c.filter); err != nil {
			t.Errorf("%q: %v", c.filter, err)
		}
		if group, inner, shared := ParseShare(c.filter); group != c.group || inner != c.inner || shared != c.shared {
			t.Errorf("%q: got %q %q %v", c.filter, group, inner, shared)
		}
	}
}

// Shows [MQTT-3.8.3-4].
func TestD07_NoLocalOnShared(t *testing.T) {
	refuses(t, V5, ProtocolError, frame(0x82, unwire(t, "0001 00 000a '$share/g/b' 04")))
	_, err := (&Subscribe{PacketID: 1, Subscriptions: []Subscription{{Filter: "$share/g/b", NoLocal: true}}}).Append(nil, V5)
	wantCode(t, err, ProtocolError)
}

func TestD10_ManyFilters(t *testing.T) {
	filters := func(n int) []byte { return bytes.Repeat(unwire(t, "0001 'a'"), n) }
	subscribe := func(n int) []byte {
		return frame(0x82, append(unwire(t, "0001"), bytes.Repeat(unwire(t, "0001 'a' 00"), n)...))
	}
	unsubscribe := func(n int) []byte { return frame(0xa2, append(unwire(t, "0001"), filters(n)...)) }
	suback := func(n int) []byte { return frame(0x90, append(unwire(t, "0001"), make([]byte, n)...)) }
	for _, packet := range []func(int) []byte{subscribe, unsubscribe, suback} {
		accepts(t, V311, packet(MaxFilters))
		refuses(t, V311, QuotaExceeded, packet(MaxFilters+1))
		refuses(t, V311, QuotaExceeded, packet(100_000))
	}
	for _, p := range []Packet{
		&Subscribe{PacketID: 1, Subscriptions: make([]Subscription, MaxFilters+1)},
		&Unsubscribe{PacketID: 1, Filters: make([]string, MaxFilters+1)},
		&Suback{PacketID: 1, Reasons: make([]ReasonCode, MaxFilters+1)},
		&Unsuback{PacketID: 1, Reasons: make([]ReasonCode, MaxFilters+1)},
	} {
		_, err := p.Append(nil, V5)
		wantCode(t, err, QuotaExceeded)
	}
}

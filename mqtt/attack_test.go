package mqtt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// The tests here are named by the rows of the project's list of attacks and bad
// inputs. Group A is bytes; B, C and D are CONNECT, PUBLISH and SUBSCRIBE.

func TestA01_RemainingLengthOfFiveBytes(t *testing.T) {
	for typ := byte(1); typ <= 15; typ++ {
		first := typ<<4 | flagsOf(Type(typ))
		for _, tail := range []string{"80 80 80 80 01", "ff ff ff ff 7f", "80 80 80 80"} {
			b := append([]byte{first}, unwire(t, tail)...)
			_, _, err := ParseHeader(b, 0)
			wantCode(t, err, MalformedPacket)
			_, _, err = NewReader(bytes.NewReader(b), 0).Next()
			wantCode(t, err, MalformedPacket)
		}
	}
}

func TestA02_HugeLengthThenSilence(t *testing.T) {
	huge := unwire(t, "10 ff ff ff 7f")
	_, _, err := NewReader(bytes.NewReader(huge), 64<<10).Next()
	wantCode(t, err, PacketTooLarge)

	// Without a limit the claim alone costs nothing, and what arrives at most
	// twice its size.
	for _, arrived := range []int{0, 1000, 100_000} {
		r := NewReader(io.MultiReader(bytes.NewReader(huge), bytes.NewReader(make([]byte, arrived))), 0)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, _, err := r.Next(); err != io.ErrUnexpectedEOF {
			t.Fatalf("got %v", err)
		}
		runtime.ReadMemStats(&after)
		if limit := max(readIdle, 2*(arrived+len(huge))); len(r.buf) > limit {
			t.Errorf("%d bytes arrived, buffer of %d, want at most %d", arrived, len(r.buf), limit)
		}
		if total := after.TotalAlloc - before.TotalAlloc; total > uint64(4*arrived+64<<10) {
			t.Errorf("%d bytes arrived, %d allocated", arrived, total)
		}
	}
}

// Shows [MQTT-1.5.5-1].
func TestA03_VariableIntegerNotShortest(t *testing.T) {
	for _, b := range []string{"c0 80 00", "30 85 80 00", "c0 80 80 80 00"} {
		_, _, err := ParseHeader(unwire(t, b), 0)
		wantCode(t, err, MalformedPacket)
	}
	refuses(t, V5, MalformedPacket, unwire(t, "30 05 0001 't' 8000"))               // property length
	refuses(t, V5, MalformedPacket, unwire(t, "82 0a 0001 03 0b 8100 0001 'a' 00")) // subscription identifier
	refuses(t, V5, MalformedPacket, unwire(t, "30 07 0001 't' 03 0b 8000"))         // the same, in PUBLISH
	refuses(t, V5, MalformedPacket, unwire(t, "30 07 0001 't' 03 8200 01"))         // property identifier
	refuses(t, V5, MalformedPacket, unwire(t, "30 0a 0001 't' 06 0b 8080808001"))   // five bytes
}

// TestA04_Truncation cuts every golden packet at every byte, once as a stream
// that ends and once as a packet whose length says so.
func TestA04_Truncation(t *testing.T) {
	forGoldens(t, func(t *testing.T, g *golden, wire []byte) {
		_, header, err := ParseHeader(wire, 0)
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(wire) {
			_, _, err := NewReader(bytes.NewReader(wire[:n]), 0).Next()
			if want := map[bool]error{true: io.EOF, false: io.ErrUnexpectedEOF}[n == 0]; err != want {
				t.Errorf("stream of %d bytes: got %v, want %v", n, err, want)
			}
		}
		body := wire[header:]
		for n := range len(body) {
			legal := slices.Contains(g.cuts, n) || g.cutsTo != 0 && n >= g.cutsTo
			cut := frame(wire[0], slices.Clone(body[:n]))
			p, err := decodeFrame(cut, g.v)
			switch {
			case legal && err != nil:
				t.Errorf("body of %d bytes is a packet of its own: %v", n, err)
			case legal:
				if again := mustAppend(t, p, g.v); len(again) > len(cut) {
					t.Errorf("body of %d bytes: invented % x", n, again)
				}
			case err == nil:
				t.Errorf("body cut to %d bytes accepted as %+v", n, p)
			default:
				var e *Error
				if !errors.As(err, &e) || e.Code != MalformedPacket && e.Code != ProtocolError {
					t.Errorf("body cut to %d bytes: %v", n, err)
				}
			}
		}
	})
}

func TestA05_LengthBeyondTheData(t *testing.T) {
	src, feed := io.Pipe()
	r := NewReader(src, 0)
	go func() {
		defer feed.Close()
		for _, part := range []string{"30", "07", "0003 'a'", "'/b' 'h'", "'i' c0"} {
			if _, err := feed.Write(unwire(t, part)); err != nil {
				return
			}
		}
	}()
	h, body, err := r.Next()
	if err != nil || h != (Header{TypePublish, 0, 7}) || string(body) != "\x00\x03a/bhi" {
		t.Fatalf("got %+v %q %v", h, body, err)
	}
	if cap(body) != len(body) {
		t.Error("body gives access to the bytes after it")
	}
	if _, _, err := r.Next(); err != io.ErrUnexpectedEOF {
		t.Errorf("got %v, want io.ErrUnexpectedEOF", err)
	}
}

func TestA06_TrailingBytes(t *testing.T) {
	forGoldens(t, func(t *testing.T, g *golden, wire []byte) {
		_, n, err := ParseHeader(wire, 0)
		if err != nil {
			t.Fatal(err)
		}
		long := frame(wire[0], append(slices.Clone(wire[n:]), 0xFE))
		switch p := g.packet.(type) {
		case *Publish:
			return // the payload is whatever is left
		case *Suback, *Unsuback:
			if u, ok := p.(*Unsuback); !ok || u.Reasons != nil {
				if _, err := decodeFrame(long, g.v); err == nil {
					t.Error("accepted an unlisted code")
				}
				return
			}
		case *Ack:
			if g.v == V5 && p.Reason == Success && p.ReasonString == "" {
				refuses(t, g.v, ProtocolError, long) // the byte is a code, not a listed one
				return
			}
		case *Disconnect:
			if g.v == V5 && len(wire) == 2 {
				refuses(t, g.v, ProtocolError, long)
				return
			}
		}
		refuses(t, g.v, MalformedPacket, long)
	})
}

func TestA07_InnerLengthBeyondThePacket(t *testing.T) {
	for _, c := range []struct {
		v     Version
		first byte
		body  string
	}{
		{V311, 0x10, "0004 'MQTT' 04 02 0000 0003 'ab'"}, {V311, 0x10, "000c 'MQTT' 04 02 0000"},
		{V5, 0x10, "0004 'MQTT' 05 00 0000 05 0000"}, {V5, 0x10, "0004 'MQTT' 05 40 0000 00 0000 ffff 'k'"},
		{V5, 0x30, "0002 't'"}, {V311, 0x30, "ffff 't'"}, {V5, 0x30, "0001 't' 04 23 0009"},
		{V5, 0x30, "0001 't' 04 03 ffff 't'"}, {V5, 0x30, "0001 't' 04 09 0002 'x'"},
		{V5, 0x82, "0001 ffffff7f 00"}, {V311, 0x82, "0001 0002 'a'"}, {V311, 0xa2, "0001 0002 'a'"},
		{V5, 0x20, "00 00 7f 1f 0000"}, {V5, 0x20, "00 80 03 1f 0001"},
		{V5, 0xf0, "18 05 15 0004 'M' 16"}, {V5, 0xe0, "80 03 1f 0001"},
	} {
		refuses(t, c.v, MalformedPacket, frame(c.first, unwire(t, c.body)))
	}
}

func TestA10_TypesThatDoNotExist(t *testing.T) {
	_, _, err := ParseHeader([]byte{0x00, 0x00}, 0)
	wantCode(t, err, MalformedPacket)
	_, err = DecodePacket(Header{}, nil, V5)
	wantCode(t, err, MalformedPacket)
	if NewPacket(0) != nil || NewPacket(16) != nil {
		t.Error("NewPacket made a packet of no type")
	}
	for _, wire := range []string{"f0 00", "f0 06 18 04 15 0001 'M'"} {
		refuses(t, V311, MalformedPacket, unwire(t, wire))
	}
	if _, err := (&Auth{Method: "M"}).Append(nil, V311); err == nil {
		t.Error("AUTH encoded for 3.1.1")
	}
}

// Shows [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1]
// [MQTT-3.15.1-1] [MQTT-2.2.2-1 v3.1.1] [MQTT-2.2.2-2 v3.1.1].
func TestA11_WrongFlags(t *testing.T) {
	for typ := TypeConnect; typ <= TypeAuth; typ++ {
		if typ == TypePublish {
			continue // its flags are C01
		}
		for flags := byte(0); flags < 16; flags++ {
			_, _, err := ParseHeader([]byte{byte(typ)<<4 | flags, 0}, 0)
			if right := flags == flagsOf(typ); right != (err == nil) {
				t.Errorf("%v with flags %04b: %v", typ, flags, err)
			} else if !right {
				wantCode(t, err, MalformedPacket)
			}
		}
	}
	// Decode stands alone too.
	forGoldens(t, func(t *testing.T, g *golden, wire []byte) {
		h, n, err := ParseHeader(wire, 0)
		if err != nil {
			t.Fatal(err)
		}
		h.Flags |= 0b0110 // QoS 3 in PUBLISH, wrong everywhere else
		wantCode(t, NewPacket(h.Type).Decode(h, wire[n:], g.v), MalformedPacket)
		wantCode(t, (&Pingreq{}).Decode(Header{Type: TypeConnect}, nil, g.v), MalformedPacket)
	})
}

// Shows [MQTT-2.2.1-3] [MQTT-2.2.1-4] [MQTT-2.3.1-1 v3.1.1].
func TestA12_PacketIdentifierZero(t *testing.T) {
	for _, v := range []Version{V311, V5} {
		for _, wire := range []string{"40 02 0000", "50 02 0000", "62 02 0000", "70 02 0000"} {
			refuses(t, v, ProtocolError, unwire(t, wire))
		}
	}
	refuses(t, V5, ProtocolError, unwire(t, "32 06 0001 't' 0000 00"))
	refuses(t, V311, ProtocolError, unwire(t, "34 05 0001 't' 0000"))
	refuses(t, V5, ProtocolError, unwire(t, "82 07 0000 00 0001 'a' 00"))
	refuses(t, V311, ProtocolError, unwire(t, "a2 05 0000 0001 'a'"))
	refuses(t, V5, ProtocolError, unwire(t, "90 04 0000 00 00"))
	refuses(t, V311, ProtocolError, unwire(t, "b0 02 0000"))
}

// textFields is every place of a packet that holds text, with the text at @@.
var textFields = []struct {
	name  string
	v     Version
	first byte
	body  string
}{
	{"client id 3.1.1", V311, 0x10, "0004 'MQTT' 04 02 0000 @@"},
	{"user name 3.1.1", V311, 0x10, "0004 'MQTT' 04 82 0000 0000 @@"},
	{"will topic 3.1.1", V311, 0x10, "0004 'MQTT' 04 06 0000 0000 @@ 0000"},
	{"topic 3.1.1", V311, 0x30, "@@"},
	{"filter 3.1.1", V311, 0x82, "0001 @@ 00"},
	{"unsubscribe filter 3.1.1", V311, 0xa2, "0001 @@"},
	{"client id", V5, 0x10, "0004 'MQTT' 05 02 0000 00 @@"},
	{"user name", V5, 0x10, "0004 'MQTT' 05 82 0000 00 0000 @@"},
	{"will topic", V5, 0x10, "0004 'MQTT' 05 06 0000 00 0000 00 @@ 0000"},
	{"will content type", V5, 0x10, "0004 'MQTT' 05 06 0000 00 0000 [03 @@] 0001 't' 0000"},
	{"will response topic", V5, 0x10, "0004 'MQTT' 05 06 0000 00 0000 [08 @@] 0001 't' 0000"},
	{"will user name", V5, 0x10, "0004 'MQTT' 05 06 0000 00 0000 [26 @@ 0000] 0001 't' 0000"},
	{"will user value", V5, 0x10, "0004 'MQTT' 05 06 0000 00 0000 [26 0000 @@] 0001 't' 0000"},
	{"auth method", V5, 0x10, "0004 'MQTT' 05 02 0000 [15 @@] 0000"},
	{"connect user value", V5, 0x10, "0004 'MQTT' 05 02 0000 [26 0000 @@] 0000"},
	{"assigned id", V5, 0x20, "00 00 [12 @@]"},
	{"response info", V5, 0x20, "00 00 [1a @@]"},
	{"server reference", V5, 0x20, "00 9c [1c @@]"},
	{"connack reason string", V5, 0x20, "00 80 [1f @@]"},
	{"connack auth method", V5, 0x20, "00 00 [15 @@]"},
	{"topic", V5, 0x30, "@@ 00"},
	{"content type", V5, 0x30, "0001 't' [03 @@]"},
	{"response topic", V5, 0x30, "0001 't' [08 @@]"},
	{"user name of publish", V5, 0x30, "0001 't' [26 @@ 0000]"},
	{"user value of publish", V5, 0x30, "0001 't' [26 0000 @@]"},
	{"puback reason string", V5, 0x40, "0001 80 [1f @@]"},
	{"filter", V5, 0x82, "0001 00 @@ 00"},
	{"subscribe user name", V5, 0x82, "0001 [26 @@ 0000] 0001 'a' 00"},
	{"suback reason string", V5, 0x90, "0001 [1f @@] 00"},
	{"unsubscribe filter", V5, 0xa2, "0001 00 @@"},
	{"unsubscribe user value", V5, 0xa2, "0001 [26 0000 @@] 0001 'a'"},
	{"unsuback reason string", V5, 0xb0, "0001 [1f @@] 00"},
	{"disconnect reason string", V5, 0xe0, "80 [1f @@]"},
	{"disconnect server reference", V5, 0xe0, "9d [1c @@]"},
	{"auth packet method", V5, 0xf0, "18 [15 @@]"},
	{"auth reason string", V5, 0xf0, "18 [15 0001 'M' 1f @@]"},
}

// fill puts text into the template of textFields and counts the bracketed
// property list.
func fill(t testing.TB, body, text string) []byte {
	body = strings.ReplaceAll(body, "@@", fmt.Sprintf("%04x %x", len(text), text))
	if before, rest, ok := strings.Cut(body, "["); ok {
		list, after, _ := strings.Cut(rest, "]")
		b := unwire(t, list)
		return slices.Concat(unwire(t, before), appendVarint(nil, len(b)), b, unwire(t, after))
	}
	return unwire(t, body)
}

// Shows [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.7-1] [MQTT-3.1.3-4] [MQTT-3.1.3-11]
// [MQTT-3.1.3-12] [MQTT-3.3.2-1] [MQTT-3.3.2-13] [MQTT-3.3.2-19] [MQTT-3.8.3-1] [MQTT-3.10.3-1]
// [MQTT-4.7.3-2] [MQTT-3.1.3-11 v3.1.1] [MQTT-3.1.3-10 v3.1.1].
func TestA13_TextThatIsNotUTF8(t *testing.T) {
	bad := map[string]string{
		"lone continuation": "\x80", "cut short": "ab\xe2\x82", "surrogate": "\xed\xa0\x80", "surrogate pair": "\xed\xa0\xbd\xed\xb2\xa9",
		"overlong slash": "\xc0\xaf", "overlong NUL": "\xc0\x80", "above U+10FFFF": "\xf4\x90\x80\x80", "0xFF": "\xff",
		"NUL": "a\x00b", "NUL in the ninth place": "abcdefgh\x00", "NUL after others": "€€€\x00", "late": "abcdefghijk\xff",
	}
	for _, f := range textFields {
		for name, text := range bad {
			t.Run(f.name+"/"+name, func(t *testing.T) {
				refuses(t, f.v, MalformedPacket, frame(f.first, fill(t, f.body, text)))
			})
		}
		t.Run(f.name+"/good", func(t *testing.T) {
			accepts(t, f.v, frame(f.first, fill(t, f.body, "ü€😀 good")))
		})
	}
	wantCode(t, ValidTopic("a\xff"), MalformedPacket)
	wantCode(t, ValidFilter("a\x00"), MalformedPacket)
}

// TestA14_ControlCharacters shows the one rule: they are characters like any
// other, in every field, and come back as they were.
func TestA14_ControlCharacters(t *testing.T) {
	for _, text := range []string{"\x01", "a\nb", "\x1f\x7f", "\u0080\u009f", "\ufffe\uffff", "\U0010ffff", "\ufdd0"} {
		for _, f := range textFields {
			wire := frame(f.first, fill(t, f.body, text))
			p := accepts(t, f.v, wire)
			if again := mustAppend(t, p, f.v); !bytes.Contains(again, []byte(text)) {
				t.Errorf("%s: %q was lost", f.name, text)
			}
		}
	}
}

// Shows [MQTT-1.5.4-3].
func TestA15_ByteOrderMark(t *testing.T) {
	p := accepts(t, V5, unwire(t, "30 09 0006 efbbbf 'a/b' 00")).(*Publish)
	if string(p.Topic) != "\ufeffa/b" {
		t.Errorf("topic is %q", p.Topic)
	}
	if Match("a/b", string(p.Topic)) || !Match("\ufeffa/b", string(p.Topic)) {
		t.Error("U+FEFF is not matched literally")
	}
}

// propertySamples is a legal value for every property.
var propertySamples = map[propertyID]string{
	propPayloadFormat: "01", propMessageExpiry: "00000001", propContentType: "0001 'c'", propResponseTopic: "0001 'r'",
	propCorrelationData: "0001 00", propSubscriptionID: "01", propSessionExpiry: "00000001", propAssignedClientID: "0001 'i'",
	propServerKeepAlive: "0001", propAuthMethod: "0001 'M'", propAuthData: "0001 00", propRequestProblemInfo: "01",
	propWillDelay: "00000001", propRequestResponseInfo: "01", propResponseInfo: "0001 'i'", propServerReference: "0001 's'",
	propReasonString: "0001 'w'", propReceiveMaximum: "0001", propTopicAliasMaximum: "0001", propTopicAlias: "0001",
	propMaximumQoS: "01", propRetainAvailable: "01", propUser: "0001 'k' 0001 'v'", propMaximumPacketSize: "00000001",
	propWildcards: "01", propSubscriptionIDs: "01", propShared: "01",
}

// propertyHosts is every property list: the packet around it, and which
// properties the standard's table 2-4 lets in.
var propertyHosts = []struct {
	name         string
	first        byte
	before, rest string
	needs        string // the authentication method, where authentication data may follow
	allowed      []propertyID
}{
	{"CONNECT", 0x10, "0004 'MQTT' 05 02 0000", "0000", "15 0001 'M'", []propertyID{0x11, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27}},
	{"will", 0x10, "0004 'MQTT' 05 06 0000 00 0000", "0001 't' 0000", "", []propertyID{0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26}},
	{"CONNACK", 0x20, "00 00", "", "15 0001 'M'", []propertyID{0x11, 0x12, 0x13, 0x16, 0x1a, 0x1c, 0x1f, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a}},
	{"PUBLISH", 0x30, "0001 't'", "", "", []propertyID{0x01, 0x02, 0x03, 0x08, 0x09, 0x0b, 0x23, 0x26}},
	{"PUBACK", 0x40, "0001 00", "", "", []propertyID{0x1f, 0x26}},
	{"PUBREC", 0x50, "0001 00", "", "", []propertyID{0x1f, 0x26}},
	{"PUBREL", 0x62, "0001 00", "", "", []propertyID{0x1f, 0x26}},
	{"PUBCOMP", 0x70, "0001 00", "", "", []propertyID{0x1f, 0x26}},
	{"SUBSCRIBE", 0x82, "0001", "0001 'a' 00", "", []propertyID{0x0b, 0x26}},
	{"SUBACK", 0x90, "0001", "00", "", []propertyID{0x1f, 0x26}},
	{"UNSUBSCRIBE", 0xa2, "0001", "0001 'a'", "", []propertyID{0x26}},
	{"UNSUBACK", 0xb0, "0001", "00", "", []propertyID{0x1f, 0x26}},
	{"DISCONNECT", 0xe0, "00", "", "", []propertyID{0x11, 0x1c, 0x1f, 0x26}},
	{"AUTH", 0xf0, "18", "", "15 0001 'M'", []propertyID{0x16, 0x1f, 0x26}},
}

func TestA16_PropertiesWhereTheyMayNotBe(t *testing.T) {
	for _, host := range propertyHosts {
		packet := func(list string) []byte {
			b := unwire(t, host.needs+" "+list)
			return frame(host.first, slices.Concat(unwire(t, host.before), appendVarint(nil, len(b)), b, unwire(t, host.rest)))
		}
		for n := range 256 {
			id := propertyID(n)
			property := fmt.Sprintf("%02x %s", n, propertySamples[id])
			switch {
			case slices.Contains(host.allowed, id):
				accepts(t, V5, packet(property))
				twice := packet(property + " " + property)
				if id == propUser || id == propSubscriptionID && host.name == "PUBLISH" {
					accepts(t, V5, twice)
				} else {
					refuses(t, V5, ProtocolError, twice)
				}
			case id == propAuthMethod && host.needs != "":
				refuses(t, V5, ProtocolError, packet(property)) // it is there already
			default:
				refuses(t, V5, MalformedPacket, packet(property))
			}
		}
	}
	for _, host := range propertyHosts {
		if host.needs != "" {
			data := unwire(t, "04 16 0001 00") // without the method
			refuses(t, V5, ProtocolError, frame(host.first, slices.Concat(unwire(t, host.before), data, unwire(t, host.rest))))
		}
	}
	refuses(t, V5, ProtocolError, unwire(t, "f0 00")) // AUTH without its method
	refuses(t, V5, BadAuthenticationMethod, unwire(t, "10 10 0004 'MQTT' 05 02 0000 03 15 0000 0000"))
}

func TestA17_ZeroWhereForbidden(t *testing.T) {
	connect := func(list string) []byte { return frame(0x10, fill(t, "0004 'MQTT' 05 02 0000 ["+list+"] 0000", "")) }
	connack := func(list string) []byte { return frame(0x20, fill(t, "00 00 ["+list+"]", "")) }
	for _, list := range []string{"21 0000", "27 00000000", "17 02", "19 02"} {
		refuses(t, V5, ProtocolError, connect(list))
	}
	for _, list := range []string{"21 0000", "27 00000000", "24 02", "25 02", "28 02", "29 ff", "2a 02"} {
		refuses(t, V5, ProtocolError, connack(list))
	}
	refuses(t, V5, ProtocolError, unwire(t, "82 09 0001 02 0b 00 0001 'a' 00"))
	refuses(t, V5, ProtocolError, unwire(t, "30 06 0001 't' 02 0b 00"))
	refuses(t, V5, ProtocolError, unwire(t, "30 06 0001 't' 02 01 02"))
	refuses(t, V5, TopicAliasInvalid, unwire(t, "30 07 0001 't' 03 23 0000"))
	refuses(t, V5, TopicAliasInvalid, unwire(t, "30 06 0000 03 23 0000"))
}

func TestA18_TenThousandUserProperties(t *testing.T) {
	many := func(n int) []byte { return bytes.Repeat(unwire(t, "26 0000 0000"), n) }
	for _, host := range propertyHosts {
		packet := func(n int) []byte {
			list := append(unwire(t, host.needs), many(n)...)
			return frame(host.first, slices.Concat(unwire(t, host.before), appendVarint(nil, len(list)), list, unwire(t, host.rest)))
		}
		accepts(t, V5, packet(MaxUserProperties))
		refuses(t, V5, QuotaExceeded, packet(MaxUserProperties+1))
		refuses(t, V5, QuotaExceeded, packet(10_000))
	}
	if _, err := (&Publish{Topic: []byte("t"), User: make([]BorrowedProperty, MaxUserProperties+1)}).Append(nil, V5); err == nil {
		t.Error("encoded more user properties than may be decoded")
	}
	if _, err := (&Disconnect{User: make([]UserProperty, MaxUserProperties+1)}).Append(nil, V5); err == nil {
		t.Error("encoded more user properties than may be decoded")
	}
	ids := func(n int) []byte {
		list := bytes.Repeat([]byte{byte(propSubscriptionID), 1}, n)
		return frame(0x30, slices.Concat(unwire(t, "0001 't'"), appendVarint(nil, len(list)), list))
	}
	accepts(t, V5, ids(MaxSubscriptionIDs))
	refuses(t, V5, QuotaExceeded, ids(MaxSubscriptionIDs+1))
	_, err := (&Publish{Topic: []byte("t"), SubscriptionIDs: make([]uint32, MaxSubscriptionIDs+1)}).Append(nil, V5)
	wantCode(t, err, QuotaExceeded)
}

// TestA19_AnySplit reads the goldens of a version as one stream, split in many
// ways, and wants the same packets.
// Shows [MQTT-6.0.0-2].
func TestA19_AnySplit(t *testing.T) {
	for _, v := range []Version{V311, V5} {
		var stream []byte
		var frames [][]byte
		for i := range goldens {
			if goldens[i].v == v {
				frames = append(frames, unwire(t, goldens[i].wire))
				stream = append(stream, frames[len(frames)-1]...)
			}
		}
		for size := 1; size <= len(stream); size++ {
			r := NewReader(&chunks{data: stream, sizes: []int{size}}, 0)
			for i, want := range frames {
				h, body, err := r.Next()
				if err != nil {
					t.Fatalf("chunks of %d, packet %d: %v", size, i, err)
				}
				if got := frame(byte(h.Type)<<4|h.Flags, slices.Clone(body)); !bytes.Equal(got, want) {
					t.Fatalf("chunks of %d, packet %d: got % x, want % x", size, i, got, want)
				}
			}
			if _, _, err := r.Next(); err != io.EOF {
				t.Fatalf("chunks of %d: got %v at the end", size, err)
			}
		}
	}
}

// chunks is a source that returns its data in pieces of the given sizes, over
// and over.
type chunks struct {
	data  []byte
	sizes []int
	next  int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.sizes[c.next%len(c.sizes)])], c.data)
	c.data = c.data[n:]
	c.next++
	return n, nil
}

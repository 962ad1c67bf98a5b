package mqtt

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// golden is a packet and its exact bytes.
type golden struct {
	name   string
	v      Version
	wire   string
	packet Packet
	cuts   []int // lengths at which the cut body is a packet of its own
	cutsTo int   // every length from here on is: a payload or a list of codes ends the packet
}

var goldens = []golden{
	{name: "connect smallest", v: V311, wire: "10 0c 0004 'MQTT' 04 02 0000 0000",
		packet: &Connect{Version: V311, CleanStart: true}},
	{name: "connect full", v: V311,
		wire: "10 29 0004 'MQTT' 04 ee 003c 0006 'device' 0004 'gone' 0003 'bye' 0004 'user' 0004 'pass'",
		packet: &Connect{Version: V311, CleanStart: true, KeepAlive: 60, ClientID: "device",
			Will:        &Will{Topic: "gone", Payload: []byte("bye"), QoS: 1, Retain: true},
			HasUsername: true, Username: "user", HasPassword: true, Password: []byte("pass")}},
	{name: "connect smallest", v: V5, wire: "10 0d 0004 'MQTT' 05 00 0000 00 0000",
		packet: &Connect{Version: V5}},
	{name: "connect password alone", v: V5, wire: "10 12 0004 'MQTT' 05 40 0000 00 0000 0003 'key'",
		packet: &Connect{Version: V5, HasPassword: true, Password: []byte("key")}},
	{name: "connect full", v: V5,
		wire: "10 76 0004 'MQTT' 05 f6 012c 2f 11 00000e10 21 0014 27 00010000 22 000a 19 01 17 00" +
			" 15 0005 'SCRAM' 16 0002 0102 26 0001 'a' 0001 'b' 26 0001 'a' 0001 'c'" +
			" 0001 'c'" +
			" 27 18 0000001e 01 01 02 0000003c 03 0004 'text' 08 0005 'reply' 09 0002 'id' 26 0001 'k' 0001 'v'" +
			" 0004 'w/ll' 0003 'bye' 0001 'u' 0001 'p'",
		packet: &Connect{Version: V5, CleanStart: true, KeepAlive: 300, ClientID: "c",
			SessionExpirySeconds: 3600, ReceiveMaximum: 20, MaximumPacketSize: 65536, TopicAliasMaximum: 10,
			RequestResponseInfo: true, NoProblemInfo: true, AuthMethod: "SCRAM", AuthData: []byte{1, 2},
			User: []UserProperty{{"a", "b"}, {"a", "c"}},
			Will: &Will{Topic: "w/ll", Payload: []byte("bye"), QoS: 2, Retain: true, DelaySeconds: 30,
				PayloadUTF8: true, HasExpiry: true, ExpirySeconds: 60, ContentType: "text",
				ResponseTopic: "reply", CorrelationData: []byte("id"), User: []UserProperty{{"k", "v"}}},
			HasUsername: true, Username: "u", HasPassword: true, Password: []byte("p")}},

	{name: "connack", v: V311, wire: "20 02 01 00", packet: &Connack{SessionPresent: true}},
	{name: "connack refused", v: V311, wire: "20 02 00 05", packet: &Connack{Reason: NotAuthorized}},
	{name: "connack", v: V5, wire: "20 03 00 00 00", packet: &Connack{}},
	{name: "connack refused", v: V5, wire: "20 12 00 9c 0f 1f 0003 'why' 1c 0006 'host:1'",
		packet: &Connack{Reason: UseAnotherServer, ReasonString: "why", ServerReference: "host:1"}},
	{name: "connack full", v: V5,
		wire: "20 4b 01 00 48 11 00000000 21 000a 24 01 25 00 27 00001000 12 0002 'id' 22 0005 1f 0002 'hi'" +
			" 26 0001 'k' 0001 'v' 28 00 29 00 2a 00 13 0000 1a 0004 'info' 1c 0004 'host' 15 0005 'SCRAM' 16 0001 ff",
		packet: &Connack{SessionPresent: true, HasSessionExpiry: true, ReceiveMaximum: 10, HasMaximumQoS: true,
			MaximumQoS: 1, NoRetain: true, MaximumPacketSize: 4096, AssignedClientID: "id", TopicAliasMaximum: 5,
			ReasonString: "hi", User: []UserProperty{{"k", "v"}}, NoWildcards: true, NoSubscriptionIDs: true,
			NoSharedSubscriptions: true, HasServerKeepAlive: true, ResponseInfo: "info", ServerReference: "host",
			AuthMethod: "SCRAM", AuthData: []byte{0xff}}},

	{name: "publish qos 0", v: V311, wire: "30 07 0003 'a/b' 'hi'",
		packet: &Publish{Topic: []byte("a/b"), Payload: []byte("hi")}, cutsTo: 5},
	{name: "publish qos 2", v: V311, wire: "3d 07 0001 't' 0102 'hi'",
		packet: &Publish{Topic: []byte("t"), Payload: []byte("hi"), PacketID: 0x102, QoS: 2, Dup: true, Retain: true},
		cutsTo: 5},
	{name: "publish qos 1", v: V5, wire: "32 08 0001 't' 0007 00 'hi'",
		packet: &Publish{Topic: []byte("t"), Payload: []byte("hi"), PacketID: 7, QoS: 1}, cutsTo: 6},
	{name: "publish empty payload", v: V5, wire: "31 04 0001 't' 00",
		packet: &Publish{Topic: []byte("t"), Retain: true}, cutsTo: 4},
	{name: "publish alias only", v: V5, wire: "30 07 0000 03 23 0009 'x'",
		packet: &Publish{Payload: []byte("x"), TopicAlias: 9}, cutsTo: 6},
	{name: "publish full", v: V5,
		wire: "34 39 0001 't' 0001 32 02 00000000 23 ffff 0b 01 0b ffffff7f 01 01 03 0000 08 0003 'r/t' 09 0000" +
			" 26 0001 'k' 0001 'v' 26 0001 'k' 0003 '€' 26 0000 0000 'p'",
		packet: &Publish{Topic: []byte("t"), PacketID: 1, QoS: 2, HasExpiry: true, TopicAlias: 65535,
			SubscriptionIDs: []uint32{1, 268435455}, PayloadUTF8: true, ContentType: []byte{},
			ResponseTopic: []byte("r/t"), HasCorrelation: true, CorrelationData: []byte{},
			User: []BorrowedProperty{{[]byte("k"), []byte("v")}, {[]byte("k"), []byte("€")}, {[]byte{}, []byte{}}}, Payload: []byte("p")},
		cutsTo: 56},

	{name: "puback", v: V311, wire: "40 02 0001", packet: &Ack{Kind: TypePuback, PacketID: 1}},
	{name: "pubrec", v: V311, wire: "50 02 ffff", packet: &Ack{Kind: TypePubrec, PacketID: 65535}},
	{name: "pubrel", v: V311, wire: "62 02 0001", packet: &Ack{Kind: TypePubrel, PacketID: 1}},
	{name: "pubcomp", v: V311, wire: "70 02 0001", packet: &Ack{Kind: TypePubcomp, PacketID: 1}},
	{name: "puback", v: V5, wire: "40 02 0001", packet: &Ack{Kind: TypePuback, PacketID: 1}},
	{name: "puback code", v: V5, wire: "40 03 0001 10", cuts: []int{2},
		packet: &Ack{Kind: TypePuback, PacketID: 1, Reason: NoMatchingSubscribers}},
	{name: "pubrec code", v: V5, wire: "50 03 0001 97", cuts: []int{2},
		packet: &Ack{Kind: TypePubrec, PacketID: 1, Reason: QuotaExceeded}},
	{name: "pubrel code", v: V5, wire: "62 03 0001 92", cuts: []int{2},
		packet: &Ack{Kind: TypePubrel, PacketID: 1, Reason: PacketIdentifierNotFound}},
	{name: "pubcomp full", v: V5, wire: "70 11 0001 00 0d 1f 0003 'why' 26 0001 'k' 0001 'v'", cuts: []int{2, 3},
		packet: &Ack{Kind: TypePubcomp, PacketID: 1, ReasonString: "why", User: []UserProperty{{"k", "v"}}}},

	{name: "subscribe", v: V311, wire: "82 0c 0001 0001 'a' 00 0003 'b/#' 02", cuts: []int{6},
		packet: &Subscribe{PacketID: 1, Subscriptions: []Subscription{{Filter: "a"}, {Filter: "b/#", QoS: 2}}}},
	{name: "subscribe", v: V5, wire: "82 20 000a 0a 0b 8001 26 0001 'k' 0001 'v' 0003 '+/a' 2d 000a '$share/g/b' 18", cuts: []int{19},
		packet: &Subscribe{PacketID: 10, SubscriptionID: 128, User: []UserProperty{{"k", "v"}},
			Subscriptions: []Subscription{{Filter: "+/a", QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: 2},
				{Filter: "$share/g/b", RetainAsPublished: true, RetainHandling: 1}}}},
	{name: "suback", v: V311, wire: "90 06 0001 00 01 02 80", cutsTo: 3,
		packet: &Suback{PacketID: 1, Reasons: []ReasonCode{0, 1, 2, 0x80}}},
	{name: "suback", v: V5, wire: "90 0c 0001 06 1f 0003 'why' 02 9e a2", cutsTo: 10,
		packet: &Suback{PacketID: 1, ReasonString: "why",
			Reasons: []ReasonCode{GrantedQoS2, SharedSubscriptionsNotSupported, WildcardSubscriptionsNotSupported}}},
	{name: "unsubscribe", v: V311, wire: "a2 08 0001 0001 'a' 0001 'b'", cuts: []int{5},
		packet: &Unsubscribe{PacketID: 1, Filters: []string{"a", "b"}}},
	{name: "unsubscribe", v: V5, wire: "a2 0d 0001 07 26 0001 'k' 0001 'v' 0001 '#'",
		packet: &Unsubscribe{PacketID: 1, User: []UserProperty{{"k", "v"}}, Filters: []string{"#"}}},
	{name: "unsuback", v: V311, wire: "b0 02 0001", packet: &Unsuback{PacketID: 1}},
	{name: "unsuback", v: V5, wire: "b0 0c 0001 07 26 0001 'k' 0001 'v' 11 91", cutsTo: 11,
		packet: &Unsuback{PacketID: 1, User: []UserProperty{{"k", "v"}},
			Reasons: []ReasonCode{NoSubscriptionExisted, PacketIdentifierInUse}}},

	{name: "pingreq", v: V311, wire: "c0 00", packet: &Pingreq{}},
	{name: "pingreq", v: V5, wire: "c0 00", packet: &Pingreq{}},
	{name: "pingresp", v: V311, wire: "d0 00", packet: &Pingresp{}},
	{name: "pingresp", v: V5, wire: "d0 00", packet: &Pingresp{}},
	{name: "disconnect", v: V311, wire: "e0 00", packet: &Disconnect{}},
	{name: "disconnect", v: V5, wire: "e0 00", packet: &Disconnect{}},
	{name: "disconnect code", v: V5, wire: "e0 01 8e", packet: &Disconnect{Reason: SessionTakenOver}, cuts: []int{0}},
	{name: "disconnect full", v: V5, wire: "e0 19 9d 17 11 ffffffff 1c 0001 's' 1f 0003 'why' 26 0001 'k' 0002 'v~'", cuts: []int{0, 1},
		packet: &Disconnect{Reason: ServerMoved, HasSessionExpiry: true, SessionExpirySeconds: 0xffffffff,
			ServerReference: "s", ReasonString: "why", User: []UserProperty{{"k", "v "}}}},
	{name: "auth", v: V5, wire: "f0 09 19 07 15 0001 'M' 16 0000", packet: &Auth{Reason: ReAuthenticate, Method: "M", Data: []byte{}}},
	{name: "auth full", v: V5, wire: "f0 17 18 15 15 0001 'M' 16 0001 00 1f 0003 'why' 26 0001 'k' 0001 'v'", packet: &Auth{Reason: ContinueAuthentication, Method: "M", Data: []byte{0}, ReasonString: "why",
		User: []UserProperty{{"k", "v"}}}},
}

// forGoldens runs f on each golden packet in its own subtest.
func forGoldens(t *testing.T, f func(t *testing.T, g *golden, wire []byte)) {
	t.Helper()
	for i := range goldens {
		g := &goldens[i]
		t.Run(fmt.Sprintf("v%d %s", g.v, g.name), func(t *testing.T) { f(t, g, unwire(t, g.wire)) })
	}
}

// Shows [MQTT-2.2.1-2] [MQTT-2.2.2-1] [MQTT-3.1.3-1] [MQTT-3.1.3-3] [MQTT-3.1.2-16]
// [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.2.2-1] [MQTT-2.3.1-5 v3.1.1].
func TestGoldenEncode(t *testing.T) {
	forGoldens(t, func(t *testing.T, g *golden, wire []byte) {
		if got := mustAppend(t, g.packet, g.v); !bytes.Equal(got, wire) {
			t.Errorf("\n got % x\nwant % x", got, wire)
		}
	})
}

func TestGoldenDecode(t *testing.T) {
	forGoldens(t, func(t *testing.T, g *golden, wire []byte) {
		if got := accepts(t, g.v, wire); !same(got, g.packet) {
			t.Errorf("\n got %+v\nwant %+v", got, g.packet)
		}
	})
}

// TestDecodeSetsEveryField decodes each golden into a packet that is full of
// something else.
func TestDecodeSetsEveryField(t *testing.T) {
	full := map[Type]Packet{}
	for i := range goldens {
		wire := unwire(t, goldens[i].wire)
		p := NewPacket(typeOf(wire))
		if prev := full[typeOf(wire)]; prev != nil {
			p = prev
		}
		full[typeOf(wire)] = p
		h, n, err := ParseHeader(wire, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Decode(h, wire[n:], goldens[i].v); err != nil {
			t.Fatal(err)
		}
		if !same(p, goldens[i].packet) {
			t.Errorf("%s: after reuse\n got %+v\nwant %+v", goldens[i].name, p, goldens[i].packet)
		}
	}
}

func TestGoldensCoverEveryType(t *testing.T) {
	for _, v := range []Version{V311, V5} {
		for typ := TypeConnect; typ <= TypeAuth; typ++ {
			covered := slices.ContainsFunc(goldens, func(g golden) bool {
				return g.v == v && typeOf(unwire(t, g.wire)) == typ
			})
			if !covered && !(v == V311 && typ == TypeAuth) {
				t.Errorf("no golden for %v of version %d", typ, v)
			}
		}
	}
}

// TestAppendGrowsOnce holds Append to its exact size.
func TestAppendGrowsOnce(t *testing.T) {
	forGoldens(t, func(t *testing.T, g *golden, wire []byte) {
		dst := make([]byte, 0, len(wire))
		out, err := g.packet.Append(dst, g.v)
		if err != nil {
			t.Fatal(err)
		}
		if &out[0] != &dst[:1][0] {
			t.Error("Append grew a buffer that was large enough")
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = g.packet.Append(dst, g.v) }); n != 0 {
			t.Errorf("Append allocates %v times with room in the buffer", n)
		}
	})
}

// TestAppendRefusesBadText puts text that Decode would refuse into each text
// field of each golden packet in turn.
func TestAppendRefusesBadText(t *testing.T) {
	binary := []string{"Payload", "CorrelationData", "Password", "AuthData", "Data", "Reasons", "SubscriptionIDs"}
	fields := 0
	var try func(t *testing.T, g *golden, root Packet, v reflect.Value)
	try = func(t *testing.T, g *golden, root Packet, v reflect.Value) {
		refused := func(bad reflect.Value) {
			old := reflect.ValueOf(v.Interface())
			v.Set(bad)
			if out, err := root.Append([]byte("x"), g.v); err == nil || string(out) != "x" {
				t.Errorf("%+v: encoded", root)
			}
			v.Set(old)
			fields++
		}
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				try(t, g, root, v.Elem())
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if !slices.Contains(binary, v.Type().Field(i).Name) {
					try(t, g, root, v.Field(i))
				}
			}
		case reflect.String:
			refused(reflect.ValueOf("a\xff"))
			refused(reflect.ValueOf("a\x00"))
			refused(reflect.ValueOf(strings.Repeat("x", 65536)))
		case reflect.Slice:
			if v.Type().Elem().Kind() == reflect.Uint8 && v.Len() > 0 {
				refused(reflect.ValueOf([]byte("a\xff")))
				refused(reflect.ValueOf(bytes.Repeat([]byte("x"), 65536)))
				return
			}
			for i := range v.Len() {
				try(t, g, root, v.Index(i))
			}
		}
	}
	forGoldens(t, func(t *testing.T, g *golden, wire []byte) {
		p := accepts(t, g.v, wire)
		try(t, g, p, reflect.ValueOf(p))
	})
	if fields < 100 {
		t.Errorf("only %d fields were tried", fields)
	}
}

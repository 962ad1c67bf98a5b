package mqtt

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// The generators draw packets that are valid for a version.

func draw[T any](t *rapid.T, g *rapid.Generator[T]) T { return g.Draw(t, "") }

func genText(t *rapid.T) string {
	return draw(t, rapid.StringOfN(rapid.RuneFrom([]rune("ab/$ü€😀 \n\u0001\ufeff\uffff")), 0, 12, -1))
}

func genName(t *rapid.T) string { return "n" + genText(t) }

func genBytes(t *rapid.T) []byte { return draw(t, rapid.SliceOfN(rapid.Byte(), 0, 20)) }

// genOptional draws bytes that may be absent (nil), or there and empty.
func genOptional(t *rapid.T) []byte {
	if draw(t, rapid.Bool()) {
		return nil
	}
	return append([]byte{}, genBytes(t)...)
}

func genBool(t *rapid.T) bool { return draw(t, rapid.Bool()) }

func gen32(t *rapid.T) uint32 {
	return draw(t, rapid.SampledFrom([]uint32{0, 1, 255, 65536, 0xFFFFFFFF}))
}
func gen16(t *rapid.T) uint16 { return draw(t, rapid.SampledFrom([]uint16{0, 1, 255, 256, 65535})) }
func genID(t *rapid.T) uint16 { return draw(t, rapid.Uint16Min(1)) }
func genQoS(t *rapid.T) QoS   { return QoS(draw(t, rapid.ByteMax(2))) }
func genSubID(t *rapid.T) uint32 {
	return draw(t, rapid.SampledFrom([]uint32{1, 127, 128, 16383, 16384, 2097151, 2097152, 268435455}))
}

func genUser(t *rapid.T, v Version) []UserProperty {
	var list []UserProperty
	if v == V5 {
		for range draw(t, rapid.IntRange(0, 3)) {
			list = append(list, UserProperty{genText(t), genText(t)})
		}
	}
	return list
}

func genFilter(t *rapid.T) string {
	return draw(t, rapid.SampledFrom([]string{"a", "#", "+", "a/+/b", "/#", "$share/g/a/#", "$SYS/x", "ü", "//"}))
}

func genCode(t *rapid.T, in Type) ReasonCode {
	var codes []ReasonCode
	for n := range 256 {
		if ReasonCode(n).ListedIn(in) {
			codes = append(codes, ReasonCode(n))
		}
	}
	return draw(t, rapid.SampledFrom(codes))
}

func genWill(t *rapid.T, v Version) *Will {
	w := &Will{Topic: genName(t), Payload: append([]byte{}, genBytes(t)...), QoS: genQoS(t), Retain: genBool(t)}
	if v == V5 {
		w.DelaySeconds, w.PayloadUTF8 = gen32(t), genBool(t)
		if w.HasExpiry = genBool(t); w.HasExpiry {
			w.ExpirySeconds = gen32(t)
		}
		w.ContentType, w.CorrelationData, w.User = genText(t), genOptional(t), genUser(t, v)
		if genBool(t) {
			w.ResponseTopic = genName(t)
		}
	}
	return w
}

func genConnect(t *rapid.T, v Version) *Connect {
	p := &Connect{Version: v, ClientID: genText(t), CleanStart: genBool(t), KeepAlive: gen16(t)}
	p.CleanStart = p.CleanStart || p.ClientID == ""
	if genBool(t) {
		p.Will = genWill(t, v)
	}
	if p.HasUsername = genBool(t); p.HasUsername {
		p.Username = genText(t)
	}
	if p.HasPassword = genBool(t) && (v == V5 || p.HasUsername); p.HasPassword {
		p.Password = append([]byte{}, genBytes(t)...)
	}
	if v == V5 {
		p.SessionExpirySeconds, p.ReceiveMaximum, p.MaximumPacketSize = gen32(t), gen16(t), gen32(t)
		p.TopicAliasMaximum, p.RequestResponseInfo, p.NoProblemInfo = gen16(t), genBool(t), genBool(t)
		if p.AuthMethod = genText(t); p.AuthMethod != "" {
			p.AuthData = genOptional(t)
		}
		p.User = genUser(t, v)
	}
	return p
}

func genConnack(t *rapid.T, v Version) *Connack {
	p := &Connack{Reason: genCode(t, TypeConnack)}
	p.SessionPresent = p.Reason == Success && genBool(t)
	if v == V311 {
		p.Reason = []ReasonCode{Success, UnsupportedProtocolVersion, ClientIdentifierNotValid,
			ServerUnavailable, BadUserNameOrPassword, NotAuthorized}[draw(t, rapid.IntRange(0, 5))]
		p.SessionPresent = p.SessionPresent && p.Reason == Success
		return p
	}
	if p.HasSessionExpiry = genBool(t); p.HasSessionExpiry {
		p.SessionExpirySeconds = gen32(t)
	}
	if p.HasMaximumQoS = genBool(t); p.HasMaximumQoS {
		p.MaximumQoS = QoS(draw(t, rapid.ByteMax(1)))
	}
	if p.HasServerKeepAlive = genBool(t); p.HasServerKeepAlive {
		p.ServerKeepAlive = gen16(t)
	}
	p.ReceiveMaximum, p.MaximumPacketSize, p.TopicAliasMaximum = gen16(t), gen32(t), gen16(t)
	p.NoRetain, p.NoWildcards, p.NoSubscriptionIDs, p.NoSharedSubscriptions = genBool(t), genBool(t), genBool(t), genBool(t)
	p.AssignedClientID, p.ResponseInfo, p.ServerReference = genText(t), genText(t), genText(t)
	p.ReasonString, p.User = genText(t), genUser(t, v)
	if p.AuthMethod = genText(t); p.AuthMethod != "" {
		p.AuthData = genOptional(t)
	}
	return p
}

func genPublish(t *rapid.T, v Version) *Publish {
	p := &Publish{Topic: []byte(genName(t)), Payload: genBytes(t), QoS: genQoS(t), Retain: genBool(t)}
	if p.QoS != 0 {
		p.PacketID, p.Dup = genID(t), genBool(t)
	}
	if v == V311 {
		return p
	}
	if p.HasExpiry = genBool(t); p.HasExpiry {
		p.ExpirySeconds = gen32(t)
	}
	if p.TopicAlias = gen16(t); p.TopicAlias != 0 && genBool(t) {
		p.Topic = nil
	}
	p.PayloadUTF8 = genBool(t)
	if genBool(t) {
		p.ResponseTopic = []byte(genName(t))
	}
	if p.HasCorrelation = genBool(t); p.HasCorrelation {
		p.CorrelationData = append([]byte{}, genBytes(t)...)
	}
	if genBool(t) {
		p.ContentType = []byte(genText(t))
	}
	for range draw(t, rapid.IntRange(0, 3)) {
		p.SubscriptionIDs = append(p.SubscriptionIDs, genSubID(t))
	}
	for _, u := range genUser(t, v) {
		p.User = append(p.User, BorrowedProperty{[]byte(u.Key), []byte(u.Value)})
	}
	return p
}

func genSubscribe(t *rapid.T, v Version) *Subscribe {
	p := &Subscribe{PacketID: genID(t), User: genUser(t, v)}
	if v == V5 && genBool(t) {
		p.SubscriptionID = genSubID(t)
	}
	for range draw(t, rapid.IntRange(1, 4)) {
		s := Subscription{Filter: genFilter(t), QoS: genQoS(t)}
		if _, _, shared := ParseShare(s.Filter); v == V5 {
			s.NoLocal = genBool(t) && !shared
			s.RetainAsPublished, s.RetainHandling = genBool(t), draw(t, rapid.ByteMax(2))
		}
		p.Subscriptions = append(p.Subscriptions, s)
	}
	return p
}

// genReasons draws codes of one answer, and its text in MQTT 5.
func genReasons(t *rapid.T, v Version, in Type) (codes []ReasonCode, text string, user []UserProperty) {
	for range draw(t, rapid.IntRange(1, 4)) {
		code := genCode(t, in)
		if v == V311 && code.Failed() {
			code = UnspecifiedError
		}
		codes = append(codes, code)
	}
	if v == V5 {
		text = genText(t)
	}
	return codes, text, genUser(t, v)
}

func genAnswer(t *rapid.T, v Version, typ Type) Packet {
	codes, text, user := genReasons(t, v, typ)
	switch {
	case typ == TypeSuback:
		return &Suback{PacketID: genID(t), Reasons: codes, ReasonString: text, User: user}
	case typ == TypeUnsuback && v == V5:
		return &Unsuback{PacketID: genID(t), Reasons: codes, ReasonString: text, User: user}
	case typ == TypeUnsuback:
		return &Unsuback{PacketID: genID(t)}
	case v == V311:
		return &Ack{Kind: typ, PacketID: genID(t)}
	}
	return &Ack{Kind: typ, PacketID: genID(t), Reason: codes[0], ReasonString: text, User: user}
}

func genDisconnect(t *rapid.T, v Version) *Disconnect {
	p := &Disconnect{}
	if v == V5 {
		p.Reason, p.ServerReference, p.ReasonString, p.User = genCode(t, TypeDisconnect), genText(t), genText(t), genUser(t, v)
		if p.HasSessionExpiry = genBool(t); p.HasSessionExpiry {
			p.SessionExpirySeconds = gen32(t)
		}
	}
	return p
}

// genPacket draws a valid packet of any type that v has.
func genPacket(t *rapid.T, v Version) Packet {
	last := TypeAuth
	if v == V311 {
		last = TypeDisconnect
	}
	switch typ := Type(draw(t, rapid.ByteRange(1, byte(last)))); typ {
	case TypeConnect:
		return genConnect(t, v)
	case TypeConnack:
		return genConnack(t, v)
	case TypePublish:
		return genPublish(t, v)
	case TypeSubscribe:
		return genSubscribe(t, v)
	case TypeUnsubscribe:
		return &Unsubscribe{PacketID: genID(t), User: genUser(t, v), Filters: []string{genFilter(t), genFilter(t)}}
	case TypePingreq:
		return &Pingreq{}
	case TypePingresp:
		return &Pingresp{}
	case TypeDisconnect:
		return genDisconnect(t, v)
	case TypeAuth:
		return &Auth{Reason: genCode(t, TypeAuth), Method: genName(t), Data: genOptional(t), ReasonString: genText(t), User: genUser(t, v)}
	default:
		return genAnswer(t, v, typ)
	}
}

func genVersion(t *rapid.T) Version { return draw(t, rapid.SampledFrom([]Version{V311, V5})) }

func TestRoundTrip(t *testing.T) {
	seen := map[Version]map[Type]bool{V311: {}, V5: {}}
	rapid.Check(t, func(t *rapid.T) {
		v := genVersion(t)
		p := genPacket(t, v)
		seen[v][p.Type()] = true
		wire, err := p.Append(nil, v)
		if err != nil {
			t.Fatalf("encode %T %+v: %v", p, p, err)
		}
		got, err := decodeFrame(wire, v)
		if err != nil {
			t.Fatalf("decode % x of %+v: %v", wire, p, err)
		}
		if !same(got, p) {
			t.Fatalf("version %d\n got %+v\nwant %+v", v, got, p)
		}
	})
	if !testing.Short() && (len(seen[V311]) < 10 || len(seen[V5]) < 10) { // rapid draws less then
		t.Errorf("few types were drawn: %v", seen)
	}
}

// TestTemplateAgreesWithPublish: a template with a copy gives the packet that
// Publish with the same fields would.
func TestTemplateAgreesWithPublish(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := genVersion(t)
		p := genPublish(t, V5)
		p.Topic = []byte(genName(t))
		template, err := NewTemplate(p, v)
		if err != nil {
			t.Fatal(err)
		}
		c := Copy{PacketID: p.PacketID, QoS: p.QoS, Dup: p.Dup, Retain: p.Retain, HasExpiry: p.HasExpiry,
			ExpirySeconds: p.ExpirySeconds, TopicAlias: p.TopicAlias, SubscriptionIDs: p.SubscriptionIDs}
		want := *p
		if v == V311 {
			want = Publish{Topic: p.Topic, Payload: p.Payload, PacketID: p.PacketID, QoS: p.QoS, Dup: p.Dup, Retain: p.Retain}
		} else if p.TopicAlias != 0 && genBool(t) {
			c.OmitTopic, want.Topic = true, nil
		}
		wire, err := want.Append(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{p.Topic, p.Payload, p.ContentType, p.ResponseTopic, p.CorrelationData} {
			clear(b) // the template owns its bytes
		}
		got, err := template.Append([]byte("x"), c)
		if err != nil || !bytes.Equal(got[1:], wire) {
			t.Fatalf("version %d: %v\n got % x\nwant % x", v, err, got[1:], wire)
		}
		if size := template.Size(c); size != len(wire) {
			t.Fatalf("Size is %d, the packet has %d", size, len(wire))
		}
	})
}

func TestTemplateRefuses(t *testing.T) {
	for _, p := range []*Publish{{}, {Topic: []byte("+")}, {TopicAlias: 1}, {Topic: []byte("t"), ContentType: []byte("\xff")}} {
		if _, err := NewTemplate(p, V5); err == nil {
			t.Errorf("template of %+v", p)
		}
	}
	if _, err := NewTemplate(&Publish{Topic: []byte("t")}, 3); err == nil {
		t.Error("template for version 3")
	}
	template, err := NewTemplate(&Publish{Topic: []byte("t")}, V5)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Copy{{QoS: 3, PacketID: 1}, {Dup: true}, {QoS: 1}, {PacketID: 1}, {OmitTopic: true}, {SubscriptionIDs: []uint32{0}}} {
		if out, err := template.Append([]byte("x"), c); err == nil || string(out) != "x" {
			t.Errorf("%+v: got % x, %v", c, out, err)
		}
	}
	dst := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		dst, _ = template.Append(dst[:0], Copy{QoS: 1, PacketID: 1, SubscriptionIDs: []uint32{1}})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestPublishDecodeBorrows shows the promises of the hot path: no allocation
// once the slices have grown, and bytes that are the buffer's.
func TestPublishDecodeBorrows(t *testing.T) {
	p := benchPublish(true)
	p.SubscriptionIDs = []uint32{1, 2, 3}
	wire := mustAppend(t, p, V5)
	var got Publish
	decode := func() {
		h, n, err := ParseHeader(wire, 0)
		if err == nil {
			err = got.Decode(h, wire[n:], V5)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	decode()
	if n := testing.AllocsPerRun(100, decode); n != 0 {
		t.Errorf("%v allocations", n)
	}
	clone := got.Clone()
	if !same(clone, p) {
		t.Errorf("clone\n got %+v\nwant %+v", clone, p)
	}
	clear(wire)
	if got.Payload[0] != 0 || got.Topic[0] != 0 || got.User[0].Key[0] != 0 {
		t.Error("the packet does not borrow")
	}
	got.SubscriptionIDs[0], got.User[0] = 9, BorrowedProperty{}
	if !same(clone, p) {
		t.Error("the clone shares memory with the packet")
	}
	_ = append(clone.Topic, "overwritten"...)
	if !same(clone, p) {
		t.Error("appending to one field of the clone changes another")
	}
	if n := testing.AllocsPerRun(100, func() { p.Clone() }); n > 4 {
		t.Errorf("Clone allocates %v times", n)
	}
}

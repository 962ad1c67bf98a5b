package mqtt

import (
	"strings"
	"testing"
)

// listed is section 2.4 and the tables of each packet, written down a second
// time by packet.
var listed = map[Type]string{
	TypeConnack:    "00 80 81 82 83 84 85 86 87 88 89 8a 8c 90 95 97 99 9a 9b 9c 9d 9f",
	TypePuback:     "00 10 80 83 87 90 91 97 99",
	TypePubrec:     "00 10 80 83 87 90 91 97 99",
	TypePubrel:     "00 92",
	TypePubcomp:    "00 92",
	TypeSuback:     "00 01 02 80 83 87 8f 91 97 9e a1 a2",
	TypeUnsuback:   "00 11 80 83 87 8f 91",
	TypeDisconnect: "00 04 80 81 82 83 87 89 8b 8c 8d 8e 8f 90 93 94 95 96 97 98 99 9a 9b 9c 9d 9e 9f a0 a1 a2",
	TypeAuth:       "00 18 19",
}

// TestListedReasonCodes sends every code in every packet that has one, in both
// directions.
// Shows [MQTT-3.2.2-8] [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
// [MQTT-3.9.3-2] [MQTT-3.11.3-2] [MQTT-3.14.2-1] [MQTT-3.15.2-1].
func TestListedReasonCodes(t *testing.T) {
	around := map[Type][3]string{
		TypeConnack: {"20", "00", "00"}, TypePuback: {"40", "0001", ""}, TypePubrec: {"50", "0001", ""},
		TypePubrel: {"62", "0001", ""}, TypePubcomp: {"70", "0001", ""}, TypeSuback: {"90", "0001 00", ""},
		TypeUnsuback: {"b0", "0001 00", ""}, TypeDisconnect: {"e0", "", ""}, TypeAuth: {"f0", "", "04 15 0001 'M'"},
	}
	encode := func(typ Type, c ReasonCode) Packet {
		switch typ {
		case TypeConnack:
			return &Connack{Reason: c}
		case TypeSuback:
			return &Suback{PacketID: 1, Reasons: []ReasonCode{c}}
		case TypeUnsuback:
			return &Unsuback{PacketID: 1, Reasons: []ReasonCode{c}}
		case TypeDisconnect:
			return &Disconnect{Reason: c}
		case TypeAuth:
			return &Auth{Reason: c, Method: "M"}
		}
		return &Ack{Kind: typ, PacketID: 1, Reason: c}
	}
	for typ, parts := range around {
		want := string(unwire(t, listed[typ]))
		for n := range 256 {
			code := ReasonCode(n)
			body := append(append(unwire(t, parts[1]), byte(code)), unwire(t, parts[2])...)
			wire := frame(unwire(t, parts[0])[0], body)
			_, encodeErr := encode(typ, code).Append(nil, V5)
			if strings.IndexByte(want, byte(n)) >= 0 {
				accepts(t, V5, wire)
				if encodeErr != nil {
					t.Errorf("%v with 0x%02x: %v", typ, n, encodeErr)
				}
			} else {
				refuses(t, V5, ProtocolError, wire)
				wantCode(t, encodeErr, ProtocolError)
			}
		}
	}
}

func TestReasonCodeStrings(t *testing.T) {
	seen := map[string]ReasonCode{}
	for n := range 256 {
		c := ReasonCode(n)
		s := c.String()
		if other, twice := seen[s]; twice {
			t.Errorf("0x%02x and 0x%02x are both %q", n, byte(other), s)
		}
		seen[s] = c
		if c.Failed() != (n >= 0x80) {
			t.Errorf("0x%02x: Failed is %v", n, c.Failed())
		}
		lists := false
		for typ := Type(0); typ < 20; typ++ {
			lists = lists || c.ListedIn(typ)
		}
		if lists == strings.HasPrefix(s, "reason 0x") {
			t.Errorf("0x%02x is called %q", n, s)
		}
	}
	if s := ReasonCode(0x7F).String(); s != "reason 0x7F" {
		t.Errorf("an unknown code is called %q", s)
	}
	if s := (&Error{TopicAliasInvalid, "topic alias 0"}).Error(); s != "topic alias invalid: topic alias 0" {
		t.Errorf("error reads %q", s)
	}
}

// Shows [MQTT-3.2.2-6 v3.1.1].
func TestReturnCodes311(t *testing.T) {
	for code, reason := range []ReasonCode{Success, UnsupportedProtocolVersion, ClientIdentifierNotValid,
		ServerUnavailable, BadUserNameOrPassword, NotAuthorized} {
		got, ok := reason.ReturnCode311()
		if !ok || int(got) != code {
			t.Errorf("%v gives %d, want %d", reason, got, code)
		}
		p := accepts(t, V311, []byte{0x20, 2, 0, byte(code)}).(*Connack)
		if p.Reason != reason {
			t.Errorf("return code %d reads %v, want %v", code, p.Reason, reason)
		}
	}
	for code := 6; code < 256; code++ {
		refuses(t, V311, MalformedPacket, []byte{0x20, 2, 0, byte(code)})
	}
	for n := range 256 {
		reason := ReasonCode(n)
		code, ok := reason.ReturnCode311()
		out, err := (&Connack{Reason: reason}).Append(nil, V311)
		switch {
		case ok != (err == nil):
			t.Errorf("%v: mapped %v, encoding %v", reason, ok, err)
		case ok && (out[3] != code || code > 5 || (code == 0) == reason.Failed()):
			t.Errorf("%v became return code %d", reason, out[3])
		case ok && !reason.ListedIn(TypeConnack):
			t.Errorf("%v has a return code and is not for CONNACK", reason)
		}
	}
}

func TestSuback311(t *testing.T) {
	wire := mustAppend(t, &Suback{PacketID: 1, Reasons: []ReasonCode{GrantedQoS1, NotAuthorized, QuotaExceeded}}, V311)
	p := accepts(t, V311, wire).(*Suback)
	if want := []ReasonCode{GrantedQoS1, UnspecifiedError, UnspecifiedError}; !same(p, &Suback{PacketID: 1, Reasons: want}) {
		t.Errorf("got %v", p.Reasons)
	}
	for _, code := range []string{"03", "81", "87", "ff"} {
		if _, err := decodeFrame(unwire(t, "90 03 0001 "+code), V311); err == nil {
			t.Errorf("SUBACK of 3.1.1 with %s accepted", code)
		}
	}
}

// TestRefusedIn311 holds every Append to "what v cannot carry".
func TestRefusedIn311(t *testing.T) {
	user := []UserProperty{{"k", "v"}}
	for _, p := range []Packet{
		&Connect{CleanStart: true, SessionExpirySeconds: 1}, &Connect{CleanStart: true, User: user},
		&Connack{ReasonString: "why"}, &Connack{SessionPresent: true, Reason: NotAuthorized}, &Connack{HasServerKeepAlive: true},
		&Publish{Topic: []byte("t"), HasExpiry: true}, &Publish{Topic: []byte("t"), PayloadUTF8: true},
		&Ack{Kind: TypePuback, PacketID: 1, ReasonString: "why"}, &Ack{Kind: TypeConnack, PacketID: 1},
		&Subscribe{PacketID: 1, SubscriptionID: 1, Subscriptions: []Subscription{{Filter: "a"}}},
		&Suback{PacketID: 1, Reasons: []ReasonCode{0}, User: user}, &Suback{PacketID: 1, Reasons: []ReasonCode{5}},
		&Unsubscribe{PacketID: 1, Filters: []string{"a"}, User: user}, &Unsuback{PacketID: 1, User: user},
		&Disconnect{Reason: DisconnectWithWillMessage}, &Disconnect{ReasonString: "why"}, &Auth{Method: "M"},
	} {
		dst := []byte("before")
		if out, err := p.Append(dst, V311); err == nil || string(out) != "before" {
			t.Errorf("%T %+v: got % x, %v", p, p, out, err)
		}
	}
	// Codes alone are left out where 3.1.1 acknowledges and says no more.
	if got := mustAppend(t, &Ack{Kind: TypePubrec, PacketID: 1, Reason: QuotaExceeded}, V311); len(got) != 4 {
		t.Errorf("PUBREC is % x", got)
	}
	if got := mustAppend(t, &Unsuback{PacketID: 1, Reasons: []ReasonCode{0, 0x11}}, V311); len(got) != 4 {
		t.Errorf("UNSUBACK is % x", got)
	}
}

func TestUnknownVersion(t *testing.T) {
	for typ := TypeConnack; typ <= TypeAuth; typ++ {
		_, err := DecodePacket(Header{Type: typ, Flags: flagsOf(typ)}, []byte{0, 1}, 3)
		wantCode(t, err, UnsupportedProtocolVersion)
	}
	for i := range goldens {
		if typeOf(unwire(t, goldens[i].wire)) == TypeConnect {
			continue
		}
		if _, err := goldens[i].packet.Append(nil, 6); err == nil {
			t.Errorf("%s encoded for version 6", goldens[i].name)
		}
	}
}

func TestAppendAckAgreesWithAppend(t *testing.T) {
	for typ := TypePuback; typ <= TypePubcomp; typ++ {
		for n := range 256 {
			code := ReasonCode(n)
			if !code.ListedIn(typ) {
				continue
			}
			for _, v := range []Version{V311, V5} {
				want := mustAppend(t, &Ack{Kind: typ, PacketID: 0xABCD, Reason: code}, v)
				if got := AppendAck(nil, v, typ, 0xABCD, code); string(got) != string(want) {
					t.Errorf("%v %v version %d: got % x, want % x", typ, code, v, got, want)
				}
			}
		}
	}
}

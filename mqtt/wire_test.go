package mqtt

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// unwire makes bytes of hexadecimal digits and 'quoted text', in which ~ is a
// space; spaces only separate.
func unwire(t testing.TB, s string) []byte {
	t.Helper()
	var out []byte
	for _, field := range strings.Fields(s) {
		if text, quoted := strings.CutPrefix(field, "'"); quoted {
			text, closed := strings.CutSuffix(text, "'")
			if !closed || strings.Contains(text, "'") {
				t.Fatalf("test data %q: quotes", field)
			}
			out = append(out, strings.ReplaceAll(text, "~", " ")...)
			continue
		}
		b, err := hex.DecodeString(field)
		if err != nil {
			t.Fatalf("test data %q: %v", field, err)
		}
		out = append(out, b...)
	}
	return out
}

// frame puts a fixed header before body.
func frame(first byte, body []byte) []byte {
	return append(appendVarint([]byte{first}, len(body)), body...)
}

// decodeFrame decodes exactly one packet.
func decodeFrame(wire []byte, v Version) (Packet, error) {
	h, n, err := ParseHeader(wire, 0)
	if err != nil {
		return nil, err
	}
	if n == 0 || len(wire) != n+h.Length {
		return nil, errors.New("not exactly one packet")
	}
	return DecodePacket(h, wire[n:], v)
}

// wantCode fails the test unless err is a *Error with the code.
func wantCode(t testing.TB, err error, code ReasonCode) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *Error with code %v", err, code)
	}
	if e.Code != code {
		t.Fatalf("got %q (0x%02X), want code %v (0x%02X)", e, byte(e.Code), code, byte(code))
	}
}

// refuses decodes the packet and wants it refused with the code.
func refuses(t *testing.T, v Version, code ReasonCode, wire []byte) {
	t.Helper()
	p, err := decodeFrame(wire, v)
	if err == nil {
		t.Fatalf("% x: accepted as %+v, want %v", wire, p, code)
	}
	wantCode(t, err, code)
}

func accepts(t *testing.T, v Version, wire []byte) Packet {
	t.Helper()
	p, err := decodeFrame(wire, v)
	if err != nil {
		t.Fatalf("% x: %v", wire, err)
	}
	return p
}

// same compares packets, taking nil and empty slices in reused fields of
// Publish for the same.
func same(a, b Packet) bool { return reflect.DeepEqual(plain(a), plain(b)) }

func plain(p Packet) Packet {
	pub, ok := p.(*Publish)
	if !ok {
		return p
	}
	q := *pub
	if len(q.SubscriptionIDs) == 0 {
		q.SubscriptionIDs = nil
	}
	if len(q.User) == 0 {
		q.User = nil
	}
	if len(q.Topic) == 0 {
		q.Topic = nil
	}
	if len(q.Payload) == 0 {
		q.Payload = nil
	}
	return &q
}

// typeOf is the packet type of an encoded packet.
func typeOf(wire []byte) Type { return Type(wire[0] >> 4) }

func mustAppend(t testing.TB, p Packet, v Version) []byte {
	t.Helper()
	prefix := []byte("prefix")
	out, err := p.Append(prefix, v)
	if err != nil {
		t.Fatalf("encode %+v: %v", p, err)
	}
	wire, found := bytes.CutPrefix(out, prefix)
	if !found {
		t.Fatal("Append changed what was in the buffer")
	}
	return wire
}

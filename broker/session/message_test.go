package session

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wilco-iot/wilco/mqtt"
)

// What is written by hand here is what the codec writes: for any message and
// any receiver, the same packet comes out.
func TestFrameIsThatOfTheCodec(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-zé/]{1,12}`)
		blob := rapid.SliceOfN(rapid.Byte(), 0, 300)
		p := mqtt.Publish{
			Topic: []byte(text.Draw(t, "topic")), Payload: blob.Draw(t, "payload"),
			QoS: mqtt.QoS(rapid.IntRange(0, 2).Draw(t, "qos")), Retain: rapid.Bool().Draw(t, "retain"),
			PayloadUTF8: rapid.Bool().Draw(t, "utf8"), HasExpiry: rapid.Bool().Draw(t, "expires"),
		}
		if p.HasExpiry {
			p.ExpirySeconds = rapid.Uint32().Draw(t, "expiry")
		}
		if rapid.Bool().Draw(t, "response") {
			p.ResponseTopic = []byte(text.Draw(t, "response topic"))
			p.HasCorrelation, p.CorrelationData = true, blob.Draw(t, "correlation")
		}
		if rapid.Bool().Draw(t, "type") {
			p.ContentType = []byte(text.Draw(t, "content type"))
		}
		for range rapid.IntRange(0, 3).Draw(t, "user") {
			p.User = append(p.User, mqtt.BorrowedProperty{Key: []byte(text.Draw(t, "key")), Value: []byte(text.Draw(t, "value"))})
		}
		m := NewMessage(&p, string(p.Topic), "", "", time.Unix(0, 0))
		f := frame{m: m, version: mqtt.V5, qos: p.QoS, retain: p.Retain, expiry: p.ExpirySeconds}
		if p.QoS > 0 {
			p.PacketID, p.Dup = rapid.Uint16Min(1).Draw(t, "id"), rapid.Bool().Draw(t, "dup")
			f.id, f.dup = p.PacketID, p.Dup
		}
		for range rapid.IntRange(0, 2).Draw(t, "subs") {
			p.SubscriptionIDs = append(p.SubscriptionIDs, rapid.Uint32Range(1, 268435455).Draw(t, "sub"))
		}
		f.subs = p.SubscriptionIDs
		p.TopicAlias = rapid.Uint16().Draw(t, "alias")
		if f.alias = p.TopicAlias; f.alias != 0 && rapid.Bool().Draw(t, "bare") {
			f.bare, p.Topic = true, nil
		}
		compare(t, &p, &f)

		p = mqtt.Publish{Topic: []byte(m.Topic), Payload: p.Payload, QoS: p.QoS, Retain: p.Retain, Dup: p.Dup, PacketID: p.PacketID}
		f.version, f.bare, f.alias = mqtt.V311, false, 0
		compare(t, &p, &f)
		m.Release()
	})
}

func compare(t *rapid.T, p *mqtt.Publish, f *frame) {
	want, err := p.Append(nil, f.version)
	if err != nil {
		t.Fatal(err)
	}
	props, body := f.sizes()
	got := append(f.appendHead(nil, props, body), f.m.Payload...)
	if len(got) != 1+varLen(body)+body {
		t.Fatalf("%d bytes, announced %d", len(got), 1+varLen(body)+body)
	}
	// The codec may order properties in another way, so what is read back counts.
	if a, b := read(t, got, f.version), read(t, want, f.version); a != b {
		t.Fatalf("got  %s\nwant %s", a, b)
	}
}

func read(t *rapid.T, b []byte, v mqtt.Version) string {
	h, n, err := mqtt.ParseHeader(b, 0)
	if err != nil || n+h.Length != len(b) {
		t.Fatalf("header %v: %v", h, err)
	}
	var p mqtt.Publish
	if err := p.Decode(h, b[n:], v); err != nil {
		t.Fatal(err)
	}
	again, err := p.Append(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	return string(again)
}

func TestMessageTellsOfADoubleRelease(t *testing.T) {
	m := &Message{}
	m.refs.Store(1)
	m.buf = make([]byte, recyclable+1) // not pooled, so that it can be looked at again
	m.Release()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	m.Release()
}

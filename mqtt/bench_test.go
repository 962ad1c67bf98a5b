package mqtt

import (
	"bytes"
	"testing"

	v5 "github.com/eclipse/paho.golang/packets"
	v3 "github.com/eclipse/paho.mqtt.golang/packets"
)

// The benchmarks of the hot path, and their Paho twins: the same packet, the
// same 256 bytes of payload.

const benchTopic = "wilco/plant-07/press-042/result"

func benchPublish(properties bool) *Publish {
	p := &Publish{
		Topic:    []byte(benchTopic),
		Payload:  bytes.Repeat([]byte("0123456789abcdef"), 16),
		PacketID: 4711,
		QoS:      AtLeastOnce,
	}
	if properties {
		p.HasExpiry, p.ExpirySeconds = true, 3600
		p.ContentType = []byte("application/json")
		p.ResponseTopic = []byte("wilco/plant-07/press-0042/reply")
		p.HasCorrelation, p.CorrelationData = true, []byte("0123456789abcdef")
		p.User = []BorrowedProperty{{[]byte("source"), []byte("press-0042")}}
	}
	return p
}

var benchCases = []struct {
	name       string
	v          Version
	properties bool
}{
	{"v5", V5, false},
	{"v5-5props", V5, true},
	{"v311", V311, false},
}

func BenchmarkPublishEncode256(b *testing.B) {
	for _, bc := range benchCases {
		b.Run(bc.name, func(b *testing.B) {
			p := benchPublish(bc.properties)
			buf := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if buf, err = p.Append(buf[:0], bc.v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPublishDecode256(b *testing.B) {
	for _, bc := range benchCases {
		b.Run(bc.name, func(b *testing.B) {
			wire, err := benchPublish(bc.properties).Append(nil, bc.v)
			if err != nil {
				b.Fatal(err)
			}
			var p Publish
			b.ReportAllocs()
			for b.Loop() {
				h, n, err := ParseHeader(wire, 0)
				if err != nil {
					b.Fatal(err)
				}
				if err := p.Decode(h, wire[n:n+h.Length], bc.v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkTemplateAppend256(b *testing.B) {
	for _, bc := range benchCases {
		b.Run(bc.name, func(b *testing.B) {
			t, err := NewTemplate(benchPublish(bc.properties), bc.v)
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				if buf, err = t.Append(buf[:0], Copy{PacketID: 4711, QoS: 1, HasExpiry: true, ExpirySeconds: 60}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func pahoPublish(p *Publish, properties bool) *v5.Publish {
	q := &v5.Publish{Topic: benchTopic, Payload: p.Payload, PacketID: p.PacketID, QoS: 1, Properties: &v5.Properties{}}
	if properties {
		expiry := p.ExpirySeconds
		q.Properties = &v5.Properties{
			MessageExpiry: &expiry, ContentType: string(p.ContentType), ResponseTopic: string(p.ResponseTopic),
			CorrelationData: p.CorrelationData, User: []v5.User{{Key: "source", Value: "press-0042"}},
		}
	}
	return q
}

func BenchmarkPahoPublishEncode256(b *testing.B) {
	for _, bc := range benchCases {
		b.Run(bc.name, func(b *testing.B) {
			p := benchPublish(bc.properties)
			var buf bytes.Buffer
			b.ReportAllocs()
			if bc.v == V311 {
				q := v3.NewControlPacket(v3.Publish).(*v3.PublishPacket)
				q.TopicName, q.Payload, q.MessageID, q.Qos = benchTopic, p.Payload, p.PacketID, 1
				for b.Loop() {
					buf.Reset()
					if err := q.Write(&buf); err != nil {
						b.Fatal(err)
					}
				}
				return
			}
			q := pahoPublish(p, bc.properties)
			for b.Loop() {
				buf.Reset()
				if _, err := q.WriteTo(&buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPahoPublishDecode256(b *testing.B) {
	for _, bc := range benchCases {
		b.Run(bc.name, func(b *testing.B) {
			wire, err := benchPublish(bc.properties).Append(nil, bc.v)
			if err != nil {
				b.Fatal(err)
			}
			var r bytes.Reader
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(wire)
				if bc.v == V311 {
					_, err = v3.ReadPacket(&r)
				} else {
					_, err = v5.ReadPacket(&r)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReader(b *testing.B) {
	wire, err := benchPublish(false).Append(nil, V5)
	if err != nil {
		b.Fatal(err)
	}
	stream := bytes.Repeat(wire, 1000)
	var src bytes.Reader
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	r := NewReader(&src, 0)
	for b.Loop() {
		if src.Len() == 0 && r.Buffered() == 0 {
			src.Reset(stream)
		}
		if _, _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	for b.Loop() {
		if !Match("wilco/+/press-042/#", benchTopic) {
			b.Fatal("no match")
		}
	}
}

func BenchmarkAppendAck(b *testing.B) {
	buf := make([]byte, 0, 16)
	for b.Loop() {
		buf = AppendAck(buf[:0], V5, TypePuback, 4711, Success)
	}
}

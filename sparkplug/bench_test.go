package sparkplug

import (
	"fmt"
	"math"
	"testing"

	"google.golang.org/protobuf/proto"
)

// doubles is a DDATA of n doubles with names or with aliases.
func doubles(n int, named bool) *Payload {
	p := &Payload{Timestamp: 1_767_225_600_000, HasTimestamp: true, Seq: 17, HasSeq: true}
	for i := range n {
		m := Metric{
			Timestamp: 1_767_225_600_000 + uint64(i), HasTimestamp: true,
			Datatype: TypeDouble, Value: Value{form: FormDouble, bits: math.Float64bits(20.5 + float64(i)/3)},
		}
		if named {
			m.Name = fmt.Appendf(nil, "line-1/press-042/temperature-%d", i)
		} else {
			m.Alias, m.HasAlias, m.Datatype = uint64(100+i), true, 0
		}
		p.Metrics = append(p.Metrics, m)
	}
	return p
}

func tenDoubles() *Payload { return doubles(10, true) }

// birth is an NBIRTH of 1000 metrics with names, aliases and a property each.
func birth() *Payload {
	p := doubles(1000, true)
	for i := range p.Metrics {
		m := &p.Metrics[i]
		m.Alias, m.HasAlias = uint64(i), true
		m.Properties = &PropertySet{
			Keys:   [][]byte{[]byte("engUnit")},
			Values: []PropertyValue{{Datatype: TypeString, Value: NewText([]byte("°C"))}},
		}
	}
	return p
}

// The twins are protobuf-go's reflection over the same bytes: what there is
// without generated code.
var benchPayloads = []struct {
	name string
	p    *Payload
}{
	{"10 named doubles", tenDoubles()},
	{"10 alias doubles", doubles(10, false)},
	{"1 alias double", doubles(1, false)},
	{"birth of 1000", birth()},
}

func BenchmarkDecode(b *testing.B) {
	for _, bc := range benchPayloads {
		b.Run(bc.name, func(b *testing.B) {
			wire := bc.p.Append(nil)
			var p Payload
			b.SetBytes(int64(len(wire)))
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Decode(wire, Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkTwinDecode(b *testing.B) {
	for _, bc := range benchPayloads {
		b.Run(bc.name, func(b *testing.B) {
			wire := bc.p.Append(nil)
			m := newTwin("Payload")
			b.SetBytes(int64(len(wire)))
			b.ReportAllocs()
			for b.Loop() {
				if err := proto.Unmarshal(wire, m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, bc := range benchPayloads {
		b.Run(bc.name, func(b *testing.B) {
			buf := bc.p.Append(nil)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				buf = bc.p.Append(buf[:0])
			}
		})
	}
}

func BenchmarkTwinEncode(b *testing.B) {
	for _, bc := range benchPayloads {
		b.Run(bc.name, func(b *testing.B) {
			m := toTwin(bc.p)
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if buf, err = (proto.MarshalOptions{}).MarshalAppend(buf[:0], m); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(len(buf)))
		})
	}
}

func BenchmarkPeek(b *testing.B) {
	for _, bc := range benchPayloads {
		b.Run(bc.name, func(b *testing.B) {
			wire := bc.p.Append(nil)
			b.ReportAllocs()
			for b.Loop() {
				if h, err := Peek(wire); err != nil || h.Seq != 17 {
					b.Fatal(h, err)
				}
			}
		})
	}
}

func BenchmarkParseTopic(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseTopic("spBv1.0/plant-7/DDATA/line-1/press-042"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInflate(b *testing.B) {
	wire := must(birth().AppendCompressed(nil, AlgorithmDeflate))
	var z Inflater
	var p Payload
	b.ReportAllocs()
	for b.Loop() {
		if err := z.Decode(wire, &p, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

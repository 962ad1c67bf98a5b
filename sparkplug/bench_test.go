package sparkplug

import (
	"fmt"
	"math"
	"testing"
)

// tenDoubles is a DDATA of ten named doubles.
func tenDoubles() *Payload {
	p := &Payload{Timestamp: 1_767_225_600_000, HasTimestamp: true, Seq: 17, HasSeq: true}
	for i := range 10 {
		p.Metrics = append(p.Metrics, Metric{
			Name:      fmt.Appendf(nil, "line-1/press-042/t%d", i),
			Timestamp: 1_767_225_600_000 + uint64(i), HasTimestamp: true,
			Datatype: TypeDouble, Value: Value{form: FormDouble, bits: math.Float64bits(20.5 + float64(i)/3)},
		})
	}
	return p
}

func BenchmarkDecode10Doubles(b *testing.B) {
	wire := tenDoubles().Append(nil)
	var p Payload
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Decode(wire, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode10Doubles(b *testing.B) {
	p := tenDoubles()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = p.Append(buf[:0])
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkPeek10Doubles(b *testing.B) {
	wire := tenDoubles().Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if h, err := Peek(wire); err != nil || h.Seq != 17 {
			b.Fatal(h, err)
		}
	}
}

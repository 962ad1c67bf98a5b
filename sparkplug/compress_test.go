package sparkplug

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
	"testing"
)

// packed compresses b as the algorithm says, without this package's help.
func packed(algorithm string, b []byte) []byte {
	var buf bytes.Buffer
	var w io.WriteCloser = zlib.NewWriter(&buf)
	if algorithm == AlgorithmGzip {
		w = gzip.NewWriter(&buf)
	}
	if _, err := w.Write(b); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

func TestInflate(t *testing.T) {
	full := tenDoubles()
	bare := tenDoubles()
	bare.HasSeq, bare.HasTimestamp, bare.Seq, bare.Timestamp = false, false, 0, 0
	uuid := text(4, CompressedUUID)
	head := join(num(1, full.Timestamp), num(3, 17))
	named := func(a string) []byte { return msg(2, text(1, "algorithm"), num(4, 12), text(15, a)) }
	zeros := make([]byte, 1<<20)
	deflated, gzipped := packed(AlgorithmDeflate, full.Append(nil)), packed(AlgorithmGzip, full.Append(nil))
	var z Inflater
	for range 2 { // the second time with readers that were used
		for name, c := range map[string]struct {
			wire   []byte
			limits Limits
			code   Code
		}{
			"not compressed":         {full.Append(nil), Limits{}, 0},
			"no algorithm":           {join(uuid, msg(5, deflated)), Limits{}, 0},
			"DEFLATE":                {join(named("DEFLATE"), uuid, msg(5, deflated)), Limits{}, 0},
			"GZIP":                   {join(named("GZIP"), uuid, msg(5, gzipped)), Limits{}, 0},
			"seq outside only":       {join(head, uuid, msg(5, packed(AlgorithmDeflate, bare.Append(nil)))), Limits{}, 0},
			"seq on both sides":      {join(num(1, 1), num(3, 1), uuid, msg(5, deflated)), Limits{}, 0},
			"another algorithm":      {join(named("BROTLI"), uuid, msg(5, deflated)), Limits{}, BadCompression},
			"small letters":          {join(named("gzip"), uuid, msg(5, gzipped)), Limits{}, BadCompression},
			"algorithm not a text":   {join(msg(2, text(1, "algorithm"), num(10, 1)), uuid, msg(5, deflated)), Limits{}, BadCompression},
			"the wrong one":          {join(named("GZIP"), uuid, msg(5, deflated)), Limits{}, BadCompression},
			"no body":                {uuid, Limits{}, Truncated},
			"garbage":                {join(uuid, msg(5, []byte("garbage"))), Limits{}, BadCompression},
			"cut":                    {join(uuid, msg(5, deflated[:len(deflated)-5])), Limits{}, Truncated},
			"a wrong sum":            {join(uuid, msg(5, append(deflated[:len(deflated)-1:len(deflated)-1], 0))), Limits{}, BadCompression},
			"no payload inside":      {join(uuid, msg(5, packed(AlgorithmDeflate, []byte{0x18}))), Limits{}, Truncated},
			"compressed twice":       {join(uuid, msg(5, packed(AlgorithmDeflate, join(uuid, msg(5, deflated))))), Limits{}, BadCompression},
			"above the ratio":        {join(uuid, msg(5, packed(AlgorithmDeflate, msg(5, zeros)))), Limits{}, TooLarge},
			"above the bytes":        {join(uuid, msg(5, packed(AlgorithmDeflate, msg(5, zeros)))), Limits{Bytes: 1 << 20, Ratio: 1 << 20}, TooLarge},
			"above the bytes, twice": {join(uuid, msg(5, packed(AlgorithmGzip, zeros))), Limits{Bytes: 10}, TooLarge},
			"above the elements":     {join(uuid, msg(5, deflated)), Limits{Elements: 9}, TooMany},
		} {
			var p Payload
			err := z.Decode(c.wire, &p, c.limits)
			if code(err) != c.code || err == nil && !same(&p, full) {
				t.Errorf("%s: %v, %+v", name, err, p)
			}
		}
	}
	// A large ratio is no harm while the payload is small.
	var p Payload
	if err := z.Decode(join(uuid, msg(5, packed(AlgorithmDeflate, msg(5, zeros[:60_000])))), &p, Limits{Ratio: 1}); err != nil || len(p.Body) != 60_000 {
		t.Error(len(p.Body), err)
	}
}

func TestAppendCompressed(t *testing.T) {
	full := tenDoubles()
	for _, a := range []string{AlgorithmDeflate, AlgorithmGzip} {
		wire, err := full.AppendCompressed([]byte("-"), a)
		if err != nil {
			t.Fatal(err)
		}
		wire = wire[1:]
		if h, err := Peek(wire); err != nil || h != (Header{full.Timestamp, full.Seq, true, true, true}) {
			t.Errorf("%s: %+v, %v", a, h, err)
		}
		var z Inflater
		var p Payload
		if err := z.Decode(wire, &p, Limits{}); err != nil || !same(&p, full) {
			t.Errorf("%s: %+v, %v", a, p, err)
		}
	}
	if wire, err := full.AppendCompressed([]byte("-"), "LZ4"); code(err) != BadCompression || string(wire) != "-" {
		t.Error(wire, err)
	}
}

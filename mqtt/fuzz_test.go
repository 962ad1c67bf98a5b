package mqtt

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func seed(f *testing.F) {
	for i := range goldens {
		f.Add(unwire(f, goldens[i].wire), goldens[i].v == V5)
	}
}

func versionOf(five bool) Version {
	if five {
		return V5
	}
	return V311
}

// FuzzDecode: no bytes panic, every refusal is a *Error, and a packet that is
// accepted survives being encoded and decoded again.
func FuzzDecode(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, wire []byte, five bool) {
		v := versionOf(five)
		h, n, err := ParseHeader(wire, 0)
		if err != nil || n == 0 || len(wire) < n+h.Length {
			return
		}
		p, err := DecodePacket(h, wire[n:n+h.Length], v)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || !e.Code.Failed() {
				t.Fatalf("refused with %#v", err)
			}
			return
		}
		again, err := p.Append(nil, v)
		if err != nil {
			t.Fatalf("% x: decoded as %+v, which is refused: %v", wire, p, err)
		}
		if len(again) > n+h.Length {
			t.Fatalf("% x became longer: % x", wire[:n+h.Length], again)
		}
		q, err := decodeFrame(again, v)
		if err != nil {
			t.Fatalf("% x became % x: %v", wire, again, err)
		}
		if !same(p, q) {
			t.Fatalf("\n first %+v\nsecond %+v", p, q)
		}
		if third, err := q.Append(nil, v); err != nil || !bytes.Equal(again, third) {
			t.Fatalf("encoded twice: % x, % x, %v", again, third, err)
		}
	})
}

// FuzzTopics holds the topic functions to their slow oracles.
func FuzzTopics(f *testing.F) {
	for _, s := range []string{"", "#", "+", "a/+/#", "$share/g/a", "$share//", "$SYS/a", "/", "a//b", "ü/\x00", "\xed\xa0\x80"} {
		f.Add(s, "a/b")
		f.Add("a/#", s)
	}
	f.Fuzz(func(t *testing.T, filter, topic string) { checkTopics(t, filter, topic) })
}

// FuzzReader: however a stream is split, the same packets and the same end come
// out as from the stream in one piece.
func FuzzReader(f *testing.F) {
	var stream []byte
	for i := range goldens {
		stream = append(stream, unwire(f, goldens[i].wire)...)
	}
	f.Add(stream, []byte{1, 2, 3}, uint16(0))
	f.Add(stream, []byte{255}, uint16(30))
	f.Add(append(stream, 0x30, 0xFF, 0xFF, 0xFF, 0x7F, 1, 2, 3), []byte{100}, uint16(0))
	f.Fuzz(func(t *testing.T, stream, split []byte, limit uint16) {
		sizes := []int{1}
		for _, n := range split {
			sizes = append(sizes, int(n)+1)
		}
		whole := NewReader(bytes.NewReader(stream), int(limit))
		parts := NewReader(&chunks{data: stream, sizes: sizes}, int(limit))
		read := 0
		for {
			h1, b1, err1 := whole.Next()
			h2, b2, err2 := parts.Next()
			if h1 != h2 || !bytes.Equal(b1, b2) || !sameError(err1, err2) {
				t.Fatalf("whole %+v % x %v\nparts %+v % x %v", h1, b1, err1, h2, b2, err2)
			}
			if len(parts.buf) > max(readIdle, 2*len(stream)) {
				t.Fatalf("a buffer of %d for %d bytes", len(parts.buf), len(stream))
			}
			if err1 != nil {
				if _, _, again := parts.Next(); !sameError(err1, again) {
					t.Fatalf("first %v, then %v", err1, again)
				}
				if err1 == io.EOF && read != len(stream) {
					t.Fatalf("%d of %d bytes came out", read, len(stream))
				}
				return
			}
			read += 1 + varintSize(h1.Length) + h1.Length
		}
	})
}

func sameError(a, b error) bool {
	var x, y *Error
	if errors.As(a, &x) && errors.As(b, &y) {
		return *x == *y
	}
	return a == b
}

// FuzzPaho: what both we and Paho accept means the same, and what we make of
// it they read the same.
func FuzzPaho(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, wire []byte, five bool) {
		v := versionOf(five)
		h, n, err := ParseHeader(wire, 1<<20)
		if err != nil || n == 0 || len(wire) < n+h.Length {
			return
		}
		wire = wire[:n+h.Length]
		ours, err := decodeFrame(wire, v)
		if err != nil || v == V5 && h.Type == TypeConnect && ours.(*Connect).Version != V5 ||
			v == V311 && h.Type == TypeConnect && ours.(*Connect).Version != V311 {
			return // Paho's codecs do not look at the level
		}
		if theirs, err := readPaho(wire, v); err == nil && !agree(theirs, ours) {
			t.Fatalf("% x\nthey read %+v\nwe read   %+v", wire, theirs, ours)
		}
		again, err := ours.Append(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		if unreadable(ours, v) {
			return
		}
		theirs, err := readPaho(again, v)
		if err != nil || !agree(theirs, ours) {
			t.Fatalf("% x: %v\nthey read %+v\nwe wrote  %+v", again, err, theirs, ours)
		}
	})
}

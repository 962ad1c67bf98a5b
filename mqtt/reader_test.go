package mqtt

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestReaderEnds(t *testing.T) {
	own := errors.New("connection reset")
	ping := "\xc0\x00"
	for _, c := range []struct {
		name    string
		src     io.Reader
		packets int
		want    error
	}{
		{"nothing", bytes.NewReader(nil), 0, io.EOF},
		{"between packets", bytes.NewReader([]byte(ping + ping)), 2, io.EOF},
		{"in a header", bytes.NewReader([]byte(ping + "\xc0")), 1, io.ErrUnexpectedEOF},
		{"in a body", bytes.NewReader([]byte("\x40\x02\x00")), 0, io.ErrUnexpectedEOF},
		{"own error", io.MultiReader(bytes.NewReader([]byte(ping)), iotest.ErrReader(own)), 1, own},
		{"data and EOF at once", iotest.DataErrReader(bytes.NewReader([]byte(ping + ping))), 2, io.EOF},
		{"data and EOF at once, in a packet", iotest.DataErrReader(bytes.NewReader([]byte(ping + "\x40"))), 1, io.ErrUnexpectedEOF},
		{"neither data nor error", emptyReader{}, 0, io.ErrNoProgress},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewReader(c.src, 0)
			for range c.packets {
				if h, body, err := r.Next(); err != nil || h.Type != TypePingreq || len(body) != 0 {
					t.Fatalf("got %+v % x %v", h, body, err)
				}
			}
			for range 2 {
				if _, _, err := r.Next(); err != c.want {
					t.Fatalf("got %v, want %v", err, c.want)
				}
			}
		})
	}
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, nil }

// TestReaderRefusalIsFinal: after a bad header the rest of the stream has no
// meaning, and packets before it are not lost.
func TestReaderRefusalIsFinal(t *testing.T) {
	r := NewReader(bytes.NewReader([]byte("\xc0\x00\xc1\x00\xc0\x00")), 0)
	if _, _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, _, err := r.Next()
		wantCode(t, err, MalformedPacket)
	}
}

func TestReaderSetMax(t *testing.T) {
	small, large := frame(0x30, make([]byte, 100)), frame(0x30, make([]byte, 1000))
	r := NewReader(bytes.NewReader(bytes.Join([][]byte{small, large, small}, nil)), len(small))
	if _, _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	r.SetMax(len(large))
	if h, _, err := r.Next(); err != nil || h.Length != 1000 {
		t.Fatalf("got %+v, %v", h, err)
	}
	r.SetMax(len(small) - 1)
	_, _, err := r.Next()
	wantCode(t, err, PacketTooLarge)
}

func TestReaderBuffered(t *testing.T) {
	r := NewReader(bytes.NewReader([]byte("\xc0\x00\x40\x02\x00\x01")), 0)
	for _, want := range []int{4, 0} {
		if _, _, err := r.Next(); err != nil || r.Buffered() != want {
			t.Fatalf("%d buffered, want %d; %v", r.Buffered(), want, err)
		}
	}
}

// TestReaderShrinks: a large packet's buffer is gone when the next is read, and
// until then the body is whole.
func TestReaderShrinks(t *testing.T) {
	large := frame(0x30, bytes.Repeat([]byte{7}, 1<<20))
	r := NewReader(bytes.NewReader(append(large, 0xc0, 0x00)), 0)
	_, body, err := r.Next()
	if err != nil || len(body) != 1<<20 || bytes.IndexFunc(body, func(b rune) bool { return b != 7 }) >= 0 {
		t.Fatalf("%d bytes, %v", len(body), err)
	}
	for range 2 { // PINGREQ, then the end; the buffer is empty in between
		_, _, _ = r.Next()
	}
	if len(r.buf) > readIdle {
		t.Errorf("a buffer of %d bytes is kept", len(r.buf))
	}
}

// TestReaderReadsManyPacketsAtOnce: a fast stream costs a read for many
// packets, and no allocation for any.
func TestReaderReadsManyPacketsAtOnce(t *testing.T) {
	const packets = 10_000
	src := &counter{r: bytes.NewReader(bytes.Repeat(frame(0x30, make([]byte, 50)), packets))}
	r := NewReader(src, 0)
	for range packets / 2 {
		if _, _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(packets/4, func() {
		if _, _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for each packet", n)
	}
	if limit := packets * 52 / readIdle * 2; src.reads > limit {
		t.Errorf("%d reads, want at most %d", src.reads, limit)
	}
}

type counter struct {
	r     io.Reader
	reads int
}

func (c *counter) Read(p []byte) (int, error) {
	c.reads++
	return c.r.Read(p)
}

func TestParseHeaderNeedsMore(t *testing.T) {
	for _, s := range []string{"", "\x30", "\x30\x80", "\x30\xff\xff", "\x30\xff\xff\xff"} {
		if h, n, err := ParseHeader([]byte(s), 10); n != 0 || err != nil || h.Length != 0 {
			t.Errorf("% x: got %+v %d %v", s, h, n, err)
		}
	}
	for s, want := range map[string]int{"\x30\x00": 0, "\x30\x7f": 127, "\x30\x80\x01": 128, "\x30\xff\x7f": 16383,
		"\x30\x80\x80\x01": 16384, "\x30\xff\xff\x7f": 2097151, "\x30\x80\x80\x80\x01": 2097152, "\x30\xff\xff\xff\x7f": 268435455} {
		h, n, err := ParseHeader([]byte(s+"rest"), 0)
		if err != nil || n != len(s) || h.Length != want {
			t.Errorf("% x: got %+v %d %v", s, h, n, err)
		}
		if got := appendVarint([]byte{0x30}, want); string(got) != s || len(got) != 1+varintSize(want) {
			t.Errorf("%d is written % x", want, got)
		}
	}
}

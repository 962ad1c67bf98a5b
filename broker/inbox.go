package broker

import (
	"io"
	"sync"

	"github.com/wilco-iot/wilco/mqtt"
)

// inbox cuts what a connection reads into packets. It reads into the
// connection's own small buffer while little comes, into a large pooled one
// when much does, and lets go of that when it is empty; so idle connections
// hold none. A packet larger than that gets a buffer that grows with the bytes
// that really arrive, never with the length that was announced.
type inbox struct {
	small  []byte
	buf    []byte // small, pooled, or a larger one
	pooled *[largeBuffer]byte
	r, w   int // what is unread is buf[r:w]
	max    int // largest packet accepted
}

func newInbox(small []byte, limit int) inbox {
	return inbox{small: small, buf: small, max: limit}
}

const largeBuffer = 64 << 10

var largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

func (in *inbox) rest() []byte { return in.buf[in.r:in.w] }

// next cuts off one packet. Its body is valid until fill is called. It says
// false when more has to be read first.
func (in *inbox) next() (h mqtt.Header, body []byte, ok bool, err error) {
	h, n, err := mqtt.ParseHeader(in.rest(), in.max)
	if err != nil || n == 0 || len(in.rest()) < n+h.Length {
		return h, nil, false, err
	}
	body = in.buf[in.r+n : in.r+n+h.Length]
	in.r += n + h.Length
	return h, body, true, nil
}

// fill reads once, after it has made room.
func (in *inbox) fill(r io.Reader) (int, error) {
	full := in.w == len(in.buf)
	switch left := in.w - in.r; {
	case left == len(in.buf):
		in.move(2 * left)
	case full && len(in.buf) < largeBuffer:
		in.move(largeBuffer) // more came than fitted: much is coming
	case left == 0 && in.w < len(in.small):
		in.move(len(in.small))
	case left == 0 && len(in.buf) > largeBuffer:
		in.move(largeBuffer)
	case in.r > 0:
		copy(in.buf, in.rest())
		in.r, in.w = 0, left
	}
	n, err := r.Read(in.buf[in.w:])
	in.w += n
	if n > 0 {
		err = nil // it comes again, when what came with it has been taken
	}
	return n, err
}

// move takes what is unread to the front of a buffer of at least n bytes.
func (in *inbox) move(n int) {
	rest, old := in.rest(), in.pooled
	switch {
	case n <= len(in.small):
		in.buf, in.pooled = in.small, nil
	case n <= largeBuffer && old == nil:
		in.pooled = largeBuffers.Get().(*[largeBuffer]byte)
		in.buf, old = in.pooled[:], nil
	case n <= largeBuffer:
		in.buf, old = in.pooled[:], nil
	default:
		in.buf, in.pooled = make([]byte, n), nil
	}
	in.r, in.w = 0, copy(in.buf, rest)
	if old != nil {
		largeBuffers.Put(old)
	}
}

// drop lets go of the buffers.
func (in *inbox) drop() {
	if in.pooled != nil {
		largeBuffers.Put(in.pooled)
	}
	*in = inbox{}
}

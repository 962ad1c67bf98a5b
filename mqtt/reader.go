package mqtt

import "io"

// The sizes of a Reader's buffer, in bytes. It begins with readMin, doubles up
// to readIdle while reads fill it, and beyond that only for a packet that needs
// it; one larger than readIdle is let go as soon as it is empty.
const (
	readMin  = 2 << 10
	readIdle = 16 << 10
)

// maxEmptyReads is how often in a row the source may return neither bytes nor
// an error.
const maxEmptyReads = 100

// Reader cuts the byte stream of a connection into packets, however it was
// split on its way [MQTT-6.0.0-2]. It is for one goroutine.
//
// Its one buffer never has more than twice the bytes that have arrived of a
// packet, or readIdle if that is more, whatever length the packet claims.
//
// Invariant: buf[from:to] is what has been read and not yet handed out.
type Reader struct {
	src      io.Reader
	max      int
	buf      []byte
	from, to int
	err      error // of the source or the framing; final
}

// NewReader returns a Reader of the packets in r. max is the largest packet
// allowed in bytes, fixed header included; 0 means MaxPacket.
func NewReader(r io.Reader, max int) *Reader { return &Reader{src: r, max: max} }

// SetMax changes the largest packet allowed, from the next packet on: a server
// reads CONNECT with a small limit and raises it for those it has let in.
func (r *Reader) SetMax(max int) { r.max = max }

// Buffered is the number of bytes read from the source and not yet handed out;
// if it is 0, the next call of Next blocks until the source has more.
func (r *Reader) Buffered() int { return r.to - r.from }

// Next returns the next packet's header and body. It blocks for as long as the
// source does. body is borrowed from the Reader until the next call.
//
// The error is io.EOF when the source ended between two packets,
// io.ErrUnexpectedEOF when it ended within one, the source's own error, or a
// *Error as of ParseHeader. It is final: each later call returns it again.
// Packets that arrived whole before it are handed out first.
func (r *Reader) Next() (Header, []byte, error) {
	if r.from == r.to {
		r.release()
	}
	for {
		h, n, err := ParseHeader(r.buf[r.from:r.to], r.max)
		if err != nil {
			r.err = err
			r.from, r.to = 0, 0 // so that nothing is parsed again
			return Header{}, nil, err
		}
		need := maxHeader // enough to go on with while the header is incomplete
		if n != 0 {
			need = n + h.Length
			if end := r.from + need; end <= r.to {
				body := r.buf[r.from+n : end : end]
				r.from = end
				return h, body, nil
			}
		}
		if err := r.fill(need); err != nil {
			return Header{}, nil, err
		}
	}
}

// release takes an empty buffer back to its start, and lets go of one that a
// large packet has made.
func (r *Reader) release() {
	if len(r.buf) > readIdle {
		r.buf = nil
	}
	r.from, r.to = 0, 0
}

// fill reads at least one byte more of a packet of need bytes.
func (r *Reader) fill(need int) error {
	if r.err == nil {
		r.makeRoom(need)
	}
	for range maxEmptyReads {
		if r.err == io.EOF && r.to > r.from {
			r.err = io.ErrUnexpectedEOF
		}
		if r.err != nil {
			return r.err
		}
		var n int
		n, r.err = r.src.Read(r.buf[r.to:])
		r.to += n
		if n > 0 {
			return nil // an error beside it waits for the next call
		}
	}
	r.err = io.ErrNoProgress
	return r.err
}

// makeRoom sees to it that buf has space after to, and if it can that a packet
// of need bytes fits. A buffer that reads fill doubles up to readIdle; from
// there on it grows only when it is full of that one packet.
func (r *Reader) makeRoom(need int) {
	size := len(r.buf)
	switch full := r.to == size; {
	case full && size < readIdle:
		size = min(max(2*size, readMin), readIdle)
	case full && r.from == 0:
		size = min(2*size, need)
	case r.from == 0 || r.from+need <= size && !full:
		return
	}
	next := r.buf
	if size != len(r.buf) {
		next = make([]byte, size)
	}
	r.to = copy(next, r.buf[r.from:r.to])
	r.from, r.buf = 0, next
}

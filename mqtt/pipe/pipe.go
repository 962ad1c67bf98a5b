// Package pipe makes in-process network connections.
//
// [Pipe] returns the two ends of a connection that lives in memory. It differs
// from net.Pipe in that it buffers: a Write returns as soon as the bytes are in
// the buffer, so the two ends do not meet for each chunk, and a burst of small
// writes costs one wake-up of the reader. In that, and in how it closes, it
// behaves like TCP, which is what the users of a net.Conn expect.
//
// Each direction is one ring of bytes behind one mutex:
//
//	a.Write ──▶ [ ring, grows to Limit, then Write blocks ] ──▶ b.Read
//	a.Read  ◀── [ ring, grows to Limit, then Write blocks ] ◀── b.Write
//
// No goroutine is started, and no timer exists unless a deadline is set. Both
// ends are safe for concurrent use. Blocked calls wait on a sync.Cond, which
// testing/synctest sees as durably blocked, so a Pipe works in virtual time.
package pipe

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Limit is how many bytes each direction holds before a Write blocks.
const Limit = 256 << 10

// firstSize is what a ring allocates at its first write.
const firstSize = 2 << 10

// Pipe returns the two ends of a buffered in-process connection.
//
// Close ends both directions of an end: the peer still reads what was written
// before, then io.EOF; its writes, and everything tried on the closed end
// itself, give io.ErrClosedPipe. Bytes that the closing end had not read are
// lost. A passed deadline gives os.ErrDeadlineExceeded; a Write then says how
// many bytes the buffer had taken.
func Pipe() (a, b net.Conn) {
	ab, ba := newHalf(), newHalf()
	return &conn{in: ba, out: ab}, &conn{in: ab, out: ba}
}

type conn struct {
	in, out *half
}

// Read blocks until at least one byte is there, the connection is closed, or
// the read deadline passes.
func (c *conn) Read(p []byte) (int, error) { return c.in.read(p) }

// Write blocks while the buffer is full. Concurrent calls do not interleave.
func (c *conn) Write(p []byte) (int, error) { return c.out.write(p) }

// Close never blocks and may be called more than once.
func (c *conn) Close() error {
	c.in.closeReader()
	c.out.closeWriter()
	return nil
}

func (c *conn) SetDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readBy, t)
	c.out.setDeadline(&c.out.writeBy, t)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readBy, t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writeBy, t)
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return addr{} }
func (c *conn) RemoteAddr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "pipe" }
func (addr) String() string  { return "pipe" }

// half is one direction.
type half struct {
	mu   sync.Mutex
	data sync.Cond // readers wait: for bytes, an end, or a deadline
	room sync.Cond // writers wait: for space, their turn, an end, or a deadline

	buf  []byte // ring; len(buf) is 0 or a power of two, at most Limit
	head int    // index of the first byte held
	n    int    // bytes held

	readers int  // in data.Wait; a Signal for nobody is skipped
	writers int  // in room.Wait
	writing bool // a Write is under way; others wait their turn

	writerClosed bool
	readerClosed bool

	readBy, writeBy deadline
}

func newHalf() *half {
	h := &half{}
	h.data.L = &h.mu
	h.room.L = &h.mu
	return h
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	for {
		switch {
		case h.readerClosed:
			h.mu.Unlock()
			return 0, io.ErrClosedPipe
		case h.readBy.passed:
			h.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			h.mu.Unlock()
			return 0, nil
		case h.n > 0:
			n := h.take(p)
			wake := h.writers > 0
			h.mu.Unlock()
			if wake {
				h.room.Broadcast()
			}
			return n, nil
		case h.writerClosed:
			h.mu.Unlock()
			return 0, io.EOF
		}
		h.readers++
		h.data.Wait()
		h.readers--
	}
}

func (h *half) write(p []byte) (int, error) {
	h.mu.Lock()
	for h.writing && h.writable() == nil {
		h.waitRoom()
	}
	if err := h.writable(); err != nil {
		h.mu.Unlock()
		return 0, err
	}
	h.writing = true
	done := 0
	var err error
	for {
		if err = h.writable(); err != nil || done == len(p) {
			break
		}
		if h.n == Limit {
			h.waitRoom()
			continue
		}
		done += h.put(p[done:])
		if h.readers > 0 && done < len(p) {
			h.data.Signal()
		}
	}
	h.writing = false
	wakeReader, wakeWriter := h.readers > 0 && done > 0, h.writers > 0
	h.mu.Unlock()
	if wakeReader {
		h.data.Signal()
	}
	if wakeWriter {
		h.room.Broadcast()
	}
	return done, err
}

// writable says why a write may not go on, if so.
func (h *half) writable() error {
	switch {
	case h.writerClosed || h.readerClosed:
		return io.ErrClosedPipe
	case h.writeBy.passed:
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (h *half) waitRoom() {
	h.writers++
	h.room.Wait()
	h.writers--
}

// take moves bytes from the ring to p.
func (h *half) take(p []byte) int {
	n := copy(p, h.buf[h.head:min(h.head+h.n, len(h.buf))])
	if n < len(p) && n < h.n {
		n += copy(p[n:], h.buf[:h.n-n])
	}
	h.n -= n
	h.head = (h.head + n) & (len(h.buf) - 1)
	if h.n == 0 {
		h.head = 0 // the next burst lies in one piece
	}
	return n
}

// put moves bytes from p to the ring, which it grows when that helps.
func (h *half) put(p []byte) int {
	if h.n+len(p) > len(h.buf) && len(h.buf) < Limit {
		h.grow(h.n + len(p))
	}
	tail := (h.head + h.n) & (len(h.buf) - 1)
	n := copy(h.buf[tail:min(tail+len(h.buf)-h.n, len(h.buf))], p)
	if n < len(p) && h.n+n < len(h.buf) {
		n += copy(h.buf[:h.head], p[n:])
	}
	h.n += n
	return n
}

func (h *half) grow(want int) {
	size := max(len(h.buf), firstSize)
	for size < want && size < Limit {
		size *= 2
	}
	buf := make([]byte, size)
	n := h.n
	if n > 0 {
		h.take(buf)
	}
	h.buf, h.head, h.n = buf, 0, n
}

func (h *half) closeReader() {
	h.mu.Lock()
	h.readerClosed = true
	h.buf, h.head, h.n = nil, 0, 0
	h.readBy.stop()
	h.mu.Unlock()
	h.wakeAll()
}

func (h *half) closeWriter() {
	h.mu.Lock()
	h.writerClosed = true
	h.writeBy.stop()
	h.mu.Unlock()
	h.wakeAll()
}

func (h *half) wakeAll() {
	h.data.Broadcast()
	h.room.Broadcast()
}

// deadline is one side's time limit. The half's mutex guards it.
type deadline struct {
	timer  *time.Timer
	passed bool
	set    int // counts settings, so that a late timer cannot end a newer deadline
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.set++
}

func (h *half) setDeadline(d *deadline, t time.Time) {
	h.mu.Lock()
	d.stop()
	d.passed = false
	switch wait := time.Until(t); {
	case t.IsZero():
	case wait <= 0:
		d.passed = true
	case h.readerClosed && h.writerClosed:
		// Nobody will wait here again, so no timer may stay behind.
	default:
		mine := d.set
		d.timer = time.AfterFunc(wait, func() {
			h.mu.Lock()
			current := d.set == mine
			if current {
				d.passed = true
			}
			h.mu.Unlock()
			if current {
				h.wakeAll()
			}
		})
	}
	passed := d.passed
	h.mu.Unlock()
	if passed {
		h.wakeAll()
	}
}

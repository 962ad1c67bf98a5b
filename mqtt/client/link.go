package client

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

const (
	// fillBuffer is how many bytes of publishes are encoded ahead of the
	// network; the rest waits in the queue.
	fillBuffer = 64 << 10
	// stopReading is how many unsent bytes, which can then only be answers,
	// make the reader wait: a server that asks and does not read gets no memory.
	stopReading = 256 << 10
	// keepBuffer is the largest buffer kept for the next batch.
	keepBuffer = 256 << 10
	// farewell bounds the last write, and the wait for the server to close.
	farewell = time.Second
)

// link is one network connection.
type link struct {
	conn net.Conn
	in   *mqtt.Reader

	writerDone, readerDone chan struct{}
	failed                 chan struct{} // closed when dead is set
	err                    error         // why; read it after failed is closed

	// Guarded by the client's mutex.
	out         []byte    // encoded, not yet taken by the writer
	ready       sync.Cond // the writer waits: for out, or dead
	dead        bool
	open        bool // the subscriptions are asked for: publishes may leave
	readerWaits bool
	sent        uint64 // batches
	received    uint64 // packets
	broken      bool   // a write failed: the stream may end in half a packet
	auth        *authCall
	maxPacket   int // of the server, in bytes; 0: none

	// Owned by the reader.
	publish mqtt.Publish
	answer  mqtt.Ack
	topics  map[string]string
}

func newLink(conn net.Conn, maxPacket int, mu *sync.Mutex) *link {
	l := &link{
		conn: conn, in: mqtt.NewReader(conn, maxPacket),
		writerDone: make(chan struct{}), readerDone: make(chan struct{}), failed: make(chan struct{}),
	}
	l.ready.L = mu
	return l
}

// fail declares a link dead; the first reason stands. mu is held.
func (c *Client) fail(l *link, err error) {
	if l.dead {
		return
	}
	l.dead, l.err = true, err
	close(l.failed)
	l.ready.Signal()
	c.drained.Broadcast()
}

// writeLoop is the writer: it takes all that is in the buffer and writes it at
// once. While a write is under way the next batch gathers.
func (c *Client) writeLoop(l *link) {
	var batch []byte
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for len(l.out) == 0 && !l.dead {
			l.ready.Wait()
		}
		if l.dead {
			return
		}
		batch, l.out = l.out, batch[:0]
		mark, unsynced := c.snd.Mark(), c.unsynced
		c.unsynced = false
		if l.readerWaits {
			c.drained.Broadcast()
		}
		c.mu.Unlock()
		synced, err := c.write(l, batch, unsynced)
		c.mu.Lock()
		c.unsynced = c.unsynced || !synced
		if err != nil {
			l.broken = true
			c.fail(l, err)
			return
		}
		l.sent++
		if cap(batch) > keepBuffer {
			batch = nil
		}
		c.snd.Written(mark)
		c.step()
		if c.stopping && len(l.out) == 0 {
			c.notify()
		}
	}
}

// write makes durable what the packets rely on, then sends them. It reports
// whether nothing is left to make durable.
func (c *Client) write(l *link, batch []byte, unsynced bool) (synced bool, err error) {
	if unsynced && c.opts.Store != nil {
		if err := c.opts.Store.Sync(); err != nil {
			return false, fmt.Errorf("store: %w", err)
		}
	}
	_, err = l.conn.Write(batch)
	return true, err
}

// tearDown ends a link for the given reason, unless it failed before: the writer
// finishes its batch, the farewell is said if the stream is whole, and the
// socket is closed.
func (c *Client) tearDown(l *link, why error) {
	c.mu.Lock()
	c.fail(l, why)
	c.mu.Unlock()
	l.conn.SetWriteDeadline(time.Now().Add(farewell))
	if isNetwork(l.err) {
		l.conn.Close()
	}
	<-l.writerDone
	if !l.broken && c.sayGoodbye(l) && errors.Is(l.err, ErrStopped) {
		// A close with bytes unread is a reset, which may overtake DISCONNECT
		// and make the server publish the Will. So it closes first.
		l.conn.SetReadDeadline(time.Now().Add(farewell))
		select {
		case <-l.readerDone:
		case <-c.life.Done():
		}
	}
	l.conn.Close()
}

// isNetwork reports whether an error came from the network rather than from
// what was said over it.
func isNetwork(err error) bool {
	_, protocol := errors.AsType[*mqtt.Error](err)
	return !protocol && !errors.Is(err, ErrStopped)
}

// sayGoodbye writes a DISCONNECT, if there is something to say and the version
// can, and reports whether it was written. What the buffer still holds stays
// behind: the store has not been synced for it.
func (c *Client) sayGoodbye(l *link) bool {
	var p mqtt.Disconnect
	c.mu.Lock()
	tellWill := c.tellWill
	c.mu.Unlock()
	wrong, protocol := errors.AsType[*mqtt.Error](l.err)
	switch {
	case errors.Is(l.err, ErrStopped) && tellWill:
		p.Reason = mqtt.DisconnectWithWillMessage
	case errors.Is(l.err, ErrStopped):
		p.Reason = mqtt.NormalDisconnection
	case protocol && c.opts.Version == mqtt.V5: // [MQTT-4.13.1-1]
		p.Reason = wrong.Code
	default:
		return false
	}
	b, err := p.Append(nil, c.opts.Version)
	if err != nil {
		return false
	}
	_, err = l.conn.Write(b)
	return err == nil
}

// forgetLink ends the link for the core. Its goroutines have ended.
func (c *Client) forgetLink() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link = nil
	c.snd.Down()
	c.rcv.Down()
	c.paused = c.resumes()
	for id, s := range c.subCalls {
		c.snd.FreeID(id)
		delete(c.subCalls, id)
		s.answer <- subAnswer{err: ErrDown}
	}
	c.step()
}

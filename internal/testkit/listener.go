package testkit

import (
	"context"
	"net"
	"sync"

	"github.com/wilco-iot/wilco/mqtt/pipe"
)

// Listener is a net.Listener in memory, which works in virtual time. Safe for
// concurrent use.
type Listener struct {
	dialled chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

// NewListener makes a Listener.
func NewListener() *Listener {
	return &Listener{dialled: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial connects; it blocks until Accept takes the other end, and gives
// net.ErrClosed once the Listener is closed.
func (l *Listener) Dial(ctx context.Context) (net.Conn, error) {
	near, far := pipe.Pipe()
	select {
	case l.dialled <- far:
		return near, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept waits for a Dial, and gives net.ErrClosed once the Listener is closed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.dialled:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and Dial; the connections stay.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is that of a connection in memory.
func (l *Listener) Addr() net.Addr {
	near, _ := pipe.Pipe()
	return near.LocalAddr()
}

package demo

import (
	"io"
	"net"
	"sync"
)

// line joins a gateway to the server above, and can be cut. Who calls while it is
// cut hears nothing until it is whole again. Safe for concurrent use.
type line struct {
	net.Listener
	to      string
	closed  chan struct{}
	running sync.WaitGroup

	mu    sync.Mutex
	whole chan struct{} // closed while it is
	ends  []net.Conn    // of the connections over it
}

// newLine makes one that is whole, to the address of a broker.
func newLine(to string) (*line, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	x := &line{Listener: l, to: to, closed: make(chan struct{}), whole: make(chan struct{})}
	x.mend()
	x.running.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			x.running.Go(func() { x.join(near) })
		}
	})
	return x, nil
}

// join connects who has called, and returns when that is over.
func (l *line) join(near net.Conn) {
	defer near.Close()
	l.mu.Lock()
	whole := l.whole
	l.mu.Unlock()
	select {
	case <-whole:
	case <-l.closed:
		return
	}
	far, err := net.Dial("tcp", l.to)
	if err != nil {
		return
	}
	defer far.Close()
	if !l.lay(near, far) {
		return
	}
	l.running.Go(func() {
		_, _ = io.Copy(near, far) // its end is that of the connection, whatever it was
		near.Close()
	})
	_, _ = io.Copy(far, near)
}

// lay notes a connection, unless the line was cut meanwhile.
func (l *line) lay(ends ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.whole:
		l.ends = append(l.ends, ends...)
		return true
	default:
		return false
	}
}

// cut ends what goes over a line that is whole.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.whole = make(chan struct{})
	for _, end := range l.ends {
		end.Close()
	}
	l.ends = nil
}

// mend makes a line whole that is cut.
func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.whole)
}

// close ends it, once.
func (l *line) close() error {
	close(l.closed)
	err := l.Close()
	l.cut()
	l.running.Wait()
	return err
}

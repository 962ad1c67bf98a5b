//go:build unix

package broker

import (
	"net"
	"syscall"
)

// rawOf is the socket of nc, for writes that do not wait; nil when there is more
// than a socket between us and the client.
func rawOf(nc net.Conn) syscall.RawConn {
	t, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// write writes o.out as far as the socket takes it. It says true: it does not
// want to be called again when the socket takes more.
func (o *outbox) write(fd uintptr) bool {
	for len(o.out) > 0 {
		n, err := syscall.Write(int(fd), o.out)
		if n > 0 {
			o.out = o.out[n:]
		} else if err != syscall.EINTR {
			break
		}
	}
	return true
}

package check

import (
	"net"
	"syscall"
)

// acknowledgeAtOnce asks the system to acknowledge what was read. Otherwise a
// broker that leaves Nagle's algorithm on stands still for 40 ms again and
// again, which says nothing about it. Linux forgets the wish, so it is made
// after each read.
func acknowledgeAtOnce(nc net.Conn) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1) })
	}
}

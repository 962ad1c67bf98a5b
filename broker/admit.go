package broker

import (
	"net"
	"time"

	"github.com/wilco-iot/wilco/mqtt"
)

// newConn wraps an accepted connection, whose time to CONNECT begins.
func (b *Broker) newConn(nc net.Conn, listener string, inside bool) *conn {
	c := &conn{b: b, nc: nc, raw: rawOf(nc), system: inside}
	c.info.Listener, c.info.Remote = listener, nc.RemoteAddr()
	c.host, _, _ = net.SplitHostPort(c.info.Remote.String())
	return c
}

// admit counts a new connection, or says that it must be closed. On true, the
// caller runs c.serve in a goroutine that admit has counted.
func (b *Broker) admit(c *conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := &b.options.Limits
	if !b.started || b.stopped || b.stopping.Load() {
		return false
	}
	if !c.system {
		if len(b.conns) >= l.Connections || b.halfOpen[c.host] >= l.HalfOpen || !b.connects.allow("address "+c.host, b.now()) {
			b.count.silent.Add(1)
			return false
		}
		b.halfOpen[c.host]++
		c.halved = true
		b.outside++
	}
	b.conns[c] = struct{}{}
	b.count.accepted.Add(1)
	b.count.connections.Add(1)
	b.running.Add(1)
	c.timer = time.AfterFunc(l.ConnectTimeout, c.tick)
	return true
}

// opened takes a connection out of the half-open ones.
func (b *Broker) opened(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.openedLocked(c)
}

func (b *Broker) openedLocked(c *conn) {
	if !c.halved {
		return
	}
	c.halved = false
	if b.halfOpen[c.host]--; b.halfOpen[c.host] == 0 {
		delete(b.halfOpen, c.host)
	}
}

// forget ends what admit began.
func (b *Broker) forget(c *conn) {
	_ = c.nc.Close()
	c.timer.Stop()
	b.mu.Lock()
	b.openedLocked(c)
	delete(b.conns, c)
	if !c.system {
		b.outside--
	}
	if b.outside == 0 && b.emptied != nil {
		close(b.emptied)
		b.emptied = nil
	}
	b.mu.Unlock()
	b.count.connections.Add(-1)
	b.running.Done()
}

// connected tells that c was accepted. It is called outside locks.
func (b *Broker) connected(c *conn, present bool) {
	b.opened(c)
	b.log.Debug("connected", "client", c.info.ClientID, "identity", c.info.Identity, "remote", c.info.Remote, "session", present)
	if b.options.Events.Connected != nil {
		b.options.Events.Connected(c.info, present)
	}
}

// disconnected tells that c has ended. It is called outside locks.
func (b *Broker) disconnected(c *conn, code mqtt.ReasonCode, err error) {
	b.log.Debug("disconnected", "client", c.info.ClientID, "reason", code.String(), "error", err)
	if b.options.Events.Disconnected != nil {
		b.options.Events.Disconnected(c.info, code, err)
	}
}

// shutDown ends c because the broker stops.
func (c *conn) shutDown() {
	if !c.joined.Load() {
		_ = c.nc.Close()
		return
	}
	c.end(mqtt.ServerShuttingDown, nil)
}

package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Listener is one place where clients connect.
type Listener struct {
	// Name is unique among the listeners of a broker, and for Addr and events.
	Name string
	// Network is "tcp", "tls", "ws" or "wss".
	Network string
	// Address is host:port as for net.Listen; port 0 takes a free one.
	Address string
	// Open makes the listener in place of net.Listen with Address: one in memory,
	// or one that was inherited. Its Accept must give net.ErrClosed once it is
	// closed. Default: Address is listened on over TCP.
	Open func() (net.Listener, error)
	// TLS is required for "tls" and "wss". TLS 1.3 is the least accepted unless
	// MinVersion says TLS 1.2; what is below that never is. With ClientAuth
	// tls.RequireAndVerifyClientCert no byte of MQTT is read of a client whose
	// certificate does not verify. What GetConfigForClient returns is held to the
	// same versions, so it is the way to change certificates without a restart.
	TLS *tls.Config
	// Origins are patterns of hosts, as in path.Match, that browsers may come
	// from over WebSocket beside the host that they connect to.
	Origins []string
	// Overflow is the policy for the sessions of who connects here, unless the
	// Identity has one of its own; see Overflowing.
	Overflow Overflow
}

func (l *Listener) check() error {
	switch l.Network {
	case "tcp", "ws":
		if l.TLS != nil {
			return fmt.Errorf("broker: listener %q: TLS configured, but network is %q", l.Name, l.Network)
		}
	case "tls", "wss":
		if l.TLS == nil {
			return fmt.Errorf("broker: listener %q: network %q needs TLS", l.Name, l.Network)
		}
	default:
		return fmt.Errorf("broker: listener %q: network %q is none of tcp, tls, ws, wss", l.Name, l.Network)
	}
	if l.Overflow > DropOldest {
		return fmt.Errorf("broker: listener %q: no overflow policy has the number %d", l.Name, l.Overflow)
	}
	return nil
}

// listener is an open Listener.
type listener struct {
	net.Listener
	b      *Broker
	config Listener
	tls    *tls.Config
	server *http.Server  // for ws and wss
	done   chan struct{} // closed by close
	once   sync.Once
}

func (b *Broker) listen(config Listener) (*listener, error) {
	open := config.Open
	if open == nil {
		open = func() (net.Listener, error) { return net.Listen("tcp", config.Address) } // [MQTT-4.2.0-1]
	}
	raw, err := open()
	if err != nil {
		return nil, err
	}
	l := &listener{Listener: raw, b: b, config: config, done: make(chan struct{})}
	if config.TLS != nil {
		l.tls = floored(config.TLS)
		if choose := config.TLS.GetConfigForClient; choose != nil {
			l.tls.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
				chosen, err := choose(h)
				if chosen == nil || err != nil {
					return chosen, err
				}
				return floored(chosen), nil
			}
		}
	}
	if config.Network == "ws" || config.Network == "wss" {
		l.server = l.webSocketServer()
	}
	return l, nil
}

// floored is a copy of c that accepts no old version of TLS.
func floored(c *tls.Config) *tls.Config {
	c = c.Clone()
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS13
	}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	return c
}

func (l *listener) close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		close(l.done)
		if err = l.Listener.Close(); l.server != nil {
			err = errors.Join(err, l.server.Close())
		}
	})
	return err
}

// serve accepts until close.
func (l *listener) serve() {
	if l.server != nil {
		l.serveWebSocket()
		return
	}
	delay := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of file descriptors, most likely: wait for some to be closed.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			l.b.log.Error("accept failed", "listener", l.config.Name, "error", err, "again_in", delay)
			select {
			case <-time.After(delay):
				continue
			case <-l.done:
				return
			}
		}
		delay = 0
		if l.tls != nil {
			nc = tls.Server(nc, l.tls)
		}
		c := l.b.newConn(nc, l.config.Name, false)
		if !l.b.admit(c) {
			_ = nc.Close()
			continue
		}
		go c.serve()
	}
}

package main

import (
	"context"
	"math/rand/v2"
	"net"
	"net/url"
	"time"

	"github.com/wilco-iot/wilco/internal/cli"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/sim"
	"github.com/wilco-iot/wilco/wire"
)

// swarm is who is simulated, whatever they are, and against what.
type swarm struct {
	members []sim.Member
	seed    uint64
	broker  string // as it may be shown
	address string
	limit   time.Duration // 0: until the end
}

// swarmOf reads the options; field is the name of the broker's URL among them.
func swarmOf(o cli.SimulateOptions, field string) (swarm, error) {
	u, err := url.Parse(o.Broker)
	if err != nil || u.Scheme != "mqtt" && u.Scheme != "tcp" || u.Hostname() == "" {
		return swarm{}, fault.Field(field, "must be a URL like mqtt://127.0.0.1:1883")
	}
	s := swarm{members: make([]sim.Member, len(o.Devices)), seed: o.Seed, broker: u.Redacted(), address: u.Host, limit: o.For}
	if u.Port() == "" {
		s.address = net.JoinHostPort(u.Hostname(), "1883")
	}
	if s.seed == 0 {
		s.seed = rand.Uint64N(1 << 32)
	}
	for i, d := range o.Devices {
		if s.members[i].Address, err = wire.ParseAddress(d.Address); err != nil {
			return swarm{}, fault.Field("device", "%v", err)
		}
		s.members[i].Secret = d.Secret
	}
	return s, nil
}

// within bounds ctx by the time that the simulation is to last.
func (s *swarm) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.limit > 0 {
		return context.WithTimeout(ctx, s.limit)
	}
	return context.WithCancel(ctx)
}

func (s *swarm) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", s.address)
}

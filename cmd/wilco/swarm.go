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
	broker
	members []sim.Member
	seed    uint64
	limit   time.Duration // 0: until the end
}

// broker is where devices connect.
type broker struct {
	url     string // as it may be shown
	address string
	user    *url.Userinfo // nil: each device has a secret of its own
}

// brokerOf reads a URL; field is what it is called where somebody wrote it.
func brokerOf(text, field string) (broker, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "mqtt" && u.Scheme != "tcp" || u.Hostname() == "" {
		return broker{}, fault.Field(field, "must be a URL like mqtt://127.0.0.1:1883")
	}
	b := broker{url: u.Redacted(), address: u.Host, user: u.User}
	if u.Port() == "" {
		b.address = net.JoinHostPort(u.Hostname(), "1883")
	}
	return b, nil
}

func (b broker) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", b.address)
}

// swarmOf reads the options; field is the name of the broker's URL among them.
func swarmOf(o cli.SimulateOptions, field string) (swarm, error) {
	b, err := brokerOf(o.Broker, field)
	if err != nil {
		return swarm{}, err
	}
	s := swarm{broker: b, members: make([]sim.Member, len(o.Devices)), seed: o.Seed, limit: o.For}
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

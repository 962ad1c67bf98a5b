package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/wilco-iot/wilco/internal/cli"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/sim"
	"github.com/wilco-iot/wilco/wire"
)

// simulateEdges is Sparkplug edge nodes. Their bdSeq is kept for as long as they
// run only: a host takes the first NBIRTH of a node whatever its number is.
func simulateEdges(ctx context.Context, o cli.SimulateOptions, streams cli.IO) (err error) {
	broker, err := url.Parse(o.Broker)
	if err != nil || broker.Scheme != "mqtt" && broker.Scheme != "tcp" || broker.Hostname() == "" {
		return fault.Field("url", "must be a URL like mqtt://127.0.0.1:1883")
	}
	address := broker.Host
	if broker.Port() == "" {
		address = net.JoinHostPort(broker.Hostname(), "1883")
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64N(1 << 32)
	}
	if o.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.For)
		defer cancel()
	}
	members := make([]sim.Member, len(o.Devices))
	for i, d := range o.Devices {
		if members[i].Address, err = wire.ParseAddress(d.Address); err != nil {
			return fault.Field("device", "%v", err)
		}
		members[i].Secret = d.Secret
	}
	dir, err := os.MkdirTemp("", "wilco-edges-")
	if err != nil {
		return fmt.Errorf("directory for bdSeq: %w", err)
	}
	defer os.RemoveAll(dir)
	if !o.JSON {
		fmt.Fprintf(streams.Out, "%d edge nodes, seed %d, broker %s; end with Ctrl-C\n", len(members), o.Seed, broker.Redacted())
	}
	return sim.RunEdges(ctx, sim.EdgeOptions{Members: members, Seed: o.Seed, Dir: dir, Lose: o.Lose, Duplicate: o.Duplicate, Reorder: o.Reorder,
		Every: time.Second, Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", address)
		}})
}

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/wilco-iot/wilco/internal/cli"
	"github.com/wilco-iot/wilco/internal/sim"
)

// simulateEdges is Sparkplug edge nodes. Their bdSeq is kept for as long as they
// run only: a host takes the first NBIRTH of a node whatever its number is.
func simulateEdges(ctx context.Context, o cli.SimulateOptions, streams cli.IO) (err error) {
	s, err := swarmOf(o, "url")
	if err != nil {
		return err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	dir, err := os.MkdirTemp("", "wilco-edges-")
	if err != nil {
		return fmt.Errorf("directory for bdSeq: %w", err)
	}
	defer os.RemoveAll(dir)
	if !o.JSON {
		fmt.Fprintf(streams.Out, "%d edge nodes, seed %d, broker %s; end with Ctrl-C\n", len(s.members), s.seed, s.url)
	}
	password, _ := s.user.Password()
	r, err := sim.RunEdges(ctx, sim.EdgeOptions{Members: s.members, Username: s.user.Username(), Password: password, Seed: s.seed, Dir: dir,
		Lose: o.Lose, Duplicate: o.Duplicate, Reorder: o.Reorder, Every: time.Second, Dial: s.dial})
	if err != nil {
		return err
	}
	if o.JSON {
		return printJSON(streams.Out, r)
	}
	fmt.Fprintf(streams.Out, "%d DATA messages: lost %d, repeated %d, overtaken %d; %d writes\n", r.Data, r.Lost, r.Duplicated, r.Reordered, r.Writes)
	return nil
}

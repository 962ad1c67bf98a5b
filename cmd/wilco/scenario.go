package main

import (
	"context"
	"os"

	"github.com/wilco-iot/wilco/internal/cli"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/scenario"
)

func runScenario(ctx context.Context, o cli.ScenarioOptions, streams cli.IO) (err error) {
	s, err := scenario.Parse(o.File, o.Text)
	if err != nil {
		return err
	}
	if o.Fast {
		s = s.Fast()
	}
	world := scenario.World{API: o.Server}
	if o.Server != nil {
		broker, err := brokerOf(o.Broker, "broker")
		if err != nil {
			return err
		}
		world.Broker = broker.dial
	} else {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		own, err := scenario.StartOwn(ctx, self)
		if err != nil {
			return err
		}
		defer func() {
			if stopped := own.Stop(); err == nil {
				err = stopped
			}
		}()
		world = own.World()
	}
	report, err := scenario.Run(ctx, s, world, scenario.Options{Seed: o.Seed, Progress: progress(streams, o.JSON)})
	if err != nil {
		return err
	}
	if o.JSON {
		if err := printJSON(streams.Out, report); err != nil {
			return err
		}
	} else {
		report.Print(streams.Out)
	}
	if !report.Good() {
		return fault.New(fault.Internal, "not everything was as expected; run again with --seed %d", report.Seed)
	}
	return nil
}

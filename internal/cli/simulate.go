package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/sim"
)

// SimulateOptions are those of wilco device simulate.
type SimulateOptions struct {
	Devices []SimulatedDevice
	Broker  string        // URL
	For     time.Duration // 0: until interrupted
	Seed    uint64        // 0: random
	// Shares, 0 to 1: of messages that are lost, repeated and overtaken; of
	// devices that lose power now and then, are away for long, and are slow.
	Lose, Duplicate, Reorder, Crash, Away, Slow float64
	JSON                                        bool
}

// SimulatedDevice is a registered device with its secret.
type SimulatedDevice struct{ Address, Secret string }

func (a *app) simulateCommand() *cobra.Command {
	var o SimulateOptions
	var count int
	var group, secret string
	c := &cobra.Command{Use: "simulate [GROUP/DEVICE]", Short: "Be one device, or many, with seeded faults",
		Long: "Simulate is devices that understand set (at once), move (takes a while, with progress) and flaky (fails half of the\n" +
			"times). With GROUP/DEVICE and --secret it is that device; without, it registers --count devices in --group, tagged\n" +
			"\"simulated\", and is all of them. It goes on until it is interrupted.",
		Example: "  wilco device simulate plant-1/pump-3 --secret \"$SECRET\"\n" +
			"  wilco device simulate --count 100 --seed 7 --lose 0.01 --duplicate 0.05 --crash 0.2",
		Args: cobra.MaximumNArgs(1)}
	f := c.Flags()
	f.IntVar(&count, "count", 10, "how many devices are registered and simulated")
	f.StringVar(&group, "group", "sim", "their group")
	f.StringVar(&secret, "secret", "", "secret of GROUP/DEVICE (WILCO_DEVICE_SECRET)")
	f.StringVar(&o.Broker, "broker", "mqtt://127.0.0.1:1883", "URL of the broker")
	f.DurationVar(&o.For, "for", 0, "how long (default: until interrupted)")
	f.Uint64Var(&o.Seed, "seed", 0, "seed of the faults (default: random, and printed)")
	shares := []struct {
		flag, doc string
		value     *float64
	}{
		{"lose", "share of messages that are lost, 0 to 1", &o.Lose},
		{"duplicate", "share of messages that come twice", &o.Duplicate},
		{"reorder", "share of answers that are overtaken by the next", &o.Reorder},
		{"crash", "share of devices that lose power now and then", &o.Crash},
		{"away", "share of devices that are away for long", &o.Away},
		{"slow", "share of devices that are slow", &o.Slow},
	}
	for _, s := range shares {
		f.Float64Var(s.value, s.flag, 0, s.doc)
	}
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		for _, s := range shares {
			if err := between(s.flag, *s.value, 0, 1); err != nil {
				return err
			}
		}
		if err := between("count", float64(count), 1, 100_000); err != nil {
			return err
		}
		if a.run.Simulate == nil {
			return missing("device simulator")
		}
		o.JSON = a.json
		if len(args) == 1 {
			secret = first(secret, a.env("WILCO_DEVICE_SECRET"))
			if secret == "" {
				return fault.Field("secret", "is missing: give --secret or WILCO_DEVICE_SECRET, as printed by wilco device add")
			}
			o.Devices = []SimulatedDevice{{args[0], secret}}
			return a.run.Simulate(ctx, o, a.IO)
		}
		api, err := a.connect()
		if err != nil {
			return err
		}
		for i := range count {
			d, err := sim.Register(ctx, api, client.NewDevice{Device: fmt.Sprintf("%s/sim-%04d", group, i+1)})
			if err != nil {
				return a.unreachable(err)
			}
			o.Devices = append(o.Devices, SimulatedDevice{d.Device, d.Secret})
		}
		return a.run.Simulate(ctx, o, a.IO)
	})
	return c
}

package cli

import (
	"context"
	"errors"
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
	var remove bool
	c := &cobra.Command{Use: "simulate [GROUP/DEVICE]", Short: "Be one device, or many, with seeded faults",
		Long: "Simulate is devices that understand set (at once), move (takes a while, with progress) and flaky (fails half of the\n" +
			"times). With GROUP/DEVICE and --secret it is that device; without, it registers --count devices in --group, tagged\n" +
			"\"simulated\", and is all of them. It goes on until it is interrupted. With --remove those are then removed again.",
		Example: "  wilco device simulate plant-1/pump-3 --secret \"$SECRET\"\n" +
			"  wilco device simulate --count 100 --seed 7 --lose 0.01 --duplicate 0.05 --crash 0.2",
		Args: cobra.MaximumNArgs(1)}
	f := c.Flags()
	f.IntVar(&count, "count", 10, "how many devices are registered and simulated")
	f.StringVar(&group, "group", "sim", "their group")
	f.BoolVar(&remove, "remove", false, "remove the simulated devices of --group at the end")
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
		o.Devices, err = register(ctx, api, count, func(n int) client.NewDevice { return client.NewDevice{Device: fmt.Sprintf("%s/sim-%04d", group, n)} })
		if err == nil {
			err = a.run.Simulate(ctx, o, a.IO)
		}
		return a.leave(ctx, api, o.Devices, remove, err)
	})
	return c
}

// register registers the devices 1 to count of a simulation. With an error it gives
// those that it came to.
func register(ctx context.Context, api *client.Client, count int, device func(n int) client.NewDevice) (list []SimulatedDevice, err error) {
	for n := 1; n <= count; n++ {
		d, err := sim.Register(ctx, api, device(n))
		if err != nil {
			return list, err
		}
		list = append(list, SimulatedDevice{d.Device, d.Secret})
	}
	return list, nil
}

// leave removes the devices of a simulation that has ended with an error or nil, if
// that is wanted, also when it was interrupted. It says what becomes of them.
func (a *app) leave(ctx context.Context, api *client.Client, list []SimulatedDevice, remove bool, ended error) error {
	left := len(list)
	for ; remove && left > 0; left-- {
		if err := api.RemoveDevice(context.WithoutCancel(ctx), list[left-1].Address); err != nil {
			ended = errors.Join(ended, err)
			break
		}
	}
	switch {
	case a.json || len(list) == 0:
	case left > 0:
		fmt.Fprintf(a.Err, "%s left registered; --remove removes them\n", counted(left, "device"))
	default:
		fmt.Fprintf(a.Err, "%s removed\n", counted(len(list), "device"))
	}
	return a.unreachable(ended)
}

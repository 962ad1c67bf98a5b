package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// SimulateOptions are those of wilco device simulate.
type SimulateOptions struct {
	Device string // group/device
	Broker string // URL; "" means mqtt://127.0.0.1:1883
	Secret string
	Took   time.Duration // how long a command takes
	Fail   float64       // share of commands that fail, 0 to 1
	Silent float64       // share of commands that are never answered, 0 to 1
	Data   string        // directory of its journal; "" keeps it in memory
	Lines  bool          // print a line for each command
}

func (a *app) simulateCommand() *cobra.Command {
	var o SimulateOptions
	c := &cobra.Command{Use: "simulate GROUP/DEVICE", Short: "Be a device that obeys every command", Args: args("GROUP/DEVICE"),
		Example: "  wilco device simulate plant-1/pump-3 --secret \"$SECRET\" --takes 2s --fail 0.1"}
	f := c.Flags()
	f.StringVar(&o.Broker, "broker", "mqtt://127.0.0.1:1883", "URL of the broker")
	f.StringVar(&o.Secret, "secret", "", "the device's secret (WILCO_DEVICE_SECRET)")
	f.DurationVar(&o.Took, "takes", 0, "how long a command takes")
	f.Float64Var(&o.Fail, "fail", 0, "share of commands that fail, 0 to 1")
	f.Float64Var(&o.Silent, "silent", 0, "share of commands that are never answered, 0 to 1")
	f.StringVar(&o.Data, "data", "", "directory of its journal (default: in memory)")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		if a.run.Simulate == nil {
			return missing("device simulator")
		}
		o.Device, o.Secret, o.Lines = args[0], first(o.Secret, a.env("WILCO_DEVICE_SECRET")), !a.json
		for _, share := range []struct {
			flag  string
			value float64
		}{{"fail", o.Fail}, {"silent", o.Silent}} {
			if err := between(share.flag, share.value, 0, 1); err != nil {
				return err
			}
		}
		return a.run.Simulate(ctx, o, a.IO)
	})
	return c
}

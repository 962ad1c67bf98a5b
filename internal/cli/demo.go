package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/internal/fault"
)

// DemoOptions are those of wilco demo.
type DemoOptions struct {
	For     time.Duration
	Devices int
	Seed    uint64 // 0: random
	JSON    bool   // the report is JSON, and nothing else is printed
}

func (a *app) demoCommand() *cobra.Command {
	var o DemoOptions
	var report string
	c := &cobra.Command{Use: "demo", Short: "Show everything at once: a server, a fleet with faults, and an auditor",
		Long: "Demo runs a broker, a server and simulated devices over real MQTT in this process. Some devices are offline, slow,\n" +
			"or lose power in the middle of a command; the network loses, repeats and reorders. Meanwhile people agree to a command\n" +
			"that is held, take another one back, and roll out a firmware that fails and is stopped; and a gateway is cut off, acts\n" +
			"alone, and returns. In the end an auditor compares the devices' own logs with what the server says. The exit code is 1\n" +
			"when anything is wrong.",
		Example: "  wilco demo\n  wilco demo --for 10s --devices 200 --seed 7 --report json", Args: a.args()}
	f := c.Flags()
	f.DurationVar(&o.For, "for", 30*time.Second, "how long commands are sent")
	f.IntVar(&o.Devices, "devices", 50, "how many devices are simulated, beside those of the people")
	f.Uint64Var(&o.Seed, "seed", 0, "seed of the faults (default: random, and printed)")
	f.StringVar(&report, "report", "text", "how the report is written: text or json")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		if err := between("devices", float64(o.Devices), 1, 10000); err != nil {
			return err
		}
		switch report {
		case "text", "json":
			o.JSON = a.json || report == "json"
		default:
			return fault.Field("report", "%q is not one of text, json", report)
		}
		if a.run.Demo == nil {
			return missing("demo")
		}
		return a.run.Demo(ctx, o, a.IO)
	})
	return c
}

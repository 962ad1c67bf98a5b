package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// DemoOptions are those of wilco demo.
type DemoOptions struct {
	Devices  int
	Data     string        // "" means a directory that is removed at the end
	Duration time.Duration // 0: until interrupted
	HTTP     string
}

func (a *app) demoCommand() *cobra.Command {
	var o DemoOptions
	c := &cobra.Command{Use: "demo", Short: "Show everything at once: a server, devices, and commands to them", Args: args()}
	f := c.Flags()
	f.IntVar(&o.Devices, "devices", 3, "how many devices are simulated")
	f.StringVar(&o.Data, "data", "", "directory of the server (default: one that is removed at the end)")
	f.DurationVar(&o.Duration, "for", 0, "how long (default: until interrupted)")
	f.StringVar(&o.HTTP, "http-address", "127.0.0.1:8080", "address of the HTTP API")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		if err := between("devices", float64(o.Devices), 1, 10000); err != nil {
			return err
		}
		if a.run.Demo == nil {
			return missing("demo")
		}
		return a.run.Demo(ctx, o, a.IO)
	})
	return c
}

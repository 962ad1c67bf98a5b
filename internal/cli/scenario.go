package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
)

// ScenarioOptions are those of wilco simulate.
type ScenarioOptions struct {
	File   string // what Text is called
	Text   []byte
	Seed   uint64         // 0: the file's
	Fast   bool           // all times a tenth
	Server *client.Client // nil: a server of its own
	Broker string         // URL of Server's
	JSON   bool
}

func (a *app) scenarioCommand() *cobra.Command {
	var o ScenarioOptions
	c := &cobra.Command{Use: "simulate -f FILE", Short: "Run a scenario: devices, faults, restarts, and what must be true in the end",
		Long: "Simulate runs what a file says (YAML or JSON): simulated devices of several kinds, the faults of their networks over time,\n" +
			"what is asked of them, and when the server goes down. In the end an auditor compares the devices' own logs with what the\n" +
			"server says. The exit code is 1 when anything is not as the file expects.\n\n" +
			"It starts a server of its own, in a process that it can kill, over a directory that goes away with it; with --broker it\n" +
			"runs against the server of --server. Who is asked for what and when, and every fault, come out of the seed; how processes\n" +
			"and sockets race does not, so two runs of a seed are alike and not the same. See docs/how-to/scenarios.md.",
		Example: "  wilco simulate -f examples/scenarios/bad-radio.yaml\n" +
			"  wilco simulate -f examples/scenarios/restarts.yaml --seed 7 --fast --json",
		Args: a.args()}
	f := c.Flags()
	f.StringVarP(&o.File, "file", "f", "", "the scenario")
	f.Uint64Var(&o.Seed, "seed", 0, "seed of everything that is random (default: the file's)")
	f.BoolVar(&o.Fast, "fast", false, "all times a tenth, all rates ten times as high")
	f.StringVar(&o.Broker, "broker", "", "URL of the broker of --server (default: a server of its own)")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		if o.File == "" {
			return fault.Field("file", "is missing: give the scenario with -f FILE")
		}
		var err error
		if o.Text, err = os.ReadFile(o.File); errors.Is(err, fs.ErrNotExist) {
			return fault.New(fault.NotFound, "there is no file %s", o.File)
		} else if err != nil {
			return fault.Field("file", "%s cannot be read: %v", o.File, err)
		}
		if a.run.Scenario == nil {
			return missing("simulator")
		}
		o.JSON = a.json
		if o.Broker == "" {
			return a.run.Scenario(ctx, o, a.IO)
		}
		if o.Server, err = a.connect(); err != nil {
			return err
		}
		return a.unreachable(a.run.Scenario(ctx, o, a.IO))
	})
	return c
}

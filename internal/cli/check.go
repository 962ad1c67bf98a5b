package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/internal/fault"
)

// CheckBrokerOptions are those of wilco check broker.
type CheckBrokerOptions struct {
	URL      string
	Cases    []string // ids; none means all
	Seed     uint64
	Start    []string // command that starts the broker; none: it runs already
	Data     string   // where that broker keeps its data; "": not known
	Bridge   string   // URL of the broker at the other end of a bridge; "": none
	For      time.Duration
	Patience time.Duration
	Full     bool
	Version  string // 3.1.1 or 5
	Strict   bool
	JSON     bool
}

func (a *app) checkCommand() *cobra.Command {
	c := &cobra.Command{Use: "check", Short: "Prove or refute what a broker promises"}
	c.AddCommand(a.checkBroker(), a.checkTable())
	return a.parent(c)
}

func (a *app) checkTable() *cobra.Command {
	c := &cobra.Command{Use: "table NAME=FILE...", Short: "Put reports of several brokers side by side, as Markdown",
		Long:    "Table reads what wilco check broker --json has printed, of each broker one file, and writes one table.",
		Example: "  wilco check table \"wilco=a.json\" \"Mosquitto 2.0=b.json\"",
		Args:    cobra.MinimumNArgs(1)}
	c.RunE = a.do(func(_ context.Context, args []string) error {
		if a.run.CheckTable == nil {
			return missing("tester of brokers")
		}
		return a.run.CheckTable(args, a.IO)
	})
	return c
}

func (a *app) checkBroker() *cobra.Command {
	var o CheckBrokerOptions
	var start string
	c := &cobra.Command{Use: "broker URL", Short: "Test order and delivery of any MQTT broker",
		Long: "Broker goes through the cases of order and delivery: slow readers, cuts, half-open connections, takeover,\n" +
			"acknowledgements held back and out of order, overflow, expiry, shared subscriptions, and with --start kill -9,\n" +
			"with --data a full and a damaged disk.\n" +
			"A case is violated when the broker does what the standard forbids; what is better than the standard is listed at\n" +
			"the end. It uses topics below wilco-check/ and removes its sessions and retained messages.\n" +
			"The exit code is 0 when no case is violated.",
		Example: "  wilco check broker mqtt://127.0.0.1:1883\n" +
			"  wilco check broker mqtt://127.0.0.1:1883 --case O10 --case O13 --seed 7 --mqtt-version 3.1.1 --json\n" +
			"  wilco check broker mqtt://127.0.0.1:1883 --start \"mosquitto -p 1883\"\n" +
			"  wilco check broker mqtt://127.0.0.1:1883 --start \"wilco broker --tcp :1883 --anonymous --data q\" --data q --for 1h",
		Args: a.args("URL")}
	f := c.Flags()
	f.StringArrayVar(&o.Cases, "case", nil, "id of a case to run, such as O10 (repeatable; default: all)")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of the choices; the same seed makes the same")
	f.StringVar(&start, "start", "", "command that starts the broker in the foreground, split at spaces, so that it can be killed")
	f.StringVar(&o.Data, "data", "", "directory of the broker that --start starts: it is filled up and damaged, and put back as it was")
	f.StringVar(&o.Bridge, "bridge", "", "URL of another broker that a bridge connects with this one")
	f.DurationVar(&o.For, "for", 0, "then run cases drawn at random, each with its own seed, for so long")
	f.DurationVar(&o.Patience, "patience", 5*time.Second, "how long the broker may take for what it owes at once")
	f.BoolVar(&o.Full, "full", false, "as much as the list of cases says, where that takes minutes")
	f.StringVar(&o.Version, "mqtt-version", "5", "3.1.1 or 5")
	f.BoolVar(&o.Strict, "strict", false, "demand what wilco's broker promises beyond the standard too")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		o.URL, o.JSON, o.Start = args[0], a.json, strings.Fields(start)
		if o.Version != "5" && o.Version != "3.1.1" {
			return fault.Field("mqtt-version", "%q is not one of 3.1.1, 5", o.Version)
		}
		if a.run.CheckBroker == nil {
			return missing("tester of brokers")
		}
		return a.run.CheckBroker(ctx, o, a.IO)
	})
	return c
}

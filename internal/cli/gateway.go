package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/internal/fault"
)

// LedgerOptions are those of wilco gateway ledger.
type LedgerOptions struct {
	Dir    string
	Show   bool   // the entries; else only whether they can be trusted
	Device string // of the entries; "" for all
	JSON   bool
}

func (a *app) gatewayCommand() *cobra.Command {
	var file string
	c := &cobra.Command{Use: "gateway", Short: "Run a gateway: a server at the edge that goes on alone when the one above is out of reach",
		Long: "Gateway runs a whole server (broker, engine, API) for the devices of a site, and joins it to the server above as one\n" +
			"client of its broker. It goes on while that is out of reach: what devices say waits, rules act, and people use the\n" +
			"gateway's own API. All settings are in the file: those of wilco serve, and name, upstream, mirror, queue, ledger and\n" +
			"rules. When it is ready it prints one line as wilco serve does.\n\n" +
			"At the server above, register the gateway and then each device: wilco device add GROUP/DEVICE --via GROUP/GATEWAY.",
		Example: "  wilco gateway --config /etc/wilco/gateway.yaml"}
	c.Flags().StringVar(&file, "config", "", "configuration file of the gateway")
	c.Args = a.args()
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		if file == "" {
			return fault.Field("config", "is missing: the configuration file of the gateway")
		}
		if a.run.Gateway == nil {
			return missing("gateway")
		}
		return a.run.Gateway(ctx, file, a.IO)
	})
	ledger := &cobra.Command{Use: "ledger", Short: "Read a gateway's ledger of former states"}
	ledger.AddCommand(a.gatewayLedger("verify", "Say whether every entry is as it was written; exit code 5 when one is not", false),
		a.gatewayLedger("show", "Print the entries: what changed, what it was before, who did it", true))
	c.AddCommand(a.parent(ledger))
	return c
}

func (a *app) gatewayLedger(word, short string, show bool) *cobra.Command {
	o := LedgerOptions{Show: show}
	c := &cobra.Command{Use: word + " DIR", Short: short, Args: a.args("DIR"),
		Long: short + ".\n\nDIR is the directory ledger in the data directory of the gateway, or a copy of it. The gateway may run."}
	if show {
		c.Flags().StringVar(&o.Device, "device", "", "only of this device, GROUP/DEVICE")
	}
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		o.Dir, o.JSON = args[0], a.json
		if a.run.GatewayLedger == nil {
			return missing("gateway")
		}
		return a.run.GatewayLedger(ctx, o, a.IO)
	})
	return c
}

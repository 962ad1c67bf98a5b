package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/command"
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
	c.AddCommand(a.parent(ledger), a.gatewayConflicts())
	return c
}

// conflictKinds are the anomalies that tell of a gateway's command and the server's that
// may contradict each other.
var conflictKinds = []string{"gateway_conflict", string(command.GatewayActed)}

func (a *app) gatewayConflicts() *cobra.Command {
	c := &cobra.Command{Use: "conflicts GROUP/GATEWAY", Short: "List where what a gateway did alone contradicts what was asked for at the server",
		Args: a.args("GROUP/GATEWAY"),
		Long: "Conflicts lists, of all devices behind a gateway, newest first, where what it did alone and what was asked for at the server\n" +
			"meanwhile may contradict each other: values that stayed as the server has them, and commands that the gateway did not\n" +
			"have when it acted. Ask the server above."}
	c.RunE = a.withDevice(func(ctx context.Context, c *client.Client, gateway string) error {
		group, _, _ := strings.Cut(gateway, "/")
		list, behind := []client.Anomaly{}, 0
		for o := (client.DeviceOptions{Group: group, Limit: 1000}); ; {
			page, err := c.Devices(ctx, o)
			if err != nil {
				return err
			}
			for _, d := range page.Items {
				if d.Via != gateway {
					continue
				}
				behind++
				all, err := c.Anomalies(ctx, d.Device, 0)
				if err != nil {
					return err
				}
				list = append(list, slices.DeleteFunc(all, func(x client.Anomaly) bool { return !slices.Contains(conflictKinds, x.Kind) })...)
			}
			if o.Cursor = page.Next; o.Cursor == "" {
				break
			}
		}
		if behind == 0 {
			return fault.New(fault.NotFound, "no device is registered behind %s; ask the server above, and name the gateway as it is registered there", gateway)
		}
		slices.SortStableFunc(list, func(x, y client.Anomaly) int { return y.At.Compare(x.At) })
		return a.print(client.AnomalyList{Items: list}, func(out io.Writer) {
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "AT\tDEVICE\tKIND\tTID\tDETAIL")
			for _, x := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", stamp(x.At), clean(x.Device), clean(x.Kind), clean(x.TID), clean(x.Detail))
			}
			w.Flush()
		})
	})
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

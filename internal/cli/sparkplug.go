package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
)

func (a *app) sparkplugCommand() *cobra.Command {
	c := &cobra.Command{Use: "sparkplug", Short: "Look at Sparkplug edge nodes, and write to them",
		Long: "Sparkplug is about the edge nodes that the server follows when its setting sparkplug.role is not off."}
	c.AddCommand(a.sparkplugNodes(), a.sparkplugShow(), a.sparkplugWatch(), a.sparkplugWrite(), a.sparkplugRebirth(), a.sparkplugSimulate())
	return a.parent(c)
}

func (a *app) sparkplugNodes() *cobra.Command {
	var o client.SparkplugOptions
	var all bool
	c := &cobra.Command{Use: "nodes", Short: "List edge nodes", Args: a.args()}
	f := c.Flags()
	f.StringVar(&o.Group, "group", "", "only of this group")
	f.StringVar(&o.Status, "status", "", "only with this status: unborn, online, unsure or offline")
	f.IntVar(&o.Limit, "limit", 100, "at most so many, 1 to 1000")
	f.StringVar(&o.Cursor, "cursor", "", "go on where the last page ended")
	f.BoolVar(&all, "all", false, "all pages")
	words := []string{"unborn", "online", "unsure", "offline"}
	_ = c.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		page, err := pages(all, o.Cursor, func(cursor string) (*client.SparkplugNodePage, error) {
			o.Cursor = cursor
			return c.SparkplugNodes(ctx, o)
		})
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(page, func(out io.Writer) {
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NODE\tSTATUS\tSINCE\tDEVICES\tBIRTHS\tREBIRTHS\tGAPS\tLATE")
			for _, n := range page.Items {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\n", clean(n.Node), nodeStatus(&n), stamp(n.Since), n.Devices, n.Births, n.Rebirths, n.Gaps, n.Late)
			}
			w.Flush()
			sayMore(a.Err, page.Next)
		})
	})
	return c
}

func nodeStatus(n *client.SparkplugNode) string {
	if n.Reason != "" {
		return n.Status + " (" + n.Reason + ")"
	}
	return n.Status
}

// withNode makes the function of a command about one edge node.
func (a *app) withNode(c *cobra.Command, f func(context.Context, *client.Client, string) error) *cobra.Command {
	c.Args = a.args("GROUP/NODE")
	c.ValidArgsFunction = a.completeNodes
	do := a.withDevice(f)
	c.RunE = func(c *cobra.Command, args []string) error {
		if group, node, _ := strings.Cut(args[0], "/"); group == "" || node == "" {
			return fault.Field("node", "must be GROUP/NODE")
		}
		return do(c, args)
	}
	return c
}

// completeNodes names edge nodes for the shell; none when the server does not answer.
func (a *app) completeNodes(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if api, err := a.connect(); err == nil && len(args) == 0 {
		if page, err := api.SparkplugNodes(c.Context(), client.SparkplugOptions{Limit: 1000}); err == nil {
			for _, n := range page.Items {
				names = append(names, n.Node)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) sparkplugShow() *cobra.Command {
	c := &cobra.Command{Use: "show GROUP/NODE", Short: "Look at an edge node, its devices and all values"}
	return a.withNode(c, func(ctx context.Context, c *client.Client, node string) error {
		d, err := c.SparkplugNode(ctx, node)
		if err != nil {
			return err
		}
		return a.print(d, func(w io.Writer) { nodeDetails(w, d) })
	})
}

func nodeDetails(out io.Writer, d *client.SparkplugDetails) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "node\t%s\nstatus\t%s\nsince\t%s\nborn\t%s\n", clean(d.Node), nodeStatus(&d.SparkplugNode), stamp(d.Since), stamp(d.Born))
	if d.BdSeq != nil {
		fmt.Fprintf(w, "bdSeq\t%d\n", *d.BdSeq)
	}
	fmt.Fprintf(w, "clock ahead\t%d ms\nbirths\t%d, asked for %d%s\ngaps\t%d, of %d messages at least\nlate\t%d\nreordered\t%d\n",
		d.SkewMS, d.Births, d.Rebirths, reasonsOf(d.RebirthsFor), d.Gaps, d.Missing, d.Late, d.Reordered)
	if !d.Quarantine.IsZero() {
		fmt.Fprintf(w, "quarantine\tuntil %s: two nodes seem to have its name\n", stamp(d.Quarantine))
	}
	w.Flush()
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nDEVICE\tMETRIC\tVALUE\tDATATYPE\tQUALITY\tTIME")
	rows := func(device string, metrics []client.SparkplugMetric) {
		for _, m := range metrics {
			value := string(m.Value)
			switch {
			case m.Null:
				value = "null"
			case value == "":
				value = "?"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", clean(device), clean(m.Name), clip(clean(value), 60), m.Datatype, m.Quality, stamp(m.Time))
		}
	}
	rows("-", d.Metrics)
	for _, b := range d.Behind {
		name := b.Device
		if !b.Online {
			name += " (offline)"
		}
		rows(name, b.Metrics)
	}
	w.Flush()
}

// reasonsOf writes " (gap 2, requested 1)".
func reasonsOf(by map[string]uint64) string {
	var list []string
	for _, reason := range slices.Sorted(maps.Keys(by)) {
		list = append(list, fmt.Sprintf("%s %d", clean(reason), by[reason]))
	}
	if list == nil {
		return ""
	}
	return " (" + strings.Join(list, ", ") + ")"
}

func (a *app) sparkplugRebirth() *cobra.Command {
	c := &cobra.Command{Use: "rebirth GROUP/NODE", Short: "Ask an edge node for its births",
		Long: "Rebirth has the server ask an edge node for its births: soon, or after the cooldown that the node is in. It does\n" +
			"not wait for them."}
	return a.withNode(c, func(ctx context.Context, c *client.Client, node string) error {
		if err := c.SparkplugRebirth(ctx, node); err != nil {
			return err
		}
		return a.print(struct {
			Node string `json:"node"`
		}{node}, func(w io.Writer) { fmt.Fprintf(w, "%s will be asked for its births\n", clean(node)) })
	})
}

func (a *app) sparkplugSimulate() *cobra.Command {
	var o SimulateOptions
	var count int
	var group string
	var remove bool
	c := &cobra.Command{Use: "simulate", Short: "Be edge nodes, with seeded faults", Args: a.args(),
		Long: "Simulate registers --nodes devices of the profile sparkplug in --group, tagged \"simulated\", and is the edge nodes of their\n" +
			"names, each with a device pump behind it, until it is interrupted; then it says what it has done. Faults are made of DATA;\n" +
			"births and deaths come through. Where --url has a user, all nodes log in as that, and nothing is registered: that is for\n" +
			"other brokers. With --remove those devices are removed again.",
		Example: "  wilco sparkplug simulate --nodes 20 --seed 7 --loss 0.01 --reorder 0.05\n" +
			"  wilco sparkplug simulate --url mqtt://user:password@other:1883"}
	f := c.Flags()
	f.BoolVar(&remove, "remove", false, "remove the devices that stand for the nodes at the end")
	f.IntVar(&count, "nodes", 10, "how many edge nodes")
	f.StringVar(&group, "group", "sim", "their group")
	f.StringVar(&o.Broker, "url", "mqtt://127.0.0.1:1883", "URL of the server's built-in broker")
	f.DurationVar(&o.For, "for", 0, "how long (default: until interrupted)")
	f.Uint64Var(&o.Seed, "seed", 0, "seed of the values and faults (default: random, and printed)")
	f.Float64Var(&o.Lose, "loss", 0, "share of messages that are lost, 0 to 1")
	f.Float64Var(&o.Reorder, "reorder", 0, "share of messages that are overtaken by the next")
	f.Float64Var(&o.Duplicate, "duplicates", 0, "share of messages that come twice")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		for _, err := range []error{between("loss", o.Lose, 0, 1), between("reorder", o.Reorder, 0, 1),
			between("duplicates", o.Duplicate, 0, 1), between("nodes", float64(count), 1, 10_000)} {
			if err != nil {
				return err
			}
		}
		if a.run.SimulateEdges == nil {
			return missing("edge node simulator")
		}
		u, err := url.Parse(o.Broker)
		if err != nil {
			return fault.Field("url", "must be a URL like mqtt://127.0.0.1:1883")
		}
		o.JSON = a.json
		if u.User != nil {
			for n := range count {
				o.Devices = append(o.Devices, SimulatedDevice{Address: edgeNode(group, n+1).Device})
			}
			return a.run.SimulateEdges(ctx, o, a.IO)
		}
		api, err := a.connect()
		if err != nil {
			return err
		}
		o.Devices, err = register(ctx, api, count, func(n int) client.NewDevice { return edgeNode(group, n) })
		if err == nil {
			err = a.run.SimulateEdges(ctx, o, a.IO)
		}
		return a.leave(ctx, api, o.Devices, remove, err)
	})
	return c
}

// edgeNode is one of a simulation.
func edgeNode(group string, n int) client.NewDevice {
	return client.NewDevice{Device: fmt.Sprintf("%s/edge-%04d", group, n), Profile: "sparkplug"}
}

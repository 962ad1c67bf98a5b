package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
)

func (a *app) statsCommand() *cobra.Command {
	var o client.StatsOptions
	var since string
	c := &cobra.Command{Use: "stats", Short: "Count what became of commands, and how long they took", Args: a.args(),
		Long: "Stats counts commands by their end, says how long they took, and names the devices that did worst. It\n" +
			"looks at the newest 100,000 commands at most, and says when there were more.",
		Example: "  wilco stats --since 168h\n  wilco stats --type valve.open --group plant-1"}
	f := c.Flags()
	f.StringVar(&o.Type, "type", "", "only commands of this name")
	f.StringVar(&o.Group, "group", "", "only of this group")
	f.StringVar(&since, "since", "24h", "made at this time or later: RFC 3339, or a duration before now, at most 744h")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		var err error
		if o.Since, err = moment("since", since); err != nil {
			return err
		}
		c, err := a.connect()
		if err != nil {
			return err
		}
		s, err := c.Stats(ctx, o)
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(s, func(w io.Writer) { printStats(w, s) })
	})
	return c
}

func printStats(out io.Writer, s *client.Stats) {
	fmt.Fprintf(out, "%s since %s\n", counted(s.Commands, "command"), stamp(s.From))
	if s.Cut {
		fmt.Fprintln(out, "There were more: only the newest are counted. Ask for less with --since, --type or --group.")
	}
	for i := range s.Types {
		printTypeStats(out, &s.Types[i])
	}
	printWorst(out, "most failed", s.MostFailed)
	printWorst(out, "slowest", s.Slowest)
}

// counted writes "1 command" and "2 commands".
func counted(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

func printTypeStats(out io.Writer, t *client.TypeStats) {
	name := clean(t.Name)
	if name == "" {
		name = "(others)"
	}
	fmt.Fprintf(out, "\n%s: %s, %d open\n", name, counted(t.Commands, "command"), t.Open)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, e := range t.Ends {
		fmt.Fprintf(w, "  %s\t%d\t%s\n", e.State, e.Count, reasonText(e.Reason))
	}
	w.Flush()
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  \tCOUNT\tP50\tP90\tP99\tMAX")
	for _, row := range []struct {
		name string
		s    client.Spread
	}{{"created to sent", t.CreatedToSent}, {"sent to acked", t.SentToAcked}, {"sent to ended", t.SentToEnded}, {"created to ended", t.CreatedToEnded}} {
		if row.s.Count > 0 {
			fmt.Fprintf(w, "  %s\t%d\t%s\t%s\t%s\t%s\n", row.name, row.s.Count, length(row.s.P50.D()), length(row.s.P90.D()), length(row.s.P99.D()), length(row.s.Max.D()))
		}
	}
	w.Flush()
}

func printWorst(out io.Writer, title string, list []client.DeviceStats) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(out, "\n%s\n", title)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  DEVICE\tCOMMANDS\tFAILED\tMEAN")
	for _, d := range list {
		fmt.Fprintf(w, "  %s\t%d\t%d\t%s\n", clean(d.Device), d.Commands, d.Failed, length(d.Mean.D()))
	}
	w.Flush()
}

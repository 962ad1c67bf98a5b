package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
)

func (a *app) rollbackCommand() *cobra.Command {
	var o client.RollbackOptions
	var dryRun, wait bool
	var timeout time.Duration
	c := &cobra.Command{Use: "rollback TID", Short: "Take a command back: bring back what was there before it", Args: a.args("TID"),
		Long: "Rollback shows what the device reported before the command was sent, after it, and now, and makes a command that brings\n" +
			"the former values back. That goes the way of every command: clocks, approval, timeline.\n" +
			"It is refused (exit code 5) when somebody else has changed the values since; look, and then --force --reason TEXT.",
		Example: "  wilco rollback 01890a5d-ac96-774b-bcce-b302099a8057 --dry-run\n" +
			"  wilco rollback 01890a5d-ac96-774b-bcce-b302099a8057 --reason 'wrong valve' --wait"}
	f := c.Flags()
	f.BoolVar(&dryRun, "dry-run", false, "only show what would be done, and what is in the way")
	f.BoolVar(&o.Force, "force", false, "also when others have changed the values since; needs --reason")
	f.StringVar(&o.Reason, "reason", "", "why, for the timelines of both commands")
	f.StringVar(&o.Key, "key", "", "idempotency key: asking the same again gives the same command")
	f.BoolVar(&wait, "wait", false, "wait until the new command has ended; the exit code tells the end, as with send")
	f.DurationVar(&timeout, "timeout", 0, "with --wait: wait at most this long (exit code 7); the command goes on")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		if o.Force && o.Reason == "" {
			return fault.Field("reason", "missing; --force needs a reason, for the timelines")
		}
		c, err := a.connect()
		if err != nil {
			return err
		}
		plan, err := c.PlanRollback(ctx, args[0])
		if err != nil {
			return a.unreachable(err)
		}
		if dryRun {
			return a.print(plan, func(w io.Writer) { printRollback(w, plan); printRefusal(w, plan) })
		}
		if !a.json {
			printRollback(a.Out, plan)
		}
		cmd, err := c.Rollback(ctx, args[0], o)
		if err != nil {
			return a.unreachable(err)
		}
		if wait {
			return a.await(ctx, c, cmd, timeout)
		}
		return a.print(cmd, func(w io.Writer) { fmt.Fprintf(w, "%s %s\n", cmd.TID, cmd.State) })
	})
	return c
}

// printRollback writes what would change, one line for each value, and what would be
// sent.
func printRollback(out io.Writer, p *client.RollbackPlan) {
	if len(p.Changes) > 0 {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "PATH\tBEFORE\tAFTER\tNOW\t")
		for i := range p.Changes {
			c := &p.Changes[i]
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", clean(c.Path), valueText(c.Former), valueText(c.After), valueText(c.Now), verdict(c))
		}
		w.Flush()
	}
	if p.Name != "" {
		fmt.Fprintf(out, "to be sent: %s %s\n", clean(p.Name), clip(clean(string(p.Params)), 400))
	}
	if p.Approval != "" {
		fmt.Fprintf(out, "it waits until %d agree (%s)\n", p.Quorum, clean(p.Approval))
	}
}

func printRefusal(out io.Writer, p *client.RollbackPlan) {
	switch {
	case p.Forcible:
		fmt.Fprintf(out, "not possible without --force: %s\n", clean(p.Refused))
	case p.Refused != "":
		fmt.Fprintf(out, "not possible: %s\n", clean(p.Refused))
	}
}

// verdict says in words what is with a value.
func verdict(c *client.RollbackChange) string {
	text := ""
	switch {
	case len(c.Desired) > 0:
		text = "desired since: " + valueText(c.Desired)
	case c.Foreign:
		text = "changed since"
	case !c.Differs:
		return "as before"
	}
	if c.Foreign && c.By != "" {
		text += " by " + clean(c.By)
	}
	return text
}

func valueText(raw json.RawMessage) string {
	if len(raw) == 0 {
		return "-"
	}
	return clip(clean(string(raw)), 60)
}

package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
)

// approveCommand looks at the command first and votes for what it has shown:
// whatever is changed in between makes the vote a conflict.
func (a *app) approveCommand() *cobra.Command {
	var why, digest string
	c := &cobra.Command{Use: "approve TID", Short: "Agree to a held command", Args: a.args("TID"),
		Long: "Needs a token of the role approver; who has requested the command cannot. With the last agreement that it needs the\n" +
			"command goes out. List those that wait with: wilco list --state awaiting_approval"}
	c.Flags().StringVar(&why, "reason", "", "why, for the timeline")
	c.Flags().StringVar(&digest, "digest", "", "of what you have looked at, as wilco get TID shows it; default: what this command shows")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		cmd, err := c.Get(ctx, args[0])
		if err != nil {
			return a.unreachable(err)
		}
		if digest == "" {
			if cmd.Approval == nil {
				return fault.New(fault.Conflict, "the command %s is %s and waits for nobody", cmd.TID, cmd.State)
			}
			digest = cmd.Approval.Digest
		}
		after, err := c.Approve(ctx, args[0], digest, why)
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(after, func(w io.Writer) {
			fmt.Fprintf(w, "%s %s %s %s\n", clean(after.Device), clean(after.Name), clean(string(after.Params)), votes(after))
			fmt.Fprintf(w, "%s %s: %s\n", after.TID, after.State, reasonText(after.Reason))
		})
	})
	return c
}

func (a *app) denyCommand() *cobra.Command {
	return a.moved("deny TID", "End a held command", "Needs a token of the role approver.", (*client.Client).Deny)
}

func (a *app) breakGlassCommand() *cobra.Command {
	return a.moved("break-glass TID", "Let a held command go without the agreement that it needs",
		"For an emergency. Needs a token of the role approver and --reason; the server's log has an alarm.", (*client.Client).BreakGlass)
}

// votes is who has agreed, of how many.
func votes(c *client.Command) string {
	if c.Approval == nil {
		return ""
	}
	return fmt.Sprintf("(%d of %d agree)", len(c.Approval.Votes), c.Approval.Quorum)
}

// approvalRows tells of the approval of a command that was held.
func approvalRows(c *client.Command, row func(name, value string)) {
	if c.Approval == nil {
		return
	}
	row("approval", c.Approval.Rule+" "+votes(c))
	for _, v := range c.Approval.Votes {
		row("agreed", fmt.Sprintf("%s at %s %s", v.By, stamp(v.At), v.Reason))
	}
	if c.State == client.State(command.AwaitingApproval) {
		row("digest", c.Approval.Digest)
		row("agree until", stamp(c.Approval.Expires))
	}
}

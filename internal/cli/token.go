package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
)

func (a *app) tokenCommand() *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Make and remove tokens of the HTTP API"}
	c.AddCommand(a.tokenCreate(), a.tokenList(), a.tokenRemove())
	return a.parent(c)
}

func (a *app) tokenCreate() *cobra.Command {
	var n client.NewToken
	var may grantFlags
	c := &cobra.Command{Use: "create NAME", Short: "Make a token and print it; it is told this once", Args: a.args("NAME"),
		Example: "  wilco token create dashboard --role viewer --group plant-1 --ttl 720h\n  wilco token create valves --role operator --command 'valve.*'"}
	may.flags(c, "viewer")
	c.Flags().StringVar(&n.User, "user", "", "the user whose it is, in place of what it may do; it may do what the user may")
	c.Flags().DurationVar((*time.Duration)(&n.TTL), "ttl", 0, "how long it is good for (default for ever)")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		var err error
		if n.User == "" || may.given(c) {
			if n.Grants, err = may.grants(c); err != nil {
				return err
			}
		}
		api, err := a.connect()
		if err != nil {
			return err
		}
		n.Name = args[0]
		t, err := api.CreateToken(ctx, n)
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(t, func(w io.Writer) {
			fmt.Fprintln(w, t.Token)
			fmt.Fprintf(a.Err, "The token %s (%s) is shown this once and kept nowhere.\n", t.ID, holds(t))
		})
	})
	return c
}

func (a *app) tokenList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List tokens", Args: a.args()}
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		list, err := c.Tokens(ctx)
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(client.TokenList{Items: list}, func(out io.Writer) {
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tNAME\tKIND\tMAY\tCREATED\tEXPIRES")
			for _, t := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, clean(t.Name), t.Kind, clean(holds(&t)), stamp(t.Created), first(stamp(t.Expires), "never"))
			}
			w.Flush()
		})
	})
	return c
}

// holds is what a token may do: its grants, or whose it is.
func holds(t *client.APIToken) string {
	if t.User != "" {
		return "as the user " + t.User
	}
	return grantText(t.Grants)
}

func (a *app) tokenRemove() *cobra.Command {
	c := &cobra.Command{Use: "remove ID", Short: "Make a token void at once", Args: a.args("ID")}
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		if err := c.RemoveToken(ctx, args[0]); err != nil {
			return a.unreachable(err)
		}
		return a.print(struct {
			Removed string `json:"removed"`
		}{args[0]}, func(w io.Writer) { fmt.Fprintf(w, "%s removed\n", args[0]) })
	})
	return c
}

package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
)

func (a *app) userCommand() *cobra.Command {
	c := &cobra.Command{Use: "user", Short: "Make and change the people who may ask"}
	c.AddCommand(a.userAdd(), a.userList(), a.userShow(), a.userChange(), a.userPassword(),
		a.userSwitch("disable", "End a user's sessions, and make its tokens void until it is enabled", true),
		a.userSwitch("enable", "Let a disabled user in again", false), a.userRemove())
	return a.parent(c)
}

func (a *app) userAdd() *cobra.Command {
	var may grantFlags
	c := &cobra.Command{Use: "add NAME", Short: "Make a user; the password is asked for, or read from standard input", Args: a.args("NAME"),
		Example: "  wilco user add ann --role operator --group plant-1 --command 'valve.*'\n  wilco user add bo --grant approver@plant-1 --grant viewer"}
	may.flags(c, "viewer")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		grants, err := may.grants(c)
		if err != nil {
			return err
		}
		password, err := a.newPassword("password of " + args[0])
		if err != nil {
			return err
		}
		return a.onUser(func(c *client.Client) (*client.User, error) {
			return c.AddUser(ctx, client.NewUser{Name: args[0], Password: password, Grants: grants})
		})
	})
	return c
}

// onUser asks the server for something that answers with a user, and prints it.
func (a *app) onUser(ask func(*client.Client) (*client.User, error)) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	u, err := ask(c)
	if err != nil {
		return a.unreachable(err)
	}
	return a.print(u, func(w io.Writer) { printUsers(w, []client.User{*u}) })
}

func printUsers(out io.Writer, list []client.User) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tMAY\tCREATED\tPASSWORD OF\tSTATE")
	for _, u := range list {
		state := "enabled"
		if u.Disabled {
			state = "disabled"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", clean(u.Name), clean(grantText(u.Grants)), stamp(u.Created), stamp(u.PasswordChanged), state)
	}
	w.Flush()
}

func (a *app) userList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List users", Args: a.args()}
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		list, err := c.Users(ctx)
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(client.UserList{Items: list}, func(w io.Writer) { printUsers(w, list) })
	})
	return c
}

func (a *app) userShow() *cobra.Command {
	c := &cobra.Command{Use: "show NAME", Short: "Show a user", Args: a.args("NAME")}
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		return a.onUser(func(c *client.Client) (*client.User, error) { return c.User(ctx, args[0]) })
	})
	return c
}

func (a *app) userChange() *cobra.Command {
	var may grantFlags
	c := &cobra.Command{Use: "change NAME", Short: "Change what a user may do, at once for all sessions and tokens", Args: a.args("NAME"),
		Example: "  wilco user change ann --role approver --group plant-1"}
	may.flags(c, "")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		if !may.given(c) {
			return fault.New(fault.Invalid, "nothing to change; give --role, with --group and --command, or --grant")
		}
		grants, err := may.grants(c)
		if err != nil {
			return err
		}
		return a.onUser(func(c *client.Client) (*client.User, error) {
			return c.ChangeUser(ctx, args[0], client.UserChange{Grants: grants})
		})
	})
	return c
}

func (a *app) userPassword() *cobra.Command {
	var own bool
	c := &cobra.Command{Use: "passwd NAME", Short: "Give a user another password; the user's sessions end", Args: a.args("NAME"),
		Long: "Give a user another password; the user's sessions end. It is asked for, or read from standard input.\n" +
			"With --own it is the own password, and the present one is asked for first, or stands in the line before."}
	c.Flags().BoolVar(&own, "own", false, "it is the password of who asks")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		var p client.Password
		var err error
		if own {
			if p.Old, err = a.password("present password of " + args[0]); err != nil {
				return err
			}
		}
		if p.Password, err = a.newPassword("new password of " + args[0]); err != nil {
			return err
		}
		return a.onUser(func(c *client.Client) (*client.User, error) { return c.SetPassword(ctx, args[0], p) })
	})
	return c
}

func (a *app) userSwitch(word, short string, off bool) *cobra.Command {
	c := &cobra.Command{Use: word + " NAME", Short: short, Args: a.args("NAME")}
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		return a.onUser(func(c *client.Client) (*client.User, error) {
			return c.ChangeUser(ctx, args[0], client.UserChange{Disabled: &off})
		})
	})
	return c
}

func (a *app) userRemove() *cobra.Command {
	c := &cobra.Command{Use: "remove NAME", Short: "Remove a user, with its sessions and tokens", Args: a.args("NAME")}
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		if err := c.RemoveUser(ctx, args[0]); err != nil {
			return a.unreachable(err)
		}
		return a.print(struct {
			Removed string `json:"removed"`
		}{args[0]}, func(w io.Writer) { fmt.Fprintf(w, "%s removed\n", args[0]) })
	})
	return c
}

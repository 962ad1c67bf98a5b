package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/command"
	"github.com/wilco-iot/wilco/internal/fault"
)

func (a *app) getCommand() *cobra.Command {
	var wait bool
	c := &cobra.Command{Use: "get TID", Short: "Look at a command", Args: a.args("TID")}
	c.Flags().BoolVar(&wait, "wait", false, "wait until it has ended; the exit code tells the end, as with send")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		cmd, err := c.Get(ctx, args[0])
		if err != nil {
			return a.unreachable(err)
		}
		if wait {
			return a.await(ctx, c, cmd, 0)
		}
		return a.print(cmd, func(w io.Writer) { details(w, cmd) })
	})
	return c
}

// summary is one line about a command's end.
func summary(w io.Writer, c *client.Command) {
	fmt.Fprintf(w, "%s %s", c.TID, c.State)
	if len(c.Result) > 0 {
		fmt.Fprintf(w, " %s", clean(string(c.Result)))
	}
	fmt.Fprintln(w)
}

func details(out io.Writer, c *client.Command) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, clean(value))
		}
	}
	row("tid", c.TID)
	row("device", c.Device)
	row("command", c.Name)
	row("params", string(c.Params))
	row("state", fmt.Sprintf("%s: %s", c.State, reasonText(c.Reason)))
	row("detail", c.Detail)
	if p := c.Progress; p != nil && p.Percent != nil {
		row("progress", fmt.Sprintf("%.0f%% %s", *p.Percent, p.Note))
	}
	row("result", string(c.Result))
	row("attempt", fmt.Sprint(c.Attempt))
	row("asked by", c.RequestedBy)
	if c.TypeVersion > 0 {
		row("type version", fmt.Sprint(c.TypeVersion))
	}
	if c.Priority != 0 {
		row("priority", fmt.Sprint(c.Priority))
	}
	approvalRows(c, row)
	row("created", stamp(c.Created))
	row("not after", stamp(c.NotAfter))
	row("finished", stamp(c.Finished))
	row("repeats", c.RetryOf)
	row("roll-out", c.Rollout)
	row("undoes", c.Undoes)
	row("undone by", c.UndoneBy)
	w.Flush()
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

func (a *app) listCommand() *cobra.Command {
	var o client.ListOptions
	var states []string
	var since, before string
	var all bool
	c := &cobra.Command{Use: "list", Short: "List commands, newest first", Args: a.args(),
		Example: "  wilco list --state timed_out --since 24h\n  wilco list --group plant-1 --device pump-3 --limit 5"}
	f := c.Flags()
	f.StringVar(&o.Group, "group", "", "only of this group")
	f.StringVar(&o.Device, "device", "", "only of this device: GROUP/DEVICE, or its name beside --group")
	f.StringSliceVar(&states, "state", nil, "only in this state (repeatable)")
	f.StringVar(&o.Name, "name", "", "only of this command name")
	f.StringVar(&o.RequestedBy, "requested-by", "", "only those that this token asked for")
	f.StringVar(&since, "since", "", "created at this time or later: RFC 3339, or a duration before now like 24h")
	f.StringVar(&before, "before", "", "created before this time: RFC 3339, or a duration before now")
	f.BoolVar(&o.OldestFirst, "oldest", false, "oldest first")
	f.IntVar(&o.Limit, "limit", 50, "at most so many, 1 to 1000")
	f.StringVar(&o.Cursor, "cursor", "", "go on where the last page ended")
	f.BoolVar(&all, "all", false, "all pages")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		if group, device, found := strings.Cut(o.Device, "/"); found {
			o.Group, o.Device = group, device
		}
		for _, s := range states {
			if !slices.Contains(command.States, command.State(s)) {
				return fault.Field("state", "%q is not a state; the states are %s", s, joinStates())
			}
			o.States = append(o.States, client.State(s))
		}
		if o.Limit < 1 || o.Limit > 1000 {
			return fault.Field("limit", "%d is not between 1 and 1000", o.Limit)
		}
		var err error
		if o.Since, err = moment("since", since); err != nil {
			return err
		}
		if o.Before, err = moment("before", before); err != nil {
			return err
		}
		return a.list(ctx, o, all)
	})
	return c
}

func joinStates() string {
	names := make([]string, len(command.States))
	for i, s := range command.States {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

// moment reads a time, or a duration before now.
func moment(flag, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fault.Field(flag, "%q is neither a time like 2026-01-31T12:00:00Z nor a duration like 24h", s)
	}
	return t, nil
}

func (a *app) list(ctx context.Context, o client.ListOptions, all bool) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	page, err := pages(all, o.Cursor, func(cursor string) (*client.CommandPage, error) {
		o.Cursor = cursor
		return c.List(ctx, o)
	})
	if err != nil {
		return a.unreachable(err)
	}
	return a.print(page, func(out io.Writer) {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "TID\tDEVICE\tCOMMAND\tSTATE\tREASON\tCREATED")
		for _, c := range page.Items {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", c.TID, c.Device, clean(c.Name), c.State, clean(c.Reason), stamp(c.Created))
		}
		w.Flush()
		sayMore(a.Err, page.Next)
	})
}

// moved makes the commands cancel and retry, which differ in one call.
func (a *app) moved(use, short, long string, call func(*client.Client, context.Context, string, string) (*client.Command, error)) *cobra.Command {
	var why string
	c := &cobra.Command{Use: use, Short: short, Long: long, Args: a.args("TID")}
	c.Flags().StringVar(&why, "reason", "", "why, for the timeline")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		cmd, err := call(c, ctx, args[0], why)
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(cmd, func(w io.Writer) { fmt.Fprintf(w, "%s %s: %s\n", cmd.TID, cmd.State, reasonText(cmd.Reason)) })
	})
	return c
}

func (a *app) cancelCommand() *cobra.Command {
	return a.moved("cancel TID", "Ask that a command be not done",
		"One that was never sent ends at once. Otherwise the device must confirm; wilco get TID --wait tells what it says.",
		(*client.Client).Cancel)
}

func (a *app) retryCommand() *cobra.Command {
	return a.moved("retry TID", "Try a command again",
		"An open command is published once more with the same tid. Of one that has ended without having been executed a\n"+
			"new command is made, whose tid is printed.", (*client.Client).Retry)
}

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
)

func (a *app) hookCommand() *cobra.Command {
	c := &cobra.Command{Use: "hook", Short: "What happens at the end of a command: webhooks, follow-up commands, alarms"}
	c.AddCommand(a.hookAdd(), a.hookList(), a.hookRotate(), a.hookRemove(), a.hookDead(), a.hookRedrive())
	return a.parent(c)
}

func (a *app) hookAdd() *cobra.Command {
	var h client.NewHook
	var states []string
	var webhook client.HookReceiver
	var follow client.HookCommand
	var params, alarm string
	c := &cobra.Command{Use: "add NAME", Short: "Make a hook; the secret of a webhook is printed this once", Args: a.args("NAME"),
		Long: "A hook is for every end of a command, or for those that all its conditions hold for. Each condition may be given\n" +
			"several times. What it does is said by one of --url, --command and --alarm.\n\n" +
			"Strings in --params may have placeholders: ${device}, ${group}, ${tid}, ${name}, ${state}, ${reason}, ${detail}, and\n" +
			"${params.X}, ${result.X} and ${deviceState.X} of the command that ended.",
		Example: "  wilco hook add books --url https://example.com/wilco --state executed --state failed\n" +
			"  wilco hook add close-again --command valve.close --params '{\"from\":\"${result.position}\"}' --type valve.open --state failed\n" +
			"  wilco hook add unknown --alarm 'nobody knows what became of it' --state timed_out"}
	f := c.Flags()
	f.StringArrayVar(&states, "state", nil, "only this end: executed, failed, rejected, expired, cancelled, denied or timed_out")
	f.StringArrayVar(&h.On.Reasons, "reason", nil, "only with this reason")
	f.StringArrayVar(&h.On.Types, "type", nil, "only commands of this name; valve.* means all that begin with valve.")
	f.StringArrayVar(&h.On.Groups, "group", nil, "only devices of this group")
	f.StringVar(&webhook.URL, "url", "", "tell the program at this URL")
	f.BoolVar(&webhook.AllowPrivate, "allow-private", false, "with --url: it may be at an address that is not of the public internet")
	f.StringVar(&follow.Name, "command", "", "send this command to the same device")
	f.StringVar(&params, "params", "", "with --command: JSON, @FILE or - for standard input")
	f.StringVar(&alarm, "alarm", "", "raise an alarm with this text")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		h.Name = args[0]
		for _, s := range states {
			h.On.States = append(h.On.States, client.State(s))
		}
		if webhook.URL != "" || webhook.AllowPrivate {
			h.Webhook = &webhook
		}
		if follow.Name != "" || params != "" {
			h.Command = &follow
		}
		if alarm != "" {
			h.Alarm = &client.HookAlarm{Text: alarm}
		}
		if params != "" {
			b, err := a.readInput("params", params)
			if err != nil {
				return err
			}
			if !json.Valid(b) {
				return fault.Field("params", "is not JSON")
			}
			follow.Params = b
		}
		c, err := a.connect()
		if err != nil {
			return err
		}
		made, err := c.AddHook(ctx, h)
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(made, func(w io.Writer) {
			if made.Secret == "" {
				fmt.Fprintf(w, "%s added\n", made.Name)
				return
			}
			fmt.Fprintln(w, made.Secret)
			fmt.Fprintf(a.Err, "The secret of %s is shown this once. Its receiver checks signatures with it.\n", made.Name)
		})
	})
	return c
}

func (a *app) hookList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List hooks", Args: a.args()}
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		list, err := c.Hooks(ctx)
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(client.HookList{Items: list}, func(out io.Writer) {
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tWHEN\tDOES\tWAITING\tDELIVERED\tFAILED\tDIED")
			for i := range list {
				h := &list[i]
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\n", clean(h.Name), clean(hookWhen(&h.On)), clean(hookDoes(&h.NewHook)),
					h.Waiting, h.Delivered, h.Failed, h.Died)
			}
			w.Flush()
		})
	})
	return c
}

func hookWhen(on *client.HookOn) string {
	var said []string
	add := func(name string, values []string) {
		if len(values) > 0 {
			said = append(said, name+"="+strings.Join(values, ","))
		}
	}
	states := make([]string, len(on.States))
	for i, s := range on.States {
		states[i] = string(s)
	}
	add("state", states)
	add("reason", on.Reasons)
	add("type", on.Types)
	add("group", on.Groups)
	return first(strings.Join(said, " "), "every end")
}

func hookDoes(h *client.NewHook) string {
	switch {
	case h.Webhook != nil:
		return "webhook " + h.Webhook.URL
	case h.Command != nil:
		return "command " + h.Command.Name
	case h.Alarm != nil:
		return strings.TrimSpace("alarm " + h.Alarm.Text)
	}
	return ""
}

func (a *app) hookRotate() *cobra.Command {
	c := &cobra.Command{Use: "rotate NAME", Short: "Give a webhook another secret, which is printed this once", Args: a.args("NAME"),
		Long: "For a day everything is signed with the secret before too, so that the receiver can be changed without a gap."}
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		secret, err := c.RotateHook(ctx, args[0])
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(client.HookSecret{Secret: secret}, func(w io.Writer) {
			fmt.Fprintln(w, secret)
			fmt.Fprintf(a.Err, "The secret of %s is shown this once. The one before is good for a day.\n", args[0])
		})
	})
	return c
}

func (a *app) hookRemove() *cobra.Command {
	c := &cobra.Command{Use: "remove NAME", Short: "Remove a hook, and forget what it had still to deliver", Args: a.args("NAME")}
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		if err := c.RemoveHook(ctx, args[0]); err != nil {
			return a.unreachable(err)
		}
		return a.print(struct {
			Removed string `json:"removed"`
		}{args[0]}, func(w io.Writer) { fmt.Fprintf(w, "%s removed\n", args[0]) })
	})
	return c
}

func (a *app) hookDead() *cobra.Command {
	var after int64
	var limit int
	c := &cobra.Command{Use: "dead NAME", Short: "List deliveries of a hook that were given up, the oldest first", Args: a.args("NAME")}
	f := c.Flags()
	f.Int64Var(&after, "after", 0, "those behind this event")
	f.IntVar(&limit, "limit", 100, "how many, 1 to 1000")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		page, err := c.DeadDeliveries(ctx, args[0], after, limit)
		if err != nil {
			return a.unreachable(err)
		}
		return a.print(page, func(out io.Writer) {
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "EVENT\tCREATED\tDEVICE\tTID\tNAME\tSTATE\tTRIES\tPROBLEM")
			for _, d := range page.Items {
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", d.Event, stamp(d.Created), d.Device, d.TID, clean(d.Name), d.State, d.Attempts, clean(d.Problem))
			}
			w.Flush()
		})
	})
	return c
}

func (a *app) hookRedrive() *cobra.Command {
	var event int64
	c := &cobra.Command{Use: "redrive NAME", Short: "Try deliveries again that were given up", Args: a.args("NAME")}
	c.Flags().Int64Var(&event, "event", 0, "only that of this event (default all)")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		var all client.Redriven
		for more := true; more; {
			some, err := c.Redrive(ctx, args[0], event)
			if err != nil {
				return a.unreachable(err)
			}
			all.Count += some.Count
			more = some.More
		}
		return a.print(all, func(w io.Writer) { fmt.Fprintf(w, "%d deliveries are tried again\n", all.Count) })
	})
	return c
}
